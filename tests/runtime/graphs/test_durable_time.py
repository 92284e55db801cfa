"""Time of stored runs: limits go on while a run is out of memory, and what the store takes is nobody's time."""

from __future__ import annotations

import math
from collections.abc import AsyncGenerator, Awaitable, Callable
from datetime import datetime
from functools import partial
from typing import Annotated, Any

import attrs
import pytest
import trio
import trio.testing

from actors import LM, AlreadyAnswered, Effect, Gather, Graph, NodeTimedOut, Run, RunCancelled, RunFailed, UsageError
from runtime import open_runtime
from runtime.journal.memory import MemoryStore
from runtime.journal.store import StoredStatus
from runtime.testing import ScriptedLM, SlowStore
from runtime.testing.stores.passing import PassingStore
from tests.runtime.graphs.stage import Ask, Done, Part, graph_of


@attrs.frozen
class Yes:
    n: int


async def take(yes: Yes) -> Done:
    return Done(yes.n)


def asking(name: str = "asks") -> Graph[Ask, Done]:
    graph = Graph(name, input=Ask, output=Done)

    @graph.human
    async def agree(ask: Ask) -> Yes:
        """May we?"""
        raise NotImplementedError

    graph.node(take)
    return graph


def deep(timeout_s: float, levels: int = 1) -> Graph[Ask, Done]:
    """A question as deep as `levels`, in a nested run that has `timeout_s` seconds."""
    inner = asking()
    for level in range(levels):
        outer = Graph(f"level{level}", input=Ask, output=Done)
        outer.add(inner, name="inner", **({"timeout_s": timeout_s} if level == 0 else {}))
        inner = outer
    return inner


async def evicted(runtime: Any) -> None:
    """Wait until the run has left memory."""
    await trio.sleep(5)
    assert not runtime.runs()


@pytest.mark.parametrize("deadline_s", ["soon", 0, -1, True, math.nan, math.inf, 10**400, 1e300])
async def test_a_deadline_is_a_time_that_a_calendar_can_count(deadline_s: Any, autojump_clock):
    async with open_runtime(store=MemoryStore(), graphs=[asking()]) as runtime:
        with pytest.raises(UsageError, match=r"^deadline_s=.*: expected a number of seconds > 0, a hundred years at most\."):
            await runtime.start(asking(), Ask(1), deadline_s=deadline_s)
        assert not runtime.runs()


@pytest.mark.parametrize("is_killed", [False, True])
async def test_a_run_out_of_memory_is_cancelled_at_its_deadline(is_killed: bool, autojump_clock):
    store = MemoryStore()
    async with open_runtime(store=store, graphs=[asking()], evict_after_s=1) as runtime:
        handle = await runtime.start(asking(), Ask(1), run_id="it", deadline_s=100)
        await evicted(runtime)
        if not is_killed:
            with pytest.raises(RunCancelled, match="deadline_s"):
                await handle.result()
            assert 100 <= trio.current_time() < 120
            assert await runtime.questions() == []
            return
        store.crash()
    async with open_runtime(store=store.beside(), graphs=[asking()]) as runtime:
        with pytest.raises(RunCancelled, match="deadline_s"):
            await (await runtime.handle("it")).result()
    assert 100 <= trio.current_time() < 120


@pytest.mark.parametrize("levels", [1, 3])
@pytest.mark.parametrize("is_killed", [False, True])
async def test_the_limit_of_a_nested_run_goes_on_while_it_is_out_of_memory(is_killed: bool, levels: int, autojump_clock):
    store, graph = MemoryStore(), deep(200, levels)
    async with open_runtime(store=store, graphs=[graph], evict_after_s=1) as runtime:
        await runtime.start(graph, Ask(1), run_id="it")
        await evicted(runtime)
        if is_killed:
            store.crash()
        else:
            await trio.sleep(300)
    async with open_runtime(store=store.beside(), graphs=[graph], evict_after_s=1) as runtime:
        with pytest.raises(RunFailed) as caught:
            await (await runtime.handle("it")).result()
        run = (await runtime.history("it")).run
    assert run.ended is not None
    assert 200 <= (run.ended - run.created).total_seconds() < 220
    assert "timeout_s=200" in str(caught.value.exceptions[0])


class AnsweredInBetween(PassingStore):
    """A question is answered when its run is released, and has been looked at for the last time; then the process dies."""

    def __init__(self, store: MemoryStore) -> None:
        super().__init__(store)
        self.answer: Callable[[], Awaitable[None]] | None = None
        self._crash = store.crash

    async def release(
        self,
        run: str,
        status: StoredStatus,
        wake_at: datetime | None,
        *,
        looked_at: int | None = None,
        life: int | None = None,
    ) -> None:
        if self.answer is not None:
            await self.answer()
            await trio.testing.wait_all_tasks_blocked()  # it is handed to the worker, which has no such run any more
        await super().release(run, status, wake_at, looked_at=looked_at, life=life)
        if self.answer is not None:
            self._crash()


async def test_an_answer_while_a_run_is_released_is_not_lost_by_a_process_that_dies_right_then(autojump_clock):
    store, graph = MemoryStore(), asking()
    released = AnsweredInBetween(store)
    async with open_runtime(store=released, graphs=[graph], evict_after_s=1) as runtime:
        await runtime.start(graph, Ask(1), run_id="it")
        await trio.testing.wait_all_tasks_blocked()
        [question] = await runtime.questions()
        released.answer = partial(runtime.answer, question.id, Yes(7))
        await evicted(runtime)
    async with open_runtime(store=store.beside(), graphs=[graph]) as runtime:
        with trio.fail_after(60):
            assert await (await runtime.handle("it")).result() == Done(7)


@pytest.mark.parametrize("store_s", [0.5, 5, 50])
async def test_a_run_that_was_answered_stays_in_memory_while_the_answer_is_written(store_s: float, autojump_clock):
    """It looks as if it waited for the person still, and would have left with the answer: nothing more would have come."""
    graph = asking()
    async with open_runtime(store=SlowStore(MemoryStore(), store_s), graphs=[graph], evict_after_s=1) as runtime:
        handle = await runtime.start(graph, Ask(1), run_id="it")
        await trio.sleep(store_s + 0.25)
        [question] = await runtime.questions()
        with trio.fail_after(300):
            await runtime.answer(question.id, Yes(7))
            assert await handle.result() == Done(7)


async def test_a_run_leaves_memory_when_what_ran_beside_its_question_is_done(autojump_clock):
    graph = Graph("asks", input=Ask, output=Done)

    @graph.human
    async def agree(ask: Ask) -> Yes:
        """May we?"""
        raise NotImplementedError

    @graph.node
    async def work(ask: Ask) -> Part:
        await trio.sleep(100)
        return Part(ask.n)

    @graph.node
    async def both(yes: Yes, part: Part) -> Done:
        return Done([yes.n, part.n])

    async with open_runtime(store=MemoryStore(), graphs=[graph], evict_after_s=1) as runtime:
        handle = await runtime.start(graph, Ask(1), run_id="it")
        await trio.sleep(90)
        assert "it" in runtime.runs()
        await trio.sleep(10)
        await evicted(runtime)
        [question] = await runtime.questions()
        await runtime.answer(question.id, Yes(7))
        assert await handle.result() == Done([7, 1])


async def test_an_answer_in_time_ends_a_nested_run_that_was_out_of_memory(autojump_clock):
    graph = deep(200, 2)
    async with open_runtime(store=MemoryStore(), graphs=[graph], evict_after_s=1) as runtime:
        handle = await runtime.start(graph, Ask(1), run_id="it")
        await evicted(runtime)
        await trio.sleep(100)
        [question] = await runtime.questions()
        await runtime.answer(question.id, Yes(7))
        assert await handle.result() == Done(7)


async def test_a_nested_run_that_was_late_and_is_resumed_by_hand_has_its_whole_time_again(autojump_clock):
    graph = deep(200)
    async with open_runtime(store=MemoryStore(), graphs=[graph], evict_after_s=1) as runtime:
        handle = await runtime.start(graph, Ask(1), run_id="it")
        with pytest.raises(RunFailed):
            await handle.result()
        handle, began_s = await runtime.resume("it"), trio.current_time()
        await trio.sleep(150)
        [question] = await runtime.questions()
        await runtime.answer(question.id, Yes(7))
        assert await handle.result() == Done(7)
        assert trio.current_time() - began_s < 160


async def test_a_run_that_wakes_for_nothing_leaves_memory_again_and_is_not_woken_in_a_circle(autojump_clock):
    events: list[Any] = []
    graph = deep(5_000)
    async with open_runtime(store=MemoryStore(), graphs=[graph], evict_after_s=1, instruments=[events.append]) as runtime:
        await runtime.start(graph, Ask(1), run_id="it", deadline_s=4_000)
        await trio.sleep(3_000)
        assert [type(event).__name__ for event in events].count("RunResumed") == 0


class Bought:
    """Nodes with a limit of 3 s in which the store takes 5 s for each record."""

    def __init__(self, **limits: Any) -> None:
        self.limits = limits

    async def run(self, *nodes: Any, lm: Any = None) -> Any:
        graph = graph_of(*nodes, **self.limits)
        async with open_runtime(store=SlowStore(MemoryStore(), 5), lm=lm) as runtime:
            return await runtime.run(graph, Ask(1), run_id="it")


@pytest.mark.parametrize("limit", ["timeout_s", "idle_timeout_s"])
async def test_what_the_store_takes_is_not_the_time_of_a_node(limit: str, autojump_clock):
    async def twice(n: int) -> int:
        await trio.sleep(1)
        return 2 * n

    async def buy(ask: Ask, lm: LM, run: Run) -> Done:
        answer = await lm.chat([{"role": "user", "content": "hello"}])
        assert "hi" in answer.text
        await run.sleep(0.5)
        return Done(await run.once("twice", twice, ask.n))

    assert await Bought(**{limit: 3.0}).run(buy, lm=ScriptedLM([{"text": "hi"}])) == Done(2)
    assert trio.current_time() > 15, "each record took its time"


async def test_what_the_store_takes_is_not_the_time_of_a_generator(autojump_clock):
    graph = Graph("g", input=Ask, output=Done)

    @graph.node(timeout_s=3)
    async def make(ask: Ask) -> AsyncGenerator[Part]:
        for n in range(3):
            await trio.sleep(0.5)
            yield Part(n)

    @graph.node
    async def add(parts: Annotated[list[Part], Gather()]) -> Done:
        return Done([part.n for part in parts])

    async with open_runtime(store=SlowStore(MemoryStore(), 5)) as runtime:
        assert await runtime.run(graph, Ask(1), run_id="it") == Done([0, 1, 2])


async def test_the_time_of_a_node_that_may_run_once_only_begins_with_its_code(autojump_clock):
    async def send(ask: Ask) -> Done:
        await trio.sleep(2)
        return Done(1)

    graph = graph_of(send, effect=Effect.ONCE, timeout_s=3)
    async with open_runtime(store=SlowStore(MemoryStore(), 5)) as runtime:
        assert await runtime.run(graph, Ask(1), run_id="it") == Done(1)


async def test_its_own_time_counts_before_and_after(autojump_clock):
    async def quick(n: int) -> int:
        return n

    async def slow(ask: Ask, run: Run) -> Done:
        await trio.sleep(2)
        await run.once("quick", quick, 1)
        await trio.sleep(2)
        return Done(1)

    with pytest.raises(RunFailed) as caught:
        await Bought(timeout_s=3).run(slow)
    assert isinstance(caught.value.exceptions[0].__cause__, NodeTimedOut)


async def test_calls_that_wait_for_the_store_at_the_same_time_stop_the_time_once(autojump_clock):
    async def quick(n: int) -> int:
        return n

    async def both(ask: Ask, run: Run) -> Done:
        async with trio.open_nursery() as nursery:
            for n in range(3):
                nursery.start_soon(run.once, f"quick {n}", quick, n)
        await trio.sleep(2)
        return Done(1)

    assert await Bought(timeout_s=3).run(both) == Done(1)
    with pytest.raises(RunFailed):
        await Bought(timeout_s=1.5).run(both)


async def test_people_are_asked_again_when_a_run_that_was_over_is_resumed(autojump_clock):
    """The store strikes out the questions of a run that ends: the same one again could not be answered elsewhere."""
    store, graph = MemoryStore(), deep(1000)
    async with open_runtime(store=store, graphs=[graph], evict_after_s=1) as runtime:
        handle = await runtime.start(graph, Ask(1), run_id="it")
        await trio.sleep(5)
        [before] = await runtime.questions()
        await handle.cancel()
        assert await runtime.questions() == []

        handle = await runtime.resume("it")
        await trio.sleep(5)
        [again] = await runtime.questions("it")
        assert (again.path, again.asks) == (before.path, before.asks)
        assert again.id != before.id
        async with open_runtime(store=store.beside()) as other:
            with pytest.raises(AlreadyAnswered):
                await other.answer(before.id, Yes(1))
            await other.answer(again.id, Yes(7))
        assert await handle.result() == Done(7)


async def test_a_person_who_was_late_is_asked_again_and_has_the_whole_time_again(autojump_clock):
    graph = Graph("late", input=Ask, output=Done)

    @graph.human(timeout_s=100)
    async def agree(ask: Ask) -> Yes:
        """May we?"""
        raise NotImplementedError

    graph.node(take)
    async with open_runtime(store=MemoryStore(), graphs=[graph], evict_after_s=1) as runtime:
        handle = await runtime.start(graph, Ask(1), run_id="it")
        with pytest.raises(RunFailed):
            await handle.result()
        handle = await runtime.resume("it")
        await trio.sleep(90)
        [question] = await runtime.questions("it")
        await runtime.answer(question.id, Yes(7))
        assert await handle.result() == Done(7)
