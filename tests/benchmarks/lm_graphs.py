"""Measurements of language-model calls that have no peer: a graph's time beside its longest call, and memory under crowds."""

from __future__ import annotations

from time import perf_counter

import attrs
import trio

from actors import Graph
from runtime import open_runtime
from tests.benchmarks.lm_works import CONNECTIONS, SLOW
from tests.benchmarks.peers.lm.ours import Question, chat, client
from tests.benchmarks.resident import resident_bytes

CROWDS, EARLY = 12, 3


@attrs.frozen
class Left:
    text: str


@attrs.frozen
class Middle:
    text: str


@attrs.frozen
class Right:
    text: str


@attrs.frozen
class Whole:
    texts: tuple[str, str, str]


def three() -> Graph:
    """Three nodes that ask at once, and one that joins their answers."""
    graph = Graph("three", input=Question, output=Whole)

    @graph.predict
    async def left(question: Question) -> Left:  # type: ignore[empty-body]
        """Greet from the left."""
        ...

    @graph.predict
    async def middle(question: Question) -> Middle:  # type: ignore[empty-body]
        """Greet from the middle."""
        ...

    @graph.predict
    async def right(question: Question) -> Right:  # type: ignore[empty-body]
        """Greet from the right."""
        ...

    @graph.node
    async def joined(a: Left, b: Middle, c: Right) -> Whole:
        return Whole((a.text, b.text, c.text))

    return graph


def three_nodes(base: str) -> float:
    """Seconds of one run, after one that is not counted."""

    async def main() -> float:
        graph = three()
        async with open_runtime(lm=client(base, SLOW)) as runtime:
            await runtime.run(graph, Question("Hello"))
            start_s = perf_counter()
            await runtime.run(graph, Question("Hello"))
            return perf_counter() - start_s

    return trio.run(main)


def memory_of_crowds(base: str, width: int = CONNECTIONS) -> tuple[int, int]:
    """Bytes of this process after the third crowd of calls and after the last, its answers thrown away."""

    async def main() -> tuple[int, int]:
        sizes: list[int] = []
        async with chat(base) as call:
            for _ in range(CROWDS):
                async with trio.open_nursery() as nursery:
                    for _ in range(width):
                        nursery.start_soon(call)
                sizes.append(resident_bytes())
        return sizes[EARLY - 1], sizes[-1]

    return trio.run(main)
