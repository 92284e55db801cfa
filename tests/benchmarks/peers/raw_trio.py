"""Trio with nothing on top: a task and a memory channel per actor, one ``receive`` per message."""

from __future__ import annotations

import math
from time import perf_counter
from typing import Any

import trio
import trio.testing

from tests.benchmarks.resident import resident_bytes
from tests.benchmarks.works import FORK_JOIN_MESSAGES, RING_SIZE, Peer

Sender = trio.MemorySendChannel[Any]
Receiver = trio.MemoryReceiveChannel[Any]


def ask(size: int) -> float:
    async def pong(requests: Receiver) -> None:
        async for reply_to in requests:
            await reply_to.send(1)

    async def main() -> float:
        async with trio.open_nursery() as nursery:
            send, receive = trio.open_memory_channel[Any](64)
            nursery.start_soon(pong, receive)
            reply_to, replies = trio.open_memory_channel[Any](1)
            begin = perf_counter()
            for _ in range(size):
                await send.send(reply_to)
                await replies.receive()
            took_s = perf_counter() - begin
            nursery.cancel_scope.cancel()
        return took_s

    return trio.run(main)


async def count(messages: Receiver, size: int, done: trio.Event) -> None:
    total = 0
    async for message in messages:
        total += message
        if total == size:
            done.set()


def one_way(size: int) -> float:
    return send_all(size, math.inf)


def backpressure(size: int) -> float:
    return send_all(size, 64)


def send_all(size: int, capacity: float) -> float:
    async def main() -> float:
        async with trio.open_nursery() as nursery:
            send, receive = trio.open_memory_channel[Any](capacity)
            done = trio.Event()
            nursery.start_soon(count, receive, size, done)
            begin = perf_counter()
            for _ in range(size):
                await send.send(1)
            await done.wait()
            took_s = perf_counter() - begin
            nursery.cancel_scope.cancel()
        return took_s

    return trio.run(main)


def fork_join(size: int) -> float:
    actors = size // FORK_JOIN_MESSAGES

    async def main() -> float:
        left, done = actors, trio.Event()

        async def worker(messages: Receiver) -> None:
            nonlocal left
            received = 0
            async for message in messages:
                received += message
                if received == FORK_JOIN_MESSAGES:
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
                    await send.send(1)
            await done.wait()
            took_s = perf_counter() - begin
            nursery.cancel_scope.cancel()
        return took_s

    return trio.run(main)


def ring(size: int) -> float:
    async def main() -> float:
        done = trio.Event()

        async def node(tokens: Receiver, following: Sender) -> None:
            async for left in tokens:
                if left:
                    await following.send(left - 1)
                else:
                    done.set()

        async with trio.open_nursery() as nursery:
            channels = [trio.open_memory_channel[Any](64) for _ in range(RING_SIZE)]
            for index, (_, receive) in enumerate(channels):
                nursery.start_soon(node, receive, channels[(index + 1) % RING_SIZE][0])
            await trio.testing.wait_all_tasks_blocked()
            begin = perf_counter()
            await channels[0][0].send(size)
            await done.wait()
            took_s = perf_counter() - begin
            nursery.cancel_scope.cancel()
        return took_s

    return trio.run(main)


async def idle(messages: Receiver, started: trio.Event | None = None) -> None:
    if started is not None:
        started.set()
    async for _ in messages:
        pass


def spawn(size: int) -> float:
    """One after the other, each known to have started, as with ``spawn`` of this runtime."""

    async def main() -> float:
        async with trio.open_nursery() as nursery:
            senders = list[Sender]()
            begin = perf_counter()
            for _ in range(size):
                send, receive = trio.open_memory_channel[Any](64)
                started = trio.Event()
                nursery.start_soon(idle, receive, started)
                senders.append(send)
                await started.wait()
            took_s = perf_counter() - begin
            nursery.cancel_scope.cancel()
        return took_s

    return trio.run(main)


def memory(size: int) -> float:
    async def main() -> float:
        async with trio.open_nursery() as nursery:
            senders = list[Sender]()
            before = resident_bytes()
            for _ in range(size):
                send, receive = trio.open_memory_channel[Any](64)
                nursery.start_soon(idle, receive)
                senders.append(send)
            await trio.testing.wait_all_tasks_blocked()
            grown = resident_bytes() - before
            nursery.cancel_scope.cancel()
        return grown

    return trio.run(main)


PEER = Peer(
    "trio",
    {
        "ask": ask,
        "one-way": one_way,
        "backpressure": backpressure,
        "fork-join": fork_join,
        "ring": ring,
        "spawn": spawn,
        "memory": memory,
        "crowd": memory,
    },
)
