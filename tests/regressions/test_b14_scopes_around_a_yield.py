"""A generator may hold cancel scopes and nurseries open around its yields, whatever becomes of its items."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, Any

import pytest
import trio

from actors import LM, Dep, Graph, MailboxSpec, NodeFailed, NodeTimedOut, Redelivery, Run, RunFailed
from runtime import NodeSlowToStop, open_runtime
from runtime.testing import ScriptedLM
from tests.runtime.graphs.stage import EXACT, TWICE, Ask, Done, Other, Part, graph_of, living

ONCE = Redelivery(max_attempts=1)
NARROW = MailboxSpec(capacity=1)


async def works(part: Part) -> Other:
    await trio.sleep(1)
    return Other(part.n)


async def collects(others: list[Other]) -> Done:
    return Done([other.n for other in others])


def slow_graph(generator: Any, **options: Any) -> Graph:
    """`generator`, whose items are worked on one by one for a second each, with room for one."""
    graph = Graph("g", input=Ask, output=Done, supervision=EXACT)
    options.setdefault("redelivery", ONCE)
    graph.node(**options)(generator)
    graph.node(concurrency=1, mailbox=NARROW)(works)
    graph.node(collects)
    return graph


async def until_late(ask: Ask) -> AsyncIterator[Part]:
    with trio.move_on_after(10.5):
        for n in range(300):
            yield Part(n)
    yield Part(-1)


async def test_b14_a_scope_that_expires_while_an_item_waits_for_room_ends_its_block_and_nothing_else(virtual_clock):
    async with open_runtime() as runtime:
        done = await runtime.run(slow_graph(until_late), Ask())

        # One in hand, one in the mailbox, one held out: those were yielded within the time.
        assert done == Done([*range(13), -1])


async def test_b14_three_hundred_items_pass_a_full_mailbox_within_a_scope(virtual_clock):
    async def in_time(ask: Ask) -> AsyncIterator[Part]:
        with trio.move_on_after(1000):
            for n in range(300):
                with trio.fail_after(500):
                    yield Part(n)

    async with open_runtime() as runtime:
        assert await runtime.run(slow_graph(in_time), Ask()) == Done(list(range(300)))


async def test_b14_many_items_after_a_scope_expired_at_a_yield_come_in_order_and_keep_to_the_room(virtual_clock):
    made: list[tuple[int, float]] = []

    async def goes_on(ask: Ask) -> AsyncIterator[Part]:
        for n in range(0, 9, 3):
            with trio.move_on_after(0.5):
                for m in range(3):
                    made.append((n + m, trio.current_time()))
                    yield Part(n + m)

    async with open_runtime() as runtime:
        done = await runtime.run(slow_graph(goes_on), Ask())

    assert [n for n, _ in made] == [0, 1, 2, 3, 6]  # each later block is left at its first yield, whose item counts
    assert done == Done([0, 1, 2, 3, 6])
    assert made[3][1] == 0.5


async def test_b14_a_deadline_in_the_generator_is_its_failure(virtual_clock):
    async def fails(ask: Ask) -> AsyncIterator[Part]:
        with trio.fail_after(1.5):
            for n in range(300):
                yield Part(n)

    async with open_runtime() as runtime:
        with pytest.raises(RunFailed) as caught:
            await runtime.run(slow_graph(fails), Ask())

    assert isinstance(caught.value.exceptions[0].__cause__, trio.TooSlowError)


async def test_b14_a_nursery_in_the_generator_lives_as_long_as_its_block(virtual_clock):
    beats: list[float] = []

    async def beating() -> None:
        while True:
            beats.append(trio.current_time())
            await trio.sleep(1)

    async def beats_on(ask: Ask) -> AsyncIterator[Part]:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(beating)
            for n in range(4):
                await trio.sleep(0.5)
                yield Part(n)
            nursery.cancel_scope.cancel()

    async with open_runtime() as runtime:
        alive = living()
        graph = slow_graph(beats_on)
        assert await runtime.run(graph, Ask()) == Done([0, 1, 2, 3])
        assert beats == [0, 1, 2]
        await (await runtime._engine._deployments.of(graph)).stop()  # pyright: ignore[reportPrivateUsage]
        assert living() == alive


async def test_b14_a_task_of_the_generator_that_fails_fails_the_node(virtual_clock):
    async def breaks() -> None:
        await trio.sleep(1.5)
        raise LookupError("broken")

    async def nursery_fails(ask: Ask) -> AsyncIterator[Part]:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(breaks)
            for n in range(300):
                yield Part(n)

    async with open_runtime() as runtime:
        with pytest.raises(RunFailed) as caught:
            await runtime.run(slow_graph(nursery_fails), Ask())

    cause = caught.value.exceptions[0].__cause__
    assert isinstance(cause, ExceptionGroup)
    assert [str(error) for error in cause.exceptions] == ["broken"]


@pytest.mark.parametrize("at_yield", [True, False])
async def test_b14_a_cancelled_generator_leaves_its_blocks_and_has_time_to_clean_up_at_a_yield(at_yield, virtual_clock):
    log: list[tuple[str, float]] = []

    async def ends(ask: Ask) -> AsyncIterator[Part]:
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(trio.sleep_forever)
                with trio.move_on_after(100):
                    for n in range(300):
                        yield Part(n)
                        if not at_yield:
                            await trio.sleep_forever()
        finally:
            log.append(("ending", trio.current_time()))
            if at_yield:
                await trio.sleep(2)
            log.append(("ended", trio.current_time()))

    async with open_runtime() as runtime:
        graph = slow_graph(ends)
        await runtime.deploy(graph)
        alive = living()
        with trio.move_on_after(3.5):
            await runtime.run(graph, Ask())
        ended = 5.5 if at_yield else 3.5
        assert (log, trio.current_time()) == ([("ending", 3.5), ("ended", ended)], ended)
        await trio.sleep(1)
        assert living() <= alive + 1  # `works` may have had two instances


async def test_b14_clean_up_that_does_not_end_is_cut_off(virtual_clock):
    async def lingers(ask: Ask) -> AsyncIterator[Part]:
        try:
            for n in range(300):
                yield Part(n)
        finally:
            await trio.sleep_forever()

    async with open_runtime() as runtime:
        with trio.move_on_after(3):
            await runtime.run(slow_graph(lingers), Ask())
        assert trio.current_time() == 8


async def test_b14_an_error_in_the_clean_up_is_not_lost(virtual_clock):
    async def trips(ask: Ask) -> AsyncIterator[Part]:
        try:
            for n in range(300):
                yield Part(n)
        finally:
            raise LookupError("while closing")

    async with open_runtime() as runtime:
        with pytest.raises(RunFailed) as caught:
            await runtime.run(slow_graph(trips, timeout_s=4), Ask())

    assert isinstance(caught.value.exceptions[0].__cause__, LookupError)


async def test_b14_the_nodes_own_time_limit_reaches_a_generator_within_its_scopes(virtual_clock):
    async def sleeps(ask: Ask, run: Run) -> AsyncIterator[Part]:
        with trio.move_on_after(50):
            async with trio.open_nursery():
                if run.attempt == 1:
                    await trio.sleep(40)
                yield Part(run.attempt)

    async with open_runtime() as runtime:
        assert await runtime.run(slow_graph(sleeps, timeout_s=5, redelivery=TWICE), Ask()) == Done([2])
        with pytest.raises(RunFailed) as caught:
            await runtime.run(slow_graph(sleeps, timeout_s=5, redelivery=ONCE), Ask())
    assert isinstance(caught.value.exceptions[0].__cause__, NodeTimedOut)


async def test_b14_a_generator_that_does_not_stop_is_shown_where_it_is(virtual_clock):
    async def stubborn(ask: Ask) -> AsyncIterator[Part]:
        yield Part()
        with trio.CancelScope(shield=True):
            await trio.sleep(20)

    async with open_runtime() as runtime, runtime.stream(slow_graph(stubborn, timeout_s=5), Ask()) as events:
        (slow,) = [event async for event in events if isinstance(event, NodeSlowToStop)]

    assert "await trio.sleep(20)" in slow.stack


async def test_b14_an_answer_may_be_streamed_around_the_yields(virtual_clock):
    async def tells(ask: Ask, lm: LM) -> AsyncIterator[Part]:
        with trio.move_on_after(6.5):
            async with lm.stream([{"role": "user", "content": "?"}]) as pieces:
                n = 0
                async for _ in pieces:
                    yield Part(n)
                    n += 1

    lm = ScriptedLM(lambda messages: " ".join(["word"] * 300))
    async with open_runtime(lm=lm) as runtime:
        done = await runtime.run(slow_graph(tells), Ask())
    assert done == Done(list(range(9)))


@asynccontextmanager
async def within_a_scope() -> AsyncGenerator[str]:
    with trio.move_on_after(2):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.sleep_forever)
            yield "value"
            nursery.cancel_scope.cancel()


@pytest.mark.parametrize("takes_s", [1, 5])
async def test_b14_a_dependency_may_hold_scopes_around_its_yield(takes_s, virtual_clock):
    async def needs(ask: Ask, value: Annotated[str, Dep(within_a_scope)]) -> Done:
        await trio.sleep(takes_s)
        return Done(value)

    async with open_runtime() as runtime:
        if takes_s < 2:
            assert await runtime.run(graph_of(needs), Ask()) == Done("value")
            return
        with pytest.raises(RunFailed) as caught:
            await runtime.run(graph_of(needs), Ask())

    (leaf,) = caught.value.exceptions
    assert isinstance(leaf, NodeFailed)
    assert "closed before its run was over" in str(leaf)
    assert trio.current_time() == 2


async def test_b14_a_generator_with_a_scope_may_depend_on_one(virtual_clock):
    async def streams(ask: Ask, value: Annotated[str, Dep(within_a_scope)]) -> AsyncIterator[Part]:
        with trio.move_on_after(0.5):
            for n in range(300):
                yield Part(n)

    async with open_runtime() as runtime:
        graph = graph_of(streams)

        @graph.node
        async def counts(parts: list[Part]) -> Done:
            return Done(len(parts))

        assert await runtime.run(graph, Ask()) == Done(300)
