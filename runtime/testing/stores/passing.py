"""A store that passes everything on to another one: the base of those that fail, crash or are slow."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from datetime import datetime
from typing import Any

import trio

from runtime.journal.allowances import AllowanceStore, Amount
from runtime.journal.meeting import NameHolder, NameStore
from runtime.journal.records import Record
from runtime.journal.store import (
    Created,
    Done,
    Existing,
    Lease,
    NewRun,
    Page,
    Posted,
    RunQuery,
    Store,
    StoredQuestion,
    StoredRun,
    StoredSchedule,
    StoredStatus,
)
from runtime.journal.told_events import EventKeeper, ToldEvent


class PassingStore:
    """Passes everything on; what a derived class defines itself is its own."""

    def __init__(self, store: Any) -> None:
        self._store: Store = store

    async def open(self, worker: str, nursery: trio.Nursery) -> Lease:
        """See ``Store.open``."""
        return await self._store.open(worker, nursery)

    async def close(self) -> None:
        """See ``Store.close``."""
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
        self._store.append(rows, sync, done, question, answered)

    async def create(self, run: NewRun, first: Record) -> Created | Existing:
        """See ``Store.create``."""
        return await self._store.create(run, first)

    async def claim(self, graphs: Collection[tuple[str, str]], limit: int) -> Sequence[StoredRun]:
        """See ``Store.claim``."""
        return await self._store.claim(graphs, limit)

    async def take(self, run: str, only: StoredStatus | None = None) -> StoredRun | None:
        """See ``Store.take``."""
        return await self._store.take(run, only)

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
        await self._store.release(run, status, wake_at, looked_at=looked_at, life=life)

    def read(self, run: str, after: int = 0) -> AsyncIterator[Record]:
        """See ``Store.read``."""
        return self._store.read(run, after)

    async def tell(self, run: str, rows: Sequence[ToldEvent]) -> bool:
        """See ``EventKeeper.tell``."""
        return await self._log.tell(run, rows)

    async def told(self, run: str, after: int = -1) -> Sequence[ToldEvent]:
        """See ``EventKeeper.told``."""
        return await self._log.told(run, after)

    @property
    def _log(self) -> EventKeeper:
        store: Any = self._store
        log: EventKeeper = store
        return log

    async def owe(self, name: str, seconds: float) -> float:
        """See ``AllowanceStore.owe``."""
        return await self._allowances.owe(name, seconds)

    async def spend(self, name: str, amount: Amount, most: Amount) -> tuple[bool, Amount]:
        """See ``AllowanceStore.spend``."""
        return await self._allowances.spend(name, amount, most)

    async def hold(self, name: str) -> NameHolder:
        """See ``NameStore.hold``."""
        return await self._names.hold(name)

    async def release_name(self, name: str, fence: int) -> None:
        """See ``NameStore.release_name``."""
        await self._names.release_name(name, fence)

    async def holder(self, name: str) -> NameHolder | None:
        """See ``NameStore.holder``."""
        return await self._names.holder(name)

    @property
    def _names(self) -> NameStore:
        store: Any = self._store
        names: NameStore = store
        return names

    @property
    def _allowances(self) -> AllowanceStore:
        store: Any = self._store
        allowances: AllowanceStore = store
        return allowances

    async def run(self, run: str) -> StoredRun | None:
        """See ``Store.run``."""
        return await self._store.run(run)

    async def runs(self, query: RunQuery) -> Page[StoredRun]:
        """See ``Store.runs``."""
        return await self._store.runs(query)

    async def questions(self, run: str | None = None) -> Sequence[StoredQuestion]:
        """See ``Store.questions``."""
        return await self._store.questions(run)

    async def question(self, question: str) -> StoredQuestion | None:
        """See ``Store.question``."""
        return await self._store.question(question)

    async def post(self, item: Posted) -> bool:
        """See ``Store.post``."""
        return await self._store.post(item)

    async def posted(self) -> Sequence[Posted]:
        """See ``Store.posted``."""
        return await self._store.posted()

    async def inbox(self, run: str) -> Sequence[Posted]:
        """See ``Store.inbox``."""
        return await self._store.inbox(run)

    async def schedule(self, schedule: StoredSchedule) -> None:
        """See ``Store.schedule``."""
        await self._store.schedule(schedule)

    async def unschedule(self, name: str) -> bool:
        """See ``Store.unschedule``."""
        return await self._store.unschedule(name)

    async def schedules(self) -> Sequence[StoredSchedule]:
        """See ``Store.schedules``."""
        return await self._store.schedules()

    async def tick(self, name: str, seen: datetime | None, next_at: datetime | None) -> bool:
        """See ``Store.tick``."""
        return await self._store.tick(name, seen, next_at)

    async def fork(self, run: NewRun, records: Sequence[Record]) -> Created | Existing:
        """See ``Store.fork``."""
        return await self._store.fork(run, records)

    async def forget(self, run: str) -> bool:
        """See ``Store.forget``."""
        return await self._store.forget(run)

    async def expire(self, done: datetime | None, failed: datetime | None, payload: datetime | None) -> int:
        """See ``Store.expire``."""
        return await self._store.expire(done, failed, payload)

    def statistics(self) -> Mapping[str, float]:
        """See ``Store.statistics``."""
        return self._store.statistics()

    def wall_time(self) -> datetime:
        """See ``Store.wall_time``."""
        return self._store.wall_time()
