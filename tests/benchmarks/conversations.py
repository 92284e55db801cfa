"""What a quiet conversation costs: ``python -m tests.benchmarks.conversations [COUNT]``, 10,000 of them by default.

Each has had one message and its answer. 1 % of them have had another in the last minute, so their actors are there; the rest are
quiet. Measured without a store, where what was said stays in memory, and over one in a file, where it does not.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import attrs
import trio

from actors import Graph
from runtime import open_runtime
from runtime.journal import SqliteStore
from tests.benchmarks.resident import resident_bytes


@attrs.frozen
class Said:
    text: str


@attrs.frozen
class Reply:
    text: str


def talking() -> Graph[Said, Reply]:
    graph = Graph("talks", input=Said, output=Reply)

    @graph.node
    async def answer(said: Said) -> Reply:
        return Reply(f"you said {said.text}")

    return graph


async def bytes_each(count: int, path: Path | None) -> float:
    """Resident bytes for each of `count` conversations, 1 % of which are active."""
    graph = talking()
    async with open_runtime(store=None if path is None else SqliteStore(path)) as runtime:

        async def talk(numbers: range, idle_s: float) -> None:
            for number in numbers:
                await runtime.conversation(graph, key=f"user-{number}", idle_s=idle_s).send(Said(f"hello from {number}"))

        for warm in range(2):  # what the first ones cost is not theirs
            await talk(range(count + warm * 100, count + (warm + 1) * 100), 0.01)
        await trio.sleep(1)
        before = resident_bytes()
        await talk(range(count), 0.01)
        await talk(range(0, count, 100), 3_600.0)
        await trio.sleep(2)
        return (resident_bytes() - before) / count


def main() -> None:
    """Print both."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 10_000
    sys.stdout.write(f"{count:,} conversations, 1 % active, one turn each\n")
    sys.stdout.write(f"in memory: {trio.run(bytes_each, count, None):,.0f} bytes each\n")
    with tempfile.TemporaryDirectory() as folder:
        sys.stdout.write(f"stored:    {trio.run(bytes_each, count, Path(folder) / 'runs.db'):,.0f} bytes each\n")


if __name__ == "__main__":
    main()
