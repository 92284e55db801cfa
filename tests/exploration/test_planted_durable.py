"""Exploration with crashes finds planted durability bugs within its default number of runs, and nothing in the real code."""

from __future__ import annotations

import pytest

from actors.errors import UsageError
from runtime.testing import Ending, Exploration, FoundFailure, Simulation, explore, find_failure, replay
from tests.exploration.planted_durable import (
    PLANTED,
    Planted,
    fan_out,
    gathers,
    result,
    what_was_done_once_is_forgotten,
)

by_name = pytest.mark.parametrize("bug", PLANTED, ids=lambda bug: bug.name)
programs = pytest.mark.parametrize("program", dict.fromkeys(bug.program for bug in PLANTED), ids=lambda each: each.__name__)
ONCE = next(bug for bug in PLANTED if bug.plant is what_was_done_once_is_forgotten)


def found(bug: Planted, exploration: Exploration) -> FoundFailure:
    failure = find_failure(bug.program, exploration, name=bug.name)
    assert failure is not None, f"{bug.name} was not found"
    return failure


@by_name
def test_a_planted_durability_bug_is_found(bug: Planted, monkeypatch) -> None:
    bug.plant(monkeypatch)

    failure = found(bug, Exploration(crashes=1, shrink_attempts=0))

    assert failure.repeats
    assert failure.run > 1  # the first run has no crash, and shows none of them
    assert any("the process ends" in text for _, text in failure.happenings)


@pytest.mark.parametrize("crashes", [1, 2])
@programs
def test_without_the_patch_nothing_is_found(program, crashes) -> None:
    """With two, the life that goes on after the first crash ends as well, while it reads what is there or after that."""
    assert find_failure(program, Exploration(crashes=crashes, runs=12)) is None


@pytest.mark.chaos
@pytest.mark.parametrize("crashes", [1, 2, 3])
@programs
def test_without_the_patch_nothing_is_found_in_thousands_of_schedules_either(program, crashes) -> None:
    failure = find_failure(program, Exploration(crashes=crashes, runs=2_000))
    assert failure is None


def test_of_many_crashes_one_is_left_when_the_failure_is_simple(monkeypatch) -> None:
    ONCE.plant(monkeypatch)
    exploration = Exploration(crashes=4, seed=2, shrink_attempts=120)

    failure = found(ONCE, exploration)
    again = replay(ONCE.program, failure.schedule, exploration)

    ends = [text for _, text in failure.happenings if "the process ends" in text]
    assert len(ends) == 1
    assert f"! {ends[0]}" in failure.report()
    assert failure.overtakings == 0
    assert again is not None
    assert str(again.error) == str(failure.error)
    assert again.schedule == failure.schedule


def test_lives_that_are_cancelled_hand_their_runs_to_the_next(request) -> None:
    graph, ended = fan_out(), set[str]()

    async def program(sim: Simulation) -> None:
        made = await sim.lives(lambda store: result(sim, graph, store), endings=list(Ending))
        assert made.n == [0, 1, 4]
        ended.update(note.partition("ends: ")[2] for note in sim.notes if "the process ends" in note)

    assert find_failure(program, Exploration(crashes=2, runs=40)) is None
    assert {f"{ending} a record" for ending in Ending} <= ended


@explore(runs=20)
async def test_without_crashes_there_is_one_life(sim: Simulation) -> None:
    lives = 0

    async def life(store):
        nonlocal lives
        lives += 1
        return await result(sim, fan_out(), store)

    await sim.lives(life)
    assert lives == 1


def test_a_test_that_leads_no_lives_cannot_crash() -> None:
    @explore(crashes=1, runs=3)
    async def leads_none() -> None:
        pass

    with pytest.raises(UsageError, match=r"crashes=1, and it has led no lives that could end.\n  Fix: await sim"):
        leads_none()


def test_a_calm_run_crashes_no_more() -> None:
    async def calm(sim: Simulation) -> None:
        sim.calm()
        await gathers(sim)
        assert not any("the process ends" in note for note in sim.notes)

    assert find_failure(calm, Exploration(crashes=1, runs=20)) is None
