from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager

import attrs
import pytest
import trio

from actors import Actor, Graph
from runtime.testing import Deadlock, Simulation
from runtime.testing.schedules.deadlock import cycle_in
from runtime.testing.schedules.strategies import InTurn


def report(program: Callable[[Simulation], Awaitable[object]]) -> str:
    """What the deadlock of `program` says after its first line, without places."""
    sim = Simulation(InTurn())
    with pytest.raises(Deadlock) as caught:
        sim.run(lambda: program(sim))
    return "\n".join(line.partition("   [")[0].strip() for line in str(caught.value).splitlines()[1:])


async def limiter(sim: Simulation) -> None:
    tokens = trio.CapacityLimiter(1)

    async def hold() -> None:
        async with tokens:
            await trio.sleep_forever()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(hold)
        await trio.sleep(1)
        await tokens.acquire()


async def channels(sim: Simulation) -> None:
    send, receive = trio.open_memory_channel[int](0)

    async def listen() -> None:
        await trio.open_memory_channel[int](0)[1].receive()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(listen)
        await send.send(1)
    receive.close()


async def event(sim: Simulation) -> None:
    await trio.Event().wait()


@attrs.frozen
class Question:
    pass


@attrs.frozen
class Left:
    pass


@attrs.frozen
class Right:
    pass


@attrs.frozen
class Both:
    pass


async def join(sim: Simulation) -> None:
    graph = Graph("pair", input=Question, output=Both)

    @graph.node
    async def left(question: Question) -> Left:
        return Left()

    @graph.node
    async def right(question: Question) -> Right:
        await trio.Event().wait()
        return Right()

    @graph.node
    async def both(one: Left, two: Right) -> Both:
        return Both()

    async with sim.open_runtime() as runtime:
        await runtime.run(graph, Question())


async def delegating(sim: Simulation) -> None:
    """A node waits for a run, whose node waits for what nobody does."""
    inner, outer = Graph("inner", input=Left, output=Both), Graph("outer", input=Question, output=Both)
    async with sim.open_runtime() as runtime:

        @inner.node
        async def stuck(one: Left) -> Both:
            await trio.Event().wait()
            return Both()

        @outer.node
        async def asks(question: Question) -> Both:
            return await runtime.run(inner, Left())

        await runtime.run(outer, Question())


class Stubborn(Actor):
    @asynccontextmanager
    async def lifespan(self) -> AsyncGenerator[None]:
        yield
        with trio.CancelScope(shield=True):
            await trio.sleep_forever()

    async def receive(self, message: object) -> None: ...


async def stop(sim: Simulation) -> None:
    async with sim.open_runtime() as runtime:
        await runtime.stop(await runtime.spawn(Stubborn, name="stubborn"))


@pytest.mark.parametrize(
    ("program", "lines"),
    [
        (limiter, ["main waits for a token of a CapacityLimiter(1) that hold hold", "hold waits for sleep_forever()"]),
        (
            channels,
            [
                "main waits for room in a memory channel (0 of 0 full)",
                "listen waits for an item of a memory channel (open senders: 1)",
            ],
        ),
        (event, ["main waits for an Event that was not set"]),
        (
            join,
            [
                "main waits for the end of run 'pair-1' of 'pair', in which these are at work: pair/right/0",
                "pair/right waits for an Event that was not set",
                "idle: pair, pair/left, pair/both",
            ],
        ),
        (
            delegating,
            [
                "main waits for the end of run 'outer-1' of 'outer', in which these are at work: outer/asks/0",
                "outer/asks waits for the end of run 'inner-2' of 'inner', in which these are at work: inner/stuck/0",
                "inner/stuck waits for an Event that was not set",
                "idle: outer, inner",
            ],
        ),
    ],
    ids=lambda value: value.__name__ if callable(value) else "",
)
def test_each_kind_of_wait_has_its_words(program: Callable[[Simulation], Awaitable[object]], lines: list[str]) -> None:
    assert report(program).splitlines() == lines


def test_a_stop_that_does_not_end_names_the_actor() -> None:
    text = report(stop)

    assert "main waits for the end of 'stubborn'" in text
    assert "stubborn waits for sleep_forever()" in text


def test_the_first_cycle_is_found_also_behind_a_tail() -> None:
    assert cycle_in({"a": ["b"], "b": ["c"], "c": ["b"]}) == ["b", "c", "b"]
    assert cycle_in({"a": ["b", "c"], "b": ["c"], "c": []}) == []
