"""Several stores as one: where each run is, what happens when one of them is lost, and pages over all of them."""

from __future__ import annotations

import math

import pytest
import trio

from actors import DeclarationError, StoreError
from runtime import open_runtime
from runtime.journal import MemoryStore, PostgresStore, SplitStore, SqliteStore
from runtime.journal.store import RunQuery
from runtime.testing.stores.samples import create, new_run, opened
from tests.runtime.journal.letters import Order, Sent, letters
from tests.runtime.journal.postgres_server import Server

RUNS = [f"order-{number}" for number in range(40)]


async def test_runs_are_in_all_of_them_and_listed_newest_first_page_by_page(autojump_clock):
    parts = [MemoryStore() for _ in range(3)]
    async with opened(lambda: SplitStore(parts)) as store:
        for run in RUNS:
            await create(store, new_run(run))
            await trio.sleep(1)
        counts = [len((await part.runs(RunQuery())).items) for part in parts]
        assert min(counts) > 3
        for limit in (1, 7, 40, 100):
            listed, after = [], None
            for _ in range(math.ceil(len(RUNS) / limit) + 1):
                page = await store.runs(RunQuery(limit=limit, after=after))
                assert len(page.items) <= limit
                listed += [run.id for run in page.items]
                after = page.after
                if after is None:
                    break
            assert listed == RUNS[::-1]
            assert after is None


async def test_stores_in_another_order_are_rejected_before_anything_is_lost_in_them(autojump_clock):
    parts = [MemoryStore() for _ in range(3)]
    async with opened(lambda: SplitStore([part.beside() for part in parts])) as store:
        for run in RUNS:
            await create(store, new_run(run))
    for others in ([parts[1], parts[0], parts[2]], parts[:2]):
        with pytest.raises(StoreError, match="belongs in store"):
            async with open_runtime(store=SplitStore([part.beside() for part in others])):
                pass
    async with opened(lambda: SplitStore([part.beside() for part in parts])) as store:
        assert [await store.run(run) is not None for run in RUNS] == [True] * len(RUNS)


async def test_an_owner_that_has_lost_one_of_them_hands_back_its_runs_in_the_others(autojump_clock):
    parts = [MemoryStore(), MemoryStore()]
    begun: list[str] = []
    async with open_runtime(store=SplitStore([part.beside() for part in parts])) as second:
        first_parts = [part.beside() for part in parts]
        async with open_runtime(store=SplitStore(first_parts)) as first:
            for number in range(8):
                await first.start(letters(begun.append, trio.sleep_forever), Order(number), run_id=f"order-{number}")
            await trio.sleep(1)
            first_parts[1].crash()
            await trio.sleep(1)
            await second.deploy(letters(begun.append, trio.lowlevel.checkpoint))
            for number in range(8):
                handle = await second.handle(f"order-{number}")
                assert await handle.result() == Sent(f"order-{number}")


async def test_runs_are_claimed_of_the_others_while_one_is_away(autojump_clock):
    parts = [MemoryStore(), MemoryStore()]
    async with opened(lambda: SplitStore(parts)) as store:
        for run in RUNS:
            await create(store, new_run(run, here=False))
        there = {run.id for run in (await parts[1].runs(RunQuery())).items}
        parts[0].cut_off()
        assert {run.id for run in await store.claim({("g", "1")}, 100)} == there
        with pytest.raises(StoreError, match="cut off"):
            await store.claim({("g", "1")}, 100)
        parts[0].heal()
        assert len(await store.claim({("g", "1")}, 100)) == len(RUNS) - len(there)


def test_what_cannot_be_split_is_rejected(tmp_path):
    with pytest.raises(DeclarationError, match="there is no store"):
        SplitStore([])
    with pytest.raises(DeclarationError, match="a SqliteStore is for one process"):
        SplitStore([SqliteStore(tmp_path / "a.db"), MemoryStore()])


@pytest.mark.slow
async def test_runs_on_two_databases_end_and_each_has_some(postgres: Server, schema: str) -> None:
    schemas = [f"{schema}_a", f"{schema}_b"]
    try:
        store = SplitStore([PostgresStore(postgres.dsn, each, migrate=True) for each in schemas])
        graph = letters(lambda _: None, trio.lowlevel.checkpoint)
        with trio.fail_after(60):
            async with open_runtime(store=store, graphs=[graph]) as runtime:
                handles = [await runtime.start(graph, Order(number), run_id=f"order-{number}") for number in range(12)]
                assert [await handle.result() for handle in handles] == [Sent(f"order-{number}") for number in range(12)]
        counts = [postgres.query(f"select count(*) from {each}.runs")[0][0] for each in schemas]
        assert sum(counts) == 12
        assert all(counts)
    finally:
        for each in schemas:
            postgres.query(f"drop schema if exists {each} cascade")
