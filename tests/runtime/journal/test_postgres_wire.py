from __future__ import annotations

import inspect
import math
import pickle
from datetime import UTC, datetime

import psycopg
import pytest
import trio
import trio.lowlevel
from hypothesis import given
from hypothesis import strategies as st
from psycopg import generators, pq
from psycopg.waiting import Ready, Wait

from actors.errors import UsageError
from actors.store_errors import StoreUnavailable
from runtime.journal import postgres_values as values
from runtime.journal.postgres_wire import Address, BlockingConnection, ConnectionLost, PostgresConnection, Rejected, monotonic
from tests.runtime.journal.postgres_server import PASSWORD, Server


def test_the_parts_of_psycopg_that_are_used_are_as_in_the_release_that_was_tried() -> None:
    """They aren't its published interface: a release without them, or with others, must not be allowed by pyproject.toml."""
    assert psycopg.__version__.startswith("3.3.")
    assert [int(each) for each in (Wait.R, Wait.W, Wait.RW, Ready.R, Ready.W, Ready.RW)] == [1, 2, 3, 1, 2, 3]
    for name, parameters in {"_connect": ["conninfo"], "_execute": ["pgconn"], "notifies": ["pgconn"]}.items():
        assert list(inspect.signature(getattr(generators, name)).parameters) == parameters
        assert inspect.isgeneratorfunction(getattr(generators, name))
    used = {"send_query_params", "send_prepare", "send_query_prepared", "socket", "status", "transaction_status", "finish"}
    assert used <= set(dir(pq.PGconn))


@given(st.text(st.characters(codec=None)))
def test_any_text_comes_back_from_a_column_of_text(text: str) -> None:
    """Neither NUL nor a lone surrogate can be in one."""
    stored = values.text(text)

    assert b"\0" not in stored
    assert values.read_text(stored) == text


async def test_values_come_back_as_they_went(postgres: Server) -> None:
    now = datetime(2026, 11, 28, 18, 0, 0, 123456, tzinfo=UTC)
    connection = await PostgresConnection.open(Address.of(postgres.dsn))

    answer = await connection.run(
        "select $1::text, $2::int, $3::bigint, $4::float8, $5::bytea, $6::timestamptz, $7::bool, $8::text[], $9::text",
        "a'\"\\\0\ud800ü", 7, 2**40, math.pi, b"\x00\xff", now, True, values.texts(["x", "", "ü{}"]), None,
    )  # fmt: skip
    arrays = await connection.run(
        "select * from unnest($1::text[], $2::int[], $3::int2[], $4::float8[], $5::bytea[], $6::bigint[])",
        values.texts(["a", "b"]), values.ints([1, -2]), values.shorts([3, 4]), values.floats([0.1, math.inf]),
        values.blobs([None, b""]), values.longs([2**32, -1]),
    )  # fmt: skip
    connection.close()

    assert answer.rows == [("a'\"\\\0\ud800ü", 7, 2**40, math.pi, b"\x00\xff", now, True, ("x", "", "ü{}"), None)]
    assert arrays.rows == [("a", 1, 3, 0.1, None, 2**32), ("b", -2, 4, math.inf, b"", -1)]


async def test_a_large_statement_and_a_large_answer_pass_while_others_run(postgres: Server) -> None:
    """Both sides write at the same time, and neither waits for the other."""
    connection = await PostgresConnection.open(Address.of(postgres.dsn))
    ticks = 0

    async def tick() -> None:
        nonlocal ticks
        while True:
            await trio.lowlevel.checkpoint()
            ticks += 1

    async with trio.open_nursery() as nursery:
        nursery.start_soon(tick)
        data = bytes(range(256)) * 2**16
        answer = await connection.run("select $1::bytea", data)
        nursery.cancel_scope.cancel()
    connection.close()

    assert answer.rows == [(data,)]
    assert ticks > 3


async def test_a_statement_that_is_cancelled_closes_its_connection(postgres: Server) -> None:
    """Else the next statement would be given its answer."""
    connection = await PostgresConnection.open(Address.of(postgres.dsn))
    with trio.move_on_after(0.05):
        await connection.run("select pg_sleep(10)")

    assert not connection.is_open
    with pytest.raises(ConnectionLost):
        await connection.run("select 1")


async def test_no_answer_in_time_is_a_lost_connection(postgres: Server) -> None:
    connection = await PostgresConnection.open(Address.of(postgres.dsn))
    blocking = await trio.to_thread.run_sync(BlockingConnection.open, Address.of(postgres.dsn))

    with pytest.raises(ConnectionLost, match=r"no answer within 0\.05 s"):
        await connection.run("select pg_sleep(10)", patience_s=0.05)
    with pytest.raises(ConnectionLost, match="no answer in time"):
        await trio.to_thread.run_sync(lambda: blocking.run("select pg_sleep(10)", patience_s=0.05))


async def test_a_rejected_statement_says_why_and_leaves_the_connection_open(postgres: Server) -> None:
    """Its first line only: the others may show what is stored."""
    connection = await PostgresConnection.open(Address.of(postgres.dsn))
    await connection.run("create temporary table t(id int primary key, secret text)")
    await connection.run("insert into t values (1, 'hush')")

    with pytest.raises(Rejected) as caught:
        await connection.run("insert into t values (1, 'hush')")

    assert caught.value.sqlstate == "23505"
    assert "duplicate key value violates unique constraint" in str(caught.value)
    assert "(1)" not in str(caught.value)
    assert pickle.loads(pickle.dumps(caught.value)).sqlstate == "23505"
    assert (await connection.run("select 1")).rows == [(1,)]
    connection.close()


async def test_a_prepared_statement_that_a_pooler_has_lost_is_sent_whole(postgres: Server) -> None:
    """A pooler in transaction mode gives each transaction another session of the server."""
    connection = await PostgresConnection.open(Address.of(postgres.dsn))
    assert (await connection.run("select $1::int", 1, prepare=True)).rows == [(1,)]
    await connection.run("deallocate all")

    assert (await connection.run("select $1::int", 2, prepare=True)).rows == [(2,)]
    connection.close()


async def test_a_password_goes_over_tcp_and_into_no_error(postgres: Server) -> None:
    connection = await PostgresConnection.open(Address.of(postgres.address().replace("127.0.0.1", "localhost")))
    assert (await connection.run("select 1")).rows == [(1,)]
    connection.close()
    wrong = postgres.address().replace("%25", "x")

    with pytest.raises(StoreUnavailable) as refused:
        await PostgresConnection.open(Address.of(wrong))
    with pytest.raises(StoreUnavailable) as nobody_there:
        await PostgresConnection.open(Address.of(postgres.address(port=1)))
    with pytest.raises(UsageError) as unreadable:
        Address.of(f"postgresql://user:{PASSWORD}@host:port/db")

    assert "password authentication failed" in str(refused.value)
    for error in (refused.value, nobody_there.value, unreadable.value):
        assert "Fix:" in str(error)
        assert "p@ss" not in f"{error!r}{error.__context__!r}"
        assert "p%40ss" not in f"{error}{error.__context__}"
    assert repr(Address.of(wrong)) == f"127.0.0.1:{postgres.port}/postgres"


async def test_of_several_hosts_the_first_that_answers_is_taken(postgres: Server) -> None:
    address = Address.of(f"postgresql://understudy:p%40ss%2Fw%3Ard%20%25@localhost:1,localhost:{postgres.port}/postgres")
    connection = await PostgresConnection.open(address)

    assert (await connection.run("select 1")).rows == [(1,)]
    connection.close()


async def test_a_thread_has_a_connection_of_its_own(postgres: Server) -> None:
    def ask() -> object:
        connection = BlockingConnection.open(Address.of(postgres.dsn))
        rows = connection.run("select $1::int", 3, patience_s=10).rows
        connection.close()
        return rows

    before = monotonic()

    assert await trio.to_thread.run_sync(ask) == [(3,)]
    assert monotonic() > before
