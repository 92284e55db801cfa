"""Restarts of groups: what they cost, and that they are as OTP's."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest
import trio

from actors import (
    Actor,
    Backoff,
    ChildAlreadyPresent,
    ChildSpec,
    RestartType,
    StopReason,
    Strategy,
    Supervision,
    Terminated,
)
from tests.runtime.cast import Boom, Echo, budget, child, crash, settled, stage, states

GROUPS = (Strategy.ONE_FOR_ALL, Strategy.REST_FOR_ONE)


@pytest.fixture
def log() -> list[Any]:
    """What the actors of ``tests.runtime.cast`` note, as (time, text)."""
    return []


async def test_f5_many_crashes_at_once_stop_a_group_once(autojump_clock):
    """Counted in steps: with a stop of its own for each crash it would be their product."""
    members, crashes = 300, 100
    async with stage() as runtime:
        together = Supervision(Strategy.ONE_FOR_ALL, max_restarts=1000, backoff=Backoff(first_s=1, jitter=0))
        children = [ChildSpec(f"c{number}", Echo) for number in range(members)]
        supervisor = await runtime.supervise(children, together, name="s")
        waited = 0
        see_out = supervisor.cell._group._see_out

        async def counted(cell: Any) -> None:
            nonlocal waited
            waited += 1
            await see_out(cell)

        supervisor.cell._group._see_out = counted
        for number in range(crashes):
            runtime.whereis(f"s/c{number}").tell_nowait(Boom())
        await trio.sleep(10)

        assert set((await states(supervisor)).values()) == {"running"}
        assert waited <= 2 * members


async def test_f5_members_that_join_while_the_group_is_being_stopped_are_stopped_with_it(autojump_clock, log):
    class SlowToStop(Echo):
        @contextlib.asynccontextmanager
        async def lifespan(self):
            yield
            await trio.sleep(2)

    async with stage() as runtime:
        rest = Supervision(Strategy.REST_FOR_ONE, max_restarts=10, backoff=Backoff(first_s=1, jitter=0))
        specs = [child("a", log), child("b", log), child("c", log), ChildSpec("d", SlowToStop)]
        supervisor = await runtime.supervise(specs, rest, name="s")
        log.clear()
        runtime.whereis("s/c").tell_nowait(("raise", Boom()))
        await trio.sleep(0.5)
        runtime.whereis("s/a").tell_nowait(("raise", Boom()))
        await trio.sleep(60)

        assert await states(supervisor) == {"a": "running", "b": "running", "c": "running", "d": "running"}
        assert [text for _, text in log] == ["c-", "a-", "b-", "a+", "b+", "c+"]


@pytest.mark.parametrize("strategy", GROUPS)
async def test_f6_a_group_restart_starts_the_siblings_that_had_stopped_or_finished(strategy, autojump_clock, log):
    async with stage() as runtime:
        specs = [child("a", log), child("done", log, restart=RestartType.TRANSIENT), child("stopped", log)]
        supervisor = await runtime.supervise(specs, budget(3, strategy=strategy), name="s")
        await runtime.whereis("s/done").tell(("stop",))
        await supervisor.terminate_child("stopped")
        await settled()
        refs = {each.id: each.ref for each in await supervisor.which_children()}

        await crash(runtime.whereis("s/a"))

        assert await states(supervisor) == {"a": "running", "done": "running", "stopped": "running"}
        for name, ref in refs.items():
            assert await ref.ask(name) == name


async def test_f6_rest_for_one_leaves_stopped_siblings_before_the_failed_one_alone(autojump_clock, log):
    async with stage() as runtime:
        specs = [child("before", log), child("a", log), child("after", log)]
        supervisor = await runtime.supervise(specs, budget(3, strategy=Strategy.REST_FOR_ONE), name="s")
        await supervisor.terminate_child("before")
        await supervisor.terminate_child("after")

        await crash(runtime.whereis("s/a"))

        assert await states(supervisor) == {"before": "stopped", "a": "running", "after": "running"}


@pytest.mark.parametrize("strategy", GROUPS)
async def test_f6_a_temporary_sibling_does_not_come_back_with_its_group(strategy, autojump_clock, log):
    async with stage() as runtime:
        specs = [child("a", log), child("t", log, restart=RestartType.TEMPORARY), child("b", log)]
        supervisor = await runtime.supervise(specs, budget(3, strategy=strategy), name="s")

        await crash(runtime.whereis("s/a"))

        assert await states(supervisor) == {"a": "running", "b": "running"}


@pytest.mark.parametrize("was_running", [True, False])
async def test_f6_a_sibling_that_is_stopped_after_the_failure_stays_stopped(was_running, autojump_clock, log):
    """OTP would have restarted the group by then, so that the call comes last; here a delay lies between the two."""
    async with stage() as runtime:
        later = budget(3, strategy=Strategy.ONE_FOR_ALL, backoff=Backoff(first_s=10, jitter=0))
        supervisor = await runtime.supervise([child("a", log), child("b", log)], later, name="s")
        if not was_running:
            await supervisor.terminate_child("b")
        await crash(runtime.whereis("s/a"))
        await supervisor.terminate_child("b")
        await trio.sleep(20)

        assert await states(supervisor) == {"a": "running", "b": "stopped"}


async def test_f6_a_sibling_that_fails_while_its_group_starts_is_shown_restarting_and_those_after_it_too(autojump_clock, log):
    """Where we differ from OTP: there the later ones are shown as having no process."""
    failures: list[BaseException] = []

    class Picky(Echo):
        @contextlib.asynccontextmanager
        async def lifespan(self):
            if failures:
                raise failures.pop()
            yield

    async with stage() as runtime:
        later = budget(5, strategy=Strategy.ONE_FOR_ALL, backoff=Backoff(first_s=10, factor=1, jitter=0))
        supervisor = await runtime.supervise([child("a", log), ChildSpec("b", Picky), child("c", log)], later, name="s")
        failures.append(Boom())
        await crash(runtime.whereis("s/a"))
        await trio.sleep(11)

        assert set((await states(supervisor)).values()) == {"restarting"}
        await trio.sleep(11)
        assert set((await states(supervisor)).values()) == {"running"}


class Watcher(Actor):
    def __init__(self, heard: list[Any]) -> None:
        self.heard = heard

    async def receive(self, message: Any) -> None:
        if isinstance(message, Terminated):
            self.heard.append((message.ref.address, message.reason, message.error))
        else:
            self.context.watch(message)


async def test_f6_a_child_that_fails_by_itself_while_its_supervisor_stops_is_told_with_its_error(autojump_clock):
    class DiesAlone(Actor):
        async def receive(self, message: Any) -> None:
            self.context.nursery.start_soon(self.die)

        async def die(self) -> None:
            await trio.sleep(0.5)
            raise Boom("mine")

    class Slow(Echo):
        @contextlib.asynccontextmanager
        async def lifespan(self):
            yield
            await trio.sleep(1)

    async with stage() as runtime:
        heard: list[Any] = []
        watcher = await runtime.spawn(Watcher, heard)
        supervisor = await runtime.supervise([ChildSpec("own", DiesAlone), ChildSpec("slow", Slow)], name="s")
        await watcher.ask(runtime.whereis("s/own"))
        await runtime.whereis("s/own").ask("go")
        await runtime.stop(supervisor)
        await settled()

        [(address, reason, error)] = heard
        assert (address, reason, repr(error)) == ("s/own", StopReason.FAILED, "Boom('mine')")


async def test_f6_a_child_whose_clean_up_fails_in_its_stop_is_told_with_its_error(autojump_clock):
    class Untidy(Echo):
        @contextlib.asynccontextmanager
        async def lifespan(self):
            yield
            raise Boom("clean-up")

    async with stage() as runtime:
        heard: list[Any] = []
        watcher = await runtime.spawn(Watcher, heard)
        untidy = await runtime.spawn(Untidy, name="untidy")
        await watcher.ask(untidy)
        await runtime.stop(untidy)
        await settled()

        assert [(reason, repr(error)) for _, reason, error in heard] == [(StopReason.FAILED, "Boom('clean-up')")]


async def test_f6_start_child_of_an_id_that_is_being_restarted_is_refused_as_already_present(autojump_clock, log):
    async with stage() as runtime:
        later = Supervision(backoff=Backoff(first_s=30, jitter=0))
        supervisor = await runtime.supervise([child("a", log)], later, name="s")
        await crash(runtime.whereis("s/a"))

        with pytest.raises(ChildAlreadyPresent, match="which is being restarted") as caught:
            await supervisor.start_child(child("a", log))

        assert caught.value.child_id == "a"
