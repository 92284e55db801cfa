"""Journals in a SQLite file: one process owns it and writes; others read it, and post to the inbox beside it."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import threading
from collections.abc import AsyncGenerator, Callable, Collection, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Final, TypeVar, final

import attrs
import trio

from actors.errors import UsageError
from actors.store_errors import RunLost, StoreError
from actors.words import repr_of, words_of
from runtime.journal import sqlite_allowances, sqlite_names, sqlite_runs
from runtime.journal.allowances import Amount
from runtime.journal.meeting import NameHolder
from runtime.journal.records import Record
from runtime.journal.sqlite_file import Ownership, no_thread, store_error
from runtime.journal.sqlite_inbox import SqliteInbox
from runtime.journal.sqlite_possession import open_to_read, take_possession
from runtime.journal.sqlite_rows import QUESTION, RECORD, SCHEDULE, TOLD, Sealing, micros, one
from runtime.journal.sqlite_writer import SqliteWriter, Sync
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
from runtime.journal.told_events import PAGE_ROWS, ToldEvent, first_page
from runtime.journal.unread_posts import UnreadPosts
from runtime.journal.written_runs import ENDS

T = TypeVar("T")

POLL_S: Final = 1.0
"""Seconds between two looks at what other processes have posted."""
_ERRORS: Final = (sqlite3.Error, OSError, MemoryError, Warning, ValueError, TypeError, OverflowError)
"""What reading can raise; the last three where a row is damaged."""
CHUNK_ROWS: Final = 500
CHUNK_BYTES: Final = 4 * 2**20
"""Of one read, after which the reader lets the log be copied."""


def _now() -> datetime:
    return datetime.now(UTC)


@final
@attrs.define(eq=False)
class _Open:
    """What an open store has."""

    lease: Lease
    ownership: Ownership
    writer: SqliteWriter


@final
class SqliteStore:
    """Journals in the SQLite file at `path`, which is made if it isn't there. See the module ``runtime.journal.sqlite``.

    Beside it are SQLite's own ``-wal`` and ``-shm``, the lock ``-owner``, and ``-inbox``, which other processes post to. All of
    them can be read by this user only. A store that was not opened can read and post, while another process owns it or none does.

    Args:
        path: The file, on a local disk.
        sync: What is on the platter before anything follows from it: with ``"paid"`` what was paid for, promised or answered;
            with ``"always"`` every record; with ``"never"`` nothing: a power cut loses the last records, a killed process none.
        codec: Seals the data of records, questions, schedules and posts. Ids, paths, kinds, labels and times are not sealed.
        wall_time: The store's clock, for tests; it returns the time in UTC.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        sync: Sync = "paid",
        codec: Codec | None = None,
        *,
        wall_time: Callable[[], datetime] = _now,
    ) -> None:
        """Nothing is opened yet. Raises ``UsageError`` for a `path` or `sync` that cannot be meant."""
        name = os.fspath(path)
        if name in {"", ":memory:"} or name.startswith("file:"):
            raise UsageError(f"SqliteStore({name!r}) isn't a file.\n  Fix: name a file; in memory: MemoryStore().")
        if sync not in {"paid", "always", "never"}:
            raise UsageError(f"SqliteStore(sync={repr_of(sync)}) isn't a way to sync.\n  Fix: 'paid', 'always' or 'never'.")
        self.path = Path(os.path.abspath(name))
        """The file."""
        self._sync: Sync = sync
        self._sealing = Sealing(codec)
        self._wall_time = wall_time
        self._inbox = SqliteInbox(self.path.with_name(f"{self.path.name}-inbox"), self._sealing)
        self._open: _Open | None = None
        self._was_opened = False
        self._reader: sqlite3.Connection | None = None
        self._reading = threading.Lock()
        self._threads = trio.CapacityLimiter(2)
        self._seen = 0
        """Up to which number what was posted was looked at."""
        self._news = trio.Event()
        self._looking = trio.Lock()
        self._unread = UnreadPosts()

    def __repr__(self) -> str:
        return f"SqliteStore({os.fspath(self.path)!r}, sync={self._sync!r})"

    # --- opening and closing ----------------------------------------------------------------------------------------------

    async def open(self, worker: str, nursery: trio.Nursery) -> Lease:
        """See ``Store.open``. Raises ``StoreInUse`` while another process, or another store of this one, has the file open."""
        await trio.lowlevel.checkpoint_if_cancelled()
        if self._was_opened:
            raise StoreError(f"{self!r} was opened before.\n  Fix: make another SqliteStore for each runtime.")
        self._was_opened = True
        try:  # a thread is waited for, cancelled or not
            taken = await self._in_thread(partial(take_possession, self.path, worker, self._now(), self._inbox.last))
        except BaseException:
            self._was_opened = False
            raise
        self._seen = taken.seen
        writer = SqliteWriter(taken.db, self.path, taken.names, taken.log, worker, self._sync, self._sealing, nursery)
        self._open = _Open(Lease(worker, taken.epoch), taken.ownership, writer)
        return self._open.lease

    async def close(self) -> None:
        """See ``Store.close``."""
        await trio.lowlevel.checkpoint()
        opened, self._open = self._open, None
        with trio.CancelScope(shield=True):
            try:
                if opened is not None:
                    opened.lease.lost.set()
                    await opened.writer.close(partial(sqlite_runs.free_all, self._now()))
            finally:
                try:
                    await trio.to_thread.run_sync(self._release, limiter=trio.CapacityLimiter(1))
                except RuntimeError:  # there can be no more threads
                    self._release()
                self._news.set()
                if opened is not None:
                    opened.ownership.release()

    def _release(self) -> None:
        with self._reading:
            reader, self._reader = self._reader, None
            if reader is not None:
                reader.close()
        self._inbox.close()

    def _writer(self) -> tuple[SqliteWriter, str]:
        if self._open is None:
            what = "was closed" if self._was_opened else "was not opened: it can be read and posted to only"
            raise StoreError(f"{self!r} {what}.\n  Fix: give it to open_runtime(store=…).")
        return self._open.writer, self._open.lease.worker

    # --- threads ----------------------------------------------------------------------------------------------------------

    async def _in_thread(self, call: Callable[[], T]) -> T:
        try:
            return await trio.to_thread.run_sync(call, limiter=self._threads)
        except _ERRORS as error:
            raise store_error(error, self.path) from error
        except RuntimeError as error:
            if "new thread" not in words_of(error):
                raise
            raise no_thread(error, self.path) from error

    async def _read(self, call: Callable[[sqlite3.Connection], T]) -> T:
        """What `call` reads through a connection that cannot write."""

        def work() -> T:
            with self._reading:
                if self._reader is None and self._was_opened and self._open is None:
                    # It was closed while this waited for a thread: what is kept now would never be closed.
                    with contextlib.closing(open_to_read(self.path)) as reader:
                        return call(reader)
                if self._reader is None:
                    self._reader = open_to_read(self.path)
                return call(self._reader)

        return await self._in_thread(work)

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
        if self._open is None:
            run = rows[0].run if rows else ""
            done(
                RunLost(
                    f"run {run!r} is no longer this worker's: {self!r} is not open.\n  Fix: open another runtime.", run_id=run
                )
            )
            return
        self._open.writer.append(rows, sync, done, question, answered, self._now)
        if rows and rows[-1].kind in ENDS:
            self._unread.end(rows[-1].run)

    async def read(self, run: str, after: int = 0) -> AsyncGenerator[Record]:
        """See ``Store.read``."""
        while True:
            rows = await self._read(partial(self._chunk, run, after))
            for record in rows:
                yield record
            if not rows:
                return
            after = rows[-1].seq

    def _chunk(self, run: str, after: int, db: sqlite3.Connection) -> list[Record]:
        found: list[Record] = []
        size = 0
        for row in db.execute(
            f"select {RECORD} from journal where run = ? and seq > ? order by seq limit ?", (run, after, CHUNK_ROWS)
        ):
            found.append(self._sealing.record_of(row))
            size += len(found[-1].data or b"")
            if size > CHUNK_BYTES:
                break
        return found

    async def tell(self, run: str, rows: Sequence[ToldEvent]) -> bool:
        """See ``EventKeeper.tell``."""
        writer, _ = self._writer()
        return await writer.do(partial(sqlite_runs.tell, run, rows, self._sealing), sync=False)

    async def told(self, run: str, after: int = -1) -> Sequence[ToldEvent]:
        """See ``EventKeeper.told``."""

        def read(db: sqlite3.Connection) -> Sequence[ToldEvent]:
            sql = f"select {TOLD} from told where run = ? and seq > ? order by seq limit ?"
            return first_page([self._sealing.told_of(run, row) for row in db.execute(sql, (run, after, PAGE_ROWS))])

        return await self._read(read)

    # --- runs -------------------------------------------------------------------------------------------------------------

    async def create(self, run: NewRun, first: Record) -> Created | Existing:
        """See ``Store.create``."""
        writer, worker = self._writer()
        owner, now = worker if run.here else None, self._now()

        def create(db: sqlite3.Connection) -> Created | Existing:
            made = sqlite_runs.create(run, [first], owner, now, self._sealing, db)
            if owner is not None and isinstance(made, Created):
                writer.runs.begun(first)
            return made

        return await writer.do(create, sync=True)

    async def fork(self, run: NewRun, records: Sequence[Record]) -> Created | Existing:
        """See ``Store.fork``."""
        writer, _ = self._writer()
        return await writer.do(partial(sqlite_runs.create, run, records, None, self._now(), self._sealing), sync=True)

    async def claim(self, graphs: Collection[tuple[str, str]], limit: int) -> Sequence[StoredRun]:
        """See ``Store.claim``."""
        async with self._looking:
            await self._look()
            writer, worker = self._writer()
            given = await writer.do(
                partial(sqlite_runs.claim, graphs, limit, worker, self._now(), writer.runs.reread), sync=self._sync == "always"
            )
            self._begun(run.id for run in given)
            return given

    async def take(self, run: str, only: StoredStatus | None = None) -> StoredRun | None:
        """See ``Store.take``."""
        async with self._looking:
            writer, worker = self._writer()
            given = await writer.do(partial(sqlite_runs.take, run, only, worker, writer.runs.reread), sync=self._sync == "always")
            self._begun([] if given is None else [run])
            return given

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
        async with self._looking:
            await self._look()
            writer, worker = self._writer()
            if looked_at is not None:
                is_unread = len(await self.inbox(run)) > looked_at
            else:
                is_unread = self._unread.has(run) or (run in self._unread.unasked() and bool(await self.inbox(run)))
            if is_unread:
                wake_at = self.wall_time()
            step = partial(sqlite_runs.release, run, status, micros(wake_at), worker, life, self._now(), writer.runs.reread)
            if await writer.do(step, sync=self._sync == "always"):
                self._unread.end(run)

    async def run(self, run: str) -> StoredRun | None:
        """See ``Store.run``."""
        return await self._read(partial(sqlite_runs.find, run))

    async def runs(self, query: RunQuery) -> Page[StoredRun]:
        """See ``Store.runs``."""
        return await self._read(partial(sqlite_runs.listed, query))

    async def forget(self, run: str) -> bool:
        """See ``Store.forget``."""
        async with self._looking:  # no one takes the run meanwhile
            writer, _ = self._writer()
            if not await writer.do(partial(sqlite_runs.forgettable, run), sync=False):
                return False
            await self._delete([run])
            return True

    async def _delete(self, runs: Collection[str]) -> None:
        """Delete runs that no worker has; what was posted goes first, since without its run nothing would find it again."""
        writer, _ = self._writer()
        with trio.CancelScope(shield=True):  # a thread's time: no run is left without what was posted to it
            await self._in_thread(partial(self._inbox.forget, runs))
            await writer.do(partial(sqlite_runs.delete, runs, writer.runs.reread), sync=True)
        for run in runs:
            self._unread.end(run)

    async def expire(self, done: datetime | None, failed: datetime | None, payload: datetime | None) -> int:
        """See ``Store.expire``."""
        writer, _ = self._writer()
        gone = 0
        while True:
            async with self._looking:
                runs = await writer.do(partial(sqlite_runs.expired, micros(done), micros(failed)), sync=False)
                if not runs:
                    break
                await self._delete(runs)
                gone += len(runs)
        before, last = micros(payload), ""
        dropped: list[str] = []
        while before is not None:
            await trio.lowlevel.checkpoint()
            with trio.CancelScope(shield=True):  # both, or the next call would not find the runs again
                dropped = await writer.do(partial(sqlite_runs.drop_payloads, before, last, self._sealing), sync=True)
                await self._in_thread(partial(self._inbox.drop_data, dropped))
            if not dropped:
                break
            last = dropped[-1]
        return gone

    # --- from outside -----------------------------------------------------------------------------------------------------

    async def questions(self, run: str | None = None) -> Sequence[StoredQuestion]:
        """See ``Store.questions``."""
        where, values = ("", ()) if run is None else ("and run = ?", (run,))

        def read(db: sqlite3.Connection) -> list[StoredQuestion]:
            rows = db.execute(f"select {QUESTION} from questions where answered is null {where} order by asked, number", values)
            return [self._sealing.question_of(row) for row in rows]

        return await self._read(read)

    async def question(self, question: str) -> StoredQuestion | None:
        """See ``Store.question``."""
        return await self._read(
            lambda db: one(db, f"select {QUESTION} from questions where id = ?", (question,), self._sealing.question_of)
        )

    async def post(self, item: Posted) -> bool:
        """See ``Store.post``. From another process the owner sees it within :data:`POLL_S`, or when there is one."""
        if await self.run(item.run) is None:
            raise StoreError(f"no run {item.run!r} is stored in {self.path}.\n  Fix: look for its id with runtime.stored().")
        added = await self._in_thread(partial(self._inbox.post, item, self.wall_time()))
        self._news.set()
        with trio.CancelScope(shield=True):
            if added and self._open is not None:
                async with self._looking:
                    await self._look()
        return added

    async def posted(self) -> Sequence[Posted]:
        """See ``Store.posted``."""
        while True:
            self._news = trio.Event()
            async with self._looking:
                await self._look()
                found = await self._handed_out()
            if found:
                return found
            with trio.move_on_after(POLL_S):
                await self._news.wait()

    async def _look(self) -> None:
        """Look at what was posted since the last look: wake the runs that wait, and keep what is for runs of this worker."""
        writer, worker = self._writer()
        if not self._inbox.changed():
            return
        items = await self._in_thread(partial(self._inbox.after, self._seen))
        if items:
            runs = {item.run for item in items}
            owned = await writer.do(partial(sqlite_runs.wake, runs, items[-1].id, worker, self._now()), sync=False)
            self._seen = items[-1].id
            self._unread.add(item for item in items if item.run in owned)

    async def _handed_out(self) -> list[Posted]:
        """What is for runs of this worker and was not handed out in their present life."""
        for run in self._unread.unasked():
            self._unread.complete(run, await self._in_thread(partial(self._inbox.of, run)))
        return self._unread.handed_out()

    def _begun(self, runs: Iterable[str]) -> None:
        for run in runs:
            self._unread.begin(run)
            self._news.set()

    async def inbox(self, run: str) -> Sequence[Posted]:
        """See ``Store.inbox``."""
        return await self._in_thread(partial(self._inbox.of, run))

    # --- schedules --------------------------------------------------------------------------------------------------------

    async def schedule(self, schedule: StoredSchedule) -> None:
        """See ``Store.schedule``."""
        row = self._sealing.schedule_row(schedule)
        await self._change(f"insert or replace into schedules({SCHEDULE}) values (?, ?, ?, ?, ?, ?, ?)", row)

    async def unschedule(self, name: str) -> bool:
        """See ``Store.unschedule``."""
        return await self._change("delete from schedules where name = ?", (name,))

    async def schedules(self) -> Sequence[StoredSchedule]:
        """See ``Store.schedules``."""
        return await self._read(
            lambda db: [self._sealing.schedule_of(row) for row in db.execute(f"select {SCHEDULE} from schedules order by name")]
        )

    async def tick(self, name: str, seen: datetime | None, next_at: datetime | None) -> bool:
        """See ``Store.tick``."""
        return await self._change(
            "update schedules set next_at = ? where name = ? and next_at is ?", (micros(next_at), name, micros(seen))
        )

    async def _change(self, sql: str, values: tuple[object, ...]) -> bool:
        writer, _ = self._writer()
        return await writer.do(lambda db: db.execute(sql, values).rowcount > 0, sync=True)

    # --- allowances -------------------------------------------------------------------------------------------------------

    async def owe(self, name: str, seconds: float) -> float:
        """See ``AllowanceStore.owe``."""
        writer, _ = self._writer()
        owed = await writer.do(partial(sqlite_allowances.owe, name, round(seconds * 1e6), self._now()), sync=False)
        return owed / 1e6

    async def spend(self, name: str, amount: Amount, most: Amount) -> tuple[bool, Amount]:
        """See ``AllowanceStore.spend``."""
        writer, _ = self._writer()
        return await writer.do(partial(sqlite_allowances.spend, name, amount, most), sync=True)

    # --- names ------------------------------------------------------------------------------------------------------------

    async def hold(self, name: str) -> NameHolder:
        """See ``NameStore.hold``."""
        writer, worker = self._writer()
        return await writer.do(partial(sqlite_names.hold, name, worker), sync=True)

    async def release_name(self, name: str, fence: int) -> None:
        """See ``NameStore.release_name``."""
        writer, worker = self._writer()
        await writer.do(partial(sqlite_names.release_name, name, fence, worker), sync=False)

    async def holder(self, name: str) -> NameHolder | None:
        """See ``NameStore.holder``."""
        writer, worker = self._writer()
        return await writer.do(partial(sqlite_names.holder, name, worker), sync=False)

    # --- looking in -------------------------------------------------------------------------------------------------------

    def statistics(self) -> Mapping[str, float]:
        """See ``Store.statistics``: also ``syncs`` and ``checkpoints``; what was done since the store was opened."""
        writer = None if self._open is None else self._open.writer
        names = ("records", "commits", "syncs", "checkpoints", "queued")
        return {name: 0 if writer is None else getattr(writer, name) for name in names}

    def wall_time(self) -> datetime:
        """See ``Store.wall_time``."""
        return self._wall_time()

    def _now(self) -> int:
        return micros(self.wall_time()) or 0
