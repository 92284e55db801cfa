from __future__ import annotations

import asyncio
import inspect
import multiprocessing
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import trio

from actors.errors import ActorFailed, NodeFailed, RestartsExhausted, RunCancelled, RunFailed, UsageError
from actors.restarts import Backoff
from actors.supervision import Supervision
from runtime import Event, RunStarted, open_runtime
from runtime.embed.portal import PortalRuntime, open_runtime_portal, runtime_per_process
from tests.patience import PATIENCE_S, first_line, said_by_fork
from tests.runtime.embed.cast import Answer, Double, Doubler, Order, Stage, caller

ROOT = Path(__file__).resolve().parents[3]


def until(condition: Callable[[], object]) -> None:
    pause = threading.Event()
    deadline_s = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline_s, "it did not happen"
        pause.wait(0.001)


def portal_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "understudy portal"]


def test_many_threads_run_graphs_in_one_runtime() -> None:
    stage = Stage()

    with open_runtime_portal() as runtime, ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda number: runtime.run(stage.graph, Order("double", number)), range(40)))

    assert answers == [Answer(2 * number, "trio") for number in range(40)]
    assert portal_threads() == []


def test_a_timeout_stops_the_run() -> None:
    stage = Stage()

    with open_runtime_portal() as runtime:
        runtime.deploy(stage.graph)
        with pytest.raises(TimeoutError, match=r"^run\(\) took longer than timeout=0\.3 s; it was cancelled and has stopped\.\n"):
            runtime.run(stage.graph, Order("wait"), timeout=0.3)

        assert stage.log == ["wait began", "wait ended"]


def test_an_error_comes_out_with_its_chain() -> None:
    with open_runtime_portal() as runtime, pytest.raises(RunFailed) as caught:
        runtime.run(Stage().graph, Order("fail"))

    failure = caught.value.exceptions[0]
    assert isinstance(failure, NodeFailed)
    assert isinstance(failure.__cause__, LookupError)


def test_context_variables_of_the_caller_are_seen_under_trio() -> None:
    seen: list[str] = []

    def instrument(event: Event) -> None:
        if isinstance(event, RunStarted):
            seen.append(caller.get())

    with open_runtime_portal(instruments=[instrument]) as runtime:
        caller.set("ann")
        runtime.run(Stage().graph, Order("double"))

    assert seen == ["ann"]


def test_a_stream_is_iterated_to_its_end() -> None:
    with open_runtime_portal() as runtime, runtime.stream(Stage().graph, Order("double")) as events:
        names = [type(event).__name__ for event in events]

    assert names == ["RunStarted", "NodeStarted", "NodeFinished", "RunFinished"]


def test_leaving_a_stream_cancels_its_run() -> None:
    stage = Stage()

    with open_runtime_portal() as runtime:
        with runtime.stream(stage.graph, Order("wait")) as events:
            next(events)
            until(lambda: stage.log == ["wait began"])

        assert stage.log == ["wait began", "wait ended"]


def test_a_stream_outside_of_its_block_says_how_to_iterate_it() -> None:
    message = "stream() is iterated outside of its block.\n  Fix: with runtime.stream(...) as events: for event in events."

    with open_runtime_portal() as runtime, pytest.raises(UsageError, match=f"^{re.escape(message)}$"):
        next(runtime.stream(Stage().graph, Order("double")))


def test_handles_and_refs_work_in_threads() -> None:
    stage = Stage()

    with open_runtime_portal() as runtime:
        handle = runtime.start(stage.graph, Order("wait"), "mine")
        doubler = runtime.spawn(Doubler, name="doubler")

        assert (handle.id, handle.status) == ("mine", "running")
        assert doubler.ask(Double(4)) == 8
        assert runtime.whereis("doubler") == doubler
        runtime.stop(doubler)
        assert runtime.whereis("doubler") is None
        handle.cancel()
        with pytest.raises(RunCancelled):
            handle.result()


def test_a_running_loop_in_the_calling_thread_does_not_matter() -> None:
    """Cells of a notebook run inside its loop."""
    stage = Stage()

    async def cell() -> Answer:
        with open_runtime_portal() as runtime:
            answer: Answer = runtime.run(stage.graph, Order("double", 1))
            return answer

    assert asyncio.run(cell()) == Answer(2, "trio")


async def test_a_trio_program_may_use_a_portal_from_its_worker_threads() -> None:
    with open_runtime_portal() as runtime:
        answer = await trio.to_thread.run_sync(lambda: runtime.run(Stage().graph, Order("double", 1)))

    assert answer == Answer(2, "trio")


def test_a_failing_block_cancels_what_runs() -> None:
    stage = Stage()

    with pytest.raises(ZeroDivisionError), open_runtime_portal() as runtime:  # noqa: PT012
        runtime.start(stage.graph, Order("wait"))
        until(lambda: stage.log == ["wait began"])
        raise ZeroDivisionError

    assert stage.log == ["wait began", "wait ended"]
    assert portal_threads() == []


def test_a_call_after_the_end_says_so() -> None:
    with open_runtime_portal() as runtime:
        pass

    with pytest.raises(UsageError, match=r"^run\(\): the runtime is closed\.\n  Fix: call while its `with` block is open\.$"):
        runtime.run(Stage().graph, Order("double"))


def test_an_option_that_is_refused_is_raised_where_the_runtime_is_opened() -> None:
    with pytest.raises(UsageError, match=r"^open_runtime\(store=3\)"):
        open_runtime_portal(store=3).__enter__()  # type: ignore[arg-type]

    assert portal_threads() == []


def test_a_call_in_the_runtimes_own_thread_is_refused() -> None:
    seen: list[Exception] = []

    def instrument(event: Event) -> None:
        if isinstance(event, RunStarted):
            try:
                runtime.run(Stage().graph, Order("double"))
            except UsageError as error:
                seen.append(error)

    with open_runtime_portal(instruments=[instrument]) as runtime:
        runtime.run(Stage().graph, Order("double"))

    assert str(seen[0]) == (
        "run() was called in the runtime's own thread, which would wait for itself.\n"
        "  Fix: nodes and actors use the runtime itself (self.context.runtime) and await."
    )


def test_an_interrupt_cancels_the_run_that_is_waited_for() -> None:
    stage = Stage()

    def interrupt() -> None:
        until(lambda: stage.log == ["wait began"])
        os.kill(os.getpid(), signal.SIGINT)

    with open_runtime_portal() as runtime:
        threading.Thread(target=interrupt).start()
        with pytest.raises(KeyboardInterrupt):
            runtime.run(stage.graph, Order("wait"), timeout=PATIENCE_S)

        assert stage.log == ["wait began", "wait ended"]
        assert runtime.run(stage.graph, Order("double", 1)) == Answer(2, "trio")


def in_fork(work: Callable[[], str]) -> str:
    """What `work` says in a forked child."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.write(writer, work().encode())
        finally:
            os._exit(0)
    os.close(writer)
    return said_by_fork(reader, child)


def refusal(runtime: PortalRuntime) -> str:
    try:
        return str(runtime.run(Stage().graph, Order("double")))
    except UsageError as error:
        return str(error)


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_forked_child_is_refused() -> None:
    with open_runtime_portal() as runtime:
        said = in_fork(lambda: refusal(runtime))

    assert said == (
        f"run(): this process was forked from process {os.getpid()} while the runtime was open there.\n"
        "  Cause: the runtime's thread did not come along.\n"
        "  Fix: open the runtime after the fork, for example with runtime_per_process(); with multiprocessing, take the "
        "start method 'spawn'."
    )


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_runtime_per_process_opens_anew_after_a_fork() -> None:
    stage = Stage()
    per_process = runtime_per_process()

    first = per_process()
    said = in_fork(lambda: str(per_process().run(stage.graph, Order("double", 3)).number))

    assert first is per_process()
    assert first.run(stage.graph, Order("double", 1)) == Answer(2, "trio")
    assert said == "6"
    per_process.close(grace_s=1)
    assert portal_threads() == []


def test_a_misspelt_option_of_a_runtime_per_process_is_refused_where_it_is_declared() -> None:
    with pytest.raises(TypeError, match=r"^got an unexpected keyword argument 'sed'$"):
        runtime_per_process(sed=1)  # type: ignore[call-arg]


class Stillborn(Doubler):
    async def receive(self, message: Double) -> int:
        raise LookupError("lost")


def test_a_runtime_that_gave_up_is_the_cause_of_later_errors_and_the_next_call_opens_another() -> None:
    per_process = runtime_per_process(supervision=Supervision(max_restarts=0, backoff=Backoff(first_s=0)))
    first = per_process()

    with pytest.raises((ActorFailed, UsageError)):
        first.spawn(Stillborn).ask(Double(1))
    until(lambda: portal_threads() == [])
    with pytest.raises(UsageError) as caught:
        first.run(Stage().graph, Order("double"))

    assert isinstance(caught.value.__cause__, RestartsExhausted)
    assert per_process().run(Stage().graph, Order("double", 1)) == Answer(2, "trio")
    per_process.close()


def test_closing_the_runtime_ends_its_open_streams() -> None:
    with open_runtime_portal() as runtime:
        stream = runtime.stream(Stage().graph, Order("wait"))
        events = stream.__enter__()

    with pytest.raises(UsageError, match=r"^stream\(\): the runtime is closed\."):
        list(events)
    stream.__exit__(None, None, None)


def spawned(number: int) -> int:
    with open_runtime_portal() as runtime:
        return int(runtime.run(Stage().graph, Order("double", number)).number)


@pytest.mark.slow
def test_spawned_processes_each_open_their_own() -> None:
    with open_runtime_portal(), multiprocessing.get_context("spawn").Pool(2) as pool:
        assert pool.map_async(spawned, [1, 2, 3]).get(PATIENCE_S) == [2, 4, 6]


def script(source: str) -> subprocess.Popen[str]:
    head = "from tests.runtime.embed.cast import *\nfrom runtime.embed.portal import *\nstage = Stage()\n"
    return subprocess.Popen(
        [sys.executable, "-W", "error", "-c", head + source],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_a_program_that_forgets_to_close_the_runtime_ends_and_its_runs_are_cancelled() -> None:
    program = script(
        "import atexit, time\n"
        "atexit.register(lambda: print(stage.log))\n"
        "forgotten = open_runtime_portal()\n"
        "runtime = forgotten.__enter__()\n"
        "runtime.start(stage.graph, Order('wait'))\n"
        "while not stage.log: time.sleep(0.01)\n"
    )

    assert program.communicate(timeout=240) == ("['wait began', 'wait ended']\n", "")
    assert program.returncode == 0


def test_a_thread_may_still_use_the_runtime_while_the_program_waits_for_it() -> None:
    program = script(
        "import threading, time\n"
        "runtime = runtime_per_process()\n"
        "runtime()\n"  # from here on it has its thread: Python 3.12 starts none once the program waits for its end
        "def late():\n"
        "    time.sleep(0.3)\n"
        "    print(runtime().run(stage.graph, Order('double', 2)).number)\n"
        "threading.Thread(target=late).start()\n"
    )

    assert program.communicate(timeout=240) == ("4\n", "")


def test_ctrl_c_in_a_script_ends_it_with_the_interrupt_only() -> None:
    program = script(
        "import sys\n"
        "with open_runtime_portal() as runtime:\n"
        "    try:\n"
        "        print('ready', flush=True)\n"
        "        runtime.run(stage.graph, Order('wait'))\n"
        "    except KeyboardInterrupt:\n"
        "        sys.exit(f'interrupted: {stage.log[-1]}')\n"
    )
    assert first_line(program) == "ready\n"

    threading.Event().wait(0.3)
    program.send_signal(signal.SIGINT)

    assert program.communicate(timeout=240) == ("", "interrupted: wait ended\n")
    assert program.returncode == 1


def test_open_runtime_and_its_twins_take_the_same() -> None:
    parameters = inspect.signature(open_runtime).parameters

    assert inspect.signature(open_runtime_portal).parameters == parameters
    assert inspect.signature(runtime_per_process).parameters == parameters
