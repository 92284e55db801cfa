"""What actors were missing, for hosts on asyncio and on threads."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
import trio
import trio.lowlevel

from actors import Actor, ActorFailed, DeadLetterPolicy, Failure, StopReason
from runtime.embed.asyncio import open_runtime_asyncio
from runtime.embed.portal import open_runtime_portal


class Counter(Actor):
    def __init__(self) -> None:
        self.count = 0

    async def receive(self, message: Any) -> Any:
        self.count += 1
        return Failure(ValueError("no")) if message == "fail" else self.count

    def describe(self) -> dict[str, int]:
        return {"count": self.count}


async def double(number: int) -> int:
    await trio.lowlevel.checkpoint()
    return 2 * number


def test_f7_threads_have_tasks_ends_topics_and_looks() -> None:
    with open_runtime_portal(dead_letters=DeadLetterPolicy(keep=5)) as runtime:
        counter = runtime.spawn(Counter)
        with pytest.raises(ActorFailed, match="ValueError: no"):
            counter.ask("fail")
        runtime.subscribe(str, counter, topic="t")
        assert runtime.publish("x", topic="t") == 1
        assert counter.ask("how many") == 3
        assert runtime.inspect(counter) == {"count": 3}
        assert runtime.task(double, 21, name="task").result(timeout=5) == 42
        with pytest.raises(TimeoutError):
            counter.ended(timeout=0.01)
        assert runtime.statistics().actors[counter.address].handled == 3

        runtime.stop(counter)
        assert counter.ended(timeout=5).reason is StopReason.STOPPED


def test_f7_coroutines_of_asyncio_have_tasks_ends_and_looks() -> None:
    async def main() -> None:
        async with open_runtime_asyncio() as runtime:
            counter = await runtime.spawn(Counter)
            assert runtime.inspect(counter) == {"count": 0}
            handle = await runtime.task(trio.sleep_forever)
            end = asyncio.create_task(handle.ended())
            await handle.cancel()
            assert (await end).reason is StopReason.STOPPED
            await runtime.stop(counter)
            assert (await counter.ended(timeout=5)).reason is StopReason.STOPPED
            assert (await (await runtime.task(double, 2)).result()) == 4

    asyncio.run(asyncio.wait_for(main(), 20))
