"""Exploration finds ten planted bugs within its default number of runs, and finds nothing in the same programs fixed."""

from __future__ import annotations

import re
from functools import partial

import pytest

from runtime.testing import FoundFailure, Simulation, explore, find_failure, replay
from tests.exploration.planted import PLANTED, Planted, double_spend, lock_order, lost_update, mailbox_cycle, permit_leak

by_name = pytest.mark.parametrize("bug", PLANTED, ids=lambda bug: bug.__name__)


def found(bug: Planted) -> FoundFailure:
    failure = find_failure(partial(bug, fixed=False), name=bug.__name__)
    assert failure is not None, f"{bug.__name__} was not found"
    return failure


@by_name
def test_a_planted_bug_is_found_made_simple_and_replayed(bug: Planted) -> None:
    failure = found(bug)

    again = replay(partial(bug, fixed=False), failure.schedule)

    assert isinstance(failure.error, AssertionError)
    assert failure.overtakings <= min(9, failure.choices_found)
    assert again is not None
    assert str(again.error) == str(failure.error)
    assert again.steps == failure.steps


@by_name
@explore(runs=200)
async def test_the_fixed_program_holds_under_every_schedule(bug: Planted, sim: Simulation) -> None:
    await bug(sim, fixed=True)


def test_the_trace_of_a_lost_update_shows_both_reads_before_the_writes() -> None:
    report = found(lost_update).report()

    steps = [re.sub(r" +", " ", line.partition(" s  ")[2]) for line in report.splitlines()]
    reads = [number for number, line in enumerate(steps) if "euros = await account.ask(Balance())" in line and "from" in line]
    writes = [number for number, line in enumerate(steps) if "account.tell(SetBalance(euros + 10))" in line]
    assert len(reads) == len(writes) == 2
    assert max(reads) < max(writes)
    assert "account handles Balance" in steps
    assert report.splitlines()[-1].startswith("Replay: pytest 'lost_update' --understudy-replay='")


def test_a_deadlock_of_locks_names_the_cycle() -> None:
    lines = str(found(lock_order).error).splitlines()

    assert re.fullmatch(r"nothing can run and no deadline is pending, at 0 s, after \d+ steps:", lines[0])
    assert re.fullmatch(r"  sell waits for the Lock that refund holds   \[planted\.py:\d+ in sell\]", lines[2])
    assert re.fullmatch(r"  refund waits for the Lock that sell holds   \[planted\.py:\d+ in refund\]", lines[3])
    assert lines[4] == "  Cycle: refund -> sell -> refund"


def test_a_deadlock_of_mailboxes_names_the_cycle() -> None:
    text = str(found(mailbox_cycle).error)

    assert "  kitchen waits for room in the mailbox of 'waiter' (2 of 2 full)   [planted.py:" in text
    assert text.splitlines()[-1] == "  Cycle: waiter -> kitchen -> waiter"


def test_a_leaked_permit_is_seen_as_a_wait_that_nobody_can_end() -> None:
    lines = str(found(permit_leak).error).splitlines()

    assert len(lines) == 2
    assert re.fullmatch(r"  main waits for a Semaphore at 0   \[planted\.py:\d+ in permit_leak\]", lines[1])


def test_a_bug_of_timing_needs_no_overtaking() -> None:
    """The seed alone decides the latencies, so the simplest schedule is arrival order."""
    failure = found(double_spend)

    assert failure.schedule.choices == ()
    assert failure.schedule.seed > 0
