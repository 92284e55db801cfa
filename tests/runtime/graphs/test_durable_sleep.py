"""``run.sleep(…, begin_again=True)``: a run that only sleeps leaves memory, and comes back when the time has come."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator
from typing import Any

import pytest
import trio

from actors import Effect, Graph, NodeTimedOut, Run, RunFailed, UsageError
from runtime import open_runtime
from runtime.journal.memory import MemoryStore
from runtime.testing import Ending, crash_everywhere, run_in_virtual_time
from tests.runtime.graphs.stage import Ask, Done, Part, graph_of
from tests.runtime.graphs.test_durable_time import Yes, asking

LONG_S = 200.0


class Sleeper:
    """A node that does something once, sleeps, and tells how long that took."""

    def __init__(self, seconds: float = LONG_S, **how: Any) -> None:
        self.begun: list[float] = []
        self.done: list[int] = []
        self.seconds = seconds
        self.how = {"begin_again": True, **how}

    def graph(self, **options: Any) -> Graph[Ask, Done]:
        async def work(ask: Ask, run: Run) -> Done:
            self.begun.append(trio.current_time())
            await run.once("do", self.done.append, ask.n)
            await run.sleep(self.seconds, **self.how)
            return Done(round(trio.current_time() - self.begun[0]))

        return graph_of(work, **options)


@pytest.mark.parametrize("is_killed", [False, True])
async def test_a_run_that_only_sleeps_leaves_memory_and_comes_back_in_time(is_killed: bool, virtual_clock):
    sleeper, store = Sleeper(), MemoryStore()
    graph = sleeper.graph()
    async with open_runtime(store=store, graphs=[graph], evict_after_s=60) as runtime:
        handle = await runtime.start(graph, Ask(1), run_id="it")
        await trio.sleep(50)
        assert (len(runtime.runs()), handle.status) == (1, "waiting")
        await trio.sleep(50)
        assert not runtime.runs()
        if not is_killed:
            assert LONG_S <= (await handle.result()).n < LONG_S + 2
        else:
            store.crash()
    async with open_runtime(store=store.beside(), graphs=[graph]) as runtime:
        assert LONG_S <= (await (await runtime.handle("it")).result()).n < LONG_S + 2
    assert (len(sleeper.begun), sleeper.done) == (2, [1])


async def test_without_it_the_node_goes_on_where_it_is_and_begins_once(virtual_clock):
    sleeper = Sleeper(begin_again=False)
    async with open_runtime(store=MemoryStore()) as runtime:
        assert await runtime.run(sleeper.graph(), Ask(1), run_id="it") == Done(LONG_S)
    assert len(sleeper.begun) == 1


async def test_a_run_that_is_not_stored_just_sleeps(virtual_clock):
    sleeper = Sleeper()
    async with open_runtime() as runtime:
        assert await runtime.run(sleeper.graph(), Ask(1)) == Done(LONG_S)
    assert len(sleeper.begun) == 1


async def test_the_time_of_the_node_goes_on_while_the_run_is_out_of_memory(virtual_clock):
    sleeper = Sleeper()
    async with open_runtime(store=MemoryStore()) as runtime:
        handle = await runtime.start(sleeper.graph(timeout_s=100), Ask(1))
        await trio.sleep(70)
        assert not runtime.runs()
        with pytest.raises(RunFailed) as failed:
            await handle.result()
        [leaf] = failed.value.exceptions
        assert isinstance(leaf.__cause__, NodeTimedOut)
    assert 100 <= trio.current_time() < 110


async def test_in_a_nested_run_it_leaves_memory_with_the_run_around_it(virtual_clock):
    sleeper = Sleeper()
    outer = Graph("outer", input=Ask, output=Done)
    outer.add(sleeper.graph(), name="inner", timeout_s=2 * LONG_S)
    async with open_runtime(store=MemoryStore()) as runtime:
        handle = await runtime.start(outer, Ask(1))
        await trio.sleep(100)
        assert not runtime.runs()
        assert LONG_S <= (await handle.result()).n < LONG_S + 2


@pytest.mark.parametrize("besides", ["a task", "a limit"])
async def test_a_node_that_does_something_besides_stays_in_memory(besides: str, virtual_clock):
    async def work(ask: Ask, run: Run) -> Done:
        begun.append(trio.current_time())
        if besides == "a limit":
            with trio.move_on_after(150):
                await run.sleep(LONG_S, begin_again=True)
        else:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(trio.sleep, 150)
                await run.sleep(140, begin_again=True)
        return Done(round(trio.current_time() - begun[0]))

    begun: list[float] = []
    async with open_runtime(store=MemoryStore()) as runtime:
        assert await runtime.run(graph_of(work), Ask(1), run_id="it") == Done(150)
    assert len(begun) == 1


async def test_a_run_leaves_memory_when_what_it_does_besides_waiting_has_ended(virtual_clock):
    graph = asking()

    @graph.node
    async def works(ask: Ask) -> None:
        await trio.sleep(150)

    async with open_runtime(store=MemoryStore(), graphs=[graph]) as runtime:
        handle = await runtime.start(graph, Ask(1), run_id="it")
        await trio.sleep(140)
        assert runtime.runs()
        await trio.sleep(100)
        assert not runtime.runs()
        [question] = await runtime.questions()
        await runtime.answer(question.id, Yes(7))
        assert await handle.result() == Done(7)


async def test_a_node_that_cannot_begin_again_is_told_so(virtual_clock):
    async def once(ask: Ask, run: Run) -> Done:
        await run.sleep(1, begin_again=True)
        return Done(1)

    async def many(ask: Ask, run: Run) -> AsyncIterator[Part]:
        await run.sleep(1, begin_again=True)
        yield Part(1)

    async def end(part: Part) -> Done:
        return Done(part.n)

    sending = Graph("sending", input=Ask, output=Done)
    sending.node(effect=Effect.ONCE)(once)
    streaming = Graph("streaming", input=Ask, output=Done)
    streaming.node(many)
    streaming.node(end)
    async with open_runtime(store=MemoryStore()) as runtime:
        for graph, why in ((sending, "once only"), (streaming, "async generator")):
            with pytest.raises(RunFailed) as failed:
                await (await runtime.start(graph, Ask(1))).result()
            [leaf] = failed.value.exceptions
            assert isinstance(leaf.__cause__, UsageError)
            assert why in str(leaf.__cause__)


def test_crashes_around_a_sleep_change_nothing():
    async def run(store: Any) -> Any:
        sleeper = Sleeper(20)
        graph = sleeper.graph()
        async with open_runtime(store=store, graphs=[graph], evict_after_s=5) as runtime:
            await (await runtime.start(graph, Ask(1), run_id="it")).result()
            return "over"

    async def main() -> None:
        crashes = await crash_everywhere(run, endings=list(Ending), within_s=200, most=12)
        assert crashes.points == 12

    run_in_virtual_time(main)


async def test_many_sleep_and_none_is_in_memory(virtual_clock):
    sleeper = Sleeper()
    graph = sleeper.graph()
    async with open_runtime(store=MemoryStore(), graphs=[graph], evict_after_s=5) as runtime:
        handles = [await runtime.start(graph, Ask(n), run_id=f"r{n}") for n in range(50)]
        await trio.sleep(10)
        assert not runtime.runs()
        for handle in handles:
            assert (await handle.result()).n < math.inf
    assert sorted(sleeper.done) == list(range(50))
