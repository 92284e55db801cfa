"""Nodes that do what they should not: leave context variables behind, keep cancellations, raise what nobody survives."""

import contextlib
import contextvars
import gc
import itertools
import weakref
from collections.abc import AsyncIterator
from typing import Any

import trio
from hypothesis import given, settings
from hypothesis import strategies as st
from trio.testing import MockClock

from actors import Graph, NoOutput
from runtime import open_runtime
from tests.runtime.graphs.stage import Ask, Done, Part, graph_of, living
from tests.runtime.graphs.test_engine_flow import KINDS, comes_to_rest, network

SEEN: contextvars.ContextVar[Any] = contextvars.ContextVar("SEEN", default="nobody's")


# --- context variables ------------------------------------------------------------------------------------------------


async def leaves_behind(ask: Ask) -> Done:
    seen = SEEN.get()
    SEEN.set(f"of {ask.n}")
    await trio.sleep(1)
    return Done(seen)


async def test_what_a_node_sets_in_its_context_is_gone_for_the_next_message_of_the_same_instance(virtual_clock):
    graph = graph_of(leaves_behind, concurrency=1)
    async with open_runtime() as runtime:
        assert [await runtime.run(graph, Ask(n)) for n in range(3)] == [Done("nobody's")] * 3


async def test_it_is_gone_as_well_when_the_message_was_withdrawn(virtual_clock):
    graph = graph_of(leaves_behind, concurrency=1)
    async with open_runtime() as runtime:
        with trio.move_on_after(0.5):
            await runtime.run(graph, Ask(7))

        assert await runtime.run(graph, Ask()) == Done("nobody's")


async def test_messages_of_one_burst_do_not_see_each_others_context_either(virtual_clock):
    seen: list[Any] = []

    async def spread(ask: Ask) -> list[Part]:
        return [Part(n) for n in range(3)]

    async def work(part: Part) -> Done | None:
        seen.append(SEEN.get())
        SEEN.set(part.n)
        return Done() if part.n == 2 else None

    async with open_runtime() as runtime:
        await runtime.run(graph_of(spread, work, concurrency=1), Ask())

    assert seen == ["nobody's"] * 3


class Incomparable:
    """Like an array: whether two of them are equal is no plain truth."""

    def __eq__(self, other: object) -> bool:
        raise ValueError("the truth value is ambiguous")

    __hash__ = None  # type: ignore[assignment]


async def test_values_that_cannot_be_compared_may_be_left_behind_too(virtual_clock):
    async def work(ask: Ask) -> Done:
        first = SEEN.get() is kept
        SEEN.set(Incomparable())
        return Done(first)

    kept = Incomparable()
    SEEN.set(kept)
    graph = graph_of(work, concurrency=1)
    async with open_runtime() as runtime:
        assert [await runtime.run(graph, Ask()) for _ in range(3)] == [Done(True)] * 3


# --- what is kept of runs that have ended -------------------------------------------------------------------------------


async def test_a_node_that_is_busy_or_waits_for_its_restart_keeps_no_run_that_was_cancelled_in_its_mailbox(virtual_clock):
    async def work(ask: Ask) -> Done:
        await trio.sleep(1000 if ask.n == 0 else 0)
        return Done()

    graph = graph_of(work, concurrency=1)
    async with open_runtime() as runtime:
        busy = await runtime.start(graph, Ask(0))
        waiting = [await runtime.start(graph, Ask(n)) for n in range(1, 9)]
        kept = [weakref.ref(handle._run) for handle in waiting]  # pyright: ignore[reportPrivateUsage]
        while waiting:
            await waiting.pop().cancel()
        gc.collect()

        assert [run() for run in kept] == [None] * 8
        await busy.cancel()


# --- no message is left unattended ----------------------------------------------------------------------------------------


async def cancelled_at(step: int, runtime: Any, graph: Graph) -> None:
    """A run that is cancelled at the `step`-th chance that it gives to others, if it lasts so long."""

    async def cancel(scope: trio.CancelScope) -> None:
        for _ in range(step):
            await trio.lowlevel.checkpoint()
        scope.cancel()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(cancel, nursery.cancel_scope)
        with contextlib.suppress(NoOutput):
            await runtime.run(graph, KINDS["A"](3))


async def stop_an_instance(step: int, runtime: Any, graph: Graph) -> None:
    """One of the nodes' instances is stopped from outside; it is replaced when it is needed."""
    for _ in range(step):
        await trio.lowlevel.checkpoint()
    instances = [ref for node in runtime.tree().children[0].children if (ref := runtime.whereis(node.address)) is not None]
    await runtime.stop(instances[step % len(instances)])


@settings(max_examples=40)
@given(
    st.fixed_dictionaries({name: st.lists(st.sampled_from(list(KINDS)), max_size=2, unique=True) for name in KINDS}),
    st.integers(1, 3),
    st.lists(st.integers(0, 40), min_size=1, max_size=4),
    st.lists(st.integers(0, 40), max_size=3),
)
def test_runs_that_are_cancelled_and_instances_that_are_stopped_leave_every_mailbox_attended(edges, concurrency, cancels, stops):
    """Whatever the moment, the runs beside them come to rest, and so does the next one."""

    async def main() -> None:
        graph = network(edges, concurrency)
        async with open_runtime() as runtime:
            await runtime.deploy(graph)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(comes_to_rest, runtime, graph, KINDS["A"](3))
                for step in cancels:
                    nursery.start_soon(cancelled_at, step, runtime, graph)
                for step in stops:
                    nursery.start_soon(stop_an_instance, step, runtime, graph)
            await comes_to_rest(runtime, graph, KINDS["A"](3))
            mailboxes = [actor.mailbox for address, actor in runtime.statistics().actors.items() if "/" in address]
            assert {(mailbox.depth, mailbox.blocked_senders) for mailbox in mailboxes} == {(0, 0)}

    trio.run(main, clock=MockClock(autojump_threshold=0))


# --- cancellations that are kept ------------------------------------------------------------------------------------------


async def test_a_node_that_swallows_its_cancellation_serves_the_next_message_undisturbed(virtual_clock):
    async def work(ask: Ask) -> Done:
        with contextlib.suppress(trio.Cancelled):
            await trio.sleep(5 if ask.n == 0 else 1)
        return Done(ask.n)

    graph = graph_of(work, concurrency=1)
    async with open_runtime() as runtime:
        with trio.move_on_after(2):
            await runtime.run(graph, Ask(0))

        assert [await runtime.run(graph, Ask(n)) for n in (1, 2)] == [Done(1), Done(2)]
        assert trio.current_time() == 4.0
        assert runtime.statistics().actors["g/work"].restarts == 0


async def test_a_node_that_ends_an_endless_generator_by_its_output_leaves_nothing(virtual_clock):
    async def count(ask: Ask) -> AsyncIterator[Part]:
        for n in itertools.count():
            yield Part(n)

    async def find(part: Part) -> Done | None:
        return Done(part.n) if part.n == 500 else None

    async with open_runtime() as runtime:
        await runtime.deploy(graph := graph_of(count, find, concurrency=1))
        alive = living()

        assert await runtime.run(graph, Ask()) == Done(500)
        assert living() == alive
