"""``Dep`` and ``Recall`` as authors write them, and what they are told when they write them wrongly."""

# mypy: disable-error-code="empty-body"
# pyright: reportReturnType=false

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Annotated, Any, Union

import attrs
import pytest

from actors.errors import DeclarationError
from actors.graphs.dependencies import Supply, fits
from actors.graphs.graph import Graph
from actors.graphs.markers import Dep, Recall


@attrs.frozen
class Ask:
    text: str = ""


@attrs.frozen
class Mid:
    text: str = ""


@attrs.frozen
class Out:
    text: str = ""


@attrs.frozen
class Other:
    text: str = ""


class Place: ...


class Town(Place): ...


async def town(ask: Ask) -> Town:
    raise NotImplementedError


def weather(place: Annotated[Place, Dep(town)], units: str = "metric") -> list[str]:
    raise NotImplementedError


@asynccontextmanager
async def database() -> AsyncIterator[Place]:
    yield Place()


async def generator() -> AsyncIterator[Place]:
    yield Place()


def returned() -> AbstractAsyncContextManager[Place]:
    raise NotImplementedError


def new() -> Graph:
    return Graph("g", input=Ask, output=Out)


def only(graph: Graph) -> tuple[str, str, str]:
    (problem,) = graph.check()
    return problem.code, problem.message, problem.fix


def test_dependencies_of_every_kind_are_read_with_what_they_need():
    graph = new()

    @graph.node
    async def work(
        ask: Ask,
        forecast: Annotated[list[str], Dep(weather)],
        one: Annotated[Place, Dep(database)],
        two: Annotated[Place, Dep(generator)],
        three: Annotated[Place, Dep(returned)],
    ) -> Out:
        raise NotImplementedError

    assert graph.check() == []
    needs = graph.plan().nodes["work"].needs
    assert {name: need.supply for name, need in needs.items()} == {
        "forecast": Supply.THREAD,
        "one": Supply.CONTEXT,
        "two": Supply.CONTEXT,
        "three": Supply.CONTEXT,
    }
    assert [(name, need.name, need.supply) for name, need in needs["forecast"].needs.items()] == [("place", "town", Supply.ASYNC)]
    assert needs["forecast"].needs["place"].inputs == {"ask": (Ask,)}


def test_functions_and_types_that_are_local_to_a_function_are_found():
    @attrs.frozen
    class Local:
        pass

    def inner() -> Local:
        raise NotImplementedError

    def outer(inner_one: Annotated[Local, Dep(inner)]) -> Local:
        raise NotImplementedError

    graph = new()

    @graph.node
    async def work(ask: Ask, local: Annotated[Local, Dep(outer)]) -> Out:
        raise NotImplementedError

    assert graph.check() == []


@pytest.mark.parametrize("got", [3, print, Place, lambda: 1])
def test_dep_takes_a_function(got):
    with pytest.raises(DeclarationError) as caught:
        Dep(got)

    assert "expected a function that was defined with a name and a return annotation" in str(caught.value)


def unsaid(): ...


def needs_unsaid(place: Annotated[Place, Dep(unsaid)]) -> Place:
    raise NotImplementedError


def untyped(x) -> Place:
    raise NotImplementedError


def stars(*places: Place) -> Place:
    raise NotImplementedError


def strange(x: int) -> Place:
    raise NotImplementedError


def recalls(mid: Annotated[Mid, Recall()]) -> Place:
    raise NotImplementedError


def other_input(other: Other) -> Place:
    raise NotImplementedError


def ring(place: Annotated[Place, Dep(turn)]) -> Place:  # pyright: ignore[reportUndefinedVariable]
    raise NotImplementedError


def turn(place: Annotated[Place, Dep(ring)]) -> Place:
    raise NotImplementedError


@asynccontextmanager
async def unclear() -> AsyncIterator:  # type: ignore[type-arg]  # what the test is about
    yield Place()


ONCE = "dependency recalls (…), parameter 'mid': it recalls, and a dependency is called once per run, not for each message."
WHOLE = "Dep and Recall declare where the whole parameter comes from, and this one is within a union or a list."
FILL = "give it Annotated[T, Dep(function)], the run's input type, or leave it out."


@pytest.mark.parametrize(
    ("function", "code", "message", "fix"),
    [
        (unsaid, "dep-return", "dependency unsaid (…) doesn't declare what it returns.", "annotate its return type: Place."),
        (
            needs_unsaid,
            "dep-return",
            "dependency unsaid (…) doesn't declare what it returns.",
            "annotate its return type: Place.",
        ),
        (untyped, "dep-parameter", "dependency untyped (…), parameter 'x': it has no annotation.", FILL),
        (stars, "dep-parameter", "dependency stars (…), parameter 'places': it cannot be filled by name.", FILL),
        (strange, "dep-parameter", "dependency strange (…), parameter 'x': nothing can fill it.", FILL),
        (
            recalls,
            "dep-recall",
            ONCE,
            "recall the message in the node, and call the function there.",
        ),
        (
            ring,
            "dep-cycle",
            "its dependencies form a ring: ring needs turn needs ring.",
            "let one of them take what it needs from elsewhere: the run's input, or a message.",
        ),
        (
            unclear,
            "dep-return",
            "dependency unclear (…) is a context manager and returns AsyncIterator.",
            "annotate it with AsyncIterator[Place], and yield once.",
        ),
        (
            weather,
            "dep-type",
            "dependency weather (…) returns list[str], and Place is wanted.",
            "change one of the two annotations.",
        ),
    ],
)
def test_a_dependency_that_cannot_be_used_is_named_with_its_place(function, code, message, fix):
    graph = new()

    @graph.node
    async def work(ask: Ask, place: Annotated[Place, Dep(function)]) -> Out:
        raise NotImplementedError

    found_code, found, found_fix = only(graph)
    head, _, tail = found.partition(f" ({__file__}")
    shown = f"{head} (…){tail[tail.index(')') + 1 :]}" if tail else found
    assert (found_code, shown, found_fix) == (code, f"parameter 'place': {message}", fix)


def test_a_dependency_takes_only_the_input_of_the_run():
    graph = new()

    @graph.node
    async def work(ask: Ask, place: Annotated[Place, Dep(other_input)]) -> Out:
        raise NotImplementedError

    code, message, fix = only(graph)
    assert code == "dep-input"
    assert message.startswith("its dependency other_input (")
    assert message.endswith(") takes Other in 'other'; a run begins with Ask.")
    assert fix == "give it Annotated[T, Dep(function)] or a parameter that takes Ask."


def test_a_node_that_a_model_fills_is_no_dependency_in_another_graph():
    other = new()

    @other.predict
    async def filled(ask: Ask) -> Mid:
        """Fill it."""
        ...

    graph = new()

    @graph.node
    async def work(ask: Ask, mid: Annotated[Mid, Dep(filled)]) -> Out:
        raise NotImplementedError

    (problem,) = graph.check()
    assert (problem.code, problem.fix) == ("dep-is-node", "declare it in this graph too, or write a function.")
    assert problem.message == (
        "parameter 'mid': filled is filled by a language model as a node of another graph, and cannot be called."
    )


def test_a_class_that_is_no_node_is_no_dependency():
    graph = new()

    @graph.node
    async def work(ask: Ask, place: Annotated[Place, Dep(Caller)]) -> Out:
        raise NotImplementedError

    (problem,) = graph.check()
    assert (problem.code, problem.fix) == ("dep-is-class", "put @graph.node above it, or write a function that returns Place.")
    assert problem.message == (
        "parameter 'place': the class Caller isn't a node of the graph, and a dependency is a function or a node."
    )


class Caller:
    def __call__(self) -> Place: ...


def test_what_is_wrong_with_a_node_that_others_depend_on_is_said_all_at_once():
    graph = new()

    @graph.node
    async def needed(mid: Mid, ask: Ask, last: Annotated[Ask, Recall()]) -> AsyncIterator[Mid]:
        yield mid

    @graph.node
    async def work(ask: Ask, mids: Annotated[AsyncIterator[Mid], Dep(needed)]) -> Out:
        raise NotImplementedError

    why = "'work' depends on it, so"
    assert [(problem.code, problem.node, problem.message) for problem in graph.check()] == [
        (
            "dep-input",
            "needed",
            f"{why} it is run on the message that the run began with: Ask; but parameter 'mid' takes Mid.",
        ),
        ("dep-recall", "needed", f"{why} nothing is on the way to it, but parameter 'last' recalls Ask."),
        ("dep-stream", "needed", "'work' depends on it, and a dependency is one value, but it is a stream."),
    ]


async def between(mid: Annotated[Mid, Dep(ring_two)]) -> str:  # pyright: ignore[reportUndefinedVariable]
    raise NotImplementedError


async def ring_one(ask: Ask, text: Annotated[str, Dep(between)]) -> Mid:
    raise NotImplementedError


async def ring_two(ask: Ask, mid: Annotated[Mid, Dep(ring_one)]) -> Mid:
    raise NotImplementedError


async def needs_ring(ask: Ask, mid: Annotated[Mid, Dep(ring_one)]) -> Out:
    raise NotImplementedError


def test_a_ring_of_nodes_that_depend_on_each_other_is_refused_also_through_functions():
    graph = new()
    for function in (ring_one, ring_two, needs_ring):
        graph.node(function)

    (problem,) = graph.check()
    assert (problem.code, problem.node) == ("dep-cycle", "ring_one")
    assert problem.message == "the nodes 'ring_one' and 'ring_two' depend on each other."


def test_what_a_node_returns_must_fit_those_that_depend_on_it():
    graph = new()

    @graph.node
    async def needed(ask: Ask) -> Mid | None: ...

    @graph.node
    async def work(ask: Ask, mid: Annotated[Mid, Dep(needed)]) -> Out:
        raise NotImplementedError

    (problem,) = graph.check()
    assert (problem.code, problem.fix) == ("dep-type", "change one of the two annotations.")
    assert "dependency needed (" in problem.message
    assert problem.message.endswith("returns Mid | None, and Mid is wanted.")


def test_what_a_node_makes_for_those_that_depend_on_it_is_no_message():
    graph = new()

    @graph.node
    async def needed(ask: Ask) -> Mid:
        raise NotImplementedError

    @graph.node
    async def work(ask: Ask, mid: Annotated[Mid, Dep(needed)]) -> Other:
        raise NotImplementedError

    @graph.node
    async def end(mid: Mid, other: Other) -> Out:
        raise NotImplementedError

    (problem,) = graph.check()
    assert (problem.code, problem.node, problem.message) == (
        "type-not-made",
        "end",
        "parameter 'mid' takes Mid, which no node sends it.",
    )
    assert problem.fix == "'needed' makes it only for those that depend on it: write Annotated[Mid, Dep(needed)] here too."


@pytest.mark.parametrize(
    ("annotation", "message"),
    [
        (Dep(town), "Dep(town) is not a type."),
        (Recall(), "Recall() is not a type."),
        (Annotated[Place, Dep], "Dep is the marker's class, not a marker."),
        (Annotated[Mid, Recall], "Recall is the marker's class, not a marker."),
        (Annotated[Mid, Recall(), Dep(town)], "it has several of Dep and Recall."),
        (Union[Annotated[Mid, Recall()], None], WHOLE),  # noqa: UP007 - the type checkers do not know | here
        (Annotated[list[Mid], Recall()], "what is recalled is one message of the run."),
        (Annotated[int, Recall()], "what is recalled is one message of the run, and int isn't a message type."),
    ],
)
def test_markers_that_are_used_wrongly(annotation, message):
    graph = new()

    async def work(ask: Ask, it) -> Out:
        raise NotImplementedError

    work.__annotations__["it"] = annotation
    graph.node(work)

    assert only(graph)[1] == f"parameter 'it': {message}"


def test_what_is_recalled_must_come_by_on_the_way():
    graph = new()

    @graph.node
    async def begin(ask: Ask) -> Mid:
        raise NotImplementedError

    @graph.node
    async def end(mid: Mid, ask: Annotated[Ask, Recall()], other: Annotated[Other | None, Recall()]) -> Out:
        raise NotImplementedError

    assert only(graph) == (
        "recall-never-made",
        "parameter 'other' recalls Other, and no node on the way to 'end' takes one.",
        "take Other as a message instead, or recall a type that comes by on the way.",
    )


@pytest.mark.parametrize(
    ("made", "wanted", "expected"),
    [
        (Town, Place, True),
        (Place, Town, False),
        (Any, Town, True),
        (Town, Any, True),
        (Town, object, True),
        (Town, Place | None, True),
        (Town | None, Place, False),
        (None, None, True),
        (None, Place, False),
        (list[int], list[int], True),
        (list[int], dict[str, int], False),
    ],
)
def test_whether_a_returned_type_fits(made, wanted, expected):
    assert fits(made, wanted) is expected
