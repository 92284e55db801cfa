"""``python -m tests.benchmarks.journals``: what a recorded step costs, beside other libraries on the same database.

A chain of 40 steps that pass on 200 characters, on one store. The systems take turns, and the best round of each counts: what
else the machine does only ever adds. PostgreSQL is a server that is started for it, with fsync, where its programs are installed.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import itertools
import logging
import math
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from time import perf_counter
from typing import Any, Final, Literal

import attrs
import trio

from actors import Graph
from runtime import open_runtime
from runtime.journal import MemoryStore, PostgresStore, SqliteStore, Store
from tests.benchmarks.durable_steps import raw_inserts
from tests.benchmarks.measuring import judged
from tests.runtime.journal.postgres_server import Server, programs

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
def langgraph(saver: str, address: str) -> Iterator[Chain]:
    """SqliteSaver or PostgresSaver with ``durability="sync"``: a checkpoint is written before the next step."""
    from langgraph.graph import END, START, StateGraph  # pyright: ignore[reportMissingImports]  # installed for `make bench` only

    savers: Any = getattr(importlib.import_module(f"langgraph.checkpoint.{saver.lower()}"), f"{saver}Saver")
    builder: Any = StateGraph(dict)
    builder.add_node("step", lambda state: {"left": state["left"] - 1, "text": state["text"]})
    builder.add_edge(START, "step")
    builder.add_conditional_edges("step", lambda state: "step" if state["left"] else END, ["step", END])
    with savers.from_conn_string(address) as checkpointer:
        checkpointer.setup()
        graph = builder.compile(checkpointer=checkpointer)

        def run(times: int) -> None:
            for _ in range(times):
                config = {"configurable": {"thread_id": f"r{os.getpid()}-{next(_numbers)}"}, "recursion_limit": 2 * STEPS}
                graph.invoke({"left": STEPS, "text": TEXT}, config, durability="sync")

        yield run


@contextlib.contextmanager
def dbos(address: str) -> Iterator[Chain]:
    """A workflow of steps."""
    from dbos import DBOS  # pyright: ignore[reportMissingImports]  # as above

    logging.getLogger("dbos").setLevel(logging.ERROR)
    DBOS(config={"name": "chain", "system_database_url": address, "log_level": "ERROR"})

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


@contextlib.contextmanager
def inserts(dsn: str, commit: Literal["on", "off"]) -> Iterator[Chain]:
    """The least that a store on PostgreSQL can do: one prepared insert after the other, on one connection."""
    trio.run(PostgresStore(dsn, "raw").migrate)

    def run(times: int) -> None:
        seconds.append(trio.run(raw_inserts(dsn, commit), 1, times))

    seconds: list[float] = []
    run.seconds = seconds  # type: ignore[attr-defined]
    yield run


Opening = Callable[[Path, str], contextlib.AbstractContextManager[Chain]]
"""Opens a system, given a folder of its own and the address of a PostgreSQL."""

SYSTEMS: Final[dict[str, Opening]] = {
    "no store": lambda place, server: ours(None),
    "MemoryStore": lambda place, server: ours(MemoryStore),
    "SqliteStore, paid": lambda place, server: ours(lambda: SqliteStore(place / "runs.db")),
    "SqliteStore, always": lambda place, server: ours(lambda: SqliteStore(place / "runs.db", "always")),
    "LangGraph SqliteSaver, sync": lambda place, server: langgraph("Sqlite", str(place / "langgraph.db")),
    "DBOS, SQLite": lambda place, server: dbos(f"sqlite:///{place / 'dbos.db'}"),
}
ON_POSTGRES: Final[dict[str, Opening]] = {
    "PostgreSQL, inserts, commit off": lambda place, server: inserts(server, "off"),
    "PostgreSQL, inserts, commit on": lambda place, server: inserts(server, "on"),
    "PostgresStore, paid": lambda place, server: ours(lambda: PostgresStore(server, "paid", migrate=True)),
    "PostgresStore, always": lambda place, server: ours(lambda: PostgresStore(server, "always", "always", migrate=True)),
    "LangGraph PostgresSaver, sync": lambda place, server: langgraph("Postgres", server),
    "DBOS, PostgreSQL": lambda place, server: dbos(server.rpartition("/")[0] + "/dbos"),
}
DISK: Final = "fdatasync of the disk"
TARGETS: Final = (
    ("SqliteStore, paid", "no store", 4.0),
    ("SqliteStore, paid", "LangGraph SqliteSaver, sync", 0.05),
    ("SqliteStore, paid", "DBOS, SQLite", 0.03),
    ("SqliteStore, always", DISK, 2.0),
    ("SqliteStore, always", "LangGraph SqliteSaver, sync", 0.4),
    ("SqliteStore, always", "DBOS, SQLite", 0.25),
    ("PostgresStore, paid", "PostgreSQL, inserts, commit off", 5.0),
    ("PostgresStore, paid", "LangGraph PostgresSaver, sync", 0.12),
    ("PostgresStore, paid", "DBOS, PostgreSQL", 0.1),
    ("PostgresStore, always", "PostgreSQL, inserts, commit on", 2.2),
    ("PostgresStore, always", "LangGraph PostgresSaver, sync", 0.25),
    ("PostgresStore, always", "DBOS, PostgreSQL", 0.2),
)
"""What costs at most so many times what something else does."""


def cost_of(name: str, runs: int, server: str = "") -> float:
    """Microseconds for a step of one system in this process; NaN if its library is not installed."""
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        try:
            run = stack.enter_context({**SYSTEMS, **ON_POSTGRES}[name](Path(folder), server))
        except ImportError:
            return math.nan
        run(1)
        began_s = perf_counter()
        run(runs)
        inner: list[float] | None = getattr(run, "seconds", None)
        took_s = perf_counter() - began_s if inner is None else inner[-1]
        return took_s / runs / STEPS * 1e6


def measured(rounds: int, runs: int, server: str = "") -> dict[str, float]:
    """Microseconds for a step, by system; those whose library is not installed are left out, those on a server without one.

    Each system has a process of its own: the background threads of one would slow the others down.
    """
    best: dict[str, float] = {}
    for _, name in itertools.product(range(rounds), [*SYSTEMS, *(ON_POSTGRES if server else ())]):
        command = [sys.executable, "-m", "tests.benchmarks.journals", "--system", name, "--runs", str(runs), "--server", server]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        cost = float(done.stdout.split()[-1])
        if not math.isnan(cost):
            best[name] = min(best.get(name, math.inf), cost)
    with tempfile.TemporaryDirectory() as folder:
        best[DISK] = sync_cost(Path(folder))
    return best


def verdicts(best: Mapping[str, float]) -> Iterator[str]:
    """What became of each target of which both sides were measured."""
    for name, beside, most in TARGETS:
        if name in best and beside in best:
            ratio = best[name] / best[beside]
            yield judged(f"{name}: {ratio:.2g} × {beside}, at most {most:g}", ratio <= most)


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
    parser.add_argument("--system", choices=[*SYSTEMS, *ON_POSTGRES], help="one round of this system only, in this process")
    parser.add_argument("--server", default="", help="the address of a PostgreSQL (default: one is started)")
    parser.add_argument("--strict", action="store_true", help="exit with status 1 when a target is missed")
    options = parser.parse_args()
    if options.system is not None:
        sys.stdout.write(f"{cost_of(options.system, options.runs, options.server)}\n")
        return 0
    with contextlib.ExitStack() as stack:
        server, found = options.server, programs()
        if not server and found is not None:
            started = Server(found, fsync=True)
            stack.callback(started.close)
            started.start()
            server = started.address()
        if not server:
            sys.stdout.write("left out: PostgreSQL: its programs aren't installed\n")
        best = measured(options.rounds, options.runs, server)
    for name, cost_us in best.items():
        sys.stdout.write(f"{name:32} {cost_us:9.1f} us\n")
    told = list(verdicts(best))
    sys.stdout.writelines(f"  {line}\n" for line in told)
    return int(options.strict and any("MISSED" in line for line in told))


if __name__ == "__main__":
    sys.exit(main())
