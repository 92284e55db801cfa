"""What a SQLite store does to its rows of runs: each function is one step of a transaction."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Collection, Sequence
from typing import Final

from actors.store_errors import StoreError
from runtime.journal.records import Record
from runtime.journal.sqlite_rows import RECORD, RUN, TOLD, Row, Sealing, micros, one, run_of
from runtime.journal.store import Created, Existing, NewRun, Page, RunQuery, StoredRun, StoredStatus
from runtime.journal.told_events import ToldEvent

OVER: Final = "('succeeded', 'failed', 'cancelled')"
MAX_EXPIRED: Final = 50
"""Runs that are deleted in one transaction, so others wait for milliseconds only."""
_FREE: Final = "owner is null and status in ('ready', 'waiting') and wake_at <= ?"


def create(
    run: NewRun, records: Sequence[Record], owner: str | None, now: int, sealing: Sealing, db: sqlite3.Connection
) -> Created | Existing:
    """Insert a run with its first records; or find the one of that id."""
    known = find(run.id, db)
    if known is not None:
        first = one(db, f"select {RECORD} from journal where run = ? and seq = 1", (run.id,), sealing.record_of)
        if first is None:
            raise StoreError(f"run {run.id!r} is stored without its first record.\n  Fix: forget it, and start it again.")
        return Existing(known, first)
    db.execute(
        "insert into runs(id, graph, version, fingerprint, status, owner, lives, wake_at, deadline, parent, parent_seq, label, "
        "created) values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            run.id,
            run.graph,
            run.version,
            run.fingerprint,
            "ready" if owner is None else "running",
            owner,
            0 if owner is None else 1,
            now if owner is None else None,
            micros(run.deadline),
            run.parent,
            run.parent_seq,
            run.label,
            now,
        ),
    )
    db.executemany(f"insert into journal({RECORD}) values (?, ?, ?, ?, ?, ?, ?, ?, ?)", map(sealing.row_of, records))
    made = find(run.id, db)
    assert made is not None, "a row that was just inserted"
    return Created(made)


def find(run: str, db: sqlite3.Connection) -> StoredRun | None:
    """One run."""
    return one(db, f"select {RUN} from runs where id = ?", (run,), run_of)


def listed(query: RunQuery, db: sqlite3.Connection) -> Page[StoredRun]:
    """Runs, newest first. The number of a run, which is where a page begins, is never used again and follows no clock."""
    wheres: list[str] = []
    values: list[object] = []
    before = query.after if query.after is not None and query.after.isdecimal() and len(query.after) < 19 else None
    for where, value in (
        ("graph = ?", query.graph),
        ("status = ?", None if query.status is None else query.status.value),
        ("created > ?", micros(query.started_after)),
        ("instr(char(10) || label || char(10), ?)", None if query.label is None else f"\n{query.label}\n"),
        ("number < ?", None if before is None else int(before)),
    ):
        if value is not None:
            wheres.append(where)
            values.append(value)
    sql = f"select {RUN}, number from runs {'where ' if wheres else ''}{' and '.join(wheres)} order by number desc limit ?"
    limit = max(0, min(query.limit, 10_000))
    rows: list[Row] = db.execute(sql, (*values, limit + 1)).fetchall()
    page = rows[:limit]
    return Page(tuple(map(run_of, page)), str(page[-1][-1]) if len(rows) > limit and page else None)


def claim(
    graphs: Collection[tuple[str, str]], limit: int, owner: str, now: int, reread: Callable[[str], None], db: sqlite3.Connection
) -> Sequence[StoredRun]:
    """Take due runs of these graphs, the longest due first."""
    wanted = set(graphs)
    found: list[str] = []
    for run, graph, version in db.execute(f"select id, graph, version from runs where {_FREE} order by wake_at, number", (now,)):
        if len(found) >= limit:
            break
        if (graph, version) in wanted:
            found.append(run)
    return [_given(run, owner, reread, db) for run in found]


def take(
    run: str, only: StoredStatus | None, owner: str, reread: Callable[[str], None], db: sqlite3.Connection
) -> StoredRun | None:
    """Take one run, if no one has it, and its status is `only` or that is None."""
    known = find(run, db)
    if known is None or known.owner is not None or only not in (None, known.status):
        return None
    return _given(run, owner, reread, db)


def _given(run: str, owner: str, reread: Callable[[str], None], db: sqlite3.Connection) -> StoredRun:
    db.execute(
        "update runs set owner = ?, status = 'running', lives = lives + 1, wake_at = null, ended = null where id = ?",
        (owner, run),
    )
    reread(run)
    given = find(run, db)
    assert given is not None, "a row that was just updated"
    return given


def release(
    run: str,
    status: StoredStatus,
    wake_at: int | None,
    owner: str,
    life: int | None,
    now: int,
    reread: Callable[[str], None],
    db: sqlite3.Connection,
) -> bool:
    """Give up a run of this `life`; whether it was the owner's."""
    found = db.execute(
        "update runs set owner = null, left_by = null, status = ?, wake_at = ?, ended = ? "
        "where id = ? and owner = ? and lives = coalesce(?, lives)",
        (status.value, wake_at, now if status.is_over else None, run, owner, life),
    )
    reread(run)
    return found.rowcount > 0


def free_all(now: int, db: sqlite3.Connection) -> None:
    """Hand back every run that has an owner, which is the one that calls and that ends."""
    db.execute("update runs set owner = null, left_by = null, status = 'ready', wake_at = ? where owner is not null", (now,))


def take_over(now: int, db: sqlite3.Connection) -> None:
    """Free every run that has an owner: it has died, or it would not be another one's turn."""
    db.execute("update runs set owner = null, left_by = owner, status = 'ready', wake_at = ? where owner is not null", (now,))


def wake(runs: Collection[str], seen: int, owner: str, now: int, db: sqlite3.Connection) -> set[str]:
    """Make those of `runs` due that wait and that no one has; returns those of this owner."""
    owned: set[str] = set()
    for run in runs:
        row = db.execute("select owner from runs where id = ?", (run,)).fetchone()
        if row is not None and row[0] == owner:
            owned.add(run)
    db.executemany(
        "update runs set wake_at = ? where id = ? and owner is null and status = 'waiting'",
        [(now, run) for run in set(runs) - owned],
    )
    db.execute("insert or replace into meta values ('inbox', ?)", (str(seen),))
    return owned


def delete(runs: Collection[str], reread: Callable[[str], None], db: sqlite3.Connection) -> None:
    """Delete everything about these runs."""
    for run in runs:
        reread(run)
    for table, column in (("journal", "run"), ("questions", "run"), ("told", "run"), ("runs", "id")):
        db.executemany(f"delete from {table} where {column} = ?", [(run,) for run in runs])


def forgettable(run: str, db: sqlite3.Connection) -> bool:
    """Whether there is such a run. Raises ``StoreError`` if a worker has it."""
    known = find(run, db)
    if known is not None and known.owner is not None:
        raise StoreError(f"run {run!r} is at work in {known.owner!r}.\n  Fix: cancel it, and forget it then.")
    return known is not None


def expired(done: int | None, failed: int | None, db: sqlite3.Connection) -> list[str]:
    """Some of the runs that are kept no longer."""
    rows = db.execute(
        "select id from runs where ended is not null and owner is null and "
        "(status = 'succeeded' and ended < ? or status in ('failed', 'cancelled') and ended < ?) order by ended limit ?",
        (done, failed, MAX_EXPIRED),
    )
    return [run for (run,) in rows]


def drop_payloads(before: int, behind: str, sealing: Sealing, db: sqlite3.Connection) -> list[str]:
    """Drop the data of some runs that ended before a time, in the order of their ids behind `behind`; returns which."""
    rows = db.execute(
        f"select id from runs where ended < ? and owner is null and status in {OVER} and id > ? and exists "
        "(select 1 from journal where run = runs.id and data is not null) order by id limit ?",
        (before, behind, MAX_EXPIRED),
    )
    runs = [run for (run,) in rows]
    for run in runs:
        kept: list[Row] = db.execute(f"select {RECORD} from journal where run = ? and data is not null", (run,)).fetchall()
        db.executemany(
            f"insert or replace into journal({RECORD}) values (?, ?, ?, ?, ?, ?, ?, ?, ?)", map(sealing.without_data, kept)
        )
        db.execute("update questions set asks = null where run = ?", (run,))
        db.execute("delete from told where run = ?", (run,))
    return runs


def tell(run: str, rows: Sequence[ToldEvent], sealing: Sealing, db: sqlite3.Connection) -> bool:
    """Keep what readers are told. See ``EventKeeper.tell``."""
    if db.execute("select 1 from runs where id = ?", (run,)).fetchone() is None:
        return False
    where = "run = ? and seq between ? and ?"
    found = db.execute(f"select {TOLD} from told where {where}", (run, rows[0].seq, rows[-1].seq)).fetchall()
    kept = {row[0]: sealing.told_of(run, row) for row in found}
    if any(kept.get(row.seq, row) != row for row in rows):
        return False
    new = [(run, *sealing.told_row(run, row)) for row in rows if row.seq not in kept]
    db.executemany(f"insert into told(run, {TOLD}) values (?, ?, ?, ?, ?)", new)
    return True
