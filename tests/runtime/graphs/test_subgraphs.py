"""Graphs and actors as nodes of a graph: one run to its caller, with paths, failures, cancellation and spending in one piece."""

# mypy: disable-error-code="empty-body"
# pyright: reportReturnType=false

from __future__ import annotations

from typing import Any

import attrs
import dspy  # noqa: F401 - loading it takes a thread, for which virtual time does not wait
import pytest
import trio
import trio.testing

from actors import Actor, ActorFailed, DeclarationError, Graph, NodeFailed, NoOutput, Redelivery, RunFailed
from runtime import open_runtime
from runtime.graphs.records.run_events import NodeStarted, RunFinished, RunStarted
from runtime.testing import ScriptedLM
from tests.runtime.graphs.stage import EXACT, TWICE, Ask, Done, Other, Part, living


def inner_graph(**options: Any) -> Graph:
    inner = Graph("inner", input=Part, output=Other, supervision=EXACT)

    @inner.node(**options)
    async def first(part: Part) -> Half:
        if part.n == 13:
            raise ConnectionError("thirteen")
        await trio.sleep(1)
        return Half(part.n)

    @inner.node
    async def second(half: Half) -> Other | None:
        await trio.sleep(1)
        return Other(10 * half.n) if half.n != 7 else None

    return inner


@attrs.frozen
class Half:
    n: int


def outer_graph(inner: Any, **options: Any) -> Graph:
    outer = Graph("outer", input=Ask, output=Done, supervision=EXACT)

    @outer.node
    async def split(ask: Ask) -> list[Part]:
        return [Part(ask.n + i) for i in range(2)]

    outer.add(inner, name="sub", **options)

    @outer.node
    async def gather(others: list[Other]) -> Done:
        return Done([other.n for other in others])

    return outer


async def test_a_graph_is_a_node_with_runs_and_paths_of_its_own(virtual_clock):
    async with open_runtime() as runtime:
        handle = await runtime.start(outer_graph(inner_graph()), Ask(1))
        assert await handle.result() == Done([10, 20])
        assert trio.current_time() == 2

    assert sorted(step.path for step in handle.trace) == [
        "outer/gather/0",
        "outer/split/0",
        "outer/split/0/0/sub/0",
        "outer/split/0/0/sub/0/first/0",
        "outer/split/0/0/sub/0/second/0",
        "outer/split/0/1/sub/0",
        "outer/split/0/1/sub/0/first/0",
        "outer/split/0/1/sub/0/second/0",
    ]


async def test_its_failures_are_failures_of_the_run_and_are_not_tried_again(virtual_clock):
    async with open_runtime() as runtime:
        with pytest.raises(RunFailed, match="run 'outer-1' of 'outer' failed at 'first'") as caught:
            await runtime.run(outer_graph(inner_graph(redelivery=TWICE)), Ask(12))

    (leaf,) = caught.value.exceptions
    assert isinstance(leaf, NodeFailed)
    assert (leaf.path, leaf.attempt, leaf.run_id) == ("outer/split/0/1/sub/0/first/0", 2, "outer-1")
    assert leaf.input == Part(13)
    assert isinstance(leaf.__cause__, ConnectionError)


async def test_without_output_the_node_fails_and_says_why(virtual_clock):
    async with open_runtime() as runtime:
        with pytest.raises(RunFailed) as caught:
            await runtime.run(outer_graph(inner_graph()), Ask(7))

    (leaf,) = caught.value.exceptions
    assert isinstance(leaf, NodeFailed)
    assert leaf.node == "sub"
    assert isinstance(leaf.__cause__, NoOutput)


async def test_cancelling_the_run_cancels_the_runs_within_and_leaves_nothing(virtual_clock):
    graph = outer_graph(inner_graph())
    async with open_runtime() as runtime:
        await runtime.run(graph, Ask(1))
        alive = living()
        handle = await runtime.start(graph, Ask(1))
        await trio.sleep(0.5)

        await handle.cancel()

        await trio.testing.wait_all_tasks_blocked()
        assert living() == alive
        assert {step.status for step in handle.trace if "/first/" in step.path} == {"cancelled"}
        assert await runtime.run(graph, Ask(1)) == Done([10, 20])


async def test_a_timeout_of_the_node_ends_the_run_within_first(virtual_clock):
    graph = outer_graph(inner_graph(), timeout_s=0.5, redelivery=Redelivery(max_attempts=1))
    async with open_runtime() as runtime:
        with pytest.raises(RunFailed, match="failed at 'sub'"):
            await runtime.run(graph, Ask(1))
        assert trio.current_time() == 0.5


async def test_its_events_and_spending_are_those_of_the_run_that_has_one_end(virtual_clock):
    inner = Graph("inner", input=Part, output=Other)

    @inner.predict
    async def fill(part: Part) -> Other:
        """Fill it."""
        ...

    graph = outer_graph(inner)
    async with open_runtime(lm=ScriptedLM(lambda messages: {"n": 3})) as runtime:
        async with runtime.stream(graph, Ask(1)) as events:
            seen = [event async for event in events]
        handle = await runtime.start(graph, Ask(1))
        await handle.result()

    assert [type(event) for event in seen if isinstance(event, RunStarted | RunFinished)] == [RunStarted, RunFinished]
    assert [event.path for event in seen if isinstance(event, NodeStarted) and event.node == "fill"] == [
        "outer/split/0/0/sub/0/fill/0",
        "outer/split/0/1/sub/0/fill/0",
    ]
    assert handle.spend.calls == 2


async def test_graphs_within_graphs_within_graphs(virtual_clock):
    middle = Graph("middle", input=Part, output=Other)
    middle.add(inner_graph())
    async with open_runtime() as runtime:
        handle = await runtime.start(outer_graph(middle), Ask(1))
        assert await handle.result() == Done([10, 20])

    assert "outer/split/0/0/sub/0/inner/0/first/0" in [step.path for step in handle.trace]


class Counter(Actor):
    def __init__(self) -> None:
        self.count = 0

    async def receive(self, message: Part) -> Other:
        if message.n == 13:
            raise ValueError("thirteen")
        if message.n == 99 and self.count:
            raise ConnectionError("hiccup")
        self.count += 1
        return Other(self.count)


async def test_an_actor_is_a_node_that_keeps_its_state_from_run_to_run(virtual_clock):
    graph = outer_graph(Counter)
    async with open_runtime() as runtime:
        assert sorted((await runtime.run(graph, Ask(1))).n) == [1, 2]
        assert sorted((await runtime.run(graph, Ask(1))).n) == [3, 4]


async def test_an_actor_that_crashes_is_restarted_and_asked_again(virtual_clock):
    graph = outer_graph(Counter, concurrency=1, redelivery=Redelivery(max_attempts=2))
    async with open_runtime() as runtime:
        assert await runtime.run(graph, Ask(98)) == Done([1, 1])


async def test_a_programming_error_of_an_actor_fails_the_run_at_once(virtual_clock):
    async with open_runtime() as runtime:
        with pytest.raises(RunFailed, match="failed at 'sub'") as caught:
            await runtime.run(outer_graph(Counter), Ask(13))

    (leaf,) = caught.value.exceptions
    assert isinstance(leaf, NodeFailed)
    assert leaf.attempt == 1
    assert isinstance(leaf.__cause__, ActorFailed)


async def test_an_actor_that_was_spawned_elsewhere_is_a_node_by_its_ref(virtual_clock):
    async with open_runtime() as runtime:
        ref = await runtime.spawn(Counter, name="counter")
        graph = outer_graph(ref, takes=Part, returns=Other)

        assert sorted((await runtime.run(graph, Ask(1))).n) == [1, 2]
        assert await ref.ask(Part(1)) == Other(3)


async def test_a_language_model_that_a_graph_within_lacks_is_missed_when_the_graph_around_is_deployed(virtual_clock):
    inner = Graph("inner", input=Part, output=Other)

    @inner.predict
    async def fill(part: Part) -> Other:
        """Fill it."""
        ...

    async with open_runtime() as runtime:
        with pytest.raises(DeclarationError, match="node 'fill' of graph 'inner'"):
            await runtime.deploy(outer_graph(inner))
