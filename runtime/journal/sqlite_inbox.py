"""What is posted to runs of a SQLite store: a small database beside it, which any process may write.

The store itself has one writing process only, because versions of SQLite before 3.51.3 can corrupt a log with two. This one has
no log but a rollback journal, which many processes share safely.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import Collection, Generator, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import final

from runtime.journal.sqlite_file import connect, make_private
from runtime.journal.sqlite_rows import POSTED, Sealing
from runtime.journal.store import Posted

_TABLE = """create table if not exists inbox(
    id integer primary key autoincrement, run text not null, kind text not null, key text not null, data blob, by text,
    at integer not null, unique(run, kind, key)) strict"""


@final
class SqliteInbox:
    """The inbox at `path`. Its methods block, and are called in threads; :meth:`changed` is for the event loop."""

    def __init__(self, path: Path, sealing: Sealing) -> None:
        self._path = path
        self._sealing = sealing
        self._watch: sqlite3.Connection | None = None
        self._seen: object = None

    @contextmanager
    def _opened(self) -> Generator[sqlite3.Connection]:
        make_private(self._path)
        db = connect(self._path, mode="rw")
        try:
            db.execute("pragma synchronous=extra")  # the folder, too: else a power cut could bring the rollback journal back
            if db.execute("select 1 from sqlite_master where name = 'inbox'").fetchone() is None:
                db.execute(_TABLE)
            yield db
        finally:
            db.close()

    def post(self, item: Posted, at: datetime) -> bool:
        """Keep `item`, durably; False: one of its run, kind and key is there."""
        with self._opened() as db:
            added = db.execute(
                "insert or ignore into inbox(run, kind, key, data, by, at) values (?, ?, ?, ?, ?, ?)",
                self._sealing.posted_row(item, at),
            )
            return added.rowcount == 1

    def after(self, number: int) -> Sequence[Posted]:
        """What came after the item of this number."""
        return self._found("id > ?", number)

    def of(self, run: str) -> Sequence[Posted]:
        """Everything posted to one run."""
        return self._found("run = ?", run)

    def _found(self, where: str, value: object) -> Sequence[Posted]:
        if not os.path.exists(self._path):
            return []
        with self._opened() as db:
            rows = db.execute(f"select {POSTED} from inbox where {where} order by id", (value,)).fetchall()
        return [self._sealing.posted_of(row) for row in rows]

    def last(self) -> int:
        """The number of the newest item that ever was; 0 before the first."""
        if not os.path.exists(self._path):
            return 0
        with self._opened() as db:
            row = db.execute("select seq from sqlite_sequence where name = 'inbox'").fetchone()
        return 0 if row is None else int(row[0])

    def forget(self, runs: Collection[str]) -> None:
        """Delete what was posted to these runs."""
        self._for_each(runs, "delete from inbox where run = ?")

    def drop_data(self, runs: Collection[str]) -> None:
        """Keep that it was posted, by whom and when, without the data."""
        self._for_each(runs, "update inbox set data = null where run = ?")

    def _for_each(self, runs: Collection[str], sql: str) -> None:
        if os.path.exists(self._path):
            with self._opened() as db:
                db.execute("pragma secure_delete=on")
                db.execute("begin immediate")
                db.executemany(sql, [(run,) for run in runs])
                db.execute("commit")

    def changed(self) -> bool:
        """Whether anything may have been posted since the last call, by this process or another; costs a few microseconds."""
        try:
            if self._watch is None:
                if not os.path.exists(self._path):
                    return False
                self._watch = connect(self._path, mode="ro")
                self._watch.execute("pragma busy_timeout=0")
            [(version,)] = self._watch.execute("pragma data_version").fetchall()
        except sqlite3.Error:  # somebody writes at this moment
            return True
        is_new: bool = version != self._seen
        self._seen = version
        return is_new

    def close(self) -> None:
        """Stop watching."""
        watch, self._watch, self._seen = self._watch, None, None
        if watch is not None:
            with contextlib.suppress(sqlite3.Error):
                watch.close()
