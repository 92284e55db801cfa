"""The check of a large graph takes time in proportion to it, and is made once."""

from __future__ import annotations

import gc
import time
from typing import Any

import attrs
import pytest

from actors import Graph

SIZE = 2_000
LIMIT_S = 0.3
SLACK = 8.0
"""For a machine on which other things run; checked pair by pair, a chain took fifteen times the limit on a quiet one."""


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


def connected() -> Graph:
    """One type, and connections."""
    begin, same, end = kinds(3)
    graph = Graph("connected", input=begin, output=end)
    for at in range(SIZE):
        graph.node(node(f"n{at}", [same if at else begin], same if at < SIZE - 1 else end))
        if at:
            graph.connect(f"n{at - 1}", f"n{at}")
    return graph


def diamonds() -> Graph:
    """Splits and joins, one behind the other."""
    steps = SIZE // 3
    types, left, right = kinds(steps + 1), kinds(steps, "L"), kinds(steps, "R")
    graph = Graph("diamonds", input=types[0], output=types[-1])
    for at in range(steps):
        graph.node(node(f"a{at}", [types[at]], left[at]))
        graph.node(node(f"b{at}", [types[at]], right[at]))
        graph.node(node(f"c{at}", [left[at], right[at]], types[at + 1]))
    return graph


def timed(graph: Graph) -> float:
    """Seconds of the processor, without the collector's: what that takes depends on what else is alive."""
    gc.collect()
    gc.disable()
    try:
        start = time.process_time()
        assert graph.check() == []
        return time.process_time() - start
    finally:
        gc.enable()


@pytest.mark.slow
@pytest.mark.parametrize("build", [chain, connected, diamonds])
def test_b8_two_thousand_nodes_are_checked_in_a_moment(build):
    assert min(timed(build()) for _ in range(2)) < LIMIT_S * SLACK


@pytest.mark.slow
def test_b8_four_times_the_chain_takes_about_four_times_the_time():
    small = min(timed(chain(1_000)) for _ in range(3))
    large = min(timed(chain(4_000)) for _ in range(2))

    assert large < 10 * small


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
