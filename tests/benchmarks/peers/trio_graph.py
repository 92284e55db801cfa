"""Graphs by hand in trio: for a step a hop between two tasks with channels; for a run and a fan-out a nursery."""

from __future__ import annotations

from itertools import pairwise
from time import perf_counter
from typing import Any

import trio
import trio.testing

from tests.benchmarks.graph_works import CHAIN, NAP_S, Stopwatch, chain_runs, fan_runs, fans
from tests.benchmarks.peers.trio_nursery import runs
from tests.benchmarks.works import Peer

Sender = trio.MemorySendChannel[Any]
Receiver = trio.MemoryReceiveChannel[Any]


async def pass_on(numbers: Receiver, following: Sender) -> None:
    async for number in numbers:
        await following.send(number + 1)


def chain(size: int) -> float:
    """A task for each node, and a channel in front of it."""

    async def main() -> float:
        async with trio.open_nursery() as nursery:
            channels = [trio.open_memory_channel[Any](64) for _ in range(CHAIN + 1)]
            for (_, receive), (send, _) in pairwise(channels):
                nursery.start_soon(pass_on, receive, send)
            await trio.testing.wait_all_tasks_blocked()
            begin = perf_counter()
            for _ in range(chain_runs(size)):
                await channels[0][0].send(0)
                assert await channels[-1][1].receive() == CHAIN
            took_s = perf_counter() - begin
            nursery.cancel_scope.cancel()
        return took_s

    return trio.run(main)


def cycle(size: int) -> float:
    async def main() -> float:
        done = trio.Event()

        async def node(numbers: Receiver, other: Sender) -> None:
            async for number in numbers:
                if number == size:
                    done.set()
                else:
                    await other.send(number + 1)

        async with trio.open_nursery() as nursery:
            (to_one, at_one), (to_two, at_two) = trio.open_memory_channel[Any](64), trio.open_memory_channel[Any](64)
            nursery.start_soon(node, at_one, to_two)
            nursery.start_soon(node, at_two, to_one)
            await trio.testing.wait_all_tasks_blocked()
            begin = perf_counter()
            await to_one.send(1)
            await done.wait()
            took_s = perf_counter() - begin
            nursery.cancel_scope.cancel()
        return took_s

    return trio.run(main)


def fan(width: int, branches: int) -> float:
    async def nap(numbers: list[int], number: int) -> None:
        await trio.sleep(NAP_S)
        numbers[number] = number

    async def main() -> float:
        watch = Stopwatch()
        for _ in range(fan_runs(branches, width)):
            numbers = [0] * width
            async with trio.open_nursery() as nursery:
                for number in range(width):
                    nursery.start_soon(nap, numbers, number)
            assert sum(numbers) == sum(range(width))
        return watch.beyond_naps(fan_runs(branches, width))

    return trio.run(main)


PEER = Peer("trio", {"graph-chain": chain, "graph-cycle": cycle, "graph-runs": runs, **fans(fan)})
