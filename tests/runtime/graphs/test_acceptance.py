"""What the suites of other graph frameworks check of routing, joins, cancellation, retries and timeouts, by their row."""

from __future__ import annotations

import gc
import itertools
import weakref
from collections.abc import AsyncIterator
from typing import Annotated, Any

import attrs
import pytest
import trio
import trio.testing

from actors import Gather, Graph, GraphInvalid, NodeFailed, NodeTimedOut, Redelivery, Run, RunFailed
from runtime import open_runtime
from runtime.graphs.records.run_events import NodeFinished, NodeGaveUp, NodeRetrying, NodeStarted
from tests.runtime.graphs.stage import EXACT, TWICE, Ask, Done, Other, Part, graph_of

ONCE = Redelivery(max_attempts=1)


def new() -> Graph:
    return Graph("g", input=Ask, output=Done, supervision=EXACT)


async def test_l01_what_cannot_run_is_refused_with_the_names_before_anything_starts():
    graph = new()

    @graph.node
    async def lonely(part: Part) -> Done:
        return Done()

    async with open_runtime() as runtime:
        with pytest.raises(GraphInvalid, match="lonely"):
            await runtime.run(graph, Ask())


async def test_l04_a_self_loop_and_a_loop_draw_and_run(virtual_clock):
    graph = new()

    @graph.node
    async def loop(ask: Ask) -> Ask | Part:
        return Ask(ask.n + 1) if ask.n < 3 else Part(ask.n)

    @graph.node
    async def back(part: Part) -> Ask | Done:
        return Ask() if part.n == 0 else Done(part.n)

    assert "n1 -->|Ask| n1" in graph.mermaid()
    async with open_runtime() as runtime:
        assert await runtime.run(graph, Ask()) == Done(3)


async def test_l10_a_chain_of_fifty(virtual_clock):
    kinds = [attrs.make_class(f"M{i}", {"n": attrs.field(type=int)}, frozen=True) for i in range(51)]
    graph = Graph("g", input=kinds[0], output=kinds[50])

    def to(one: type, two: type) -> Any:
        async def step(message: Any) -> Any:
            return two(message.n + 1)

        step.__annotations__ = {"message": one, "return": two}
        step.__name__ = f"to_{two.__name__}"
        return step

    for one, two in itertools.pairwise(kinds):
        graph.node(to(one, two))

    async with open_runtime() as runtime:
        assert (await runtime.run(graph, kinds[0](0))).n == 50


async def test_l13_a_join_after_conditional_branches_fires_once_whichever_were_taken(virtual_clock):
    fired: list[int] = []

    async def one(ask: Ask) -> Part | None:
        return Part(1) if ask.n & 1 else None

    async def two(ask: Ask) -> Other | None:
        return Other(2) if ask.n & 2 else None

    async def join(ask: Ask, part: Part | None, other: Other | None) -> Done:
        fired.append(ask.n)
        return Done((part is not None, other is not None))

    async with open_runtime() as runtime:
        graph = graph_of(one, two, join)
        for n in range(4):
            assert await runtime.run(graph, Ask(n)) == Done((bool(n & 1), bool(n & 2)))

    assert fired == [0, 1, 2, 3]


async def test_l15_items_of_several_concurrent_senders_are_all_delivered(virtual_clock):
    async def split(ask: Ask) -> list[Part]:
        return [Part(i) for i in range(20)]

    async def again(part: Part) -> AsyncIterator[Other]:
        for i in range(5):
            yield Other(10 * part.n + i)

    async def inner(others: list[Other]) -> Sum:
        return Sum(len(others))

    async def outer(sums: list[Sum]) -> Done:
        return Done(sum(each.n for each in sums))

    async with open_runtime() as runtime:
        assert await runtime.run(graph_of(split, again, inner, outer), Ask()) == Done(100)


@attrs.frozen
class Sum:
    n: int


async def test_l24_concurrency_is_respected(virtual_clock):
    working, most = 0, 0

    async def split(ask: Ask) -> list[Part]:
        return [Part(i) for i in range(20)]

    graph = new()
    graph.node(split)

    @graph.node(concurrency=3)
    async def work(part: Part) -> Other:
        nonlocal working, most
        working += 1
        most = max(most, working)
        await trio.sleep(1)
        working -= 1
        return Other(part.n)

    @graph.node
    async def gather(others: list[Other]) -> Done:
        return Done(len(others))

    async with open_runtime() as runtime:
        assert await runtime.run(graph, Ask()) == Done(20)
        assert (most, trio.current_time()) == (3, 7)


async def test_l25_outside_cancellation_cancels_every_node_and_its_finally_runs(virtual_clock):
    ended: list[int] = []

    async def split(ask: Ask) -> list[Part]:
        return [Part(i) for i in range(5)]

    graph = new()
    graph.node(split)

    @graph.node
    async def wait(part: Part) -> Other:
        try:
            await trio.sleep(1000)
        finally:
            ended.append(part.n)
        return Other()

    @graph.node
    async def end(others: list[Other]) -> Done:
        return Done()

    async with open_runtime() as runtime:
        with trio.move_on_after(1):
            await runtime.run(graph, Ask())
        assert sorted(ended) == [0, 1, 2, 3, 4]


async def test_l26_one_that_raises_cancels_its_siblings_and_of_two_both_are_told(virtual_clock):
    async def left(ask: Ask) -> Part:
        await trio.sleep(1)
        raise ValueError("left")

    async def right(ask: Ask) -> Other:
        try:
            await trio.sleep(2)
        except trio.Cancelled:
            if ask.n:
                raise OSError("right") from None
            raise
        return Other()

    async def join(part: Part, other: Other) -> Done:
        return Done()

    async with open_runtime() as runtime:
        graph = graph_of(left, right, join, redelivery=ONCE)
        for n, failed in ((0, ["left"]), (1, ["left", "right"])):
            with pytest.raises(RunFailed) as caught:
                await runtime.run(graph, Ask(n))
            assert [leaf.node for leaf in caught.value.exceptions if isinstance(leaf, NodeFailed)] == failed
        assert trio.current_time() < 4


async def test_l34_results_of_runs_at_once_are_kept_apart(virtual_clock):
    async def work(ask: Ask) -> Part:
        await trio.sleep(1 / (1 + ask.n))
        return Part(ask.n)

    async def end(part: Part, ask: Ask) -> Done:
        assert part.n == ask.n
        return Done(part.n)

    results: dict[int, Any] = {}
    async with open_runtime() as runtime:
        graph = graph_of(work, end)

        async def one(n: int) -> None:
            results[n] = (await runtime.run(graph, Ask(n))).n

        async with trio.open_nursery() as nursery:
            for n in range(50):
                nursery.start_soon(one, n)

    assert results == {n: n for n in range(50)}


async def test_l35_what_a_run_made_is_freed_when_it_is_over(virtual_clock):
    kept: list[weakref.ref[Any]] = []

    @attrs.define(eq=False, slots=False)
    class Big:
        pass

    graph = new()

    @graph.node
    async def make(ask: Ask) -> Big:
        kept.append(weakref.ref(big := Big()))
        return big

    @graph.node
    async def take(big: Big) -> Done:
        return Done()

    async with open_runtime() as runtime:
        await runtime.run(graph, Ask())
        await trio.testing.wait_all_tasks_blocked()
        gc.collect()
        assert kept[0]() is None


async def test_l41_attempt_and_ids_are_known_to_the_node_and_stable(virtual_clock):
    seen: list[tuple[str, str, int]] = []

    async def work(ask: Ask, run: Run) -> Done:
        seen.append((run.id, run.path, run.attempt))
        if run.attempt == 1:
            raise ConnectionError("hiccup")
        return Done()

    async with open_runtime() as runtime:
        await runtime.run(graph_of(work, redelivery=TWICE), Ask())

    assert seen == [("g-1", "g/work/0", 1), ("g-1", "g/work/0", 2)]


async def test_l46_the_nodes_own_timeout_error_is_not_ours(virtual_clock):
    async def work(ask: Ask) -> Done:
        with trio.fail_after(1):
            await trio.sleep(2)
        return Done()

    async with open_runtime() as runtime:
        with pytest.raises(RunFailed) as caught:
            await runtime.run(graph_of(work, timeout_s=5, redelivery=ONCE), Ask())

    assert isinstance(caught.value.exceptions[0].__cause__, trio.TooSlowError)


async def test_l47_a_timeout_is_tried_again(virtual_clock):
    async def work(ask: Ask, run: Run) -> Done:
        await trio.sleep(10 if run.attempt == 1 else 1)
        return Done(run.attempt)

    async with open_runtime() as runtime:
        assert await runtime.run(graph_of(work, timeout_s=5, redelivery=TWICE), Ask()) == Done(2)


@pytest.mark.parametrize("seconds", [0, -1, "5", True])
def test_l49_a_limit_that_is_no_time_is_refused(seconds):
    for option in ("timeout_s", "idle_timeout_s"):
        with pytest.raises(Exception, match="expected None or a number > 0"):
            new().node(**{option: seconds})(_work)


async def _work(ask: Ask) -> Done:
    return Done()


async def test_l50_observers_see_start_and_failure_before_the_backoff_and_before_the_end(virtual_clock):
    async def work(ask: Ask) -> Done:
        raise ConnectionError("down")

    async with open_runtime() as runtime:
        async with runtime.stream(graph_of(work, redelivery=TWICE), Ask()) as events:
            seen = [event async for event in events if isinstance(event, NodeStarted | NodeRetrying | NodeGaveUp | NodeFinished)]

    assert [(type(event), event.attempt, event.at_s) for event in seen] == [
        (NodeStarted, 1, 0),
        (NodeRetrying, 1, 0),
        (NodeStarted, 2, 3),
        (NodeGaveUp, 2, 3),
    ]


async def test_l45_a_stubborn_node_is_waited_for_before_its_timeout_is_raised(virtual_clock):
    ended: list[float] = []

    async def stubborn(ask: Ask) -> Done:
        with trio.CancelScope(shield=True):
            await trio.sleep(3)
        ended.append(trio.current_time())
        return Done()

    async with open_runtime() as runtime:
        with pytest.raises(RunFailed) as caught:
            await runtime.run(graph_of(stubborn, timeout_s=1, redelivery=ONCE), Ask())
        assert (ended, trio.current_time()) == ([3], 3)

    assert isinstance(caught.value.exceptions[0].__cause__, NodeTimedOut)


async def test_the_first_k_cancel_the_rest_and_keep_the_order_of_items(virtual_clock):
    async def split(ask: Ask) -> list[Part]:
        return [Part(i) for i in range(5)]

    async def work(part: Part) -> Other:
        await trio.sleep(5 - part.n)
        return Other(part.n)

    async def gather(others: Annotated[list[Other], Gather(first=2)]) -> Done:
        return Done([other.n for other in others])

    async with open_runtime() as runtime:
        assert await runtime.run(graph_of(split, work, gather), Ask()) == Done([3, 4])
        assert trio.current_time() == 2
