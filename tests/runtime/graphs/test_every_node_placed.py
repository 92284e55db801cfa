"""Tests of graphs once more, with every node that can be placed on hosts: what a run does is the same, placed or not."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.runtime.graphs.placed import IS_WANTED, is_wanted

HERE = Path(__file__).parent
ROOT = HERE.parent.parent.parent
SOME = (
    "test_class_nodes.py",
    "test_fallback.py",
    "test_folds.py",
    "test_order.py",
    "test_recall.py",
    "test_stream.py",
    "test_subgraphs.py",
)

pytestmark = pytest.mark.skipif(is_wanted(), reason="this is that")


@pytest.mark.chaos
def test_tests_of_graphs_hold_with_every_node_on_a_host():
    command = [sys.executable, "-m", "pytest", "-q", "-n0", "-p", "no:cacheprovider", "--understudy-runs=1"]
    done = subprocess.run(
        [*command, *[str(HERE / name) for name in SOME]],
        cwd=ROOT,
        env={**os.environ, IS_WANTED: "1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=900,
    )

    assert done.returncode == 0, done.stdout[-10_000:]
