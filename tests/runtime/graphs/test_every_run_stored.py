"""The tests of graphs once more, with a store under every run: what a run does is the same, stored or not."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.runtime.graphs.stored import IS_WANTED, is_wanted
from tests.warm import ROOT, SESSIONS, warm

HERE = Path(__file__).parent
SOME = ("test_engine_flow.py", "test_fallback.py", "test_run_failures.py", "test_stream.py", "test_subgraphs.py")

pytestmark = pytest.mark.skipif(is_wanted(), reason="this is that")


def again(*paths: Path) -> str:
    """Run the tests in `paths` under one schedule each, with every run stored; returns how the report ends."""
    options = ("-q", "-n0", "-p", "no:cacheprovider", "--understudy-runs=1", *map(str, paths))
    done = warm(*SESSIONS).pytest(ROOT, *options, environ={**os.environ, IS_WANTED: "1"})
    assert done.returncode == 0, done.stdout[-10_000:]
    return done.stdout.splitlines()[-1]


@pytest.mark.slow
def test_some_tests_of_graphs_hold_with_a_store_under_every_run():
    assert " passed" in again(*[HERE / name for name in SOME])


@pytest.mark.chaos
def test_all_tests_of_graphs_hold_with_a_store_under_every_run():
    assert " passed" in again(HERE)
