"""``python -m tests.benchmarks.durable_steps``: what a step of a graph costs when its run is stored, beside one that isn't.

Two nodes that pass a text to and fro. PostgreSQL is a server that is started for it, with fsync, and is left out where it isn't
installed. Beside it stands the least that such a store can do: one prepared insert after the other, on one connection.
"""

from __future__ import annotations

import argparse
import platform
import sys
import tempfile
from collections.abc import Awaitable, Callable
from contextlib import ExitStack
from itertools import count
from pathlib import Path
from time import perf_counter
from typing import Final, Literal

import attrs
import trio

from actors import Graph
from runtime import open_runtime
from runtime.journal.postgres import PostgresStore
from runtime.journal.postgres_values import Value
from runtime.journal.postgres_wire import Address, PostgresConnection
from runtime.journal.postgres_writer import COLUMNS, columns
from runtime.journal.records import Record, RecordKind
from runtime.journal.sqlite import SqliteStore
from runtime.journal.store import Store
from tests.benchmarks.__main__ import print_line
from tests.runtime.journal.postgres_server import Server, programs

STEPS: Final = 40
TEXT: Final = "x" * 200
PASSES: Final = 5
RUNS: Final = {1: 15, 100: 1}
"""Runs at once, and how many such rounds make one pass."""
Measure = Callable[[int, int], Awaitable[float]]
"""Given runs at once and rounds: the seconds that all took."""


@attrs.frozen
class There:
    """One way."""

    text: str
    hops: int


@attrs.frozen
class Back:
    """The other way."""

    text: str
    hops: int


@attrs.frozen
class Over:
    """The end."""

    text: str


def to_and_fro() -> Graph[There, Over]:
    """So many steps in a row."""
    graph = Graph("to and fro", input=There, output=Over)

    @graph.node
    async def one(there: There) -> Back:
        return Back(there.text, there.hops + 1)

    @graph.node
    async def two(back: Back) -> There | Over:
        return Over(back.text) if back.hops + 1 >= STEPS else There(back.text, back.hops + 1)

    return graph


def in_graphs(store: Callable[[], Store] | None) -> Measure:
    """Runs of the graph, stored in a new store or nowhere."""

    async def measure(at_once: int, rounds: int) -> float:
        graph, names = to_and_fro(), count()
        async with open_runtime(store=None if store is None else store(), graphs=[graph]) as runtime:

            async def once() -> None:
                run_id = None if store is None else f"run-{next(names)}"
                assert await runtime.run(graph, There(TEXT, 0), run_id=run_id) == Over(TEXT)

            await once()
            began = perf_counter()
            for _ in range(rounds):
                async with trio.open_nursery() as nursery:
                    for _ in range(at_once):
                        nursery.start_soon(once)
            return perf_counter() - began

    return measure


def raw_inserts(dsn: str, commit: Literal["on", "off"]) -> Measure:
    """As many records, one prepared insert each, into the schema ``raw`` of a store that is there."""
    arrays = "$1::text[], $2::int[], $3::int2[], $4::text[], $5::float8[], $6::bytea[], $7::bytea[], $8::bytea[], $9::int8[]"
    insert = f"insert into raw.journal({COLUMNS}) select * from unnest({arrays})"

    async def measure(at_once: int, rounds: int) -> float:
        connection = await PostgresConnection.open(Address.of(dsn))
        await connection.run("truncate raw.journal")
        await connection.run(f"set synchronous_commit = {commit}")
        rows = [
            Record.of("r", seq, RecordKind.FINISHED, "to and fro/one/0", 0.0, TEXT.encode())
            for seq in range(1, STEPS * at_once * rounds + 1)
        ]
        given: list[list[Value]] = [[*columns([row], [row.data])] for row in rows]
        began = perf_counter()
        for values in given:
            await connection.run(insert, *values, prepare=True)
        took = perf_counter() - began
        connection.close()
        return took

    return measure


def all_works(stack: ExitStack) -> dict[str, Measure]:
    """By name: what is measured."""
    folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
    numbers = count()
    works: dict[str, Measure] = {"without a store": in_graphs(None)}
    for sync in ("paid", "always"):
        works[f"SQLite, {sync}"] = in_graphs(lambda sync=sync: SqliteStore(folder / f"{next(numbers)}.db", sync))  # type: ignore[misc]
    found = programs()
    if found is None:
        print_line("left out: PostgreSQL: its programs aren't installed\n")
        return works
    server = Server(found, fsync=True)
    stack.callback(server.close)
    server.start()
    trio.run(PostgresStore(server.dsn, "raw").migrate)
    works["PostgreSQL, raw inserts, synchronous_commit off"] = raw_inserts(server.dsn, "off")
    for sync in ("paid", "always"):
        works[f"PostgreSQL, {sync}"] = in_graphs(
            lambda sync=sync: PostgresStore(server.dsn, f"s{next(numbers)}", sync, migrate=True)  # type: ignore[misc]
        )
    works["PostgreSQL, raw inserts, synchronous_commit on"] = raw_inserts(server.dsn, "on")
    return works


def main() -> int:
    """Measure and print the best of the passes, which are made in turns."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.durable_steps", description=__doc__)
    parser.add_argument("--passes", type=int, default=PASSES, help=f"how often each is measured (default: {PASSES})")
    options = parser.parse_args()
    print_line(f"Python {platform.python_version()}, trio {trio.__version__}, best of {options.passes} passes in turns\n")
    with ExitStack() as stack:
        works = all_works(stack)
        for at_once, rounds in RUNS.items():
            best = dict.fromkeys(works, float("inf"))
            for _ in range(options.passes):
                for name, measure in works.items():
                    best[name] = min(best[name], trio.run(measure, at_once, rounds) / (STEPS * at_once * rounds))
            print_line(f"a step, {at_once} run{'s' * (at_once > 1)} at once")
            for name, step_s in best.items():
                print_line(f"  {name:50s} {step_s * 1e6:8.1f} µs {step_s / best['without a store']:8.1f} ×")
            print_line("")
    return 0


if __name__ == "__main__":
    sys.exit(main())
