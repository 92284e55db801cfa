"""The benchmark of recorded steps runs; what it measures is not judged here."""

from __future__ import annotations

import pytest

from tests.benchmarks import journal_costs
from tests.benchmarks.journal_costs import Cost
from tests.benchmarks.journals import measured, verdicts


def test_targets_are_judged_where_both_sides_were_measured():
    best = {"no store": 5.0, "SqliteStore, paid": 30.0, "LangGraph SqliteSaver, sync": 1_000.0}

    assert list(verdicts(best)) == [
        "target: SqliteStore, paid: 6 × no store, at most 4: MISSED",
        "target: SqliteStore, paid: 0.03 × LangGraph SqliteSaver, sync, at most 0.05: met",
    ]


def test_targets_of_calls_resuming_and_the_file_are_judged():
    disk, size = Cost(300.0, 10.0), Cost(129.0, 129.0)
    best = {
        journal_costs.BARE: Cost(1_500.0, 400.0),
        journal_costs.STORED: Cost(2_000.0, 470.0),
        journal_costs.DISK: disk,
        journal_costs.RESUMING: Cost(25.0, 21.0),
        journal_costs.FILE: size,
    }

    assert list(journal_costs.verdicts(best)) == [
        "target: a call: 200 µs more than without a store and one sync, at most 80: MISSED",
        "target: a call, processor: 70 µs more than without a store, at most 80: met",
        "target: resuming, a record: 21 µs, at most 20: MISSED",
        "target: the file, a record: 129 bytes beside its data, at most 130: met",
    ]


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

    assert len(best) == 6
    assert all(0 < cost.wall_us < float("inf") for cost in best.values())
