"""The plugin in sessions of its own, as a user has them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.runtime.testing.sessions import PLUGIN, session
from tests.warm import SESSIONS, warm

TESTS = """
import trio
from runtime.testing import explore


@explore()
async def test_race(sim):
    order = []

    async def work(name):
        await trio.lowlevel.checkpoint()
        order.append(name)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(work, 1, name="one")
        nursery.start_soon(work, 2, name="two")
    assert order == [1, 2]


async def test_seed(virtual_runtime, seeded):
    async with virtual_runtime():
        await trio.sleep(1_000_000)
    assert seeded.random() > 2
"""


def pytest_run(folder: Path, *options: str) -> str:
    return session(folder, TESTS, *options)


def test_a_failure_is_replayed_by_the_line_it_prints(tmp_path: Path) -> None:
    first = pytest_run(tmp_path, "--understudy-save", "kept")

    command = re.search(r"Replay: pytest '(test_user\.py::test_race)' (--understudy-replay)='([\d:x,]+)'", first)
    assert command is not None, first
    again = pytest_run(tmp_path, command[1], f"{command[2]}={command[3]}")
    assert "Replayed with seed" in again
    assert "* 0 s  two" in again
    file = tmp_path / "kept" / "test_user.test_race.json"
    assert file.is_file()
    assert "Replayed with seed" in pytest_run(tmp_path, command[1], f"--understudy-replay={file}")
    assert "1 passed" in pytest_run(tmp_path, command[1], "--understudy-replay=0:")


def test_a_failed_test_shows_its_seed(tmp_path: Path) -> None:
    output = pytest_run(tmp_path, "-k", "seed", "--understudy-seed=41")

    assert "seed 41; repeat with --understudy-seed=41" in output
    assert re.search(r"1 failed, 1 deselected in \d", output), output


@pytest.mark.parametrize(
    ("option", "said"),
    [
        ("--understudy-replay=3:1,zz", "ERROR: --understudy-replay: '3:1,zz' isn't a recorded schedule."),
        ("--understudy-replay=gone.json", "ERROR: --understudy-replay: there is no failure file 'gone.json' in "),
        ("--understudy-runs=0", "ERROR: --understudy-runs=0: expected a whole number >= 1."),
        ("--understudy-explore=0", "ERROR: --understudy-explore=0: expected a whole number >= 1."),
    ],
)
def test_an_option_that_makes_no_sense_is_refused_in_a_line(option: str, said: str, tmp_path: Path) -> None:
    (tmp_path / "test_user.py").write_text("")
    ended = warm(*SESSIONS).pytest(tmp_path, *PLUGIN, option)

    assert ended.returncode == 4
    assert ended.stdout.startswith(said), ended.stdout
    assert "INTERNALERROR" not in ended.stdout


def test_an_async_test_that_nobody_runs_is_told_what_is_missing(tmp_path: Path) -> None:
    output = pytest_run(tmp_path, "-k", "seed", "-o", "trio_mode=false")

    assert (
        "test_seed is async and uses virtual_clock, virtual_runtime, and nothing runs it on trio.\n"
        "  Fix: install pytest-trio and write trio_mode = true into pytest's configuration, or mark it @pytest.mark.trio.\n"
    ) in output


def test_a_marker_that_makes_no_sense_is_refused_before_anything_runs(tmp_path: Path) -> None:
    (tmp_path / "test_lucky.py").write_text(LUCKY)

    assert "test_lucky.py::test_it: pytest.mark.explore: there is no strategy 'lucky'." in pytest_run(tmp_path, "test_lucky.py")


LUCKY = """
import pytest

@pytest.mark.explore(strategy="lucky")
async def test_it():
    pass
"""
