"""Compiled graphs: who gets what, which edges lie on cycles, which fan-outs a gather closes."""

# mypy: disable-error-code="empty-body"

from __future__ import annotations

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.graphs.components import returning_edges, strong_components
from actors.graphs.edges import Receiver
from actors.graphs.graph import Graph


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
class SubA(A):
    pass


@attrs.frozen
class Out:
    pass


def looping() -> Graph:
    graph = Graph("g", input=Ask, output=Out)

    @graph.node
    async def draft(ask: Ask) -> A:
        raise NotImplementedError

    @graph.node
    async def judge(a: A) -> B | Out:
        raise NotImplementedError

    @graph.node
    async def improve(b: B) -> SubA:
        raise NotImplementedError

    return graph


def test_edges_are_in_the_order_of_declaration_and_know_their_cycle():
    edges = [(e.source, e.type, e.target, e.parameter, e.back) for e in looping().plan().edges]

    assert edges == [
        (None, Ask, "draft", "ask", False),
        ("draft", A, "judge", "a", False),
        ("judge", B, "improve", "b", True),
        ("judge", Out, None, None, False),
        ("improve", SubA, "judge", "a", True),
    ]


def test_a_loop_comes_round_where_it_is_entered():
    assert looping().plan().returning == {("improve", "judge")}
    assert [sorted(group) for group in looping().plan().components] == [["improve", "judge"]]


def test_a_gather_closes_the_innermost_fan_out_around_its_makers():
    graph = Graph("g", input=Ask, output=Out)

    @graph.node
    async def outer(ask: Ask) -> list[A]:
        raise NotImplementedError

    @graph.node
    async def inner(a: A) -> list[B]:
        raise NotImplementedError

    @graph.node
    async def row(bs: list[B]) -> SubA:
        raise NotImplementedError

    @graph.node
    async def table(rows: list[SubA]) -> Out:
        raise NotImplementedError

    graph.connect(row, table)
    plan = graph.plan()

    assert plan.gathers == {"inner": (Receiver("row", "bs"),), "outer": (Receiver("table", "rows"),)}
    assert plan.nesting.levels == {
        "outer": frozenset([None]), "inner": frozenset(["outer"]), "row": frozenset(["outer"]), "table": frozenset([None]),
    }  # fmt: skip


@pytest.mark.parametrize(
    ("links", "entries", "expected"),
    [
        ({"a": ["a"]}, ["a"], {("a", "a")}),
        ({"a": ["b"], "b": ["a"]}, ["a"], {("b", "a")}),
        ({"a": ["b", "c"], "b": ["c"], "c": ["a"]}, ["a"], {("c", "a")}),
        ({"a": ["b"], "b": ["c"], "c": ["b", "a"]}, ["a"], {("c", "a"), ("c", "b")}),
        ({"a": ["b"], "b": []}, ["a"], set()),
    ],
)
def test_returning_edges(links, entries, expected):
    assert returning_edges(links, entries) == expected


@given(st.lists(st.tuples(st.integers(0, 7), st.integers(0, 7)), max_size=20))
def test_components_are_those_who_reach_each_other_and_no_cycle_is_left_without_returning_edges(pairs):
    links: dict[str, list[str]] = {str(n): [] for n in range(8)}
    for a, b in pairs:
        links[str(a)].append(str(b))

    def reach(start: str) -> set[str]:
        found, queue = {start}, [start]
        while queue:
            for target in links[queue.pop()]:
                if target not in found:
                    found.add(target)
                    queue.append(target)
        return found

    mutual = {frozenset(b for b in links if b in reach(a) and a in reach(b)) for a in links}
    cut = returning_edges(links, ["0"])
    left = {a: [b for b in targets if (a, b) not in cut] for a, targets in links.items()}

    assert {frozenset(group) for group in strong_components(links)} == mutual
    assert all(len(group) == 1 and group[0] not in left[group[0]] for group in strong_components(left))


def test_a_long_chain_does_not_meet_the_recursion_limit():
    links = {str(n): [str(n + 1)] for n in range(5000)} | {"5000": []}

    assert len(strong_components(links)) == 5001
