"""The same results of nodes give the same joins, lists and paths, in whatever order the nodes end."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import attrs
import pytest

from actors.graphs.graph import Graph
from tests.runtime.graphs.driving import by_chance, drive, newest, oldest


@attrs.frozen
class Ask:
    n: int = 0


@attrs.frozen
class A:
    of: Any


@attrs.frozen
class B:
    of: Any


@attrs.frozen
class C:
    of: Any


@attrs.frozen
class Out:
    of: Any


def graph_of(*nodes: Any) -> Graph:
    graph = Graph("g", input=Ask, output=Out)
    for node in nodes:
        graph.node(node)
    return graph


def orders(graph: Graph) -> set[frozenset[tuple[str, str]]]:
    """What a run delivers, by path, in twenty orders of its nodes' ends: one set if the order does not matter."""
    choices = (oldest, newest, *(by_chance(seed) for seed in range(18)))
    runs = [drive(graph, Ask(), choose).deliveries.values() for choose in choices]
    return {frozenset((delivery.path, repr(dict(delivery.arguments))) for delivery in run) for run in runs}


async def split(ask: Ask) -> list[A]:
    return [A((ask.n, item)) for item in range(2)]


async def emit(ask: Ask) -> AsyncIterator[A]:
    for item in range(2):
        yield A((ask.n, item))


async def again(ask: Ask) -> Ask | None:
    return Ask(ask.n + 1) if ask.n < 3 else None


async def label(ask: Ask) -> B:
    return B(ask.n)


async def end(found: list[A], label: B) -> C:
    return C((found, label))


async def last(done: C) -> Out | None:
    return None


@pytest.mark.parametrize("fan_out", [split, emit])
def test_lists_gathered_from_several_rounds_of_a_fan_out_are_joined_in_the_order_in_which_the_rounds_were_started(fan_out):
    (delivered,) = orders(graph_of(fan_out, again, label, end, last))

    assert {text for path, text in delivered if "/end" in path} == {
        f"{{'found': [A(of=({n}, 0)), A(of=({n}, 1))], 'label': B(of={n})}}" for n in range(4)
    }


async def collect(found: list[A]) -> Ask | None:
    n, _ = found[0].of
    return Ask(n + 1) if n < 2 else None


async def pass_on(label: B) -> C:
    return C(label)


def test_a_node_that_the_start_and_a_loop_through_a_gather_reach_tells_the_ways_apart_in_its_path():
    (delivered,) = orders(graph_of(split, collect, label, pass_on, last))

    assert {path for path, _ in delivered if "pass_on" in path} == {
        "g/pass_on/0",
        "g/pass_on@collect/0",
        "g/pass_on@collect/1",
    }


async def one(ask: Ask) -> list[A]:
    return [A(0)]


async def two(ask: Ask) -> list[A]:
    return [A(1), A(2)]


async def count(found: list[A]) -> C:
    return C(found)


def test_two_fan_outs_that_one_parameter_gathers_are_told_apart_in_its_path():
    (delivered,) = orders(graph_of(one, two, count, last))

    assert {path for path, _ in delivered if "count" in path} == {"g/count@one/0", "g/count@two/0"}


async def items(ask: Ask) -> list[A | C]:
    return [A(0), C(1), A(2)]


async def work(item: A, label: B | None, other: C | None) -> Out | None:
    return None


def test_a_branch_waits_for_an_optional_value_that_may_come_though_another_cannot():
    (delivered,) = orders(graph_of(items, label, work))

    assert {text for path, text in delivered if "/work/" in path} == {
        f"{{'item': A(of={n}), 'label': B(of=0), 'other': None}}" for n in (0, 2)
    }
