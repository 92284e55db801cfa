"""A store in memory: for tests, and for programs that want durable runs within one process only.

Several runtimes may share one, each by its own :meth:`MemoryStore.beside`; one of them can crash or be cut off, and the others
take its runs over, in virtual time.
"""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Final, final

import attrs
import trio

from actors.store_errors import RecordTooLarge, RunLost, StoreDamaged, StoreError, StoreUnavailable
from runtime.journal.allowances import Amount
from runtime.journal.meeting import NameHolder
from runtime.journal.memory_data import MemoryData, MemoryRun, MemoryWorker, lost, without_data
from runtime.journal.records import MAX_RECORD_BYTES, MAX_RUN_BYTES, Record
from runtime.journal.store import (
    Created,
    Done,
    Existing,
    Lease,
    NewRun,
    Page,
    Posted,
    RunQuery,
    StoredQuestion,
    StoredRun,
    StoredSchedule,
    StoredStatus,
)
from runtime.journal.told_events import ToldEvent, first_page

LEASE_S: Final = 15.0
"""How long a worker that gives no sign of life keeps its runs."""


@final
class MemoryStore:
    """Journals in memory, lost with the process. Everything that the protocol says of leases and order holds."""

    def __init__(self, *, lease_s: float = LEASE_S, begins: datetime | None = None) -> None:
        """An empty store. Its clock says `begins` when it is opened first (None: the time it is), and goes on with trio's."""
        self._data = MemoryData(began=begins)
        self._lease_s = lease_s
        self._lease: Lease | None = None
        self._handed_out: dict[str, int] = {}
        self._is_cut_off = False

    def beside(self) -> MemoryStore:
        """Another worker's view of the same data, to be opened by another runtime."""
        other = MemoryStore(lease_s=self._lease_s)
        other._data = self._data
        return other

    def crash(self) -> None:
        """End as a process does that is killed: nothing more is written, and its runs are free immediately."""
        if self._lease is not None:
            self._end(self._data.workers[self._lease.worker])

    def freeze(self) -> None:
        """End as a process does that was stopped for longer than its lease: its runs are free, and it does not know that."""
        if self._lease is not None:
            self._end(self._data.workers[self._lease.worker], is_told=False)

    def cut_off(self) -> None:
        """Be unreachable: calls fail with ``StoreUnavailable``, and after the lease others may take the runs over."""
        self._is_cut_off = True
        if self._lease is not None:
            self._data.workers[self._lease.worker].until_s = trio.current_time() + self._lease_s

    def heal(self) -> None:
        """Be reachable again; a lease that has not ended is renewed."""
        self._is_cut_off = False
        self._data.meeting.ring()
        if self._lease is not None:
            worker = self._data.workers[self._lease.worker]
            self._sweep()
            if not worker.is_over:
                worker.until_s = None

    def set_clock(self, by_s: float) -> None:
        """Put the store's clock forward by so many seconds, or back if they are negative, as an administrator or NTP does."""
        self._data.clock_offset_s += by_s

    # --- opening and closing ----------------------------------------------------------------------------------------------

    async def open(self, worker: str, nursery: trio.Nursery) -> Lease:
        """See ``Store.open``."""
        await self._reached()
        if worker in self._data.workers:
            raise StoreError(f"a worker {worker!r} was here already.\n  Fix: give each process its own name.")
        if not self._data.workers:
            self._data.began = self._data.began or datetime.now(UTC)
            self._data.clock_offset_s = -trio.current_time()
        elif trio.lowlevel.current_clock() is not self._data.clock:  # another event loop, whose clock begins again
            self._data.began = self._data.latest
            self._data.clock_offset_s = -trio.current_time()
        self._data.clock = trio.lowlevel.current_clock()
        self._lease = Lease(worker, 1, good_until=partial(self._good_until, worker))
        self._data.workers[worker] = MemoryWorker(self._lease)
        self._data.meeting.join(worker)
        return self._lease

    def _good_until(self, worker: str) -> float:
        known = self._data.workers[worker]
        if known.is_over:
            return -math.inf
        return trio.current_time() + self._lease_s if known.until_s is None else known.until_s

    async def close(self) -> None:
        """See ``Store.close``."""
        await trio.lowlevel.checkpoint()
        if self._lease is not None:
            self._end(self._data.workers[self._lease.worker], hands_back=True)

    def _end(self, worker: MemoryWorker, *, is_told: bool = True, hands_back: bool = False) -> None:
        if worker.is_over:
            return
        worker.is_over = True
        if is_told:
            worker.lease.lost.set()
        self._data.meeting.leave(worker.lease.worker)
        now = self.wall_time()
        for run in self._data.runs.values():
            if run.stored.owner == worker.lease.worker:
                left_by = None if hands_back else worker.lease.worker
                run.stored = attrs.evolve(run.stored, owner=None, status=StoredStatus.READY, wake_at=now, left_by=left_by)

    def _sweep(self) -> None:
        """Take the right to write from workers whose lease has ended."""
        now_s = trio.current_time()
        for worker in self._data.workers.values():
            if worker.until_s is not None and worker.until_s <= now_s:
                self._end(worker)

    async def _reached(self) -> None:
        await trio.lowlevel.checkpoint()
        if self._is_cut_off:
            raise StoreUnavailable("the store in memory was cut off.\n  Fix: call heal().")
        self._sweep()

    def _owner(self) -> str:
        if self._lease is None:
            raise StoreError("the store was not opened.\n  Fix: give it to open_runtime(store=…).")
        if self._data.workers[self._lease.worker].is_over:
            raise StoreError("the store was closed, or its lease has ended.\n  Fix: open another runtime.")
        return self._lease.worker

    # --- journals ---------------------------------------------------------------------------------------------------------

    def append(
        self,
        rows: Sequence[Record],
        sync: bool,
        done: Done,
        question: StoredQuestion | None = None,
        answered: str | None = None,
    ) -> None:
        """See ``Store.append``."""
        done(self._written(rows, question, answered))

    def _written(
        self, rows: Sequence[Record], question: StoredQuestion | None, answered: str | None
    ) -> StoreError | RunLost | None:
        if self._is_cut_off:
            return StoreUnavailable("the store in memory was cut off.\n  Fix: call heal().")
        self._sweep()
        worker = None if self._lease is None else self._data.workers[self._lease.worker]
        fresh: dict[str, int] = {}
        for row in rows:
            run = self._data.runs.get(row.run)
            if worker is None or worker.is_over or run is None or run.owner != worker.lease.worker:
                if run is not None and row.seq <= len(run.records) and run.records[row.seq - 1].crc == row.crc:
                    continue  # it ended with this very row
                return lost(row.run, "this worker does not have it any more")
            last = fresh.get(row.run, len(run.records))
            if row.seq <= last:
                if row.seq <= len(run.records) and run.records[row.seq - 1].crc == row.crc:
                    continue
                return lost(row.run, f"another record {row.seq} is there")
            if row.seq != last + 1:
                return StoreDamaged(
                    f"record {row.seq} of run {row.run!r} came before record {last + 1}.", run_id=row.run, seq=row.seq
                )
            size = len(row.data or b"")
            if size > MAX_RECORD_BYTES or run.bytes + size > MAX_RUN_BYTES:
                limit = MAX_RECORD_BYTES if size > MAX_RECORD_BYTES else MAX_RUN_BYTES
                return RecordTooLarge(f"record {row.seq} of run {row.run!r} is too large.", size=size, limit=limit)
            fresh[row.run] = row.seq
        self._data.commit(rows, question, answered, self.wall_time())
        return None

    async def read(self, run: str, after: int = 0) -> AsyncIterator[Record]:
        """See ``Store.read``."""
        await self._reached()
        known = self._data.runs.get(run)
        for record in [] if known is None else known.records[after:]:
            yield record

    async def tell(self, run: str, rows: Sequence[ToldEvent]) -> bool:
        """See ``EventKeeper.tell``."""
        await self._reached()
        known = self._data.runs.get(run)
        if known is None or any(known.told.get(row.seq, row) != row for row in rows):
            return False
        known.told.update((row.seq, row) for row in rows)
        return True

    async def told(self, run: str, after: int = -1) -> Sequence[ToldEvent]:
        """See ``EventKeeper.told``."""
        await self._reached()
        known = self._data.runs.get(run)
        return first_page([] if known is None else [row for seq, row in sorted(known.told.items()) if seq > after])

    # --- runs -------------------------------------------------------------------------------------------------------------

    async def create(self, run: NewRun, first: Record) -> Created | Existing:
        """See ``Store.create``."""
        await self._reached()
        owner = self._owner()
        return self._data.create(run, [first], owner if run.here else None, self.wall_time())

    async def fork(self, run: NewRun, records: Sequence[Record]) -> Created | Existing:
        """See ``Store.fork``."""
        await self._reached()
        self._owner()
        return self._data.create(run, records, None, self.wall_time())

    async def claim(self, graphs: Collection[tuple[str, str]], limit: int) -> Sequence[StoredRun]:
        """See ``Store.claim``."""
        await self._reached()
        owner, now, wanted = self._owner(), self.wall_time(), set(graphs)
        due = [
            run
            for run in self._data.runs.values()
            if run.stored.owner is None
            and run.stored.status in (StoredStatus.READY, StoredStatus.WAITING)
            and run.stored.wake_at is not None
            and run.stored.wake_at <= now
            and (run.stored.graph, run.stored.version) in wanted
        ]
        due.sort(key=lambda run: (run.stored.wake_at or now, run.number))
        return [self._given(run, owner) for run in due[:limit]]

    async def take(self, run: str, only: StoredStatus | None = None) -> StoredRun | None:
        """See ``Store.take``."""
        await self._reached()
        owner, known = self._owner(), self._data.runs.get(run)
        if known is None or known.stored.owner is not None or only not in (None, known.stored.status):
            return None
        return self._given(known, owner)

    def _given(self, run: MemoryRun, owner: str) -> StoredRun:
        run.stored = attrs.evolve(
            run.stored, owner=owner, status=StoredStatus.RUNNING, lives=run.stored.lives + 1, wake_at=None, ended=None
        )
        self._handed_out.pop(run.stored.id, None)
        if run.posted:  # to be handed out to this life
            self._ring()
        return run.stored

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
        await self._reached()
        owner, known = self._owner(), self._data.runs.get(run)
        if known is None or known.stored.owner != owner or life not in (None, known.stored.lives):
            return
        unread = len(known.posted) > (self._handed_out.get(run, 0) if looked_at is None else looked_at)
        due = self.wall_time() if unread else wake_at
        known.stored = attrs.evolve(known.stored, owner=None, status=status, wake_at=due, left_by=None)

    async def run(self, run: str) -> StoredRun | None:
        """See ``Store.run``."""
        await self._reached()
        known = self._data.runs.get(run)
        return None if known is None else known.stored

    async def runs(self, query: RunQuery) -> Page[StoredRun]:
        """See ``Store.runs``."""
        await self._reached()
        everything = sorted(self._data.runs.values(), key=lambda run: run.number, reverse=True)
        before = int(query.after) if query.after is not None and query.after.isdecimal() and len(query.after) < 19 else None
        fitting = [
            run
            for run in everything
            if (query.graph is None or run.stored.graph == query.graph)
            and (query.status is None or run.stored.status is query.status)
            and (query.started_after is None or run.stored.created > query.started_after)
            and (query.label is None or f"\n{query.label}\n" in f"\n{run.stored.label or ''}\n")
            and (before is None or run.number < before)
        ]
        page = fitting[: query.limit]
        return Page(tuple(run.stored for run in page), str(page[-1].number) if len(fitting) > len(page) and page else None)

    async def forget(self, run: str) -> bool:
        """See ``Store.forget``."""
        await self._reached()
        known = self._data.runs.get(run)
        if known is None:
            return False
        if known.stored.owner is not None:
            raise StoreError(f"run {run!r} is at work in {known.stored.owner!r}.\n  Fix: cancel it, and forget it then.")
        self._forget(run)
        return True

    def _forget(self, run: str) -> None:
        del self._data.runs[run]
        self._data.questions = {key: each for key, each in self._data.questions.items() if each.run != run}

    async def expire(self, done: datetime | None, failed: datetime | None, payload: datetime | None) -> int:
        """See ``Store.expire``."""
        await self._reached()
        gone = 0
        for run_id, run in list(self._data.runs.items()):
            ended, status = run.stored.ended, run.stored.status
            if ended is None or not status.is_over:
                continue
            limit = done if status is StoredStatus.SUCCEEDED else failed
            if limit is not None and ended < limit:
                self._forget(run_id)
                gone += 1
            elif payload is not None and ended < payload:
                run.records = [without_data(record) for record in run.records]
                run.told.clear()
                run.bytes = 0
        return gone

    # --- what comes from outside ------------------------------------------------------------------------------------------

    async def questions(self, run: str | None = None) -> Sequence[StoredQuestion]:
        """See ``Store.questions``."""
        await self._reached()
        found = [each for each in self._data.questions.values() if each.answered is None and run in (None, each.run)]
        return sorted(found, key=lambda each: each.asked)

    async def question(self, question: str) -> StoredQuestion | None:
        """See ``Store.question``."""
        await self._reached()
        return self._data.questions.get(question)

    async def post(self, item: Posted) -> bool:
        """See ``Store.post``."""
        await self._reached()
        run = self._data.runs.get(item.run)
        if run is None:
            raise StoreError(f"no run {item.run!r} is stored.\n  Fix: look for its id with runtime.stored().")
        if any((each.kind, each.key) == (item.kind, item.key) for each in run.posted):
            return False
        now = self.wall_time()
        run.posted.append(attrs.evolve(item, at=now, id=next(self._data.numbers)))
        if run.stored.owner is None and run.stored.status is StoredStatus.WAITING:
            run.stored = attrs.evolve(run.stored, wake_at=now)
        self._ring()
        return True

    def _ring(self) -> None:
        news, self._data.news = self._data.news, trio.Event()
        news.set()

    async def posted(self) -> Sequence[Posted]:
        """See ``Store.posted``."""
        while True:
            await self._reached()
            owner = self._owner()
            found: list[Posted] = []
            for run in self._data.runs.values():
                if run.stored.owner == owner:
                    found += run.posted[self._handed_out.get(run.stored.id, 0) :]
                    self._handed_out[run.stored.id] = len(run.posted)
            if found:
                return sorted(found, key=lambda item: item.id)
            await self._data.news.wait()

    async def inbox(self, run: str) -> Sequence[Posted]:
        """See ``Store.inbox``."""
        await self._reached()
        known = self._data.runs.get(run)
        return [] if known is None else tuple(known.posted)

    # --- schedules --------------------------------------------------------------------------------------------------------

    async def schedule(self, schedule: StoredSchedule) -> None:
        """See ``Store.schedule``."""
        await self._reached()
        self._data.schedules[schedule.name] = schedule

    async def unschedule(self, name: str) -> bool:
        """See ``Store.unschedule``."""
        await self._reached()
        return self._data.schedules.pop(name, None) is not None

    async def schedules(self) -> Sequence[StoredSchedule]:
        """See ``Store.schedules``."""
        await self._reached()
        return [self._data.schedules[name] for name in sorted(self._data.schedules)]

    async def tick(self, name: str, seen: datetime | None, next_at: datetime | None) -> bool:
        """See ``Store.tick``."""
        await self._reached()
        known = self._data.schedules.get(name)
        if known is None or known.next_at != seen:
            return False
        self._data.schedules[name] = attrs.evolve(known, next_at=next_at)
        return True

    # --- allowances -------------------------------------------------------------------------------------------------------

    async def owe(self, name: str, seconds: float) -> float:
        """See ``AllowanceStore.owe``."""
        await self._reached()
        return self._data.allowances.owe(name, seconds, self.wall_time().timestamp())

    async def spend(self, name: str, amount: Amount, most: Amount) -> tuple[bool, Amount]:
        """See ``AllowanceStore.spend``."""
        await self._reached()
        return self._data.allowances.spend(name, amount, most)

    # --- looking in -------------------------------------------------------------------------------------------------------

    # --- names and news ---------------------------------------------------------------------------------------------------

    async def hold(self, name: str) -> NameHolder:
        """See ``NameStore.hold``."""
        await self._reached()
        return self._data.meeting.hold(name, self._owner())

    async def release_name(self, name: str, fence: int) -> None:
        """See ``NameStore.release_name``."""
        await self._reached()
        self._data.meeting.release_name(name, fence, self._owner())

    async def holder(self, name: str) -> NameHolder | None:
        """See ``NameStore.holder``."""
        await self._reached()
        return self._data.meeting.holder(name)

    async def announce(self, news: bytes) -> None:
        """See ``NewsStore.announce``."""
        await self._reached()
        self._data.meeting.announce(news, self._owner())

    async def announced(self) -> Sequence[bytes]:
        """See ``NewsStore.announced``."""
        while True:
            await trio.lowlevel.checkpoint()
            worker = self._owner()
            if not self._is_cut_off and (news := self._data.meeting.heard(worker)):
                return news
            await self._data.meeting.wait()

    def statistics(self) -> Mapping[str, float]:
        """See ``Store.statistics``."""
        records = sum(len(run.records) for run in self._data.runs.values())
        return {"runs": len(self._data.runs), "records": records, "commits": self._data.commits, "queued": 0}

    @property
    def run_ids(self) -> tuple[str, ...]:
        """Of every run that is stored."""
        return tuple(self._data.runs)

    def wall_time(self) -> datetime:
        """See ``Store.wall_time``."""
        began = self._data.began
        if began is None:
            return datetime.now(UTC)
        if trio.lowlevel.in_trio_run():
            self._data.latest = began + timedelta(seconds=trio.current_time() + self._data.clock_offset_s)
        return self._data.latest or began
