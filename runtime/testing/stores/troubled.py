"""Stores that fail or are slow: for tests of what a runtime does then, in virtual time."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import final

import trio

from actors.store_errors import StoreError, StoreUnavailable
from runtime.journal.records import Record
from runtime.journal.store import Done, Lease, Store, StoredQuestion
from runtime.testing.stores.passing import PassingStore


@final
class FlakyStore(PassingStore):
    """A store whose appends fail as a plan says: by their number, counted from 1, tries again included."""

    def __init__(self, store: Store, plan: Mapping[int, StoreError | None] | Callable[[int], bool]) -> None:
        """Fail the appends that are keys of `plan` with their error, or those for which it says so with ``StoreUnavailable``."""
        super().__init__(store)
        self._plan = plan
        self.appends = 0

    def append(
        self,
        rows: Sequence[Record],
        sync: bool,
        done: Done,
        question: StoredQuestion | None = None,
        answered: str | None = None,
    ) -> None:
        """See ``Store.append``."""
        self.appends += 1
        plan, error = self._plan, StoreUnavailable("this append fails, as the test wants.\n  Fix: none.")
        if callable(plan):
            failure: StoreError | None = error if plan(self.appends) else None
        else:
            failure = (plan[self.appends] or error) if self.appends in plan else None
        if failure is not None:
            done(failure)
        else:
            self._store.append(rows, sync, done, question, answered)


@final
class SlowStore(PassingStore):
    """A store whose appends are written a while after they were asked for, in their order."""

    def __init__(self, store: Store, delay_s: float) -> None:
        """Each takes `delay_s` seconds of trio's time."""
        super().__init__(store)
        self._delay_s = delay_s
        self._written = trio.Event()
        self._send: trio.MemorySendChannel[Callable[[], None]]

    async def open(self, worker: str, nursery: trio.Nursery) -> Lease:
        """See ``Store.open``."""
        lease: Lease = await self._store.open(worker, nursery)
        self._send, receive = trio.open_memory_channel[Callable[[], None]](float("inf"))
        nursery.start_soon(self._write, receive)
        return lease

    async def _write(self, receive: trio.MemoryReceiveChannel[Callable[[], None]]) -> None:
        with trio.CancelScope(shield=True):
            async for write in receive:
                await trio.sleep(self._delay_s)
                write()
        self._written.set()

    async def close(self) -> None:
        """See ``Store.close``."""
        self._send.close()
        await self._written.wait()
        await self._store.close()

    def append(
        self,
        rows: Sequence[Record],
        sync: bool,
        done: Done,
        question: StoredQuestion | None = None,
        answered: str | None = None,
    ) -> None:
        """See ``Store.append``."""
        try:
            self._send.send_nowait(lambda: self._store.append(rows, sync, done, question, answered))
        except trio.ClosedResourceError:
            done(StoreUnavailable("the store was closed.\n  Fix: open it again."))
