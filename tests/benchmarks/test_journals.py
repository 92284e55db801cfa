"""The benchmark of recorded steps runs; what it measures is not judged here."""

from __future__ import annotations

import pytest

from tests.benchmarks import journal_costs
from tests.benchmarks.journals import measured


@pytest.mark.slow
@pytest.mark.chaos
def test_every_system_that_is_installed_is_measured():
    best = measured(rounds=1, runs=1)

    assert {"no store", "MemoryStore", "SqliteStore, paid", "SqliteStore, always"} <= set(best)
    assert all(0 < cost < float("inf") for cost in best.values())


@pytest.mark.slow
@pytest.mark.chaos
def test_calls_resuming_and_the_file_are_measured():
    best = journal_costs.measured(passes=1, calls=2, records=20)

    assert len(best) == 5
    assert all(0 < cost.wall_us < float("inf") for cost in best.values())
