"""``Runtime.drain``: what every kind of host calls when it shuts down."""

from __future__ import annotations

import pytest
import trio
import trio.testing

from actors import Graph
from actors.errors import RunCancelled, UsageError
from runtime import Runtime, open_runtime
from tests.runtime.embed.cast import Answer, Order, Stage

Clock = trio.testing.MockClock


async def run_into(outputs: list[object], runtime: Runtime, graph: Graph, order: Order) -> None:
    try:
        outputs.append(await runtime.run(graph, order))
    except RunCancelled as error:
        outputs.append(str(error))


async def test_runs_under_way_finish_the_first_of_their_graph_too(virtual_clock: Clock) -> None:
    stage, outputs = Stage(), list[object]()

    async with open_runtime() as runtime, trio.open_nursery() as nursery:
        nursery.start_soon(run_into, outputs, runtime, stage.graph, Order("double", 2))
        for _ in range(3):
            await trio.lowlevel.checkpoint()
        await runtime.drain(10)

    assert outputs == [Answer(4, "trio")]
    assert trio.current_time() < 1


async def test_what_outlasts_the_grace_is_cancelled_those_that_wait_for_their_turn_too(virtual_clock: Clock) -> None:
    stage, outputs = Stage(), list[object]()

    async with open_runtime() as runtime, trio.open_nursery() as nursery:
        await runtime.deploy(stage.graph, max_runs=1)
        for _ in range(3):
            nursery.start_soon(run_into, outputs, runtime, stage.graph, Order("wait"))
        await trio.testing.wait_all_tasks_blocked()
        begin = trio.current_time()

        await runtime.drain(10)

        assert trio.current_time() - begin == pytest.approx(10, abs=0.5)
        await trio.testing.wait_all_tasks_blocked()
        assert (
            sorted(str(output)[13:] for output in outputs)
            == [" of 'stage' was cancelled: the runtime was drained, and it was not over after grace_s=10 s."] * 3
        )


async def test_a_second_call_with_a_shorter_grace_hurries_the_first(virtual_clock: Clock) -> None:
    stage = Stage()

    async with open_runtime() as runtime, trio.open_nursery() as nursery:
        await runtime.start(stage.graph, Order("wait"))
        begin = trio.current_time()
        nursery.start_soon(runtime.drain, 1000)
        await trio.sleep(1)
        nursery.start_soon(runtime.drain, 2)

    assert trio.current_time() - begin == pytest.approx(3, abs=0.1)


async def test_no_run_is_taken_any_more_but_those_of_running_nodes(virtual_clock: Clock) -> None:
    inner, outer = Stage(), Graph("outer", input=Order, output=Answer)
    may_go_on = trio.Event()

    async with open_runtime() as runtime, trio.open_nursery() as nursery:

        @outer.node
        async def relay(order: Order) -> Answer:
            await may_go_on.wait()
            answer: Answer = await runtime.run(inner.graph, order)
            return answer

        handle = await runtime.start(outer, Order("double", 3))
        nursery.start_soon(runtime.drain, 10)
        await trio.testing.wait_all_tasks_blocked()
        with pytest.raises(
            UsageError,
            match=r"^the runtime is draining: it takes no more runs\.\n  Fix: start runs before drain\(\) is called\.$",
        ):
            await runtime.run(inner.graph, Order("double"))
        may_go_on.set()

        assert await handle.result() == Answer(6, "trio")
