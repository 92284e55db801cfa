"""The contract of stores, on each store of ours."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Literal

import pytest

from runtime.journal import MemoryStore, SplitStore, SqliteStore
from runtime.testing.stores.contract import StoreContract
from runtime.testing.stores.samples import MakeStore, create, journal, new_run, opened, record, written
from tests.runtime.journal.cancelled import CancelledContract


class TestMemoryStore(StoreContract, CancelledContract):
    @pytest.fixture
    def make_store(self) -> MakeStore:
        return MemoryStore().beside


class TestSqliteStore(StoreContract, CancelledContract):
    @pytest.fixture(params=["paid", "always", "never"])
    def make_store(self, request: pytest.FixtureRequest, tmp_path: Path) -> MakeStore:
        sync: Literal["paid", "always", "never"] = request.param
        return partial(SqliteStore, tmp_path / "runs.db", sync)


class TestSplitStore(StoreContract, CancelledContract):
    """Two stores of which each has some of the runs."""

    @pytest.fixture
    def make_store(self) -> MakeStore:
        parts = [MemoryStore(), MemoryStore()]
        return lambda: SplitStore([each.beside() for each in parts])

    async def test_due_runs_are_claimed_once_and_of_known_graphs_only(self, make_store: MakeStore) -> None:
        """The longest due come first within each of its stores, and so not always first of all."""
        async with opened(make_store) as store:
            for number in range(20):
                await create(store, new_run(f"r{number}", here=False))
            assert await store.claim({("g", "3")}, 10) == []
            claimed = list(await store.claim({("g", "1")}, 2))
            assert len(claimed) == 2
            claimed += await store.claim({("g", "1")}, 5)
            assert len(claimed) == 7
            claimed += await store.claim({("g", "1")}, 100)
            assert sorted(run.id for run in claimed) == sorted(f"r{number}" for number in range(20))
            assert await store.claim({("g", "1")}, 5) == []

    async def test_runs_that_are_written_together_keep_to_themselves(self, make_store: MakeStore) -> None:
        """One that doesn't fit stops those in its own store, since no step holds over two. No run writes with another there."""
        async with opened(make_store) as store:
            for name in ("a", "b"):
                await create(store, new_run(name))
            rows = [record(store, seq, run=name, data=f'"{name}{seq}"'.encode()) for seq in (2, 3) for name in ("a", "b")]

            assert await written(store, *rows) is None
            assert await written(store, record(store, 4, run="a"), record(store, 5, run="b")) is not None

            assert [row.data for row in await journal(store, "b")][1:] == [b'"b2"', b'"b3"']
