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
from runtime.journal.memory import MemoryStore
from runtime.journal.records import Record
from runtime.journal.store import StoredStatus
from runtime.testing.stores.passing import PassingStore


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

    async def release(self, run: str, status: StoredStatus, wake_at: datetime | None, *, looked_at: int | None = None) -> None:
        self._fail()
        await super().release(run, status, wake_at, looked_at=looked_at)


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
