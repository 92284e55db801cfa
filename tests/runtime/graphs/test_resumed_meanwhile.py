"""A run that somebody has resumed at the moment its result was asked for."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import attrs
import pytest
import trio

from actors import Graph, RunFailed
from runtime import open_runtime
from runtime.journal.memory import MemoryStore
from runtime.journal.records import Record
from runtime.testing.stores.passing import PassingStore


@attrs.frozen
class Ask:
    n: int


@attrs.frozen
class Made:
    n: int


class Interrupted(PassingStore):
    """A store in which something happens between a look at a run and the reading of its records."""

    happens: Callable[[], Awaitable[Any]] | None = None

    async def read(self, run: str, after: int = 0) -> AsyncIterator[Record]:
        happens, self.happens = self.happens, None
        if happens is not None:
            await happens()
        async for record in self._store.read(run, after):
            yield record


async def test_a_result_that_is_asked_for_while_the_run_is_resumed_is_that_of_the_run_that_goes_on(
    autojump_clock: object,
) -> None:
    """Of a parked or failed run that had gone on, the last record was taken for damage of the store."""
    graph, attempts = Graph("again", input=Ask, output=Made), list[int]()

    @graph.node
    async def make(ask: Ask) -> Made:
        attempts.append(ask.n)
        if len(attempts) == 1:
            raise ValueError("the first time")
        await trio.sleep(5)
        return Made(ask.n)

    store: Any = Interrupted(MemoryStore())
    async with open_runtime(store=store, graphs=[graph]) as runtime:
        with pytest.raises(RunFailed):
            await runtime.run(graph, Ask(1), run_id="it")
        handle = await runtime.handle("it")
        store.happens = lambda: runtime.resume("it")

        assert await handle.result() == Made(1)

    assert attempts == [1, 1]
