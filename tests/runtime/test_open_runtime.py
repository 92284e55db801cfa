"""Opening and closing: what comes out, what is left, what may run side by side."""

from __future__ import annotations

import asyncio
import contextlib

import pytest
import trio
import trio.testing

from actors import ActorFailed, ActorStartFailed, ActorStopped, DeclarationError, UsageError
from runtime import EventsMissed, open_runtime
from tests.runtime.cast import PATIENT, Boom, Does, Echo, Fragile, Recorder, child, names, stage


async def test_what_the_body_raises_comes_out_unwrapped_and_at_once(virtual_clock, log):
    boom = Boom("mine")

    with pytest.raises(Boom) as caught:  # noqa: PT012 - it comes out of the end of the block
        async with stage() as runtime:
            for name in "ab":
                ref = await runtime.spawn(Recorder, log, name)
                ref.tell_nowait(("sleep", 100))
            await trio.testing.wait_all_tasks_blocked()
            raise boom

    assert caught.value is boom
    assert names(log) == "a+ b+ b- a-"
    assert trio.current_time() == 0


async def test_a_normal_end_lets_each_actor_finish_its_message(virtual_clock, log):
    async with stage() as runtime:
        for name, seconds in (("a", 5), ("b", 3)):
            ref = await runtime.spawn(Recorder, log, name)
            ref.tell_nowait(("sleep", seconds))
            ref.tell_nowait("never handled")
        await trio.testing.wait_all_tasks_blocked()

    assert log == [(0, "a+"), (0, "b+"), (3, "b-"), (5, "a-")]
    assert [letter.message for letter in runtime.dead_letters] == ["never handled"] * 2


async def test_a_cancellation_during_the_graceful_end_makes_it_a_quick_one(virtual_clock, log):
    with trio.move_on_after(2) as scope:
        async with stage() as runtime:
            ref = await runtime.spawn(Recorder, log, shutdown_s=60)
            ref.tell_nowait(("sleep", 50))
            await trio.testing.wait_all_tasks_blocked()

    assert scope.cancelled_caught
    assert log == [(0, "+"), (2, "-")]


async def test_opening_inside_a_cancelled_scope_ends_at_once(virtual_clock):
    with trio.CancelScope() as scope:
        scope.cancel()
        async with stage():
            pytest.fail("never reached")

    assert scope.cancelled_caught


async def test_a_second_runtime_in_the_same_program_works(virtual_clock):
    for _ in range(2):
        async with stage() as runtime:
            ref = await runtime.spawn(Echo, name="echo")
            assert await ref.ask("hello") == "hello"


async def test_a_failed_start_is_the_callers_and_is_not_retried(virtual_clock, log):
    async with stage(supervision=PATIENT) as runtime:
        with pytest.raises(ActorStartFailed) as caught:
            await runtime.spawn(Fragile, log, [Boom("no")] * 2, name="a")

        [what, place, *fix] = str(caught.value).splitlines(keepends=True)
        assert place.startswith("  at ")
        assert place.endswith(" in lifespan\n")
        assert "".join([what, *fix]) == (
            "'a' did not start: Boom: no\n"
            "  Fix: see the cause above; its factory or its lifespan raised before the first message."
        )
        assert names(log) == "!"
        assert runtime.whereis("a") is None


async def test_a_factory_that_raises_fails_the_start(virtual_clock):
    def factory():
        raise Boom("no instance")

    async with stage() as runtime:
        with pytest.raises(ActorStartFailed, match=r"^'factory-1' did not start: Boom: no instance"):
            await runtime.spawn(factory)


async def test_a_factory_that_makes_no_actor_fails_the_start(virtual_clock):
    async with stage() as runtime:
        with pytest.raises(ActorStartFailed) as caught:
            await runtime.spawn(lambda: {"no": "actor"}, name="a")

    assert str(caught.value.__cause__) == (
        "the factory of 'a' returned dict, expected an Actor.\n"
        "  Fix: give a subclass of actors.Actor, or a function that returns a new instance of one."
    )


async def test_an_instance_in_place_of_a_factory_is_refused(virtual_clock):
    async with stage() as runtime:
        with pytest.raises(DeclarationError, match=r"an instance would be shared by all incarnations"):
            await runtime.spawn(Echo())


async def test_a_task_that_fails_during_the_start_fails_the_start(virtual_clock):
    class Waits(Echo):
        @contextlib.asynccontextmanager
        async def lifespan(self):
            self.context.nursery.start_soon(self.fail)
            await trio.sleep(100)
            yield

        async def fail(self):
            await trio.sleep(1)
            raise Boom("beside")

    async with stage() as runtime:
        with pytest.raises(ActorStartFailed, match=r"^'a' did not start: Boom: beside\n"):
            await runtime.spawn(Waits, name="a")

        assert trio.current_time() == 1


async def test_a_cancelled_spawn_leaves_nothing(virtual_clock, log):
    class SlowStart(Recorder):
        @contextlib.asynccontextmanager
        async def lifespan(self):
            try:
                await trio.sleep(10)
                yield
            finally:
                self.note("rolled back")

    async with stage() as runtime:
        with trio.move_on_after(1):
            await runtime.spawn(SlowStart, log, name="a")

        assert log == [(1.0, "rolled back")]
        assert runtime.whereis("a") is None
        await runtime.spawn(Echo, name="a")


async def test_names_are_made_from_the_factory_and_never_collide(virtual_clock):
    async with stage() as runtime:
        await runtime.spawn(Echo, name="echo-2")

        assert [(await runtime.spawn(Echo)).address for _ in range(3)] == ["echo-1", "echo-3", "echo-4"]


@pytest.mark.parametrize("name", ["", "a/b", "a\n"])
async def test_names_that_would_make_an_address_ambiguous_are_refused(name, virtual_clock):
    async with stage() as runtime:
        with pytest.raises(DeclarationError, match=r"cannot name an actor: a name is at least one printable character"):
            await runtime.spawn(Echo, name=name)


async def test_whereis_finds_actors_and_supervisors_until_they_stop(virtual_clock, log):
    async with stage() as runtime:
        supervisor = await runtime.supervise([child("a", log)], name="s")

        assert runtime.whereis("s") is supervisor
        assert runtime.whereis("s/a").address == "s/a"
        assert runtime.whereis("nobody") is None


async def test_an_actor_may_not_wait_for_its_own_end(virtual_clock):
    async def stop_myself(actor, message):
        await actor.context.runtime.stop(actor.context.ref)

    async with stage(supervision=PATIENT) as runtime:
        ref = await runtime.spawn(Does, stop_myself, name="a")

        with pytest.raises(ActorFailed) as caught:
            await ref.ask("go")

    assert isinstance(caught.value.__cause__, UsageError)
    assert str(caught.value.__cause__) == (
        "'a' would wait for its own end.\n  Fix: self.context.stop() requests it and returns immediately."
    )


async def test_the_tree_shows_what_runs_where(virtual_clock, log):
    async def spawn_one(actor, message):
        await actor.context.spawn(Echo, name="child")

    async with stage() as runtime:
        await runtime.supervise([child("a", log)], name="s")
        parent = await runtime.spawn(Does, spawn_one, name="parent")
        await parent.ask("go")

        assert str(runtime.tree()) == (
            "(root) [supervisor, running, incarnation 1]\n"
            "  s [supervisor, running, incarnation 1]\n"
            "    s/a [actor, running, incarnation 1]\n"
            "  parent [actor, running, incarnation 1]\n"
            "    parent/child [actor, running, incarnation 1]"
        )
        assert list(runtime.statistics().actors) == ["s/a", "parent", "parent/child"]


async def test_events_are_bounded_and_a_slow_reader_is_told_what_it_missed(virtual_clock):
    async with stage(supervision=PATIENT) as runtime:
        async with runtime.events(buffer=3) as events:
            ref = await runtime.spawn(Echo, name="a")
            for _ in range(3):
                with pytest.raises(ActorFailed):
                    await ref.ask(Boom())
            await ref.ask("up")

            first = await anext(events)
            assert isinstance(first, EventsMissed)
            assert first.count == 10
            assert [type(await anext(events)).__name__ for _ in range(3)] == [
                "ActorRestarting",
                "MessageDeadLettered",
                "ActorStarted",
            ]


async def test_events_end_with_the_runtime(virtual_clock):
    async with stage() as runtime:
        stream = runtime.events()
        await runtime.spawn(Echo, name="a")

    events = [(type(event).__name__, event.address) async for event in stream]
    assert events == [("ActorStarted", "a"), ("ActorEnded", "a"), ("ActorEnded", "")]


async def test_an_ask_from_the_body_of_a_runtime_that_ends_gets_its_answer_or_an_error(virtual_clock):
    ends = []

    async def ask(ref):
        with pytest.raises(ActorStopped):
            await ref.ask("queued")
        ends.append(trio.current_time())

    async with trio.open_nursery() as nursery:
        async with stage() as runtime:
            ref = await runtime.spawn(Recorder, [])
            ref.tell_nowait(("sleep", 3))
            nursery.start_soon(ask, ref)
            await trio.testing.wait_all_tasks_blocked()

    assert ends == [3.0]


def test_a_runtime_opened_under_asyncio_says_what_to_open_there():
    async def main():
        async with open_runtime():
            pytest.fail("it cannot run here")

    with pytest.raises(UsageError) as caught:
        asyncio.run(main())

    assert str(caught.value) == (
        "open_runtime() was entered outside of trio.\n"
        "  Fix: trio.run(main); in an asyncio program use runtime.embed.asyncio.open_runtime_asyncio()."
    )
