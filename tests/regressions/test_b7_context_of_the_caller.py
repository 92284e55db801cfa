"""The context variables of whoever starts a run reach its nodes: request ids, spans, the decimal context."""

from __future__ import annotations

import asyncio
import contextvars
import decimal
import gc
import threading
import weakref
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, Any

import attrs
import pytest
import trio

from actors import Actor, Dep, Gather, Graph, Redelivery, Run, RunFailed
from runtime import RunFinished, open_runtime
from runtime.embed.asyncio import open_runtime_asyncio
from runtime.embed.portal import open_runtime_portal
from tests.runtime.graphs.stage import TWICE, Ask, Done, Other, Part, graph_of

REQUEST: contextvars.ContextVar[Any] = contextvars.ContextVar("REQUEST", default="nobody's")
STEP: contextvars.ContextVar[Any] = contextvars.ContextVar("STEP", default="none")


async def tells(ask: Ask) -> Done:
    return Done(REQUEST.get())


# --- every place where a node's code runs -----------------------------------------------------------------------------


@attrs.frozen
class Seen:
    text: str


async def in_async(ask: Ask) -> Seen:
    return Seen(f"async:{REQUEST.get()}")


def in_thread(ask: Ask) -> Seen:
    assert threading.current_thread() is not threading.main_thread()
    return Seen(f"thread:{REQUEST.get()}")


async def in_generator(ask: Ask) -> AsyncIterator[Part]:
    yield Part(REQUEST.get())


async def of_generator(parts: list[Part]) -> Seen:
    return Seen(f"generator:{parts[0].n}")


async def async_dep() -> str:
    return str(REQUEST.get())


def thread_dep() -> str:
    return str(REQUEST.get())


left: list[Any] = []


@asynccontextmanager
async def context_dep() -> AsyncGenerator[str]:
    try:
        yield REQUEST.get()
    finally:
        left.append(REQUEST.get())


async def with_deps(
    ask: Ask,
    first: Annotated[str, Dep(async_dep)],
    second: Annotated[str, Dep(thread_dep)],
    third: Annotated[str, Dep(context_dep)],
) -> Seen:
    return Seen(f"deps:{first}{second}{third}")


async def stands_in(ask: Ask, error: Exception) -> Seen:
    return Seen(f"fallback:{REQUEST.get()}")


async def fails(ask: Ask) -> Seen:
    raise LookupError("no")


async def calls(ask: Ask) -> Seen:
    async with open_runtime() as another:
        return Seen(f"nested:{(await another.run(graph_of(tells), ask)).n}")


@attrs.frozen
class Told:
    n: Any


def everywhere() -> Graph:
    inner = Graph("inner", input=Ask, output=Told)

    @inner.node
    async def told(ask: Ask) -> Told:
        return Told(REQUEST.get())

    def fold(so_far: str, told: Told) -> str:
        return f"{so_far}{told.n}/{REQUEST.get()}"

    graph = Graph("everywhere", input=Ask, output=Done)

    @graph.node
    async def spread(ask: Ask) -> list[Other]:
        return [Other(1)]

    @graph.node
    async def each(other: Other) -> Told:
        return Told(REQUEST.get())

    @graph.node
    async def folded(text: Annotated[str, Gather(reduce=fold, initial="")]) -> Seen:
        return Seen(f"reduce:{text}")

    for node in (in_async, in_thread, of_generator, with_deps, calls):
        graph.node(node)
    graph.node(in_generator)
    graph.node(fallback=stands_in, redelivery=Redelivery(max_attempts=1))(fails)
    return graph


PLACES = ["async", "deps", "fallback", "generator", "nested", "reduce", "thread"]


async def seen_everywhere(runtime: Any, name: str) -> list[str]:
    REQUEST.set(name)
    graph = everywhere()
    found: list[str] = []

    @graph.node
    async def hears(seen: Seen) -> Done | None:
        found.append(seen.text)
        return Done() if len(found) == len(PLACES) else None

    await runtime.run(graph, Ask())
    return sorted(found)


async def test_b7_wherever_code_of_a_node_runs_it_sees_its_callers_context():
    REQUEST.set("opener")
    async with open_runtime() as runtime:
        with trio.fail_after(10):
            for name in ("ann", "bob"):
                expected = [f"async:{name}", f"deps:{name * 3}", f"fallback:{name}", f"generator:{name}"]
                expected += [f"nested:{name}", f"reduce:{name}/{name}", f"thread:{name}"]
                assert await seen_everywhere(runtime, name) == expected
    assert left == ["ann", "bob"]


async def test_b7_a_graph_as_a_node_and_a_node_that_others_depend_on_see_it_too(virtual_clock):
    inner = Graph("inner", input=Ask, output=Told)

    @inner.node
    async def told(ask: Ask) -> Told:
        return Told(REQUEST.get())

    graph = Graph("outer", input=Ask, output=Done)
    graph.add(inner)

    @graph.node
    async def needed(ask: Ask) -> Other:
        return Other(REQUEST.get())

    @graph.node
    async def ends(told: Told, other: Annotated[Other, Dep(needed)]) -> Done:
        return Done((told.n, other.n))

    async with open_runtime() as runtime:
        for name in ("ann", "bob"):
            REQUEST.set(name)
            assert await runtime.run(graph, Ask()) == Done((name, name))


async def test_b7_started_and_streamed_runs_carry_the_context_of_their_start(virtual_clock):
    graph = graph_of(tells)
    async with open_runtime() as runtime:
        REQUEST.set("start")
        handle = await runtime.start(graph, Ask())
        REQUEST.set("later")
        assert await handle.result() == Done("start")
        async with runtime.stream(graph, Ask()) as events:
            (finished,) = [event async for event in events if isinstance(event, RunFinished)]
        assert finished.output == Done("later")


# --- nothing leaks ------------------------------------------------------------------------------------------------------


async def test_b7_what_an_attempt_sets_is_seen_by_no_other_attempt_message_or_run(virtual_clock):
    seen: list[Any] = []

    async def sets(ask: Ask, run: Run) -> Done:
        seen.append((REQUEST.get(), STEP.get()))
        REQUEST.set(f"spoilt by {run.id}")
        STEP.set(run.attempt)
        await trio.sleep(1)
        if run.attempt == 1:
            raise ConnectionError("again")
        return Done()

    graph = graph_of(sets, concurrency=1, redelivery=TWICE)
    async with open_runtime() as runtime:
        for name in ("ann", "bob"):
            REQUEST.set(name)
            await runtime.run(graph, Ask())
            assert (REQUEST.get(), STEP.get()) == (name, "none")

    assert seen == [("ann", "none")] * 2 + [("bob", "none")] * 2


async def test_b7_a_hundred_runs_at_once_see_each_its_own(virtual_clock):
    async def first(ask: Ask) -> Part:
        await trio.sleep(ask.n % 7)
        return Part(REQUEST.get())

    async def then(part: Part) -> Done:
        await trio.sleep(0.1)
        return Done((part.n, REQUEST.get()))

    async def request(n: int) -> None:
        REQUEST.set(n)
        STEP.set(n)
        assert await runtime.run(graph, Ask(n)) == Done((n, n))

    graph = graph_of(first, then, concurrency=5)
    async with open_runtime() as runtime, trio.open_nursery() as nursery:
        for n in range(100):
            nursery.start_soon(request, n)


async def test_b7_a_cancelled_message_leaves_nothing_behind(virtual_clock):
    async def waits(ask: Ask) -> Done:
        seen = REQUEST.get()
        await trio.sleep(ask.n)
        return Done(seen)

    graph = graph_of(waits, concurrency=1)
    async with open_runtime() as runtime:
        REQUEST.set("ann")
        with trio.move_on_after(1):
            await runtime.run(graph, Ask(10))

        assert await in_blank_context(runtime.run, graph, Ask(0)) == Done("nobody's")


async def in_blank_context(function: Any, *args: Any) -> Any:
    """Await ``function(*args)`` in a task without context variables."""
    result: list[Any] = []
    done = trio.Event()

    async def work() -> None:
        result.append(await function(*args))
        done.set()

    trio.lowlevel.spawn_system_task(work, context=contextvars.Context())
    await done.wait()
    return result[0]


async def test_b7_a_variable_of_the_opener_that_the_caller_does_not_have_is_not_seen(virtual_clock):
    REQUEST.set("opener")
    async with open_runtime() as runtime:
        assert await in_blank_context(runtime.run, graph_of(tells), Ask()) == Done("nobody's")


class Value:
    pass


async def test_b7_a_run_that_is_over_keeps_nothing_of_its_callers_context(virtual_clock):
    kept: list[Any] = []

    async def request(graph: Graph) -> None:
        value = Value()
        kept.append(weakref.ref(value))
        REQUEST.set(value)
        handle = await runtime.start(graph, Ask())
        await handle.result()
        kept.append(handle)

    async def needs(ask: Ask, value: Annotated[Any, Dep(context_dep)]) -> Done:
        STEP.set("spoilt")
        return Done()

    left.clear()
    async with open_runtime() as runtime:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(request, graph_of(needs))  # it deploys the graph, too
        left.clear()
        gc.collect()
        assert kept[0]() is None


async def test_b7_an_actor_as_a_node_has_the_context_of_the_runtime_and_none_of_the_run_that_came_first(virtual_clock):
    class Listener(Actor):
        async def receive(self, message: Ask) -> Done:
            return Done(REQUEST.get())

    graph = Graph("g", input=Ask, output=Done)
    graph.add(Listener)
    REQUEST.set("opener")
    async with open_runtime() as runtime:
        for name in ("ann", "bob"):
            REQUEST.set(name)
            assert await runtime.run(graph, Ask()) == Done("opener")


# --- the decimal context, which is changed in place -----------------------------------------------------------------------


async def test_b7_the_decimal_context_is_the_callers_and_changes_to_it_stay_in_the_node(virtual_clock):
    async def divides(ask: Ask) -> Done:
        with_prec = decimal.Decimal(1) / 3
        decimal.getcontext().prec = 2
        return Done(str(with_prec))

    graph = graph_of(divides, concurrency=1)
    async with open_runtime() as runtime:
        with decimal.localcontext(prec=5):
            assert await runtime.run(graph, Ask()) == Done("0.33333")
            assert await runtime.run(graph, Ask()) == Done("0.33333")
            assert decimal.getcontext().prec == 5
        with decimal.localcontext(prec=3):
            assert await runtime.run(graph, Ask()) == Done("0.333")


# --- the faces ------------------------------------------------------------------------------------------------------------


def test_b7_under_asyncio_it_is_the_context_of_the_call_not_of_the_opening():
    async def request(runtime: Any, name: str | None) -> list[Any]:
        if name is not None:
            REQUEST.set(name)
        graph = graphs[0]
        handle = await runtime.start(graph, Ask())
        async with runtime.stream(graph, Ask()) as events:
            (finished,) = [event async for event in events if isinstance(event, RunFinished)]
        return [(await runtime.run(graph, Ask())).n, (await handle.result()).n, finished.output.n]

    async def main() -> list[list[Any]]:
        REQUEST.set("opener")
        async with open_runtime_asyncio() as runtime:
            tasks = [asyncio.create_task(request(runtime, name)) for name in ("ann", "bob")]
            tasks.append(asyncio.get_running_loop().create_task(request(runtime, None), context=contextvars.Context()))
            return list(await asyncio.gather(*tasks))

    graphs = [graph_of(tells)]
    assert asyncio.run(main()) == [["ann"] * 3, ["bob"] * 3, ["nobody's"] * 3]


def test_b7_through_the_portal_it_is_the_context_of_the_calling_thread():
    def request(name: str) -> None:
        REQUEST.set(name)
        handle = runtime.start(graph, Ask())
        with runtime.stream(graph, Ask()) as events:
            (output,) = [event.output for event in events if isinstance(event, RunFinished)]
        assert output is not None
        found[name] = [runtime.run(graph, Ask()).n, handle.result().n, output.n]

    found: dict[str, list[Any]] = {}
    graph = graph_of(tells)

    def main() -> None:
        threads = [threading.Thread(target=request, args=(name,)) for name in ("ann", "bob")]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(10)

    REQUEST.set("opener")
    with open_runtime_portal() as runtime:
        main()
    assert found == {"ann": ["ann"] * 3, "bob": ["bob"] * 3}


async def test_b7_a_failure_of_a_value_to_compare_does_not_matter(virtual_clock):
    class Incomparable:
        def __eq__(self, other: object) -> bool:
            raise ValueError("the truth value is ambiguous")

        __hash__ = None  # type: ignore[assignment]

    REQUEST.set(Incomparable())
    async with open_runtime() as runtime:
        for _ in range(3):
            assert (await runtime.run(graph_of(tells, concurrency=1), Ask())).n is REQUEST.get()


async def test_b7_a_node_that_fails_for_good_leaves_the_context_of_its_instance_as_it_was(virtual_clock):
    async def sometimes(ask: Ask) -> Done:
        STEP.set(ask.n)
        if ask.n:
            raise LookupError("no")
        return Done((REQUEST.get(), contextvars.copy_context().get(STEP, "none")))

    graph = graph_of(sometimes, concurrency=1, redelivery=Redelivery(max_attempts=1))
    async with open_runtime() as runtime:
        REQUEST.set("ann")
        with pytest.raises(RunFailed):
            await runtime.run(graph, Ask(1))
        REQUEST.set("bob")
        assert await runtime.run(graph, Ask(0)) == Done(("bob", 0))


async def test_b7_what_a_node_does_to_an_arithmetic_context_that_its_caller_never_touched_stays_in_the_node(virtual_clock):
    async def divides(ask: Ask) -> Done:
        with_prec = decimal.Decimal(1) / 3
        decimal.getcontext().prec = 2
        return Done(str(with_prec))

    graph, usual = graph_of(divides, concurrency=1), "0." + "3" * decimal.DefaultContext.prec
    async with open_runtime() as runtime:
        assert await in_blank_context(runtime.run, graph, Ask()) == Done(usual)
        with decimal.localcontext(decimal.DefaultContext):
            assert await runtime.run(graph, Ask()) == Done(usual)
        with decimal.localcontext(prec=4):
            assert await runtime.run(graph, Ask()) == Done("0.3333")
        assert await in_blank_context(runtime.run, graph, Ask()) == Done(usual)
