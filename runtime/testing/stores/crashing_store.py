"""A store whose process ends at one record: killed, cancelled, or frozen until another has its runs."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime
from enum import StrEnum
from functools import partial
from typing import Final, TypeVar, final

import trio

from actors.store_errors import RunLost, StoreError, StoreUnavailable
from runtime.journal.memory import MemoryStore
from runtime.journal.records import Record
from runtime.journal.store import Created, Done, Existing, Lease, NewRun, Posted, StoredQuestion, StoredRun, StoredStatus
from runtime.testing.stores.passing import PassingStore

T = TypeVar("T")


class Ending(StrEnum):
    """How a life ends at a record."""

    BEFORE = "before"
    """The process is killed when it is about to write it."""
    AFTER = "after"
    """The process is killed when it is written, and no one has been told."""
    CANCELLED_BEFORE = "cancelled before"
    """What the runtime was opened in is cancelled when the record is about to be written."""
    CANCELLED_INSIDE = "cancelled inside"
    """It is cancelled while the record is on its way."""
    CANCELLED_AFTER = "cancelled after"
    """It is cancelled when the record is written, and anyone who waited has been told."""
    FROZEN = "frozen"
    """The process stops before the record until its lease has ended and another has ended its runs; then it goes on."""


KILLED: Final = (Ending.BEFORE, Ending.AFTER)
CANCELLED: Final = (Ending.CANCELLED_BEFORE, Ending.CANCELLED_INSIDE, Ending.CANCELLED_AFTER)
_STEPS_INSIDE: Final = 3
"""How many checkpoints a record is on its way when it is cancelled there: the runtime begins to close meanwhile."""


def _unheard(_: object) -> None:
    pass


Decide = Callable[[int], Ending | None]
"""Whether, and how, a process ends with an append of so many records; with 0, at another call that writes."""


@final
class CrashingStore(PassingStore):
    """A store whose process ends at one record, in one of the ways of :class:`Ending`."""

    def __init__(self, store: MemoryStore, decide: Decide) -> None:
        """`decide` is asked for each append with its number of records, until one is the end; None: go on."""
        super().__init__(store)
        self._memory = store
        self._decide = decide
        self.ending: Ending | None = None
        """How it has ended."""
        self.where = ""
        """With which record or call it has ended, in words."""
        self._records = 0
        self._held: list[Callable[[], None]] = []
        self._thawed = trio.Event()
        self._nursery: trio.Nursery
        self.crashed = trio.Event()
        """Set when the process has ended."""
        self.acknowledged: list[Record] = []
        """What the process was told is written."""

    def beside(self) -> MemoryStore:
        """See ``MemoryStore.beside``."""
        return self._memory.beside()

    @property
    def run_ids(self) -> tuple[str, ...]:
        """See ``MemoryStore.run_ids``."""
        return self._memory.run_ids

    async def open(self, worker: str, nursery: trio.Nursery) -> Lease:
        """See ``Store.open``."""
        self._nursery = nursery
        return await super().open(worker, nursery)

    async def close(self) -> None:
        """See ``Store.close``."""
        self._release()
        await super().close()

    def append(
        self,
        rows: Sequence[Record],
        sync: bool,
        done: Done,
        question: StoredQuestion | None = None,
        answered: str | None = None,
    ) -> None:
        """See ``Store.append``."""

        def told(error: StoreError | RunLost | None) -> None:
            if error is None:
                self.acknowledged += rows
            done(error)

        def write() -> None:
            self._store.append(rows, sync, told, question, answered)

        if self._held:  # one comes after the other
            self._held.append(write)
        elif self._decided(len(rows)) is None:
            write()
        else:
            self._end_in(write, lambda: self._store.append(rows, sync, _unheard, question, answered), done, rows[0].run)

    def _end_in(self, write: Callable[[], None], write_unheard: Callable[[], None], done: Done, run: str) -> None:
        match self.ending:
            case Ending.BEFORE | Ending.AFTER:
                if self.ending is Ending.AFTER:
                    write_unheard()
                self._die()
                done(RunLost(f"the process of run {run!r} has died, as this test wants.", run_id=run))
            case Ending.CANCELLED_BEFORE:
                self.crashed.set()
                write()
            case Ending.CANCELLED_INSIDE:
                self._held.append(write)
                self._nursery.start_soon(self._write_later)
            case Ending.CANCELLED_AFTER:
                write()
                self.crashed.set()
            case Ending.FROZEN:
                self._held.append(write)
                self._memory.freeze()
                self.crashed.set()
            case None:
                pass

    async def _write_later(self) -> None:
        with trio.CancelScope(shield=True):
            await trio.lowlevel.checkpoint()
            self.crashed.set()
            for _ in range(_STEPS_INSIDE):
                await trio.lowlevel.checkpoint()
        self._release()

    def _release(self) -> None:
        held, self._held = self._held, []
        for write in held:
            write()

    async def create(self, run: NewRun, first: Record) -> Created | Existing:
        """See ``Store.create``."""
        made = await self._called(partial(self._store.create, run, first), "create", 1)
        if isinstance(made, Created):
            self.acknowledged.append(first)
        return made

    async def take(self, run: str, only: StoredStatus | None = None) -> StoredRun | None:
        """See ``Store.take``."""
        return await self._called(partial(self._store.take, run, only), "take")

    async def release(
        self,
        run: str,
        status: StoredStatus,
        wake_at: datetime | None,
        *,
        looked_at: int | None = None,
        life: int | None = None,
    ) -> None:
        """See ``Store.release``."""
        await self._called(partial(self._store.release, run, status, wake_at, looked_at=looked_at, life=life), "release")

    async def post(self, item: Posted) -> bool:
        """See ``Store.post``."""
        return await self._called(partial(self._store.post, item), "post")

    async def tick(self, name: str, seen: datetime | None, next_at: datetime | None) -> bool:
        """See ``Store.tick``."""
        return await self._called(partial(self._store.tick, name, seen, next_at), "tick")

    async def _called(self, call: Callable[[], Awaitable[T]], what: str, rows: int = 0) -> T:
        """Call it, unless the process ends with it."""
        ending = self._decided(rows, what)
        match ending:
            case Ending.BEFORE | Ending.AFTER:
                if ending is Ending.AFTER:
                    await call()
                self._die()
                raise StoreUnavailable("the process has died, as this test wants.\n  Fix: open the store again.")
            case Ending.CANCELLED_BEFORE | Ending.CANCELLED_INSIDE:
                self.crashed.set()
            case Ending.FROZEN:
                self._memory.freeze()
                self.crashed.set()
                with trio.CancelScope(shield=True):
                    await self._thawed.wait()
            case _:
                pass
        made = await call()
        if ending is Ending.CANCELLED_AFTER:
            self.crashed.set()
        return made

    def thaw(self) -> None:
        """Go on as a process does that was stopped for long and does not know it yet."""
        self._thawed.set()
        self._release()

    def _decided(self, rows: int, what: str = "") -> Ending | None:
        if self.ending is not None:
            return None  # what it is asked now, the store itself rejects
        self._records += rows
        self.ending = self._decide(rows)
        if self.ending is not None:
            self.where = f"record {self._records}" if rows else f"{what} behind record {self._records}"
        return self.ending

    def _die(self) -> None:
        self.crashed.set()
        self._memory.crash()


def at_record(number: int, ending: Ending) -> Decide:
    """End at the record of that number, counted from 1."""
    left = number

    def decide(rows: int) -> Ending | None:
        nonlocal left
        left -= rows
        return ending if left <= 0 else None

    return decide


def crash_after(record: int, *, store: MemoryStore | None = None, written: bool = True) -> CrashingStore:
    """A store that dies at its record number `record`; open another runtime with ``store.beside()`` to go on."""
    decide = at_record(record, Ending.AFTER if written else Ending.BEFORE)
    return CrashingStore(MemoryStore() if store is None else store, decide)
