"""The tests of graphs once more, to find graphs: each is run again, and its process ends at every record in every way."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from tests.runtime.graphs import crashed, stored

HERE = Path(__file__).parent
ROOT = HERE.parent.parent.parent
FILES = sorted(path.name for path in HERE.glob("test_*.py") if not path.name.startswith("test_every_run_"))
LIMIT_S = 3_000
"""Of one file, with all the crashes in it."""
SOME = ("test_passing_on.py",)

pytestmark = pytest.mark.skipif(crashed.is_wanted() or stored.is_wanted(), reason="this is that")


def crashed_in(
    folder: Path, *files: str, most: int = crashed.MOST_POINTS, pairs: bool = False, models: bool = True
) -> Counter[str]:
    """Run the tests in `files` under one schedule each and crash their graphs; returns the sums of the figures."""
    told = folder / "told.jsonl"
    options = {crashed.WANTED_IN: str(told), crashed.MOST: str(most), crashed.PAIRS: "1" if pairs else ""}
    options[crashed.MODELS] = "1" if models else ""
    command = [sys.executable, "-m", "pytest", "-q", "-n0", "-p", "no:cacheprovider", "--understudy-runs=1"]
    command += ["-o", f"faulthandler_timeout={LIMIT_S}"]  # the crashes in the graphs of one test count as that test
    done = subprocess.run(
        [*command, *(str(HERE / file) for file in files)],
        cwd=ROOT,
        env={**os.environ, **options},
        capture_output=True,
        text=True,
        check=False,
        timeout=LIMIT_S,
    )
    assert done.returncode in (0, 5), done.stdout[-10_000:]  # 5: all of them are chaos
    figures, sums = crashed.figures_of(told)
    assert not sums["wrong"], "\n".join(str(each) for each in figures if "wrong" in each)
    return sums


@pytest.mark.slow
def test_crashes_in_graphs_of_some_tests_change_nothing_of_their_end(tmp_path):
    sums = crashed_in(tmp_path, *SOME, most=6, models=False)

    assert sums["crashed"] >= 15
    assert sums["points"] >= 80


@pytest.mark.chaos
@pytest.mark.parametrize("file", FILES)
def test_a_crash_at_every_record_changes_nothing_of_the_end_of_any_graph(file, tmp_path):
    crashed_in(tmp_path, file)


@pytest.mark.chaos
@pytest.mark.parametrize("file", FILES)
def test_pairs_of_crashes_change_nothing_of_the_end_of_any_graph(file, tmp_path):
    crashed_in(tmp_path, file, most=6, pairs=True)
