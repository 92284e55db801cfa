"""A guest that waits in the selector of an asyncio loop: no thread per wait, few turns of the loop per call, nothing lost."""

import asyncio
import contextvars
import threading
from typing import Any

import attrs
import pytest
import trio

from actors import Actor
from runtime.embed import selector_guest
from runtime.embed.asyncio import open_runtime_asyncio
from runtime.embed.selector_guest import fits


@attrs.frozen
class Question:
    number: int


class Echo(Actor):
    async def receive(self, message: Question) -> Question:
        return message


class CountingLoop(asyncio.SelectorEventLoop):
    """Counts what is called soon."""

    called = 0

    def call_soon(self, callback: Any, *args: Any, context: contextvars.Context | None = None) -> asyncio.Handle:  # type: ignore[override]
        self.called += 1
        return super().call_soon(callback, *args, context=context)


@pytest.fixture(params=["the loop's selector", "trio's own way"])
def is_watched(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Whether the guest waits in the selector; both ways have to do the same."""
    if request.param != "the loop's selector":
        monkeypatch.setattr(selector_guest, "_is_as_known", lambda run: False)  # pyright: ignore[reportUnknownLambdaType]
    return bool(request.param == "the loop's selector")


def threads_of_waits(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """One entry for each wait that trio hands to a thread from now on."""
    run = selector_guest._run
    started: list[object] = []
    original = run.start_thread_soon

    def start(*args: Any) -> None:
        started.append(args)
        original(*args)

    monkeypatch.setattr(run, "start_thread_soon", start)
    return started


def test_no_wait_is_handed_to_a_thread(is_watched: bool, monkeypatch: pytest.MonkeyPatch):
    started = threads_of_waits(monkeypatch)

    async def main() -> None:
        async with open_runtime_asyncio() as runtime:
            echo = await runtime.spawn(Echo)
            for number in range(20):
                assert await echo.ask(Question(number)) == Question(number)

    asyncio.run(main())

    assert (len(started) == 0) == is_watched


def test_an_ask_takes_few_turns_of_the_loop():
    """What the loop calls for an ask: one turn of trio's, and the answer; it was a thread and seven before."""

    async def main() -> int:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, CountingLoop)
        async with open_runtime_asyncio() as runtime:
            echo = await runtime.spawn(Echo)
            await echo.ask(Question(0))
            before = loop.called
            for number in range(100):
                await echo.ask(Question(number))
            return loop.called - before

    with asyncio.Runner(loop_factory=CountingLoop) as runner:
        assert runner.run(main()) <= 200


def test_a_call_enters_one_scope(monkeypatch: pytest.MonkeyPatch):
    entered = 0
    original = trio.CancelScope.__enter__

    def count(scope: trio.CancelScope) -> trio.CancelScope:
        nonlocal entered
        entered += 1
        return original(scope)

    async def main() -> int:
        async with open_runtime_asyncio() as runtime:
            echo = await runtime.spawn(Echo)
            await echo.ask(Question(0))
            before = entered
            for number in range(10):
                await echo.ask(Question(number))
            return entered - before

    monkeypatch.setattr(trio.CancelScope, "__enter__", count)
    assert asyncio.run(main()) == 10


class Sleeper(Actor):
    async def receive(self, message: float) -> str:
        await trio.sleep(message)
        return "slept"


def test_deadlines_sockets_threads_and_what_waits_for_all_go_on(is_watched: bool):
    async def inside() -> list[str]:
        seen: list[str] = []
        await trio.testing.wait_all_tasks_blocked(0.001)
        seen.append("blocked")
        with trio.move_on_after(0.001):
            await trio.sleep_forever()
        seen.append("deadline")
        with trio.fail_after(3600):  # a far one first, so the next has to come before it
            await trio.sleep(0.001)
        seen.append("nearer")
        ours, theirs = trio.socket.socketpair()
        with ours, theirs:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(ours.recv, 1)
                await trio.testing.wait_all_tasks_blocked()
                await theirs.send(b"x")
        seen.append("socket")
        await trio.to_thread.run_sync(threading.get_ident)
        seen.append("thread")
        return seen

    class Busy(Actor):
        async def receive(self, message: Question) -> list[str]:
            return await inside()

    async def main() -> list[str]:
        async with open_runtime_asyncio() as runtime:
            busy = await runtime.spawn(Busy)
            await asyncio.sleep(0)
            found: list[str] = await busy.ask(Question(1))
            return found

    for _ in range(2):  # a second guest after the first
        assert asyncio.run(main()) == ["blocked", "deadline", "nearer", "socket", "thread"]


def test_asyncio_has_its_turn_while_trio_has_always_something_to_do(is_watched: bool):
    class Restless(Actor):
        async def receive(self, message: Question) -> None:
            while True:
                await trio.lowlevel.checkpoint()

    async def main() -> int:
        async with open_runtime_asyncio() as runtime:
            restless = await runtime.spawn(Restless, shutdown_s=0)
            restless.tell_nowait(Question(1))
            turns = 0
            for _ in range(50):
                await asyncio.sleep(0)
                turns += 1
            return turns

    assert asyncio.run(main()) == 50


def test_a_cancelled_call_and_one_that_took_too_long_are_told_apart(is_watched: bool):
    async def main() -> tuple[str, str]:
        async with open_runtime_asyncio() as runtime:
            echo = await runtime.spawn(Sleeper)
            with pytest.raises(TimeoutError) as late:
                await echo.ask(3600.0, timeout=0.001)
            task = asyncio.ensure_future(echo.ask(3600.0))
            await asyncio.sleep(0)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            return str(late.value).partition(";")[0], await echo.ask(0.0)

    assert asyncio.run(main())[1] == "slept"


def test_a_loop_without_a_selector_of_its_own_and_a_trio_made_otherwise_go_trios_way():
    assert fits(asyncio.SelectorEventLoop) is False  # type: ignore[arg-type]  # a class is no loop
    loop = asyncio.SelectorEventLoop()
    try:
        assert fits(loop)
    finally:
        loop.close()
    uvloop = pytest.importorskip("uvloop")
    other = uvloop.new_event_loop()
    try:
        assert not fits(other)
    finally:
        other.close()


@pytest.mark.parametrize("name", ["GuestState", "Runner", "TheIOManager", "sniffio_library"])
def test_a_trio_that_lacks_a_name_goes_its_own_way(name: str):
    class Stub:
        """Has every other name of the module."""

        def __getattr__(self, wanted: str) -> Any:
            if wanted == name:
                raise AttributeError(wanted)
            return getattr(selector_guest._run, wanted)

    assert selector_guest._is_as_known(selector_guest._run)
    assert not selector_guest._is_as_known(Stub())
