"""The actors of a runtime: they are started, stopped, found, and told what is published."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Hashable, Iterable
from typing import Any, Unpack

from actors.actor import Actor, ActorRef, SpawnOptions
from actors.errors import UnderstudyError, UsageError
from actors.restarts import RestartType
from actors.supervision import ChildSpec, Supervision, SupervisorRef, SupervisorSpec, supervisor_spec
from actors.typevars import M, Out
from runtime.core.cell import Cell, current_cell
from runtime.core.refs import LocalRef, not_a_ref
from runtime.core.spawning import spawn_under
from runtime.core.supervisor import SupervisorCell
from runtime.core.supervisor_ref import LocalSupervisorRef
from runtime.core.task_handle import TaskHandle, start_task
from runtime.core.tracebacks import without_frames
from runtime.parts.part import RuntimeParts


class RuntimeActors(RuntimeParts):
    """Actors under a root supervisor, and the bus between them."""

    async def spawn(
        self,
        factory: Callable[..., Actor[M]],
        *args: Any,
        name: str | None = None,
        **options: Unpack[SpawnOptions],
    ) -> ActorRef[M]:
        """Start ``factory(*args)`` as an actor under the root supervisor; return once its lifespan was entered.

        `name` is its address (default: made from the factory's name). A failure of this first start is the caller's and is not
        retried. Cancelled, nothing remains.

        Raises:
            ActorStartFailed: the factory or the lifespan raised; the cause is chained.
            ChildAlreadyStarted: the name is taken.
        """
        try:
            return await spawn_under(self._root, factory, args, name, options)
        except UnderstudyError as error:
            raise without_frames(error)  # noqa: B904 - the same error

    async def supervise(
        self,
        children: Iterable[ChildSpec | SupervisorSpec],
        supervision: Supervision | None = None,
        name: str | None = None,
        restart: RestartType = RestartType.PERMANENT,
    ) -> SupervisorRef:
        """Start a supervisor with `children`, in order; return once all have started.

        Raises:
            ActorStartFailed: one did not start; those before it were stopped in reverse order.
            DeclarationError: the children or their options do not fit together.
        """
        child_id = name if name is not None else self._root.children.free_name("supervisor")
        try:
            cell = await self._root.start_child(supervisor_spec(child_id, children, supervision, restart=restart))
        except UnderstudyError as error:
            raise without_frames(error)  # noqa: B904 - the same error
        assert isinstance(cell, SupervisorCell), "a SupervisorSpec makes a supervisor"
        return cell.ref

    async def task(
        self,
        function: Callable[..., Awaitable[Out]],
        *args: Any,
        name: str | None = None,
        shutdown_s: float | None = None,
    ) -> TaskHandle[Out]:
        """Run ``function(*args)`` once beside everything else; return as soon as it has begun.

        It runs as an actor under the root supervisor that is never restarted: it has a name, a place in the tree and in the
        events, and ends with the runtime, which gives it `shutdown_s` seconds (5 by default) to finish. ``handle.result()`` waits
        for what it returns. A failure is in the result, in the events and in the dead letters, and ends nothing else.

        Raises:
            UsageError: `function` isn't a function. ChildAlreadyStarted: the name is taken.
        """
        return await start_task(self._root, function, args, name, shutdown_s)

    async def stop(self, ref: ActorRef[Any] | SupervisorRef) -> None:
        """Stop an actor or a supervisor permanently; return when it has stopped, its clean-up included.

        It finishes the current message and turns the others into dead letters. Stopped already: no effect.

        Raises:
            UsageError: `ref` is of another runtime, or the caller runs inside what it wants to stop.
        """
        cell, supervisor = self._supervised(ref)
        if supervisor is not None:
            await supervisor.terminate(cell, discard=True)

    async def restart(self, ref: ActorRef[Any] | SupervisorRef) -> None:
        """Stop an actor or a supervisor and start it again; return when it runs. What an operator does to one that is stuck.

        It finishes the current message within its ``shutdown_s`` and turns the others into dead letters, as :meth:`stop` does.
        One that waits for its restart is started immediately. Refs to it stay valid, and no restart is counted.

        Raises:
            UsageError: `ref` is of another runtime, the caller runs inside what it wants to restart, or it is never started
                again: its restart is temporary. ActorStartFailed: it did not start again; it remains stopped.
        """
        cell, supervisor = self._supervised(ref)
        if supervisor is None or cell.restart is RestartType.TEMPORARY:
            raise UsageError(
                f"{cell.address!r} is started once and never again.\n"
                "  Fix: spawn another one, or spawn it with restart=RestartType.PERMANENT."
            )
        await supervisor.terminate(cell, discard=False)
        await supervisor.restart_child(cell.address.rpartition("/")[2])

    def _supervised(self, ref: ActorRef[Any] | SupervisorRef) -> tuple[Cell, SupervisorCell | None]:
        """The cell of `ref`, which the caller wants to end, and the supervisor that it is below."""
        if not isinstance(ref, LocalRef | LocalSupervisorRef) or ref.cell.services is not self._services:
            raise not_a_ref(ref, "ref of this runtime", "spawn() or supervise()")
        cell = ref.cell
        caller = current_cell.get()
        if caller is not None and f"{caller.address}/".startswith(f"{cell.address}/"):
            raise UsageError(
                f"{caller.address!r} would wait for its own end.\n  Fix: self.context.stop() requests it and returns immediately."
            )
        assert isinstance(cell, Cell), "each ref of a runtime is that of a cell"
        return cell, cell.parent if isinstance(cell.parent, SupervisorCell) else None

    def whereis(self, name: str) -> ActorRef[Any] | SupervisorRef | None:
        """The ref to the actor or supervisor of that address; None when there is none. The same over restarts."""
        found = self._services.registry.get(name)
        return found.ref if found is not None else None

    def subscribe(self, kind: type, ref: ActorRef[Any], *, topic: Hashable | None = None) -> None:
        """Send the actor every message of type `kind`, or of a class derived from it, that is published from now on.

        With a `topic`, only those that are published under it; ``object`` as `kind` takes all of them. Once each, however often
        it subscribed. The subscription survives restarts and ends with the actor.
        """
        self._bus.subscribe(kind, self._mailed(ref), topic)

    def unsubscribe(self, kind: type, ref: ActorRef[Any], *, topic: Hashable | None = None) -> None:
        """Undo :meth:`subscribe` with the same arguments; without effect if it was not."""
        self._bus.unsubscribe(kind, self._mailed(ref), topic)

    def publish(self, message: Any, *, topic: Hashable | None = None, everywhere: bool = False) -> int:
        """Put `message` into the mailbox of every subscriber of its type; returns to how many. Never blocks.

        Under a `topic` (any hashable value) it goes to those who subscribed to that topic, and to those who subscribed to the
        type without one. A mailbox without room applies its policy; where that would block or reject, the message is a dead
        letter.

        With `everywhere`, other runtimes that have the same store open do the same, at most once each and about 50 ms later. What
        does not reach them is not tried again. The number is that of subscribers here. Without a store, or with one for a
        single process, here is everywhere.

        Raises:
            NotPortable: with `everywhere`, the message cannot go to another process. MessageTooLarge: it has more than 1 MiB.
        """
        return self._everywhere.publish(message, topic) if everywhere else self._bus.publish(message, topic)
