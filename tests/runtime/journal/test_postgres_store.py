from __future__ import annotations

import itertools
from contextlib import AbstractAsyncContextManager
from functools import partial

import attrs
import pytest
import trio

from actors.errors import DeclarationError, UsageError
from actors.store_errors import RunLost, StoreDamaged, StoreError, StoreTooNew, StoreUnavailable
from runtime.cli.main import main
from runtime.journal import postgres_schema
from runtime.journal.meeting import NameHolder
from runtime.journal.postgres import PostgresStore
from runtime.journal.postgres_schema import MIGRATIONS
from runtime.journal.store import Posted, PostedKind, RunQuery, Store
from runtime.testing.stores.contract import StoreContract
from runtime.testing.stores.samples import MakeStore, create, journal, new_run, opened, record, written
from tests.runtime.journal.cancelled import CancelledContract
from tests.runtime.journal.postgres_server import Server


class TestPostgresStore(StoreContract, CancelledContract):
    @pytest.fixture
    def make_store(self, postgres: Server, schema: str) -> MakeStore:
        return lambda: PostgresStore(postgres.dsn, schema, migrate=True)


def opened_on(store: PostgresStore) -> AbstractAsyncContextManager[Store]:
    return opened(lambda: store)


async def test_tables_are_made_by_those_who_ask_for_it_and_by_one_of_them(postgres: Server, schema: str) -> None:
    with pytest.raises(StoreError, match="has no tables of a store") as caught:
        await PostgresStore(postgres.dsn, schema).run("r")
    made: list[int] = []

    async def migrate() -> None:
        made.append(await PostgresStore(postgres.dsn, schema).migrate())

    async with trio.open_nursery() as nursery:
        for _ in range(5):
            nursery.start_soon(migrate)

    assert "Fix: run `understudy store migrate" in str(caught.value)
    assert sorted(made) == [0, 0, 0, 0, len(MIGRATIONS)]
    async with opened_on(PostgresStore(postgres.dsn, schema)) as store:
        await create(store)


async def test_a_migration_that_is_cut_short_leaves_nothing(
    postgres: Server, schema: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgres_schema, "MIGRATIONS", (*MIGRATIONS, "create table {s}.more(id int); create nonsense"))

    with pytest.raises(StoreError, match="syntax error"):
        await PostgresStore(postgres.dsn, schema).migrate()
    monkeypatch.undo()

    assert postgres.query("select 1 from pg_namespace where nspname = %s", schema) == []
    assert await PostgresStore(postgres.dsn, schema).migrate() == len(MIGRATIONS)


async def test_the_tables_of_a_later_release_are_left_alone(postgres: Server, schema: str) -> None:
    await PostgresStore(postgres.dsn, schema).migrate()
    postgres.query(f"update {schema}.meta set value = '99'")

    store = PostgresStore(postgres.dsn, schema)
    for call in (partial(store.run, "r"), store.migrate):
        with pytest.raises(StoreTooNew, match=f"version 99 of the tables; this release knows {len(MIGRATIONS)}"):
            await call()


def test_the_command_line_makes_the_tables_and_lists_the_runs(postgres: Server, capsys: pytest.CaptureFixture[str]) -> None:
    address = postgres.address()
    assert main(["runs", "list", "--store", address]) == 1
    assert "understudy store migrate" in capsys.readouterr().err

    assert main(["store", "migrate", "--store", address]) == 0
    assert main(["store", "migrate", "--store", address]) == 0
    assert main(["runs", "list", "--store", address]) == 0
    said = capsys.readouterr().out
    postgres.query("drop schema understudy cascade")

    assert said.splitlines()[:2] == [
        "the store is up to date; its tables were brought to this release's form",
        "the store is up to date",
    ]


async def test_who_only_looks_or_posts_need_not_open_it(postgres: Server, schema: str) -> None:
    other = PostgresStore(postgres.dsn, schema)
    async with opened_on(PostgresStore(postgres.dsn, schema, migrate=True)) as store:
        await create(store)

        assert [run.id for run in (await other.runs(RunQuery())).items] == ["r"]
        assert len(await journal(other)) == 1
        assert await other.post(Posted("r", PostedKind.CANCEL, ""))
        assert [item.kind for item in await store.posted()] == [PostedKind.CANCEL]
        with pytest.raises(StoreError, match="was not opened"):
            await other.claim({("g", "1")}, 1)
        assert isinstance(await written(other, record(store, 2)), RunLost)
    await other.close()
    with pytest.raises(StoreError, match="is closed"):
        await other.run("r")


async def test_a_record_that_cannot_be_written_stops_no_other_run(postgres: Server, schema: str) -> None:
    """They go to the server in one statement, which it rejects as a whole."""
    async with opened_on(PostgresStore(postgres.dsn, schema, migrate=True)) as store:
        for name in ("good", "bad"):
            await create(store, new_run(name))
        broken = attrs.evolve(record(store, 2, run="bad"), at="yesterday")  # type: ignore[arg-type]
        outcomes: list[object] = []

        store.append([record(store, 2, run="good")], False, outcomes.append)
        store.append([broken], False, outcomes.append)
        store.append([record(store, 3, run="bad")], False, outcomes.append)
        store.append([record(store, 3, run="good")], False, outcomes.append)
        assert await written(store, record(store, 4, run="good")) is None

        assert [type(outcome).__name__ for outcome in outcomes] == ["NoneType", "Rejected", "Rejected", "NoneType"]
        assert len(await journal(store, "bad")) == 1
        assert await written(store, record(store, 2, run="bad")) is None


@pytest.mark.slow
async def test_more_than_ten_thousand_records_do_not_wait(postgres: Server, schema: str) -> None:
    """Those beyond are given back, and everything behind them of the same run, so that it can be appended again in order."""
    async with opened_on(PostgresStore(postgres.dsn, schema, migrate=True)) as store:
        await create(store)
        rows = [record(store, seq) for seq in range(2, 10_006)]
        outcomes: list[object] = []

        for row in rows:
            store.append([row], False, outcomes.append)
        assert outcomes == []
        with trio.fail_after(60):
            while len(outcomes) < len(rows):  # noqa: ASYNC110
                await trio.sleep(0.01)

        refused = [row for row, outcome in zip(rows, outcomes, strict=True) if outcome is not None]
        assert [row.seq for row in refused] == [10_002, 10_003, 10_004, 10_005]
        assert {type(outcome) for outcome in outcomes} == {type(None), StoreUnavailable}
        assert await written(store, *refused) is None
        assert await journal(store, after=1) == rows
        assert store.statistics()["queued"] == 0


class Xor:
    """Seals nothing in truth, but binds data to its row, and never gives the same bytes twice."""

    def __init__(self) -> None:
        self._salt = itertools.count(1)

    def seal(self, data: bytes, about: bytes) -> bytes:
        return b"%d:" % next(self._salt) + about + b"|" + bytes(each ^ 0x5A for each in data)

    def open(self, data: bytes, about: bytes) -> bytes:
        head, _, rest = data.partition(b"|")
        if not head.endswith(b":" + about):
            raise ValueError("of another row")
        return bytes(each ^ 0x5A for each in rest)


async def test_what_is_sealed_is_opened_in_its_own_row_only(postgres: Server, schema: str) -> None:
    async with opened_on(PostgresStore(postgres.dsn, schema, codec=Xor(), migrate=True)) as store:
        await create(store, data=b'"secret 1"')
        rows = [record(store, 2, data=b'"secret 2"'), record(store, 3, data=None)]
        assert [await written(store, row) for row in rows] == [None, None]
        assert await written(store, rows[0]) is None, "sealed again, it is other bytes and the same record"

        assert (await journal(store))[1:] == rows
        assert postgres.query(f"select 1 from {schema}.journal where position('secret'::bytea in data) > 0") == []
        postgres.query(f"update {schema}.journal j set data = (select data from {schema}.journal where seq = 1) where seq = 2")
        with pytest.raises(StoreDamaged, match="record 2 of run 'r' could not be opened by the store's codec") as caught:
            await journal(store)
        assert "secret" not in str(caught.value)


@pytest.mark.parametrize("name", ["", "1st", 'x"; drop', "a.b", "ä", "x" * 64])
def test_a_schema_has_a_plain_name(name: str) -> None:
    with pytest.raises(UsageError, match="Fix: choose such a name for the schema"):
        PostgresStore("postgresql://localhost/x", name)


def test_a_store_shows_its_address_and_no_password() -> None:
    store = PostgresStore("postgresql://anna:hush@db.example:6432/app?sslmode=verify-full")

    assert repr(store) == "PostgresStore(db.example:6432/app, schema='understudy')"
    with pytest.raises(DeclarationError, match="expected 'paid', 'always' or 'never'"):
        PostgresStore("postgresql://localhost/x", sync="sometimes")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    with pytest.raises(DeclarationError, match="a number of seconds > 0"):
        PostgresStore("postgresql://localhost/x", lease_s=0)


async def test_the_name_of_a_worker_that_was_given_up_is_another_ones_and_news_are_sealed(
    postgres: Server, schema: str, nursery: trio.Nursery
) -> None:
    one, other = (PostgresStore(postgres.dsn, schema, migrate=True, codec=Xor()) for _ in range(2))
    await one.open("one", nursery)
    await other.open("other", nursery)
    assert (await one.hold("index")).fence == 1
    postgres.query(f"update {schema}.workers set epoch = epoch + 1 where id = 'one'")

    assert await other.holder("index") is None
    assert await other.hold("index") == NameHolder("other", 2)
    await other.announce(b"a secret")
    assert await one.announced() == [b"a secret"]
    assert b"a secret" not in bytes(postgres.query(f"select data from {schema}.news")[0][0])
    await one.close()
    await other.close()
