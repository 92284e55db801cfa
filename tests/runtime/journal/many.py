"""Run very many durable runs on one SQLite file, and count what is left of them in memory and in the file.

``python -m tests.runtime.journal.many 100000``. Counted in objects and in pages, not in bytes or seconds.
"""

from __future__ import annotations

import gc
import sqlite3
import sys
import tempfile
from pathlib import Path
from typing import Final

import attrs
import trio

from actors import Graph
from runtime import Runtime, open_runtime
from runtime.journal import Retention, SqliteStore

AT_ONCE: Final = 50
LOOKS: Final = 5
PIECES: Final = 4


@attrs.frozen
class Order:
    number: int


@attrs.frozen
class Sent:
    number: int


graph = Graph("many", input=Order, output=Sent)


@graph.node
async def send(order: Order) -> Sent:
    return Sent(order.number)


def objects() -> int:
    gc.collect()
    return len(gc.get_objects())


def pages(path: Path) -> tuple[int, int]:
    """Pages of the file, and those of them that are free."""
    with sqlite3.connect(f"file:{path}?mode=ro", uri=True) as db:
        (count,), (free,) = db.execute("pragma page_count").fetchone(), db.execute("pragma freelist_count").fetchone()
    return count, free


async def some(runtime: Runtime, first: int, count: int) -> None:
    async def one(start: int) -> None:
        for number in range(start, first + count, AT_ONCE):
            assert await runtime.run(graph, Order(number), run_id=f"order-{number}") == Sent(number)

    async with trio.open_nursery() as nursery:
        for start in range(first, first + AT_ONCE):
            nursery.start_soon(one, start)


async def main(runs: int) -> list[tuple[int, int, int, int]]:
    """After each part of them: how many runs there were, objects, pages, and free pages."""
    seen: list[tuple[int, int, int, int]] = []
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "runs.db"
        store, retention = SqliteStore(path), Retention(done_s=1e-6)
        async with open_runtime(store=store, graphs=[graph]) as runtime:
            part = runs // LOOKS
            for look in range(LOOKS):
                for piece in range(PIECES):  # as often as a sweep comes while runs go on
                    await some(runtime, look * part + piece * part // PIECES, part // PIECES)
                    while await retention.sweep(store):
                        pass
                assert not (await runtime.stored(limit=1)).items
                seen.append(((look + 1) * part, objects(), *pages(path)))
                print(*seen[-1], flush=True)  # noqa: T201
    return seen


if __name__ == "__main__":
    trio.run(main, int(sys.argv[1]))
