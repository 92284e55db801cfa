"""The tables of a store in PostgreSQL, and how an older form of them becomes the newest."""

from __future__ import annotations

import re
from typing import Final

from actors.errors import UsageError
from actors.store_errors import StoreError, StoreTooNew
from actors.words import repr_of
from runtime.journal.postgres_wire import Address, PostgresConnection

OLDEST_SERVER: Final = 130000
"""PostgreSQL 13 is the first that numbers transactions in 64 bits."""

MIGRATIONS: Final = (
    """
    create table {s}.workers(
        id text primary key, epoch int not null, until timestamptz not null, host text, pid int, started timestamptz not null);
    create table {s}.runs(
        id text primary key, graph text not null, version text not null, fingerprint bytea not null, status text not null,
        owner text references {s}.workers, lives int not null, wake_at timestamptz, deadline timestamptz,
        parent text, parent_seq int, label text, created timestamptz not null, ended timestamptz,
        posted bigint not null default 0, bare boolean not null default false);
    create index runs_due on {s}.runs(wake_at) where owner is null and status in ('ready', 'waiting');
    create index runs_owner on {s}.runs(owner) where owner is not null;
    create index runs_created on {s}.runs(created desc, id desc);
    create index runs_ended on {s}.runs(ended) where ended is not null;
    create table {s}.journal(
        run text not null, seq int not null, kind smallint not null, path text not null, at float8 not null,
        digest bytea not null, inputs bytea not null, data bytea, crc bigint not null, primary key(run, seq));
    create table {s}.inbox(
        id bigint generated always as identity primary key, tx xid8 not null default pg_current_xact_id(),
        run text not null references {s}.runs on delete cascade, kind text not null, key text not null, data bytea, by text,
        at timestamptz not null, unique(run, kind, key));
    create index inbox_tx on {s}.inbox(tx);
    create table {s}.questions(
        id text primary key, run text not null references {s}.runs on delete cascade, path text not null, asks bytea,
        answers text[] not null, asked timestamptz not null, due timestamptz, addressee text, answered timestamptz);
    create index questions_run on {s}.questions(run);
    create index questions_open on {s}.questions(asked) where answered is null;
    create table {s}.schedules(
        name text primary key, graph text not null, spec text not null, zone text not null, catch_up text not null,
        message bytea not null, next_at timestamptz)
    """,
    """
    create table {s}.told(
        run text not null references {s}.runs on delete cascade, seq int not null, name text not null, inside bytea not null,
        outside bytea, primary key(run, seq))
    """,
    """
    create table {s}.allowances(
        name text primary key, until timestamptz, tokens float8 not null default 0, usd float8 not null default 0);
    alter table {s}.runs add column left_by text
    """,
    """
    create table {s}.names(name text primary key, owner text, fence bigint not null);
    create table {s}.news(
        id bigint generated always as identity primary key, tx xid8 not null default pg_current_xact_id(), owner text not null,
        data bytea not null, at timestamptz not null);
    create index news_tx on {s}.news(tx)
    """,
)
"""Each makes the next version of the one before it; what has been released is never changed."""


def quoted(schema: str) -> str:
    """`schema` as it stands in statements; ``UsageError`` if it isn't a plain name."""
    if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]{0,62}", schema):
        raise UsageError(
            f"PostgresStore(schema={repr_of(schema)}): expected a name of at most 63 letters, digits and underscores, "
            "which doesn't begin with a digit.\n  Fix: choose such a name for the schema."
        )
    return f'"{schema}"'


async def version_of(connection: PostgresConnection, schema: str) -> int:
    """Which version of the tables is there; 0: none."""
    there = await connection.run("select to_regclass($1::text) is not null", f"{quoted(schema)}.meta")
    if not there.rows[0][0]:
        return 0
    found = await connection.run(f"select value from {quoted(schema)}.meta where key = 'schema'")
    return int(found.rows[0][0]) if found.rows else 0


async def check(connection: PostgresConnection, address: Address, schema: str) -> None:
    """Raise unless the tables are those of this release."""
    if connection.server_version < OLDEST_SERVER:
        raise StoreError(
            f"the server at {address!r} is PostgreSQL {connection.server_version // 10000}, which is too old for a store.\n"
            f"  Fix: use PostgreSQL {OLDEST_SERVER // 10000} or later."
        )
    version = await version_of(connection, schema)
    if version > len(MIGRATIONS):
        raise StoreTooNew(
            f"the schema {schema!r} at {address!r} has version {version} of the tables; this release knows {len(MIGRATIONS)}.\n"
            "  Fix: upgrade understudy here, too."
        )
    if version < len(MIGRATIONS):
        have = f"version {version} of the tables, and {len(MIGRATIONS)} is needed" if version else "no tables of a store"
        raise StoreError(
            f"the schema {schema!r} at {address!r} has {have}.\n"
            "  Fix: run `understudy store migrate --store DSN`, or open PostgresStore(…, migrate=True)."
        )


async def migrate(connection: PostgresConnection, address: Address, schema: str) -> int:
    """Bring the tables up to date in one transaction, even if others try the same now; returns how many versions were made."""
    name = quoted(schema)
    await connection.run("begin")
    try:
        await connection.run("select pg_advisory_xact_lock(hashtextextended($1::text, 0))", f"understudy migrates {schema}")
        there = await connection.run("select 1 from pg_namespace where nspname = $1::text", schema)
        if not there.rows:  # `if not exists` would ask for the right to create schemas in a database that has this one
            await connection.run(f"create schema {name}")
        version = await version_of(connection, schema)
        if version == 0:
            await connection.run(f"create table if not exists {name}.meta(key text primary key, value text not null)")
        for migration in MIGRATIONS[version:]:
            for statement in migration.format(s=name).split(";"):
                await connection.run(statement)
        if version < len(MIGRATIONS):
            await connection.run(
                f"insert into {name}.meta values ('schema', $1::text) on conflict (key) do update set value = excluded.value",
                str(len(MIGRATIONS)),
            )
        await connection.run("commit")
    finally:
        if connection.in_transaction:
            connection.close()  # and with it goes what it has not committed
    await check(connection, address, schema)
    return max(0, len(MIGRATIONS) - version)
