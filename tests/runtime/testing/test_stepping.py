from __future__ import annotations

import attrs
import trio
import trio.testing

from actors import Graph
from runtime import open_runtime
from runtime.testing import Held, Stepper


@attrs.frozen
class Question:
    text: str


@attrs.frozen
class Left:
    text: str


@attrs.frozen
class Right:
    text: str


@attrs.frozen
class Answer:
    text: str


graph = Graph("steps", input=Question, output=Answer)


@graph.node
async def left(question: Question) -> Left:
    return Left(question.text)


@graph.node
async def right(question: Question) -> Right:
    return Right(question.text)


@graph.node
async def join(one: Left, two: Right) -> Answer:
    return Answer(one.text + two.text)


async def test_a_graph_is_stepped_node_by_node(virtual_clock: trio.testing.MockClock) -> None:
    async with open_runtime() as runtime, trio.open_nursery() as nursery:
        stepper = Stepper(runtime, lambda address: address.startswith("steps/"))
        nursery.start_soon(runtime.run, graph, Question("?"))

        waiting = await stepper.held()
        first = await stepper.step("steps/right")
        second = await stepper.step()
        third = await stepper.step()

        assert {held.address for held in waiting} == {"steps/left", "steps/right"}
        assert first == Held("steps/right", {"question": Question("?")})
        assert second == Held("steps/left", {"question": Question("?")})
        assert third == Held("steps/join", {"one": Left("?"), "two": Right("?")})
        assert await stepper.step() is None


async def test_what_is_released_runs_on(virtual_clock: trio.testing.MockClock) -> None:
    async with open_runtime() as runtime, trio.open_nursery() as nursery:
        stepper = Stepper(runtime)
        handle = await runtime.start(graph, Question("?"))
        nursery.start_soon(handle.result)

        await stepper.step()
        stepper.release()

        assert await handle.result() == Answer("??")
