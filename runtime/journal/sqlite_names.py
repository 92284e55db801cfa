"""Names in a SQLite file. It has one owner at a time, so any earlier one that still stands there is gone."""

from __future__ import annotations

import sqlite3

from runtime.journal.meeting import NameHolder


def hold(name: str, worker: str, db: sqlite3.Connection) -> NameHolder:
    """See ``NameStore.hold``."""
    row = db.execute(
        "insert into names(name, owner, fence) values (?, ?, 1) "
        "on conflict (name) do update set owner = excluded.owner, fence = fence + 1 returning fence",
        (name, worker),
    ).fetchone()
    return NameHolder(worker, row[0])


def release_name(name: str, fence: int, worker: str, db: sqlite3.Connection) -> None:
    """See ``NameStore.release_name``."""
    db.execute("update names set owner = null where name = ? and fence = ? and owner = ?", (name, fence, worker))


def holder(name: str, worker: str, db: sqlite3.Connection) -> NameHolder | None:
    """See ``NameStore.holder``."""
    row = db.execute("select owner, fence from names where name = ? and owner = ?", (name, worker)).fetchone()
    return None if row is None else NameHolder(*row)
