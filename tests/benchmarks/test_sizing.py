from __future__ import annotations

from pathlib import Path

import attrs
import pytest

from tests.benchmarks.sizing import LOADS, Constants, cpu_s_below, hosts, main, needs, rounded, table

PAGE = Path(__file__).resolve().parents[2] / "docs/design/sizing.md"


def test_the_page_shows_what_the_constants_make() -> None:
    page = PAGE.read_text(encoding="utf-8")

    assert table(Constants()) in page
    assert hosts(Constants()) in page


def test_a_load_takes_what_its_calls_and_steps_take() -> None:
    constants = Constants(predict_ms=1.0, step_us=100.0, server_step_us=50.0, calls=4, steps=10, latency_s=3.0, busy=0.5)

    need = needs(1000, constants)

    assert need.calls_in_flight == 12_000
    assert need.service_cores == pytest.approx((4 * 1.0 + 10 * 0.1) / 0.5)
    assert need.server_cores == pytest.approx(10 * 0.05 / 0.5)
    assert (need.stores, need.gives) == (1, "nothing: start the command on more machines")


def test_what_gives_first_is_one_process_then_the_provider_then_the_writer_of_a_store() -> None:
    given = [needs(load, Constants()).gives.partition(":")[0] for load in LOADS]

    assert given == ["nothing", "nothing", "the provider's limits", "the provider's limits", "the one writer of a store"]
    assert needs(LOADS[0], Constants()).service_cores < 2
    assert needs(LOADS[-1], Constants()).stores == 24
    assert needs(1000, attrs.evolve(Constants(), server_step_us=1e5)).stores > 1


def test_numbers_say_no_more_than_they_know() -> None:
    assert [rounded(value) for value in (0.123, 9.96, 10.4, 107.0, 10_712.0)] == ["0.1", "10.0", "10", "110", "11,000"]


def test_the_command_takes_other_runs(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--calls", "10", "--latency", "1"]) == 0

    said = capsys.readouterr().out
    assert "steps = 12" in said
    assert "| 100 | 1,000 |" in said


def test_the_cpu_of_a_process_is_found() -> None:
    assert cpu_s_below(1) >= 0.0
