"""What exploration of schedules missed, hung on, blamed on the schedule, passed in silence, or told badly."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import trio

from runtime.testing import (
    Exploration,
    FoundFailure,
    NotExplored,
    Schedule,
    ScheduleDiverged,
    Simulation,
    find_failure,
    replay,
    run_in_virtual_time,
)
from runtime.testing.schedules import deadlock_watch, virtual_time
from runtime.testing.schedules.virtual_time import ThreadHold
from tests.runtime.testing.sessions import session
from tests.warm import ROOT

# --- G1: deadlines that come early -----------------------------------------------------------------------------------------


async def late_by_a_moment(sim: Simulation) -> None:
    """A program that takes for granted that what can run is done within half a second."""
    done = False

    async def work() -> None:
        nonlocal done
        for _ in range(3):
            await trio.lowlevel.checkpoint()
        done = True

    async with trio.open_nursery() as nursery:
        nursery.start_soon(work)
        await trio.sleep(0.5)
        assert done


async def patient(sim: Simulation) -> None:
    """A task that can run is never five minutes late."""
    with trio.fail_after(300):
        for _ in range(20):
            await trio.lowlevel.checkpoint()


def test_g1_a_share_of_the_runs_has_early_deadlines_by_default() -> None:
    failure = find_failure(late_by_a_moment)

    assert failure is not None
    assert failure.schedule.seed % 4 == 3
    assert replay(late_by_a_moment, failure.schedule) is not None
    assert find_failure(late_by_a_moment, Exploration(timer_races=0)) is None


@pytest.mark.parametrize("races", [None, 0.5])
def test_g1_a_long_timeout_does_not_pass_before_a_task_that_can_run(races: float | None) -> None:
    assert find_failure(patient, Exploration(runs=100, timer_races=races)) is None


# --- G2: threads that wait for the loop ------------------------------------------------------------------------------------


async def waits_for_the_loop(sim: Simulation) -> None:
    event = threading.Event()

    async def wait() -> None:
        await trio.to_thread.run_sync(event.wait)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(wait)
        await trio.sleep(0.1)
        event.set()


async def wait_for_one_another(sim: Simulation) -> None:
    event = threading.Event()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.to_thread.run_sync, lambda: event.wait())
        await trio.lowlevel.checkpoint()
        await trio.lowlevel.checkpoint()
        nursery.start_soon(trio.to_thread.run_sync, event.set)


@pytest.mark.slow
@pytest.mark.parametrize("function", [waits_for_the_loop, wait_for_one_another])
def test_g2_a_test_whose_threads_wait_for_the_loop_runs_once_and_says_so(function: Any) -> None:
    with pytest.warns(NotExplored, match=r"not explored: threads wait for one another(.|\n)*self\._cond\.wait"):
        assert find_failure(function, Exploration(runs=5)) is None


WAITS_FOR_EVER = """
import os, threading, trio
from runtime.testing import Exploration, find_failure

async def waits_for_ever(sim):
    await trio.to_thread.run_sync(threading.Event().wait)

failure = find_failure(waits_for_ever, Exploration(runs=1))
print(failure.error, flush=True)
os._exit(0)
"""


@pytest.mark.slow
def test_g2_a_thread_that_nobody_will_ever_wake_is_a_deadlock_with_its_stack() -> None:
    """In a process of its own: trio gives such a run up, and what is left of it would be found in later tests."""
    command = [sys.executable, "-W", "always", "-c", WAITS_FOR_EVER]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=240, check=True)

    assert "A worker thread waits:" in run.stdout
    assert "self._cond.wait" in run.stdout
    assert "NotExplored: the test: not explored: threads wait for one another" in run.stderr


async def computes(sim: Simulation) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.to_thread.run_sync, lambda: sum(range(30_000_000)))


def test_g2_a_thread_that_works_is_waited_for() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert find_failure(computes, Exploration(runs=3)) is None


@contextlib.contextmanager
def ends_while_looked_at(monkeypatch: pytest.MonkeyPatch, let_end: Callable[[], None]) -> Iterator[None]:
    """The thread ends after the loop has found nothing to do, and before it is asked whether a thread still runs."""
    asked = threading.Event()

    def is_busy(hold: ThreadHold) -> bool:
        if not asked.is_set():
            asked.set()
            let_end()
            while hold._running:
                hold.wait(10)
        return hold._running > 0

    monkeypatch.setattr(virtual_time, "STILL_S", 0.1)
    monkeypatch.setattr(ThreadHold, "is_busy", property(is_busy))
    yield
    assert asked.is_set()


def test_g2_a_thread_that_ends_while_the_loop_finds_nothing_to_do_is_no_deadlock(monkeypatch: pytest.MonkeyPatch) -> None:
    end = threading.Event()

    async def waits_for_a_thread(sim: Simulation) -> None:
        await trio.to_thread.run_sync(end.wait)

    with ends_while_looked_at(monkeypatch, end.set), pytest.warns(NotExplored, match="threads wait for one another"):
        assert find_failure(waits_for_a_thread, Exploration(runs=1)) is None


def test_g2_nor_is_a_thread_of_the_tests_own_in_virtual_time(monkeypatch: pytest.MonkeyPatch) -> None:
    end = threading.Event()
    looks = 0

    async def waits_for_a_thread() -> None:
        done, token = trio.Event(), trio.lowlevel.current_trio_token()

        def work() -> None:
            end.wait()
            token.run_sync_soon(done.set)

        thread = threading.Thread(target=work)
        thread.start()

        def may_be_woken() -> bool:
            nonlocal looks
            looks += 1
            end.set()
            thread.join()
            return False

        monkeypatch.setattr(deadlock_watch, "may_be_woken", may_be_woken)
        await done.wait()

    run_in_virtual_time(waits_for_a_thread)

    assert looks == 1


# --- G3: what one run leaves to the next -----------------------------------------------------------------------------------

PARAMETERS = """
    import pytest, trio

    @pytest.mark.explore(runs=5)
    @pytest.mark.parametrize(("seen", "nested"), [([], {"a": [1]})])
    async def test_appends(seen, nested):
        seen.append(1)
        nested["a"].append(2)
        await trio.lowlevel.checkpoint()
        assert seen == [1]
        assert nested == {"a": [1, 2]}

    @pytest.fixture
    def box(request):
        return request.param

    @pytest.mark.explore(runs=5)
    @pytest.mark.parametrize("box", [[]], indirect=True)
    async def test_of_a_fixture(box):
        box.append(1)
        await trio.lowlevel.checkpoint()
        assert box == [1]
"""
MODULE = """
    import pytest, trio

    count = 0

    @pytest.mark.explore(runs=5)
    async def test_counts():
        global count
        count += 1
        await trio.lowlevel.checkpoint()
        assert count < 3
"""


def test_g3_every_run_gets_the_parameters_as_they_were_written(tmp_path: Path) -> None:
    assert "2 passed" in session(tmp_path, PARAMETERS)


def test_g3_what_an_earlier_run_left_in_a_module_is_not_blamed_on_the_schedule(tmp_path: Path) -> None:
    output = session(tmp_path, MODULE)

    assert "1 failed" in output
    assert "something decides that the seed does not" in output
    assert "it fails in arrival order" not in output


# --- G4: a recorded schedule that fits no more -----------------------------------------------------------------------------


async def adds(sim: Simulation) -> None:
    async with trio.open_nursery() as nursery:
        for _ in range(3):
            nursery.start_soon(trio.lowlevel.checkpoint)


@pytest.mark.parametrize(
    ("choices", "words"),
    [
        ((7,), r"choice 1 of 1 is 7, and there are only \d ways, counted from 0 \(step \d\)"),
        ((0,) * 50 + (1,), r"the run was over after \d+ of 51 choices, 1 of the rest not 0 \(step \d+\)"),
    ],
)
def test_g4_a_recorded_schedule_that_does_not_fit_any_more_fails_and_says_where(choices: tuple[int, ...], words: str) -> None:
    failure = replay(adds, Schedule(3, choices), name="adds")

    assert failure is not None
    with pytest.raises(ScheduleDiverged, match=rf"^the recorded schedule .* does not fit adds any more, .*: {words}"):
        raise failure.error


@pytest.mark.parametrize("schedule", [Schedule(1, (1, 1)), Schedule(1), Schedule(1, (0,) * 100)])
def test_g4_a_recorded_schedule_that_fits_passes(schedule: Schedule) -> None:
    assert replay(adds, schedule) is None


DIVERGED = """
    import pytest, trio

    @pytest.mark.explore(runs=2, replay_first="0:0x40,1")
    async def test_shrunk_to_nothing():
        await trio.lowlevel.checkpoint()
"""


def test_g4_a_committed_failure_of_an_ordinary_test_that_fits_no_more_fails_it(tmp_path: Path) -> None:
    output = session(tmp_path, DIVERGED)

    assert "1 failed" in output
    assert "ScheduleDiverged: the recorded schedule 0:0x40,1 does not fit" in output


# --- G5: what a report says ------------------------------------------------------------------------------------------------

REPORTED = """
    import pytest, trio
    from actors import Actor
    from runtime import open_runtime

    class Fragile(Actor):
        async def receive(self, message):
            await trio.lowlevel.checkpoint()
            raise LookupError("fragile")

    @pytest.mark.explore(runs=2)
    async def test_it():
        async with open_runtime() as runtime:
            ref = await runtime.spawn(Fragile, name="fragile")
            await ref.tell("a word")
            await trio.sleep(1)
            assert not len(runtime.dead_letters)
"""


def test_g5_a_report_tells_messages_crashes_and_dead_letters_and_nothing_of_the_runner(tmp_path: Path) -> None:
    output = session(tmp_path, REPORTED)

    trace = output[output.index("Found by") :]
    assert "handles str" in trace
    assert "! fragile crashes: LookupError" in trace
    assert "! dead letter: str to fragile" in trace
    assert "plugin.py" not in trace


async def fails_in_a_nursery(sim: Simulation) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.lowlevel.checkpoint)
        raise LookupError("the leaf")


def found(function: Any, exploration: Exploration | None = None) -> FoundFailure:
    failure = find_failure(function, exploration, name="tests/test_x.py::test_it")
    assert failure is not None
    return failure


def test_g5_the_file_names_the_leaf_of_a_nurserys_group(tmp_path: Path) -> None:
    text = found(fails_in_a_nursery).save(tmp_path).read_text()

    assert '"error": "LookupError: the leaf"' in text


async def chooses_much(sim: Simulation) -> None:
    assert sum(sim.choose(2) for _ in range(18_000)) == 0


def test_g5_a_schedule_too_long_for_a_line_is_named_by_its_file() -> None:
    failure = found(chooses_much, Exploration(runs=3, shrink_attempts=0))

    file = failure.command.partition("--understudy-replay='")[2].rstrip("'")
    assert len(failure.command) < 300
    assert Schedule.load(file) == failure.schedule


# --- G6: the same trace everywhere -----------------------------------------------------------------------------------------


def test_g6_the_pages_say_what_must_be_the_same_for_a_trace_to_be_the_same() -> None:
    page = (Path(__file__).parents[2] / "docs/how-to/explore-schedules.md").read_text(encoding="utf-8")

    assert "The same seed gives the same trace with the same versions" in page
    assert "on every machine:" not in page
