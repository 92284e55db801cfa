"""AutoGen-core on its ``SingleThreadedAgentRuntime``: asks are ``send_message``, one-way messages are published to a topic."""

# pyright: reportMissingImports=false, reportUntypedBaseClass=false
# The library is installed for `make bench` only.
from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from time import perf_counter
from typing import Any

import autogen_core as autogen
from autogen_core import SingleThreadedAgentRuntime as Runtime
from pydantic import BaseModel

from tests.benchmarks.resident import resident_bytes
from tests.benchmarks.works import FORK_JOIN_MESSAGES, RING_SIZE, Peer


class Number(BaseModel):
    value: int


def in_runtime(body: Callable[[Runtime], Awaitable[float]]) -> float:
    async def main() -> float:
        runtime = Runtime()
        runtime.start()
        took = await body(runtime)
        await runtime.stop()
        return took

    return asyncio.run(main())


class Pong(autogen.RoutedAgent):
    def __init__(self) -> None:
        super().__init__("answers")

    @autogen.message_handler
    async def answer(self, message: Number, ctx: autogen.MessageContext) -> Number:
        return message


def ask(size: int) -> float:
    async def body(runtime: Runtime) -> float:
        await Pong.register(runtime, "pong", Pong)
        pong, message = autogen.AgentId("pong", "1"), Number(value=1)
        begin = perf_counter()
        for _ in range(size):
            await runtime.send_message(message, pong)
        return perf_counter() - begin

    return in_runtime(body)


class Join:
    def __init__(self, left: int) -> None:
        self.left, self.done = left, asyncio.Event()


class Counter(autogen.RoutedAgent):
    def __init__(self, size: int, join: Join) -> None:
        super().__init__("counts")
        self.size, self.join, self.total = size, join, 0

    @autogen.message_handler
    async def count(self, message: Number, ctx: autogen.MessageContext) -> None:
        self.total += message.value
        if self.total == self.size:
            self.join.left -= 1
            if not self.join.left:
                self.join.done.set()


async def publish(size: int, actors: int, runtime: Runtime) -> float:
    """`size` messages to each of `actors`, round by round."""
    join, message = Join(actors), Number(value=1)
    await Counter.register(runtime, "counter", lambda: Counter(size, join))
    await runtime.add_subscription(autogen.TypeSubscription("count", "counter"))
    topics = [autogen.TopicId("count", str(index)) for index in range(actors)]
    for index in range(actors):
        await runtime.get(autogen.AgentId("counter", str(index)), lazy=False)
    begin = perf_counter()
    for _ in range(size):
        for topic in topics:
            await runtime.publish_message(message, topic)
    await join.done.wait()
    return perf_counter() - begin


def one_way(size: int) -> float:
    return in_runtime(lambda runtime: publish(size, 1, runtime))


def fork_join(size: int) -> float:
    return in_runtime(lambda runtime: publish(FORK_JOIN_MESSAGES, size // FORK_JOIN_MESSAGES, runtime))


class Node(autogen.RoutedAgent):
    def __init__(self, done: asyncio.Event) -> None:
        super().__init__("passes on")
        self.done = done

    @autogen.message_handler
    async def pass_on(self, message: Number, ctx: autogen.MessageContext) -> None:
        if message.value:
            following = str((int(self.id.key) + 1) % RING_SIZE)
            await self.publish_message(Number(value=message.value - 1), autogen.TopicId("token", following))
        else:
            self.done.set()


def ring(size: int) -> float:
    async def body(runtime: Runtime) -> float:
        done = asyncio.Event()
        await Node.register(runtime, "node", lambda: Node(done))
        await runtime.add_subscription(autogen.TypeSubscription("token", "node"))
        begin = perf_counter()
        await runtime.publish_message(Number(value=size), autogen.TopicId("token", "0"))
        await done.wait()
        return perf_counter() - begin

    return in_runtime(body)


def spawn(size: int) -> float:
    async def body(runtime: Runtime) -> float:
        await Pong.register(runtime, "pong", Pong)
        begin = perf_counter()
        for index in range(size):
            await runtime.get(autogen.AgentId("pong", str(index)), lazy=False)
        return perf_counter() - begin

    return in_runtime(body)


def memory(size: int) -> float:
    async def body(runtime: Runtime) -> float:
        await Pong.register(runtime, "pong", Pong)
        before = resident_bytes()
        ids: list[Any] = [await runtime.get(autogen.AgentId("pong", str(index)), lazy=False) for index in range(size)]
        assert len(ids) == size
        return resident_bytes() - before

    return in_runtime(body)


PEER = Peer(
    "AutoGen-core",
    {"ask": ask, "one-way": one_way, "fork-join": fork_join, "ring": ring, "spawn": spawn, "memory": memory},
    share=0.05,
)
