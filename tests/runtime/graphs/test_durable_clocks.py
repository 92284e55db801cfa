"""The store's clock jumps while stored runs wait: nothing happens twice, and what waits for a time is late at most."""

from __future__ import annotations

import math
from typing import Any

import attrs
import pytest
import trio

from actors import Graph, NodeTimedOut, Redelivery, Run, RunCancelled, RunFailed
from runtime import open_runtime
from runtime.journal.memory import MemoryStore
from tests.runtime.graphs.stage import Ask, Done, graph_of
from tests.runtime.graphs.test_durable_time import Yes, asking

HOUR_S = 3_600.0
JUMPS = pytest.mark.parametrize(
    "jump_s",
    [300.0, -300.0, pytest.param(HOUR_S, marks=pytest.mark.chaos), pytest.param(-HOUR_S, marks=pytest.mark.chaos)],
    ids=["forward", "back", "an hour forward", "an hour back"],
)
OUT = pytest.mark.parametrize("evict_after_s", [1, 10_000], ids=["out of memory", "in memory"])
LOOKS_S = 30
"""What the looks into the store may take."""

pytestmark = pytest.mark.not_explored("minutes have too many steps")


@attrs.define(eq=False)
class Clocked:
    """One run in a store whose clock jumps a while after its start."""

    graph: Graph[Any, Any]
    jump_s: float
    evict_after_s: float = 1
    store: MemoryStore = attrs.field(factory=MemoryStore)

    async def lead(self, **terms: Any) -> Any:
        """How the run ends, and when."""
        async with open_runtime(store=self.store, graphs=[self.graph], evict_after_s=self.evict_after_s) as runtime:
            handle = await runtime.start(self.graph, Ask(1), run_id="it", **terms)
            await trio.sleep(20)
            self.store.set_clock(self.jump_s)
            try:
                return await handle.result(), trio.current_time()
            except (RunFailed, RunCancelled) as error:
                return error, trio.current_time()

    def is_in_time(self, at_s: float, wanted_s: float) -> bool:
        """Whether something that was to happen at `wanted_s` has not come early by the store's clock, nor later than the jump."""
        early_s = max(0.0, self.jump_s)
        return wanted_s - early_s <= at_s <= wanted_s + abs(self.jump_s) + LOOKS_S


@JUMPS
@pytest.mark.parametrize("begin_again", [False, True])
async def test_a_node_that_sleeps_wakes_once(jump_s: float, begin_again: bool, virtual_clock):
    done: list[str] = []

    async def work(ask: Ask, run: Run) -> Done:
        await run.once("before", done.append, "before")
        await run.sleep(200, begin_again=begin_again)
        await run.once("after", done.append, "after")
        return Done(1)

    clocked = Clocked(graph_of(work), jump_s)
    made, at_s = await clocked.lead()

    assert (made, done) == (Done(1), ["before", "after"])
    assert clocked.is_in_time(at_s, 200)


@JUMPS
@OUT
async def test_a_question_is_due_once_by_the_clock_of_the_store(jump_s: float, evict_after_s: float, virtual_clock):
    graph, escalated = Graph("letters", input=Ask, output=Done), list[int]()

    async def escalate(ask: Ask) -> Yes:
        escalated.append(ask.n)
        return Yes(ask.n)

    @graph.human(timeout_s=200, fallback=escalate)
    async def agree(ask: Ask) -> Yes:
        """May we?"""
        raise NotImplementedError

    @graph.node
    async def take(yes: Yes) -> Done:
        return Done(yes.n)

    clocked = Clocked(graph, jump_s, evict_after_s)
    made, at_s = await clocked.lead()

    assert (made, escalated) == (Done(1), [1])
    assert clocked.is_in_time(at_s, 200)


@JUMPS
@OUT
async def test_a_deadline_comes_once_and_not_before_the_clock_of_the_store_says_so(
    jump_s: float, evict_after_s: float, virtual_clock
):
    clocked = Clocked(asking(), jump_s, evict_after_s)
    error, at_s = await clocked.lead(deadline_s=200)

    assert isinstance(error, RunCancelled)
    assert "deadline_s" in str(error)
    assert clocked.is_in_time(at_s, 200)
    if jump_s < 0:
        assert at_s >= 200 - jump_s  # by the store's clock it has all of its time


@JUMPS
async def test_the_time_and_the_backoff_of_a_node_are_no_matter_of_that_clock(jump_s: float, virtual_clock):
    begun: list[float] = []

    async def work(ask: Ask) -> Done:
        begun.append(trio.current_time())
        await trio.sleep(math.inf)
        return Done(1)

    clocked = Clocked(graph_of(work, timeout_s=100, redelivery=Redelivery(max_attempts=2)), jump_s)
    error, at_s = await clocked.lead()

    assert isinstance(error, RunFailed)
    assert isinstance(error.exceptions[0].__cause__, NodeTimedOut)
    assert len(begun) == 2
    assert 200 <= at_s < 210


@JUMPS
async def test_a_worker_that_is_well_keeps_its_runs_and_one_that_stalls_loses_them_once(jump_s: float, virtual_clock):
    """The lease is counted by the clocks of the processes, which do not jump; one that was suspended finds its lease over."""
    done: list[str] = []

    async def work(ask: Ask, run: Run) -> Done:
        await run.once("it", done.append, "done")
        await run.sleep(100)
        return Done(len(done))

    graph, store = graph_of(work), MemoryStore(lease_s=15)
    async with open_runtime(store=store) as first, open_runtime(store=store.beside(), graphs=[graph]) as second:
        await first.start(graph, Ask(1), run_id="it")
        await trio.sleep(20)
        [before] = (await second.stored()).items
        store.set_clock(jump_s)
        await trio.sleep(40)
        [after] = (await second.stored()).items
        assert before.owner == after.owner is not None
        store.freeze()
        made = await (await second.handle("it")).result()

    assert (made, done) == (Done(1), ["done"])
