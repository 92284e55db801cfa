"""Runs that were claimed when the store went away: nobody else can take them up while the worker that has them lives."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import datetime
from typing import Any

import attrs
import trio

from actors import Graph
from actors.store_errors import StoreUnavailable
from runtime import open_runtime
from runtime.graphs.keeper import Keeping
from runtime.journal.memory import MemoryStore
from runtime.journal.records import Record
from runtime.journal.store import StoredStatus
from runtime.testing.stores.passing import PassingStore
from runtime.testing.stores.samples import create


@attrs.frozen
class Ask:
    n: int


@attrs.frozen
class Made:
    n: int


class Leaving(PassingStore):
    """A store that cannot be reached from the moment on at which runs were claimed, for so many calls."""

    failures = 0

    def _fail(self) -> None:
        if self.failures:
            self.failures -= 1
            raise StoreUnavailable("the server is away.\n  Fix: wait.")

    async def read(self, run: str, after: int = 0) -> AsyncIterator[Record]:
        self._fail()
        async for record in self._store.read(run, after):
            yield record

    async def release(
        self,
        run: str,
        status: StoredStatus,
        wake_at: datetime | None,
        *,
        looked_at: int | None = None,
        life: int | None = None,
    ) -> None:
        self._fail()
        await super().release(run, status, wake_at, looked_at=looked_at, life=life)


class Answerless(PassingStore):
    """What it is told to give up it does give up, and once it doesn't say so."""

    fails = False

    async def release(
        self,
        run: str,
        status: StoredStatus,
        wake_at: datetime | None,
        *,
        looked_at: int | None = None,
        life: int | None = None,
    ) -> None:
        await super().release(run, status, wake_at, looked_at=looked_at, life=life)
        if self.fails:
            raise StoreUnavailable("the connection broke.\n  Fix: wait.")


async def test_a_run_that_was_given_back_without_an_answer_and_taken_again_stays(nursery: trio.Nursery) -> None:
    """Else another worker would take it as well."""
    memory = MemoryStore()
    store: Any = Answerless(memory)
    keeping = Keeping(store, "worker", lambda _: None)
    keeping.lease = await memory.open(keeping.worker, nursery)
    await create(memory)
    store.fails = True
    await keeping.release("r", 1)
    store.fails = False
    taken = await memory.take("r")
    assert taken is not None
    await keeping.release_left()

    found = await memory.run("r")
    assert found is not None
    assert (found.owner, found.lives) == (keeping.worker, 2)
    await memory.close()


def letters(version: str = "") -> Graph[Ask, Made]:
    graph = Graph("letters", input=Ask, output=Made, version=version)

    @graph.node
    async def make(ask: Ask) -> Made:
        await trio.sleep(5)
        return Made(ask.n)

    return graph


async def test_a_run_that_was_fetched_where_its_graph_is_not_deployed_any_more_is_given_back(autojump_clock: object) -> None:
    """It would be with this worker, which does nothing about it, for as long as it lives."""
    store, wanted = MemoryStore(), letters("2")
    async with open_runtime(store=store, graphs=[wanted]) as runtime:
        await runtime.start(wanted, Ask(7), run_id="r")
    async with open_runtime(store=store.beside(), graphs=[letters("1")]) as other:
        engine = other._engine
        assert engine.outside.fetch is not None
        assert engine.keeping is not None
        stored = await engine.keeping.store.take("r")
        assert stored is not None
        await engine.keeping.store.release("r", StoredStatus.WAITING, None)
        await engine.outside.fetch("r")
        async with open_runtime(store=store.beside(), graphs=[wanted]) as runtime:
            with trio.fail_after(60):
                assert await (await runtime.handle("r")).result() == Made(7)


async def test_claimed_runs_are_taken_up_when_the_store_is_back(autojump_clock: object) -> None:
    graph = Graph("letters", input=Ask, output=Made)

    @graph.node
    async def make(ask: Ask) -> Made:
        await trio.sleep(5)
        return Made(ask.n)

    store = MemoryStore()
    async with open_runtime(store=store, graphs=[graph]) as runtime:
        for number in range(5):
            await runtime.start(graph, Ask(number), run_id=f"r{number}")

    leaving: Any = Leaving(store.beside())
    leaving.failures = 7  # the first run is neither read nor given back, and so on
    async with open_runtime(store=leaving, graphs=[graph]) as runtime:
        with trio.fail_after(60):
            made = [await (await runtime.handle(f"r{number}")).result() for number in range(5)]

    assert made == [Made(number) for number in range(5)]
