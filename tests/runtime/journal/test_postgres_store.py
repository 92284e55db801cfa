from __future__ import annotations

import pytest

from runtime.journal.postgres import PostgresStore
from runtime.testing.stores import MakeStore, StoreContract
from tests.runtime.journal.postgres_server import Server


class TestPostgresStore(StoreContract):
    @pytest.fixture
    def make_store(self, postgres: Server, schema: str) -> MakeStore:
        return lambda: PostgresStore(postgres.dsn, schema, migrate=True)
