"""Graphs and actors added as nodes, and fallbacks: what they declare and what is refused."""

# mypy: disable-error-code="empty-body"
# pyright: reportReturnType=false

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Annotated, Any

import attrs
import pytest

from actors.actor import Actor
from actors.errors import DeclarationError
from actors.graphs.graph import Graph
from actors.graphs.markers import Recall, Run
from actors.graphs.node import Kind
from actors.lm import LM


@attrs.frozen
class Ask:
    text: str = ""


@attrs.frozen
class Mid:
    text: str = ""


@attrs.frozen
class Out:
    text: str = ""


class Worker(Actor):
    async def receive(self, message: Ask) -> Mid | Out: ...


def inner() -> Graph:
    graph = Graph("inner", input=Ask, output=Mid)

    @graph.node
    async def work(ask: Ask) -> Mid:
        raise NotImplementedError

    return graph


def new() -> Graph:
    return Graph("g", input=Ask, output=Out)


def finish(graph: Graph) -> Graph:
    @graph.node
    async def finish(mid: Mid) -> Out:
        raise NotImplementedError

    return graph


def test_a_graph_and_an_actor_take_and_make_what_they_say():
    graph = new()
    graph.add(inner())
    graph.add(Worker, concurrency=2)
    finish(graph)

    assert graph.check() == []
    nodes = graph.plan().nodes
    assert [(spec.name, spec.kind, spec.outputs) for spec in nodes.values()] == [
        ("inner", Kind.GRAPH, (Mid,)),
        ("Worker", Kind.ACTOR, (Mid, Out)),
        ("finish", Kind.FUNCTION, (Out,)),
    ]
    assert nodes["Worker"].options.concurrency == 2
    assert nodes["inner"].location.startswith(f"{__file__}:")


def test_problems_of_a_graph_within_are_problems_of_the_graph_around():
    broken = Graph("inner", input=Ask, output=Mid)

    @broken.node
    async def work(ask: Ask): ...

    graph = finish(new())
    graph.add(broken, name="part")

    assert ("missing-annotation", "part/work") in [(problem.code, problem.node) for problem in graph.check()]


def test_a_graph_within_itself_is_reported():
    one, two = Graph("one", input=Ask, output=Ask), Graph("two", input=Ask, output=Ask)
    one.add(two)
    two.add(one)

    (problem,) = [problem for problem in one.check() if problem.code == "graph-in-itself"]
    assert problem.message == "the graph 'two' runs 'one' as a node, directly or through others, without end."
    assert problem.fix == "loop within one graph: let a node return a type that an earlier node takes."


def test_the_picture_frames_a_graph_within_and_rounds_an_actor():
    graph = new()
    graph.add(inner())
    graph.add(Worker)
    finish(graph)

    assert graph.mermaid().splitlines()[:12] == [
        "graph TD",
        '    input(["Ask"])',
        '    subgraph n1["inner"]',
        '        n1_input(["Ask"])',
        '        n1_n1["work"]',
        '        n1_output[["Mid"]]',
        "        n1_input -->|Ask| n1_n1",
        "        n1_n1 -->|Mid| n1_output",
        "    end",
        '    n2(("Worker"))',
        '    n3["finish"]',
        '    output[["Out"]]',
    ]


NOTHING_TO_ADD = """expected a Graph, an ActorRef, or a class derived from Actor.
  Fix: functions and message classes are decorated with @graph.node."""
SAYS_ITSELF = "a graph already declares what it takes and returns.\n  Fix: leave takes and returns out."
UNKNOWN = "it is not known what the actor takes and returns.\n  Fix: add(…, takes=Question, returns=Answer)."


@pytest.mark.parametrize(
    ("what", "options", "message"),
    [
        (3, {}, NOTHING_TO_ADD),
        (Ask, {}, NOTHING_TO_ADD),
        (inner(), {"takes": Ask}, SAYS_ITSELF),
        (lambda: Worker(), {"name": "w"}, UNKNOWN),
        (Worker, {"module": "Predict"}, "or leave 'module' out."),
    ],
)
def test_what_cannot_be_added_is_told_why(what: Any, options: dict[str, Any], message: str):
    with pytest.raises(DeclarationError) as caught:
        new().add(what, **options)

    assert str(caught.value).endswith(message)


def test_a_fallback_takes_less_and_makes_no_more_than_its_node():
    async def instead(ask: Ask, error: Exception, lm: LM, run: Run) -> Out:
        raise NotImplementedError

    graph = new()

    @graph.node(fallback=instead)
    async def work(ask: Ask, run: Run) -> Out | None: ...

    assert graph.check() == []
    fallback = graph.plan().nodes["work"].fallback
    assert fallback is not None
    assert (fallback.inputs, fallback.error, sorted(fallback.injected)) == (("ask",), "error", ["lm", "run"])


async def other_input(mid: Mid) -> Out:
    raise NotImplementedError


async def other_output(ask: Ask) -> Mid:
    raise NotImplementedError


async def recalling(ask: Ask, mid: Annotated[Mid, Recall()]) -> Out:
    raise NotImplementedError


async def unknown(ask: Nowhere) -> Out:  # type: ignore[name-defined]  # noqa: F821  # pyright: ignore[reportUndefinedVariable]
    raise NotImplementedError


NO_PARAMETER = "takes 'mid', which is not a parameter of the node, or of another type there."
NOWHERE = "unknown, parameter 'ask': the name 'Nowhere' in the annotation 'Nowhere' is not defined where the node is."


@pytest.mark.parametrize(
    ("function", "code", "message"),
    [
        (other_input, "fallback-input", f"other_input {NO_PARAMETER}"),
        (other_output, "fallback-return", "other_output does not return what 'work' returns."),
        (recalling, "fallback-input", "recalling recalls a message."),
        (unknown, "unresolved-annotation", NOWHERE),
    ],
)
def test_a_fallback_that_does_not_fit_is_reported(function: Any, code: str, message: str):
    graph = new()

    @graph.node(fallback=function)
    async def work(ask: Ask) -> Out:
        raise NotImplementedError

    (problem,) = graph.check()
    assert (problem.code, problem.message) == (code, f"its fallback {message}")


def test_a_stream_has_no_fallback():
    async def instead(ask: Ask) -> list[Mid]:
        raise NotImplementedError

    graph = new()

    @graph.node(fallback=instead)
    async def work(ask: Ask) -> AsyncIterator[Mid]:
        yield Mid()

    @graph.node
    async def end(mids: list[Mid]) -> Out:
        raise NotImplementedError

    assert [problem.code for problem in graph.check()] == ["fallback-return"]


def test_a_fallback_is_a_function():
    with pytest.raises(DeclarationError, match="expected a function with a name and annotations, or None"):
        new().node(fallback="work")(other_output)  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType]
