"""Graphs by hand in trio, with a nursery for each step: the second line for the works whose first line is a hop."""

from __future__ import annotations

from time import perf_counter

import trio

from tests.benchmarks.graph_works import CHAIN, SHORT_CHAIN, chain_runs
from tests.benchmarks.works import Peer


async def add_one(numbers: list[int]) -> None:
    await trio.lowlevel.checkpoint()
    numbers.append(numbers[-1] + 1)


async def steps(length: int) -> int:
    numbers = [0]
    for _ in range(length):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(add_one, numbers)
    return numbers[-1]


def chain(size: int) -> float:
    async def main() -> float:
        begin = perf_counter()
        for _ in range(chain_runs(size)):
            assert await steps(CHAIN) == CHAIN
        return perf_counter() - begin

    return trio.run(main)


def cycle(size: int) -> float:
    async def main() -> float:
        begin = perf_counter()
        assert await steps(size) == size
        return perf_counter() - begin

    return trio.run(main)


def runs(size: int) -> float:
    async def main() -> float:
        begin = perf_counter()
        async with trio.open_nursery() as nursery:
            for _ in range(size):
                nursery.start_soon(steps, SHORT_CHAIN)
        return perf_counter() - begin

    return trio.run(main)


PEER = Peer("trio, nursery", {"graph-chain": chain, "graph-cycle": cycle})
