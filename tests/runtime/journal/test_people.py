"""Processes that are killed around what their runs ask people."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.runtime.journal.postgres_server import Server


def killed(times: int, *dsn: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.runtime.journal.people", str(times), *dsn], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.startswith(f"{times} kills on ")
    assert done.stdout.endswith("wrong: nothing\n")


def test_nobody_is_asked_twice_and_no_answer_is_lost_when_processes_are_killed():
    """Short form; `python -m tests.runtime.journal.people 200` is the long one."""
    killed(10)


@pytest.mark.chaos
def test_two_hundred_kills_around_questions_in_a_file():
    killed(200)


@pytest.mark.chaos
def test_kills_around_questions_on_a_server(postgres: Server):
    killed(10, postgres.dsn)
