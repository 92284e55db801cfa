"""Tests of actors once more, with every actor that can be placed on hosts: what becomes of its messages is the same."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.runtime.placed_actors import IS_WANTED, is_wanted

HERE = Path(__file__).parent
SOME = (
    "core/test_after_the_end.py",
    "core/test_asks.py",
    "core/test_cancellation.py",
    "core/test_context.py",
    "core/test_lifespans.py",
    "core/test_routers.py",
    "test_supervision_otp.py",
)

pytestmark = pytest.mark.skipif(is_wanted(), reason="this is that")


@pytest.mark.chaos
def test_tests_of_actors_hold_with_every_actor_on_a_host():
    command = [sys.executable, "-m", "pytest", "-q", "-n0", "-p", "no:cacheprovider", "--understudy-runs=1"]
    done = subprocess.run(
        [*command, *[str(HERE / name) for name in SOME]],
        cwd=HERE.parent.parent,
        env={**os.environ, IS_WANTED: "1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=900,
    )

    assert done.returncode == 0, done.stdout[-10_000:]
