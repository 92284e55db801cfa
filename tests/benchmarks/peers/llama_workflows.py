"""LlamaIndex Workflows: events and steps, on asyncio; ``send_event`` for a fan-out, ``collect_events`` for its results."""

# pyright: reportMissingImports=false, reportUntypedBaseClass=false
# The library is installed for `make bench` only.
from __future__ import annotations

import asyncio
from time import perf_counter
from typing import Any

from workflows import Context, Workflow, step
from workflows.events import Event, StartEvent, StopEvent

from tests.benchmarks.graph_works import CHAIN, NAP_S, SHORT_CHAIN, Stopwatch, chain_runs, fan_runs, fans
from tests.benchmarks.works import Peer


def node(name: str, source: Any, target: Any, number: int | None) -> Any:
    """A step of the chain; the last one, `number`, stops the workflow with it."""

    async def add_one(self: Any, event: Any) -> Any:
        return target(result=number) if number is not None else target(number=event.number + 1)

    add_one.__annotations__ = {"event": source, "return": target}
    add_one.__name__, add_one.__qualname__ = name, f"Row.{name}"
    return step(add_one)


def row(length: int) -> Any:
    kinds = [StartEvent, *(type(f"Number{index}", (Event,), {}) for index in range(1, length)), StopEvent]
    body: dict[str, Any] = {}
    for index in range(length):
        last = length if index == length - 1 else None
        body[f"node{index}"] = node(f"node{index}", kinds[index], kinds[index + 1], last)
    return type("Row", (Workflow,), body)(timeout=None)


def chain(size: int) -> float:
    async def main() -> float:
        workflow = row(CHAIN)
        begin = perf_counter()
        for _ in range(chain_runs(size)):
            assert await workflow.run(number=0) == CHAIN
        return perf_counter() - begin

    return asyncio.run(main())


class Ping(Event):
    number: int


class Pong(Event):
    number: int


class Circle(Workflow):
    @step
    async def begin(self, event: StartEvent) -> Ping:
        self.size = event.size
        return Ping(number=1)

    @step
    async def one(self, event: Ping) -> Pong | StopEvent:
        return StopEvent(result=event.number) if event.number == self.size else Pong(number=event.number + 1)

    @step
    async def two(self, event: Pong) -> Ping | StopEvent:
        return StopEvent(result=event.number) if event.number == self.size else Ping(number=event.number + 1)


def cycle(size: int) -> float:
    async def main() -> float:
        workflow = Circle(timeout=None)
        begin = perf_counter()
        assert await workflow.run(size=size) == size
        return perf_counter() - begin

    return asyncio.run(main())


def runs(size: int) -> float:
    async def main() -> float:
        workflow = row(SHORT_CHAIN)

        async def once() -> None:
            await workflow.run(number=0)

        begin = perf_counter()
        await asyncio.gather(*(once() for _ in range(size)))
        return perf_counter() - begin

    return asyncio.run(main())


class Item(Event):
    number: int


class Slept(Event):
    number: int


def wide(width: int) -> Any:
    class Wide(Workflow):
        @step
        async def split(self, ctx: Context, event: StartEvent) -> Item | None:
            for number in range(width):
                ctx.send_event(Item(number=number))
            return None

        @step(num_workers=width)
        async def nap(self, event: Item) -> Slept:
            await asyncio.sleep(NAP_S)
            return Slept(number=event.number)

        @step(num_workers=1)
        async def add_up(self, ctx: Context, event: Slept) -> StopEvent | None:
            slept = ctx.collect_events(event, [Slept] * width)
            return None if slept is None else StopEvent(result=sum(each.number for each in slept))

    return Wide(timeout=None)


def fan(width: int, branches: int) -> float:
    async def main() -> float:
        workflow = wide(width)
        watch = Stopwatch()
        for _ in range(fan_runs(branches, width)):
            assert await workflow.run() == sum(range(width))
        return watch.beyond_naps(fan_runs(branches, width))

    return asyncio.run(main())


# A thousand branches take it half a minute, because collecting looks at all that came before: left out.
PEER = Peer("LlamaIndex", {"graph-chain": chain, "graph-cycle": cycle, "graph-runs": runs, **fans(fan, (3, 100))}, share=0.05)
