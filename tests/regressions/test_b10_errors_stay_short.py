"""No error of ours grows with what it repeats: of a text of a megabyte, each shows the ends. The whole of it is the cause."""

from __future__ import annotations

import contextlib
import types
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Annotated, Any, NoReturn

import attrs
import dspy
import pytest

from actors import Actor, AskCycle, Dep, Failure, Graph, Redelivery
from runtime import Runtime, open_runtime
from runtime.core.waits import no_end
from runtime.testing import ScriptedLM
from tests.runtime.graphs.stage import Ask, Done, Part, graph_of

LONG = "begin " + "x" * 1_000_000 + " end"
SHORT = 20_000
ONCE = Redelivery(max_attempts=1)


class Foreign(Exception):
    pass


def fails(*_: object) -> NoReturn:
    raise Foreign(LONG)


async def a_node(runtime: Runtime) -> None:
    async def work(ask: Ask) -> Done:
        fails()

    await runtime.run(graph_of(work, redelivery=ONCE), Ask())


async def a_run_of_a_node(runtime: Runtime) -> None:
    async def work(ask: Ask) -> Done:
        await a_node(runtime)
        return Done()

    await runtime.run(graph_of(work, redelivery=ONCE), Ask())


async def a_fallback(runtime: Runtime) -> None:
    async def work(ask: Ask) -> Done:
        fails()

    async def instead(ask: Ask, error: Exception) -> Done:
        fails()

    await runtime.run(graph_of(work, redelivery=ONCE, fallback=instead), Ask())


async def a_needed_function(runtime: Runtime) -> None:
    async def number(ask: Ask) -> int:
        fails()

    async def work(ask: Ask, number: Annotated[int, Dep(number)]) -> Done:
        return Done(number)

    await runtime.run(graph_of(work, redelivery=ONCE), Ask())


async def a_context_at_its_start(runtime: Runtime) -> None:
    @contextlib.asynccontextmanager
    async def number() -> AsyncIterator[int]:
        yield fails() if LONG else 1

    async def work(ask: Ask, number: Annotated[int, Dep(number)]) -> Done:
        return Done(number)

    await runtime.run(graph_of(work, redelivery=ONCE), Ask())


async def a_context_at_its_end(runtime: Runtime) -> None:
    @contextlib.asynccontextmanager
    async def number() -> AsyncIterator[int]:
        yield 1
        fails()

    async def work(ask: Ask, number: Annotated[int, Dep(number)]) -> Done:
        return Done(number)

    await runtime.run(graph_of(work, redelivery=ONCE), Ask())


async def a_needed_node(runtime: Runtime) -> None:
    async def part(ask: Ask) -> Part:
        fails()

    async def work(ask: Ask, part: Annotated[Part, Dep(part)]) -> Done:
        return Done()

    await runtime.run(graph_of(part, work, redelivery=ONCE), Ask())


async def a_condition(runtime: Runtime) -> None:
    graph = Graph("g", input=Ask, output=Done)

    @graph.node
    async def first(ask: Ask) -> Part:
        return Part()

    @graph.node
    async def second(part: Part) -> Done:
        return Done()

    graph.connect(first, second, when=fails)
    await runtime.run(graph, Ask())


async def an_actor(runtime: Runtime) -> None:
    class Clerk(Actor):
        async def receive(self, message: str) -> None:
            fails()

    await (await runtime.spawn(Clerk)).ask(LONG)


async def an_answer_that_is_an_error(runtime: Runtime) -> None:
    class Clerk(Actor):
        async def receive(self, message: str) -> Failure:
            return Failure(Foreign(LONG))

    await (await runtime.spawn(Clerk)).ask(LONG)


async def a_start(runtime: Runtime) -> None:
    class Clerk(Actor):
        @contextlib.asynccontextmanager
        async def lifespan(self) -> AsyncIterator[None]:
            yield fails() if LONG else None

        async def receive(self, message: str) -> None: ...

    await runtime.spawn(Clerk)


async def a_start_of_a_child(runtime: Runtime) -> None:
    class Child(Actor):
        def __init__(self) -> None:
            fails()

        async def receive(self, message: str) -> None: ...

    class Clerk(Actor):
        async def receive(self, message: str) -> None:
            await self.context.spawn(Child)

    await (await runtime.spawn(Clerk)).ask("begin")


async def a_description(runtime: Runtime) -> None:
    class Clerk(Actor):
        def describe(self) -> object:
            fails()

        async def receive(self, message: str) -> None: ...

    runtime.inspect(await runtime.spawn(Clerk))


async def an_answer_that_does_not_fit(runtime: Runtime) -> None:
    graph = Graph("g", input=Ask, output=Done)

    @graph.predict(redelivery=ONCE)
    async def work(ask: Ask) -> Done:
        """Answer."""
        raise NotImplementedError

    await runtime.run(graph, Ask())


@attrs.frozen
class Refusing:
    text: str = attrs.field(converter=fails)


async def a_converter(runtime: Runtime) -> None:
    graph = Graph("g", input=Ask, output=Refusing)

    @graph.predict(redelivery=ONCE, lm=ScriptedLM([{"text": "t"}] * 9, unused="ok"))
    async def work(ask: Ask) -> Refusing:
        """Answer."""
        raise NotImplementedError

    await runtime.run(graph, Ask())


async def a_language_model(runtime: Runtime) -> None:
    graph = Graph("g", input=Ask, output=Done)

    @graph.predict(redelivery=ONCE, lm=ScriptedLM([Foreign(LONG)], unused="ok"))
    async def work(ask: Ask) -> Done:
        """Answer."""
        raise NotImplementedError

    await runtime.run(graph, Ask())


PLACES: list[Callable[[Runtime], Awaitable[None]]] = [
    a_node,
    a_run_of_a_node,
    a_fallback,
    a_needed_function,
    a_context_at_its_start,
    a_context_at_its_end,
    a_needed_node,
    a_condition,
    an_actor,
    an_answer_that_is_an_error,
    a_start,
    a_start_of_a_child,
    a_description,
    an_answer_that_does_not_fit,
    a_converter,
    a_language_model,
]


def all_of(error: BaseException) -> dict[int, BaseException]:
    """`error` and all that Python would print with it."""
    found: dict[int, BaseException] = {}
    line = [error]
    while line:
        each = line.pop()
        if id(each) not in found:
            found[id(each)] = each
            line += [*getattr(each, "exceptions", ()), *filter(None, (each.__cause__, each.__context__))]
    return found


@pytest.mark.parametrize("place", PLACES)
async def test_b10_only_the_foreign_error_is_long(place: Callable[[Runtime], Awaitable[None]], virtual_clock: object) -> None:
    with pytest.raises(Exception, match=r".") as caught:
        async with open_runtime(lm=ScriptedLM(["y" * 1_000_000] * 9, unused="ok")) as runtime:
            await place(runtime)

    ours = [each for each in all_of(caught.value).values() if not isinstance(each, Foreign)]
    assert ours
    assert max(len(str(each)) for each in ours) < SHORT


def test_b10_a_module_that_cannot_be_made_is_a_short_problem():
    class Module(dspy.Module):  # type: ignore[misc]  # DSPy has no types
        def __init__(self, signature: Any) -> None:
            fails()

    graph = Graph("g", input=Ask, output=Done)

    @graph.predict(module=Module)
    async def work(ask: Ask) -> Done:
        """Answer."""
        raise NotImplementedError

    problems = [problem for problem in graph.check() if problem.code == "predict-module"]

    assert problems
    assert max(len(str(problem)) for problem in problems) < SHORT


def test_b10_a_ring_of_ten_thousand_is_shown_by_its_ends():
    each: Any = [types.SimpleNamespace(label=f"actor-{number}") for number in range(10_000)]

    error = no_end(each)

    assert isinstance(error, AskCycle)
    assert len(str(error)) < SHORT
    assert len(error.cycle) == 10_000
