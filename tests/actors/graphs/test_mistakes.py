"""Slips of authors, each with the exact words that name it and say what to write instead."""

# mypy: disable-error-code="empty-body"
# pyright: reportReturnType=false

from __future__ import annotations

import enum
import functools
from typing import Annotated, Any, cast

import attrs
import pytest

from actors.actor import Actor
from actors.errors import DeclarationError
from actors.graphs.graph import Graph
from actors.graphs.markers import Dep, Gather
from runtime.graphs.reducer.routing import RoutingTable


@attrs.frozen
class Ask:
    text: str = ""


@attrs.frozen
class Out:
    text: str = ""


def new() -> Graph:
    return Graph("g", input=Ask, output=Out)


def number() -> int:
    return 1


async def with_default(ask: Ask, size: int = 3) -> Out:
    raise NotImplementedError


async def with_dep_as_default(ask: Ask, size: int = Dep(number)) -> Out:  # type: ignore[assignment]
    raise NotImplementedError


async def of_anything(ask: Ask, more: Any) -> Out:
    raise NotImplementedError


async def of_objects(ask: Ask, more: object) -> Out:
    raise NotImplementedError


async def of_a_lambda(ask: Ask, size: Annotated[int, Dep(lambda: 1)]) -> Out:
    raise NotImplementedError


async def of_nothing(ask: Ask, parts: Annotated[list[Out], Gather(first=0)]) -> Out:
    raise NotImplementedError


async def method(self, ask: Ask) -> Out:
    raise NotImplementedError


FUNCTION = "a function that was defined with a name and a return annotation, a node of the graph, or a toolbox"


@pytest.mark.parametrize(
    ("function", "message", "fix"),
    [
        (
            with_default,
            "parameter 'size': nothing but its default would ever fill it: int is neither a message type nor injected (LM, Run).",
            "leave it out, or get it from a function: Annotated[int, Dep(function)].",
        ),
        (
            with_dep_as_default,
            "parameter 'size': its default is a Dep, which belongs to its annotation.",
            "write size: Annotated[T, Dep(…)], without a default.",
        ),
        (of_anything, "parameter 'more': Any names no message type.", "name them: A, or A | B."),
        (of_objects, "parameter 'more': object names no message type.", "name them: A, or A | B."),
        (
            of_nothing,
            "parameter 'parts': Gather(first=0): expected a whole number >= 1 or None.",
            "pass a whole number >= 1 or None as 'first'.",
        ),
        (
            method,
            "parameter 'self': it has no annotation, as of a method: nodes are functions.",
            "decorate a function outside of the class, or a message class with __call__.",
        ),
    ],
)
def test_a_parameter_that_nothing_fills_is_named_with_what_to_write_instead(function, message, fix):
    graph = new()
    graph.node(function)

    (problem,) = graph.check()
    assert (problem.node, problem.message, problem.fix) == (function.__name__, message, fix)
    assert problem.location == f"{__file__}:{function.__code__.co_firstlineno}"


def test_a_marker_that_cannot_be_is_told_with_its_own_words():
    graph = new()
    graph.node(of_a_lambda)

    (problem,) = graph.check()
    assert problem.message.startswith("parameter 'size': Dep(function=<function <lambda> at ")
    assert problem.message.endswith(f"expected {FUNCTION}.")
    assert problem.fix == f"pass {FUNCTION} as 'function'."


@pytest.mark.parametrize(
    ("what", "message"),
    [
        (
            staticmethod(number),
            "Got: a staticmethod.\n  Fix: decorate a function outside of the class.",
        ),
        (
            functools.partial(with_default, size=1),
            "Got: a functools.partial.\n  Fix: write an annotated function that calls it, and decorate that.",
        ),
    ],
    ids=["staticmethod", "partial"],
)
def test_what_is_no_function_is_refused_at_once(what, message):
    with pytest.raises(DeclarationError) as caught:
        new().node(what)

    assert str(caught.value) == f"@graph.node: expected a function or a message class. {message}"


@pytest.mark.parametrize(
    ("option", "fix"),
    [
        ("retries", "write redelivery=Redelivery(max_attempts=…)."),
        ("error_handler", "write fallback=function."),
        ("queue_size", "write mailbox=MailboxSpec(…)."),
        ("model", "write lm=…."),
        ("timeout", "write 'timeout_s'."),
        ("colour", "leave 'colour' out."),
    ],
)
def test_an_option_of_another_framework_is_named_as_it_is_called_here(option, fix):
    with pytest.raises(DeclarationError) as caught:
        new().node(**cast("Any", {option: 1}))(with_default)

    assert str(caught.value).endswith(f"\n  Fix: {fix}")


def test_the_name_of_a_class_is_not_the_class():
    with pytest.raises(DeclarationError) as caught:
        Graph("g", input="Ask", output=Out)

    assert str(caught.value) == "Graph('g', input='Ask'): expected the class itself.\n  Fix: input=Ask."


def test_an_actor_added_with_what_is_no_message_is_named_with_its_line():
    class Worker(Actor):
        async def receive(self, message: Ask) -> Out: ...

    with pytest.raises(DeclarationError) as caught:
        new().add(Worker, takes=int, returns=Out)

    line = test_an_actor_added_with_what_is_no_message_is_named_with_its_line.__code__.co_firstlineno + 5
    assert str(caught.value) == (
        f"add(Worker, takes=int) ({__file__}:{line}): expected a message type (attrs class, dataclass or pydantic model) or a "
        "union of them.\n  Fix: put @attrs.frozen on a class with its fields and pass that class."
    )


def test_the_error_of_a_fallback_is_annotated_too():
    def stands_in(error) -> Out:
        raise NotImplementedError

    graph = new()

    @graph.node(fallback=stands_in)
    async def work(ask: Ask) -> Out:
        raise NotImplementedError

    (problem,) = graph.check()
    assert (problem.code, problem.message, problem.fix) == (
        "missing-annotation",
        "its fallback stands_in, parameter 'error': it has no annotation.",
        "write error: Exception for the error, or the type of the node's parameter of that name.",
    )


class Names(enum.Enum):
    WORK = "work"
    AMISS = "a/b"


def test_l03_the_member_of_an_enum_names_a_node_and_a_name_that_addresses_keep_for_themselves_is_refused():
    graph = new()

    @graph.node(name=Names.WORK)
    async def first(ask: Ask) -> Ask | Out:
        raise NotImplementedError

    graph.connect(Names.WORK, first)
    assert (graph.check(), list(graph.nodes)) == ([], ["work"])
    with pytest.raises(DeclarationError, match=r"'a/b' cannot name an actor: a name is at least one printable character"):
        graph.node(name=Names.AMISS)(with_default)


def test_l05_where_a_message_may_go_is_drawn_from_what_its_maker_declares_whatever_it_returns():
    graph = new()

    @graph.node
    async def choose(ask: Ask) -> Ask | Out:
        return Out()

    assert {line.strip() for line in graph.mermaid().splitlines()[-3:]} == {
        "input -->|Ask| n1",
        "n1 -->|Ask| n1",
        "n1 -->|Out| output",
    }


def test_a_wrong_reducer_and_a_wrong_dependency_are_both_told():
    graph = new()

    @graph.node
    async def work(ask: Ask, one: Annotated[str, Dep(number)], two: Annotated[list[Out], Gather]) -> Out:
        raise NotImplementedError

    assert [problem.code for problem in graph.check()] == ["dep-type", "unusable-annotation"]


def test_a_condition_that_raises_is_named_with_the_message_that_it_was_asked_about():
    graph = new()

    @graph.node
    async def first(ask: Ask) -> Ask | Out:
        raise NotImplementedError

    graph.connect(first, first, when=lambda ask: ask.size > 1)
    with pytest.raises(AttributeError) as caught:
        RoutingTable(graph.plan()).route("first", Ask("x"))

    place = f"{__file__}:{first.__code__.co_firstlineno + 4}"
    assert caught.value.__notes__ == [
        f"raised by the when of connect(first, first) ({place}), which was asked about Ask(text='x')"
    ]
