"""How messages flow through instances: fan-outs, gathers, joins, loops, backpressure, limits, many runs at once."""

import functools
import operator
import random
from collections.abc import AsyncIterator
from typing import Annotated, Any

import attrs
import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st

from actors import Gather, Graph, MailboxSpec, NoOutput
from runtime import open_runtime
from runtime.testing import run_in_virtual_time
from tests.runtime.graphs.stage import EXACT, Ask, Done, Other, Part, graph_of

NARROW = MailboxSpec(capacity=1)


async def spread(ask: Ask) -> list[Part]:
    return [Part(n) for n in range(ask.n)]


async def collect(others: list[Other]) -> Done:
    return Done([other.n for other in others])


async def test_items_are_worked_on_at_once_and_gathered_in_their_order(virtual_clock):
    async def work(part: Part) -> Other:
        await trio.sleep(10 - part.n)
        return Other(part.n)

    async with open_runtime() as runtime:
        assert await runtime.run(graph_of(spread, work, collect), Ask(5)) == Done([0, 1, 2, 3, 4])
        assert trio.current_time() == 10.0


async def test_an_empty_fan_out_is_gathered_as_an_empty_list(virtual_clock):
    async def work(part: Part) -> Other:
        return Other(part.n)

    async with open_runtime() as runtime:
        assert await runtime.run(graph_of(spread, work, collect), Ask(0)) == Done([])


@pytest.mark.parametrize("concurrency", [1, 2, 3])
async def test_a_node_works_on_no_more_messages_at_once_than_it_may(concurrency, virtual_clock):
    busy, most = 0, 0

    async def work(part: Part) -> Other:
        nonlocal busy, most
        busy += 1
        most = max(most, busy)
        await trio.sleep(1)
        busy -= 1
        return Other(part.n)

    graph = graph_of(spread, collect)
    graph.node(concurrency=concurrency)(work)
    async with open_runtime() as runtime, trio.open_nursery() as nursery:
        nursery.start_soon(runtime.run, graph, Ask(6))
        await runtime.run(graph, Ask(6))

    assert (most, trio.current_time()) == (concurrency, 12 / concurrency)


async def test_the_first_k_items_go_on_and_the_rest_are_really_cancelled(virtual_clock):
    cancelled: list[tuple[int, float]] = []

    async def work(part: Part) -> Other:
        try:
            await trio.sleep(part.n)
        except trio.Cancelled:
            cancelled.append((part.n, trio.current_time()))
            raise
        return Other(part.n)

    async def some(others: Annotated[list[Other], Gather(first=2)]) -> Done:
        await trio.sleep(5)
        return Done([other.n for other in others])

    async with open_runtime() as runtime:
        assert await runtime.run(graph_of(spread, work, some), Ask(5)) == Done([0, 1])

    assert (sorted(cancelled), trio.current_time()) == ([(2, 1.0), (3, 1.0), (4, 1.0)], 6.0)


async def test_a_generator_goes_no_further_than_there_is_room_for_its_items(virtual_clock):
    made: list[tuple[int, float]] = []

    async def stream(ask: Ask) -> AsyncIterator[Part]:
        for n in range(5):
            made.append((n, trio.current_time()))
            yield Part(n)

    async def work(part: Part) -> Other:
        await trio.sleep(1)
        return Other(part.n)

    graph = graph_of(stream, collect)
    graph.node(concurrency=1, mailbox=NARROW)(work)
    async with open_runtime() as runtime:
        assert await runtime.run(graph, Ask()) == Done([0, 1, 2, 3, 4])

    assert made == [(0, 0.0), (1, 0.0), (2, 0.0), (3, 1.0), (4, 2.0)]  # one in hand, one that waits, one held out


async def test_a_generator_that_is_not_wanted_any_more_is_closed_and_its_gather_still_arrives(virtual_clock):
    closed: list[float] = []

    async def stream(ask: Ask) -> AsyncIterator[Other]:
        try:
            for n in range(100):
                yield Other(n)
                await trio.sleep(1)
        finally:
            await trio.sleep(0.5)
            closed.append(trio.current_time())

    async def some(others: Annotated[list[Other], Gather(first=3)]) -> Done:
        await trio.sleep(4)
        return Done([other.n for other in others])

    graph = graph_of(stream)
    graph.node(concurrency=1, mailbox=NARROW)(some)
    async with open_runtime() as runtime, trio.open_nursery() as nursery:
        for _ in range(3):  # the node that gathers is busy and its mailbox full when the third generator delivers
            nursery.start_soon(expect, runtime, graph, Ask(), Done([0, 1, 2]))

    assert closed == [2.5, 2.5, 2.5]


async def expect(runtime: Any, graph: Graph, message: Any, output: Any) -> None:
    assert await runtime.run(graph, message) == output


@pytest.mark.not_explored("that others run is trio's fairness, which a chosen schedule need not have")
async def test_a_generator_that_never_waits_lets_others_run(virtual_clock):
    async def stream(ask: Ask) -> AsyncIterator[Part]:
        while True:
            yield Part()

    async def work(part: Part) -> Done | None:
        return None

    async with open_runtime() as runtime:
        with trio.move_on_after(3) as limit:
            with trio.CancelScope() as soon:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(runtime.run, graph_of(stream, work), Ask())
                    for _ in range(1000):
                        await trio.lowlevel.checkpoint()
                    soon.cancel()

    assert (soon.cancelled_caught, limit.cancelled_caught) == (True, False)


async def test_a_loop_through_mailboxes_of_one_message_ends(virtual_clock):
    async def there(ask: Ask | Other) -> Part:
        return Part(ask.n)

    async def back(part: Part) -> Other | Done:
        return Done(part.n) if part.n == 50 else Other(part.n + 1)

    graph = graph_of(there, back, concurrency=1, mailbox=NARROW)
    async with open_runtime() as runtime, trio.open_nursery() as nursery:
        for _ in range(20):
            nursery.start_soon(expect, runtime, graph, Ask(0), Done(50))


async def test_a_gather_that_a_later_node_brings_about_cannot_block_it(virtual_clock):
    """`note` ends the fan-outs whose gather feeds `note` again: it must not wait for room in `again`, which waits for it."""

    @attrs.frozen
    class Last:
        pass

    async def note(message: Part | Last) -> Done | None:
        await trio.sleep(1)
        return Done() if isinstance(message, Last) else None

    async def work(part: Part) -> Other:
        return Other(part.n)

    async def again(others: list[Other]) -> Last:
        return Last()

    graph = Graph("g", input=Ask, output=Done, supervision=EXACT)
    graph.node(spread)
    graph.node(work)
    for node in (note, again):
        graph.node(concurrency=1, mailbox=NARROW)(node)
    async with open_runtime() as runtime:
        with trio.fail_after(100):
            async with trio.open_nursery() as nursery:
                for _ in range(8):
                    nursery.start_soon(expect, runtime, graph, Ask(1), Done())


async def test_two_hundred_runs_at_once_keep_their_results_apart(virtual_clock):
    rng = random.Random(1)
    delays = [rng.random() for _ in range(1000)]

    async def work(part: Part) -> Other:
        await trio.sleep(delays[part.n % 1000])
        return Other(part.n)

    async def spread(ask: Ask) -> list[Part]:
        return [Part(ask.n * 10 + k) for k in range(4)]

    graph = graph_of(spread, work, collect)
    async with open_runtime() as runtime, trio.open_nursery() as nursery:
        for n in range(200):
            nursery.start_soon(expect, runtime, graph, Ask(n), Done([n * 10 + k for k in range(4)]))


async def test_only_so_many_runs_are_under_way_and_the_others_follow_in_order(virtual_clock):
    began: list[tuple[int, float]] = []

    async def work(ask: Ask) -> Done:
        began.append((ask.n, trio.current_time()))
        await trio.sleep(1)
        return Done(ask.n)

    graph = graph_of(work)
    async with open_runtime() as runtime, trio.open_nursery() as nursery:
        await runtime.deploy(graph, max_runs=2)
        for n in range(5):
            nursery.start_soon(expect, runtime, graph, Ask(n), Done(n))
            await trio.testing.wait_all_tasks_blocked()

    assert sorted(began) == [(0, 0.0), (1, 0.0), (2, 1.0), (3, 1.0), (4, 2.0)]


KINDS = {name: attrs.make_class(name, {"left": attrs.field(type=int)}, frozen=True) for name in "ABCD"}


def reachable(edges: dict[str, list[str]]) -> list[str]:
    """From A, over any number of edges."""
    reached = ["A"]
    for name in reached:
        reached += [target for target in dict.fromkeys(edges[name]) if target not in reached]
    return reached


async def never(other: Other) -> Done | None:
    return None


def passing_on(targets: list[type]) -> Any:
    async def node(message: Any) -> Any:
        await trio.lowlevel.checkpoint()
        return [target(message.left - 1) for target in targets] if message.left else []

    return node


def network(edges: dict[str, list[str]], concurrency: int) -> Graph:
    """One node per kind: it passes the count on, one less, to all nodes that `edges` names; at zero it ends its branch."""
    graph = Graph("net", input=KINDS["A"], output=Done, supervision=EXACT)
    graph.node(never)
    for name in reachable(edges):
        targets = [KINDS[target] for target in edges[name]]

        items: Any = functools.reduce(operator.or_, targets, Other)
        declared = passing_on(targets)
        declared.__annotations__ = {"message": KINDS[name], "return": list[items]}
        graph.node(name=name.lower(), concurrency=concurrency, mailbox=NARROW)(declared)
    return graph


async def comes_to_rest(runtime: Any, graph: Graph, message: Any) -> None:
    with trio.fail_after(100), pytest.raises(NoOutput):
        await runtime.run(graph, message)


@settings(max_examples=40)
@given(
    st.fixed_dictionaries({name: st.lists(st.sampled_from(list(KINDS)), max_size=2, unique=True) for name in KINDS}),
    st.integers(1, 2),
    st.integers(0, 4),
)
def test_no_graph_stands_still_on_its_own_mailboxes(edges, concurrency, hops):
    """Any wiring of four nodes with room for one message each comes to rest, five runs at once."""

    async def main() -> None:
        graph = network(edges, concurrency)
        async with open_runtime() as runtime, trio.open_nursery() as nursery:
            for _ in range(5):
                nursery.start_soon(comes_to_rest, runtime, graph, KINDS["A"](hops))

    run_in_virtual_time(main)
