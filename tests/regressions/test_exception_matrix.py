"""Every kind of exception in every place: the run or the ask ends in time with the right error, and the others go on.

A place is a function that raises the error somewhere and returns what its caller got. Each cell of the matrix has a runtime of
its own, in which a bystander must still be served afterwards, and whose end must come in time, with nothing left alive.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Annotated, Any, cast

import attrs
import pytest
import trio

from actors import (
    LM,
    Actor,
    ActorFailed,
    ActorStartFailed,
    Backoff,
    ChildSpec,
    Dep,
    DepError,
    Gather,
    Graph,
    NodeFailed,
    Redelivery,
    RestartType,
    RunFailed,
    Strategy,
    Supervision,
)
from actors.groups import leaves_of
from runtime import ActorCrashed, InstrumentFailed, Runtime, open_runtime
from tests.runtime.cast import AT_ONCE

IN_TIME_S = 200.0
"""Of virtual time: what hangs, hangs for ever."""


# --- kinds of exceptions ----------------------------------------------------------------------------------------------


class Plain(Exception):
    pass


class BrokenStr(Exception):
    def __str__(self) -> str:
        return f"{self.cod}"  # type: ignore[attr-defined]  # the typo that the test is about


class BrokenRepr(Exception):
    def __repr__(self) -> str:
        raise ZeroDivisionError


class BrokenBoth(Exception):
    """What its text raises cannot be put into text either."""

    def __str__(self) -> str:
        raise BrokenBoth

    __repr__ = __str__


class StrIsNone(Exception):
    def __str__(self) -> str:
        return None  # type: ignore[return-value]  # that is the point


class ExitsInStr(Exception):
    def __str__(self) -> str:
        raise SystemExit(2)


class BrokenEquality(Exception):
    def __eq__(self, other: object) -> bool:
        raise ZeroDivisionError

    def __hash__(self) -> int:
        raise ZeroDivisionError


class BrokenTruth(Exception):
    def __bool__(self) -> bool:
        raise ZeroDivisionError


class BrokenAttributes(Exception):
    def __getattr__(self, name: str) -> Any:
        raise KeyError(name)


class Unpicklable(Exception):
    def __init__(self) -> None:
        super().__init__("unpicklable")
        self.handle = iter([1])

    def __reduce__(self) -> Any:
        raise TypeError


class Slotted(Exception):
    __slots__ = ("code",)

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(name)


@attrs.frozen
class Frozen(Exception):
    code: int


class Odd(BaseException):
    """A library's own way out."""


class OddStr(BaseException):
    def __str__(self) -> str:
        raise Odd


class StubbornGroup(ExceptionGroup[Exception]):
    def derive(self, excs: Any) -> Any:
        raise ZeroDivisionError


def in_a_ring() -> Exception:
    one, two = Plain("one"), Plain("two")
    one.__cause__, two.__cause__ = two, one
    one.__context__, two.__context__ = two, one
    return one


KINDS: dict[str, Callable[[], BaseException]] = {
    "plain": lambda: Plain("why"),
    "broken-str": BrokenStr,
    "broken-repr": BrokenRepr,
    "broken-both": BrokenBoth,
    "str-is-none": StrIsNone,
    "exits-in-str": ExitsInStr,
    "broken-eq": BrokenEquality,
    "broken-bool": BrokenTruth,
    "broken-getattr": BrokenAttributes,
    "unpicklable": Unpicklable,
    "slots": Slotted,
    "frozen": lambda: Frozen(3),
    "cause-ring": in_a_ring,
    "long": lambda: Plain("x" * 1_000_000),
    "group": lambda: ExceptionGroup("two", [Plain("one"), BrokenStr()]),
    "stubborn-group": lambda: StubbornGroup("one", [Plain("one")]),
    "base-group": lambda: BaseExceptionGroup("odd", [Odd("one"), Plain("two")]),
    "base-exception": lambda: Odd("why"),
    "base-exception-broken-str": OddStr,
    "asyncio-cancelled": asyncio.CancelledError,
    "system-exit": lambda: SystemExit(2),
    "timeout": lambda: trio.TooSlowError("late"),
}


# --- places -----------------------------------------------------------------------------------------------------------


@attrs.frozen
class In:
    v: int


@attrs.frozen
class Mid:
    v: int


@attrs.frozen
class Out:
    v: int


@attrs.frozen
class Foreign:
    """A message whose own methods raise."""

    v: int

    def __repr__(self) -> str:
        raise ZeroDivisionError

    def __eq__(self, other: object) -> bool:
        raise ZeroDivisionError

    def __hash__(self) -> int:
        raise ZeroDivisionError


ONCE = Redelivery(max_attempts=1)
Make = Callable[[], BaseException]
Place = Callable[[Runtime, Make], Awaitable[BaseException | None]]


async def outcome_of(runtime: Runtime, graph: Graph) -> BaseException:
    """The cause of the one node's failure."""
    with pytest.raises(RunFailed) as caught:
        await runtime.run(graph, In(1))
    leaf = caught.value.exceptions[0]
    assert isinstance(leaf, NodeFailed)
    assert len(str(leaf)) < 10_000
    assert leaf.__cause__ is not None
    return leaf.__cause__


async def in_a_function(runtime: Runtime, make: Make) -> BaseException:
    graph = Graph("function", input=In, output=Out)

    @graph.node(redelivery=ONCE)
    async def node(given: In) -> Out:
        raise make()

    return await outcome_of(runtime, graph)


async def in_a_second_attempt(runtime: Runtime, make: Make) -> BaseException:
    graph = Graph("again", input=In, output=Out)

    @graph.node(redelivery=Redelivery(max_attempts=2, retry_on=BaseException))
    async def node(given: In) -> Out:
        raise make()

    return await outcome_of(runtime, graph)


async def in_a_thread(runtime: Runtime, make: Make) -> BaseException:
    graph = Graph("thread", input=In, output=Out)

    @graph.node(redelivery=ONCE)
    def node(given: In) -> Out:
        raise make()

    return await outcome_of(runtime, graph)


@attrs.frozen
class Handled:
    """A message that handles itself."""

    make: Make

    async def __call__(self) -> Out:
        raise self.make()


async def in_a_class(runtime: Runtime, make: Make) -> BaseException:
    graph = Graph("class", input=In, output=Out)

    @graph.node
    async def first(given: In) -> Handled:
        return Handled(make)

    graph.node(redelivery=ONCE)(Handled)
    return await outcome_of(runtime, graph)


async def in_a_generator(runtime: Runtime, make: Make) -> BaseException:
    graph = Graph("generator", input=In, output=Out)

    @graph.node(redelivery=ONCE)
    async def items(given: In) -> AsyncIterator[Mid]:
        yield Mid(1)
        raise make()

    @graph.node
    async def gather(items: list[Mid]) -> Out:
        return Out(len(items))

    return await outcome_of(runtime, graph)


async def in_a_nursery(runtime: Runtime, make: Make) -> BaseException:
    graph = Graph("nursery", input=In, output=Out)

    @graph.node(redelivery=ONCE)
    async def node(given: In) -> Out:
        async def fail() -> None:
            raise make()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.sleep_forever)
            nursery.start_soon(fail)
        return Out(1)

    return await outcome_of(runtime, graph)


async def in_a_language_model(runtime: Runtime, make: Make) -> BaseException:
    graph = Graph("model", input=In, output=Out)

    @graph.predict(redelivery=ONCE, lm="broken")
    async def node(given: In) -> Out:  # type: ignore[empty-body]  # a language model fills it
        """Fill it."""
        ...

    return await outcome_of(runtime, graph)


async def in_a_dependency(runtime: Runtime, make: Make) -> BaseException:
    graph = Graph("dependency", input=In, output=Out)

    async def fetch() -> int:
        raise make()

    @graph.node(redelivery=ONCE)
    async def node(given: In, value: Annotated[int, Dep(fetch)]) -> Out:
        return Out(value)

    error = await outcome_of(runtime, graph)
    assert isinstance(error, DepError)
    assert error.__cause__ is not None
    return error.__cause__


async def in_the_entry_of_a_dependency(runtime: Runtime, make: Make) -> BaseException:
    graph = Graph("context", input=In, output=Out)

    @contextlib.asynccontextmanager
    async def opened() -> AsyncIterator[int]:
        if graph.name:
            raise make()
        yield 1

    @graph.node(redelivery=ONCE)
    async def node(given: In, value: Annotated[int, Dep(opened)]) -> Out:
        return Out(value)

    error = await outcome_of(runtime, graph)
    assert isinstance(error, DepError)
    assert error.__cause__ is not None
    return error.__cause__


async def in_the_exit_of_a_dependency(runtime: Runtime, make: Make) -> BaseException:
    graph = Graph("context", input=In, output=Out)

    @contextlib.asynccontextmanager
    async def opened() -> AsyncIterator[int]:
        yield 1
        raise make()

    @graph.node(redelivery=ONCE)
    async def node(given: In, value: Annotated[int, Dep(opened)]) -> Out:
        return Out(value)

    error = await outcome_of(runtime, graph)
    assert error.__cause__ is not None
    return error.__cause__


async def in_a_fallback(runtime: Runtime, make: Make) -> BaseException:
    graph = Graph("fallback", input=In, output=Out)

    async def instead(given: In, error: Exception) -> Out:
        raise make()

    @graph.node(redelivery=ONCE, fallback=instead)
    async def node(given: In) -> Out:
        raise Plain

    return await outcome_of(runtime, graph)


async def before_a_fallback(runtime: Runtime, make: Make) -> BaseException:
    graph = Graph("fallback", input=In, output=Out)
    told: list[BaseException] = []

    async def instead(given: In, error: BaseException) -> Out:
        told.append(error)
        return Out(2)

    @graph.node(redelivery=ONCE, fallback=instead)
    async def node(given: In) -> Out:
        raise make()

    assert (await runtime.run(graph, In(1))).v == 2
    return told[0]


async def in_a_when(runtime: Runtime, make: Make) -> BaseException:
    graph = Graph("when", input=In, output=Out)

    def when(message: Mid) -> bool:
        raise make()

    @graph.node(redelivery=ONCE)
    async def first(given: In) -> Mid:
        return Mid(1)

    @graph.node
    async def second(mid: Mid) -> Out:
        return Out(mid.v)

    graph.connect(first, second, when=when)
    return await outcome_of(runtime, graph)


async def in_a_reducer(runtime: Runtime, make: Make) -> BaseException:
    graph = Graph("reducer", input=In, output=Out)

    def add(so_far: int, item: Mid) -> int:
        raise make()

    @graph.node
    async def items(given: In) -> list[Mid]:
        return [Mid(1), Mid(2)]

    @graph.node(redelivery=ONCE)
    async def gather(total: Annotated[int, Gather(reduce=add, initial=0)]) -> Out:
        return Out(total)

    return await outcome_of(runtime, graph)


class Failing(Actor):
    """Raises in the place that it is told."""

    def __init__(self, make: Make, place: str) -> None:
        self.make = make
        self.place = place
        if place == "factory":
            raise make()

    @contextlib.asynccontextmanager
    async def lifespan(self) -> AsyncIterator[None]:
        if self.place == "start":
            raise self.make()
        yield
        if self.place == "exit":
            raise self.make()

    async def receive(self, message: object) -> object:
        if isinstance(message, str) and message == "hello":
            return self.context.incarnation
        if self.place == "receive" or isinstance(message, str):
            raise self.make()
        if self.place == "timer":
            self.context.schedule_once(1, "tick")
        if self.place == "task":
            self.context.nursery.start_soon(self.fail)
        if self.place == "child":
            await self.context.spawn(Failing, self.make, "start")
        if self.place == "reply":
            self.context.reply_later().fail(self.make())  # type: ignore[arg-type]  # that is the point
        if self.place == "exit":
            self.context.stop()
        return None

    async def fail(self) -> None:
        raise self.make()


def crashes(place: str) -> Place:
    """The actor fails in `place` and is started again."""

    async def tried(runtime: Runtime, make: Make) -> BaseException:
        ref = await runtime.spawn(Failing, make, place, name="failing")
        async with runtime.events(lambda event: isinstance(event, ActorCrashed) and event.address == "failing") as events:
            if place in ("receive", "child"):
                with pytest.raises(ActorFailed) as caught:
                    await ref.ask(Foreign(1))
                assert len(str(caught.value)) < 20_000
            else:
                await ref.tell(Foreign(1))
            crashed = await anext(events)
            assert isinstance(crashed, ActorCrashed)
        assert await ref.ask("hello") == 2
        error = crashed.error
        if place == "child":
            assert isinstance(error, ActorStartFailed)
            assert error.__cause__ is not None
            return error.__cause__
        return error

    return tried


def never_starts(place: str) -> Place:
    async def tried(runtime: Runtime, make: Make) -> BaseException:
        with pytest.raises(ActorStartFailed) as caught:
            await runtime.spawn(Failing, make, place, name="failing")
        assert runtime.whereis("failing") is None
        assert len(str(caught.value)) < 10_000
        assert caught.value.__cause__ is not None
        return caught.value.__cause__

    return tried


async def in_a_member_of_a_group(runtime: Runtime, make: Make) -> None:
    patient = Supervision(strategy=Strategy.ONE_FOR_ALL, backoff=AT_ONCE)
    await runtime.supervise(
        [ChildSpec("one", Failing, (make, "receive")), ChildSpec("two", Failing, (make, "none"))], patient, name="s"
    )
    one, two = runtime.whereis("s/one"), runtime.whereis("s/two")
    with pytest.raises(ActorFailed):
        await one.ask("go")  # type: ignore[union-attr]
    await trio.sleep(1)
    assert [await one.ask("hello"), await two.ask("hello")] == [2, 2]  # type: ignore[union-attr]


async def in_a_temporary_actor(runtime: Runtime, make: Make) -> BaseException:
    ref = await runtime.spawn(Failing, make, "receive", name="failing", restart=RestartType.TEMPORARY)
    with pytest.raises(ActorFailed) as caught:
        await ref.ask(Foreign(1))
    assert runtime.dead_letters[-1].reason == "failed"
    assert caught.value.__cause__ is not None
    return caught.value.__cause__


async def in_an_instrument(runtime: Runtime, make: Make) -> BaseException:
    def raising(event: object) -> bool:
        raise make()

    async with (
        runtime.events(lambda event: isinstance(event, InstrumentFailed)) as failures,
        runtime.events(raising) as broken,
    ):
        ref = await runtime.spawn(Failing, Plain, "receive", name="failing")
        with pytest.raises(ActorFailed):
            await ref.ask("go")
        failure = await anext(failures)
        assert isinstance(failure, InstrumentFailed)
        assert [event async for event in broken] == [failure]
    return failure.error


PLACES: dict[str, Place] = {
    "function": in_a_function,
    "second-attempt": in_a_second_attempt,
    "plain-def": in_a_thread,
    "class": in_a_class,
    "generator": in_a_generator,
    "nursery": in_a_nursery,
    "predict": in_a_language_model,
    "dep": in_a_dependency,
    "dep-entry": in_the_entry_of_a_dependency,
    "dep-exit": in_the_exit_of_a_dependency,
    "fallback": in_a_fallback,
    "before-fallback": before_a_fallback,
    "when": in_a_when,
    "reducer": in_a_reducer,
    "actor-factory": never_starts("factory"),
    "actor-start": never_starts("start"),
    "receive": crashes("receive"),
    "timer": crashes("timer"),
    "nursery-task": crashes("task"),
    "child-start": crashes("child"),
    "lifespan-exit": crashes("exit"),
    "group": in_a_member_of_a_group,
    "temporary": in_a_temporary_actor,
    "instrument": in_an_instrument,
}


# --- the matrix -------------------------------------------------------------------------------------------------------


class BrokenLM:
    """A language model of the user's own."""

    model = "broken"

    def __init__(self, make: Make) -> None:
        self._make = make

    async def chat(self, *args: object, **options: object) -> Any:
        raise self._make()

    stream = predict = chat


class Bystander(Actor):
    async def receive(self, message: int) -> int:
        return message + 1


BEYOND_US = {"broken-repr", "broken-both", "exits-in-str", "stubborn-group"}
"""In a nursery of the author's own, trio itself puts what a task raises into text; no framework above it can help that."""
CELLS = [(kind, place) for kind in KINDS for place in PLACES if place != "nursery" or kind not in BEYOND_US]
REPLACED = {"slots"}
"""Python's contextlib and trio set attributes of exceptions that pass through them, and so raise another one instead."""


@pytest.mark.parametrize(("kind", "place"), CELLS)
async def test_a2_every_kind_of_exception_in_every_place_ends_as_the_failure_of_that_place(kind, place, virtual_clock, caplog):
    caplog.set_level(logging.CRITICAL)
    kinds = tuple(type(leaf) for leaf in leaves_of(KINDS[kind]()))
    patient = Supervision(max_restarts=100, backoff=Backoff(first_s=0.1, jitter=0))
    with trio.fail_after(IN_TIME_S):
        async with open_runtime(supervision=patient, lms={"broken": cast("LM", BrokenLM(KINDS[kind]))}) as runtime:
            bystander = await runtime.spawn(Bystander, name="bystander")

            error = await PLACES[place](runtime, KINDS[kind])

            assert await bystander.ask(1) == 2
            assert not runtime.runs()
    if error is not None and kind not in REPLACED:
        assert tuple(type(leaf) for leaf in leaves_of(error))[-1:] == kinds[-1:]
