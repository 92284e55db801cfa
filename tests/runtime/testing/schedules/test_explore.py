from __future__ import annotations

import inspect
import json
import random
import re
import signal
import uuid
from pathlib import Path

import attrs
import pytest
import trio

from actors.errors import DeclarationError, UsageError
from runtime.testing import Exploration, Schedule, Simulation, explore, find_failure, replay
from runtime.testing.schedules.search import Overrides, overrides


async def racy(sim: Simulation) -> None:
    """Fails when the second task overtakes the first."""
    order: list[str] = []

    async def work(name: str) -> None:
        await trio.lowlevel.checkpoint()
        order.append(name)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(work, "first", name="first")
        nursery.start_soon(work, "second", name="second")
    assert order == ["first", "second"]


def test_the_first_failure_is_found_and_made_simple() -> None:
    failure = find_failure(racy, name="racy")

    assert failure is not None
    assert failure.overtakings == 1
    assert re.fullmatch(
        r"Found by [\w -]+(, depth \d)? in run \d+, seed \d+; simplified from \d+ to 1 choices out of turn \(marked \*\)\.",
        failure.report().splitlines()[0],
    )


def test_a_test_that_holds_finds_nothing() -> None:
    async def holds(sim: Simulation) -> None:
        await trio.sleep(3600)

    assert find_failure(holds, Exploration(runs=20)) is None


def test_the_strategy_may_be_named_or_made() -> None:
    for strategy in ("random", "pct", "partial-order", "batch"):
        assert find_failure(racy, Exploration(strategy=strategy)) is not None, strategy
    with pytest.raises(DeclarationError, match=r"^there is no strategy 'lucky'"):
        find_failure(racy, Exploration(strategy="lucky"))


@explore(runs=3)
async def takes_a_fixture(tmp_path: Path, sim: Simulation) -> None:
    assert tmp_path.name
    assert sim.seed < 3


def test_an_explored_test_is_plain_and_hides_the_simulation_from_pytest(tmp_path: Path) -> None:
    assert not inspect.iscoroutinefunction(takes_a_fixture)
    assert list(inspect.signature(takes_a_fixture).parameters) == ["tmp_path"]
    takes_a_fixture(tmp_path)


def explored_failure() -> BaseException:
    with pytest.raises(AssertionError) as caught:
        explore()(racy)()
    return caught.value


def test_the_raised_error_carries_trace_and_command() -> None:
    note = explored_failure().__notes__[0]

    command = note.splitlines()[-1]
    assert re.fullmatch(
        r"Replay: pytest 'tests/runtime/testing/schedules/test_explore\.py::test_the_raised_error_carries_trace_and_command' "
        r"--understudy-replay='\d+:[\dx,]+'",
        command,
    )
    assert any(line.startswith("  * 0 s  second") for line in note.splitlines()), note


def test_a_failure_is_kept_as_a_small_file_that_replays(tmp_path: Path) -> None:
    token = overrides.set(Overrides(save_to=tmp_path))
    try:
        notes = explored_failure().__notes__
    finally:
        overrides.reset(token)

    (file,) = tmp_path.iterdir()
    content = json.loads(file.read_text(encoding="utf-8"))
    assert notes[1] == f"Kept in {file}; commit it, and name it in explore(replay_first=…)."
    assert content["error"].startswith("AssertionError")
    assert file.stat().st_size < 2000
    assert replay(racy, Schedule.load(file)) is not None


def test_a_committed_failure_is_tried_first() -> None:
    found = find_failure(racy)
    assert found is not None

    with pytest.raises(AssertionError) as caught:
        explore(runs=1, replay_first=str(found.schedule))(racy)()

    head = f"Replayed with seed {found.schedule.seed}; 1 choices out of turn (marked *)."
    assert caught.value.__notes__[0].splitlines()[0] == head


def test_a_committed_failure_file_is_found_from_the_tests_own_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = find_failure(racy)
    assert found is not None
    kept = found.save(tmp_path / "tests" / "failures")
    monkeypatch.chdir(tmp_path)
    beside = tmp_path / "tests" / "unit" / "test_race.py"

    assert Schedule.load(f"tests/failures/{kept.name}") == found.schedule
    assert Schedule.load(f"failures/{kept.name}", beside) == found.schedule
    assert Schedule.load(kept) == found.schedule


def test_a_failure_file_that_is_not_there_or_is_none_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty.json").write_text("{}")
    fix = "  Fix: name the file that --understudy-save wrote, from the directory of the test or from one above it."

    with pytest.raises(DeclarationError) as missing:
        Schedule.load("gone.json", tmp_path / "unit" / "test_race.py")
    with pytest.raises(DeclarationError) as empty:
        explore(replay_first=str(tmp_path / "empty.json"))(racy)()

    assert str(missing.value) == f"there is no failure file 'gone.json' in {tmp_path} and from {tmp_path}/unit upwards.\n{fix}"
    assert str(empty.value).startswith(f"{tmp_path}/empty.json isn't a failure file: KeyError: 'schedule'.\n  Fix: ")


def test_another_failure_of_the_same_test_gets_a_file_of_its_own(tmp_path: Path) -> None:
    found = find_failure(racy, name="racy")
    assert found is not None
    other = attrs.evolve(found, schedule=Schedule(99, (1,)))

    paths = [failure.save(tmp_path) for failure in (found, other, found, other)]

    assert [path.name for path in paths] == ["racy.json", "racy-2.json"] * 2


def test_what_is_no_async_function_is_not_explored() -> None:
    words = r"^@explore\(\) takes an async function, and <function .*> isn't one\.\n  Fix: async def"
    with pytest.raises(UsageError, match=words):
        explore()(lambda: None)  # type: ignore[arg-type, return-value]


def test_the_command_line_may_choose_seed_and_number_of_runs() -> None:
    seeds: list[int] = []

    async def note(sim: Simulation) -> None:
        seeds.append(sim.seed)

    token = overrides.set(Overrides(runs=3, seed=40))
    try:
        explore(runs=1000)(note)()
    finally:
        overrides.reset(token)

    assert seeds == [40, 41, 42]


def test_skipping_is_no_failure() -> None:
    async def skips(sim: Simulation) -> None:
        pytest.skip("not here")

    with pytest.raises(pytest.skip.Exception, match="not here"):
        find_failure(skips)


def test_pytest_fail_is_one() -> None:
    async def fails(sim: Simulation) -> None:
        pytest.fail("wrong")

    failure = find_failure(fails)

    assert failure is not None
    assert str(failure.error) == "wrong"


@pytest.mark.parametrize("text", ["7:", "7:0x3,1", "12:1,2,0x14,3x2", "-3:1"])
def test_a_schedule_is_written_shortly_and_read_again(text: str) -> None:
    assert str(Schedule.parse(text)) == text


def test_what_is_no_schedule_is_refused() -> None:
    with pytest.raises(DeclarationError) as caught:
        Schedule.parse("seven")

    assert str(caught.value) == (
        "'seven' isn't a recorded schedule.\n  Fix: copy the whole word after --understudy-replay=, such as 7:0x3,1."
    )


def test_an_exploration_inside_another_is_refused() -> None:
    @explore(runs=2)
    async def outer() -> None:
        find_failure(racy)

    with pytest.raises(UsageError, match=r"^an explored run was begun inside another one\.\n  Fix: call the inner test's body"):
        outer()
    assert find_failure(racy) is not None


def test_a_keyboard_interrupt_ends_the_search_and_leaves_nothing_changed() -> None:
    async def interrupted(sim: Simulation) -> None:
        await trio.sleep(1)
        signal.raise_signal(signal.SIGINT)
        await trio.sleep(1)

    makers = (uuid.uuid4, random.Random.seed)
    with pytest.raises(KeyboardInterrupt):
        find_failure(interrupted)

    assert (uuid.uuid4, random.Random.seed) == makers
    assert find_failure(racy) is not None


def test_what_is_left_in_a_module_does_not_pass_for_a_schedule() -> None:
    outside: list[int] = []

    async def third_time(sim: Simulation) -> None:
        outside.append(1)
        await trio.lowlevel.checkpoint()
        assert len(outside) != 3

    failure = find_failure(third_time)

    assert failure is not None
    assert (failure.repeats, failure.steps) == (False, ())
    assert "but it did not fail again under the same schedule: something decides that the seed does not" in failure.report()


def test_generators_without_a_seed_are_decided_by_the_seed_of_the_run() -> None:
    drawn: list[float] = []

    async def draw(sim: Simulation) -> None:
        drawn.append(random.Random().random() + random.random())

    for seed in (5, 5, 6):
        find_failure(draw, Exploration(runs=1, seed=seed))

    assert drawn[0] == drawn[1] != drawn[2]
