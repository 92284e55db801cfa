from __future__ import annotations

import pytest

from tests.benchmarks.service import STEP, main
from tests.benchmarks.service_calls import call_cost_us, event_cost_us, hosting
from tests.benchmarks.service_sinks import SINKS


@pytest.mark.chaos
def test_every_observer_is_measured_and_judged(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["observers", "--rounds", "1", "--scale", "0.002"]) == 0

    said = capsys.readouterr().out
    assert all(f"  {name} " in said for name in SINKS)
    assert said.count("target: ") == len(STEP) + 1


@pytest.mark.slow
@pytest.mark.chaos
async def test_a_request_and_an_event_have_their_cost() -> None:
    async with hosting("hypercorn-trio", "service") as host:
        assert await call_cost_us(host, "service", 4, 8) > 0
        assert await event_cost_us(host, readers=3, steps=2) > 0
        assert await host.bytes() > 0
