"""Names in PostgreSQL: one holder at a time, whatever happens between the statements of several workers."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import psycopg
import pytest
import trio

from actors.store_errors import StoreDamaged, StoreError, StoreInUse
from runtime import open_runtime
from runtime.journal import lease as leases
from runtime.journal.lease import take_over
from runtime.journal.meeting import NameHolder
from runtime.journal.postgres import PostgresStore
from runtime.journal.postgres_meeting import PostgresMeeting
from runtime.journal.postgres_pool import ConnectionPool
from runtime.journal.postgres_wire import Address, StatementResult
from tests.patience import first_line, patience
from tests.runtime.journal.postgres_server import Server, started
from tests.runtime.journal.test_postgres_workers import LEASE_S, open_store, shifted_clock

PATIENCE_S = 60.0


async def blocked(postgres: Server, count: int = 1) -> None:
    """Wait until so many sessions wait for a lock that another has."""
    with trio.fail_after(PATIENCE_S):
        while True:
            [(found,)] = postgres.query("select count(*) from pg_stat_activity where wait_event_type = 'Lock'")
            if found >= count:
                return
            await trio.sleep(0.01)


async def test_a_worker_that_came_while_another_asked_for_the_name_keeps_it(postgres: Server, schema: str) -> None:
    """A statement doesn't see a worker that registered after it began, and must not take it for dead."""
    async with open_store(postgres.dsn, schema, "old", 30) as (old, _):
        await old.hold("index")
        await old.release_name("index", 1)
        got: list[NameHolder] = []

        async def ask() -> None:
            got.append(await old.hold("index"))

        with psycopg.connect(postgres.dsn) as slow:
            slow.execute(f"select 1 from {schema}.names for update".encode())
            async with trio.open_nursery() as nursery:
                nursery.start_soon(ask)
                await blocked(postgres)
                async with open_store(postgres.dsn, schema, "new", 30) as (new, _):
                    slow.execute(f"update {schema}.names set owner = 'new', fence = 2".encode())
                    slow.commit()
                    with trio.fail_after(PATIENCE_S):
                        while not got:  # noqa: ASYNC110
                            await trio.sleep(0.01)
                    assert got == [NameHolder("new", 2)]
                    assert await new.holder("index") == NameHolder("new", 2)


async def test_a_worker_that_leaves_lets_go_of_its_names_before_it_is_gone(postgres: Server, schema: str) -> None:
    async with open_store(postgres.dsn, schema, "other", 30) as (other, _):
        async with open_store(postgres.dsn, schema, "one", 30) as (one, _):
            await one.hold("index")
            await one.hold("second")
        assert postgres.query(f"select name, owner, fence from {schema}.names order by name") == [
            ("index", None, 1),
            ("second", None, 1),
        ]
        assert postgres.query(f"select id from {schema}.workers") == [("other",)]
        assert await other.hold("index") == NameHolder("other", 2)


async def test_a_crash_in_the_middle_of_leaving_leaves_no_name_behind(
    postgres: Server, schema: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its epoch has grown, and it still stands there: it has nothing any more, and is forgotten in time."""
    monkeypatch.setattr(leases, "_VANISH", "select $1::text, $2::timestamptz")
    async with open_store(postgres.dsn, schema, "other", 30) as (other, _):
        async with open_store(postgres.dsn, schema, "one", 30) as (one, _):
            await one.hold("index")
        assert postgres.query(f"select id, epoch from {schema}.workers order by id") == [("one", 2), ("other", 1)]
        assert await other.holder("index") is None
        assert await other.hold("index") == NameHolder("other", 2)


async def test_a_dead_worker_is_not_forgotten_while_it_stands_in_a_name(postgres: Server, schema: str) -> None:
    async with open_store(postgres.dsn, schema, "other", 3600) as (other, _):
        async with open_store(postgres.dsn, schema, "dead", 3600) as (dead, _):
            await dead.hold("index")
            postgres.query(f"update {schema}.workers set epoch = 2, until = now() - interval '2 days' where id = 'dead'")
            pool = ConnectionPool(Address.of(postgres.dsn), schema)
            await pool.write(leases._FORGET)
            assert postgres.query(f"select count(*) from {schema}.workers") == [(2,)]

            postgres.query(f"insert into {schema}.workers select 'third', 1, now() - interval '1 s', '', 1, now()")
            await take_over(pool, "other")
            assert sorted(postgres.query(f"select id from {schema}.workers")) == [("other",), ("third",)]
            assert await other.hold("index") == NameHolder("other", 2)
            with pytest.raises(StoreError, match="lease of this worker has ended"):
                await dead.hold("second")
            pool.close()


async def test_names_of_a_worker_that_is_no_longer_known_are_free(postgres: Server, schema: str) -> None:
    async with open_store(postgres.dsn, schema, "other", 30) as (other, _):
        await other.hold("index")
        postgres.query(f"update {schema}.names set owner = 'someone'")
        assert await other.holder("index") is None
        with trio.fail_after(PATIENCE_S):
            assert await other.hold("index") == NameHolder("other", 2)


class _Late:
    """A statement that the server carries out later than it was answered for: the connection had broken meanwhile."""

    def __init__(self, store: PostgresStore) -> None:
        self._pool: Any = store._pool
        self.sent: list[tuple[Any, ...]] = []

    def note(self, monkeypatch: pytest.MonkeyPatch) -> None:
        read = self._pool.read

        async def noted(statement: str, *values: Any) -> Any:
            self.sent.append((statement, *values))
            return await read(statement, *values)

        monkeypatch.setattr(self._pool, "read", noted)

    async def again(self) -> None:
        for statement, *values in list(self.sent):
            await self._pool._run(statement, tuple(values))


async def test_what_the_server_carries_out_late_changes_no_name(
    postgres: Server, schema: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A connection broke, the statement was sent again on another, and the first one comes through after all."""
    async with open_store(postgres.dsn, schema, "one", 30) as (one, _), open_store(postgres.dsn, schema, "two", 30) as (two, _):
        late = _Late(one)
        late.note(monkeypatch)
        assert (await one.hold("index")).fence == 1
        await late.again()
        assert await two.holder("index") == NameHolder("one", 1)
        await one.release_name("index", 1)
        await late.again()
        assert await two.holder("index") is None
        assert await one.hold("index") == NameHolder("one", 2)
        await late.again()
        assert await two.holder("index") == NameHolder("one", 2)
        await one.release_name("index", 2)
        assert await two.hold("index") == NameHolder("two", 3)
        await late.again()
        assert await one.holder("index") == NameHolder("two", 3)


# --- holders that die or are stopped --------------------------------------------------------------------------------------


def started_holder(postgres: Server, schema: str) -> AbstractContextManager[subprocess.Popen[str]]:
    return started("tests.runtime.journal.postgres_holder", postgres.dsn, schema, "index", str(LEASE_S))


@pytest.mark.slow
async def test_the_name_of_a_killed_process_is_the_next_ones_after_the_lease(postgres: Server, schema: str) -> None:
    async with open_runtime(store=PostgresStore(postgres.dsn, schema, lease_s=LEASE_S, migrate=True), worker="heir") as heir:
        with started_holder(postgres, schema) as holder:
            assert await trio.to_thread.run_sync(first_line, holder) == "held 1\n"
            assert str(await heir.registered("index")).startswith("holder-")
            holder.kill()
            with trio.fail_after(PATIENCE_S):
                async with heir.register("index") as held:
                    assert held.fence == 2
                    assert str(await heir.registered("index")).startswith("heir-")


@pytest.mark.slow
async def test_a_stopped_process_that_wakes_up_has_lost_its_name_and_is_given_none(postgres: Server, schema: str) -> None:
    async with open_runtime(store=PostgresStore(postgres.dsn, schema, lease_s=LEASE_S, migrate=True), worker="heir") as heir:
        with started_holder(postgres, schema) as holder:
            assert await trio.to_thread.run_sync(first_line, holder) == "held 1\n"
            os.kill(holder.pid, signal.SIGSTOP)
            with trio.fail_after(PATIENCE_S):
                async with heir.register("index") as held:
                    assert held.fence == 2
                    os.kill(holder.pid, signal.SIGCONT)
                    with patience(holder):
                        said = (await trio.to_thread.run_sync(holder.communicate))[0].splitlines()
                    assert said == ["NameLost", "StoreError"]
                    assert str(await heir.registered("index")).startswith("heir-")


@pytest.mark.slow
@pytest.mark.parametrize("jump_s", [3600.0, -3600.0])
async def test_when_the_servers_clock_jumps_the_older_holder_is_told_and_has_the_smaller_fence(
    postgres: Server, schema: str, jump_s: float
) -> None:
    """Forwards, who lives is taken to be dead: for a moment two think that they have the name, and the fence tells them apart."""
    with shifted_clock(postgres, schema) as (dsn, shift):
        async with open_store(dsn, schema, "first") as (first, lease), open_store(dsn, schema, "second", 7200) as (second, _):
            assert await first.hold("index") == NameHolder("first", 1)
            shift(jump_s)
            held = NameHolder("first", 1)
            with trio.move_on_after(2 * LEASE_S):
                while held.worker == "first":
                    await take_over(second._pool, "second")
                    held = await second.hold("index")
                    await trio.sleep(0.05)
            if jump_s < 0:
                assert held == NameHolder("first", 1)
                assert not lease.lost.is_set()
            elif held == NameHolder("second", 2):
                with trio.fail_after(PATIENCE_S):
                    await lease.lost.wait()
                with pytest.raises(StoreError, match="lease of this worker has ended"):
                    await first.hold("index")
                await first.release_name("index", 1)
                assert await second.holder("index") == NameHolder("second", 2)


# --- news -----------------------------------------------------------------------------------------------------------------


class Key:
    """Opens only what it has sealed itself."""

    def __init__(self, key: bytes) -> None:
        self._key = key

    def seal(self, data: bytes, _: bytes) -> bytes:
        return self._key + data

    def open(self, data: bytes, _: bytes) -> bytes:
        if not data.startswith(self._key):
            raise ValueError("another key")
        return data.removeprefix(self._key)


async def test_news_that_cannot_be_opened_takes_no_other_with_it(postgres: Server, schema: str) -> None:
    async with (
        open_store(postgres.dsn, schema, "one", 30, codec=Key(b"1")) as (one, _),
        open_store(postgres.dsn, schema, "two", 30, codec=Key(b"2")) as (two, _),
        open_store(postgres.dsn, schema, "third", 30, codec=Key(b"1")) as (third, _),
    ):
        await one.announce(b"a")
        await two.announce(b"b")
        await one.announce(b"c")
        heard: list[bytes | StoreDamaged] = []
        with trio.fail_after(PATIENCE_S):
            while len(heard) < 3:
                heard += await third.announced()
        assert heard[::2] == [b"a", b"c"]
        assert isinstance(heard[1], StoreDamaged)
        assert "another key" in str(heard[1])


async def test_news_are_read_once_however_long_a_transaction_is_at_work(
    postgres: Server, schema: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with open_store(postgres.dsn, schema, "one", 30) as (one, _), open_store(postgres.dsn, schema, "two", 30) as (two, _):
        rows: list[tuple[Any, ...]] = []
        read = two._pool.read

        async def counted(statement: str, *values: Any) -> StatementResult:
            answer = await read(statement, *values)
            if "news" in statement:
                rows.extend(row for row in answer.rows if row[1] is not None)
            return answer

        monkeypatch.setattr(two._pool, "read", counted)
        insert = f"insert into {schema}.news(owner, data, at) values ('third', %s, now())".encode()
        with psycopg.connect(postgres.dsn) as slow, trio.fail_after(PATIENCE_S):
            slow.execute(insert, [b"late"])
            for number in range(5):
                await one.announce(b"%d" % number)
                assert list(await two.announced()) == [b"%d" % number]
            assert len(rows) == 5
            slow.commit()
            assert list(await two.announced()) == [b"late"]
            assert len(rows) == 6


# --- opening that fails ---------------------------------------------------------------------------------------------------


def lease_threads() -> list[str]:
    return [each.name for each in threading.enumerate() if each.name.startswith("lease of")]


async def _failing(*_: object) -> None:
    raise StoreError("no news today")


async def _waiting(*_: object) -> None:
    await trio.sleep_forever()


@pytest.mark.parametrize("join", [_failing, _waiting])
async def test_an_open_that_fails_leaves_no_worker_and_no_thread(
    postgres: Server, schema: str, monkeypatch: pytest.MonkeyPatch, join: Callable[..., Any], nursery: trio.Nursery
) -> None:
    store = PostgresStore(postgres.dsn, schema, migrate=True)
    with monkeypatch.context() as patched:
        patched.setattr(PostgresMeeting, "join", join)
        if join is _failing:
            with pytest.raises(StoreError, match="no news today"):
                await store.open("worker", nursery)
        else:
            with trio.move_on_after(1) as scope:
                await store.open("worker", nursery)
            assert scope.cancelled_caught
    assert lease_threads() == []
    assert postgres.query(f"select id from {schema}.workers") == []
    assert store._pool._idle == []

    await store.open("worker", nursery)  # another try
    await store.close()
    assert lease_threads() == []


async def test_an_open_without_a_thread_for_the_lease_is_refused_and_leaves_nothing(
    postgres: Server, schema: str, monkeypatch: pytest.MonkeyPatch, nursery: trio.Nursery
) -> None:
    def start(_: object) -> None:
        raise RuntimeError("can't start new thread")

    store = PostgresStore(postgres.dsn, schema, migrate=True)
    with monkeypatch.context() as patched:
        patched.setattr("threading.Thread.start", start)
        with pytest.raises(StoreError, match="can't start new thread"):
            await store.open("worker", nursery)
    assert postgres.query(f"select id from {schema}.workers") == []
    await store.open("worker", nursery)
    await store.close()


async def test_a_worker_whose_registration_was_not_answered_is_itself(
    postgres: Server, schema: str, nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The connection broke before the answer came; sent again, it finds its own row."""
    async with open_store(postgres.dsn, schema, "other", 30) as (other, _):
        store = PostgresStore(postgres.dsn, schema)
        run = store._pool._run

        async def twice(statement: str, values: tuple[Any, ...]) -> Any:
            if "insert into {s}.workers" in statement:
                await run(statement, values)
            return await run(statement, values)

        monkeypatch.setattr(store._pool, "_run", twice)
        await store.open("worker", nursery)
        with pytest.raises(StoreInUse):
            await PostgresStore(postgres.dsn, schema).open("worker", nursery)
        assert await store.hold("index") == NameHolder("worker", 1)
        await store.close()
        assert await other.holder("index") is None
