"""Ordinary async tests that are explored: one session of a user's holds most cases, because a session takes seconds."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.runtime.testing.sessions import session

TESTS = """
import sys

import pytest
import trio
import trio.testing
from runtime.testing import ScriptedLM

pytestmark = pytest.mark.explore(runs=30)
fresh = []


@pytest.fixture
def log():
    return []


@pytest.fixture
async def channel(log):
    log.append("open")
    async with trio.open_nursery() as nursery:
        send, receive = trio.open_memory_channel(10)
        nursery.start_soon(receive.receive)
        yield send
        log.append("closed")
        nursery.cancel_scope.cancel()


async def test_race(log):
    async def work(name):
        await trio.lowlevel.checkpoint()
        log.append(name)

    print("working")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(work, 1, name="one")
        nursery.start_soon(work, 2, name="two")
    assert log == [1, 2]


async def test_fixtures_are_fresh(log, channel, understudy_seed):
    assert log == ["open"]
    fresh.append((understudy_seed, trio.current_time()))
    await channel.send(1)
    await trio.sleep(3600)


def test_of_those_runs():
    assert [seed for seed, _ in fresh] == list(range(30))
    assert {time for _, time in fresh} == {0.0}


@pytest.mark.explore(runs=3, timer_races=0)
async def test_deadlock(nursery):
    await trio.Event().wait()


async def test_process():
    process = await trio.run_process([sys.executable, "-c", "pass"])
    assert process.returncode == 0


@pytest.mark.not_explored("threads that wait for one another")
async def test_opted_out():
    assert not isinstance(trio.lowlevel.current_clock(), trio.testing.MockClock)


async def test_skipped(log):
    pytest.skip("not today")


@pytest.mark.xfail(strict=True)
async def test_expected_to_fail():
    assert isinstance(trio.lowlevel.current_clock(), trio.testing.MockClock)


async def test_script_left_over():
    lm = ScriptedLM(["one", "two"])
    await lm.chat([{"role": "user", "content": "hi"}])


outside = []


async def test_unseeded():
    outside.append(1)
    assert len(outside) != 4


async def test_manual_clock(mock_clock):
    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.sleep, 10)
        await trio.testing.wait_all_tasks_blocked()
        mock_clock.jump(10)
    await trio.sleep(1)
"""


@pytest.fixture(scope="module")
def output(tmp_path_factory: pytest.TempPathFactory) -> str:
    return session(tmp_path_factory.mktemp("explored"), TESTS, "-rs")


def section(output: str, test: str) -> str:
    """What is said about one failed test."""
    found = re.search(rf"^_+ {test} _+$(.*?)(?=^_+ test_|^=+ )", output, re.MULTILINE | re.DOTALL)
    assert found is not None, output
    return found[1]


def test_each_test_is_reported_once(output: str) -> None:
    assert re.search(r"^5 failed, 4 passed, 1 skipped, 1 xfailed in ", output, re.MULTILINE), output


def test_a_race_is_told_with_its_trace_and_the_line_that_replays_it(output: str) -> None:
    said = section(output, "test_race")

    assert "assert [2, 1] == [1, 2]" in said
    assert re.search(r"^-+ explored -+$", said, re.MULTILINE)
    assert re.search(r"^Found by .* in run \d+, seed \d+; simplified from \d+ to 1 choices out of turn", said, re.MULTILINE)
    assert re.search(r"^  \* 0 s  two +from test_user\.py:\d+ stops at", said, re.MULTILINE), said
    assert re.search(r"^Replay: pytest 'test_user\.py::test_race' --understudy-replay='\d+:[\dx,]+'$", said, re.MULTILINE)
    assert said.count("working") == 1  # of all runs, only the reported one shows what it printed


def test_a_deadlock_says_who_waits(output: str) -> None:
    assert re.search(
        r"Deadlock: nothing can run and no deadline is pending, at 0 s, after \d+ steps:\n"
        r".*  test waits for an Event that was not set   \[test_user\.py:\d+ in test_deadlock\]",
        section(output, "test_deadlock"),
    )


def test_a_clock_that_the_test_moves_by_hand_is_not_moved_for_it(output: str) -> None:
    said = section(output, "test_manual_clock")

    assert re.search(r"Deadlock: nothing can run and the test's clock stands still, at 10 s, after \d+ steps:", said)


def test_a_script_that_is_not_followed_fails_the_round(output: str) -> None:
    said = section(output, "test_script_left_over")

    assert "ScriptMismatch: ScriptedLM('scripted') has answers that were never asked for." in said
    assert "Found by arrival order in run 1, seed 0; it fails in arrival order, with no choice out of turn." in said


def test_a_failure_that_does_not_repeat_is_reported_and_said_to_be_outside_of_the_seed(output: str) -> None:
    said = section(output, "test_unseeded")

    assert "assert 4 != 4" in said
    assert re.search(
        r"in run 4, seed 3; but it did not fail again under the same schedule: something decides that the seed", said
    )


def test_a_failure_is_replayed_saved_and_explored_from_the_command_line(tmp_path: Path) -> None:
    unmarked = TESTS.replace("pytestmark = ", "_ = ")

    found = session(tmp_path, unmarked, "-k", "race", "--understudy-explore=40", "--understudy-save=kept")
    command = re.search(r"--understudy-replay='([\d:x,]+)'", found)
    assert command is not None, found
    again = session(tmp_path, unmarked, "-k", "race", f"--understudy-replay={command[1]}")

    assert "Replayed with seed" in again
    assert (tmp_path / "kept" / "test_user.test_race.json").is_file()
    assert "1 passed" in session(tmp_path, unmarked, "-k", "race", "--understudy-replay=0:")


def test_a_test_that_deadlocks_on_the_virtual_clock_says_who_waits(tmp_path: Path) -> None:
    source = "import trio\nasync def test_stuck(virtual_clock):\n    await trio.sleep(60)\n    await trio.Event().wait()\n"

    said = session(tmp_path, source)

    assert "Deadlock: nothing can run and no deadline is pending, at 60 s:" in said
    assert "test waits for an Event that was not set   [test_user.py:4 in test_stuck]" in said


def test_an_interrupt_ends_the_session(tmp_path: Path) -> None:
    source = "import signal, trio\nasync def test_a():\n    await trio.sleep(1)\n    signal.raise_signal(signal.SIGINT)\n"

    said = session(tmp_path, source + "async def test_b():\n    pass\n", "--understudy-explore=5")

    assert "KeyboardInterrupt" in said
    assert "no tests ran in" in said


def test_a_marker_with_an_unknown_option_is_refused(tmp_path: Path) -> None:
    source = "import pytest\n@pytest.mark.explore(run=3)\nasync def test_a(): ...\n"

    assert "ERROR: test_user.py::test_a: pytest.mark.explore: " in session(tmp_path, source)
