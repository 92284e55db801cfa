"""Who held the event loop, for how long, and where."""

from __future__ import annotations

import contextlib
import threading
import time
from typing import Any

import pytest
import trio
import trio.testing

from actors import Actor, UsageError
from runtime import LoopBlocked
from runtime.core.watchdog import STUCK_AFTER, Watchdog, watching
from tests.runtime.cast import Does, Echo, Recorder, stage


class RealClock:
    """What stands for real time; blocking is to move it on."""

    def __init__(self) -> None:
        self.at_s = 1000.0

    def __call__(self) -> float:
        return self.at_s


class Post:
    """A watchdog with a clock, looked after by hand: its own thread looks for the first time after a day."""

    def __init__(self, runtime: Any, limit_s: float = 0.25) -> None:
        self.clock = RealClock()
        self.alarms: list[str] = []
        self.dog = Watchdog(runtime._services, limit_s, now=self.clock, alarm=self.alarms.append)
        self.dog._patrol = lambda: None  # type: ignore[method-assign]

    def block(self, seconds: float, *, seen: bool = False) -> None:
        """Hold the loop, in two halves; the watchdog looks between them if it is to have `seen` it."""
        self.clock.at_s += seconds / 2
        if seen:
            looking = threading.Thread(target=self.dog.look)
            looking.start()
            looking.join()
        self.clock.at_s += seconds / 2


@contextlib.asynccontextmanager
async def watched(limit_s: float = 0.25):
    """A runtime, its watchdog and what it reported."""
    found: list[LoopBlocked] = []

    def instrument(event: Any) -> None:
        if isinstance(event, LoopBlocked):
            found.append(event)

    async with stage(instruments=[instrument]) as runtime:
        post = Post(runtime, limit_s)
        with post.dog:
            yield runtime, post, found


async def test_TR_06_it_names_the_actor_and_for_how_long(virtual_clock):
    async with watched() as (runtime, post, found):

        async def block(actor, message):
            post.block(message)

        ref = await runtime.spawn(Does, block, name="a")
        await runtime.spawn(Echo, name="innocent")
        for held_s in (0.25, 0.5, 0.125):
            await ref.ask(held_s)

    assert [(event.address, event.held_s, event.stack) for event in found] == [("a", 0.5, "")]


async def test_steps_are_measured_and_not_their_sum(virtual_clock):
    async with watched() as (runtime, post, found):

        async def block_with_pauses(actor, message):
            for _ in range(10):
                post.block(0.2)
                await trio.lowlevel.checkpoint()

        await (await runtime.spawn(Does, block_with_pauses)).ask("go")

    assert found == []


async def test_it_shows_where(virtual_clock):
    def compute_for_long(post):
        post.block(1.0, seen=True)

    async with watched() as (runtime, post, found):

        async def handle(actor, message):
            compute_for_long(post)

        await (await runtime.spawn(Does, handle, name="a")).ask("go")

    (event,) = found
    assert "in handle\n    compute_for_long(post)\n" in event.stack
    assert "in compute_for_long\n    post.block(1.0, seen=True)\n" in event.stack
    assert "unrolled_run" not in event.stack


async def test_a_stack_belongs_to_the_step_that_was_seen(virtual_clock):
    async with watched() as (runtime, post, found):

        async def block(actor, seen):
            post.block(0.4, seen=seen)

        ref = await runtime.spawn(Does, block)
        await ref.ask(True)
        await ref.ask(False)

    assert [bool(event.stack) for event in found] == [True, False]


async def test_a_task_beside_the_handler_and_a_lifespan_are_the_actors_too(virtual_clock):
    async with watched() as (runtime, post, found):

        class Blocks(Actor):
            @contextlib.asynccontextmanager
            async def lifespan(self):
                post.block(1)
                yield

            async def receive(self, message):
                self.context.nursery.start_soon(self.work)

            async def work(self):
                post.block(2)

        await (await runtime.spawn(Blocks, name="a")).ask("go")
        await trio.testing.wait_all_tasks_blocked()

    assert [(event.address, event.held_s) for event in found] == [("a", 1.0), ("a", 2.0)]


async def test_the_hosts_own_code_is_reported_without_an_actor(virtual_clock):
    async with watched() as (_, post, found):
        await trio.lowlevel.checkpoint()
        post.block(1)
        await trio.lowlevel.checkpoint()

    assert [(event.address, event.held_s) for event in found] == [(None, 1.0)]


async def test_actors_of_another_runtime_are_left_to_its_own_watchdog(virtual_clock):
    async with stage() as other, watched() as (_, post, found):

        async def block(actor, message):
            post.block(1)

        await (await other.spawn(Does, block)).ask("go")

    assert found == []


async def test_TR_06_a_step_that_does_not_end_is_spoken_of_once_while_it_lasts(virtual_clock):
    async with watched() as (runtime, post, _):

        async def hang(actor, message):
            for _ in range(3):
                post.block(STUCK_AFTER * 0.25, seen=True)

        await (await runtime.spawn(Does, hang, name="a")).ask("go")

    (alarm,) = post.alarms
    assert alarm.startswith("'a' has held the event loop for 7.5 s, and nothing else can run.\n  File ")
    assert alarm.endswith("  Fix: await trio.to_thread.run_sync(…) for work that blocks, trio.sleep() instead of time.sleep().")


async def test_its_thread_sees_an_actor_that_really_blocks(virtual_clock, log):
    """The one test with real time: the handler blocks until it was seen, or for a second at most."""
    async with stage() as runtime, runtime.events(lambda event: isinstance(event, LoopBlocked)) as events:
        with Watchdog(runtime._services, 0.01) as dog:

            async def block(actor, message):
                end = time.monotonic() + 1
                while dog._sample is None and time.monotonic() < end:
                    time.sleep(0.005)  # noqa: ASYNC251 - to block is the point
                time.sleep(0.02)  # noqa: ASYNC251 - see above

            await (await runtime.spawn(Does, block, name="a")).ask("go")
        blocked: Any = await anext(events)

    assert blocked.address == "a"
    assert blocked.held_s > 0.01
    assert "in block\n" in blocked.stack
    assert "understudy watchdog" not in [thread.name for thread in threading.enumerate()]


async def test_a_runtime_watches_when_it_is_told_to(virtual_clock, log):
    def watchdogs():
        return [thread.name for thread in threading.enumerate() if thread.name == "understudy watchdog"]

    async with stage() as runtime:
        await runtime.spawn(Recorder, log)
        assert watchdogs() == []

    async with stage(watchdog_s=0.25):
        assert watchdogs() == ["understudy watchdog"]
    assert watchdogs() == []


@pytest.mark.parametrize("limit_s", [0, -1, float("inf"), float("nan")])
async def test_an_impossible_limit_is_refused(limit_s, virtual_clock):
    with pytest.raises(UsageError, match=r"^watchdog_s=.*: expected finite seconds > 0\.\n  Fix: watchdog_s=0\.25, say\.$"):
        async with stage(watchdog_s=limit_s):
            pass


async def test_no_limit_is_no_watch(virtual_clock):
    async with stage() as runtime:
        assert isinstance(watching(runtime._services, None), contextlib.nullcontext)
