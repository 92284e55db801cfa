"""The study in virtual time: what real time shows to a few milliseconds holds to the last digit."""

from __future__ import annotations

import runpy
from typing import get_type_hints

import attrs
import pytest
import trio

from actors import Graph
from runtime import open_runtime
from runtime.cli import demo_graph, study
from runtime.cli.demo_graph import Cypher, Intent, OtherFilters, QueryParameters, TimeFilters, VectorQuery
from runtime.cli.demo_trio import measure
from runtime.lm.dspy.bridge import warm_up
from runtime.testing import ScriptedLM, run_in_virtual_time
from tests.runtime.cli.command import ROOT

OVERHEAD_S = 1.255
"""From the start of the step to the first response in the log: see docs/design/serialised-calls.md."""
INTENT = Intent(study.TEXT, study.LABEL, study.NOW)


def test_the_demo_asks_what_the_example_of_the_documentation_asks() -> None:
    """A page must run by itself, so there are two copies; whoever mends a query must mend both."""
    example = runpy.run_path(str(ROOT / "docs/examples/property_extraction.py"))

    assert (example["BY_LABEL"], example["BY_MEANING"]) == (demo_graph.BY_LABEL, demo_graph.BY_MEANING)
    for kind in (Cypher, Intent, OtherFilters, QueryParameters, TimeFilters, VectorQuery):
        assert get_type_hints(kind) == {
            name: QueryParameters if hint is example["QueryParameters"] else hint
            for name, hint in get_type_hints(example[kind.__name__], example).items()
        }
    for name in ("time_filters", "other_filters", "vector_query"):
        assert getattr(demo_graph, name).__doc__ == example[name].__doc__


@attrs.frozen
class Request:
    text: str


def scripted() -> dict[str, ScriptedLM]:
    return {each.name: ScriptedLM([each.answer], latency_s=each.latency_s) for each in study.EXTRACTORS}


@pytest.fixture(autouse=True)
def loaded() -> None:
    """An import takes real time, and a virtual clock does not wait for it."""
    trio.run(warm_up)


def with_overhead() -> Graph:
    """The study's graph behind a node that takes as long as the log's fixed part."""
    graph = Graph("with-overhead", input=Request, output=Cypher)

    @graph.node
    async def prepare(request: Request) -> Intent:
        await trio.sleep(OVERHEAD_S)
        return Intent(request.text, study.LABEL, study.NOW)

    graph.predict(lm="time")(demo_graph.time_filters)
    graph.predict(lm="other")(demo_graph.other_filters)
    graph.predict(lm="vector", module="ChainOfThought")(demo_graph.vector_query)
    graph.node(demo_graph.merge)
    return graph


def in_sequence() -> Graph:
    """The same extractors, each waiting for the one before."""
    graph = Graph("in-sequence", input=Intent, output=Cypher)
    graph.predict(lm="time")(demo_graph.time_filters)

    @graph.predict(lm="other")
    async def then_others(time: TimeFilters) -> OtherFilters:  # type: ignore[empty-body]
        """Pick the label's other properties."""
        ...

    @graph.predict(lm="vector", module="ChainOfThought")
    async def then_vector(other: OtherFilters) -> VectorQuery:  # type: ignore[empty-body]
        """Say what to search by meaning, or nothing."""
        ...

    graph.node(demo_graph.merge)
    return graph


async def makespan_s(graph: Graph, message: object) -> float:
    async with open_runtime(lms=scripted(), seed=0) as runtime:
        began_s = trio.current_time()
        await runtime.run(graph, message)
        return trio.current_time() - began_s


def in_virtual_time(graph: Graph, message: object) -> float:
    return run_in_virtual_time(makespan_s, graph, message)


def test_three_calls_take_as_long_as_the_longest() -> None:
    assert in_virtual_time(demo_graph.graph, INTENT) == 1.153


def test_with_the_logs_fixed_part_they_take_what_the_log_allows() -> None:
    assert in_virtual_time(with_overhead(), Request(study.TEXT)) == 2.408
    assert OVERHEAD_S + max(each.latency_s for each in study.EXTRACTORS) == 2.408


def test_one_after_another_they_take_the_sum() -> None:
    assert in_virtual_time(in_sequence(), INTENT) == 3.004
    assert OVERHEAD_S + study.sequence_s() == 4.259


def test_all_three_calls_are_in_flight_together() -> None:
    async def main() -> None:
        lms = scripted()
        async with open_runtime(lms=lms, seed=0) as runtime:
            measured = await measure(runtime, INTENT)
        assert {name: (start_s, end_s) for name, (start_s, end_s) in measured.nodes.items()} == {
            each.name: (0.0, each.latency_s) for each in study.EXTRACTORS
        }
        assert measured.output.startswith("CALL db.index.vector.queryNodes($label, 10, ")

    run_in_virtual_time(main)
