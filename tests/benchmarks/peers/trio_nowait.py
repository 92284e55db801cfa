"""Trio with nothing on top and ``send_nowait`` for what it can send without waiting; still one ``receive`` per message."""

from __future__ import annotations

import math
from time import perf_counter
from typing import Any

import trio
import trio.testing

from tests.benchmarks.peers.raw_trio import Receiver, Sender, count
from tests.benchmarks.works import FORK_JOIN_MESSAGES, RING_SIZE, Peer


def one_way(size: int) -> float:
    async def main() -> float:
        async with trio.open_nursery() as nursery:
            send, receive = trio.open_memory_channel[Any](math.inf)
            done = trio.Event()
            nursery.start_soon(count, receive, size, done)
            begin = perf_counter()
            for _ in range(size):
                send.send_nowait(1)
            await done.wait()
            took_s = perf_counter() - begin
            nursery.cancel_scope.cancel()
        return took_s

    return trio.run(main)


def fork_join(size: int) -> float:
    async def main() -> float:
        actors = left = size // FORK_JOIN_MESSAGES
        done = trio.Event()

        async def worker(messages: Receiver) -> None:
            nonlocal left
            for _ in range(FORK_JOIN_MESSAGES):
                await messages.receive()
            left -= 1
            if not left:
                done.set()

        async with trio.open_nursery() as nursery:
            senders = list[Sender]()
            for _ in range(actors):
                send, receive = trio.open_memory_channel[Any](64)
                nursery.start_soon(worker, receive)
                senders.append(send)
            await trio.testing.wait_all_tasks_blocked()
            begin = perf_counter()
            for _ in range(FORK_JOIN_MESSAGES):
                for send in senders:
                    send.send_nowait(1)
            await done.wait()
            took_s = perf_counter() - begin
        return took_s

    return trio.run(main)


def ring(size: int) -> float:
    async def main() -> float:
        done = trio.Event()

        async def node(tokens: Receiver, following: Sender) -> None:
            async for left in tokens:
                if left:
                    following.send_nowait(left - 1)
                else:
                    done.set()

        async with trio.open_nursery() as nursery:
            channels = [trio.open_memory_channel[Any](64) for _ in range(RING_SIZE)]
            for index, (_, receive) in enumerate(channels):
                nursery.start_soon(node, receive, channels[(index + 1) % RING_SIZE][0])
            await trio.testing.wait_all_tasks_blocked()
            begin = perf_counter()
            channels[0][0].send_nowait(size)
            await done.wait()
            took_s = perf_counter() - begin
            nursery.cancel_scope.cancel()
        return took_s

    return trio.run(main)


PEER = Peer("trio, send_nowait", {"one-way": one_way, "fork-join": fork_join, "ring": ring})
