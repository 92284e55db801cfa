"""What reaches a supervisor while it starts its children, restarts a group of them, or takes them down."""

from __future__ import annotations

import contextlib

import pytest
import trio

from actors import (
    ActorStartFailed,
    AutoShutdown,
    Backoff,
    ChildSpec,
    ChildState,
    Directive,
    Strategy,
    Supervision,
    SupervisionError,
    supervisor_spec,
)
from tests.runtime.cast import EXACT, PATIENT, PERMANENT, TRANSIENT, Boom, Echo, Fragile, Recorder, child, names, stage

ANY = AutoShutdown.ANY_SIGNIFICANT


class Slow(Recorder):
    """Takes a second to start and a second to leave."""

    @contextlib.asynccontextmanager
    async def lifespan(self):
        await trio.sleep(1)
        self.note("+")
        try:
            yield
        finally:
            with trio.CancelScope(shield=True):
                await trio.sleep(1)
            self.note("-")


def slow(child_id, log, **options):
    return ChildSpec(child_id, Slow, (log, child_id), **options)


async def until_taken_down(runtime, log):
    """A supervisor of s/slow and s/significant whose end is under way: s/significant has ended."""
    children = [slow("slow", log), child("significant", log, restart=TRANSIENT, significant=True)]
    supervisor = await runtime.supervise(children, Supervision(auto_shutdown=ANY, backoff=EXACT), name="s", restart=TRANSIENT)
    runtime.whereis("s/significant").tell_nowait(("stop",))
    await trio.testing.wait_all_tasks_blocked()
    return supervisor


async def test_a_supervisor_that_takes_its_children_down_starts_no_other(virtual_clock, log):
    async with stage() as runtime:
        supervisor = await until_taken_down(runtime, log)

        with pytest.raises(SupervisionError, match=r"^supervisor 's' is not running, so it starts nothing\."):
            await supervisor.start_child(child("late", log))

        await trio.sleep(2)
        assert runtime.whereis("s") is None


async def test_a_child_that_waits_out_its_backoff_is_not_restarted_while_the_others_are_taken_down(virtual_clock, log):
    quick = Supervision(auto_shutdown=ANY, backoff=Backoff(first_s=0.5, jitter=0))
    children = [slow("slow", log), child("broken", log), child("significant", log, restart=TRANSIENT, significant=True)]
    async with stage() as runtime:
        await runtime.supervise(children, quick, name="s", restart=TRANSIENT)
        runtime.whereis("s/broken").tell_nowait(("raise", Boom()))
        await trio.testing.wait_all_tasks_blocked()
        runtime.whereis("s/significant").tell_nowait(("stop",))
        await trio.sleep(2)

        assert runtime.whereis("s") is None
        assert names(log) == "slow+ broken+ significant+ broken- significant- slow-"


async def test_a_child_in_its_backoff_does_not_outlive_the_failed_start_of_its_sibling(virtual_clock, log):
    children = [
        slow("slow", log),
        child("broken", log),
        slow("later", log),
        ChildSpec("never", Fragile, (log, [Boom()], "never")),
    ]
    quick = Supervision(backoff=Backoff(first_s=1.5, jitter=0))
    async with stage() as runtime:
        async with trio.open_nursery() as nursery:

            @nursery.start_soon
            async def break_it():
                await trio.sleep(1.5)
                runtime.whereis("s/broken").tell_nowait(("raise", Boom()))

            with pytest.raises(ActorStartFailed):
                await runtime.supervise(children, quick, name="s")

        assert names(log) == "slow+ broken+ broken- later+ never! later- slow-"


async def restarting(runtime, log):
    """A supervisor that is being restarted: s/first starts, s/second waits for its turn."""
    once = Supervision(max_restarts=0, backoff=EXACT)
    spec = supervisor_spec("s", [slow("first", log), child("second", log)], once, restart=PERMANENT)
    supervisor = await (await runtime.supervise([], PATIENT, name="top")).start_child(spec)
    runtime.whereis("top/s/second").tell_nowait(("raise", Boom()))
    await trio.sleep(1.5)
    assert runtime.tree().children[0].children[0].state == "starting"
    log.clear()
    return supervisor


async def test_a_child_that_is_stopped_for_good_before_its_turn_is_not_started(virtual_clock, log):
    async with stage() as runtime:
        supervisor = await restarting(runtime, log)
        second = next(known.ref for known in await supervisor.which_children() if known.id == "second")

        await runtime.stop(second)
        await trio.sleep(2)

        assert names(log) == "first+"
        assert [known.id for known in await supervisor.which_children()] == ["first"]
    assert names(log) == "first+ first-"


async def test_a_child_that_is_terminated_before_its_turn_stays_stopped(virtual_clock, log):
    async with stage() as runtime:
        supervisor = await restarting(runtime, log)

        await supervisor.terminate_child("second")
        await trio.sleep(2)

        assert [(known.id, known.state) for known in await supervisor.which_children()] == [
            ("second", ChildState.STOPPED),
            ("first", ChildState.RUNNING),
        ]


async def test_a_child_that_was_terminated_before_its_very_first_start_stays_stopped(virtual_clock, log):
    async with stage() as runtime, trio.open_nursery() as nursery:
        children = [slow("first", log), child("second", log)]
        nursery.start_soon(runtime.supervise, children, None, "s")
        await trio.testing.wait_all_tasks_blocked()
        supervisor = runtime.whereis("s")

        await supervisor.terminate_child("second")
        await trio.sleep(2)

        assert names(log) == "first+"
        await supervisor.restart_child("second")
        assert names(log) == "first+ second+"


async def test_a_child_that_is_restarted_before_its_turn_is_not_started_twice(virtual_clock, log):
    async with stage() as runtime:
        supervisor = await restarting(runtime, log)
        await supervisor.terminate_child("second")

        await supervisor.restart_child("second")
        await trio.sleep(2)

        assert names(log) == "second+ first+"
        assert (await supervisor.count_children()).active == 2


async def test_a_group_forgets_a_member_that_was_stopped_for_good_before_its_restart(virtual_clock, log):
    everybody = Supervision(strategy=Strategy.ONE_FOR_ALL, backoff=Backoff(first_s=1.0, factor=1.0, jitter=0))
    async with stage() as runtime:
        supervisor = await runtime.supervise([child("a", log), child("b", log)], everybody, name="s")
        b = runtime.whereis("s/b")
        runtime.whereis("s/a").tell_nowait(("raise", Boom()))
        await trio.sleep(0.5)
        await runtime.stop(b)
        c = await supervisor.start_child(child("c", log))
        c.tell_nowait(("raise", Boom()))
        await trio.sleep(2)

        assert names(log) == "a+ b+ a- b- c+ c- a+ c+"


async def test_the_delay_of_an_earlier_life_does_not_cut_that_of_the_present_one_short(virtual_clock, log):
    """A supervisor that is restarted starts its declared children at once, before their delays are over."""
    patient = Supervision(
        on_error={Boom: Directive.RESTART, OSError: Directive.ESCALATE},
        max_restarts=10,
        backoff=Backoff(first_s=3.0, factor=10.0, cap_s=100.0, jitter=0),
    )
    inner = supervisor_spec("s", [child("broken", log), ChildSpec("fatal", Echo)], patient)
    async with stage() as runtime:
        await runtime.supervise([inner], PATIENT, name="top")
        broken = runtime.whereis("top/s/broken")
        broken.tell_nowait(("raise", Boom()))
        await trio.sleep(1)
        runtime.whereis("top/s/fatal").tell_nowait(OSError())
        await trio.testing.wait_all_tasks_blocked()
        broken.tell_nowait(("raise", Boom()))
        await trio.sleep(60)

    assert log == [(0.0, "broken+"), (0.0, "broken-"), (1.0, "broken+"), (1.0, "broken-"), (31.0, "broken+"), (61.0, "broken-")]


async def test_a_child_that_fails_while_its_supervisor_does_keeps_its_mailbox(virtual_clock, log):
    supervision = Supervision(on_error={OSError: Directive.ESCALATE}, backoff=EXACT)
    inner = supervisor_spec("s", [child("early", log), slow("slow", log), ChildSpec("fatal", Echo)], supervision)
    async with stage() as runtime:
        await runtime.supervise([inner], PATIENT, name="top")
        early = runtime.whereis("top/s/early")
        runtime.whereis("top/s/fatal").tell_nowait(OSError())
        await trio.sleep(0.5)
        early.tell_nowait(("raise", Boom()))
        early.tell_nowait("hello")
        await trio.sleep(2)

        assert names(log) == "early+ slow+ early- slow- early+ earlyhello slow+"
