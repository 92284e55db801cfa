"""Joins whose result would depend on timing are refused; those that only look alike are not."""

from __future__ import annotations

from typing import Any

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from actors.errors import DeclarationError
from actors.graphs.graph import Graph
from tests.runtime.graphs.driving import by_chance, drive


@attrs.frozen
class Ask:
    n: int = 0


@attrs.frozen
class A:
    n: int = 0


@attrs.frozen
class B:
    n: int = 0


@attrs.frozen
class C:
    n: int = 0


@attrs.frozen
class Out:
    n: Any = 0


def graph_of(*nodes: Any) -> Graph:
    """Nodes are functions, or texts such as ``"one(Ask) -> A | B"``."""
    graph = Graph("g", input=Ask, output=Out)
    for node in nodes:
        graph.node(written(node) if isinstance(node, str) else node)
    return graph


def written(text: str) -> Any:
    name, _, rest = text.partition("(")
    takes, _, returns = rest.partition(") -> ")
    taken = takes.split(", ")
    scope: dict[str, Any] = {}
    exec(f"async def {name}({', '.join(f'p{i}' for i in range(len(taken)))}): raise NotImplementedError", globals(), scope)
    scope[name].__annotations__ = {**{f"p{i}": kind for i, kind in enumerate(taken)}, "return": returns}
    return scope[name]


RACES = {
    "two makers of a parameter": ["one(Ask) -> A", "two(Ask) -> A", "end(A, Ask) -> Out"],
    "one of them may end": ["one(Ask) -> A | None", "two(Ask) -> A", "end(A, Ask) -> Out"],
    "a union of what two make": ["one(Ask) -> A", "two(Ask) -> B", "end(A | B, Ask) -> Out"],
    "a node between passes both on": ["one(Ask) -> A", "two(Ask) -> A", "pass_on(A) -> B", "end(B, Ask) -> Out"],
    "each parameter has two makers of its own": [
        *("one(Ask) -> A", "two(Ask) -> A"),
        *("three(Ask) -> B", "four(Ask) -> B", "end(A, B) -> Out"),
    ],
    "in every branch of a fan-out": [
        "split(Ask) -> list[C]",
        "one(C) -> A",
        "two(C) -> A",
        "work(A, C) -> B",
        "end(list[B]) -> Out",
    ],
    "in a loop": ["start(Ask) -> B", "one(B) -> A", "two(B) -> A", "end(A, B) -> Out | B"],
    "two fan-outs gathered in one parameter": ["one(Ask) -> list[A]", "two(Ask) -> list[A]", "end(list[A], Ask) -> Out"],
    "two gathers of one fan-out": [
        *("split(Ask) -> list[A | B]", "one(list[A]) -> C", "two(list[B]) -> C"),
        "end(C, Ask) -> Out",
    ],
    "inside of a fan-out and outside": ["one(Ask) -> A", "split(Ask) -> list[Ask | B]", "end(A, B) -> Out"],
    "a list, inside of a fan-out and outside": [
        *("one(Ask) -> list[C]", "split(Ask) -> list[Ask | B]"),
        "end(list[C], B) -> Out",
    ],
    "what goes into a fan-out and comes out of it": ["split(A) -> list[A]", "one(Ask) -> A", "end(A, Ask) -> Out"],
}


@pytest.mark.parametrize("nodes", RACES.values(), ids=list(RACES))
def test_a_join_that_unrelated_nodes_feed_is_refused(nodes):
    assert "join-by-timing" in {problem.code for problem in graph_of(*nodes).check()}


def test_the_refusal_says_what_lies_inside_of_a_fan_out_and_outside():
    [problem] = graph_of(*RACES["inside of a fan-out and outside"]).check()

    assert problem.message == (
        "it joins the A in 'p0' with its other inputs, both in branches of a fan-out and outside of them: which one a branch "
        "takes depends on timing."
    )
    assert problem.fix == (
        "give what is made outside of the fan-out its own type; or do the work of one branch in a separate graph: graph.add(…)."
    )


FINE = {
    "the branches of a choice": ["choose(Ask) -> B | C", "one(B) -> A", "two(C) -> A", "end(A, Ask) -> Out"],
    "one leads to the other": ["one(Ask) -> A | B", "two(B) -> A", "end(A, Ask) -> Out"],
    "a loop that improves": ["write(Ask) -> A", "judge(A, Ask) -> B | Out", "improve(B) -> A | None"],
    "no join": ["one(Ask) -> A", "two(Ask) -> A", "end(A) -> Out"],
    "both parameters have one of each, in pairs": ["one(Ask) -> A", "two(Ask) -> A", "more(A) -> B", "end(A, B) -> Out"],
    "items of two fan-outs side by side": [
        *("one(Ask) -> list[A]", "two(Ask) -> list[A]"),
        *("work(A, Ask) -> B", "end(list[B]) -> Out"),
    ],
    "the items of one fan-out": ["split(Ask) -> list[A]", "work(A, Ask) -> B", "end(list[B]) -> Out"],
    "the input and what is made of it": ["one(Ask) -> A", "two(Ask) -> B", "end(Ask | A, B) -> Out"],
    "what is made of a gathered list": ["split(Ask) -> list[C]", "count(list[C]) -> A", "end(A, Ask) -> Out"],
    "a fan-out within itself, joined with what lies outside": [
        *("start(Ask) -> A", "keep(Ask) -> B"),
        *("split(A) -> list[A | C]", "end(C, B) -> Out"),
    ],
    "one or many": ["choose(Ask) -> A | C", "split(A) -> list[C]", "work(C) -> B", "end(B, Ask) -> Out"],
    "two makers in each branch, gathered": [
        *("split(Ask) -> list[C]", "one(C) -> A", "two(C) -> A"),
        "end(list[A], Ask) -> Out",
    ],
}


@pytest.mark.parametrize("nodes", FINE.values(), ids=list(FINE))
def test_a_join_that_only_looks_alike_is_not_refused(nodes):
    assert "join-by-timing" not in {problem.code for problem in graph_of(*nodes).check()}


def test_what_two_conditions_choose_between_is_no_race_and_what_one_adds_is():
    def connected(both: bool) -> Graph:
        graph = graph_of("start(Ask) -> B", "one(B) -> A", "two(B) -> A", "end(A, Ask) -> Out")
        graph.connect("start", "one", when=lambda b: b.n > 0)
        graph.connect("start", "two", when=(lambda b: b.n <= 0) if both else None)
        return graph

    assert connected(both=True).check() == []
    assert [problem.code for problem in connected(both=False).check()] == ["join-by-timing"]


def test_connect_fixes_it():
    graph = graph_of("one(Ask) -> A", "two(Ask) -> A", "end(A, Ask) -> Out", "other(A) -> B", "last(B) -> None")
    graph.connect("two", "other")

    assert graph.check() == []


KINDS: dict[str, Any] = {"A": A, "B": B, "C": C, "Out": Out}


@st.composite
def wirings(draw):
    """Graphs without fan-outs in which types may have several makers, and every node works each time."""
    graph = Graph("g", input=Ask, output=Out)
    for index in range(draw(st.integers(2, 6))):
        out = draw(st.sampled_from(["A", "B", "C"]))
        earlier = ["Ask", *(kind for kind in ("A", "B", "C") if kind < out)]
        takes = draw(st.lists(st.sampled_from(earlier), min_size=1, max_size=2, unique=True))
        graph.node(echoing(f"n{index}", takes, out))
    return graph


def echoing(name: str, takes: list[str], out: str) -> Any:
    """A node that makes of its arguments a message that tells them, and itself, apart from all others."""
    scope: dict[str, Any] = {"make": lambda *given: KINDS[out]((name, *given))}
    names = ", ".join(f"p{index}" for index in range(len(takes)))
    exec(f"async def {name}({names}): return make({names})", scope)
    scope[name].__annotations__ = {f"p{i}": {**KINDS, "Ask": Ask}[kind] for i, kind in enumerate(takes)} | {"return": KINDS[out]}
    return scope[name]


@settings(max_examples=200)
@given(graph=wirings(), seed=st.integers(0, 2**16))
def test_what_is_not_refused_gives_the_same_messages_whatever_the_order(graph, seed):
    if any(problem.code == "join-by-timing" for problem in graph.check()):
        return
    graph._plan = graph._compile()[0]
    runs = [drive(graph, Ask(), choose) for choose in (lambda paths: paths[0], by_chance(seed))]

    assert sorted(map(given_to, runs[0].deliveries.values())) == sorted(map(given_to, runs[1].deliveries.values()))


def given_to(delivery: Any) -> str:
    return f"{delivery.node}{dict(delivery.arguments)}"


def test_a_graph_whose_annotations_cannot_be_read_is_not_accused_of_more():
    graph = graph_of("one(Ask) -> A", "two(Ask) -> A", "end(A, Nowhere) -> Out")

    assert [problem.code for problem in graph.check()] == ["unresolved-annotation"]


def test_plan_refuses_what_check_finds():
    with pytest.raises(DeclarationError, match="which comes first depends on timing"):
        graph_of(*RACES["two makers of a parameter"]).plan()
