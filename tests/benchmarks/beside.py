"""``python -m tests.benchmarks.beside COMMIT``: what this tree costs beside an earlier one: no row may get slower unnoticed.

Each work is done by both trees in turns, in a process of its own for each turn: its processor time, and the least of the turns
counts, because what else the machine does only adds. The earlier tree is checked out beside this one while it is measured.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from runtime.testing.models.process import loopback_process
from tests.benchmarks.lm_works import JOBS, LATENCY_S, MODELS

ROOT: Final = Path(__file__).resolve().parents[2]
WORKS: Final = {
    **dict.fromkeys(("ask", "one-way", "backpressure", "fork-join", "ring", "spawn"), "ours"),
    **dict.fromkeys(("graph-chain", "graph-cycle", "graph-runs", "graph-fan-3", "graph-fan-100", "graph-fan-1000"), "ours_graph"),
}
TIMES: Final = {
    "ask": 5,
    "one-way": 3,
    "spawn": 5,
    "graph-chain": 4,
    "graph-cycle": 4,
    "graph-runs": 5,
    "graph-fan-3": 20,
    "graph-fan-100": 5,
}
"""How often a short work is done in one turn; once where nothing is said."""

WORK: Final = """
import gc, importlib, sys, time
name, module, times = sys.argv[1], sys.argv[2], int(sys.argv[3])
from tests.benchmarks.works import WORKS
run = importlib.import_module(f"tests.benchmarks.peers.{module}").PEER.run[name]
[size] = [work.size for work in WORKS if work.name == name]
run(max(10, size // 10) if not name.startswith("graph-fan") and name != "graph-runs" else size)
gc.collect()
before = time.process_time()
for _ in range(times):
    run(size)
print((time.process_time() - before) / times / size * 1e6)
"""
CALL: Final = """
import sys, time, trio
name, base = sys.argv[1], sys.argv[2]
from tests.benchmarks.peers.lm.ours import PEER
async def main():
    async with PEER.jobs[name](base) as call:
        async def crowd(count):
            async with trio.open_nursery() as nursery:
                for _ in range(count):
                    nursery.start_soon(call)
        await crowd(30)
        before = time.process_time()
        for _ in range(10):
            await crowd(30)
        print((time.process_time() - before) / 300 * 1e6)
trio.run(main)
"""
IMPORT: Final = "import time, actors, runtime; print(time.process_time() * 1e6)"


@contextlib.contextmanager
def checked_out(commit: str) -> Iterator[Path]:
    """That commit of this repository in a folder of its own, until the block is left."""
    with tempfile.TemporaryDirectory(prefix="understudy-beside-") as folder:
        tree = Path(folder) / "tree"
        subprocess.run(["git", "worktree", "add", "--quiet", "--detach", str(tree), commit], cwd=ROOT, check=True)
        try:
            yield tree
        finally:
            subprocess.run(["git", "worktree", "remove", "--force", str(tree)], cwd=ROOT, check=True)


def cost_us(tree: Path, program: str, *arguments: str) -> float:
    """What a program prints that is run with the packages of `tree`."""
    environment = {**os.environ, "PYTHONPATH": str(tree), "PYTHONHASHSEED": "0"}
    done = subprocess.run(
        [sys.executable, "-c", program, *arguments], cwd=tree, env=environment, capture_output=True, text=True, check=True
    )
    return float(done.stdout)


def compared(name: str, trees: Sequence[Path], turns: int, program: str, *arguments: str) -> str:
    """A line of the table: the least and the median of the turns in each tree, and their ratios."""
    found: list[list[float]] = [[], []]
    for turn in range(turns):
        for at in (0, 1) if turn % 2 else (1, 0):
            found[at].append(cost_us(trees[at], program, *arguments))
    (here, there), (here_half, there_half) = map(min, found), map(statistics.median, found)
    return f"{name:15} {here:10.2f} {there:10.2f}   {here / there:.2f}  {here_half / there_half:.2f}"


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m tests.benchmarks.beside", description="Processor time of this tree beside an earlier one."
    )
    parser.add_argument("commit", help="the earlier tree")
    parser.add_argument("works", nargs="*", help=f"which ones: {', '.join([*WORKS, *JOBS, 'import'])} (default: all)")
    parser.add_argument("--turns", type=int, default=7, help="of each tree (default: 7)")
    options = parser.parse_args()
    chosen = options.works or [*WORKS, *JOBS, "import"]
    print_line(f"{'µs':15} {'here':>10} {'there':>10}   least  median: here as a ratio to there")
    with checked_out(options.commit) as there, loopback_process(MODELS, latency_s=LATENCY_S) as provider:
        trees = (ROOT, there)
        for name in chosen:
            if name in WORKS:
                line = compared(name, trees, options.turns, WORK, name, WORKS[name], str(TIMES.get(name, 1)))
            elif name in JOBS:
                line = compared(name, trees, options.turns, CALL, name, provider.api_base)
            elif name == "import":
                line = compared(name, trees, options.turns, IMPORT)
            else:
                parser.error(f"no such work: {name}; there are {', '.join([*WORKS, *JOBS, 'import'])}")
            print_line(line)


def print_line(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
