"""What an actor can ask of the runtime, for one incarnation."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Hashable
from typing import Any, Final, Unpack, final

import trio

from actors.actor import Actor, ActorContext, ActorNursery, ActorRef, Reply, SpawnOptions, Terminated
from actors.argument_checks import is_seconds
from actors.errors import UnderstudyError, UsageError
from actors.factories import check_handler
from actors.supervision import Supervision, supervisor_spec
from actors.typevars import M
from actors.words import repr_of
from runtime.core.actor_cell import ActorCell
from runtime.core.cell import Cell
from runtime.core.envelope import Envelope
from runtime.core.mailbox import Mailbox
from runtime.core.refs import LocalRef, not_a_ref
from runtime.core.spawning import spawn_under
from runtime.core.supervisor import SupervisorCell
from runtime.core.supervisor_ref import LocalSupervisorRef
from runtime.core.tasks import ActorTasks
from runtime.core.timers import KeyedTimers
from runtime.core.tracebacks import without_frames

_HANDLER: Final = "async def …(message) for what it becomes."


@final
class LocalContext(ActorContext):
    """The context of an actor of this runtime."""

    __slots__ = ("_cell", "_closed", "_incarnation", "_supervisor", "_tasks", "_timers", "_watches")

    def __init__(self, cell: ActorCell) -> None:
        self._cell = cell
        self._incarnation = cell.incarnation
        self._closed = False
        self._supervisor: SupervisorCell | None = None
        self._tasks: ActorTasks | None = None
        self._timers: KeyedTimers | None = None
        self._watches: dict[Cell, _Watch] | None = None

    @property
    def ref(self) -> ActorRef[Any]:
        """This actor's own ref."""
        return self._cell.ref

    @property
    def incarnation(self) -> int:
        """Which life of the actor this is, counted from 1."""
        return self._incarnation

    @property
    def fence(self) -> int:
        """See ``ActorContext.fence``."""
        return self._cell.fence

    @property
    def parent(self) -> Any:
        """The ref of what supervises this actor; None under the root."""
        overseer = self._cell.parent
        if isinstance(overseer, SupervisorCell) and isinstance(overseer.parent, ActorCell):
            return overseer.parent.ref
        return overseer.ref if isinstance(overseer, SupervisorCell) and overseer.address else None

    @property
    def runtime(self) -> Any:
        """The runtime that runs this actor."""
        return self._cell.services.facade

    # --- children ---------------------------------------------------------------------------------------------------------

    async def spawn(
        self,
        factory: Callable[..., Actor[M]],
        *args: Any,
        name: str | None = None,
        **options: Unpack[SpawnOptions],
    ) -> ActorRef[M]:
        """See ``ActorContext.spawn``."""
        self.reject_when_closed("it starts no children")
        supervisor = self._supervisor if self._supervisor is not None else self._open_supervisor()
        await supervisor.wait_started()
        try:
            return await spawn_under(supervisor, factory, args, name, options)
        except UnderstudyError as error:
            raise without_frames(error)  # noqa: B904 - the same error

    def open_supervisor(self, supervision: Supervision) -> SupervisorCell:
        """A supervisor for the children, before the first of them is spawned."""
        assert self._supervisor is None, "it has no children yet"
        return self._open_supervisor(supervision)

    def _open_supervisor(self, supervision: Supervision | None = None) -> SupervisorCell:
        cell = self._cell
        spec = supervisor_spec("children", (), supervision)
        supervisor = SupervisorCell(cell.services, cell.address, cell, spec, LocalContext, registered=False)
        self._supervisor = cell.own_supervisor = supervisor
        supervisor.launch(cell.run_beside)
        return supervisor

    def stop(self, ref: ActorRef[Any] | None = None) -> None:
        """See ``ActorContext.stop``."""
        if ref is None or ref is self._cell.ref:
            self.reject_when_closed("there is nothing to stop")
            self._cell.finish()
        else:
            cell = _cell_of(ref)
            if isinstance(cell.parent, SupervisorCell):
                cell.parent.dismiss(cell, discard=True)

    # --- others -----------------------------------------------------------------------------------------------------------

    def watch(self, ref: Any) -> None:
        """See ``ActorContext.watch``."""
        self.reject_when_closed("it watches no actor")
        cell = _cell_of(ref)
        if self._watches is None:
            self._watches = {}
        if cell not in self._watches:
            self._watches[cell] = watch = _Watch(self._cell.mailbox, cell)
            watch.begin()

    def unwatch(self, ref: Any) -> None:
        """See ``ActorContext.unwatch``."""
        cell = _cell_of(ref)
        watch = self._watches.pop(cell, None) if self._watches is not None else None
        if watch is not None:
            watch.end()

    # --- time -------------------------------------------------------------------------------------------------------------

    def schedule_once(self, delay_s: float, message: Any, key: Hashable | None = None) -> None:
        """See ``ActorContext.schedule_once``."""
        if not is_seconds(delay_s):
            raise UsageError(f"schedule_once({repr_of(delay_s)}): expected seconds >= 0.\n  Fix: a delay of 0 or more.")
        self._open_timers().set(key, delay_s, message)

    def schedule_every(self, interval_s: float, message: Any, key: Hashable | None = None) -> None:
        """See ``ActorContext.schedule_every``."""
        if not is_seconds(interval_s, zero=False):
            raise UsageError(f"schedule_every({repr_of(interval_s)}): expected seconds > 0.\n  Fix: an interval above 0.")
        self._open_timers().set(key, interval_s, message, interval_s)

    def cancel(self, key: Hashable) -> bool:
        """See ``ActorContext.cancel``."""
        return self._timers is not None and self._timers.cancel(key)

    def _open_timers(self) -> KeyedTimers:
        self.reject_when_closed("it sets no timers")
        if self._timers is None:
            cell = self._cell
            self._timers = KeyedTimers(cell.services.timekeeper, cell.mailbox, cell.address)
        return self._timers

    # --- handling ---------------------------------------------------------------------------------------------------------

    def stash(self) -> None:
        """See ``ActorContext.stash``."""
        self.reject_when_closed("it has no current message")
        self._cell.hand.stash()

    def unstash_all(self) -> None:
        """See ``ActorContext.unstash_all``."""
        self.reject_when_closed("its stash was put back")
        self._cell.hand.unstash_all()

    def become(self, handler: Callable[[Any], Awaitable[Any]]) -> None:
        """See ``ActorContext.become``."""
        self.reject_when_closed("it handles no more messages")
        check_handler(handler, f"become({getattr(handler, '__name__', '…')}) of {self._cell.address!r}: the handler", _HANDLER)
        self._cell.become(handler)

    def fail(self, error: Exception) -> None:
        """See ``ActorContext.fail``."""
        self.reject_when_closed("it has no current message")
        self._cell.hand.fail(error)

    def unhandled(self, message: Any) -> None:
        """See ``ActorContext.unhandled``."""
        self.reject_when_closed("it has no current message")
        self._cell.hand.unhandled(message)

    def heartbeat(self) -> None:
        """See ``ActorContext.heartbeat``."""
        self.reject_when_closed("it has no current message")
        self._cell.heartbeat()

    def reply_later(self) -> Reply[Any]:
        """See ``ActorContext.reply_later``."""
        self.reject_when_closed("it has no current message")
        return self._cell.hand.reply_later()

    @property
    def nursery(self) -> ActorNursery:
        """See ``ActorContext.nursery``."""
        if self._tasks is None:
            self._tasks = ActorTasks(self._cell.address, self._cell, self._cell.crash)
        return self._tasks

    # --- the end ----------------------------------------------------------------------------------------------------------

    def reject_when_closed(self, consequence: str) -> None:
        """Raise ``UsageError`` if its incarnation has ended; `consequence` tells what does not happen then."""
        if self._closed:
            raise UsageError(
                f"incarnation {self._incarnation} of {self._cell.address!r} has ended, so {consequence}.\n"
                "  Fix: keep no context beyond the actor's lifespan."
            )

    async def close(self, *, kill: bool) -> None:
        """End what the incarnation has started; see ``Closable.close``. Nothing happens the second time."""
        self._closed = True
        if self._watches is not None:
            for watch in self._watches.values():
                watch.end()
            self._watches = None
        if self._timers is not None:
            self._timers.clear()
        if self._tasks is not None:
            await self._tasks.close()
        if self._supervisor is not None:
            await self._close_supervisor(self._supervisor, kill=kill)

    async def _close_supervisor(self, supervisor: SupervisorCell, *, kill: bool) -> None:
        # The children's time is their parent's: when that is over they are killed, and only their clean-up is waited for.
        # Without it test_PK_S11_children_stop_before_the_next_incarnation_and_before_the_lifespan_is_left breaks.
        supervisor.request_stop(kill=kill)
        with trio.CancelScope(shield=True, deadline=self._cell.scope.deadline):
            await supervisor.wait_exited()
        supervisor.request_stop(kill=True)
        with trio.CancelScope(shield=True):
            await supervisor.wait_exited()
        self._supervisor = self._cell.own_supervisor = None

    def kill(self) -> None:
        """See ``Closable.kill``."""
        if self._supervisor is not None and self._closed:
            self._supervisor.request_stop(kill=True)


def _cell_of(ref: object) -> Cell:
    if isinstance(ref, LocalRef | LocalSupervisorRef) and isinstance(ref.cell, Cell):
        return ref.cell
    raise not_a_ref(ref, "ref of this runtime", "spawn() or supervise()")


@final
class _Watch:
    """Puts one ``Terminated`` into a mailbox, ahead of the messages there, when the watched cell is gone permanently."""

    __slots__ = ("_mailbox", "_signal", "_watched")

    def __init__(self, mailbox: Mailbox, watched: Cell) -> None:
        self._mailbox = mailbox
        self._watched = watched
        self._signal: Envelope | None = None

    def begin(self) -> None:
        """Wait for the end; report it immediately if it has come already."""
        self._watched.on_end(self._report)

    def _report(self, end: Terminated) -> None:
        self._signal = Envelope(end, self._watched.address, None, trio.current_time())
        self._mailbox.put_urgent(self._signal)

    def end(self) -> None:
        """Report nothing any more, and take back a report that is still queued."""
        self._watched.forget_on_end(self._report)
        if self._signal is not None and self._signal.holder is self._mailbox:
            self._signal.withdraw()
