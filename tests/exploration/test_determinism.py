"""The same seed gives the same trace, to the byte, in every process, with sockets and worker threads in it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.exploration import program

ROOT = Path(program.__file__).resolve().parents[2]
AT_ONCE = 4


def started(hash_seed: int, seed: int) -> subprocess.Popen[bytes]:
    environment = {**os.environ, "PYTHONHASHSEED": str(hash_seed), "PYTHONPATH": str(ROOT)}
    return subprocess.Popen([sys.executable, program.__file__, str(seed)], stdout=subprocess.PIPE, env=environment, cwd=ROOT)


@pytest.mark.slow
@pytest.mark.parametrize("processes", [4, pytest.param(20, marks=pytest.mark.chaos)])
def test_processes_with_different_hash_seeds_write_the_same_trace(processes: int) -> None:
    traces: set[bytes] = set()
    for first in range(0, processes, AT_ONCE):
        runs = [started(hash_seed, seed=3) for hash_seed in range(first, first + AT_ONCE)]
        traces |= {run.communicate(timeout=240)[0] for run in runs}
        assert all(run.returncode == 0 for run in runs)

    assert len(traces) == 1
    assert traces.pop().count(b"\n") > 150


def test_a_run_repeats_itself_and_another_seed_differs() -> None:
    first, again, other = program.main(1), program.main(1), program.main(2)

    assert first == again
    assert first != other
