"""A crash before and after every record: whatever the graph, the next life ends as the run would have ended."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator, Callable
from typing import Annotated, Any

import attrs
import pytest
import trio

from actors import Backoff, Dep, Gather, Graph, NodeFailed, Redelivery, Run, RunFailed
from runtime import open_runtime
from runtime.journal.memory import MemoryStore
from runtime.journal.store import Store
from runtime.testing.stores.crashes import crash_everywhere
from runtime.testing.stores.crashing_store import CANCELLED, Ending
from tests.runtime.graphs.stage import EXACT, TWICE, Ask, Done, Other, Part, graph_of


@attrs.frozen
class Last:
    n: int = 0


def chain() -> Graph:
    async def one(ask: Ask) -> Part:
        return Part(ask.n + 1)

    async def two(part: Part) -> Other:
        await trio.sleep(1)
        return Other(part.n + 1)

    async def three(other: Other) -> Done:
        return Done(other.n + 1)

    return graph_of(one, two, three)


def fan_out() -> Graph:
    async def split(ask: Ask) -> list[Part]:
        return [Part(n) for n in range(ask.n)]

    async def work(part: Part) -> Other:
        await trio.sleep(part.n)
        return Other(part.n**2)

    async def gather(others: list[Other]) -> Done:
        return Done([other.n for other in others])

    return graph_of(split, work, gather, concurrency=2)


def generator() -> Graph:
    graph = graph_of()

    @graph.node(repeatable=True)
    async def stream(ask: Ask) -> AsyncGenerator[Part]:
        for n in range(ask.n):
            await trio.sleep(1)
            yield Part(n)

    @graph.node
    async def work(part: Part) -> Other:
        await trio.sleep(0.1)
        return Other(part.n)

    @graph.node
    async def gather(others: list[Other]) -> Done:
        return Done([other.n for other in others])

    return graph


def first_two() -> Graph:
    async def split(ask: Ask) -> list[Part]:
        return [Part(n) for n in range(ask.n)]

    async def work(part: Part) -> Other:
        await trio.sleep(5 - part.n)
        return Other(part.n)

    async def gather(others: Annotated[list[Other], Gather(first=2)]) -> Last:
        await trio.sleep(10)
        return Last(sum(other.n for other in others))

    async def done(last: Last) -> Done:
        return Done(last.n)

    return graph_of(split, work, gather, done)


def joined() -> Graph:
    async def left(ask: Ask) -> Part:
        await trio.sleep(1)
        return Part(ask.n)

    async def right(ask: Ask) -> Other:
        return Other(ask.n)

    async def join(part: Part, other: Other | None) -> Done:
        return Done([part.n, None if other is None else other.n])

    return graph_of(left, right, join)


def loop() -> Graph:
    async def start(ask: Ask) -> Part:
        return Part(ask.n)

    async def again(part: Part) -> Part | Done:
        return Part(part.n - 1) if part.n else Done("counted down")

    return graph_of(start, again)


def nested() -> Graph:
    inner = Graph("inner", input=Part, output=Other, supervision=EXACT)

    @inner.node
    async def deep(part: Part) -> Last:
        await trio.sleep(1)
        return Last(part.n + 1)

    @inner.node
    async def deeper(last: Last) -> Other:
        return Other(last.n + 1)

    graph = graph_of()

    @graph.node
    async def split(ask: Ask) -> list[Part]:
        return [Part(n) for n in range(ask.n)]

    graph.add(inner)

    @graph.node
    async def gather(others: list[Other]) -> Done:
        return Done([other.n for other in others])

    return graph


def failing_once() -> Graph:
    async def flaky(part: Part, run: Run) -> Done:
        if run.attempt == 1:
            raise OSError("the first time")
        return Done(part.n)

    async def first(ask: Ask) -> Part:
        return Part(ask.n)

    return graph_of(first, flaky, redelivery=TWICE)


def falling_back() -> Graph:
    graph = graph_of()

    async def instead(part: Part) -> Last:
        await trio.sleep(1)
        return Last(part.n + 100)

    @graph.node
    async def first(ask: Ask) -> Part:
        return Part(ask.n)

    @graph.node(fallback=instead, redelivery=Redelivery(max_attempts=2, backoff=Backoff(first_s=1, jitter=0)))
    async def broken(part: Part) -> Last:
        raise OSError("always")

    @graph.node
    async def last(made: Last) -> Done:
        return Done(made.n)

    return graph


def on_demand() -> Graph:
    graph = graph_of()

    @graph.node
    async def style(ask: Ask) -> Last:
        await trio.sleep(1)
        return Last(ask.n * 10)

    @graph.node
    async def first(ask: Ask) -> list[Part]:
        return [Part(1), Part(2)]

    @graph.node
    async def work(part: Part, last: Annotated[Last, Dep(style)]) -> Other:
        return Other(part.n + last.n)

    @graph.node
    async def gather(others: list[Other]) -> Done:
        return Done([other.n for other in others])

    return graph


GRAPHS: dict[str, Callable[[], Graph]] = {
    f.__name__: f for f in (chain, fan_out, generator, first_two, joined, loop, nested, failing_once, falling_back, on_demand)
}


@pytest.mark.parametrize("name", GRAPHS)
async def test_a_crash_at_any_record_changes_nothing_of_the_end(name, autojump_clock):
    graph = GRAPHS[name]()

    async def run(store: Store) -> Any:
        async with open_runtime(store=store, seed=1) as runtime:
            handle = await runtime.start(graph, Ask(3), run_id="it")
            return await handle.result()

    crashes = await crash_everywhere(run)

    assert isinstance(crashes.output, Done)
    assert crashes.points >= 8


LONG = pytest.mark.chaos


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", [name if name in ("chain", "failing_once") else pytest.param(name, marks=LONG) for name in GRAPHS]
)
@pytest.mark.explore(runs=1, max_steps=1_000_000)
@pytest.mark.chaos
async def test_a_second_crash_in_the_life_after_the_first_changes_nothing_either(name, autojump_clock):
    graph = GRAPHS[name]()

    async def run(store: Store) -> Any:
        async with open_runtime(store=store, seed=1) as runtime:
            handle = await runtime.start(graph, Ask(2), run_id="it")
            return await handle.result()

    crashes = await crash_everywhere(run, pairs=True)

    assert isinstance(crashes.output, Done)
    assert crashes.points >= 50


async def test_a_run_that_fails_fails_in_every_life_with_the_same_words(autojump_clock):
    async def first(ask: Ask) -> Part:
        return Part(ask.n)

    async def broken(part: Part) -> Done:
        raise OSError("always")

    graph = graph_of(first, broken, redelivery=TWICE)

    async def run(store: Store) -> Any:
        async with open_runtime(store=store, seed=1) as runtime:
            handle = await runtime.start(graph, Ask(3), run_id="it")
            with pytest.raises(RunFailed) as failed:
                await handle.result()
            [leaf] = failed.value.exceptions
            assert isinstance(leaf, NodeFailed)
            return leaf.node, leaf.path, leaf.attempt

    crashes = await crash_everywhere(run)

    assert crashes.output == ("broken", "g/broken/0", 2)


def with_a_context() -> Graph:
    @contextlib.asynccontextmanager
    async def connection() -> AsyncGenerator[str]:
        try:
            yield "open"
        finally:
            await trio.sleep(1)

    @contextlib.asynccontextmanager
    async def file() -> AsyncGenerator[str]:
        try:
            yield "open"
        finally:
            await trio.sleep(1)

    async def first(ask: Ask, one: Annotated[str, Dep(connection)]) -> Part:
        await trio.sleep(1)
        return Part(ask.n)

    async def last(part: Part, two: Annotated[str, Dep(file)]) -> Done:
        await trio.sleep(1)
        return Done(part.n)

    return graph_of(first, last)


def asking_in_vain() -> Graph:
    graph = graph_of()

    @graph.human(timeout_s=5, fallback=_instead)
    async def approve(ask: Ask) -> Part:
        """May it?"""
        raise NotImplementedError

    @graph.node
    async def last(part: Part) -> Done:
        return Done(part.n)

    return graph


async def _instead(ask: Ask) -> Part:
    return Part(ask.n + 1)


@pytest.mark.explore(runs=1)
@pytest.mark.parametrize("make", [with_a_context, asking_in_vain])
async def test_a_run_whose_runtime_is_cancelled_at_any_record_goes_on_in_the_next(make, autojump_clock):
    graph = make()

    async def run(store: Store) -> Any:
        async with open_runtime(store=store, seed=1, graphs=[graph], evict_after_s=1) as runtime:
            return await (await runtime.start(graph, Ask(2), run_id="it")).result()

    crashes = await crash_everywhere(run, endings=[*CANCELLED, Ending.FROZEN])

    assert isinstance(crashes.output, Done)
    assert crashes.points >= 12


async def test_a_resumed_run_that_waits_for_its_turn_when_its_runtime_is_cancelled_goes_on_in_the_next(autojump_clock):
    async def slow(ask: Ask) -> Done:
        await trio.sleep(100)
        return Done(ask.n)

    graph, store = graph_of(slow), MemoryStore()

    async def life(store: MemoryStore, most_s: float, max_runs: float) -> list[Any]:
        made: list[Any] = []
        with trio.move_on_after(most_s):
            async with open_runtime(store=store) as runtime, trio.open_nursery() as nursery:
                await runtime.deploy(graph, max_runs=max_runs)

                async def one(n: int) -> None:
                    made.append(await (await runtime.start(graph, Ask(n), run_id=f"run-{n}")).result())

                for n in range(3):
                    nursery.start_soon(one, n)
        return made

    assert await life(store, 10, 3) == []
    assert await life(store.beside(), 10, 1) == []
    made = await life(store.beside(), 1_000, 1)

    assert sorted(done.n for done in made) == [0, 1, 2]
