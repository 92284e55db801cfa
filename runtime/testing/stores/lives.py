"""Lives of one program on one store: each ends where it is decided, and another goes on, until one comes to its own end."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from typing import Any, Final, cast, final

import attrs
import outcome
import trio

from actors.store_errors import RunLost, StoreError
from runtime.journal.memory import LEASE_S, MemoryStore
from runtime.journal.store import Store
from runtime.testing.stores.crashing_store import CrashingStore, Decide, Ending
from runtime.testing.stores.findings import journals_in, lost_by, recorded_twice

WITHIN_S: Final = 3_600.0
"""How long one life may take, in seconds of virtual time, unless a test says otherwise."""


def go_on(rows: int) -> Ending | None:
    """The decision of a life that comes to its own end."""
    return None


@final
@attrs.define(eq=False)
class Lives:
    """What lives have in common, and what was found so far."""

    run: Callable[[Store], Awaitable[Any]]
    """One life: opens a runtime with the store, and returns what its runs make."""
    within_s: float = WITHIN_S
    latest: MemoryStore = attrs.field(factory=MemoryStore)
    """What the newest life sees of the store."""
    ends: list[str] = attrs.field(factory=list[str])
    """How each life so far has ended, in words."""

    async def through(self, decisions: Iterator[Decide], store: MemoryStore | None = None) -> Any:
        """Lead lives, each by the next of `decisions`, until one comes to its own end; what that has made.

        Raises:
            AssertionError: what was acknowledged is lost, something was done twice, a life does not end, or a worker that had
                lost its runs wrote on. What a life itself raises, unless its process had ended.
        """
        self.latest = MemoryStore() if store is None else store
        crashing = CrashingStore(self.latest, next(decisions, go_on))
        lived: list[outcome.Outcome[Any]] = []
        over = trio.Event()

        async def live() -> None:
            lived.append(await outcome.acapture(self._life, crashing))
            over.set()
            crashing.crashed.set()

        made: outcome.Outcome[Any] | None = None
        async with trio.open_nursery() as nursery:
            nursery.start_soon(live)
            made = await outcome.acapture(self._after, crashing, decisions, lived, nursery, over)
            crashing.thaw()
            nursery.cancel_scope.cancel()
        assert made is not None, "no one else cancels the nursery"
        return made.unwrap()

    async def _life(self, store: CrashingStore) -> Any:
        made: Any = None
        with trio.move_on_after(self.within_s) as limit:
            made = await self.run(cast("Store", store))
        if limit.cancelled_caught and store.ending is None:
            raise AssertionError(f"{self.where()}the next life did not end within {self.within_s:g} s of virtual time")
        return made

    async def _after(
        self,
        crashing: CrashingStore,
        decisions: Iterator[Decide],
        lived: list[outcome.Outcome[Any]],
        nursery: trio.Nursery,
        over: trio.Event,
    ) -> Any:
        """Wait for the end of one life, look at what it left, and lead the next."""
        await crashing.crashed.wait()
        if crashing.ending is None:
            made = lived[0].unwrap()
            await self._look(crashing)
            return made
        self.ends.append(f"{crashing.ending} {crashing.where}")
        if crashing.ending is not Ending.FROZEN:
            nursery.cancel_scope.cancel()
            with trio.CancelScope(shield=True):
                await over.wait()
                self._forgive(lived[0])
                await self._look(crashing)
                return await self.through(decisions, crashing.beside())
        await trio.sleep(LEASE_S)
        made = await self.through(decisions, crashing.beside())
        journals = await journals_in(self.latest)
        crashing.thaw()
        await trio.sleep(LEASE_S)
        if await journals_in(self.latest) != journals:
            raise AssertionError(f"{self.where()}it wrote on when its lease had ended and another had its runs")
        await self._look(crashing)
        return made

    def _forgive(self, lived: outcome.Outcome[Any]) -> None:
        """Raise what a life that was ended has raised, unless that is why it was ended."""
        if isinstance(lived, outcome.Error):
            error = lived.error
            if isinstance(error, BaseExceptionGroup):
                group = cast("BaseExceptionGroup[BaseException]", error)
                rest = group.split((StoreError, RunLost, trio.Cancelled))[1]
                if rest is not None:
                    raise rest
            elif not isinstance(error, (StoreError, RunLost, trio.Cancelled)):
                raise error

    async def _look(self, store: CrashingStore) -> None:
        for lost in await lost_by(store):
            raise AssertionError(f"{self.where()}acknowledged, and lost: {lost}")
        for twice in await recorded_twice(store.beside()):
            raise AssertionError(f"{self.where()}recorded twice: {twice}")

    def where(self) -> str:
        """How the lives so far have ended, before what is wrong."""
        return "".join(f"a life that ended {end}, then: " for end in self.ends)
