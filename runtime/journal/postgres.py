"""A store in PostgreSQL, for many processes: each run is one worker's at a time, no matter what happens to the others."""

from __future__ import annotations

import contextlib
import math
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from datetime import datetime
from typing import Final, Literal, final

import attrs
import trio

from actors.argument_checks import rejected
from actors.errors import UsageError
from actors.store_errors import RunLost, StoreDamaged, StoreError
from runtime.journal.allowances import Amount
from runtime.journal.lease import HeldLease, take_over
from runtime.journal.meeting import NameHolder
from runtime.journal.postgres_allowances import Allowances
from runtime.journal.postgres_inbox import PostgresInbox
from runtime.journal.postgres_meeting import PostgresMeeting
from runtime.journal.postgres_pool import ConnectionPool
from runtime.journal.postgres_runs import Runs
from runtime.journal.postgres_schema import migrate, quoted
from runtime.journal.postgres_told_events import ToldEvents
from runtime.journal.postgres_wire import Address, PostgresConnection
from runtime.journal.postgres_writer import PostgresWriter
from runtime.journal.records import Record
from runtime.journal.store import (
    Codec,
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
from runtime.journal.told_events import ToldEvent

LEASE_S: Final = 15.0
POLL_S: Final = 1.0
"""How often the inbox is looked at; a notification only makes it sooner."""


@attrs.define(eq=False)
class _Open:
    """What there is between ``open`` and ``close``."""

    lease: HeldLease
    writer: PostgresWriter
    tasks: trio.CancelScope = attrs.field(factory=lambda: trio.CancelScope(shield=True))
    ended: trio.Event = attrs.field(factory=trio.Event)
    news: trio.Event = attrs.field(factory=trio.Event)


@final
class PostgresStore:
    """Journals in the tables of one schema of a PostgreSQL database, shared by all workers that open it.

    `dsn`: ``postgresql://user:password@host/database``, or libpq's other form; TLS and all else that libpq knows goes there.
    `sync`: ``"paid"`` waits for the server's disk with what was paid for, promised or answered; ``"always"`` with every record;
    ``"never"`` with none. `codec` seals what is stored. A worker that has not renewed its lease for `lease_s` seconds is taken to
    be dead, and others take its runs over. The tables are made and changed only with `migrate`, or by :meth:`migrate`.

    Anyone who only looks, or posts something to a run, need not open it: the methods for that work until it is closed.
    """

    def __init__(
        self,
        dsn: str,
        schema: str = "understudy",
        sync: Literal["paid", "always", "never"] = "paid",
        codec: Codec | None = None,
        lease_s: float = LEASE_S,
        *,
        migrate: bool = False,
    ) -> None:
        quoted(schema)
        if sync not in ("paid", "always", "never"):
            raise rejected(self, "sync", sync, "'paid', 'always' or 'never'")
        if not 0 < lease_s < math.inf:
            raise rejected(self, "lease_s", lease_s, "a number of seconds > 0")
        self._pool = ConnectionPool(Address.of(dsn), schema)
        self._sync = sync
        self._codec = codec
        self._lease_s = float(lease_s)
        self._migrates = migrate
        self._runs = Runs(self._pool, sync != "never", codec)
        self._inbox = PostgresInbox(self._pool, self._runs)
        self._told = ToldEvents(self._pool, codec)
        self._allowances = Allowances(self._pool)
        self._meeting = PostgresMeeting(self._pool, codec)
        self._now: _Open | None = None
        self._was_opened = False

    def __repr__(self) -> str:
        return f"PostgresStore({self._pool.address!r}, schema={self._pool.schema!r})"

    # ------------------------------------------------------------------------------------------------------ opening and closing

    async def migrate(self) -> int:
        """Bring the tables to this release's version, in one transaction; returns how many versions were made."""
        connection = await PostgresConnection.open(self._pool.address)
        try:
            return await migrate(connection, self._pool.address, self._pool.schema)
        finally:
            connection.close()

    async def open(self, worker: str, nursery: trio.Nursery) -> Lease:
        """See ``Store.open``."""
        if self._was_opened:
            raise UsageError(f"{self!r} was opened before.\n  Fix: make another store for another runtime.")
        if self._migrates:
            await self.migrate()
        held = HeldLease(self._pool, worker, self._lease_s)
        try:
            await held.begin()
            await self._meeting.join()
            self._now = self._begun(held, nursery)
        except BaseException:
            await held.abandon()
            self._pool.drop_idle()
            raise
        self._was_opened = True
        self._runs.lease = held
        return held.lease

    def _begun(self, held: HeldLease, nursery: trio.Nursery) -> _Open:
        worker = held.lease.worker
        writer = PostgresWriter(
            self._pool,
            worker,
            held.lease.epoch,
            self._sync,
            self._codec,
            held=self._runs.held,
            ended=self._runs.drop,
            lose=held.lose,
        )
        now = _Open(held, writer)
        nursery.start_soon(self._work, now, name=f"<{self!r}>")
        return now

    async def close(self) -> None:
        """See ``Store.close``. Cancelled: it ends without a word to the server, and others take the runs over after the lease."""
        now, self._now = self._now, None
        if now is None:
            self._pool.close()
            await trio.lowlevel.checkpoint()
            return
        try:
            await now.writer.flushed()
            await now.lease.end()
        finally:
            now.lease.lose()
            now.tasks.cancel()
            now.news.set()
            with trio.CancelScope(shield=True):  # of a few steps: anything that waits for the server is cancelled
                await now.ended.wait()
            self._pool.close()

    async def _work(self, now: _Open) -> None:
        """The tasks of an open store."""
        try:
            with now.tasks:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(now.writer.run, name="<writer of journals>")
                    nursery.start_soon(self._listen, now, name="<listener to what is posted>")
                    nursery.start_soon(self._take_over, now, name="<taker of dead workers' runs>")
                    nursery.start_soon(self._tick, now, name="<sign of life>")
        finally:
            now.ended.set()

    async def _tick(self, now: _Open) -> None:
        while True:
            now.lease.alive()
            await trio.sleep(POLL_S)
            self._tell_news(now)

    def _tell_news(self, now: _Open) -> None:
        news, now.news = now.news, trio.Event()
        news.set()

    async def _listen(self, now: _Open) -> None:
        """Look sooner when there is a notification. Behind a pooler none may come, and nothing depends on one."""
        while True:
            try:
                connection = await self._pool.connect()
                try:
                    await connection.run(f"listen {quoted(self._pool.schema)}")
                    while True:
                        await connection.notified()
                        self._tell_news(now)
                finally:
                    connection.close()
            except StoreError:
                await trio.sleep(self._lease_s / 3)

    async def _take_over(self, now: _Open) -> None:
        while True:
            await trio.sleep(self._lease_s / 3)
            try:
                await take_over(self._pool, now.lease.lease.worker)
            except StoreError:  # it cannot be reached: the next time
                continue

    def _opened(self) -> _Open:
        if self._now is None:
            raise StoreError(f"{self!r} is closed.\n  Fix: give it to open_runtime(store=…), and use it while that is open.")
        return self._now

    # ----------------------------------------------------------------------------------------------------------------- journals

    def append(
        self,
        rows: Sequence[Record],
        sync: bool,
        done: Done,
        question: StoredQuestion | None = None,
        answered: str | None = None,
    ) -> None:
        """See ``Store.append``."""
        if self._now is None:
            done(RunLost(f"{self!r} is closed."))
        else:
            self._now.writer.append(rows, sync, done, question, answered)

    def read(self, run: str, after: int = 0) -> AsyncIterator[Record]:
        """See ``Store.read``."""
        return self._runs.read(run, after)

    # --------------------------------------------------------------------------------------------------------------------- runs

    async def create(self, run: NewRun, first: Record) -> Created | Existing:
        """See ``Store.create``."""
        return await self._runs.create(run, first)

    async def fork(self, run: NewRun, records: Sequence[Record]) -> Created | Existing:
        """See ``Store.fork``."""
        return await self._runs.fork(run, records)

    async def claim(self, graphs: Collection[tuple[str, str]], limit: int) -> Sequence[StoredRun]:
        """See ``Store.claim``."""
        return await self._runs.claim(graphs, limit)

    async def take(self, run: str, only: StoredStatus | None = None) -> StoredRun | None:
        """See ``Store.take``."""
        return await self._runs.take(run, only)

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
        now = self._opened()
        await now.writer.flushed()  # this life may write nothing once another has the run
        if await self._runs.release(run, status, wake_at, looked_at, life):
            now.writer.part(run)

    async def tell(self, run: str, rows: Sequence[ToldEvent]) -> bool:
        """See ``EventKeeper.tell``."""
        return await self._told.tell(run, rows)

    async def told(self, run: str, after: int = -1) -> Sequence[ToldEvent]:
        """See ``EventKeeper.told``."""
        return await self._told.told(run, after)

    async def run(self, run: str) -> StoredRun | None:
        """See ``Store.run``."""
        return await self._runs.run(run)

    async def runs(self, query: RunQuery) -> Page[StoredRun]:
        """See ``Store.runs``."""
        return await self._runs.page(query)

    async def forget(self, run: str) -> bool:
        """See ``Store.forget``."""
        gone = await self._runs.forget(run)
        if self._now is not None:
            self._now.writer.part(run)
        return gone

    async def expire(self, done: datetime | None, failed: datetime | None, payload: datetime | None) -> int:
        """See ``Store.expire``."""
        return await self._runs.expire(done, failed, payload)

    # -------------------------------------------------------------------------------------------------- what comes from outside

    async def post(self, item: Posted) -> bool:
        """See ``Store.post``."""
        return await self._inbox.post(item)

    async def posted(self) -> Sequence[Posted]:
        """See ``Store.posted``. It looks again when the store cannot be reached, and ends with an error when it is closed."""
        while True:
            now = self._opened()
            news = now.news
            with contextlib.suppress(StoreError):
                if items := await self._inbox.new():
                    return items
            await news.wait()

    async def inbox(self, run: str) -> Sequence[Posted]:
        """See ``Store.inbox``."""
        return await self._inbox.of(run)

    async def questions(self, run: str | None = None) -> Sequence[StoredQuestion]:
        """See ``Store.questions``."""
        return await self._inbox.questions(run)

    async def question(self, question: str) -> StoredQuestion | None:
        """See ``Store.question``."""
        return await self._inbox.question(question)

    # ---------------------------------------------------------------------------------------------------------------- schedules

    async def schedule(self, schedule: StoredSchedule) -> None:
        """See ``Store.schedule``."""
        await self._inbox.schedule(schedule)

    async def unschedule(self, name: str) -> bool:
        """See ``Store.unschedule``."""
        return await self._inbox.unschedule(name)

    async def schedules(self) -> Sequence[StoredSchedule]:
        """See ``Store.schedules``."""
        return await self._inbox.schedules()

    async def tick(self, name: str, seen: datetime | None, next_at: datetime | None) -> bool:
        """See ``Store.tick``."""
        return await self._inbox.tick(name, seen, next_at)

    # ------------------------------------------------------------------------------------------------------------ names and news

    async def hold(self, name: str) -> NameHolder:
        """See ``NameStore.hold``."""
        return await self._meeting.hold(name, self._opened().lease.lease)

    async def release_name(self, name: str, fence: int) -> None:
        """See ``NameStore.release_name``."""
        await self._meeting.release_name(name, fence, self._opened().lease.lease)

    async def holder(self, name: str) -> NameHolder | None:
        """See ``NameStore.holder``."""
        return await self._meeting.holder(name)

    async def announce(self, news: bytes) -> None:
        """See ``NewsStore.announce``."""
        await self._meeting.announce(news, self._opened().lease.lease.worker)

    async def announced(self) -> Sequence[bytes | StoreDamaged]:
        """See ``NewsStore.announced``. It looks again when the store cannot be reached."""
        while True:
            now = self._opened()
            rung = now.news
            with contextlib.suppress(StoreError):
                if news := await self._meeting.heard(now.lease.lease.worker):
                    return news
            await rung.wait()

    # --------------------------------------------------------------------------------------------------------------- allowances

    async def owe(self, name: str, seconds: float) -> float:
        """See ``AllowanceStore.owe``."""
        return await self._allowances.owe(name, seconds)

    async def spend(self, name: str, amount: Amount, most: Amount) -> tuple[bool, Amount]:
        """See ``AllowanceStore.spend``."""
        return await self._allowances.spend(name, amount, most)

    # ------------------------------------------------------------------------------------------------------------------- itself

    def statistics(self) -> Mapping[str, float]:
        """See ``Store.statistics``: of this process."""
        now = self._now
        if now is None:
            return {"records": 0, "commits": 0, "queued": 0, "runs": 0}
        writer = now.writer
        return {
            "records": writer.rows_written,
            "commits": writer.commits,
            "queued": writer.rows_waiting,
            "runs": len(self._runs.held),
        }

    def wall_time(self) -> datetime:
        """See ``Store.wall_time``."""
        return self._opened().lease.wall_time()
