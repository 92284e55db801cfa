"""asyncio with nothing on top: a task and a queue per actor."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from time import perf_counter
from typing import Any

from tests.benchmarks.resident import resident_bytes
from tests.benchmarks.works import FORK_JOIN_MESSAGES, RING_SIZE, Peer

Queue = asyncio.Queue[Any]


Start = Callable[[Coroutine[Any, Any, None]], None]


def measured(body: Callable[[Start], Awaitable[float]]) -> float:
    """Run `body` with a way to start tasks; cancel them once it has measured."""

    async def main() -> float:
        tasks = list[asyncio.Task[None]]()
        result = await body(lambda coroutine: tasks.append(asyncio.create_task(coroutine)))
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        return result

    return asyncio.run(main())


def ask(size: int) -> float:
    async def pong(requests: Queue) -> None:
        while True:
            (await requests.get()).put_nowait(1)

    async def body(start: Start) -> float:
        requests, replies = Queue(64), Queue(1)
        start(pong(requests))
        begin = perf_counter()
        for _ in range(size):
            await requests.put(replies)
            await replies.get()
        return perf_counter() - begin

    return measured(body)


async def count(messages: Queue, size: int, done: asyncio.Event) -> None:
    total = 0
    while True:
        total += await messages.get()
        if total == size:
            done.set()


def one_way(size: int) -> float:
    async def body(start: Start) -> float:
        messages, done = Queue(), asyncio.Event()
        start(count(messages, size, done))
        begin = perf_counter()
        for _ in range(size):
            messages.put_nowait(1)
        await done.wait()
        return perf_counter() - begin

    return measured(body)


def backpressure(size: int) -> float:
    async def body(start: Start) -> float:
        messages, done = Queue(64), asyncio.Event()
        start(count(messages, size, done))
        begin = perf_counter()
        for _ in range(size):
            await messages.put(1)
        await done.wait()
        return perf_counter() - begin

    return measured(body)


def fork_join(size: int) -> float:
    actors = size // FORK_JOIN_MESSAGES

    async def body(start: Start) -> float:
        left, done = actors, asyncio.Event()

        async def worker(messages: Queue) -> None:
            nonlocal left
            for _ in range(FORK_JOIN_MESSAGES):
                await messages.get()
            left -= 1
            if not left:
                done.set()

        queues = [Queue() for _ in range(actors)]
        for queue in queues:
            start(worker(queue))
        await asyncio.sleep(0)
        begin = perf_counter()
        for _ in range(FORK_JOIN_MESSAGES):
            for queue in queues:
                queue.put_nowait(1)
        await done.wait()
        return perf_counter() - begin

    return measured(body)


def ring(size: int) -> float:
    async def body(start: Start) -> float:
        done = asyncio.Event()

        async def node(tokens: Queue, following: Queue) -> None:
            while True:
                left = await tokens.get()
                if left:
                    following.put_nowait(left - 1)
                else:
                    done.set()

        queues = [Queue() for _ in range(RING_SIZE)]
        for index, queue in enumerate(queues):
            start(node(queue, queues[(index + 1) % RING_SIZE]))
        begin = perf_counter()
        queues[0].put_nowait(size)
        await done.wait()
        return perf_counter() - begin

    return measured(body)


async def idle(messages: Queue, started: asyncio.Event | None = None) -> None:
    if started is not None:
        started.set()
    while True:
        await messages.get()


def spawn(size: int) -> float:
    async def body(start: Start) -> float:
        begin = perf_counter()
        for _ in range(size):
            started = asyncio.Event()
            start(idle(Queue(64), started))
            await started.wait()
        return perf_counter() - begin

    return measured(body)


def memory(size: int) -> float:
    async def body(start: Start) -> float:
        before = resident_bytes()
        for _ in range(size):
            start(idle(Queue(64)))
        await asyncio.sleep(0)
        return resident_bytes() - before

    return measured(body)


PEER = Peer(
    "asyncio.Queue",
    {
        "ask": ask,
        "one-way": one_way,
        "backpressure": backpressure,
        "fork-join": fork_join,
        "ring": ring,
        "spawn": spawn,
        "memory": memory,
    },
)
