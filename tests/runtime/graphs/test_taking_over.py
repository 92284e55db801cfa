"""Runs whose worker dies: who is told, and by which number a table outside tells the living from the dead."""

from __future__ import annotations

from typing import Any

import attrs
import pytest
import trio

from actors import Graph, Run
from runtime import RunResumed, RunTakenOver, open_runtime
from runtime.journal.memory import MemoryStore


@attrs.frozen
class Ask:
    n: int


@attrs.frozen
class Done:
    fences: tuple[int, ...]


def fenced(fences: list[int], reached: trio.Event, may_end: trio.Event) -> Graph[Ask, Done]:
    graph: Graph[Ask, Done] = Graph("fenced", input=Ask, output=Done)

    @graph.node
    async def write(ask: Ask, run: Run) -> Done:
        fences.append(run.fence)
        reached.set()
        await may_end.wait()
        return Done(tuple(fences))

    return graph


@pytest.mark.parametrize("dies", [True, False])
async def test_the_fence_grows_with_each_worker_and_only_the_death_of_one_is_told(dies: bool, autojump_clock: Any) -> None:
    fences: list[int] = []
    reached, may_end, events = trio.Event(), trio.Event(), list[Any]()
    graph, store = fenced(fences, reached, may_end), MemoryStore()
    first = store.beside()
    async with open_runtime(store=first, worker="one") as runtime:
        await runtime.start(graph, Ask(1), run_id="it")
        await reached.wait()
        if dies:
            first.crash()
    may_end.set()

    async with open_runtime(store=store.beside(), graphs=[graph], instruments=[events.append]) as runtime:
        with trio.fail_after(60):
            done = await (await runtime.handle("it")).result()

    assert done == Done((1, 2))
    told = [event for event in events if isinstance(event, RunResumed | RunTakenOver)]
    assert [type(event) for event in told] == [RunResumed, *([RunTakenOver] if dies else [])]
    assert [event.from_worker[:4] for event in told if isinstance(event, RunTakenOver)] == (["one-"] if dies else [])


async def test_a_run_that_is_not_stored_has_no_fence(autojump_clock: Any) -> None:
    fences: list[int] = []
    may_end = trio.Event()
    may_end.set()
    async with open_runtime() as runtime:
        assert await runtime.run(fenced(fences, trio.Event(), may_end), Ask(1)) == Done((0,))
