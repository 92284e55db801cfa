"""The shadow of every run of this suite finds what it is there to find."""

from __future__ import annotations

import itertools

import pytest

from actors import Graph
from runtime import open_runtime
from tests.runtime.graphs.shadow import Shadows
from tests.runtime.graphs.stage import Ask, Done, Part, graph_of


def pair() -> Graph:
    async def first(ask: Ask) -> Part | Done:
        return Part(ask.n)

    async def second(part: Part) -> Done:
        return Done(part.n)

    return graph_of(first, second)


@pytest.mark.explore(runs=1)
async def test_a_run_and_its_shadow_are_told_each_event(shadows: Shadows, autojump_clock):
    async with open_runtime() as runtime:
        await runtime.run(pair(), Ask(3))

    assert shadows.events == 3
    assert shadows.unstorable == []


@pytest.mark.explore(runs=1)
async def test_a_graph_whose_way_is_another_one_each_time_is_found(shadows: Shadows, autojump_clock):
    count = itertools.count()
    graph = pair()
    graph.connect("first", "second", when=lambda part: next(count) % 2 == 0)
    async with open_runtime() as runtime:
        await runtime.run(graph, Ask(3))

    assert any("delivered" in each for each in shadows.differences)
    shadows.differences.clear()
