"""A node of the graph as a dependency: run as that node, once per run, for those that need it."""

# mypy: disable-error-code="empty-body"
# pyright: reportReturnType=false

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated

import attrs
import dspy  # noqa: F401 - loading it takes a thread, for which virtual time does not wait
import pytest
import trio

from actors import Dep, DepError, Graph, NodeFailed, NodeTimedOut, Redelivery, RunFailed, Supervision
from runtime import open_runtime
from runtime.testing import ScriptedLM
from tests.runtime.graphs.stage import TWICE, Ask, Done, Other, Part, graph_of, leaves, living

ONCE = Redelivery(max_attempts=1)


async def part_of(ask: Ask) -> Part:
    await trio.sleep(1)
    return Part(ask.n)


async def other_of(ask: Ask) -> Other:
    await trio.sleep(1)
    return Other(ask.n)


async def both(ask: Ask, part: Annotated[Part, Dep(part_of)], other: Annotated[Other, Dep(other_of)]) -> Done:
    return Done((part.n, other.n))


async def test_nodes_that_do_not_need_each_other_are_run_at_the_same_time(virtual_clock):
    async with open_runtime() as runtime:
        assert await runtime.run(graph_of(part_of, other_of, both), Ask(3)) == Done((3, 3))
        assert trio.current_time() == 1


async def test_it_is_run_with_the_instances_that_it_has(virtual_clock):
    graph = graph_of(other_of, both)
    graph.node(concurrency=1)(part_of)
    done: list[float] = []

    async def one_run() -> None:
        await runtime.run(graph, Ask())
        done.append(trio.current_time())

    async with open_runtime() as runtime, trio.open_nursery() as nursery:
        for _ in range(3):
            nursery.start_soon(one_run)

    assert done == [1, 2, 3]


async def test_a_language_model_fills_it_with_its_own_model(virtual_clock):
    graph = Graph("g", input=Ask, output=Done)

    @graph.predict(lm="large")
    async def facts(ask: Ask) -> Part:
        """Count."""
        ...

    @graph.node
    async def end(ask: Ask, part: Annotated[Part, Dep(facts)]) -> Done:
        return Done(part.n)

    large = ScriptedLM([{"n": 7}])
    async with open_runtime(lms={"large": large}) as runtime:
        handle = await runtime.start(graph, Ask(1))
        assert await handle.result() == Done(7)

    assert handle.spend.calls == len(large.calls) == 1


@attrs.frozen
class Question:
    n: int = 0

    async def __call__(self) -> Part:
        return Part(self.n + 1)


async def test_a_class_that_is_a_node_is_run_on_the_message_that_the_run_began_with(virtual_clock):
    graph = Graph("g", input=Question, output=Done)
    graph.node(Question)

    @graph.node
    async def end(question: Question, part: Annotated[Part, Dep(Question)]) -> Done:
        return Done((question.n, part.n))

    async with open_runtime() as runtime:
        assert await runtime.run(graph, Question(1)) == Done((1, 2))


async def test_out_of_attempts_those_that_depend_on_it_fail_with_the_way_to_what_it_raised(virtual_clock):
    async def fails(ask: Ask) -> Part:
        raise ConnectionError("down")

    async def end(ask: Ask, part: Annotated[Part, Dep(fails)]) -> Done:
        raise NotImplementedError

    async with open_runtime() as runtime:
        with pytest.raises(RunFailed) as caught:
            await runtime.run(graph_of(fails, end, redelivery=TWICE), Ask())

    (leaf,) = leaves(caught.value)
    assert (leaf.node, leaf.attempt) == ("end", 1)
    assert isinstance(leaf.__cause__, DepError)
    inner = leaf.__cause__.__cause__
    assert isinstance(inner, NodeFailed)
    assert (inner.node, inner.path, inner.attempt, str(inner.__cause__)) == ("fails", "g/fails/0", 2, "down")
    assert [(step.node, step.status, step.attempt) for step in leaf.trace] == [("end", "failed", 1), ("fails", "failed", 2)]


async def test_its_timeout_and_its_fallback_are_its_own(virtual_clock):
    async def stands_in(error: Exception) -> Part:
        assert isinstance(error, NodeTimedOut)
        return Part(-1)

    async def end(ask: Ask, part: Annotated[Part, Dep(part_of)]) -> Done:
        return Done(part.n)

    graph = graph_of(end)
    graph.node(timeout_s=0.5, redelivery=ONCE, fallback=stands_in)(part_of)
    async with open_runtime() as runtime:
        assert await runtime.run(graph, Ask()) == Done(-1)


async def test_what_it_depends_on_is_shared_with_the_run_and_open_until_its_end(virtual_clock):
    log: list[str] = []

    @asynccontextmanager
    async def database() -> AsyncIterator[int]:
        log.append("open")
        yield 4
        log.append("close")

    async def loads(ask: Ask, at: Annotated[int, Dep(database)]) -> Part:
        return Part(at)

    async def end(ask: Ask, part: Annotated[Part, Dep(loads)], at: Annotated[int, Dep(database)]) -> Done:
        log.append("end")
        return Done((part.n, at))

    async with open_runtime() as runtime:
        assert await runtime.run(graph_of(loads, end), Ask()) == Done((4, 4))

    assert log == ["open", "end", "close"]


async def test_none_and_a_list_are_values(virtual_clock):
    async def nothing(ask: Ask) -> Part | None:
        return None

    async def several(ask: Ask) -> list[Other]:
        return [Other(1), Other(2)]

    async def end(ask: Ask, n: Annotated[Part | None, Dep(nothing)], s: Annotated[list[Other], Dep(several)]) -> Done:
        return Done((n, s))

    async with open_runtime() as runtime:
        assert await runtime.run(graph_of(nothing, several, end), Ask()) == Done((None, [Other(1), Other(2)]))


async def test_it_ends_with_the_only_node_that_needs_it(virtual_clock):
    async def end(ask: Ask, part: Annotated[Part, Dep(part_of)]) -> Done:
        raise NotImplementedError

    graph = graph_of(part_of)
    graph.node(timeout_s=0.5, redelivery=ONCE)(end)
    async with open_runtime() as runtime:
        await runtime.deploy(graph)
        before = living()
        with pytest.raises(RunFailed) as caught:
            await runtime.run(graph, Ask())
        assert trio.current_time() == 0.5
        await trio.sleep(2)  # the instances that were cancelled are back
        assert living() == before

    assert [(step.node, step.status) for step in caught.value.trace] == [("end", "failed"), ("part_of", "cancelled")]


async def test_when_the_node_that_caused_it_is_cancelled_another_that_needs_it_takes_over(virtual_clock):
    async def hasty(ask: Ask, part: Annotated[Part, Dep(part_of)]) -> None: ...

    async def gives_up(error: Exception) -> None: ...

    async def later(ask: Ask) -> Other:
        await trio.sleep(0.25)
        return Other()

    async def patient(other: Other, part: Annotated[Part, Dep(part_of)]) -> Done:
        return Done((part.n, trio.current_time()))

    graph = graph_of(part_of)
    graph.node(timeout_s=0.5, redelivery=ONCE, fallback=gives_up)(hasty)
    graph.node(later)
    graph.node(patient)
    async with open_runtime() as runtime:
        assert await runtime.run(graph, Ask(2)) == Done((2, 1.5))


async def test_in_a_graph_within_a_graph_its_path_begins_with_that_of_the_node(virtual_clock):
    inner = Graph("inner", input=Part, output=Other)

    @inner.node
    async def double(part: Part) -> Part:
        return Part(2 * part.n)

    @inner.node
    async def end(part: Part, doubled: Annotated[Part, Dep(double)]) -> Other:
        return Other(doubled.n)

    async def begin(ask: Ask) -> Part:
        return Part(ask.n)

    async def finish(other: Other) -> Done:
        return Done(other.n)

    graph = graph_of(begin, finish)
    graph.add(inner)
    async with open_runtime() as runtime:
        handle = await runtime.start(graph, Ask(2))
        assert await handle.result() == Done(4)

    assert [step.path for step in handle.trace][1:4] == ["g/inner/0", "g/inner/0/end/0", "g/inner/0/double/0"]


async def test_when_the_graph_gives_up_on_restarting_it_the_run_ends(virtual_clock):
    async def fails(ask: Ask) -> Part:
        raise ConnectionError("down")

    async def end(ask: Ask, part: Annotated[Part, Dep(fails)]) -> Done:
        raise NotImplementedError

    graph = graph_of(fails, end, supervision=Supervision(max_restarts=0))
    async with open_runtime() as runtime:
        with pytest.raises(RunFailed) as caught:
            await runtime.run(graph, Ask())

    assert {leaf.node for leaf in leaves(caught.value)} == {"end"}
