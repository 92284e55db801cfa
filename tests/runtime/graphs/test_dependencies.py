"""Dependencies at work: once per run, concurrent where they can be, closed at the end of the run however it ends."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Annotated, Any

import attrs
import pytest
import trio
import trio.testing

from actors import Backoff, Dep, DepError, Graph, Redelivery, RunCancelled, RunFailed
from actors.errors import NodeFailed
from runtime import open_runtime
from tests.runtime.graphs.stage import EXACT, TWICE, Ask, Done, Other, Part, graph_of, living

log: list[str] = []


@pytest.fixture(autouse=True)
def clear():
    log.clear()


@attrs.frozen
class Place:
    name: str


async def place(ask: Ask) -> Place:
    log.append("place")
    await trio.sleep(1)
    return Place(f"place {ask.n}")


async def weather(where: Annotated[Place, Dep(place)]) -> str:
    log.append("weather")
    await trio.sleep(2)
    return f"rain at {where.name}"


async def calendar(where: Annotated[Place, Dep(place)]) -> list[str]:
    log.append("calendar")
    await trio.sleep(3)
    return [f"meeting at {where.name}"]


async def test_independent_ones_run_together_and_each_is_called_once_per_run(virtual_clock):
    async def one(ask: Ask, sky: Annotated[str, Dep(weather)]) -> Part:
        return Part(ask.n)

    async def two(part: Part, sky: Annotated[str, Dep(weather)], day: Annotated[list[str], Dep(calendar)]) -> Done:
        return Done((sky, day))

    async with open_runtime() as runtime:
        graph = graph_of(one, two)
        assert await runtime.run(graph, Ask(1)) == Done(("rain at place 1", ["meeting at place 1"]))
        assert (trio.current_time(), log) == (6, ["place", "weather", "calendar"])
        assert await runtime.run(graph, Ask(2)) == Done(("rain at place 2", ["meeting at place 2"]))

    assert log == ["place", "weather", "calendar"] * 2


async def test_one_level_of_the_dag_is_worked_out_at_the_same_time(virtual_clock):
    async def work(ask: Ask, sky: Annotated[str, Dep(weather)], day: Annotated[list[str], Dep(calendar)]) -> Done:
        return Done()

    async with open_runtime() as runtime:
        await runtime.run(graph_of(work), Ask())

    assert trio.current_time() == 1 + 3
    assert sorted(log) == ["calendar", "place", "weather"]


async def test_branches_that_need_the_same_one_at_once_share_it(virtual_clock):
    async def split(ask: Ask) -> list[Part]:
        return [Part(i) for i in range(10)]

    async def work(part: Part, where: Annotated[Place, Dep(place)]) -> Other:
        return Other(part.n)

    async def gather(others: list[Other]) -> Done:
        return Done(len(others))

    async with open_runtime() as runtime:
        assert await runtime.run(graph_of(split, work, gather), Ask()) == Done(10)

    assert log == ["place"]
    assert trio.current_time() == 1


async def test_a_plain_function_runs_in_a_worker_thread():
    def thread_name() -> str:
        return threading.current_thread().name

    async def work(ask: Ask, name: Annotated[str, Dep(thread_name)]) -> Done:
        return Done(name)

    async with open_runtime() as runtime:
        done = await runtime.run(graph_of(work), Ask())

    assert done.n != threading.current_thread().name


async def test_one_that_fails_cancels_its_siblings_and_the_error_says_where(virtual_clock):
    async def fails() -> Place:
        await trio.sleep(1)
        raise ConnectionError("no map")

    async def slow() -> int:
        try:
            await trio.sleep(100)
        finally:
            log.append(f"slow ended at {trio.current_time():g}")
        return 1

    async def far(where: Annotated[Place, Dep(fails)]) -> str:
        return where.name

    async def work(ask: Ask, number: Annotated[int, Dep(slow)], text: Annotated[str, Dep(far)]) -> Done:
        return Done()

    async with open_runtime() as runtime:
        with pytest.raises(RunFailed) as caught:
            await runtime.run(graph_of(work, redelivery=Redelivery(max_attempts=1)), Ask())

    (leaf,) = caught.value.exceptions
    error = leaf.__cause__
    assert isinstance(error, DepError)
    assert (error.node, error.parameter, error.retryable) == ("work", "text", True)
    assert str(error) == (
        f"node 'work' could not get 'text': its dependency fails ({__file__}:{fails.__code__.co_firstlineno}) failed: "
        "ConnectionError: no map\n"
        "  Fix: correct fails, or catch the error in it and return a value that stands in."
    )
    assert isinstance(error.__cause__, ConnectionError)
    assert log == ["slow ended at 1"]


async def test_another_attempt_of_the_node_calls_a_failed_one_again_and_keeps_the_others(virtual_clock):
    async def flaky(where: Annotated[Place, Dep(place)]) -> str:
        log.append("flaky")
        if log.count("flaky") == 1:
            raise ConnectionError("once")
        return "fine"

    async def work(ask: Ask, text: Annotated[str, Dep(flaky)]) -> Done:
        return Done(text)

    async with open_runtime() as runtime:
        assert await runtime.run(graph_of(work, redelivery=TWICE), Ask()) == Done("fine")

    assert log == ["place", "flaky", "flaky"]


async def test_a_programming_error_is_not_tried_again(virtual_clock):
    def wrong() -> str:
        log.append("wrong")
        raise KeyError("wrong")

    async def work(ask: Ask, text: Annotated[str, Dep(wrong)]) -> Done:
        return Done(text)

    async with open_runtime() as runtime:
        with pytest.raises(RunFailed):
            await runtime.run(graph_of(work), Ask())

    assert log == ["wrong"]


async def test_whoever_waits_takes_over_when_the_one_that_works_it_out_is_cancelled(virtual_clock):
    async def slow() -> str:
        log.append("slow")
        await trio.sleep(5)
        return "slow"

    graph = Graph("g", input=Ask, output=Done, supervision=EXACT)

    @graph.node(timeout_s=3, redelivery=Redelivery(max_attempts=2, backoff=Backoff(first_s=100, jitter=0)))
    async def hasty(ask: Ask, text: Annotated[str, Dep(slow)]) -> Part:
        return Part()

    @graph.node
    async def late(ask: Ask) -> Late:
        await trio.sleep(1)
        return Late()

    @attrs.frozen
    class Late:
        pass

    @graph.node
    async def patient(late: Late, text: Annotated[str, Dep(slow)]) -> Other:
        return Other()

    @graph.node
    async def join(part: Part, other: Other) -> Done:
        return Done(trio.current_time())

    async with open_runtime() as runtime:
        handle = await runtime.start(graph, Ask())
        await handle.result()

    assert log == ["slow", "slow"]
    assert next(step.ended_at_s for step in handle.trace if step.node == "patient") == 3 + 5


def kept(name: str, *, leave_s: float = 0.0) -> Callable[..., Any]:
    @asynccontextmanager
    async def manager() -> AsyncIterator[str]:
        log.append(f"enter {name}")
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(trio.sleep_forever)
                yield name
                nursery.cancel_scope.cancel()
        finally:
            await trio.sleep(leave_s)
            log.append(f"leave {name} at {trio.current_time():g}")

    return manager


first, second = kept("first", leave_s=1), kept("second", leave_s=1)


async def use(ask: Ask, one: Annotated[str, Dep(first)]) -> Part:
    await trio.sleep(1)
    return Part(ask.n)


async def use_more(part: Part, two: Annotated[str, Dep(second)]) -> Done:
    await trio.sleep(1)
    if part.n == 13:
        raise ValueError("thirteen")
    if part.n == 99:
        await trio.sleep(100)
    return Done()


async def test_context_managers_are_left_at_the_end_of_the_run_the_last_one_first(virtual_clock):
    async with open_runtime() as runtime:
        await runtime.run(graph_of(use, use_more), Ask())
        log.append("run returned")
        assert trio.current_time() == 4

    assert log == ["enter first", "enter second", "leave second at 3", "leave first at 4", "run returned"]


async def test_context_managers_are_left_when_the_run_fails(virtual_clock):
    async with open_runtime() as runtime:
        with pytest.raises(RunFailed, match="failed at 'use_more'"):
            await runtime.run(graph_of(use, use_more), Ask(13))
        assert log[2:] == ["leave second at 3", "leave first at 4"]


async def test_context_managers_are_left_before_cancel_returns_and_nothing_is_left_over(virtual_clock):
    graph = graph_of(use, use_more)
    async with open_runtime() as runtime:
        await runtime.run(graph, Ask())
        alive = living()
        log.clear()
        handle = await runtime.start(graph, Ask(99))
        await trio.sleep(10)
        await handle.cancel()

        assert log[2:] == ["leave second at 15", "leave first at 16"]
        with pytest.raises(RunCancelled):
            await handle.result()
        await trio.testing.wait_all_tasks_blocked()
        assert living() == alive


async def test_context_managers_are_left_when_the_runtime_is_cancelled(virtual_clock):
    with trio.move_on_after(1.5):
        async with open_runtime() as runtime:
            await runtime.run(graph_of(use, use_more), Ask(99))

    assert sorted(entry.partition(" at")[0] for entry in log) == ["enter first", "enter second", "leave first", "leave second"]


async def test_one_that_cannot_be_left_in_time_is_cancelled_and_fails_the_run(virtual_clock):
    stuck = kept("stuck", leave_s=100)

    async def work(ask: Ask, text: Annotated[str, Dep(stuck)]) -> Done:
        return Done()

    async with open_runtime() as runtime:
        with pytest.raises(RunFailed) as caught:
            await runtime.run(graph_of(work), Ask())
        assert trio.current_time() == 5

    (leaf,) = caught.value.exceptions
    assert isinstance(leaf, NodeFailed)
    assert (leaf.node, leaf.path) == ("work", "g/work/0")
    assert str(leaf).endswith(" was not left within 5 s.")


async def test_one_that_fails_while_the_run_goes_on_fails_the_run(virtual_clock):
    @asynccontextmanager
    async def breaks() -> AsyncIterator[str]:
        async with trio.open_nursery() as nursery:

            async def bang() -> None:
                await trio.sleep(2)
                raise OSError("gone")

            nursery.start_soon(bang)
            yield "line"
            nursery.cancel_scope.cancel()

    async def work(ask: Ask, line: Annotated[str, Dep(breaks)]) -> Done:
        await trio.sleep(100)
        return Done()

    async with open_runtime() as runtime:
        with pytest.raises(RunFailed, match="failed at 'work'") as caught:
            await runtime.run(graph_of(work), Ask())
        assert trio.current_time() == 2

    assert "failed while the run went on" in str(caught.value.exceptions[0])


async def test_one_that_cannot_be_entered_is_a_dependency_that_failed(virtual_clock):
    @asynccontextmanager
    async def locked() -> AsyncIterator[str]:
        if text := "locked":
            raise PermissionError(text)
        yield ""

    async def work(ask: Ask, text: Annotated[str, Dep(locked)]) -> Done:
        return Done()

    async with open_runtime() as runtime:
        with pytest.raises(RunFailed) as caught:
            await runtime.run(graph_of(work, redelivery=Redelivery(max_attempts=1)), Ask())

    assert isinstance(caught.value.exceptions[0].__cause__, DepError)
