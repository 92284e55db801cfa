"""Lives of one durable run, each of which ends as a killed process does: nothing more is written."""

from __future__ import annotations

from typing import Any

import attrs
import pytest
import trio

from actors import Graph
from actors.store_errors import RunLost
from runtime import RunFinished, Spend, open_runtime
from runtime.journal.memory import MemoryStore
from runtime.journal.records import Record
from tests.runtime.graphs.stage import Ask

ONE = Ask(1)


@attrs.define(eq=False)
class Lives:
    """One run, ``"it"``, of one graph, in one store."""

    graph: Graph[Any, Any]
    lm: Any = None
    store: MemoryStore = attrs.field(factory=MemoryStore)
    events: list[Any] = attrs.field(factory=list)
    """Of the life that is under way, or was the last."""

    async def die(self) -> None:
        """What a node calls in place of a crash of its process."""
        self.store.crash()
        await trio.sleep_forever()

    async def one_that_is_killed(self, message: Any = ONE) -> None:
        """A life in which some node calls :meth:`die`; what comes next is another process."""
        self.events.clear()
        async with open_runtime(store=self.store, lm=self.lm, seed=1, instruments=[self.events.append]) as runtime:
            handle = await runtime.start(self.graph, message, run_id="it")
            with pytest.raises(RunLost):
                await handle.result()
        self.store = self.store.beside()

    async def last(self, message: Any = ONE) -> Any:
        """A life in which the run ends; what it makes."""
        self.events.clear()
        async with open_runtime(store=self.store, lm=self.lm, seed=1, instruments=[self.events.append]) as runtime:
            return await (await runtime.start(self.graph, message, run_id="it")).result()

    @property
    def spend(self) -> Spend:
        """What the run has used, as its end tells."""
        [end] = [event for event in self.events if isinstance(event, RunFinished)]
        return end.spend

    async def records(self) -> list[Record]:
        return [record async for record in self.store.read("it")]

    async def kinds(self) -> list[str]:
        return [record.kind.value for record in await self.records()]
