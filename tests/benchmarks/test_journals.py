"""The benchmark of recorded steps runs; what it measures is not judged here."""

from __future__ import annotations

import pytest

from tests.benchmarks.journals import measured


@pytest.mark.slow
def test_every_system_that_is_installed_is_measured():
    best = measured(rounds=1, runs=1)

    assert {"no store", "MemoryStore", "SqliteStore, paid", "SqliteStore, always"} <= set(best)
    assert all(0 < cost < float("inf") for cost in best.values())
