"""Several processes that start the same runs on one PostgreSQL, while they are killed and frozen and their server crashes."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import time
from collections.abc import Iterator
from typing import Self

import psycopg
import pytest
import trio

from runtime.journal.postgres import PostgresStore
from runtime.journal.records import RecordKind
from runtime.testing.stores.samples import journal
from tests.patience import first_line
from tests.runtime.journal.postgres_server import Server, running, started

LEASE_S = 3.0
PATIENCE_S = 300.0
ENDED_ONCE = frozenset({RecordKind.STARTED, RecordKind.FINISHED, RecordKind.OVER})
STRANDED = """
with long_ago(at) as (select now() - {lease} * 2 * interval '1 s')
select r.id from long_ago, {s}.runs r left join {s}.workers w on w.id = r.owner where r.status in ('ready', 'running')
and (r.wake_at < at or r.owner is not null and coalesce(w.until, 'epoch') < at)"""
"""Runs that nobody has taken up for two leases."""


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    """One that is stopped and started: not the one that other files use."""
    with running() as server:
        yield server


class Fleet:
    """So many processes, each of which is replaced when it is killed."""

    def __init__(self, server: Server, schema: str, workers: int, runs: int) -> None:
        self._server = server
        self._arguments = (server.dsn, schema, str(LEASE_S), str(runs), str(time.time()))
        self._stack = contextlib.ExitStack()
        self._workers: list[subprocess.Popen[str]] = []
        self._opened: list[subprocess.Popen[str]] = []
        self._count = workers

    def __enter__(self) -> Self:
        self._workers = [self._new() for _ in range(self._count)]
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._stack.close()

    def _new(self) -> subprocess.Popen[str]:
        return self._stack.enter_context(started("tests.runtime.journal.postgres_fleet", *self._arguments))

    async def opened(self, number: int) -> subprocess.Popen[str]:
        """One of them, when it is at work: a blow that falls before shows nothing."""
        process = self._workers[number]
        if process not in self._opened:
            await trio.to_thread.run_sync(first_line, process)
            self._opened.append(process)
            await trio.sleep(0.5)
        return process

    async def kill(self, number: int) -> None:
        (await self.opened(number)).kill()
        self._workers[number] = self._new()

    async def freeze(self, number: int) -> None:
        """For longer than its lease."""
        process = await self.opened(number)
        os.kill(process.pid, signal.SIGSTOP)
        await trio.sleep(2 * LEASE_S)
        os.kill(process.pid, signal.SIGCONT)

    async def crash(self, number: int) -> None:
        """The server, while the runs of a worker are taken over that was killed a lease ago."""
        await self.kill(number)
        await trio.sleep(LEASE_S)
        await trio.to_thread.run_sync(self._server.stop)
        await trio.to_thread.run_sync(self._server.start)


def asked(server: Server, statement: str) -> list[str] | None:
    """What the server says; None while it comes back."""
    try:
        return [each for (each,) in server.query(statement)]
    except psycopg.OperationalError:
        return None


async def survive(server: Server, schema: str, workers: int, runs: int, blows: list[str], seed: int = 0) -> None:
    await PostgresStore(server.dsn, schema).migrate()
    draw = random.Random(seed)
    over = f"select id from {schema}.runs where status = 'succeeded'"
    with Fleet(server, schema, workers, runs) as fleet:
        for blow in blows:
            await getattr(fleet, blow)(draw.randrange(workers))
            await trio.sleep(draw.uniform(0, 0.5))
        stranded: set[str] = set()
        await trio.sleep(2 * LEASE_S)
        with trio.move_on_after(PATIENCE_S) as patience:
            while len(asked(server, over) or ()) < runs:
                before = set(asked(server, STRANDED.format(s=schema, lease=LEASE_S)) or ())
                await trio.sleep(1)
                stranded |= before & set(asked(server, STRANDED.format(s=schema, lease=LEASE_S)) or ())

        left = asked(server, f"select r::text from {schema}.runs r where status <> 'succeeded'")

    assert not patience.cancelled_caught, left
    assert not stranded
    store = PostgresStore(server.dsn, schema)
    lives = 0
    for number in range(runs):
        rows = await journal(store, f"order-{number}")
        assert [row.seq for row in rows] == list(range(1, len(rows) + 1))
        assert all(row.is_intact for row in rows)
        ended = [(row.kind, row.path) for row in rows if row.kind in ENDED_ONCE]
        assert len(ended) == len(set(ended)) == 5, rows
        lives += sum(row.kind is RecordKind.RESUMED for row in rows)
    assert lives >= 1
    await store.close()


@pytest.mark.chaos
@pytest.mark.parametrize("workers", [2, 5])
async def test_workers_that_are_killed_and_frozen_and_lose_their_server_lose_and_double_nothing(
    server: Server, workers: int
) -> None:
    blows = random.Random(workers).choices(["kill", "freeze", "crash"], k=12)
    await survive(server, f"storm_{workers}", workers, 300, blows, seed=workers)
