"""Crashes at chosen records, and stores that fail or are slow: for tests of durable runs, in virtual time."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Final, cast, final

import attrs
import trio

from actors.store_errors import RunLost, StoreError, StoreUnavailable
from runtime.journal.memory import MemoryStore
from runtime.journal.records import Record, RecordKind
from runtime.journal.store import Created, Done, Existing, Lease, NewRun, Store, StoredQuestion
from runtime.testing.passing_store import PassingStore

_ONCE: Final = frozenset({RecordKind.FINISHED, RecordKind.STOOD_IN, RecordKind.EMITTED, RecordKind.STARTED, RecordKind.OVER})


def _unheard(_: object) -> None:
    pass


@final
class CrashingStore(PassingStore):
    """A store whose process dies at one record: nothing after that is written, and its runs are free."""

    def __init__(self, store: MemoryStore, record: int, *, written: bool) -> None:
        """Die at the record number `record` of all that are written, from 1: after it if `written`, else before."""
        super().__init__(store)
        self._memory = store
        self._left = record
        self._is_written = written
        self.crashed = trio.Event()

    def beside(self) -> MemoryStore:
        """See ``MemoryStore.beside``."""
        return self._memory.beside()

    @property
    def run_ids(self) -> tuple[str, ...]:
        """See ``MemoryStore.run_ids``."""
        return self._memory.run_ids

    def append(
        self,
        rows: Sequence[Record],
        sync: bool,
        done: Done,
        question: StoredQuestion | None = None,
        answered: str | None = None,
    ) -> None:
        """See ``Store.append``."""
        if not self._dies_with(len(rows)):
            self._store.append(rows, sync, done, question, answered)
            return
        if self._is_written:
            self._store.append(rows, sync, _unheard, question, answered)
        self._crash()
        done(RunLost(f"the process of run {rows[0].run!r} has died, as this test wants.", run_id=rows[0].run))

    async def create(self, run: NewRun, first: Record) -> Created | Existing:
        """See ``Store.create``."""
        if not self._dies_with(1):
            made: Created | Existing = await self._store.create(run, first)
            return made
        if self._is_written:
            await self._store.create(run, first)
        self._crash()
        raise StoreUnavailable("the process has died, as this test wants.\n  Fix: open the store again.")

    def _dies_with(self, rows: int) -> bool:
        if self.crashed.is_set():
            return False  # what it is asked now, the store itself rejects
        self._left -= rows
        return self._left <= 0

    def _crash(self) -> None:
        self.crashed.set()
        self._memory.crash()


def crash_after(record: int, *, store: MemoryStore | None = None, written: bool = True) -> CrashingStore:
    """A store that dies at its record number `record`; open another runtime with ``store.beside()`` to go on."""
    return CrashingStore(MemoryStore() if store is None else store, record, written=written)


@final
@attrs.frozen
class Crashes:
    """What :func:`crash_everywhere` has tried."""

    output: Any
    """What the run makes, with and without a crash."""
    points: int
    """How many crashes there were."""


async def crash_everywhere(
    run: Callable[[Store], Awaitable[Any]],
    *,
    same: Callable[[Any, Any], bool] = lambda one, other: one == other,
    within_s: float = 3_600.0,
    pairs: bool = False,
) -> Crashes:
    """Let `run` crash before and after each record that it writes, go on with the same store, and see that it ends the same.

    `run` opens a runtime with the store it is given, starts its runs by ``run_id``, and returns what they make; it is called
    again for each life. With `pairs`, the life after a crash crashes, too, before and after each of its records. Use it in
    virtual time.

    Raises:
        AssertionError: a life after a crash made something else, or wrote down again what was recorded.
    """
    whole = MemoryStore()
    with trio.fail_after(within_s):
        expected = await run(whole)
    records, points = _records_in(whole), 0

    async def goes_on(store: MemoryStore, where: str) -> None:
        made: Any = None
        with trio.move_on_after(within_s) as limit:
            made = await run(store)
        if limit.cancelled_caught:
            raise AssertionError(f"{where}: the next life did not end within {within_s:g} s of virtual time")
        if not same(made, expected):
            raise AssertionError(f"{where}: the next life made {made!r}, expected {expected!r}")
        for twice in await _recorded_twice(store):
            raise AssertionError(f"{where}: recorded twice: {twice}")

    async def crashed(number: int, written: bool) -> CrashingStore:
        first = crash_after(number, written=written)
        await _life(run, first, within_s)
        return first

    for number, written in itertools.product(range(1, records + 1), (False, True)):
        where = f"a crash {'after' if written else 'before'} record {number} of {records}"
        first = await crashed(number, written)
        known, again = _records_in(first), first.beside()
        await goes_on(again, where)
        points += 1
        for later, also in itertools.product(range(1, _records_in(again) - known + 1) if pairs else (), (False, True)):
            second = crash_after(later, store=(await crashed(number, written)).beside(), written=also)
            await _life(run, second, within_s)
            await goes_on(second.beside(), f"{where}, then one {'after' if also else 'before'} record {later} of the next life")
            points += 1
    return Crashes(expected, points)


def _records_in(store: Any) -> int:
    return int(store.statistics()["records"])


async def _life(run: Callable[[Store], Awaitable[Any]], store: CrashingStore, within_s: float) -> None:
    """One life, to its crash."""
    async with trio.open_nursery() as nursery:

        async def watch() -> None:
            await store.crashed.wait()
            nursery.cancel_scope.cancel()

        nursery.start_soon(watch)
        with trio.move_on_after(within_s):
            try:
                await run(cast("Store", store))
            except BaseExceptionGroup as group:
                rest = group.split((StoreError, RunLost, trio.Cancelled))[1]
                if rest is not None and not store.crashed.is_set():
                    raise
            except (StoreError, RunLost):
                pass
        nursery.cancel_scope.cancel()


async def _recorded_twice(store: MemoryStore) -> Sequence[str]:
    found: list[str] = []
    for run_id in store.run_ids:
        told = Counter([(record.kind, record.path) async for record in store.read(run_id)])
        found += [f"{kind} {path!r} of run {run_id!r}" for (kind, path), times in told.items() if times > 1 and kind in _ONCE]
    return found


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
