"""What a store's owners may use together, in a SQLite file, whose one owner finds after a restart what was used before."""

from __future__ import annotations

import sqlite3

from runtime.journal.allowances import Amount


def owe(name: str, micros: int, now: int, db: sqlite3.Connection) -> int:
    """See ``AllowanceStore.owe``; in microseconds."""
    row = db.execute("select until from allowances where name = ?", (name,)).fetchone()
    owed = 0 if row is None or row[0] is None else max(0, row[0] - now)
    db.execute(
        "insert into allowances(name, until) values (?, ?) on conflict (name) do update set until = excluded.until",
        (name, now + max(0, owed + micros)),
    )
    return owed


def spend(name: str, amount: Amount, most: Amount, db: sqlite3.Connection) -> tuple[bool, Amount]:
    """See ``AllowanceStore.spend``."""
    row = db.execute("select tokens, usd from allowances where name = ?", (name,)).fetchone()
    spent = Amount() if row is None else Amount(*row)
    tokens, usd = spent.tokens + amount.tokens, spent.usd + amount.usd
    if tokens > most.tokens or usd > most.usd:
        return False, spent
    after = Amount(max(0.0, tokens), max(0.0, usd))
    db.execute(
        "insert into allowances(name, tokens, usd) values (?, ?, ?) "
        "on conflict (name) do update set tokens = excluded.tokens, usd = excluded.usd",
        (name, after.tokens, after.usd),
    )
    return True, after
