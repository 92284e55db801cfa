"""The cell of an actor: its mailbox, its loop, the message in hand, and what becomes of that message on every way out."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable
from functools import partial
from typing import Any, final

import attrs
import trio

from actors.actor import Actor, ActorContext, ActorRef, StopReason
from actors.backoff import Redelivery
from actors.errors import ActorFailed, ActorStartFailed, ActorStopped, AskCycle, DeclarationError
from actors.supervision import ChildSpec, Directive
from runtime.cell import Cell, Exit, ExitKind, Overseer, current_cell
from runtime.dead_letters import DeadReason
from runtime.envelope import Envelope, OneShot
from runtime.events import MessageRedelivering
from runtime.kernel import Kernel
from runtime.lifecycle import State
from runtime.mailbox import Mailbox, MailboxStatistics
from runtime.timekeeper import Timer

FAIRNESS = 64
"""Messages handled in a row before other tasks get their turn."""

ContextMaker = Callable[["ActorCell"], ActorContext]


@final
@attrs.frozen
class ActorStatistics:
    """One look at an actor."""

    address: str
    state: str
    """A word of ``runtime.lifecycle.State``."""
    incarnation: int
    """Lives so far, the present one included; 0 before the first start."""
    restarts: int
    handled: int
    """Messages handled to their end without failure."""
    failed: int
    """Deliveries that crashed the actor."""
    backoff_left_s: float
    """Seconds until the next incarnation; 0.0 unless it waits for one."""
    mailbox: MailboxStatistics


@final
class ActorCell(Cell):
    """Runs the incarnations of one actor. Several cells may share a mailbox (a pool); one of them owns it."""

    __slots__ = (
        "_crash",
        "_current",
        "_failed",
        "_finishing",
        "_handled",
        "_make_context",
        "_owns_mailbox",
        "_redeliveries",
        "_ref",
        "_task",
        "_work",
        "asking",
        "brood",
        "factory",
        "mailbox",
        "redelivery",
    )

    def __init__(
        self,
        kernel: Kernel,
        address: str,
        parent: Overseer,
        spec: ChildSpec,
        make_context: ContextMaker,
        *,
        shared: Mailbox | None = None,
    ) -> None:
        super().__init__(kernel, address, parent, restart=spec.restart, shutdown_s=spec.shutdown_s, significant=spec.significant)
        self.factory: Callable[[], object] = partial(spec.factory, *spec.args) if spec.args else spec.factory
        self.redelivery: Redelivery = spec.redelivery
        self.mailbox = shared if shared is not None else Mailbox(address, spec.mailbox, kernel.dead_letters)
        self.asking: list[ActorCell] = []
        """Whose replies the present handler waits for."""
        self.brood: Cell | None = None
        """The supervisor of the children that this incarnation spawned."""
        self._crash: BaseException | None = None
        self._owns_mailbox = shared is None
        self._make_context = make_context
        self._ref: LocalRef | None = None
        self._task: trio.lowlevel.Task | None = None
        self._work: trio.CancelScope | None = None
        self._current: Envelope | None = None
        self._redeliveries: dict[Envelope, Timer] | None = None
        self._finishing = False
        self._handled = self._failed = 0

    @property
    def ref(self) -> LocalRef:
        """The one ref to this actor; the same object over all incarnations."""
        if self._ref is None:
            self._ref = LocalRef(self)
        return self._ref

    @property
    def task(self) -> trio.lowlevel.Task | None:
        """The task of the present incarnation."""
        return self._task

    # --- one incarnation ------------------------------------------------------------------------------------------------

    async def _live(self) -> None:
        self._task = trio.lowlevel.current_task()
        self._finishing = False
        self._crash = self._current = None
        try:
            actor = self._make()
            # An author may have frozen the class; the context is the runtime's to set all the same.
            object.__setattr__(actor, "context", self._make_context(self))
            if type(actor).lifespan is Actor.lifespan:
                self.mark_started()
                await self._serve(actor)
            else:
                await self._live_within(actor, actor.lifespan())
        finally:
            if self.brood is not None:
                await self._stop_brood(self.brood)
            self._task = None

    async def _stop_brood(self, brood: Cell) -> None:
        with trio.CancelScope(shield=True):
            brood.request_stop(kill=self.scope.cancel_called)
            await brood.wait_exited()
        self.brood = None

    def _make(self) -> Actor:
        actor = self.factory()
        if not isinstance(actor, Actor):
            raise DeclarationError(
                f"the factory of {self.address!r} returned {type(actor).__name__}, expected an Actor.\n"
                "  Mend: give a subclass of actors.Actor, or a function that returns a new instance of one."
            )
        return actor

    async def _live_within(self, actor: Actor, lifespan: contextlib.AbstractAsyncContextManager[None]) -> None:
        """``async with lifespan``, but with a clean-up that cancellation cannot cut short before its time."""
        await lifespan.__aenter__()
        self.mark_started()
        try:
            await self._serve(actor)
        except BaseException as error:
            if isinstance(error, Exception):
                self._settle_unless_redelivered(error)  # its asker need not wait for the clean-up
            suppressed = await self._leave(lifespan, error)
            if not suppressed or isinstance(error, trio.Cancelled):
                raise
        else:
            await self._leave(lifespan, None)

    async def _leave(self, lifespan: contextlib.AbstractAsyncContextManager[None], error: BaseException | None) -> bool:
        deadline = trio.current_time() + self.shutdown_s
        with trio.CancelScope(shield=True, deadline=deadline):
            trace = error.__traceback__ if error is not None else None
            return bool(await lifespan.__aexit__(type(error) if error is not None else None, error, trace))
        return False

    async def _serve(self, actor: Actor) -> None:
        """Handle messages until told to stop.

        The scope inside is what a withdrawn ask cancels; it is renewed then, and only then, because entering one for every
        message would cost as much as the rest of the delivery.
        """
        while not (self.stopping or self._finishing):
            with trio.CancelScope() as self._work:
                await self._drain(actor)
            if self._crash is not None:
                raise self._crash
            if self._current is not None:  # the handling was withdrawn: that is no crash
                self._release()

    async def _drain(self, actor: Actor) -> None:
        mailbox, receive = self.mailbox, actor.receive
        streak = 0
        while not (self.stopping or self._finishing):
            envelope = mailbox.take_nowait()
            if envelope is None:
                streak = 0
                await mailbox.wait()
                continue
            self._current = envelope
            envelope.holder = self
            slot = envelope.slot
            if slot is None:
                try:
                    await receive(envelope.message)
                except Exception as error:
                    if not self._resumes(envelope, error):
                        raise
            elif not await self._answer(receive, envelope):
                return
            self._current = None
            self._handled += 1
            streak += 1
            if streak == FAIRNESS:
                streak = 0
                await trio.lowlevel.checkpoint()

    async def _answer(self, receive: Callable[[Any], Any], envelope: Envelope) -> bool:
        """Handle a message whose sender waits. False when the scope around it was used up by a cancellation."""
        work, slot = self._work, envelope.slot
        assert work is not None and slot is not None, "only a serving cell answers, and only an ask"
        if envelope.deadline != math.inf:
            work.deadline = envelope.deadline
        try:
            value = await receive(envelope.message)
        except Exception as error:
            if not self._resumes(envelope, error):
                raise
        else:
            self._reply(envelope, value)
            envelope.holder = None
            slot.released()
        if envelope.deadline != math.inf:
            work.deadline = math.inf
        if work.cancel_called:
            self._current = None
            return False
        return True

    def _reply(self, envelope: Envelope, value: Any) -> None:
        slot = envelope.slot
        if isinstance(slot, OneShot) and slot.abandoned:
            if value is not None and not envelope.withdrawn:
                late = Envelope(value, self.address, None, trio.current_time())
                self.kernel.dead_letters.add(envelope.sender or "(asker)", DeadReason.LATE_REPLY, late)
        elif slot is not None:
            slot.succeed(value)

    def _resumes(self, envelope: Envelope, error: Exception) -> bool:
        """Whether the supervisor keeps this incarnation in spite of `error`; then the message is settled here."""
        if self.parent.directive(error) is not Directive.RESUME:
            return False
        self._give_up(envelope, error)
        return True

    def let_go(self, envelope: Envelope) -> None:
        """The sender of the message in hand (or of one that waits for redelivery) no longer wants it handled."""
        if self._redeliveries is not None and (timer := self._redeliveries.pop(envelope, None)) is not None:
            timer.cancel()
            envelope.holder = None
            if envelope.slot is not None:
                envelope.slot.released()
        elif envelope is self._current and self._work is not None:
            self._work.cancel()

    def _release(self) -> None:
        envelope, self._current = self._current, None
        if envelope is not None:
            envelope.holder = None
            if envelope.slot is not None:
                envelope.slot.released()

    # --- the end of an incarnation, and of the actor ----------------------------------------------------------------------

    def finish(self) -> None:
        """End this incarnation normally after the message in hand; the restart type decides whether another follows."""
        self._finishing = True
        self._nudge()

    def _nudge(self) -> None:
        if self._task is not None:
            self.mailbox.wake(self._task)

    def _settle(self, exit: Exit, *, revives: bool) -> None:  # noqa: A002
        envelope, self._current = self._current, None
        if envelope is None:
            return
        envelope.holder = None
        if exit.error is None or exit.kind is ExitKind.FATAL:
            if envelope.withdrawn:
                self._let_out(envelope)
            else:
                self.mailbox.bury(envelope)
            return
        envelope.last_error = exit.error
        if envelope.withdrawn:
            self._let_out(envelope)
        elif (revives or not self._owns_mailbox) and self.redelivery.wants(exit.error, envelope.attempt):
            self._failed += 1
            self._redeliver(envelope, exit.error)
        else:
            self._give_up(envelope, exit.error)

    def _settle_unless_redelivered(self, error: Exception) -> None:
        envelope = self._current
        if envelope is not None and not envelope.withdrawn and not self.redelivery.wants(error, envelope.attempt):
            self._current = None
            self._give_up(envelope, error)

    @staticmethod
    def _let_out(envelope: Envelope) -> None:
        if envelope.slot is not None:
            envelope.slot.released()

    def _give_up(self, envelope: Envelope, error: BaseException) -> None:
        self._failed += 1
        self.kernel.dead_letters.add(self.address, DeadReason.FAILED, envelope, error)
        tries = f" (attempt {envelope.attempt} of {self.redelivery.max_attempts})" if envelope.attempt > 1 else ""
        failure = ActorFailed(
            f"{self.address!r} failed while it handled a {type(envelope.message).__name__}{tries}: "
            f"{type(error).__name__}: {error}",
            address=self.address,
        )
        failure.__cause__ = error
        envelope.give_up(failure)

    def _redeliver(self, envelope: Envelope, error: BaseException) -> None:
        delay_s = self.redelivery.backoff.delay_s(envelope.attempt - 1, self.kernel.rng)
        envelope.attempt += 1
        envelope.holder = self
        if self.kernel.events.listening:
            self.kernel.events.publish(
                MessageRedelivering(
                    address=self.address,
                    incarnation=self.incarnation,
                    attempt=envelope.attempt,
                    delay_s=delay_s,
                    error=error,
                )
            )
        if self._redeliveries is None:
            self._redeliveries = {}
        self._redeliveries[envelope] = self.kernel.timekeeper.call_after(delay_s, partial(self._deliver_again, envelope))

    def _deliver_again(self, envelope: Envelope) -> None:
        if self._redeliveries is not None and self._redeliveries.pop(envelope, None) is not None:
            self.mailbox.put_beyond(envelope, first=True)

    def _close(self) -> None:
        waiting, self._redeliveries = self._redeliveries or {}, None
        for envelope, timer in waiting.items():
            timer.cancel()
            if self._owns_mailbox:
                self.mailbox.bury(envelope)
            else:
                self.mailbox.put_beyond(envelope, first=True)
        if self._owns_mailbox:
            self.mailbox.close()

    def reopen(self) -> None:
        """Take messages again."""
        self.mailbox.reopen()

    # --- Overseer of the supervisor of its own children -------------------------------------------------------------------

    def crash(self, error: BaseException) -> None:
        """Fail this incarnation with `error` although its handler did not raise."""
        if self._crash is None:
            self._crash = error
        if self._work is not None:
            self._work.cancel()

    def child_exited(self, cell: Cell, exit: Exit) -> None:  # noqa: A002
        """The supervisor of the children has ended: a failure of it is a failure of this actor."""
        cell.end(StopReason.FAILED if exit.error else StopReason.STOPPED, exit.error)
        if cell is self.brood and exit.error is not None:
            self.crash(exit.error)

    def child_ended(self, cell: Cell) -> None:
        """Nothing to forget: the next incarnation makes a supervisor of its own."""

    def directive(self, error: BaseException) -> Directive:
        """The children's supervisor is not restarted by itself."""
        return Directive.ESCALATE

    def run_beside(self, function: Callable[..., Any], *args: Any) -> None:
        """Run an async function in the nursery of this actor's supervisor."""
        self.parent.run_beside(function, *args)

    # --- asks -----------------------------------------------------------------------------------------------------------

    async def ask(self, message: Any, *, detach: bool) -> Any:
        """See ``ActorRef.ask``."""
        caller = current_cell.get()
        asker = caller if isinstance(caller, ActorCell) else None
        if asker is not None:
            self._refuse_cycle(asker)
        slot = OneShot()
        sender = caller.address if caller is not None else None
        deadline = math.inf if detach else trio.current_effective_deadline()
        envelope = Envelope(message, sender, slot, trio.current_time(), deadline)
        if asker is not None:
            asker.asking.append(self)
        try:
            await self.mailbox.put(envelope)
            return await slot.wait(None if detach else envelope.withdraw)
        finally:
            if asker is not None:
                asker.asking.remove(self)

    def _refuse_cycle(self, asker: ActorCell) -> None:
        """Raise when `asker`, by waiting for this actor, would wait for itself."""
        trail = self._trail_to(asker, [])
        if trail is None:
            return
        cycle = [asker.address, *(cell.address for cell in trail)]
        if len(cycle) == 2:
            text = f"{asker.address!r} asks itself: it handles one message at a time, so the answer could never come."
        else:
            text = f"this ask closes a cycle of actors that wait for each other: {' -> '.join(cycle)}."
        raise AskCycle(
            f"{text}\n  Mend: tell() instead of ask() on one side, answer later with context.reply_later(), "
            "or do the work in a method.",
            cycle=cycle,
        )

    def _trail_to(self, target: ActorCell, seen: list[ActorCell]) -> list[ActorCell] | None:
        if self is target:
            return [*seen, self]
        if self in seen:
            return None
        for cell in self.asking:
            trail = cell._trail_to(target, [*seen, self])
            if trail is not None:
                return trail
        return None

    def statistics(self) -> ActorStatistics:
        """One look at this actor; see :class:`ActorStatistics`."""
        timer = self.retry_timer if self.state is State.BACKING_OFF else None
        return ActorStatistics(
            address=self.address,
            state=self.state.value,
            incarnation=self.incarnation,
            restarts=self.restarts,
            handled=self._handled,
            failed=self._failed,
            backoff_left_s=max(0.0, timer.deadline - trio.current_time()) if timer is not None else 0.0,
            mailbox=self.mailbox.statistics(),
        )


@final
class LocalRef(ActorRef[Any]):
    """The ref to an actor of this runtime. One per cell, so identity is equality."""

    __slots__ = ("__weakref__", "cell")

    def __init__(self, cell: ActorCell) -> None:
        self.cell = cell

    @property
    def address(self) -> str:
        """The actor's name within its runtime."""
        return self.cell.address

    async def tell(self, message: Any) -> None:
        """See ``ActorRef.tell``."""
        # Cancelled here: not sent. After the put: sent, so no cancellation may hide that.
        await trio.lowlevel.checkpoint_if_cancelled()
        await self.cell.mailbox.put(_told(message))
        await trio.lowlevel.cancel_shielded_checkpoint()

    def tell_nowait(self, message: Any) -> None:
        """See ``ActorRef.tell_nowait``."""
        self.cell.mailbox.put_nowait(_told(message))

    async def ask(self, message: Any, *, detach: bool = False) -> Any:
        """See ``ActorRef.ask``."""
        return await self.cell.ask(message, detach=detach)

    def statistics(self) -> ActorStatistics:
        """One look at the actor; see :class:`ActorStatistics`."""
        return self.cell.statistics()

    def __repr__(self) -> str:
        return f"<ActorRef {self.cell.address!r} {self.cell.state.value}>"

    def __reduce__(self) -> Any:
        raise TypeError(
            f"the ref to {self.cell.address!r} is bound to a running runtime and cannot be pickled.\n"
            "  Mend: send its address, and look it up there with runtime.whereis(address)."
        )


def _told(message: Any) -> Envelope:
    caller = current_cell.get()
    return Envelope(message, caller.address if caller is not None else None, None, trio.current_time())


def start_failed(address: str, error: BaseException | None) -> ActorStartFailed:
    """The error for a start that did not come about."""
    if error is None:
        return ActorStartFailed(f"{address!r} was stopped while it started.", address=address)
    failure = ActorStartFailed(
        f"{address!r} did not start: {type(error).__name__}: {error}\n"
        "  Mend: see the cause below; its factory or its lifespan raised before the first message.",
        address=address,
    )
    failure.__cause__ = error
    return failure


def stopped(address: str) -> ActorStopped:
    """The error for a call to something that has stopped for good."""
    return ActorStopped(f"{address!r} has stopped.", address=address)
