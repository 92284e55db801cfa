"""The profile by parts adds up, and knows each part."""

from __future__ import annotations

import pytest

from tests.benchmarks.peers import ours
from tests.benchmarks.profiled import PARTS, main, part_of, profile


@pytest.mark.parametrize(
    ("file", "place"),
    [
        ("/a/runtime/graphs/reducer/state.py", "runtime/graphs/reducer"),
        ("/a/runtime/graphs/engine.py", "runtime/graphs"),
        ("/a/site-packages/trio/_core/_run.py", "trio"),
        ("<attrs generated methods runtime.core.envelope.Envelope>", "runtime/core/envelope"),
        ("<attrs generated methods tests.benchmarks.peers.ours_graph.Ping>", "tests"),
        ("~", "~"),
    ],
)
def test_each_file_belongs_to_the_nearest_part(file: str, place: str) -> None:
    assert part_of(file) == PARTS[place]


def test_what_is_no_part_is_of_the_library() -> None:
    assert part_of("/usr/lib/python3.11/contextlib.py") == part_of("<string>") == "Python's library"


@pytest.mark.chaos
def test_only_what_the_benchmark_measures_is_profiled() -> None:
    few, many = (profile(ours.PEER.run["ask"], size) for size in (20, 40))

    assert PARTS["actors"] not in many  # the runtime was opened and the actor was spawned before
    calls = {name: (few[name].calls, many[name].calls) for name in (PARTS["runtime/core/mailbox"], PARTS["tests"])}
    assert all(1.8 < after / before < 2.2 for before, after in calls.values())


@pytest.mark.chaos
def test_this_runtime_and_trio_are_shown_side_by_side(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["graph-cycle", "--size", "20"]) == 0

    said = capsys.readouterr().out
    assert "trio: " in said
    assert "understudy: " in said
    assert PARTS["runtime/graphs/reducer"] in said
