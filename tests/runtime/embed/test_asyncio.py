from __future__ import annotations

import asyncio
import inspect
import os
import re
import signal
import subprocess
import sys
import threading
import traceback
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest
import trio
import uvloop

from actors.errors import NodeFailed, RestartsExhausted, RunCancelled, RunFailed, UsageError
from actors.restarts import Backoff
from actors.supervision import Supervision
from runtime import Event, RunFinished, RunStarted, open_runtime
from runtime.embed.asyncio import AsyncioRuntime, open_runtime_asyncio
from tests.patience import first_line, said_by_fork
from tests.runtime.embed.cast import Answer, Double, Doubler, Order, Stage, caller

ROOT = Path(__file__).resolve().parents[3]

Run = Callable[[Coroutine[Any, Any, Any]], Any]


@pytest.fixture(params=["asyncio", "uvloop"])
def run(request: pytest.FixtureRequest) -> Run:
    """Run a coroutine on a fresh loop of either kind, and see that trio is gone from this thread afterwards."""

    def run_on_loop(main: Coroutine[Any, Any, Any]) -> Any:
        factory = uvloop.new_event_loop if request.param == "uvloop" else None
        with asyncio.Runner(loop_factory=factory) as runner:
            result = runner.run(asyncio.wait_for(main, 20))
        assert not trio.lowlevel.in_trio_run()
        return result

    return run_on_loop


async def until(condition: Callable[[], object]) -> None:
    while not condition():  # noqa: ASYNC110 - what is waited for is no asyncio event
        await asyncio.sleep(0.001)


def test_a_run_gives_its_output_and_sees_trio(run: Run) -> None:
    """httpx asks sniffio where it is."""
    stage = Stage()

    async def main() -> Answer:
        async with open_runtime_asyncio() as runtime:
            answer: Answer = await runtime.run(stage.graph, Order("double", 4))
            return answer

    assert run(main()) == Answer(8, "trio")


def test_cancelling_the_task_cancels_the_run_and_waits_until_it_has_stopped(run: Run) -> None:
    stage = Stage()

    async def main() -> None:
        async with open_runtime_asyncio() as runtime:
            task = asyncio.ensure_future(runtime.run(stage.graph, Order("wait")))
            await until(lambda: stage.log == ["wait began"])

            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

            assert stage.log == ["wait began", "wait ended"]

    run(main())


def test_a_task_that_is_cancelled_again_while_its_run_stops_still_waits(run: Run) -> None:
    stage = Stage()

    async def main() -> None:
        async with open_runtime_asyncio() as runtime:
            task = asyncio.ensure_future(runtime.run(stage.graph, Order("wait")))
            await until(lambda: stage.log == ["wait began"])

            for _ in range(3):
                task.cancel()
                await asyncio.sleep(0)
            with pytest.raises(asyncio.CancelledError):
                await task

            assert stage.log == ["wait began", "wait ended"]

    run(main())


def test_asyncio_timeout_around_a_run_stops_it(run: Run) -> None:
    stage = Stage()

    async def main() -> None:
        async with open_runtime_asyncio() as runtime:
            await runtime.deploy(stage.graph)
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.3):
                    await runtime.run(stage.graph, Order("wait"))

    run(main())
    assert stage.log == ["wait began", "wait ended"]


def test_a_timeout_stops_the_run_and_says_so(run: Run) -> None:
    stage = Stage()
    message = (
        "run() took longer than timeout=2 s; it was cancelled and has stopped.\n"
        "  Fix: give it more time, or find out with runtime.stream() what is slow."
    )

    async def main() -> None:
        async with open_runtime_asyncio() as runtime:
            await runtime.deploy(stage.graph)
            with pytest.raises(TimeoutError, match=f"^{re.escape(message)}$"):
                await runtime.run(stage.graph, Order("wait"), timeout=2)

    run(main())
    assert stage.log == ["wait began", "wait ended"]


def test_an_error_comes_out_with_its_chain(run: Run) -> None:
    stage = Stage()

    async def main() -> RunFailed:
        async with open_runtime_asyncio() as runtime:
            with pytest.raises(RunFailed) as caught:
                await runtime.run(stage.graph, Order("fail"))
            return caught.value

    failure = run(main()).exceptions[0]
    assert isinstance(failure, NodeFailed)
    assert isinstance(failure.__cause__, LookupError)
    assert "in work" in "".join(traceback.format_exception(failure))


def test_context_variables_of_the_caller_are_seen_under_trio(run: Run) -> None:
    stage = Stage()
    seen: list[str] = []

    def instrument(event: Event) -> None:
        if isinstance(event, RunStarted):
            seen.append(caller.get())

    async def request(runtime: AsyncioRuntime, name: str) -> None:
        caller.set(name)
        await runtime.run(stage.graph, Order("double"))

    async def main() -> None:
        async with open_runtime_asyncio(instruments=[instrument]) as runtime:
            await asyncio.gather(request(runtime, "ann"), request(runtime, "bob"))

    run(main())
    assert sorted(seen) == ["ann", "bob"]


def test_a_started_run_goes_on_without_its_starter(run: Run) -> None:
    stage = Stage()

    async def main() -> None:
        async with open_runtime_asyncio() as runtime:
            handle = await runtime.start(stage.graph, Order("wait"), "mine")
            assert (handle.id, handle.status) == ("mine", "running")
            with pytest.raises(TimeoutError):
                await handle.result(timeout=0.02)

            await handle.cancel()

            assert handle.status == "cancelled"
            with pytest.raises(RunCancelled):
                await handle.result()

    run(main())


def test_a_start_that_is_cancelled_as_it_succeeds_leaves_no_run(run: Run) -> None:
    stage = Stage()

    async def main() -> None:
        async with open_runtime_asyncio() as runtime:
            deployment = await runtime.deploy(stage.graph)
            for steps in range(12):
                task = asyncio.ensure_future(runtime.start(stage.graph, Order("wait")))
                for _ in range(steps):
                    await asyncio.sleep(0)
                if task.cancel():
                    with pytest.raises(asyncio.CancelledError):
                        await task
                else:
                    await task.result().cancel()

                assert deployment.active_runs == 0

    run(main())


def test_a_stream_is_iterated_to_its_end(run: Run) -> None:
    stage = Stage()

    async def main() -> list[Event]:
        async with open_runtime_asyncio() as runtime, runtime.stream(stage.graph, Order("double", 3)) as events:
            return [event async for event in events]

    events = run(main())
    assert [type(event).__name__ for event in events] == ["RunStarted", "NodeStarted", "NodeFinished", "RunFinished"]
    assert events[-1].output == Answer(6, "trio")


def test_leaving_a_stream_cancels_its_run(run: Run) -> None:
    stage = Stage()

    async def main() -> None:
        async with open_runtime_asyncio() as runtime:
            async with runtime.stream(stage.graph, Order("wait")) as events:
                await anext(events)
                await until(lambda: stage.log == ["wait began"])

            assert stage.log == ["wait began", "wait ended"]

    run(main())


def test_the_timeout_of_a_stream_is_raised_where_it_is_iterated(run: Run) -> None:
    stage = Stage()

    async def main() -> list[Event]:
        seen: list[Event] = []
        async with open_runtime_asyncio() as runtime:
            await runtime.deploy(stage.graph)
            with pytest.raises(TimeoutError, match=r"^stream\(\) took longer than timeout=0.3 s;"):  # noqa: PT012
                async with runtime.stream(stage.graph, Order("wait"), timeout=0.3) as events:
                    async for event in events:
                        seen.append(event)  # noqa: PERF401 - those before the error, too
        return seen

    assert isinstance(run(main())[-1], RunFinished)
    assert stage.log == ["wait began", "wait ended"]


def test_actors_are_asked_and_told(run: Run) -> None:
    async def main() -> None:
        async with open_runtime_asyncio() as runtime:
            doubler = await runtime.spawn(Doubler, name="doubler")

            assert await doubler.ask(Double(4)) == 8
            doubler.tell_nowait(Double(1))
            await doubler.tell(Double(1))
            with pytest.raises(TimeoutError, match=r"^ask\(\) took longer"):
                await doubler.ask(Double(-1), timeout=0.02)

            assert runtime.whereis("doubler") == doubler
            await runtime.stop(doubler)
            assert runtime.whereis("doubler") is None

    run(main())


def test_two_runtimes_share_a_loop(run: Run) -> None:
    stage = Stage()

    async def main() -> None:
        async with open_runtime_asyncio() as first, open_runtime_asyncio() as second:
            answers = await asyncio.gather(*(r.run(stage.graph, Order("double", 1)) for r in (first, second)))
            assert answers == [Answer(2, "trio")] * 2
        async with open_runtime_asyncio() as third:
            assert await third.run(stage.graph, Order("double", 1)) == Answer(2, "trio")

    run(main())


def test_a_failing_block_cancels_what_runs(run: Run) -> None:
    stage = Stage()

    async def main() -> None:
        async with open_runtime_asyncio() as runtime:
            await runtime.start(stage.graph, Order("wait"))
            await until(lambda: stage.log == ["wait began"])
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        run(main())
    assert stage.log == ["wait began", "wait ended"]


def test_a_call_in_flight_when_the_runtime_closes_ends_with_its_run(run: Run) -> None:
    stage = Stage()

    async def main() -> None:
        async with open_runtime_asyncio() as runtime:
            task = asyncio.ensure_future(runtime.run(stage.graph, Order("wait")))
            await until(lambda: stage.log == ["wait began"])
        with pytest.raises(RunCancelled, match=r"the runtime was closed"):
            await task
        with pytest.raises(UsageError, match=r"^run\(\): the runtime is closed\.\n  Fix: call while its `with` block is open\.$"):
            await runtime.run(stage.graph, Order("double"))

    run(main())


def test_a_runtime_that_gives_up_cancels_the_block_and_raises_why(run: Run) -> None:
    class Stillborn(Doubler):
        async def receive(self, message: Double) -> int:
            raise LookupError("lost")

    async def main() -> None:
        async with open_runtime_asyncio(supervision=Supervision(max_restarts=0, backoff=Backoff(first_s=0))) as runtime:
            (await runtime.spawn(Stillborn)).tell_nowait(Double(1))
            await asyncio.sleep(10)

    with pytest.raises(RestartsExhausted):
        run(main())


def test_the_loop_may_end_while_a_task_holds_the_runtime_open() -> None:
    """``asyncio.run`` cancels the tasks that are left, one of which closes the runtime then."""
    stage = Stage()
    held: list[asyncio.Task[None]] = []

    async def hold(is_open: asyncio.Event) -> None:
        async with open_runtime_asyncio() as runtime:
            await runtime.start(stage.graph, Order("wait"))
            await until(lambda: stage.log == ["wait began"])
            is_open.set()
            await asyncio.sleep(10)

    async def main() -> None:
        is_open = asyncio.Event()
        held.append(asyncio.ensure_future(hold(is_open)))
        await is_open.wait()

    asyncio.run(main())

    assert held[0].cancelled()
    assert stage.log == ["wait began", "wait ended"]
    assert not trio.lowlevel.in_trio_run()


def test_the_loop_may_end_while_nobody_holds_the_runtime_any_more() -> None:
    """Left open and forgotten, it is closed when the loop closes its asynchronous generators."""
    stage = Stage()

    async def main() -> None:
        context = open_runtime_asyncio()
        runtime = await context.__aenter__()
        await runtime.start(stage.graph, Order("wait"))
        await until(lambda: stage.log == ["wait began"])

    asyncio.run(main())

    assert stage.log == ["wait began", "wait ended"]
    assert not trio.lowlevel.in_trio_run()


def test_cancelling_the_opening_leaves_nothing(run: Run) -> None:
    async def main() -> None:
        for steps in range(12):
            context = open_runtime_asyncio()
            task = asyncio.ensure_future(context.__aenter__())
            for _ in range(steps):
                await asyncio.sleep(0)
            if not task.done():
                task.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await task
            else:
                await context.__aexit__(None, None, None)

            assert not trio.lowlevel.in_trio_run()

    run(main())


def test_no_thread_is_left_but_those_that_trio_keeps_for_a_moment() -> None:
    before = {thread for thread in threading.enumerate() if not thread.name.startswith("Trio")}

    async def main() -> None:
        async with open_runtime_asyncio() as runtime:
            await runtime.run(Stage().graph, Order("double"))

    asyncio.run(main())

    assert {thread for thread in threading.enumerate() if not thread.name.startswith("Trio")} == before


def test_without_a_loop_the_error_says_what_to_use() -> None:
    message = (
        "open_runtime_asyncio() needs a running asyncio loop in this thread, and there is none.\n"
        "  Fix: call it in a coroutine under asyncio.run(); or use open_runtime_portal() of runtime.embed.portal, "
        "which needs no loop."
    )

    with pytest.raises(UsageError, match=f"^{re.escape(message)}$"):
        open_runtime_asyncio().__aenter__().send(None)


async def test_in_a_trio_task_the_error_says_what_to_use() -> None:
    message = "open_runtime_asyncio() was called from a trio task.\n  Fix: async with open_runtime(...) works right here."

    with pytest.raises(UsageError, match=f"^{re.escape(message)}$"):
        await open_runtime_asyncio().__aenter__()


def test_beside_another_guest_the_error_says_what_to_use() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        done = loop.create_future()
        trio.lowlevel.start_guest_run(
            trio.sleep, 0.1, run_sync_soon_threadsafe=loop.call_soon_threadsafe, done_callback=done.set_result
        )
        with pytest.raises(UsageError, match=r"^another trio run is active in this thread, and a thread has room for one\.\n"):
            await open_runtime_asyncio().__aenter__()
        await done

    asyncio.run(main())


def test_a_call_from_another_thread_says_what_to_use() -> None:
    stage = Stage()

    async def main() -> None:
        async with open_runtime_asyncio() as runtime:

            def elsewhere() -> None:
                asyncio.run(runtime.run(stage.graph, Order("double")))

            with pytest.raises(
                UsageError, match=r"^run\(\) was called from another asyncio loop; this runtime belongs to the loop"
            ):
                await asyncio.to_thread(elsewhere)

    asyncio.run(main())


def test_draining_lets_runs_finish_and_takes_no_more(run: Run) -> None:
    stage = Stage()

    async def main() -> None:
        async with open_runtime_asyncio() as runtime:
            running = asyncio.ensure_future(runtime.run(stage.graph, Order("double", 2)))
            stuck = asyncio.ensure_future(runtime.run(stage.graph, Order("wait")))
            await until(lambda: len(stage.log) == 2)

            await runtime.drain(0.1)

            assert await running == Answer(4, "trio")
            with pytest.raises(RunCancelled, match=r"the runtime was drained, and it was not over after grace_s=0\.1 s"):
                await stuck
            with pytest.raises(UsageError, match=r"^the runtime is draining: it takes no more runs\.\n  Fix: start runs before"):
                await runtime.run(stage.graph, Order("double"))

    run(main())


def test_open_runtime_and_its_asyncio_twin_take_the_same() -> None:

    assert inspect.signature(open_runtime_asyncio).parameters == inspect.signature(open_runtime).parameters


def test_an_actor_that_is_interrupted_ends_the_block_with_its_interrupt(run: Run) -> None:
    class Leaver(Doubler):
        async def receive(self, message: Double) -> int:
            raise KeyboardInterrupt("here")

    async def main() -> str | None:
        try:
            async with open_runtime_asyncio() as runtime:
                (await runtime.spawn(Leaver)).tell_nowait(Double(1))
                await asyncio.sleep(10)
        except KeyboardInterrupt as interrupt:
            return str(interrupt)
        return None

    assert run(main()) == "here"


INTERRUPTED = """
import asyncio
from runtime.embed.asyncio import open_runtime_asyncio
from tests.runtime.embed.cast import Order, Stage
stage = Stage()
async def main():
    async with open_runtime_asyncio() as runtime:
        print("ready", flush=True)
        await runtime.run(stage.graph, Order("wait"))
try:
    asyncio.run(main())
except KeyboardInterrupt:
    print(stage.log)
"""


def test_ctrl_c_cancels_the_run_before_the_program_ends() -> None:
    program = subprocess.Popen(
        [sys.executable, "-c", INTERRUPTED], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert first_line(program) == "ready\n"

    threading.Event().wait(0.3)
    program.send_signal(signal.SIGINT)

    assert program.communicate(timeout=240) == ("['wait began', 'wait ended']\n", "")


ABANDONED = """
import asyncio
from runtime.embed.asyncio import open_runtime_asyncio
from tests.runtime.embed.cast import Order, Stage
first, second = asyncio.new_event_loop(), asyncio.new_event_loop()
forgotten = open_runtime_asyncio()
runtime = first.run_until_complete(forgotten.__aenter__())
print(first.run_until_complete(runtime.run(Stage().graph, Order("double", 2))))
first.close()
try:
    second.run_until_complete(open_runtime_asyncio().__aenter__())
except RuntimeError as error:
    print(error)
"""


def test_a_loop_that_is_closed_under_a_runtime_is_warned_of_and_the_next_one_says_what_is_wrong() -> None:
    run = subprocess.run([sys.executable, "-c", ABANDONED], cwd=ROOT, capture_output=True, text=True, timeout=240, check=False)

    assert run.stderr.partition("RuntimeWarning: ")[2].startswith(
        "an asyncio loop has ended while a runtime was open on it: its runs and actors stopped where they were, without their "
        "clean-up.\n  Fix: leave the `async with` block before the loop is closed; asyncio.run() sees to that.\n"
    )
    assert run.stderr.count("Warning") == 1
    assert run.stdout == (
        "Answer(number=4, library='trio')\n"
        "an asyncio loop of this thread was closed while a runtime was open on it, so trio never ended here.\n"
        "  Fix: leave the `async with` block before the loop is closed; asyncio.run() sees to that.\n"
    )


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_forked_child_is_refused() -> None:
    reader, writer = os.pipe()

    async def main() -> None:
        async with open_runtime_asyncio() as runtime:
            if (child := os.fork()) == 0:
                try:
                    runtime.run(Stage().graph, Order("double")).send(None)
                except UsageError as error:
                    os.write(writer, str(error).encode())
                finally:
                    os._exit(0)
            os.close(writer)
            assert said_by_fork(reader, child) == (
                f"run(): this process was forked from process {os.getpid()} while the runtime was open there.\n"
                "  Fix: open the runtime after the fork; with multiprocessing, take the start method 'spawn'."
            )

    asyncio.run(main())
