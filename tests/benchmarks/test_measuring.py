from __future__ import annotations

import subprocess
import sys

import pytest

from tests.benchmarks.measuring import MODULES, ROOT, Measured, load, table, verdict
from tests.benchmarks.works import WORKS, Work

HERE = ("raw_trio", "trio_nowait", "ours", "asyncio_queues", "trio_graph", "trio_nursery", "ours_graph")
"""The peers that need nothing beyond what the test suite has."""

ASK = Work("ask", 100, "round trip", target=0.9, ahead_of="Pykka")


@pytest.mark.parametrize("module", HERE)
@pytest.mark.chaos
def test_a_peer_does_each_of_its_works(module: str) -> None:
    peer = load(module)
    works = {work.name: work for work in WORKS}

    for name, run in peer.run.items():
        measured = run(20)
        # What twenty of them weigh may be less than what the process gives back meanwhile.
        assert measured >= 0 or works[name].weighs


def test_every_peer_has_a_file() -> None:
    files = {path.stem for path in (ROOT / "tests/benchmarks/peers").glob("*.py")}

    assert files - {"__init__"} == set(MODULES)


def test_a_target_is_met_up_to_its_ratio() -> None:
    results = [Measured("trio", (10.0, 10.0, 11.0)), Measured("understudy", (9.0, 8.0, 20.0)), Measured("Pykka", (9.0,))]

    assert list(verdict(ASK, results)) == ["target: at most 0.9 × trio: met", "target: ahead of Pykka: MISSED"]


def test_weight_is_judged_by_itself() -> None:
    work = Work("memory", 10, "idle actor", max_kb=5.0)

    assert list(verdict(work, [Measured("understudy", (5.1,))])) == ["target: at most 5 KB each: MISSED"]


def test_the_table_shows_medians_ratios_and_spread() -> None:
    results = [Measured("trio", (10.0, 12.0, 11.0)), Measured("understudy", (5.5,))]

    assert table(ASK, results).splitlines() == [
        "ask: µs per round trip",
        "  trio                   11.00     1.00 ×   (10.00 to 12.00)",
        "  understudy              5.50     0.50 ×",
        "  target: at most 0.9 × trio: met",
    ]


def test_the_command_runs_and_says_what_it_left_out() -> None:
    command = [sys.executable, "-m", "tests.benchmarks", "ask", "--rounds", "1", "--scale", "0.02"]

    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=240, check=False)

    assert run.returncode == 0, run.stderr
    assert "ask: µs per round trip" in run.stdout
    assert "understudy" in run.stdout
