"""``python -m tests.benchmarks.journals``: what a recorded step costs, beside other libraries that record theirs in SQLite.

A chain of 40 steps that pass on 200 characters, on one store. The systems take turns, and the best round of each counts: what
else the machine does only ever adds.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import logging
import math
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from time import perf_counter
from typing import Any, Final

import attrs
import trio

from actors import Graph
from runtime import open_runtime
from runtime.journal import MemoryStore, SqliteStore, Store

STEPS: Final = 40
TEXT: Final = "x" * 200
Chain = Callable[[int], None]
"""Runs the chain so many times."""

_numbers = itertools.count()


@attrs.frozen
class Turn:
    left: int
    text: str


@attrs.frozen
class Over:
    text: str


def chain() -> Graph[Turn, Over]:
    graph = Graph("chain", input=Turn, output=Over)

    @graph.node
    async def step(turn: Turn) -> Turn | Over:
        return Turn(turn.left - 1, turn.text) if turn.left > 1 else Over(turn.text)

    return graph


@contextlib.contextmanager
def ours(make_store: Callable[[], Store] | None) -> Iterator[Chain]:
    """Each call opens a runtime, which is not counted."""
    graph = chain()

    def run(times: int) -> None:
        async def main() -> float:
            store = None if make_store is None else make_store()
            async with open_runtime(store=store, graphs=[graph]) as runtime:
                await runtime.run(graph, Turn(STEPS, TEXT), run_id=f"warm-{next(_numbers)}")
                began_s = perf_counter()
                for _ in range(times):
                    await runtime.run(graph, Turn(STEPS, TEXT), run_id=f"r{next(_numbers)}")
                return perf_counter() - began_s

        seconds.append(trio.run(main))

    seconds: list[float] = []
    run.seconds = seconds  # type: ignore[attr-defined]
    yield run


@contextlib.contextmanager
def langgraph(path: Path) -> Iterator[Chain]:
    """SqliteSaver with ``durability="sync"``: a checkpoint is written before the next step."""
    from langgraph.checkpoint.sqlite import SqliteSaver  # pyright: ignore[reportMissingImports]  # installed for `make bench` only
    from langgraph.graph import END, START, StateGraph  # pyright: ignore[reportMissingImports]  # as above

    builder: Any = StateGraph(dict)
    builder.add_node("step", lambda state: {"left": state["left"] - 1, "text": state["text"]})
    builder.add_edge(START, "step")
    builder.add_conditional_edges("step", lambda state: "step" if state["left"] else END, ["step", END])
    with SqliteSaver.from_conn_string(str(path)) as saver:
        graph = builder.compile(checkpointer=saver)

        def run(times: int) -> None:
            for _ in range(times):
                config = {"configurable": {"thread_id": f"r{next(_numbers)}"}, "recursion_limit": 2 * STEPS}
                graph.invoke({"left": STEPS, "text": TEXT}, config, durability="sync")

        yield run


@contextlib.contextmanager
def dbos(path: Path) -> Iterator[Chain]:
    """A workflow of steps, in SQLite."""
    from dbos import DBOS  # pyright: ignore[reportMissingImports]  # as above

    logging.getLogger("dbos").setLevel(logging.ERROR)
    DBOS(config={"name": "chain", "system_database_url": f"sqlite:///{path}", "log_level": "ERROR"})

    @DBOS.step()
    def step(left: int, text: str) -> tuple[int, str]:
        return left - 1, text

    @DBOS.workflow()
    def flow(left: int, text: str) -> str:
        while left:
            left, text = step(left, text)
        return text

    DBOS.launch()
    try:

        def run(times: int) -> None:
            for _ in range(times):
                flow(STEPS, TEXT)

        yield run
    finally:
        DBOS.destroy()


SYSTEMS: Final[dict[str, Callable[[Path], contextlib.AbstractContextManager[Chain]]]] = {
    "no store": lambda place: ours(None),
    "MemoryStore": lambda place: ours(MemoryStore),
    "SqliteStore, paid": lambda place: ours(lambda: SqliteStore(place / "runs.db")),
    "SqliteStore, always": lambda place: ours(lambda: SqliteStore(place / "runs.db", "always")),
    "LangGraph SqliteSaver, sync": lambda place: langgraph(place / "langgraph.db"),
    "DBOS, SQLite": lambda place: dbos(place / "dbos.db"),
}


def cost_of(name: str, runs: int) -> float:
    """Microseconds for a step of one system in this process; NaN if its library is not installed."""
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        try:
            run = stack.enter_context(SYSTEMS[name](Path(folder)))
        except ImportError:
            return math.nan
        run(1)
        began_s = perf_counter()
        run(runs)
        inner: list[float] | None = getattr(run, "seconds", None)
        took_s = perf_counter() - began_s if inner is None else inner[-1]
        return took_s / runs / STEPS * 1e6


def measured(rounds: int, runs: int) -> dict[str, float]:
    """Microseconds for a step, by system; those whose library is not installed are left out.

    Each system has a process of its own: the background threads of one would slow the others down.
    """
    best: dict[str, float] = {}
    for _, name in itertools.product(range(rounds), SYSTEMS):
        command = [sys.executable, "-m", "tests.benchmarks.journals", "--system", name, "--runs", str(runs)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        cost = float(done.stdout.split()[-1])
        if not math.isnan(cost):
            best[name] = min(best.get(name, math.inf), cost)
    with tempfile.TemporaryDirectory() as folder:
        best["fdatasync of the disk"] = sync_cost(Path(folder))
    return best


def sync_cost(place: Path) -> float:
    """Microseconds for one append of a page with its sync: the median of 50, since the best says little on a shared disk."""
    file = os.open(place / "sync", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    costs: list[float] = []
    for _ in range(50):
        began_s = perf_counter()
        os.write(file, b"x" * 4096)
        os.fdatasync(file)
        costs.append((perf_counter() - began_s) * 1e6)
    os.close(file)
    return statistics.median(costs)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.journals", description="Recorded steps.")
    parser.add_argument("--rounds", type=int, default=5, help="the best of so many counts (default: 5)")
    parser.add_argument("--runs", type=int, default=10, help="in a round (default: 10)")
    parser.add_argument("--system", choices=SYSTEMS, help="one round of this system only, in this process")
    options = parser.parse_args()
    if options.system is not None:
        sys.stdout.write(f"{cost_of(options.system, options.runs)}\n")
        return 0
    best = measured(options.rounds, options.runs)
    for name, cost_us in best.items():
        sys.stdout.write(f"{name:30} {cost_us:9.1f} us\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
