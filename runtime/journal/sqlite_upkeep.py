"""What is done to the file of a SQLite store while no runtime has it: looked over, brought up to date, made smaller. Blocking."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from actors.store_errors import StoreUnavailable
from runtime.journal.sqlite_file import Ownership, bring_up_to_date, connect, store_error


@contextmanager
def _possessed(path: Path) -> Generator[sqlite3.Connection]:
    """The store's only connection. Raises ``StoreInUse`` while a process has it, and other ``StoreError``."""
    try:
        if not path.is_file():
            raise StoreUnavailable(f"there is no store {path}.\n  Fix: name the file that open_runtime(store=…) was given.")
        with contextlib.ExitStack() as stack:
            stack.callback(Ownership(path).release)
            db = connect(path, mode="rw")
            stack.callback(db.close)
            db.execute("pragma journal_mode=wal").fetchall()
            yield db
    except (sqlite3.Error, OSError) as error:
        raise store_error(error, path) from error


def complaints(path: Path) -> list[str]:
    """What SQLite finds wrong with the file, even if others have it open; empty if nothing. Raises ``StoreError``."""
    try:
        with contextlib.closing(connect(path, mode="ro")) as db:
            return [text for (text,) in db.execute("pragma integrity_check(20)") if text != "ok"]
    except (sqlite3.Error, OSError) as error:
        raise store_error(error, path) from error


def migrate(path: Path) -> Path | None:
    """Bring the schema up to date; returns where the copy of the former one is, None if it was. Raises ``StoreError``."""
    with _possessed(path) as db:
        return bring_up_to_date(db, path)


def vacuum(path: Path) -> tuple[int, int]:
    """Give the space of what was deleted back to the disk; returns the bytes before and after. Raises ``StoreError``."""
    with _possessed(path) as db:
        before = path.stat().st_size
        db.execute("vacuum")
        db.execute("pragma wal_checkpoint(truncate)").fetchall()
        return before, path.stat().st_size
