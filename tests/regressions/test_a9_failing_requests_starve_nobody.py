"""A message that fails waits out its own backoff; the node's place is free for the others at that very moment."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Callable
from typing import Annotated, Any

import attrs
import dspy  # noqa: F401 - loading it takes a thread, for which virtual time does not wait
import pytest
import trio
import trio.lowlevel

from actors import (
    Actor,
    ActorFailed,
    Backoff,
    Dep,
    Directive,
    Graph,
    Redelivery,
    RestartType,
    RunFailed,
    Strategy,
    Supervision,
)
from runtime import ActorCrashed, ActorRestarting, open_runtime
from runtime.testing import ScriptedLM
from tests.runtime.graphs.stage import Ask, Done, Other, Part, graph_of

WORK_S = 0.01
BAD = 1
"""The input of a request that fails."""
SLOW = Backoff(first_s=60.0, cap_s=60.0, jitter=0)
"""So long that whoever waits for it is found out."""


async def raises(ask: Ask) -> Done:
    await trio.sleep(WORK_S)
    if ask.n == BAD:
        raise ConnectionError("down")
    return Done()


async def is_too_slow(ask: Ask) -> Done:
    await trio.sleep(WORK_S if ask.n != BAD else math.inf)
    return Done()


async def depends(ask: Ask) -> int:
    await trio.sleep(WORK_S)
    if ask.n == BAD:
        raise ConnectionError("down")
    return 1


async def needs(ask: Ask, number: Annotated[int, Dep(depends)]) -> Done:
    return Done()


async def returns_nonsense(ask: Ask) -> Done:
    await trio.sleep(WORK_S)
    return Done() if ask.n != BAD else "nonsense"  # type: ignore[return-value]  # the case


async def stands_in(ask: Ask, error: Exception) -> Done:
    return Done("instead")


async def generates(ask: Ask) -> AsyncIterator[Part]:
    await trio.sleep(WORK_S)
    yield Part()
    if ask.n == BAD:
        raise ConnectionError("down")


async def collects(parts: list[Part]) -> Done:
    return Done()


@attrs.frozen
class Step:
    n: int

    async def __call__(self) -> Done:
        await trio.sleep(WORK_S)
        if self.n == BAD:
            raise ConnectionError("down")
        return Done()


def class_node() -> Graph:
    async def begin(ask: Ask) -> Step:
        return Step(ask.n)

    graph = graph_of(begin, supervision=None)
    graph.node(Step)
    return graph


def plain(function: Callable[..., Any], **options: Any) -> Callable[[], Graph]:
    return lambda: graph_of(function, supervision=None, **options)


def generator() -> Graph:
    return graph_of(generates, collects, supervision=None)


def nested() -> Graph:
    outer = Graph("outer", input=Ask, output=Done)
    outer.add(graph_of(raises, supervision=None))
    return outer


def with_its_own_supervision() -> Graph:
    return graph_of(raises, supervision=Supervision(max_restarts=3, backoff=SLOW), concurrency=1)


def one_for_all() -> Graph:
    return graph_of(raises, supervision=Supervision(strategy=Strategy.ONE_FOR_ALL, backoff=SLOW), concurrency=1)


CAUSES = {
    "raises": plain(raises, concurrency=1),
    "raises-and-is-tried-again": plain(raises, concurrency=1, redelivery=Redelivery(max_attempts=3, backoff=SLOW)),
    "too-slow": plain(is_too_slow, concurrency=1, timeout_s=WORK_S * 2),
    "dependency": plain(needs, concurrency=1),
    "unreadable": plain(returns_nonsense, concurrency=1),
    "fallback": plain(raises, concurrency=1, fallback=stands_in),
    "class": class_node,
    "generator": generator,
    "nested-graph": nested,
    "temporary": plain(raises, concurrency=1, restart=RestartType.TEMPORARY),
    "transient": plain(raises, concurrency=1, restart=RestartType.TRANSIENT),
    "own-supervision": with_its_own_supervision,
    "one-for-all": one_for_all,
}


@pytest.mark.parametrize("cause", CAUSES)
async def test_a9_good_requests_do_not_wait_for_failing_ones(cause, virtual_clock):
    """Two hundred of each, one after the other so that none waits for work of another; exact to the microsecond."""
    graph, took = CAUSES[cause](), []
    async with open_runtime(seed=1) as runtime, trio.open_nursery() as nursery:

        async def bad() -> None:
            with pytest.raises(RunFailed) if cause != "fallback" else trio.CancelScope():
                await runtime.run(graph, Ask(BAD))

        await runtime.deploy(graph)
        for _ in range(100):
            nursery.start_soon(bad)
            await trio.sleep(3 * WORK_S)
            began = trio.current_time()
            assert await runtime.run(graph, Ask(0)) == Done()
            took.append(round(trio.current_time() - began, 6))
            await trio.sleep(WORK_S / 2)
        nursery.cancel_scope.deadline = trio.current_time() + 1000

    assert set(took) == {WORK_S}


async def test_a9_a_failing_predict_node_holds_no_place(virtual_clock):
    """An answer that cannot be read, twice for every bad request; the good ones find their instance free."""
    graph = Graph("g", input=Ask, output=Done)

    @graph.predict(concurrency=1, parse_attempts=1, redelivery=Redelivery(max_attempts=1))
    async def fill(ask: Ask) -> Done:  # type: ignore[empty-body]  # a language model fills it
        """Answer."""
        ...

    answers = [answer for _ in range(20) for answer in ("no field at all", {"n": "1"})]
    took = []
    async with open_runtime(lm=ScriptedLM(answers), seed=1) as runtime:
        for _ in range(20):
            with pytest.raises(RunFailed):
                await runtime.run(graph, Ask(BAD))
            began = trio.current_time()
            await runtime.run(graph, Ask(0))
            took.append(trio.current_time() - began)

    assert took == [0.0] * 20


def fails_in_a_thread(ask: Ask) -> Done:
    if ask.n == BAD:
        raise ConnectionError("down")
    return Done()


@pytest.mark.not_explored("threads take real time")
async def test_a9_a_failing_plain_def_holds_no_place():
    graph = graph_of(fails_in_a_thread, supervision=Supervision(backoff=SLOW), concurrency=1)
    async with open_runtime(seed=1) as runtime:
        with trio.fail_after(20):
            for _ in range(20):
                with pytest.raises(RunFailed):
                    await runtime.run(graph, Ask(BAD))
                assert await runtime.run(graph, Ask(0)) == Done()


@pytest.mark.not_explored("a thousand runs")
async def test_a9_a_flood_of_failing_messages_exhausts_no_supervisor(virtual_clock):
    graph = graph_of(raises, supervision=Supervision(max_restarts=0))
    async with open_runtime(seed=1, supervision=Supervision(max_restarts=0)) as runtime:
        deployment = await runtime.deploy(graph)
        async with trio.open_nursery() as nursery:

            async def bad() -> None:
                with pytest.raises(RunFailed) as caught:
                    await runtime.run(graph, Ask(BAD))
                (leaf,) = caught.value.exceptions
                assert isinstance(leaf.__cause__, ConnectionError)

            for _ in range(1000):
                nursery.start_soon(bad)

        assert deployment.is_running
        assert await runtime.run(graph, Ask(0)) == Done()
        assert trio.current_time() == pytest.approx((math.ceil(1000 / 64) + 1) * WORK_S)


async def test_a9_a_failing_message_waits_out_its_own_backoff(virtual_clock):
    tried: list[float] = []

    async def work(ask: Ask) -> Done:
        tried.append(trio.current_time())
        raise ConnectionError("down")

    again = Redelivery(max_attempts=4, backoff=Backoff(first_s=1.0, jitter=0))
    async with open_runtime(seed=1) as runtime:
        with pytest.raises(RunFailed):
            await runtime.run(graph_of(work, supervision=None, concurrency=1, redelivery=again), Ask())

    assert tried == [0.0, 1.0, 3.0, 7.0]


async def test_a9_a_message_waits_on_when_the_instance_that_failed_on_it_ends_for_good(virtual_clock):
    """Each failure ends its instance; what waits for another attempt must not come early because of that."""
    tried: list[tuple[int, float]] = []

    async def work(ask: Ask) -> Done:
        tried.append((ask.n, trio.current_time()))
        raise ConnectionError("down")

    again = Redelivery(max_attempts=2, backoff=Backoff(first_s=5.0, jitter=0))
    graph = graph_of(work, supervision=None, concurrency=1, redelivery=again, restart=RestartType.TEMPORARY)
    async with open_runtime(seed=1) as runtime:
        first = await runtime.start(graph, Ask(1))
        await trio.sleep(1)
        second = await runtime.start(graph, Ask(2))
        for handle in (first, second):
            with pytest.raises(RunFailed):
                await handle.result()

    assert tried == [(1, 0.0), (2, 1.0), (1, 5.0), (2, 6.0)]


async def test_a9_the_crash_of_an_instance_is_still_told(virtual_clock):
    happened: list[Any] = []
    async with open_runtime(seed=1, instruments=[happened.append]) as runtime:
        with pytest.raises(RunFailed):
            await runtime.run(graph_of(raises, supervision=Supervision(backoff=SLOW)), Ask(BAD))
        await trio.lowlevel.checkpoint()

        assert runtime.statistics().actors["g/raises"].restarts == 1
    assert [type(event.error) for event in happened if isinstance(event, ActorCrashed)] == [ConnectionError]
    assert [event.delay_s for event in happened if isinstance(event, ActorRestarting)] == [0.0]


class Clerk(Actor):
    async def receive(self, message: Ask) -> Done:
        if message.n == BAD:
            raise ConnectionError("down")
        return Done()


def graph_with_an_actor(supervision: Supervision | None) -> Graph:
    graph = Graph("g", input=Ask, output=Done, supervision=supervision)
    graph.add(Clerk)
    return graph


async def test_a9_an_actor_that_is_a_node_keeps_the_delays_of_its_supervision(virtual_clock):
    graph = graph_with_an_actor(Supervision(backoff=Backoff(first_s=2.0, jitter=0)))
    async with open_runtime(seed=1) as runtime:
        took = []
        for _ in range(3):
            with pytest.raises(RunFailed):
                await runtime.run(graph, Ask(BAD))
            began = trio.current_time()
            await runtime.run(graph, Ask(0))
            took.append(trio.current_time() - began)

    assert took == [2.0, 4.0, 8.0]


async def test_a9_an_actor_that_is_a_node_keeps_its_budget(virtual_clock):
    graph = graph_with_an_actor(Supervision(max_restarts=0))
    async with open_runtime(seed=1) as runtime:
        deployment = await runtime.deploy(graph)
        with pytest.raises(RunFailed) as caught:
            await runtime.run(graph, Ask(BAD))
        await trio.sleep(0.1)

        (leaf,) = caught.value.exceptions
        assert isinstance(leaf.__cause__, ActorFailed)
        assert not deployment.is_running


async def test_a9_what_the_author_wrote_about_an_error_still_holds(virtual_clock):
    """``on_error`` is no delay and no budget: to escalate ends the graph, as it says."""
    graph = graph_of(raises, supervision=Supervision(on_error={ConnectionError: Directive.ESCALATE}))
    async with open_runtime(seed=1) as runtime:
        deployment = await runtime.deploy(graph)
        with pytest.raises(RunFailed):
            await runtime.run(graph, Ask(BAD))
        await trio.sleep(0.1)

        assert not deployment.is_running


async def test_a9_a_join_behind_failing_messages_is_served(virtual_clock):
    """The mailbox of a node never stands still: forty fail, each at once followed by a good one."""

    async def left(ask: Ask) -> Part:
        return Part(ask.n)

    async def right(ask: Ask) -> Other:
        return Other(ask.n)

    async def join(part: Part, other: Other) -> Done:
        if part.n == BAD:
            raise ConnectionError("down")
        return Done(part.n)

    graph = graph_of(left, right, join, supervision=None, concurrency=1)
    async with open_runtime(seed=1) as runtime:
        handles = [await runtime.start(graph, Ask(n % 2)) for n in range(80)]
        for n, handle in enumerate(handles):
            if n % 2 == BAD:
                with pytest.raises(RunFailed):
                    await handle.result()
            else:
                assert await handle.result() == Done(0)

        assert trio.current_time() == 0.0
