"""The one writer of a SQLite store: records inline on the event loop, everything else in a thread, in one order.

Everything goes through one queue and one connection. A record is committed where it is appended, without the queue, while the
queue is empty and the thread rests; else it waits its turn: a crash must never leave a record without the one before it. One
that is to be on the platter is then synced by another thread, which does not need the connection (``LogSyncs``).
The thread commits what waits in one transaction, with a sync if any of it asks for one, and copies the log into the database
(a checkpoint) when it has grown: on the loop that would be a stall of tens of milliseconds.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final, Literal, TypeVar, final

import attrs
import outcome
import trio

from actors.store_errors import RunLost, StoreError, StoreUnavailable
from actors.words import said
from runtime.journal.records import Record
from runtime.journal.sqlite_file import BUSY_S, FileNames, no_thread, store_error
from runtime.journal.sqlite_rows import Sealing
from runtime.journal.sqlite_syncs import LogFile, LogSyncs, Told
from runtime.journal.store import Done, StoredQuestion
from runtime.journal.written_runs import WrittenRuns, run_lost

T = TypeVar("T")
Sync = Literal["paid", "always", "never"]

MAX_WAITING: Final = 10_000
"""Records that wait in the queue; more are turned away, to be appended again later."""
MAX_BATCH: Final = 500
"""Works in one transaction."""
MAX_BATCH_BYTES: Final = 4 * 2**20
LOG_PAGES: Final = 4000
"""After about so many pages in the log it is copied into the database: two syncs, during which no record is written inline.

Most pages are in the log many times and are copied once, so a longer log costs less; it is read whole when a process has died.
"""
PAGE_BYTES: Final = 4096
LOOK_EVERY: Final = 32
"""Plain records between two looks at the names of the files, which cost a third of such a record. Others look each time."""

ERRORS: Final = (sqlite3.Error, OSError, MemoryError, StoreError, UnicodeEncodeError, OverflowError)
"""What can go wrong with the file, and with values that it cannot hold."""


@attrs.define(eq=False)
class _Work:
    """Something to do in a transaction, and whom to tell."""

    call: Callable[[sqlite3.Connection], Any]
    told: Told
    sync: bool
    rows: int = 0
    bytes: int = 0
    run: str = ""
    """Whose records it writes, if that is what it does."""


_Told = Sequence[tuple[_Work, outcome.Outcome[Any]]]
"""Works that were done, with what came of each."""


@final
class SqliteWriter:
    """Writes for `worker`. Its methods are called on the event loop; the loop or the thread has the connection, never both."""

    def __init__(
        self,
        db: sqlite3.Connection,
        path: Path,
        names: FileNames,
        log: LogFile,
        worker: str,
        sync: Sync,
        sealing: Sealing,
        nursery: trio.Nursery,
    ) -> None:
        self._db = db
        self._path = path
        self._names = names
        self._log = log
        self._sync = sync
        self._nursery = nursery
        self._token = trio.lowlevel.current_trio_token()
        self._pid = os.getpid()
        self._queue: deque[_Work] = deque()
        self._waiting = 0
        self._is_busy = False
        self._is_closed = False
        self._rest: trio.Event | None = None
        # Of the transaction side: used by anyone who has the connection.
        self.runs = WrittenRuns(worker, sealing)
        self._pages = 0
        self._is_suspect = False
        self._synced = 0
        self._syncs = LogSyncs(log, path, nursery, self._distrust)
        self.records = self.commits = self.checkpoints = 0
        db.execute("pragma synchronous=normal")  # this class syncs the log itself

    @property
    def queued(self) -> int:
        """Records that wait."""
        return self._waiting + self._syncs.rows

    @property
    def syncs(self) -> int:
        """How often the log was synced, for what was to be on the platter."""
        return self._synced + self._syncs.count

    # --- on the loop ------------------------------------------------------------------------------------------------------

    def append(
        self,
        rows: Sequence[Record],
        sync: bool,
        done: Done,
        question: StoredQuestion | None,
        answered: str | None,
        now: Callable[[], int],
    ) -> None:
        """See ``Store.append``; `now` tells the store's time in microseconds, for what is more than an insert."""
        if self._is_closed or os.getpid() != self._pid:
            done(
                run_lost(
                    rows[0].run if rows else "", "the store was closed, or belongs to the process that this one is forked from"
                )
            )
            return
        marked = self._sync == "always" or (sync and self._sync == "paid")
        is_inline = not self._is_busy and self._pages < LOG_PAGES and not self._is_suspect
        has_room = self._waiting + self._syncs.rows + len(rows) <= MAX_WAITING
        if (
            is_inline
            and has_room
            and len(rows) == 1
            and question is None
            and answered is None
            and self._appended(rows[0], done, marked=marked)
        ):
            return
        size = sum(len(row.data or b"") for row in rows)
        call: Callable[[sqlite3.Connection], Any] = partial(self.runs.append, rows, question, answered, now())
        work = _Work(call, partial(_tell, done), marked, len(rows), size, rows[0].run if rows else "")
        if not has_room:
            work = _Work(self._turned_away, work.told, sync=False, run=work.run)
        if is_inline:
            [(_, result)] = self._committed([work])
            if not (marked and isinstance(result, outcome.Error) and _is_locked(result.error.__cause__)):
                self._settle(work, result)
                return
        try:
            self._put(work)
        except StoreUnavailable as error:
            self._settle(work, outcome.Error(error))

    def _appended(self, row: Record, done: Done, *, marked: bool) -> bool:
        """Write one record right here; False: it needs more than an insert, or the patience of the thread."""
        if not self.runs.takes_insert(row):
            return False
        try:
            if marked or not self.commits % LOOK_EVERY:
                self._names.check()
            self.runs.insert(row, self._db)
        except ERRORS as error:
            self._failed(error)
            if marked and _is_locked(error):
                return False
            self._done(row.run, done, store_error(error, self._path))
            return True
        self._pages += 2 + len(row.data or b"") // PAGE_BYTES
        self.records += 1
        self.commits += 1
        if marked:
            self._syncs.add(row.run, 1, partial(_tell, done), outcome.Value(None))
        else:
            self._done(row.run, done, None)
        return True

    def _done(self, run: str, done: Done, error: StoreError | None) -> None:
        """Tell what came of a record which needs no sync, behind all of its run that wait for one."""
        if self._syncs.holds(run):
            self._syncs.add(run, 1, partial(_tell, done), outcome.Value(None) if error is None else outcome.Error(error))
        else:
            done(error)

    def _settle(self, work: _Work, result: outcome.Outcome[Any]) -> None:
        """Tell what came of a work that was done on the loop: when it is synced, if it is to be."""
        if (work.sync and isinstance(result, outcome.Value)) or self._syncs.holds(work.run):
            self._syncs.add(work.run, work.rows, work.told, result)
        else:
            work.told(result)

    async def do(self, call: Callable[[sqlite3.Connection], T], *, sync: bool) -> T:
        """Run `call` in its turn, in a transaction of which all or nothing comes to be. Its outcome is always waited for.

        Raises ``StoreError``.
        """
        await trio.lowlevel.checkpoint_if_cancelled()
        if self._is_closed or os.getpid() != self._pid:
            raise StoreError(f"the store {self._path} was closed.\n  Fix: open another runtime with it.")
        task = trio.lowlevel.current_task()
        self._put(_Work(call, partial(trio.lowlevel.reschedule, task), sync and self._sync != "never"))
        result: T = await trio.lowlevel.wait_task_rescheduled(lambda _: trio.lowlevel.Abort.FAILED)
        return result

    async def close(self, last: Callable[[sqlite3.Connection], None]) -> None:
        """Write what waits, then run `last`, and close the connection."""
        with trio.CancelScope(shield=True):
            if not self._is_closed:
                try:
                    await self.do(last, sync=True)
                finally:
                    self._is_closed = True
                    while self._is_busy:
                        self._rest = trio.Event()
                        await self._rest.wait()
                    await self._syncs.rest()
                    try:  # not in one of the threads that anybody may fill
                        await trio.to_thread.run_sync(self._shut, limiter=trio.CapacityLimiter(1))
                    except RuntimeError:  # there can be no more threads
                        self._shut()

    def _put(self, work: _Work) -> None:
        self._queue.append(work)
        self._waiting += work.rows
        if not self._is_busy:
            self._is_busy = True
            try:
                self._start()
            except BaseException:
                self._is_busy = False
                self._queue.pop()
                self._waiting -= work.rows
                raise

    def _start(self) -> None:
        """Let a thread work until nothing waits. No task waits for it, so nothing that was accepted is lost to a cancellation.

        A task, ``trio.to_thread``'s limiter and its context would take 70 µs of processor more for each record that is synced.

        Raises ``StoreUnavailable`` when the process can have no more threads: what is appended then is appended again later.
        """
        try:
            trio.lowlevel.start_thread_soon(self._work_off, self._worked_off)
        except RuntimeError as error:
            raise no_thread(error, self._path) from error

    def _rested(self, result: outcome.Outcome[_Told]) -> None:
        """The thread has come back."""
        if isinstance(result, outcome.Error):
            self._nursery.start_soon(_raise, result.error)
        else:
            self._deliver(result.unwrap())
        refused: outcome.Outcome[Any] | None = None
        if self._queue:
            try:
                self._start()
                return
            except StoreUnavailable as error:
                refused = outcome.Error(error)
        left, self._is_busy = [*self._queue], False
        self._queue.clear()
        if refused is not None:
            self._deliver([(work, refused) for work in left])
        if self._rest is not None and not self._is_busy:
            self._rest.set()

    def _deliver(self, batch: _Told) -> None:
        self._waiting -= sum(work.rows for work, _ in batch)
        for work, result in batch:
            if self._syncs.holds(work.run):
                self._syncs.add(work.run, work.rows, work.told, result)
            else:
                work.told(result)

    # --- in the thread ----------------------------------------------------------------------------------------------------

    def _work_off(self) -> _Told:
        """Do what waits, and return what no one was told of yet."""
        told: _Told = ()
        while self._queue:
            self._tell(told)
            batch: list[_Work] = []
            size = 0
            while self._queue and len(batch) < MAX_BATCH and size < MAX_BATCH_BYTES:
                batch.append(self._queue.popleft())
                size += batch[-1].bytes
            try:
                told = self._committed(batch, in_thread=True)
            except BaseException as error:  # a mistake: who waits would wait forever
                failure = StoreError(f"the store {self._path} failed: {said(error)}\n  Fix: report it, and open the store again.")
                self._tell([(work, outcome.Error(failure)) for work in batch])
                raise
            if self._pages >= LOG_PAGES:
                self._tell(told)
                told = ()
                self._checkpoint()
        return told

    def _tell(self, told: _Told) -> None:
        if told:
            with contextlib.suppress(trio.RunFinishedError):
                self._token.run_sync_soon(self._deliver, told)

    def _worked_off(self, result: outcome.Outcome[_Told]) -> None:
        with contextlib.suppress(trio.RunFinishedError):
            self._token.run_sync_soon(self._rested, result)

    def _shut(self) -> None:
        with contextlib.suppress(sqlite3.Error):
            self._db.execute("pragma wal_checkpoint(truncate)")
        self._db.close()
        self._log.close()

    def _checkpoint(self) -> None:
        """Copy the log into the database, as far as no reader needs it; both files are synced."""
        try:
            self._names.check()
            [(_, logged, copied)] = self._db.execute("pragma wal_checkpoint(passive)").fetchall()
        except ERRORS as error:
            self._failed(error)
            self._pages = LOG_PAGES // 2
            return
        self.checkpoints += 1
        if logged == copied:
            self._is_suspect = False
        self._pages = 0

    # --- in either, by the one who has the connection -------------------------------------------------------------------------

    def _committed(self, batch: Sequence[_Work], *, in_thread: bool = False) -> _Told:
        """Do all of `batch` in one transaction. An error of one work undoes that work, an error of the file all of them.

        In the thread it waits for a program that has locked the file, and is synced if any of it is to be.
        """
        sync = in_thread and any(work.sync for work in batch)
        told: list[tuple[_Work, outcome.Outcome[Any]]] = []
        try:
            if self._is_suspect and sync:
                self._checkpoint()
                self._must_be_trusted()
            self._names.check()
            self._begin(is_patient=in_thread)
            for work in batch:
                told.append((work, self._tried(work, is_alone=len(batch) == 1)))
                self._pages += 2 + work.rows + work.bytes // PAGE_BYTES
            if not self._db.in_transaction:  # undone, with the one work that it was for
                return told
            self._db.execute("commit")
            if sync:  # also if nothing was written: a record that is appended again may be there, and not be synced
                self._sync_log()
        except ERRORS as error:
            self._failed(error)
            failure = store_error(error, self._path)
            return [(work, outcome.Error(failure)) for work in batch]
        self.records += sum(work.rows for work, result in told if isinstance(result, outcome.Value))
        self.commits += 1
        self._synced += sync
        return told

    def _begin(self, *, is_patient: bool) -> None:
        """Begin a transaction. As a rule no one else writes to the file, so the patience is not set before it is needed."""
        try:
            self._db.execute("begin immediate")
        except sqlite3.OperationalError as error:
            if not is_patient or not _is_locked(error):
                raise
            self._db.execute(f"pragma busy_timeout={int(BUSY_S * 1000)}")
            try:
                self._db.execute("begin immediate")
            finally:
                self._db.execute("pragma busy_timeout=0")

    def _tried(self, work: _Work, *, is_alone: bool) -> outcome.Outcome[Any]:
        """Do one work. Raises errors of the file, after which the transaction is worth nothing.

        Of one that `is_alone` the transaction is undone as a whole: a savepoint in it would cost two statements more.
        """
        if not is_alone:
            self._db.execute("savepoint work")
        try:
            result: outcome.Outcome[Any] = outcome.Value(work.call(self._db))
        except sqlite3.OperationalError:
            raise
        except Exception as error:  # noqa: BLE001 - anyone who waits for the work is told
            self.runs.forget()
            self._db.execute("rollback" if is_alone else "rollback to work")
            result = outcome.Error(error if isinstance(error, RunLost) else store_error(error, self._path))
        if not is_alone:
            self._db.execute("release work")
        return result

    def _failed(self, error: Exception) -> None:
        """Undo the transaction, forget what was believed to be written, and distrust the log after an error of the disk.

        A sync that failed may have dropped what was written before it, and the next one would then succeed without it. Until the
        whole log has been copied from memory into the database, and synced there, no sync is believed.
        """
        self.runs.forget()
        with contextlib.suppress(sqlite3.Error):
            if self._db.in_transaction:
                self._db.execute("rollback")
        if _code_of(error) == sqlite3.SQLITE_IOERR:
            self._distrust()

    def _distrust(self) -> None:
        """A sync has failed: see :meth:`_failed`."""
        self._is_suspect = True

    def _must_be_trusted(self) -> None:
        if self._is_suspect:
            raise StoreUnavailable(
                f"the log of {self._path} could not be copied whole since the disk has failed, so no sync of it is believed.\n"
                "  Fix: see to the disk; end what reads the file for long."
            )

    def _sync_log(self) -> None:
        try:
            self._log.sync()
        except OSError:
            self._distrust()
            raise

    def _turned_away(self, db: sqlite3.Connection) -> None:
        raise StoreUnavailable(
            f"{MAX_WAITING:,} records wait to be written to {self._path}.\n"
            "  Fix: append it again later; a faster disk writes more."
        )


def _code_of(error: BaseException | None) -> int:
    return getattr(error, "sqlite_errorcode", 0) & 0xFF


def _is_locked(error: BaseException | None) -> bool:
    """Whether another program had locked the file."""
    return _code_of(error) == sqlite3.SQLITE_BUSY


async def _raise(error: BaseException) -> None:
    raise error


def _tell(done: Done, result: outcome.Outcome[Any]) -> None:
    match result:
        case outcome.Error(error=StoreError() | RunLost() as error):
            done(error)
        case outcome.Error(error=error):
            done(StoreError(f"the store failed: {said(error) if isinstance(error, Exception) else error!r}"))
        case _:
            done(None)
