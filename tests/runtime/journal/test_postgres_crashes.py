"""The server stops as in a crash while records are written, and comes back: what was acknowledged is there, once."""

from __future__ import annotations

import random
from collections.abc import AsyncGenerator, Iterator, Mapping
from contextlib import asynccontextmanager
from typing import Literal

import psycopg
import pytest
import trio
import trio.lowlevel
import trio.testing

from actors.store_errors import StoreUnavailable
from runtime.journal import lease as leases
from runtime.journal.postgres import PostgresStore
from runtime.journal.records import Record, RecordKind
from runtime.journal.store import Created, StoredStatus
from runtime.testing.stores.samples import journal, new_run, record, written
from tests.runtime.journal.postgres_server import Server, running
from tests.runtime.journal.proxy import Proxy

PATIENCE_S = 60.0
Sync = Literal["paid", "always", "never"]


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    """One that is stopped and started: not the one that other files use."""
    with running() as server:
        yield server


@asynccontextmanager
async def open_store(server: Server, schema: str, sync: Sync = "paid") -> AsyncGenerator[PostgresStore]:
    store = PostgresStore(server.dsn, schema, sync, lease_s=60, migrate=True)
    async with trio.open_nursery() as nursery:
        await store.open("worker", nursery)
        try:
            yield store
        finally:
            with trio.CancelScope(shield=True):
                await store.close()


async def crash(server: Server) -> None:
    await trio.to_thread.run_sync(server.stop)
    await trio.to_thread.run_sync(server.start)


async def keep_writing(store: PostgresStore, run: str, acknowledged: list[Record], ending: trio.Event) -> None:
    """As a run does: what could not be stored is appended again as it was."""
    draw = random.Random(run)
    while not ending.is_set():
        row = record(store, len(acknowledged) + 1, run=run, data=str(draw.random()).encode())
        with trio.fail_after(PATIENCE_S):
            while (error := await written(store, row, sync=draw.random() < 0.2)) is not None:
                assert isinstance(error, StoreUnavailable), error
                await trio.sleep(0.02)
        acknowledged.append(row)
        await trio.lowlevel.checkpoint()


async def grow(runs: Mapping[str, list[Record]], by: int = 5) -> None:
    """Wait until each run has some more records."""
    wanted = {run: len(acknowledged) + by for run, acknowledged in runs.items()}
    with trio.fail_after(PATIENCE_S):
        while any(len(runs[run]) < count for run, count in wanted.items()):  # noqa: ASYNC110
            await trio.sleep(0.01)


async def crash_under_load(server: Server, schema: str, crashes: int, sync: Sync) -> None:
    async with open_store(server, schema, sync) as store:
        runs: dict[str, list[Record]] = {}
        for number in range(10):
            first = record(store, 1, run=f"r{number}")
            assert isinstance(await store.create(new_run(f"r{number}"), first), Created)
            runs[f"r{number}"] = [first]
        ending = trio.Event()
        async with trio.open_nursery() as nursery:
            for run, acknowledged in runs.items():
                nursery.start_soon(keep_writing, store, run, acknowledged, ending)
            for _ in range(crashes):
                await grow(runs)
                await crash(server)
            await grow(runs)
            ending.set()

        for run, acknowledged in runs.items():
            assert await journal(store, run) == acknowledged


@pytest.mark.slow
@pytest.mark.parametrize("sync", ["paid", "never"])
async def test_a_server_that_crashes_under_load_loses_and_doubles_nothing(server: Server, sync: Sync) -> None:
    await crash_under_load(server, f"load_{sync}", 2, sync)


@pytest.mark.chaos
async def test_a_server_that_crashes_again_and_again_loses_and_doubles_nothing(server: Server) -> None:
    await crash_under_load(server, "chaos", 12, "paid")


async def stored(server: Server, schema: str) -> int:
    """How many records there are after a crash."""
    with trio.fail_after(PATIENCE_S):
        while True:
            try:
                return int((await trio.to_thread.run_sync(server.query, f"select count(*) from {schema}.journal"))[0][0])
            except psycopg.OperationalError:
                await trio.sleep(0.02)


@pytest.mark.slow
async def test_what_the_server_had_not_on_its_disk_is_written_again_before_what_comes_behind_it(server: Server) -> None:
    """It was acknowledged without waiting for the disk; a record behind it would leave a gap that nothing could fill."""
    async with open_store(server, "gap") as store:
        await store.create(new_run(), record(store, 1))
        crash_now = server.hold_back_log()
        rows = [record(store, seq, kind=RecordKind.FAILED) for seq in range(2, 8)]
        for row in rows[:5]:
            assert await written(store, row) is None
        crash_now()

        assert await stored(server, "gap") == 1
        assert await written(store, rows[5]) is None
        assert (await journal(store))[1:] == rows


@pytest.mark.slow
async def test_a_lease_that_was_renewed_is_there_after_a_crash(server: Server) -> None:
    """Its worker relies on it: others must not take it for dead before, and have its names."""
    async with open_store(server, "renewed") as store:
        crash_now = server.hold_back_log()
        assert (await store._pool.read(leases._RENEW, "worker", 1, 1000.0)).rows
        crash_now()

        [(left_s,)] = server.query("select extract(epoch from until - now()) from renewed.workers")
        assert left_s > 800


@pytest.mark.slow
async def test_what_waited_for_the_disk_takes_all_before_it_along(server: Server) -> None:
    async with open_store(server, "durable") as store:
        await store.create(new_run(), record(store, 1))
        crash_now = server.hold_back_log()
        for seq in range(2, 7):
            assert await written(store, record(store, seq), sync=seq == 5) is None
        crash_now()

        assert await stored(server, "durable") == 5


@pytest.mark.slow
async def test_while_the_server_is_away_calls_say_so_and_later_they_work(server: Server) -> None:
    async with open_store(server, "away") as store:
        await store.create(new_run(), record(store, 1))
        await trio.to_thread.run_sync(server.stop)
        with pytest.raises(StoreUnavailable, match="Fix: start the server"):
            await store.run("r")
        errors = [await written(store, record(store, seq)) for seq in (2, 3)]
        assert [type(error) for error in errors] == [StoreUnavailable] * 2

        await trio.to_thread.run_sync(server.start)

        assert isinstance(await written(store, record(store, 3)), StoreUnavailable), "record 2 is missing before it"
        assert [await written(store, record(store, seq)) for seq in (2, 3)] == [None, None]
        await store.release("r", StoredStatus.WAITING, None)
        assert [row.seq for row in await journal(store)] == [1, 2, 3]


@pytest.mark.slow
async def test_a_store_that_is_closed_while_its_server_does_not_answer_leaves_nobody_waiting(server: Server) -> None:
    """The runtime gives closing some seconds; who waits for a record waits shielded, and must be told."""
    outcomes: list[object] = []
    async with trio.open_nursery() as nursery:
        proxy = await nursery.start(Proxy.run, server.port)
        store = PostgresStore(server.address(proxy.port), "closing", lease_s=60, migrate=True)
        await store.open("worker", nursery)
        await store.create(new_run(), record(store, 1))
        proxy.drop()
        for seq in range(2, 5):
            store.append([record(store, seq)], False, outcomes.append)
        await trio.testing.wait_all_tasks_blocked(0.05)
        store.append([record(store, 5)], False, outcomes.append)

        with trio.fail_after(PATIENCE_S), trio.move_on_after(0.05) as scope:
            await store.close()
        nursery.cancel_scope.cancel()

    assert scope.cancelled_caught
    assert [type(outcome) for outcome in outcomes] == [StoreUnavailable] * 4
