"""Every way in which a run can be ended from outside, and that nothing of it is left."""

import contextlib
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import trio

from actors import Actor, Graph, MailboxSpec, RunCancelled, RunFailed
from actors.errors import UsageError
from runtime import NodeCancelled, NodeStarted, RunStatus, open_runtime
from tests.runtime.graphs.stage import Ask, Done, Part, graph_of, living


@pytest.fixture
def stopped() -> list[Any]:
    """Who has cleaned up, and when."""
    return []


@pytest.fixture
def slow(stopped: list[Any]) -> Graph:
    """Two nodes that work for ever; their clean-up takes a second."""

    async def work(ask: Ask) -> Done:
        return await forever("work")

    async def too(ask: Ask) -> Done:
        return await forever("too")

    async def forever(name: str) -> Done:
        try:
            await trio.sleep_forever()
        finally:
            with trio.CancelScope(shield=True):
                await trio.sleep(1)
            stopped.append((name, trio.current_time()))
        raise AssertionError("nothing wakes it")

    return graph_of(work, too)


async def test_cancelling_a_handle_returns_when_every_node_has_stopped(slow, stopped, virtual_clock):
    async with open_runtime() as runtime:
        handle = await runtime.start(slow, Ask())
        await trio.sleep(4)
        await handle.cancel()

        assert sorted(stopped) == [("too", 5.0), ("work", 5.0)]
        assert (handle.status, [step.status for step in handle.trace]) == (RunStatus.CANCELLED, ["cancelled", "cancelled"])
        with pytest.raises(RunCancelled, match=r"^run 'g-1' of 'g' was cancelled: its handle was cancelled\.$"):
            await handle.result()
        with pytest.raises(RunCancelled):
            await handle.result()


async def test_cancelling_run_itself_returns_when_every_node_has_stopped(slow, stopped, virtual_clock):
    async with open_runtime() as runtime:
        await runtime.deploy(slow)
        alive = living()
        with trio.move_on_after(4):
            await runtime.run(slow, Ask())

        assert sorted(stopped) == [("too", 5.0), ("work", 5.0)]
        assert living() == alive


async def test_the_wait_for_a_result_can_be_cancelled_without_the_run(virtual_clock):
    async def work(ask: Ask) -> Done:
        await trio.sleep(5)
        return Done(1)

    async with open_runtime() as runtime:
        handle = await runtime.start(graph_of(work), Ask())
        with trio.move_on_after(1):
            await handle.result()

        assert handle.status == "running"
        assert await handle.result() == Done(1)


async def test_leaving_a_stream_early_cancels_its_run(slow, stopped, virtual_clock):
    async with open_runtime() as runtime:
        async with runtime.stream(slow, Ask()) as events:
            begun = 0
            async for event in events:
                begun += isinstance(event, NodeStarted)
                if begun == 2:
                    break

        assert len(stopped) == 2


async def leave_with_an_error(runtime: Any, graph: Graph) -> None:
    async with runtime.stream(graph, Ask()):
        await trio.sleep(1)
        raise KeyError("mine")


async def test_an_error_in_the_body_of_a_stream_comes_out_as_it_is_and_cancels_the_run(slow, stopped, virtual_clock):
    async with open_runtime() as runtime:
        with pytest.raises(KeyError):
            await leave_with_an_error(runtime, slow)

        assert len(stopped) == 2


@pytest.mark.filterwarnings("ignore:run .* was never awaited:ResourceWarning")  # it is left on purpose
async def test_stopping_a_deployment_cancels_its_runs_and_the_next_run_deploys_it_anew(slow, stopped, virtual_clock):
    async with open_runtime() as runtime:
        alive = living()
        deployment = await runtime.deploy(slow)
        handle = await runtime.start(slow, Ask())
        await trio.sleep(1)
        await deployment.stop()

        assert len(stopped) == 2
        assert (living(), runtime.whereis("g"), deployment.is_running) == (alive, None, False)
        with pytest.raises(RunCancelled, match=r"was cancelled: its graph was stopped\.$"):
            await handle.result()
        await deployment.stop()
        again = await runtime.start(slow, Ask())
        assert (again.status, deployment.active_runs) == ("running", 0)


async def test_a_node_cannot_stop_the_graph_it_belongs_to(virtual_clock):
    async def work(ask: Ask) -> Done:
        with pytest.raises(UsageError, match=r"^'g/work' would wait for its own end\.\n  Fix: stop\(\) the graph from outside"):
            await deployment.stop()
        return Done()

    graph = graph_of(work)
    async with open_runtime() as runtime:
        deployment = await runtime.deploy(graph)

        assert await runtime.run(graph, Ask()) == Done()


async def test_a_node_may_cancel_the_run_it_works_for(virtual_clock):
    handles: list[Any] = []

    async def work(ask: Ask) -> Done:
        await trio.sleep(1)
        await handles[0].cancel()
        return Done()

    async with open_runtime() as runtime:
        handles.append(await runtime.start(graph_of(work), Ask()))
        with pytest.raises(RunCancelled):
            await handles[0].result()


@pytest.mark.parametrize("end", ["normally", "error", "cancelled"])
@pytest.mark.filterwarnings("ignore:run .* was never awaited:ResourceWarning")  # it is left on purpose
async def test_closing_the_runtime_cancels_what_runs_and_leaves_nothing(end, slow, stopped, virtual_clock):
    alive, handles = living(), []
    with trio.CancelScope() as scope, contextlib.suppress(KeyError):
        async with open_runtime() as runtime:
            handles.append(await runtime.start(slow, Ask()))
            await trio.sleep(1)
            if end == "error":
                raise KeyError("body")
            if end == "cancelled":
                scope.cancel()
                await trio.lowlevel.checkpoint()

    assert sorted(stopped) == [("too", 2.0), ("work", 2.0)]
    assert living() == alive
    with pytest.raises(RunCancelled, match=r"was cancelled: the runtime was closed\.$"):
        await handles[0].result()


async def test_stopping_the_supervisor_of_a_graph_ends_its_runs(slow, stopped, virtual_clock):
    async with open_runtime() as runtime:
        handle = await runtime.start(slow, Ask())
        await trio.sleep(1)
        supervisor = runtime.whereis("g")
        assert supervisor is not None
        await runtime.stop(supervisor)

        assert sorted(stopped) == [("too", 7.0), ("work", 8.0)]  # the first has its grace; then the run has failed
        assert handle.status == "failed"


async def test_a_node_that_swallows_its_cancellation_does_not_make_the_run_succeed(virtual_clock):
    async def work(ask: Ask) -> Done:
        with trio.CancelScope(shield=True):
            await trio.sleep(3)
        return Done()

    async with open_runtime() as runtime:
        handle = await runtime.start(graph_of(work), Ask())
        await trio.sleep(1)
        await handle.cancel()

        assert (trio.current_time(), handle.status) == (3.0, "cancelled")


async def test_an_output_cancels_the_rest_and_the_run_ends_when_they_have_stopped(virtual_clock):
    async def fast(ask: Ask) -> Done:
        await trio.sleep(1)
        return Done("fast")

    async def slow(ask: Ask) -> Done:
        try:
            await trio.sleep(9)
        finally:
            with trio.CancelScope(shield=True):
                await trio.sleep(1)
        return Done("slow")

    happened: list[Any] = []
    async with open_runtime(instruments=[happened.append]) as runtime:
        assert await runtime.run(graph_of(fast, slow), Ask()) == Done("fast")
        assert trio.current_time() == 2.0
        assert runtime.statistics().actors["g/slow"].incarnation == 1

    assert [(event.node, event.at_s) for event in happened if isinstance(event, NodeCancelled)] == [("slow", 2.0)]


async def test_the_error_of_a_cancelled_sibling_does_not_spoil_an_output(virtual_clock):
    async def fast(ask: Ask) -> Done:
        await trio.sleep(1)
        return Done("fast")

    async def slow(ask: Ask) -> Done:
        try:
            await trio.sleep(9)
        finally:
            raise KeyError("late")

    async with open_runtime() as runtime:
        assert await runtime.run(graph_of(fast, slow), Ask()) == Done("fast")


class Sweep(trio.abc.Instrument):
    """Cancels a scope just before its task goes on for the k-th time."""

    def __init__(self, scope: trio.CancelScope, k: int) -> None:
        self.scope, self.left = scope, k
        self.task = trio.lowlevel.current_task()

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        if task is self.task:
            self.left -= 1
            if self.left == 0:
                self.scope.cancel()


async def cancelled_at(k: int, call: Callable[[], Awaitable[Any]]) -> bool:
    """Make the call and cancel it at its k-th step; whether it got that far."""
    with trio.CancelScope() as scope:
        sweep = Sweep(scope, k)
        trio.lowlevel.add_instrument(sweep)
        try:
            await call()
        finally:
            trio.lowlevel.remove_instrument(sweep)
    return sweep.left <= 0


async def chain(ask: Ask) -> Part:
    await trio.sleep(1)
    return Part(ask.n)


async def end(part: Part) -> Done:
    await trio.sleep(1)
    return Done(part.n)


async def streamed(runtime: Any, graph: Graph) -> None:
    async with runtime.stream(graph, Ask(1)) as events:
        async for _ in events:
            pass


async def started(runtime: Any, graph: Graph) -> None:
    handle = await runtime.start(graph, Ask(1))
    try:
        await handle.result()
    finally:
        with trio.CancelScope(shield=True):
            await handle.cancel()


async def started_and_cancelled(runtime: Any, graph: Graph) -> None:
    handle = await runtime.start(graph, Ask(1))
    try:
        await handle.cancel()
    finally:
        with trio.CancelScope(shield=True):
            await trio.testing.wait_all_tasks_blocked()
            assert handle.status == "cancelled"


async def deployed(runtime: Any, graph: Graph) -> None:
    deployment = await runtime.deploy(graph)
    await deployment.stop()


async def ran(runtime: Any, graph: Graph) -> None:
    await runtime.run(graph, Ask(1))


Call = Callable[[Any, Graph], Awaitable[Any]]
CALLS: dict[str, Call] = {
    "run": ran,
    "stream": streamed,
    "start": started,
    "cancel": started_and_cancelled,
    "deploy": deployed,
}


@pytest.mark.parametrize(("call", "limited"), [(call, limited) for call in CALLS for limited in {False, call != "deploy"}])
async def test_a_call_cancelled_at_any_step_leaves_nothing_and_the_next_run_works(call, limited, virtual_clock):
    k, reached = 0, True
    while reached:
        k += 1
        alive = living()
        reached = await cancel_and_run_again(CALLS[call], k, limited=limited)
        assert living() == alive

    assert k > 2


async def cancel_and_run_again(call: Call, k: int, *, limited: bool) -> bool:
    graph = graph_of(chain, end)
    async with open_runtime() as runtime:
        deployment = await runtime.deploy(graph, max_runs=1) if limited else None
        reached = await cancelled_at(k, lambda: call(runtime, graph))
        await trio.testing.wait_all_tasks_blocked()
        if deployment is not None:
            assert (deployment.active_runs, deployment.is_running) == (0, True)
        with trio.fail_after(10):
            assert await runtime.run(graph, Ask(2)) == Done(2)
    return reached


async def test_a_call_cancelled_while_it_waits_for_its_turn_gives_the_turn_to_the_next(virtual_clock):
    graph = graph_of(chain, end)
    async with open_runtime() as runtime, trio.open_nursery() as nursery:
        deployment = await runtime.deploy(graph, max_runs=1)
        nursery.start_soon(runtime.run, graph, Ask(1))
        await trio.sleep(0.5)
        with trio.move_on_after(1):
            await runtime.run(graph, Ask(2))
        third = await runtime.run(graph, Ask(3))

        assert (third, trio.current_time(), deployment.active_runs) == (Done(3), 4.0, 0)


async def test_stopping_a_graph_also_cancels_the_runs_that_wait_for_their_turn(slow, stopped, virtual_clock):
    async def refused(runtime: Any) -> None:
        with pytest.raises(RunCancelled, match=r"was cancelled: its graph was stopped\.$"):
            await runtime.run(slow, Ask())

    async with open_runtime() as runtime, trio.open_nursery() as nursery:
        deployment = await runtime.deploy(slow, max_runs=1)
        for _ in range(3):
            nursery.start_soon(refused, runtime)
        await trio.sleep(1)
        await deployment.stop()

    assert len(stopped) == 2


class Caller(Actor):
    """Runs a graph for whoever asks."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph

    async def receive(self, message: Any) -> Any:
        return await self.context.runtime.run(self.graph, message)


async def test_cancelling_the_ask_of_an_actor_that_runs_a_graph_cancels_the_run(slow, stopped, virtual_clock):
    async with open_runtime() as runtime:
        caller = await runtime.spawn(Caller, slow)
        with trio.move_on_after(1):
            await caller.ask(Ask())
        await trio.sleep(2)

        assert len(stopped) == 2


async def test_cancelling_a_run_cancels_the_run_that_one_of_its_nodes_waits_for(slow, stopped, virtual_clock):
    async def outer(ask: Ask) -> Done:
        done: Done = await runtime.run(slow, ask)
        return done

    async with open_runtime() as runtime:
        handle = await runtime.start(graph_of(outer), Ask())
        await trio.sleep(1)
        await handle.cancel()

        assert sorted(stopped) == [("too", 2.0), ("work", 2.0)]


async def test_an_actor_may_run_a_graph_and_a_failure_of_it_is_its_own(virtual_clock):
    async def work(ask: Ask) -> Done:
        if ask.n:
            raise ValueError("bug")
        return Done("fine")

    async with open_runtime() as runtime:
        caller = await runtime.spawn(Caller, graph_of(work))

        assert await caller.ask(Ask(0)) == Done("fine")
        with pytest.raises(Exception, match="'caller-1' failed") as caught:
            await caller.ask(Ask(1))
        assert isinstance(caught.value.__cause__, RunFailed)


async def test_a_graph_may_be_stopped_by_two_at_once(slow, stopped, virtual_clock):
    async with open_runtime() as runtime:
        deployment = await runtime.deploy(slow)
        await runtime.start(slow, Ask())
        await trio.sleep(1)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(deployment.stop)
            nursery.start_soon(deployment.stop)

        assert (len(stopped), runtime.tree().children) == (2, ())


async def test_a_stop_that_is_cancelled_still_stops_the_graph(slow, stopped, virtual_clock):
    async with open_runtime() as runtime:
        deployment = await runtime.deploy(slow)
        await runtime.start(slow, Ask())
        await trio.sleep(1)
        with trio.move_on_after(0.5):
            await deployment.stop()
        await trio.sleep(1)

        assert (len(stopped), runtime.tree().children) == (2, ())


async def test_a_timeout_around_run_leaves_time_for_the_clean_up_of_its_nodes(slow, stopped, virtual_clock):
    async with open_runtime() as runtime:
        with pytest.raises(trio.TooSlowError), trio.fail_after(2):
            await runtime.run(slow, Ask())

        assert sorted(stopped) == [("too", 3.0), ("work", 3.0)]


async def test_a_start_cancelled_while_it_waits_for_room_leaves_the_mailbox_as_it_was(virtual_clock):
    async def work(ask: Ask) -> Done:
        await trio.sleep(1)
        return Done(ask.n)

    graph = graph_of(work, concurrency=1, mailbox=MailboxSpec(capacity=1))
    async with open_runtime() as runtime:
        first, second = await runtime.start(graph, Ask(1)), await runtime.start(graph, Ask(2))
        with trio.move_on_after(0.5):
            await runtime.start(graph, Ask(3))
        mailbox = runtime.statistics().actors["g/work"].mailbox

        assert (mailbox.depth, mailbox.blocked_senders) == (1, 0)
        assert (await first.result(), await second.result()) == (Done(1), Done(2))
        assert await runtime.run(graph, Ask(4)) == Done(4)
        assert trio.current_time() == 3.0
