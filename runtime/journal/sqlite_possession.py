"""How a process takes possession of the file of a SQLite store, and how others open it to read. Blocking: called in threads."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import final

import attrs

from actors.store_errors import StoreError, StoreUnavailable
from runtime.journal import sqlite_runs
from runtime.journal.sqlite_file import SCHEMA, FileNames, Ownership, bring_up_to_date, connect, make_private, schema_of
from runtime.journal.sqlite_syncs import LogFile


@final
@attrs.frozen
class Possession:
    """What the process has that owns a store."""

    ownership: Ownership
    db: sqlite3.Connection
    """The one connection that writes."""
    names: FileNames
    log: LogFile
    """Of the same file."""
    epoch: int
    """Grows with each owner."""
    seen: int
    """Up to which number earlier owners have looked at what was posted."""


def take_possession(path: Path, worker: str, now: int, last_posted: Callable[[], int]) -> Possession:
    """Open the file for `worker` alone, bring it up to date, and make every run anybody's.

    `now` is in microseconds; `last_posted` returns the number of the newest item in the inbox.

    Raises:
        StoreUnavailable: the file cannot be made there.
        StoreInUse: another process, or another store of this one, has it open.
        StoreTooNew: a newer release has written it.
    """
    if not path.parent.is_dir():
        raise StoreUnavailable(f"there is no folder {path.parent} for the store.\n  Fix: make it, or name another.")
    if path.is_dir():
        raise StoreUnavailable(f"{path} is a folder, and a SQLite store is a file.\n  Fix: name a file in it.")
    ownership = Ownership(path)
    db: sqlite3.Connection | None = None
    try:
        make_private(path)
        db = connect(path, mode="rw")
        schema_of(db, path)
        for pragma in (
            "journal_mode=wal",
            "journal_size_limit=67108864",
            "fullfsync=on",
            "secure_delete=on",
            "temp_store=memory",
        ):
            db.execute(f"pragma {pragma}").fetchall()
        bring_up_to_date(db, path)
        epoch, seen = _registered(db, worker, now, last_posted)
        db.execute("pragma busy_timeout=0")
        return Possession(ownership, db, FileNames(path), LogFile(path), epoch, seen)
    except BaseException:
        if db is not None:
            db.close()
        ownership.release()
        raise


def _registered(db: sqlite3.Connection, worker: str, now: int, last_posted: Callable[[], int]) -> tuple[int, int]:
    """Make `worker` the only one, and every run anybody's; returns its epoch, and what of the inbox was looked at."""
    kept = dict(db.execute("select key, value from meta").fetchall())
    epoch = int(kept.get("epoch", "0")) + 1
    seen = min(int(kept.get("inbox", "0")), last_posted())  # less: somebody has deleted the inbox
    db.execute("pragma synchronous=full")
    db.execute("begin immediate")
    db.execute("delete from workers")
    db.execute("insert into workers values (?, ?, ?, ?)", (worker, epoch, os.getpid(), now))
    db.execute("insert or replace into meta values ('epoch', ?)", (str(epoch),))
    sqlite_runs.take_over(now, db)
    db.execute("commit")
    return epoch, seen


def open_to_read(path: Path) -> sqlite3.Connection:
    """A connection that cannot write.

    Raises:
        StoreUnavailable: there is no file.
        StoreError: it has an older schema.
    """
    if not path.is_file():
        raise StoreUnavailable(f"there is no store {path}.\n  Fix: name the file that open_runtime(store=…) was given.")
    db = connect(path, mode="ro")
    try:
        found = schema_of(db, path)
        if found != SCHEMA:
            raise StoreError(
                f"{path} {f'has the older schema {found}' if found else 'is empty'}, and can be read once it is brought "
                f"up to date.\n  Fix: `understudy store migrate --store {path}`."
            )
    except BaseException:
        db.close()
        raise
    return db
