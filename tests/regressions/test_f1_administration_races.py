"""Calls to a supervisor that race for one child: each ends, nothing that runs is forgotten, and the runtime closes."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest
import trio

from actors import Actor, ActorStartFailed, ChildNotFound, ChildSpec, ChildState, Strategy, Supervision, SupervisionError
from runtime.testing import Simulation, explore
from tests.runtime.cast import AT_ONCE, Boom, Echo, settled, stage, states


class Slow(Actor):
    @contextlib.asynccontextmanager
    async def lifespan(self):
        await trio.sleep(1)
        yield

    async def receive(self, message: Any) -> Any:
        return message


async def test_f1_a_child_that_is_stopped_while_it_starts_is_forgotten_at_that_instant(autojump_clock):
    async with stage() as runtime:
        supervisor = await runtime.supervise([], name="s")
        failures: list[Exception] = []

        async def start() -> None:
            try:
                await supervisor.start_child(ChildSpec("d", Slow))
            except ActorStartFailed as error:
                failures.append(error)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(start)
            await trio.sleep(0.5)
            await supervisor.terminate_child("d")
            with pytest.raises(ChildNotFound):
                await supervisor.restart_child("d")

        assert [str(each).splitlines()[0] for each in failures] == ["'s/d' was stopped while it started."]
        assert await supervisor.which_children() == []


@explore(runs=300, timer_races=0)  # were the half second over early, the first restart would be the later one
async def test_f1_whoever_restarts_a_child_keeps_it_whatever_becomes_of_an_earlier_start(sim: Simulation) -> None:
    """A declared child: the first restart is stopped or cancelled while it starts, and a second one follows at once."""
    with trio.fail_after(100):
        async with sim.open_runtime() as runtime:
            supervisor: Any = await runtime.supervise([ChildSpec("d", Slow)], name="s")
            await supervisor.terminate_child("d")

            begun = trio.Event()

            async def first() -> None:
                begun.set()  # there is no checkpoint between this and the launch
                with trio.move_on_after((1000, 0.5)[sim.choose(2)]), contextlib.suppress(SupervisionError, ActorStartFailed):
                    await supervisor.restart_child("d")

            async with trio.open_nursery() as nursery:
                nursery.start_soon(first)
                await begun.wait()  # else its restart may come after the stop, and is what the loop below waits for in vain
                await trio.sleep(0.5)
                await supervisor.terminate_child("d")
                ref = None
                while ref is None:
                    with contextlib.suppress(SupervisionError, ActorStartFailed):
                        ref = await supervisor.restart_child("d")

            [child] = await supervisor.which_children()
            assert (child.ref, child.state) == (ref, ChildState.RUNNING)
            assert await ref.ask("still there") == "still there"


@explore(runs=200)
async def test_f1_a_call_that_stops_a_child_ends_although_somebody_starts_it_again_at_once(sim: Simulation) -> None:
    with trio.fail_after(100):
        async with sim.open_runtime() as runtime:
            supervisor: Any = await runtime.supervise([ChildSpec("d", Echo)], name="s")

            async def restart() -> None:
                for _ in range(20):
                    with contextlib.suppress(SupervisionError):
                        await supervisor.restart_child("d")
                        return
                    await trio.lowlevel.checkpoint()

            async with trio.open_nursery() as nursery:
                nursery.start_soon(restart)
                await supervisor.terminate_child("d")


async def test_f1_a_cancelled_start_leaves_nothing_and_its_id_is_free(autojump_clock):
    async with stage() as runtime:
        supervisor = await runtime.supervise([], name="s")

        with trio.move_on_after(0.5):
            await supervisor.start_child(ChildSpec("d", Slow))

        assert await supervisor.which_children() == []
        assert await (await supervisor.start_child(ChildSpec("d", Echo))).ask(1) == 1


async def test_f1_a_restart_that_is_refused_by_a_stopping_supervisor_does_not_open_the_mailbox(autojump_clock):
    """A message in the open mailbox of an actor that does not run would wait for ever."""
    async with stage() as runtime:
        slow_stop = ChildSpec("slow", Slow, shutdown_s=5)
        supervisor = await runtime.supervise([ChildSpec("d", Echo), slow_stop], name="s")
        ref = runtime.whereis("s/d")
        await supervisor.terminate_child("d")
        runtime.whereis("s/slow").tell_nowait("work")
        supervisor.cell.request_stop()

        with pytest.raises(SupervisionError, match="is not running"):
            await supervisor.restart_child("d")

        assert ref.cell.mailbox.statistics().depth == 0
        ref.tell_nowait("too late")
        await settled()
        assert "too late" in [letter.message for letter in runtime.dead_letters]


class Stopper(Actor):
    async def receive(self, message: Any) -> None:
        self.context.stop(message)


async def test_f1_a_stop_by_another_actor_is_for_good_although_the_group_is_being_restarted(autojump_clock):
    class SlowToStop(Echo):
        @contextlib.asynccontextmanager
        async def lifespan(self):
            yield
            await trio.sleep(2)

    async with stage() as runtime:
        group = Supervision(Strategy.ONE_FOR_ALL, backoff=AT_ONCE)
        supervisor = await runtime.supervise([ChildSpec("a", Echo), ChildSpec("b", SlowToStop)], group, name="s")
        stopper = await runtime.spawn(Stopper)
        runtime.whereis("s/a").tell_nowait(Boom())
        await trio.sleep(1)
        await stopper.ask(runtime.whereis("s/b"))
        await trio.sleep(10)

        assert await states(supervisor) == {"a": "running"}


async def test_f1_an_actor_that_stops_what_has_stopped_already_lets_its_supervisor_forget_it(autojump_clock):
    """Else the mark would stay, and the next stop by hand, which keeps the child, would lose it."""
    async with stage() as runtime:
        supervisor = await runtime.supervise([ChildSpec("d", Echo)], name="s")
        ref = runtime.whereis("s/d")
        await supervisor.terminate_child("d")
        await (await runtime.spawn(Stopper)).ask(ref)

        assert await supervisor.which_children() == []
