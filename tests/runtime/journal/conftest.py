from __future__ import annotations

import itertools
from collections.abc import Iterator

import pytest

from tests.runtime.journal.postgres_server import Server, running

_numbers = itertools.count(1)


@pytest.fixture(scope="session")
def postgres() -> Iterator[Server]:
    """One server for all tests of this process; each works in a schema of its own."""
    with running() as server:
        yield server


@pytest.fixture
def schema(postgres: Server) -> Iterator[str]:
    name = f"test_{next(_numbers)}"
    yield name
    postgres.query(f"drop schema if exists {name} cascade")
