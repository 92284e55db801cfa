"""What must not be survived ends the runtime, wherever it comes from; what only looks like it ends nothing."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Annotated

import attrs
import pytest
import trio

from actors import (
    Actor,
    ActorError,
    ActorFailed,
    ActorStartFailed,
    Backoff,
    ChildSpec,
    Dep,
    Graph,
    Redelivery,
    RunError,
    Supervision,
    UsageError,
)
from runtime import ActorStarted, Runtime, open_runtime
from tests.runtime.cast import Echo


class Own(BaseException):
    """A library's own way out."""


Make = Callable[[], BaseException]

FATAL: dict[str, Make] = {
    "interrupt": lambda: KeyboardInterrupt(),
    "generator-exit": lambda: GeneratorExit(),
    "group": lambda: BaseExceptionGroup("", [LookupError(), BaseExceptionGroup("", [KeyboardInterrupt()])]),
}
FAILURES: dict[str, Make] = {
    "system-exit": lambda: SystemExit(3),
    "own": lambda: Own(),
    "own-group": lambda: BaseExceptionGroup("", [Own(), LookupError()]),
}


@attrs.frozen
class In:
    v: int


@attrs.frozen
class Out:
    v: int


class Raises(Actor):
    """Raises once in the place that it is told."""

    def __init__(self, make: Make, place: str) -> None:
        self.make = make
        self.place = place
        if place == "factory":
            raise make()

    @contextlib.asynccontextmanager
    async def lifespan(self) -> AsyncIterator[None]:
        if self.place == "start":
            raise self.make()
        if self.place == "child-in-start":
            await self.context.spawn(Raises, self.make, "start")
        if self.place == "task-in-start":
            self.context.nursery.start_soon(self.fail)
            await trio.sleep(1)
        yield
        if self.place == "exit" and self.context.incarnation == 1:
            raise self.make()

    async def receive(self, message: object) -> None:
        if message == "tick" or self.place == "receive":
            raise self.make()
        match self.place:
            case "timer":
                self.context.schedule_once(1, "tick")
            case "task":
                self.context.nursery.start_soon(self.fail)
            case "child":
                await self.context.spawn(Raises, self.make, "start")
            case "child-caught":
                with contextlib.suppress(ActorStartFailed):
                    await self.context.spawn(Raises, self.make, "start")
            case "grandchild":
                await (await self.context.spawn(Raises, self.make, "child")).ask("go")
            case "child-receive":
                await (await self.context.spawn(Raises, self.make, "receive")).tell("go")
            case "child-exit":
                await self.context.spawn(Raises, self.make, "exit")
                self.context.stop()
            case _:
                self.context.stop()

    async def fail(self) -> None:
        raise self.make()


Place = Callable[[Runtime, Make], Awaitable[object]]


def of_an_actor(place: str) -> Place:
    async def tried(runtime: Runtime, make: Make) -> None:
        with contextlib.suppress(ActorStartFailed, ActorFailed):
            ref = await runtime.spawn(Raises, make, place)
            await ref.tell("go")

    return tried


async def of_a_supervisors_child(runtime: Runtime, make: Make) -> None:
    with contextlib.suppress(ActorStartFailed):
        await runtime.supervise([ChildSpec("a", Echo), ChildSpec("b", Raises, (make, "start"))])


async def of_a_node(runtime: Runtime, make: Make) -> None:
    graph = Graph("node", input=In, output=Out)

    @graph.node
    async def node(given: In) -> Out:
        raise make()

    with contextlib.suppress(RunError):
        await runtime.run(graph, In(1))


async def of_a_node_in_a_thread(runtime: Runtime, make: Make) -> None:
    graph = Graph("thread", input=In, output=Out)

    @graph.node
    def node(given: In) -> Out:
        raise make()

    with contextlib.suppress(RunError):
        await runtime.run(graph, In(1))


async def of_a_dependency(runtime: Runtime, make: Make) -> None:
    graph = Graph("dependency", input=In, output=Out)

    async def needed() -> int:
        raise make()

    @graph.node
    async def node(given: In, value: Annotated[int, Dep(needed)]) -> Out:
        return Out(value)

    with contextlib.suppress(RunError):
        await runtime.run(graph, In(1))


async def of_an_instrument(runtime: Runtime, make: Make) -> None:
    def keep(event: object) -> bool:
        if isinstance(event, ActorStarted):
            raise make()
        return True

    async with runtime.events(keep):
        await runtime.spawn(Echo)


PLACES: dict[str, Place] = {
    **{
        place: of_an_actor(place)
        for place in (
            "factory",
            "start",
            "child-in-start",
            "task-in-start",
            "receive",
            "timer",
            "task",
            "exit",
            "child",
            "child-caught",
            "grandchild",
            "child-receive",
            "child-exit",
        )
    },
    "supervisor": of_a_supervisors_child,
    "node": of_a_node,
    "thread": of_a_node_in_a_thread,
    "dependency": of_a_dependency,
    "instrument": of_an_instrument,
}
PATIENT = Supervision(max_restarts=1000, backoff=Backoff(first_s=1, jitter=0))


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("kind", FATAL)
async def test_f3_what_must_not_be_survived_ends_the_runtime_and_comes_out_of_it(kind, place, virtual_clock):
    expected = GeneratorExit if kind == "generator-exit" else KeyboardInterrupt

    with trio.fail_after(100), pytest.raises(expected):  # noqa: PT012 - it comes out of the end of the block
        async with open_runtime(supervision=PATIENT) as runtime:
            with contextlib.suppress(ActorError, UsageError):
                await PLACES[place](runtime, FATAL[kind])
            await trio.sleep(200)


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("kind", FAILURES)
async def test_f3_what_only_looks_like_it_ends_nothing_else(kind, place, virtual_clock):
    with trio.fail_after(100):
        async with open_runtime(supervision=PATIENT) as runtime:
            bystander = await runtime.spawn(Echo)
            with contextlib.suppress(ActorError, UsageError):
                await PLACES[place](runtime, FAILURES[kind])
            await trio.sleep(10)

            assert await bystander.ask("still here") == "still here"


async def test_f3_an_interrupt_comes_before_an_earlier_failure_of_the_same_actor(virtual_clock):
    async def interrupt():
        await trio.sleep(1)
        raise KeyboardInterrupt

    class Both(Echo):
        async def receive(self, message):
            self.context.nursery.start_soon(interrupt)
            try:
                raise LookupError
            finally:
                with trio.CancelScope(shield=True):
                    await trio.sleep(2)

    with trio.fail_after(10), pytest.raises(KeyboardInterrupt):  # noqa: PT012 - it comes out of the end of the block
        async with open_runtime(supervision=PATIENT) as runtime:
            (await runtime.spawn(Both)).tell_nowait("go")
            await trio.sleep_forever()


def test_f3_ctrl_c_while_a_child_ends_is_not_lost_and_breaks_nothing():
    """It comes in the middle of the supervisor's own work, through a predicate of the user's that is asked there."""

    def asked(error: BaseException) -> bool:
        signal.raise_signal(signal.SIGINT)
        return False

    async def main():
        async with open_runtime(supervision=PATIENT) as runtime:
            redelivery = Redelivery(max_attempts=2, retry_on=asked)
            ref = await runtime.spawn(Raises, LookupError, "receive", redelivery=redelivery)
            await ref.tell("go")
            await trio.sleep_forever()

    with pytest.raises(KeyboardInterrupt):
        trio.run(main)
