"""Every public await is cancelled at each of its checkpoints: nothing is lost, leaked or wedged."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest
import trio
import trio.testing

from actors import ActorError, ChildSpec, MailboxSpec, SupervisionError
from tests.runtime.cast import PATIENT, Boom, Does, Echo, Recorder, child, stage


class CancelAtStep(trio.abc.Instrument):
    """Cancels a scope once its task has been scheduled so many times."""

    def __init__(self, steps: int) -> None:
        self.left = steps
        self.scope = trio.CancelScope()
        self.task: Any = None

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        if task is self.task:
            self.left -= 1
            if self.left == 0:
                self.scope.cancel()


async def cancelled_at(step: int, operate: Any) -> bool:
    """Run `operate()`, cancelling it at its step number `step`; whether it was cancelled before it was done."""
    instrument = CancelAtStep(step)

    async def run() -> None:
        instrument.task = trio.lowlevel.current_task()
        with instrument.scope:
            await trio.lowlevel.checkpoint()
            with contextlib.suppress(ActorError, SupervisionError):
                await operate()

    trio.lowlevel.add_instrument(instrument)
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(run)
    finally:
        trio.lowlevel.remove_instrument(instrument)
    return instrument.scope.cancelled_caught


def slow_child(log):
    class Slow(Recorder):
        @contextlib.asynccontextmanager
        async def lifespan(self):
            for _ in range(3):
                await trio.sleep(1)
            yield
            for _ in range(3):
                await trio.sleep(0.1)

    return ChildSpec("slow", Slow, (log,))


OPERATIONS: dict[str, Any] = {
    "tell": lambda s: s.ref.tell("x"),
    "tell that blocks": lambda s: s.full.tell("x"),
    "ask": lambda s: s.ref.ask(("sleep", 1)),
    "ask that blocks": lambda s: s.full.ask("x"),
    "ask that fails": lambda s: s.ref.ask(("raise", Boom())),
    "detached ask": lambda s: s.ref.ask(("sleep", 1), detach=True),
    "spawn": lambda s: s.runtime.spawn(slow_child([]).factory, [], name="slow"),
    "supervise": lambda s: s.runtime.supervise([child("a", []), slow_child([])], name="more"),
    "stop": lambda s: s.runtime.stop(s.ref),
    "stop supervisor": lambda s: s.runtime.stop(s.supervisor),
    "start_child": lambda s: s.supervisor.start_child(slow_child([])),
    "terminate_child": lambda s: s.supervisor.terminate_child("a"),
    "restart_child": lambda s: s.supervisor.restart_child("stopped"),
    "delete_child": lambda s: s.supervisor.delete_child("stopped"),
    "which_children": lambda s: s.supervisor.which_children(),
    "count_children": lambda s: s.supervisor.count_children(),
    "context.spawn": lambda s: s.spawner.ask("spawn"),
}


class Scene:
    """A runtime with actors in all kinds of situations."""

    async def set(self, runtime):
        self.runtime = runtime
        self.ref = await runtime.spawn(Recorder, [], name="ref")
        self.full = await runtime.spawn(Recorder, [], name="full", mailbox=MailboxSpec(capacity=1))
        self.full.tell_nowait(("sleep", 2))
        await trio.testing.wait_all_tasks_blocked(0.001)
        self.full.tell_nowait("queued")
        self.supervisor = await runtime.supervise([child("a", []), child("stopped", [])], name="s")
        await self.supervisor.terminate_child("stopped")
        self.spawner = await runtime.spawn(Does, self.spawn_slowly, name="spawner")

    @staticmethod
    async def spawn_slowly(actor, message):
        await actor.context.spawn(slow_child([]).factory, [], name="slow")

    async def inspect(self):
        """Everything is served as if nothing had been, and no start is left half done."""
        await trio.sleep(20)
        assert await self.full.ask("again") == "again"
        for name, statistics in self.runtime.statistics().actors.items():
            assert statistics.state == "running", name
            assert (statistics.mailbox.depth, statistics.mailbox.blocked_senders) == (0, 0), name
        for info in await self.supervisor.which_children():
            assert info.state in ("running", "stopped")
        if self.runtime.whereis("ref") is not None:
            assert await self.ref.ask("again") == "again"
            assert self.ref.cell.asking == []
        with contextlib.suppress(ActorError, SupervisionError):
            await self.runtime.spawn(Echo, name="slow")


@pytest.mark.parametrize("operation", OPERATIONS)
async def test_it_is_cancelled_at_every_checkpoint_and_harms_nothing(operation, virtual_clock):
    for step in range(1, 40):
        scene = Scene()
        async with stage(supervision=PATIENT) as runtime:
            await scene.set(runtime)
            was_cancelled = await cancelled_at(step, lambda scene=scene: OPERATIONS[operation](scene))
            await scene.inspect()
        assert runtime.statistics().actors == {}
        if not was_cancelled:
            break
    else:
        pytest.fail("it never finishes")


@pytest.mark.parametrize("operation", ["tell", "tell that blocks"])
async def test_a_cancelled_tell_was_not_sent_and_a_finished_one_was(operation, virtual_clock):
    for step in range(1, 10):
        scene = Scene()
        async with stage(supervision=PATIENT) as runtime:
            await scene.set(runtime)
            ref = scene.ref if operation == "tell" else scene.full
            was_cancelled = await cancelled_at(step, lambda ref=ref: ref.tell("told"))
            await trio.sleep(5)
            actor_log = ref.cell.factory.args[0]

            assert [what for _, what in actor_log if what == "told"] == ([] if was_cancelled else ["told"])
        if not was_cancelled:
            return
    pytest.fail("it never finishes")
