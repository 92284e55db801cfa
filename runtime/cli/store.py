"""``understudy store``: looks a store over, brings it up to date, makes its file smaller."""

from __future__ import annotations

import sys
from functools import partial
from typing import Final, final

import attrs
import trio

from actors.errors import UsageError
from actors.store_errors import StoreError
from actors.words import counted, said
from runtime.cli.failed_run import describe
from runtime.cli.runs import out, with_store
from runtime.cli.terminal import printable
from runtime.cli.wrong_usage import WrongUsage
from runtime.graphs.records.history import history_of
from runtime.journal import sqlite_upkeep as upkeep
from runtime.journal.named_stores import store_of
from runtime.journal.sqlite import SqliteStore
from runtime.journal.store import RunQuery, Store

ACTIONS: Final = ("check", "migrate", "vacuum")
PAGE: Final = 500


@final
@attrs.frozen
class Options:
    """What was asked for."""

    action: str
    """One of ``ACTIONS``."""
    store: str


def run(options: Options) -> int:
    """Do it and return the exit code: 1 when ``check`` finds damage, or the store could not do it.

    Raises:
        WrongUsage: the store isn't a file, and the action is one for files.
    """
    try:
        store = store_of(options.store)
        if options.action == "check":
            return _check(store, options.store)
        if options.action == "migrate" and not isinstance(store, SqliteStore):
            return _migrate_database(options.store)
        if not isinstance(store, SqliteStore):
            raise WrongUsage(f"`understudy store {options.action}` is for SQLite files. Got: {options.store}")
        if options.action == "migrate":
            copy = upkeep.migrate(store.path)
            out(f"{store.path} is up to date" + ("" if copy is None else f"; the former one is in {copy}"))
        else:
            before, after = upkeep.vacuum(store.path)
            out(f"{store.path} had {before:,} bytes, and has {after:,}")
    except UsageError as error:
        raise WrongUsage(str(error)) from error
    except StoreError as error:
        sys.stderr.write(printable(f"{describe(error)}\n", sys.stderr))
        return 1
    return 0


def _migrate_database(address: str) -> int:
    from runtime.journal.postgres import PostgresStore  # noqa: PLC0415 - psycopg is an extra

    made = trio.run(PostgresStore(address).migrate)
    news = "; its tables were brought to this release's form" if made else ""
    out(f"the store is up to date{news}")
    return 0


def _check(store: Store, name: str) -> int:
    damage = upkeep.complaints(store.path) if isinstance(store, SqliteStore) else []
    code = with_store(name, partial(_look_over, damage))
    for line in damage:
        out(f"damaged: {line}")
    return 1 if damage else code


async def _look_over(damage: list[str], store: Store) -> None:
    """Read every record of every run."""
    runs = records = 0
    after: str | None = None
    while True:
        page = await store.runs(RunQuery(limit=PAGE, after=after))
        for each in page.items:
            runs += 1
            try:
                history = await history_of(store, each.id)
            except StoreError as error:
                damage.append(f"run {each.id}: {said(error).partition(chr(10))[0]}")
                continue
            if history is not None:
                records += len(history.records)
                if not history.is_intact:
                    damage.append(f"run {each.id}: a record is missing, or is not what was written")
        after = page.after
        if after is None:
            break
    out(f"{counted(runs, 'run')}, {counted(records, 'record')}, {len(damage) or 'none'} damaged")
