"""The contract of stores, on each store of ours."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Literal

import pytest

from runtime.journal import MemoryStore, SqliteStore
from runtime.testing.stores.contract import StoreContract
from runtime.testing.stores.samples import MakeStore
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
