"""The check of a large graph takes time in proportion to it, and is made once."""

from __future__ import annotations

from typing import Any

import attrs
import pytest

from actors import Graph
from tests.effort import counted_calls

SIZE = 2_000
CALLS_PER_NODE = 1_000
"""Checked pair by pair, a chain of 2,000 took 4.7 s."""


def node(name: str, takes: list[type], makes: Any) -> Any:
    async def work(**messages: Any) -> Any:
        raise NotImplementedError

    scope: dict[str, Any] = {}
    exec(f"async def {name}({', '.join(f'p{at}' for at in range(len(takes)))}): raise NotImplementedError", scope)
    scope[name].__annotations__ = {f"p{at}": kind for at, kind in enumerate(takes)} | {"return": makes}
    return scope[name]


def kinds(count: int, letter: str = "T") -> list[type]:
    return [attrs.make_class(f"{letter}{at}", ["v"], frozen=True) for at in range(count)]


def chain(size: int = SIZE) -> Graph:
    types = kinds(size + 1)
    graph = Graph("chain", input=types[0], output=types[-1])
    for at in range(size):
        graph.node(node(f"n{at}", [types[at]], types[at + 1]))
    return graph


def connected(size: int = SIZE) -> Graph:
    """One type, and connections."""
    begin, same, end = kinds(3)
    graph = Graph("connected", input=begin, output=end)
    for at in range(size):
        graph.node(node(f"n{at}", [same if at else begin], same if at < size - 1 else end))
        if at:
            graph.connect(f"n{at - 1}", f"n{at}")
    return graph


def diamonds(size: int = SIZE) -> Graph:
    """Splits and joins, one behind the other."""
    steps = size // 3
    types, left, right = kinds(steps + 1), kinds(steps, "L"), kinds(steps, "R")
    graph = Graph("diamonds", input=types[0], output=types[-1])
    for at in range(steps):
        graph.node(node(f"a{at}", [types[at]], left[at]))
        graph.node(node(f"b{at}", [types[at]], right[at]))
        graph.node(node(f"c{at}", [left[at], right[at]], types[at + 1]))
    return graph


def calls_to_check(graph: Graph) -> int:
    with counted_calls() as calls:
        assert graph.check() == []
    return calls.count


@pytest.mark.slow
@pytest.mark.parametrize("build", [chain, *(pytest.param(build, marks=pytest.mark.chaos) for build in (connected, diamonds))])
def test_b8_a_check_calls_so_much_for_each_node_however_many_there_are(build):
    """What a check of 2,000 nodes takes in seconds is a row of the benchmarks."""
    small, large = calls_to_check(build(SIZE // 4)), calls_to_check(build(SIZE))

    assert large < 5 * small
    assert large < CALLS_PER_NODE * SIZE


def test_b8_a_graph_is_checked_once_until_it_changes():
    graph = chain(50)
    assert graph.check() == []
    first = graph.sketch()

    assert graph.check() == []
    assert graph.plan() is graph.sketch() is first

    graph.node(node("more", [graph.input_types[0]], None))
    assert graph.check() == []
    assert graph.sketch() is not first


def test_b8_what_a_graph_is_made_of_may_change_after_its_check():
    inner, outer = chain(3), Graph("outer", input=kinds(1)[0], output=kinds(1)[0])
    outer = Graph("outer", input=inner.input_types[0], output=inner.output_types[0])
    outer.add(inner)
    assert outer.check() == []

    inner.node(node("stray", [kinds(1, "X")[0]], None))

    assert [(problem.code, problem.node) for problem in outer.check()] == [("type-not-made", "chain/stray")]
