"""Stored runs that are taken up while something else happens: the runtime closes, the graph stops, a journal is damaged."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import attrs
import pytest
import trio

from actors import RunCancelled, StoreDamaged
from runtime import open_runtime
from runtime.journal.memory import MemoryStore
from runtime.journal.records import Record
from runtime.journal.store import Created, Existing, NewRun
from tests.runtime.graphs.stage import Ask, Done, Part, graph_of


def slow(ran: list[int], seconds: float = 10) -> Any:
    async def first(ask: Ask) -> Part:
        return Part(ask.n)

    async def second(part: Part) -> Done:
        ran.append(part.n)
        await trio.sleep(seconds)
        return Done(part.n)

    return graph_of(first, second)


class Odd:
    """A store that takes its time, or reads what was not written."""

    def __init__(self, store: MemoryStore, *, create_s: float = 0, read_s: float = 0, damaged: str = "") -> None:
        self._store, self._create_s, self._read_s, self._damaged = store, create_s, read_s, damaged

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    async def create(self, run: NewRun, first: Record) -> Created | Existing:
        made = await self._store.create(run, first)
        await trio.sleep(self._create_s)
        return made

    async def read(self, run: str, after: int = 0) -> AsyncIterator[Record]:
        await trio.sleep(self._read_s)
        async for record in self._store.read(run, after):
            yield attrs.evolve(record, data=b"[]") if run == self._damaged else record


def odd(store: MemoryStore, **ways: Any) -> Any:
    return Odd(store, **ways)


async def left_unfinished(store: MemoryStore, graph: Any, *ids: str) -> None:
    async with open_runtime(store=store) as runtime:
        for number, run_id in enumerate(ids):
            await runtime.start(graph, Ask(number), run_id=run_id)
        await trio.sleep(1)


async def test_a_graph_that_stops_while_the_store_is_asked_leaves_its_new_run_to_another_runtime(autojump_clock):
    ran: list[int] = []
    store, graph = MemoryStore(), slow(ran)

    async with open_runtime(store=odd(store, create_s=5)) as runtime, trio.open_nursery() as nursery:
        deployment = await runtime.deploy(graph)
        nursery.start_soon(runtime.start, graph, Ask(3), "it")
        await trio.sleep(1)
        await deployment.stop()
    async with open_runtime(store=store.beside(), graphs=[graph]) as runtime:
        assert await (await runtime.handle("it")).result() == Done(3)

    assert ran == [3]


async def test_a_damaged_run_is_parked_and_the_others_go_on(autojump_clock):
    store, graph = MemoryStore(), slow([])
    await left_unfinished(store, graph, "bad", "good")

    async with open_runtime(store=odd(store.beside(), damaged="bad"), graphs=[graph]) as runtime:
        assert await (await runtime.handle("good")).result() == Done(1)
        handle = await runtime.handle("bad")
        assert handle.status == "parked"
        with pytest.raises(StoreDamaged):
            await handle.result()


async def test_a_start_that_is_cancelled_while_its_run_is_read_leaves_it_to_others(autojump_clock):
    store, graph = MemoryStore(), slow([])
    await left_unfinished(store, graph, "it")

    async with open_runtime(store=odd(store.beside(), read_s=5)) as runtime:
        with trio.move_on_after(2) as limit:
            await runtime.start(graph, Ask(0), run_id="it")
        assert limit.cancelled_caught
        async with open_runtime(store=store.beside(), graphs=[graph]) as other:
            with trio.fail_after(60):
                assert await (await other.handle("it")).result() == Done(0)


async def test_a_run_is_cancelled_at_its_deadline(autojump_clock):
    async with open_runtime(store=MemoryStore()) as runtime:
        handle = await runtime.start(slow([], 100), Ask(0), run_id="late", deadline_s=20)
        with pytest.raises(RunCancelled, match="deadline_s"):
            await handle.result()
        assert trio.current_time() == 20
        in_time = await runtime.start(slow([], 10), Ask(1), run_id="in time", deadline_s=20)
        assert await in_time.result() == Done(1)


async def test_a_deadline_holds_in_the_next_life(autojump_clock):
    store, graph = MemoryStore(), slow([], 100)
    async with open_runtime(store=store) as runtime:
        await runtime.start(graph, Ask(0), run_id="it", deadline_s=20)
        await trio.sleep(5)
    began_s = trio.current_time()
    async with open_runtime(store=store.beside(), graphs=[graph]) as runtime:
        with pytest.raises(RunCancelled, match="deadline_s"):
            await (await runtime.handle("it")).result()

    assert trio.current_time() - began_s == pytest.approx(15)
