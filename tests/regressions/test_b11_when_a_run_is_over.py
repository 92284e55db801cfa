"""A run may wait for its side branches, shows those that it cancelled, and lets a node end a loop in time."""

from __future__ import annotations

import math
import random
from collections.abc import AsyncIterator
from typing import Any

import attrs
import pytest
import trio

from actors import DeclarationError, Finish, Gather, Graph, NodeFailed, Redelivery, Run, RunFailed, StepsExceeded
from runtime import NodeCancelled, open_runtime
from runtime.graphs.reducer.routing import RoutingTable
from runtime.graphs.reducer.state import RunState
from tests.runtime.graphs.stage import EXACT, TWICE, Ask, Done, Other, Part


@attrs.frozen
class Saved:
    n: int


def graph_that_saves(log: list[Any], **options: Any) -> Graph:
    """`answer` makes the output soon; `save`, which takes the same message, needs a while."""
    graph = Graph("g", input=Ask, output=Done, supervision=EXACT, **options)

    @graph.node
    async def begin(ask: Ask) -> Part:
        return Part(ask.n)

    @graph.node
    async def answer(part: Part) -> Done:
        await trio.sleep(1)
        return Done(part.n)

    @graph.node(redelivery=TWICE)
    async def save(part: Part, run: Run) -> Other:
        await trio.sleep(2)
        if part.n == 13 or (part.n == 7 and run.attempt == 1):
            raise ConnectionError("the disk")
        log.append(("saved", trio.current_time()))
        return Other(part.n)

    @graph.node
    async def note(other: Other) -> None:
        await trio.sleep(1)
        log.append(("noted", trio.current_time()))

    return graph


async def test_b11_a_run_that_finishes_when_quiet_waits_for_its_side_branches(virtual_clock):
    log: list[Any] = []
    async with open_runtime() as runtime:
        graph = graph_that_saves(log, finish=Finish.WHEN_QUIET)
        handle = await runtime.start(graph, Ask(1))
        assert await handle.result() == Done(1)

    assert log == [("saved", 2), ("noted", 3)]
    assert trio.current_time() == 3
    assert [(step.node, step.status) for step in handle.trace] == [(node, "done") for node in ("begin", "answer", "save", "note")]


async def test_b11_by_default_the_first_output_ends_the_run_and_the_trace_shows_what_was_cancelled(virtual_clock):
    log: list[Any] = []
    async with open_runtime() as runtime:
        graph = graph_that_saves(log)
        assert graph.finish is Finish.FIRST_OUTPUT
        async with runtime.stream(graph, Ask(1)) as events:
            handle = runtime.runs()["g-1"]
            cancelled = [event.node async for event in events if isinstance(event, NodeCancelled)]

    assert (log, trio.current_time()) == ([], 1)
    trace = {step.node: step.status for step in handle.trace}
    assert trace == {"begin": "done", "answer": "done", "save": "cancelled"}
    assert cancelled == ["save"]


async def test_b11_messages_that_still_wait_when_the_output_comes_are_in_the_trace_too(virtual_clock):
    graph = Graph("g", input=Ask, output=Done)

    @graph.node
    async def spread(ask: Ask) -> list[Part]:
        return [Part(n) for n in range(3)]

    @graph.node(concurrency=1)
    async def work(part: Part) -> None:
        await trio.sleep(10)

    @graph.node
    async def answer(ask: Ask) -> Done:
        await trio.sleep(1)
        return Done()

    async with open_runtime() as runtime:
        handle = await runtime.start(graph, Ask())
        await handle.result()

    assert [step.status for step in handle.trace if step.node == "work"] == ["cancelled"] * 3
    assert all(step.ended_at_s == 1 for step in handle.trace if step.node == "work")


async def test_b11_a_side_branch_is_tried_again_and_one_that_fails_for_good_fails_the_run(virtual_clock):
    log: list[Any] = []
    async with open_runtime() as runtime:
        graph = graph_that_saves(log, finish=Finish.WHEN_QUIET)
        assert await runtime.run(graph, Ask(7)) == Done(7)
        assert log == [("saved", 7), ("noted", 8)]
        with pytest.raises(RunFailed) as caught:
            await runtime.run(graph, Ask(13))

    (leaf,) = caught.value.exceptions
    assert isinstance(leaf, NodeFailed)
    assert leaf.node == "save"


async def test_b11_the_callers_deadline_ends_a_run_that_waits(virtual_clock):
    log: list[Any] = []
    async with open_runtime() as runtime:
        with trio.move_on_after(1.5) as limit:
            await runtime.run(graph_that_saves(log, finish=Finish.WHEN_QUIET), Ask(1))
    assert (limit.cancelled_caught, log, trio.current_time()) == (True, [], 1.5)


@pytest.mark.parametrize("seed", range(20))
def test_b11_of_several_outputs_that_of_the_first_branch_is_returned_whatever_the_timing(seed):
    graph = Graph("g", input=Ask, output=Done, finish=Finish.WHEN_QUIET)

    @graph.node
    async def spread(ask: Ask) -> list[Part]:
        return [Part(n) for n in range(5)]

    @graph.node
    async def work(part: Part) -> Done | None:
        return Done(part.n) if part.n >= 2 else None

    state = RunState(RoutingTable(graph.plan(), graph.finish), "run-1")
    commands = state.start(Ask())
    (path,) = [task.path for task in commands.deliveries]
    tasks = list(state.finished(path, [Part(n) for n in range(5)]).deliveries)
    random.Random(seed).shuffle(tasks)
    for task in tasks:
        assert state.output is None
        (part,) = task.arguments.values()
        assert isinstance(part, Part)
        assert not state.finished(task.path, Done(part.n) if part.n >= 2 else None).cancelled

    assert (state.output, state.is_at_rest) == (Done(2), True)


async def test_b11_a_node_that_takes_the_output_gets_it_and_of_a_loop_the_first_round_counts(virtual_clock):
    seen: list[int] = []
    graph = Graph("g", input=Ask, output=Done, finish=Finish.WHEN_QUIET)

    @graph.node
    async def ask_again(ask: Ask) -> Done:
        return Done(ask.n)

    @graph.node
    async def again(done: Done) -> Ask | None:
        seen.append(done.n)
        return Ask(done.n + 1) if done.n < 3 else None

    async with open_runtime() as runtime:
        assert await runtime.run(graph, Ask(0)) == Done(0)
    assert seen == [0, 1, 2, 3]


async def test_b11_the_items_of_a_stream_that_are_outputs_belong_to_one_attempt(virtual_clock):
    graph = Graph("g", input=Ask, output=Done, finish=Finish.WHEN_QUIET, supervision=EXACT)

    @graph.node(redelivery=TWICE)
    async def yields(ask: Ask, run: Run) -> AsyncIterator[Done]:
        yield Done(run.attempt)
        if run.attempt == 1:
            raise ConnectionError("lost")

    async with open_runtime() as runtime:
        assert await runtime.run(graph, Ask()) == Done(2)


async def test_b11_a_graphs_fallback_gives_an_output_and_the_others_go_on(virtual_clock):
    async def stands_in(error: NodeFailed) -> Done:
        return Done("instead")

    log: list[str] = []
    graph = Graph("g", input=Ask, output=Done, finish=Finish.WHEN_QUIET, fallback=stands_in, supervision=EXACT)

    @graph.node(redelivery=Redelivery(max_attempts=1))
    async def fails(ask: Ask) -> Done:
        raise LookupError("no")

    @graph.node
    async def saves(ask: Ask) -> None:
        await trio.sleep(2)
        log.append("saved")

    async with open_runtime() as runtime:
        assert await runtime.run(graph, Ask()) == Done("instead")
    assert log == ["saved"]


async def test_b11_a_graph_within_a_graph_finishes_as_it_says_itself(virtual_clock):
    log: list[Any] = []
    outer = Graph("outer", input=Ask, output=Saved)
    outer.add(graph_that_saves(log, finish=Finish.WHEN_QUIET), name="inner")

    @outer.node
    async def ends(done: Done) -> Saved:
        return Saved(done.n)

    async with open_runtime() as runtime:
        assert await runtime.run(outer, Ask(1)) == Saved(1)
    assert log == [("saved", 2), ("noted", 3)]


async def test_b11_gathers_and_steps_still_bound_a_run_that_waits(virtual_clock):
    graph = Graph("g", input=Ask, output=Done, finish=Finish.WHEN_QUIET)

    @graph.node
    async def answer(ask: Ask) -> Done:
        return Done()

    @graph.node
    async def endless(ask: Ask | Part) -> Part | None:
        await trio.sleep(1)
        return Part()

    async with open_runtime() as runtime:
        with pytest.raises(StepsExceeded):
            await runtime.run(graph, Ask(), max_steps=10)


@pytest.mark.parametrize("value", ["when-quiet", None, True, Gather()])
def test_b11_only_a_member_of_finish_says_when_a_run_is_over(value):
    with pytest.raises(DeclarationError, match=r"Graph\('g', finish=.*\): expected a member of Finish\.\n  Fix: finish=Fin"):
        Graph("g", input=Ask, output=Done, finish=value)


async def test_b11_a_node_can_end_a_loop_before_its_steps_are_used_up(virtual_clock):
    left: list[float] = []
    graph = Graph("g", input=Ask, output=Done)

    @graph.node
    async def improve(ask: Ask, run: Run) -> Ask | Done:
        left.append(run.steps_left)
        return Done(ask.n) if run.steps_left == 0 else Ask(ask.n + 1)

    async with open_runtime() as runtime:
        assert await runtime.run(graph, Ask(), max_steps=5) == Done(4)
    assert left == [4, 3, 2, 1, 0]


async def test_b11_steps_left_is_infinite_without_a_limit_and_known_in_threads(virtual_clock):
    graph = Graph("g", input=Ask, output=Done)

    @graph.node
    def work(ask: Ask, run: Run) -> Done:
        return Done(run.steps_left)

    async with open_runtime() as runtime:
        assert await runtime.run(graph, Ask()) == Done(math.inf)
        assert await runtime.run(graph, Ask(), max_steps=3) == Done(2)


def test_b11_the_design_page_says_when_a_run_ends_and_which_generators_are_repeatable():
    async def yields(ask: Ask) -> AsyncIterator[Part]:
        yield Part()

    async def ends(parts: list[Part]) -> Done:
        return Done()

    pages = []
    for finish, repeatable in ((Finish.FIRST_OUTPUT, False), (Finish.WHEN_QUIET, True)):
        graph = Graph("g", input=Ask, output=Done, finish=finish)
        graph.node(repeatable=repeatable)(yields)
        graph.node(ends)
        pages.append(graph.describe())

    assert "From `Ask` to `Done` in 2 nodes.\n" in pages[0]
    assert "| many `Part`, one by one |" in pages[0]
    assert "From `Ask` to `Done` in 2 nodes. A run ends when all of its branches have.\n" in pages[1]
    assert "| many `Part`, one by one, the same at each attempt |" in pages[1]
