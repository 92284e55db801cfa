"""This runtime, through its public names only."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable
from time import perf_counter
from typing import Any

import attrs
import trio

from actors import Actor, ActorRef, MailboxSpec
from runtime import Runtime, open_runtime
from tests.benchmarks.resident import resident_bytes
from tests.benchmarks.works import FORK_JOIN_MESSAGES, RING_SIZE, Peer

UNBOUNDED = MailboxSpec(capacity=math.inf)


def in_runtime(body: Callable[[Runtime], Awaitable[float]]) -> float:
    async def main() -> float:
        async with open_runtime(seed=1) as runtime:
            return await body(runtime)

    return trio.run(main)


class Pong(Actor):
    async def receive(self, message: int) -> int:
        return 1


def ask(size: int) -> float:
    async def body(runtime: Runtime) -> float:
        pong = await runtime.spawn(Pong)
        begin = perf_counter()
        for _ in range(size):
            await pong.ask(1)
        return perf_counter() - begin

    return in_runtime(body)


class Counter(Actor):
    def __init__(self, size: int, done: trio.Event) -> None:
        self.size, self.done, self.total = size, done, 0

    async def receive(self, message: int) -> None:
        self.total += message
        if self.total == self.size:
            self.done.set()


def one_way(size: int) -> float:
    async def body(runtime: Runtime) -> float:
        done = trio.Event()
        counter = await runtime.spawn(Counter, size, done, mailbox=UNBOUNDED)
        begin = perf_counter()
        for _ in range(size):
            counter.tell_nowait(1)
        await done.wait()
        return perf_counter() - begin

    return in_runtime(body)


def backpressure(size: int) -> float:
    async def body(runtime: Runtime) -> float:
        done = trio.Event()
        counter = await runtime.spawn(Counter, size, done)
        begin = perf_counter()
        for _ in range(size):
            await counter.tell(1)
        await done.wait()
        return perf_counter() - begin

    return in_runtime(body)


@attrs.define
class Join:
    left: int
    done: trio.Event


class Worker(Actor):
    def __init__(self, join: Join) -> None:
        self.join, self.received = join, 0

    async def receive(self, message: int) -> None:
        self.received += message
        if self.received == FORK_JOIN_MESSAGES:
            self.join.left -= 1
            if not self.join.left:
                self.join.done.set()


def fork_join(size: int) -> float:
    async def body(runtime: Runtime) -> float:
        join = Join(size // FORK_JOIN_MESSAGES, trio.Event())
        workers = [await runtime.spawn(Worker, join) for _ in range(join.left)]
        begin = perf_counter()
        for _ in range(FORK_JOIN_MESSAGES):
            for worker in workers:
                worker.tell_nowait(1)
        await join.done.wait()
        return perf_counter() - begin

    return in_runtime(body)


class Node(Actor):
    def __init__(self, nodes: list[ActorRef[Any]], following: int, done: trio.Event) -> None:
        self.nodes, self.following, self.done = nodes, following, done

    async def receive(self, message: int) -> None:
        if message:
            self.nodes[self.following].tell_nowait(message - 1)
        else:
            self.done.set()


def ring(size: int) -> float:
    async def body(runtime: Runtime) -> float:
        nodes, done = list[ActorRef[Any]](), trio.Event()
        for index in range(RING_SIZE):
            nodes.append(await runtime.spawn(Node, nodes, (index + 1) % RING_SIZE, done))
        begin = perf_counter()
        await nodes[0].tell(size)
        await done.wait()
        return perf_counter() - begin

    return in_runtime(body)


def spawn(size: int) -> float:
    async def body(runtime: Runtime) -> float:
        begin = perf_counter()
        for _ in range(size):
            await runtime.spawn(Pong)
        return perf_counter() - begin

    return in_runtime(body)


def memory(size: int) -> float:
    async def body(runtime: Runtime) -> float:
        before = resident_bytes()
        refs = [await runtime.spawn(Pong) for _ in range(size)]
        assert len(refs) == size
        return resident_bytes() - before

    return in_runtime(body)


PEER = Peer(
    "understudy",
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
