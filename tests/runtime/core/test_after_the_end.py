"""What becomes of a cell after its end, where several have a say in it: who stops it, its group, and its supervisor's restart."""

from __future__ import annotations

import pytest
import trio

from actors import ChildNotFound, ChildSpec, Directive, StopReason, Supervision, supervisor_spec
from tests.runtime.cast import EXACT, PATIENT, Boom, Echo, budget, child, names, stage, states

ESCALATES = Supervision(on_error={OSError: Directive.ESCALATE}, backoff=EXACT)


async def with_a_supervisor_above(runtime, *children):
    """Its supervisor "top/s" has `children` and one that takes it down, and is restarted after a second; refs by name."""
    supervision = Supervision(max_restarts=1_000_000, backoff=EXACT)
    await runtime.supervise([supervisor_spec("s", [*children, ChildSpec("fatal", Echo)], ESCALATES)], supervision, name="top")
    return runtime.whereis("top/s")


async def test_a_child_that_comes_back_with_its_supervisor_is_forgotten_only_if_its_next_stop_says_so(virtual_clock, log):
    async with stage() as runtime, trio.open_nursery() as nursery:
        supervisor = await with_a_supervisor_above(runtime, child("a", log))
        ref = runtime.whereis("top/s/a")
        ref.tell_nowait(("sleep", 1))
        await trio.testing.wait_all_tasks_blocked()
        nursery.start_soon(runtime.stop, ref)  # for good, and nothing is to be kept of it
        await trio.testing.wait_all_tasks_blocked()
        runtime.whereis("top/s/fatal").tell_nowait(OSError())
        await trio.sleep(5)
        assert names(log) == "a+ a- a+", "the restart of a supervisor starts all that it declares"

        await supervisor.terminate_child("a")
        assert (await states(supervisor))["a"] == "stopped"
        assert await supervisor.restart_child("a") is ref

        await runtime.stop(ref)
        with pytest.raises(ChildNotFound):
            await supervisor.restart_child("a")


async def test_a_child_that_waits_for_a_restart_of_its_supervisor_ends_with_what_it_had_failed_with(virtual_clock, log):
    async with stage() as runtime:
        await with_a_supervisor_above(runtime, child("a", log))
        fatal = runtime.whereis("top/s/fatal")
        error = OSError("disk")
        fatal.tell_nowait(error)
        await trio.sleep(0.5)

        await runtime.stop(fatal)
        ended = await fatal.ended()

        assert (ended.reason, ended.error) == (StopReason.FAILED, error)


async def test_a_sibling_that_waits_for_the_same_restart_ends_as_stopped(virtual_clock, log):
    async with stage() as runtime:
        await with_a_supervisor_above(runtime, child("a", log))
        ref = runtime.whereis("top/s/a")
        runtime.whereis("top/s/fatal").tell_nowait(OSError())
        await trio.sleep(0.5)

        await runtime.stop(ref)
        ended = await ref.ended()
        await trio.sleep(5)

        assert (ended.reason, ended.error) == (StopReason.STOPPED, None)
        assert names(log) == "a+ a- a+"
        assert runtime.whereis("top/s/a") is not ref, "nothing was kept of the one that was stopped, so it is another"


async def test_of_a_start_that_is_cancelled_nothing_is_kept_and_of_a_restart_all(virtual_clock, log):
    async with stage() as runtime:
        supervisor = await runtime.supervise([], PATIENT, name="s")
        spec = child("a", log)
        with trio.CancelScope() as scope:
            scope.cancel()
            await supervisor.start_child(spec)
        assert await supervisor.which_children() == []

        await supervisor.start_child(spec)
        await supervisor.terminate_child("a")
        with trio.CancelScope() as scope:
            scope.cancel()
            await supervisor.restart_child("a")
        assert await states(supervisor) == {"a": "stopped"}


async def test_who_fails_for_the_last_time_while_it_is_stopped_to_be_forgotten_is_forgotten(virtual_clock, log):
    async with stage() as runtime:
        supervisor = await runtime.supervise([child("a", log)], budget(0), name="s")
        ref = runtime.whereis("s/a")
        ref.tell_nowait(("sleep", 1))
        ref.tell_nowait(("raise", Boom()))
        await trio.testing.wait_all_tasks_blocked()
        await runtime.stop(ref)
        assert await supervisor.which_children() == []
