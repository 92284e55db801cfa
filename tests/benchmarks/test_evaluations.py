"""What an evaluation does beside its runs, counted and not timed."""

from __future__ import annotations

import pytest

from runtime import open_runtime
from runtime.evaluate import Dataset
from runtime.testing import ScriptedLM
from tests.benchmarks.evaluations import answering, bare, evaluated, report
from tests.effort import counted_calls

ROWS = 60


@pytest.mark.not_explored("it counts functions")
async def test_an_evaluation_calls_few_functions_beside_its_runs() -> None:
    """1.19 times as many were seen."""
    graph = answering()
    data = Dataset.of([{"number": number, "expected": "forty-two"} for number in range(ROWS)], graph)
    counts: dict[str, int] = {}
    for way in (bare, evaluated):
        async with open_runtime(lm=ScriptedLM(lambda messages: "forty-two"), seed=1) as runtime:
            await way(runtime, graph, data)
            with counted_calls() as calls:
                assert await way(runtime, graph, data) == ROWS
        counts[way.__name__] = calls.count

    assert counts["evaluated"] <= 1.25 * counts["bare"]


def test_the_target_has_its_line() -> None:
    assert report(0.1, 0.14, 1.4, 1_000) == [
        "1,000 rows: bare runs 100 ms, evaluated 140 ms",
        "  target: 1.40 × the bare runs, at most 1.3: MISSED",
    ]
