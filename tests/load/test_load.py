"""The short form of `make load`: counts, no clocks."""

from __future__ import annotations

import re

import pytest

from tests.benchmarks.service_calls import hosting
from tests.load.__main__ import (
    SERVER,
    WATCHED,
    cancelled_waits,
    comings_and_goings,
    on_many_runs,
    on_one_run,
    stalled_readers,
    two_signals,
    watched_actors,
)


@pytest.mark.slow
async def test_clients_of_a_server_see_all_and_leave_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    async with hosting(SERVER, "service") as host:
        assert await on_one_run(host, 30)
        assert await on_many_runs(host, 10)
        assert await stalled_readers(host, 5)
        assert await comings_and_goings(host, 100)
        assert await cancelled_waits(host, 5)
        assert await two_signals(host, 5)

    async with hosting(WATCHED, "service") as host:
        await watched_actors(host, 300, span_s=0.5)  # what it takes depends on the machine: see `make load`

    said = capsys.readouterr().out
    assert "30 clients of one run: 30 saw every event once" in said
    assert "two signals to 5 runs with a follower each: 5 heard of the end" in said
    assert "5 waits that were left: 5 calls were open, 0 are left" in said
    assert re.search(r"300 actors whose view is open: \S+ % of a core for (?!0\.0)\S+ updates a second", said)
