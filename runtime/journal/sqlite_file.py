"""The file of a SQLite store: its schema, its connections, its one owner, and what SQLite's errors mean."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import sqlite3
import weakref
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final, final

from actors.store_errors import NotStorable, StoreDamaged, StoreError, StoreInUse, StoreTooNew, StoreUnavailable
from actors.words import said

SCHEMA: Final = 4
"""The version of the schema below."""
BUSY_S: Final = 5.0
"""Seconds for which a thread waits while another process has the file locked. On the event loop nothing waits."""
APPLICATION: Final = 0x756E6473
"""``unds``, in the header of the file."""

_TOLD: Final = """create table told(
    run text not null, seq integer not null, name text not null, inside blob not null, outside blob,
    primary key(run, seq)) strict, without rowid"""
_ALLOWANCES: Final = """create table allowances(
    name text primary key, until integer, tokens real not null default 0, usd real not null default 0) strict, without rowid"""
_NAMES: Final = "create table names(name text primary key, owner text, fence integer not null) strict, without rowid"
_LEFT_BY: Final = "alter table runs add column left_by text"
_TABLES: Final = (
    "create table meta(key text primary key, value text not null) strict, without rowid",
    """create table workers(
        id text primary key, epoch integer not null, pid integer not null, started integer not null) strict""",
    """create table runs(
        number integer primary key autoincrement, id text not null unique, graph text not null, version text not null,
        fingerprint blob not null, status text not null, owner text, lives integer not null, wake_at integer, deadline integer,
        parent text, parent_seq integer, label text, created integer not null, ended integer) strict""",
    "create index runs_due on runs(wake_at) where owner is null and status in ('ready', 'waiting')",
    "create index runs_owner on runs(owner) where owner is not null",
    "create index runs_ended on runs(ended) where ended is not null",
    """create table journal(
        run text not null, seq integer not null, kind integer not null, path text not null, at real not null,
        digest blob not null, inputs blob not null, data blob, crc integer not null,
        primary key(run, seq)) strict, without rowid""",
    """create table questions(
        number integer primary key, id text not null unique, run text not null, path text not null, asks blob,
        answers text not null, due integer, asked integer not null, addressee text, answered integer) strict""",
    "create index questions_open on questions(run) where answered is null",
    "create index questions_run on questions(run)",
    """create table schedules(
        name text primary key, graph text not null, spec text not null, zone text not null, catch_up text not null,
        message blob not null, next_at integer) strict, without rowid""",
    _TOLD,
    _ALLOWANCES,
    _LEFT_BY,
    _NAMES,
)
MIGRATIONS: Final[Mapping[int, Sequence[str]]] = {1: (_TOLD,), 2: (_ALLOWANCES, _LEFT_BY), 3: (_NAMES,)}
"""Schema → the statements that make the next one of it. Only ever added to."""

_UNAVAILABLE: Final = {
    sqlite3.SQLITE_FULL: "the disk is full",
    sqlite3.SQLITE_IOERR: "the disk reports an error",
    sqlite3.SQLITE_READONLY: "the file or its folder is read-only",
    sqlite3.SQLITE_CANTOPEN: "the file cannot be opened",
    sqlite3.SQLITE_BUSY: "another process has it locked",
    sqlite3.SQLITE_LOCKED: "another connection has it locked",
    sqlite3.SQLITE_PERM: "access is denied",
    sqlite3.SQLITE_NOMEM: "there is no memory left",
    sqlite3.SQLITE_PROTOCOL: "another process has it locked",
}


def store_error(error: Exception, path: Path) -> StoreError:
    """What an error of SQLite, or of the operating system, means for the store at `path`; its own errors are left as they are."""
    if isinstance(error, StoreError):
        return error
    if isinstance(error, UnicodeEncodeError | OverflowError):
        return NotStorable(
            f"{path}: a text or number cannot be stored: {said(error)}\n  Fix: ids, labels and paths are Unicode text."
        )
    if isinstance(error, Warning):  # of Python or a codec, where warnings are errors: it says nothing of the file
        warned = StoreError(
            f"the store {path} could not do it: {said(error)}, a warning that is an error in this process.\n"
            "  Fix: see to what it warns of, or leave it a warning (python -W, warnings.filterwarnings)."
        )
        warned.__cause__ = error
        return warned
    code = getattr(error, "sqlite_errorcode", None)
    primary = code & 0xFF if isinstance(code, int) else None
    if isinstance(error, MemoryError):  # what the module makes of SQLITE_NOMEM
        primary = sqlite3.SQLITE_NOMEM
    if isinstance(error, OSError) or primary in _UNAVAILABLE:
        why = _UNAVAILABLE.get(primary or 0, "the operating system reports an error")
        made: StoreError = StoreUnavailable(
            f"the store {path} cannot be used now: {why} ({said(error)}).\n"
            "  Fix: make room, or give access to the file and its folder; what was acknowledged is kept, and work goes on then."
        )
    elif (
        primary in {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}
        or not isinstance(error, sqlite3.Error)
        or "UTF-8" in str(error)
    ):
        made = StoreDamaged(
            f"the store {path} is damaged, or isn't a SQLite database ({said(error)}).\n"
            "  Fix: name another file, or put a copy of it in its place; `understudy store check` shows what can be read."
        )
    else:
        made = StoreError(f"the store {path} could not do it: {said(error)}\n  Fix: `understudy store check --store {path}`.")
    made.__cause__ = error
    return made


def no_thread(error: RuntimeError, path: Path) -> StoreUnavailable:
    """The process can have no more threads, so what needs one cannot be done now."""
    made = StoreUnavailable(
        f"the store {path} cannot be used now: it can have no thread to do it in ({said(error)}).\n"
        "  Fix: let this process have more threads, or end what has so many; work goes on then."
    )
    made.__cause__ = error
    return made


def connect(path: Path, *, mode: str) -> sqlite3.Connection:
    """A connection for one thread at a time, in autocommit mode; `mode` is ``ro`` or ``rw``. Raises errors of SQLite."""
    db = sqlite3.connect(
        f"{path.as_uri()}?mode={mode}",
        uri=True,
        isolation_level=None,
        check_same_thread=False,
        timeout=BUSY_S,
        cached_statements=64,
    )
    db.execute("pragma trusted_schema=off")
    db.execute("pragma wal_autocheckpoint=0")
    if mode == "ro":
        db.execute("pragma query_only=on")
    return db


def make_private(path: Path) -> bool:
    """Make an empty file that only this user can read, and have its name on the disk; False: a file is there.

    SQLite gives the files beside it the same rights. A file that is there is not opened: closing it would release SQLite's locks.
    """
    try:
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC, 0o600))
    except FileExistsError:
        return False
    folder = os.open(path.parent, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
    return True


def schema_of(db: sqlite3.Connection, path: Path) -> int:
    """The version of the schema; 0: an empty file. Raises ``StoreTooNew``, ``StoreError`` or errors of SQLite."""
    tables = {name for (name,) in db.execute("select name from sqlite_master where type = 'table'")}
    if not tables:
        return 0
    if not {"meta", "runs", "journal"} <= tables:
        raise StoreError(f"{path} is a database of something else: it has no journals.\n  Fix: name another file for the store.")
    [(value,)] = db.execute("select value from meta where key = 'schema'").fetchall() or [("",)]
    if not str(value).isdecimal():
        raise StoreDamaged(f"{path} does not state the version of its schema.\n  Fix: put a copy of it in its place.")
    found = int(value)
    if found > SCHEMA:
        raise StoreTooNew(
            f"{path} has schema {found}, and this release knows {SCHEMA}.\n  Fix: use the later release that has written it."
        )
    return found


def bring_up_to_date(db: sqlite3.Connection, path: Path) -> Path | None:
    """Make the schema, or migrate to it in one transaction; returns where the copy of the former is. Raises as `schema_of`."""
    found = schema_of(db, path)
    if found == SCHEMA:
        return None
    copy = _copied(db, path.with_name(f"{path.name}-schema-{found}")) if found else None
    steps = _TABLES if not found else [step for version in range(found, SCHEMA) for step in MIGRATIONS[version]]
    db.execute("pragma synchronous=full")
    db.execute("begin exclusive")
    try:
        for step in steps:
            db.execute(step)
        db.execute("insert or replace into meta values ('schema', ?)", (str(SCHEMA),))
        db.execute(f"pragma application_id={APPLICATION}")
        db.execute("commit")
    except BaseException:
        if db.in_transaction:
            db.execute("rollback")
        raise
    return copy


def _copied(db: sqlite3.Connection, target: Path) -> Path:
    """A whole copy of the database in `target`, which is replaced."""
    target.unlink(missing_ok=True)
    make_private(target)
    copy = sqlite3.connect(target)
    try:
        db.backup(copy)
    finally:
        copy.close()
    return target


@final
class FileNames:
    """Whether the files that are being written are still the ones that have the names."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._names = (os.fspath(path), f"{path}-wal")
        self._known = [self._identity(name) for name in self._names]

    def check(self) -> None:
        """Raises ``StoreUnavailable``: a file was deleted, moved or replaced, and what is written to it would be lost."""
        for name, known in zip(self._names, self._known, strict=True):
            if self._identity(name) != known:
                raise StoreUnavailable(
                    f"{name} was deleted, moved or replaced while the store {self._path} was open; nothing is written to it.\n"
                    "  Fix: put the file back, and work goes on; or stop the process and start it with the file that is there."
                )

    @staticmethod
    def _identity(name: str) -> tuple[int, int] | None:
        try:
            status = os.stat(name)
        except OSError:
            return None
        return status.st_dev, status.st_ino


@final
class Ownership:
    """The lock that one process has on a store, and that the kernel takes back when it dies."""

    def __init__(self, path: Path) -> None:
        """Raises ``StoreInUse``, ``StoreUnavailable`` or ``OSError``."""
        self._name = path.with_name(f"{path.name}-owner")
        self._file = os.open(self._name, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            self._lock(path)
        except BaseException:
            self.release()
            raise
        _held.add(self)

    def _lock(self, path: Path) -> None:
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            pid = os.pread(self._file, 20, 0).decode("ascii", "replace").strip() or "unknown"
            raise StoreInUse(
                f"the store {path} belongs to process {pid}, and a SQLite file has one owner at a time.\n"
                "  Fix: end that process first; to have several workers, use PostgreSQL (store='postgresql://…')."
            ) from None
        except OSError as error:
            if error.errno not in {errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP, errno.EINVAL}:
                raise
            raise _not_honoured(path) from error
        second = os.open(self._name, os.O_RDWR | os.O_CLOEXEC)
        try:
            fcntl.flock(second, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            pass
        else:
            raise _not_honoured(path)
        finally:
            os.close(second)
        os.ftruncate(self._file, 0)
        os.pwrite(self._file, f"{os.getpid()}\n".encode(), 0)

    def release(self) -> None:
        """Let another process have the store."""
        _held.discard(self)
        with contextlib.suppress(OSError):
            os.close(self._file)
        self._file = -1

    def leave_to_parent(self) -> None:
        """In a forked child: close the copy of the lock, which would outlive the parent. It stays the parent's."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1


def _not_honoured(path: Path) -> StoreUnavailable:
    return StoreUnavailable(
        f"the file system of {path} does not honour locks (flock), so two processes could write to the store.\n"
        "  Fix: put it on a local disk, or use PostgreSQL (store='postgresql://…')."
    )


_held: weakref.WeakSet[Ownership] = weakref.WeakSet()


def _after_fork() -> None:
    for each in list(_held):
        each.leave_to_parent()


os.register_at_fork(after_in_child=_after_fork)
