"""The runs that this worker has in a SQLite store, as far as they are written, and what is appended to them."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import Final, final

import attrs

from actors.store_errors import RecordTooLarge, RunLost, StoreUnavailable
from runtime.journal.records import MAX_RECORD_BYTES, MAX_RUN_BYTES, Record, RecordKind
from runtime.journal.sqlite_rows import QUESTION, RECORD, Sealing
from runtime.journal.store import StoredQuestion

ENDS: Final = frozenset({RecordKind.OVER, RecordKind.PARKED})
_CHANGES: Final = ENDS | {RecordKind.ADOPTED}
"""Of these there is more to write than the record: the row of the run."""
_INSERT: Final = f"insert into journal({RECORD}) values (?, ?, ?, ?, ?, ?, ?, ?, ?)"


def run_lost(run: str, why: str) -> RunLost:
    """The error of a run that this worker has no more."""
    return RunLost(f"run {run!r} is no longer this worker's: {why}.\n  Fix: look at the run in the store.", run_id=run)


@attrs.define
class _Written:
    """A run, as far as it is written."""

    seq: int
    bytes: int


@final
class WrittenRuns:
    """Those of `worker`. Used by the one who has the connection; what it believes is forgotten when a transaction is undone."""

    def __init__(self, worker: str, sealing: Sealing) -> None:
        self._worker = worker
        self._sealing = sealing
        self._held: dict[str, _Written] = {}

    def begun(self, first: Record) -> None:
        """The worker has a run with this record alone, which needs not be looked up."""
        self._held[first.run] = _Written(first.seq, _size_of(first))

    def reread(self, run: str) -> None:
        """Look the run up again before the next append: its owner has changed."""
        self._held.pop(run, None)

    def forget(self) -> None:
        """Look all runs up again."""
        self._held.clear()

    def takes_insert(self, row: Record) -> bool:
        """Whether `row` is the next of a run that is known here, fits, and changes nothing else."""
        held = self._held.get(row.run)
        if held is None or row.seq != held.seq + 1 or row.kind in _CHANGES:
            return False
        size = _size_of(row)
        return size <= MAX_RECORD_BYTES and held.bytes + size <= MAX_RUN_BYTES

    def insert(self, row: Record, db: sqlite3.Connection) -> None:
        """Write `row`, which :meth:`takes_insert`."""
        self._insert(row, self._held[row.run], db)

    def _insert(self, row: Record, held: _Written, db: sqlite3.Connection) -> None:
        db.execute(_INSERT, self._sealing.row_of(row))
        held.seq = row.seq
        held.bytes += _size_of(row)

    def append(
        self, rows: Sequence[Record], question: StoredQuestion | None, answered: str | None, now: int, db: sqlite3.Connection
    ) -> None:
        """See ``Store.append``; `now` is the store's time in microseconds. Those that are there already are left."""
        for row in rows:
            held = self._held.get(row.run) or self._looked_up(db, row.run)
            if held is None or row.seq <= held.seq:
                self._must_be_there(db, row, held)
                continue
            self._must_fit(row, held)
            self._insert(row, held, db)
            if row.kind in ENDS:
                self._end(db, row, now)
            elif row.kind is RecordKind.ADOPTED:
                db.execute("update runs set version = ? where id = ?", (row.path, row.run))
        if question is not None:
            db.execute(
                f"insert or ignore into questions({QUESTION}) values (?, ?, ?, ?, ?, ?, ?, ?, ?)",
                self._sealing.question_row(question),
            )
        if answered is not None:
            db.execute("update questions set answered = ? where id = ? and answered is null", (now, answered))

    def _looked_up(self, db: sqlite3.Connection, run: str) -> _Written | None:
        row = db.execute(
            "select coalesce(max(seq), 0), coalesce(sum(length(data)), 0) from journal "
            "where run = ? and exists (select 1 from runs where id = ? and owner = ?)",
            (run, run, self._worker),
        ).fetchone()
        if not row[0]:
            return None
        held = self._held[run] = _Written(*row)
        return held

    def _must_be_there(self, db: sqlite3.Connection, row: Record, held: _Written | None) -> None:
        found = db.execute(f"select {RECORD} from journal where run = ? and seq = ?", (row.run, row.seq)).fetchone()
        if found is None:
            raise run_lost(row.run, "it was released, has ended or was forgotten")
        if self._sealing.crc_of(found) != row.crc:
            raise run_lost(row.run, f"another record {row.seq} is stored" if held else "it has ended, or another worker has it")

    def _must_fit(self, row: Record, held: _Written) -> None:
        if row.seq != held.seq + 1:
            raise StoreUnavailable(
                f"record {row.seq} of run {row.run!r} came before record {held.seq + 1}, which is not stored.\n"
                "  Fix: append them in order; after an error, the one that failed comes first."
            )
        size = _size_of(row)
        if size > MAX_RECORD_BYTES or held.bytes + size > MAX_RUN_BYTES:
            of, limit = ("a record", MAX_RECORD_BYTES) if size > MAX_RECORD_BYTES else ("a run", MAX_RUN_BYTES)
            raise RecordTooLarge(
                f"record {row.seq} ({row.path!r}) of run {row.run!r} has {size:,} bytes, and {of} may have {limit:,}.\n"
                "  Fix: store large values elsewhere, and send messages that name them; or start a nested run.",
                size=size,
                limit=limit,
            )

    def _end(self, db: sqlite3.Connection, row: Record, now: int) -> None:
        over = row.kind is RecordKind.OVER
        db.execute(
            "update runs set status = ?, owner = null, wake_at = null, ended = ?, left_by = null where id = ?",
            (row.path if over else "parked", now if over else None, row.run),
        )
        if over:
            db.execute("update questions set answered = ? where run = ? and answered is null", (now, row.run))
        self._held.pop(row.run, None)


def _size_of(row: Record) -> int:
    return 0 if row.data is None else len(row.data)
