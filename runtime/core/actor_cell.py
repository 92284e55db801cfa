"""The cell of an actor: its incarnations, and the loop in which each handles its messages."""

from __future__ import annotations

import contextlib
import inspect
import math
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, Protocol, cast, final

import trio

from actors.actor import Actor, StopReason
from actors.errors import ActorFailed, ActorStartFailed, ActorStopped, UsageError
from actors.factories import check_lifespan, checked, context_too_early
from actors.groups import is_fatal, leaves_of
from actors.supervision import ChildSpec, Directive
from actors.words import said
from runtime.core.cell import Cell, Overseer
from runtime.core.envelope import Envelope
from runtime.core.foreign_errors import failure_in
from runtime.core.hand import Hand
from runtime.core.idleness import Idleness
from runtime.core.incarnation import Exit
from runtime.core.lifecycle import State
from runtime.core.mailbox import Mailbox
from runtime.core.refs import ActorStatistics, LocalRef
from runtime.core.services import Services
from runtime.core.tracebacks import raised_at, trim

_NEVER = math.inf
FAIRNESS = 64
"""Messages handled in a row before other tasks get their turn."""


class Closable(Protocol):
    """What a cell needs of the context that it gives to an incarnation."""

    async def close(self, *, kill: bool) -> None:
        """End what the incarnation has started: timers, watches, tasks, children. Only the last two take time."""
        ...

    def kill(self) -> None:
        """Cancel the children whose stop ``close`` waits for."""
        ...


ContextMaker = Callable[["ActorCell"], Closable]
"""Makes the context of an incarnation. Handed down from above: a context starts children, so it knows supervisors, and those
know this file."""


@final
class ActorCell(Cell):
    """Runs the incarnations of one actor. Several cells may share a mailbox (a pool); one of them owns it."""

    __slots__ = (
        "_actor",
        "_context",
        "_crash",
        "_finishing",
        "_idleness",
        "_make_context",
        "_receive",
        "_ref",
        "_task",
        "factory",
        "fence",
        "hand",
        "mailbox",
        "own_supervisor",
    )

    def __init__(
        self,
        services: Services,
        address: str,
        parent: Overseer,
        spec: ChildSpec,
        make_context: ContextMaker,
        *,
        shared: Mailbox | None = None,
    ) -> None:
        super().__init__(
            services, address, parent, restart=spec.restart, shutdown_s=spec.shutdown_s, significant=spec.significant
        )
        self.mailbox = mailbox = shared if shared is not None else Mailbox(address, spec.mailbox, services.dead_letters)
        """Belongs to the address, as the hand does: both stay over restarts."""
        self.hand = Hand(self, mailbox, spec.redelivery, owns_mailbox=shared is None)
        self.factory: Callable[[], object] = partial(spec.factory, *spec.args) if spec.args else spec.factory
        self._idleness = Idleness(address, spec.idle_timeout_s) if spec.idle_timeout_s is not None else None
        self.fence = 0
        """See ``ActorContext.fence``; set before the first start."""
        self.own_supervisor: Cell | None = None
        """The supervisor of the children that this incarnation spawned."""
        self._actor: Actor | None = None
        self._context: Closable | None = None
        self._receive: Callable[[Any], Awaitable[Any]] | None = None
        self._crash: BaseException | None = None
        self._make_context = make_context
        self._ref: LocalRef | None = None
        self._task: trio.lowlevel.Task | None = None
        self._finishing = False

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

    @property
    def is_blameless(self) -> bool:
        """See ``Cell.is_blameless``: an instance that shares a mailbox with others holds no state."""
        return not self.hand.owns_mailbox and self.hand.envelope is not None

    # --- one incarnation ------------------------------------------------------------------------------------------------

    @trio.lowlevel.disable_ki_protection  # Ctrl-C must end a handler that runs for ever
    async def _live(self) -> None:
        self._task = trio.lowlevel.current_task()
        self._finishing = False
        self._crash = self.hand.envelope = None
        self._context = context = self._make_context(self)
        if self.incarnation == 1 and not self.hand.owns_mailbox:
            self.mailbox.came()
        try:
            self._actor = actor = self._make()
            self._receive = self._watched(actor.receive)
            # An author may have frozen the class; the runtime sets the context even then.
            object.__setattr__(actor, "context", context)
            if type(actor).lifespan is Actor.lifespan:
                self.mark_started()
                await self._lie_idle()
                await self._serve()
            else:
                lifespan = actor.lifespan()
                check_lifespan(lifespan, actor)
                await self._live_within(lifespan)
        except trio.Cancelled:
            failure = self._failure_to_start()
            if failure is None:
                raise
            raise failure from None
        finally:
            await context.close(kill=self.scope.cancel_called)
            self._let_actor_go()
            interrupt = self._interrupt()
            if interrupt is not None:  # the handler may have made another error of it: of a child that it was starting, say
                raise interrupt

    def _failure_to_start(self) -> BaseException | None:
        return self._crash if self.started_at is None else None

    def _interrupt(self) -> BaseException | None:
        return self._crash if self._crash is not None and _ends_all(self._crash) else None

    def _let_actor_go(self) -> None:
        """The incarnation has ended."""
        self._actor = self._context = self._receive = self._task = None
        self.hand.put_back()
        self.mailbox.hand_over()

    def _watched(self, handler: Callable[[Any], Awaitable[Any]]) -> Callable[[Any], Awaitable[Any]]:
        """The handler within its limits, as the test harness wants it; itself without limits and outside of tests."""
        if self._idleness is not None:
            handler = self._idleness.bounding(handler)
        around = self.services.around_receive
        return handler if around is None else around(self.address, handler)

    def _make(self) -> Actor:
        try:
            actor = self.factory()
        except AttributeError as error:
            early = context_too_early(error)
            if early is None:
                raise
            raise early from error
        if type(actor) is self.factory:  # nearly always: the class itself, which its spec has looked at
            return cast("Actor", actor)
        return checked(actor, self.address)

    async def _live_within(self, lifespan: contextlib.AbstractAsyncContextManager[None]) -> None:
        """``async with lifespan``, but with a clean-up that cancellation cannot cut short before its time."""
        # Around all of it, because a scope or a nursery that the lifespan holds open must be left within what it was entered in.
        ended: BaseException | None = None
        with trio.CancelScope() as scope:
            await lifespan.__aenter__()
            self.mark_started()
            try:
                await self._serve()
            except BaseException as error:  # noqa: BLE001 - raised below, no matter what becomes of the clean-up
                ended = error
                failure = failure_in(error)
                if failure is not None:
                    # Its asker need not wait for the clean-up: test_the_error_reaches_the_asker_before_the_clean_up_of_the_actor.
                    self.hand.settle_unless_redelivered(failure)
            await self._leave(lifespan, ended, scope)
        if ended is not None:
            raise ended

    async def _leave(
        self, lifespan: contextlib.AbstractAsyncContextManager[None], error: BaseException | None, scope: trio.CancelScope
    ) -> None:
        """Leave the lifespan, which cannot suppress `error`: what follows from it is the supervisor's decision."""
        if self._context is not None:
            await self._context.close(kill=self.scope.cancel_called)
        scope.shield, scope.deadline = True, trio.current_time() + self.shutdown_s
        trace = error.__traceback__ if error is not None else None
        await lifespan.__aexit__(type(error) if error is not None else None, error, trace)

    async def _lie_idle(self) -> None:
        """Wait for the first message outside the scope of ``_serve``: until then there is nothing that it could cancel."""
        while not (self.mailbox or self.stopping or self._finishing):
            await self.mailbox.wait()

    async def _serve(self) -> None:
        """Handle messages until told to stop.

        The scope inside is what a withdrawn ask cancels; it is renewed then, and only then, because entering one for every
        message would cost as much as the rest of the delivery.
        """
        hand = self.hand
        while not (self.stopping or self._finishing):
            with trio.CancelScope() as hand.work:
                await self._drain()
            # The handling was withdrawn, which isn't a crash; test_an_ask_whose_deadline_was_moved_after_the_sending_still_ends.
            if self._crash is None and hand.envelope is not None:
                hand.release()
        if self._crash is not None:
            raise self._crash

    async def _drain(self) -> None:
        """Handle one message after the other, and wait when there is none.

        What comes first: a kill, which cancels what this awaits; the end, looked for before each message; a signal
        (``Terminated``); what was redelivered or unstashed; messages as they came. The mailbox has the last three in this order.
        """
        mailbox, hand = self.mailbox, self.hand
        streak = 0
        while not (self.stopping or self._finishing):
            envelope = mailbox.take_nowait()
            if envelope is None:
                streak = 0
                await mailbox.wait()
                continue
            if not streak and mailbox.on_unattended is not None:
                mailbox.call_others()
            hand.envelope = envelope
            envelope.holder = hand
            receive = self._receive
            assert receive is not None, "a serving incarnation has a handler"
            try:
                if envelope.deadline == _NEVER:
                    value = await receive(envelope.message)
                else:
                    value = await hand.answer(receive, envelope)
            except BaseException as error:
                failure = failure_in(error)
                if failure is None or not self._resumes(envelope, failure):
                    raise
            else:
                if value is None and envelope.slot is None and envelope.holder is hand:
                    envelope.holder = None
                    hand.handled += 1
                else:
                    hand.conclude(envelope, value)
            hand.envelope = None
            if self._crash is not None:
                return
            if (envelope.withdrawn or envelope.deadline != _NEVER) and hand.has_used_up_scope():
                return
            streak += 1
            if streak == FAIRNESS:
                streak = 0
                await trio.lowlevel.checkpoint()

    def _resumes(self, envelope: Envelope, error: BaseException) -> bool:
        """Whether the supervisor keeps this incarnation in spite of `error`; then the message is settled here."""
        if self.parent.directive(error) is not Directive.RESUME:
            return False
        self.hand.resume_after(error, envelope)
        return True

    # --- the end of an incarnation, and of the actor ----------------------------------------------------------------------

    def finish(self) -> None:
        """End this incarnation normally after the current message; the restart type decides whether another follows."""
        self._finishing = True
        self._nudge()

    def _nudge(self) -> None:
        if self._task is not None:
            self.mailbox.wake(self._task)

    def _settle(self, exit: Exit, *, revives: bool) -> None:  # noqa: A002
        self.hand.settle(exit, revives=revives)

    def _close(self) -> None:
        self.hand.close()

    def _reopen(self) -> None:
        self.mailbox.reopen()

    def request_stop(self, *, kill: bool = False) -> None:
        """See ``Cell.request_stop``; a kill also reaches the children whose stop is being waited for."""
        super().request_stop(kill=kill)
        if kill and self._context is not None:
            self._context.kill()

    # --- what the context asks for ------------------------------------------------------------------------------------------

    def become(self, handler: Callable[[Any], Awaitable[Any]]) -> None:
        """Handle what follows with `handler`."""
        self._receive = self._watched(handler)

    def heartbeat(self) -> None:
        """Let the limit for the current message begin again."""
        if self._idleness is not None:
            self._idleness.renew()

    # --- Overseer of the supervisor of its own children -------------------------------------------------------------------

    def crash(self, error: BaseException) -> None:
        """Fail this incarnation with `error` although its handler did not raise."""
        if self._crash is None or (_ends_all(error) and not _ends_all(self._crash)):
            self._crash = error
        self._finishing = True
        if self.started_at is None:
            self.scope.cancel()  # its lifespan may be waiting: test_a_task_that_fails_during_the_start_fails_the_start
        else:
            self.hand.cancel()

    def child_exited(self, cell: Cell, exit: Exit) -> None:  # noqa: A002
        """The supervisor of the children has ended: a failure of it is a failure of this actor."""
        cell.end(StopReason.FAILED if exit.error is not None else StopReason.STOPPED, exit.error)
        if cell is self.own_supervisor and exit.error is not None:
            self.crash(exit.error)

    def child_ended(self, cell: Cell) -> None:
        """Nothing to forget: the next incarnation makes its own supervisor."""

    def directive(self, error: BaseException) -> Directive:
        """The children's supervisor is restarted with this actor only."""
        return Directive.ESCALATE

    def run_beside(self, function: Callable[..., Any], *args: Any) -> None:
        """Run an async function in the nursery of this actor's supervisor."""
        self.parent.run_beside(function, *args)

    def describe(self) -> Any:
        """What the actor says of its state; None while it has no incarnation that has started.

        Raises:
            ActorFailed: it raised. The incarnation goes on.
        """
        if self._actor is None or self.started_at is None:
            return None
        try:
            told = self._actor.describe()
        except Exception as error:
            failure = f"{self.address!r} could not describe itself: its describe() raised {type(error).__name__}."
            trim(error)
            raise ActorFailed(f"{failure}{raised_at(error)}\n  Fix: see the cause above.", address=self.address) from error
        if inspect.iscoroutine(told):
            told.close()
            raise UsageError(
                f"describe() of {self.address!r} is a coroutine, and inspect() does not wait.\n"
                "  Fix: def describe(self) instead of async def."
            )
        return told

    def statistics(self) -> ActorStatistics:
        """One look at this actor; see :class:`ActorStatistics`."""
        timer, now = self.retry_timer if self.state is State.BACKING_OFF else None, self.services.now()
        return ActorStatistics(
            address=self.address,
            state=self.state,
            incarnation=self.incarnation,
            restarts=self.restarts,
            handled=self.hand.handled,
            failed=self.hand.failed,
            backoff_left_s=max(0.0, timer.deadline - now) if timer is not None else 0.0,
            mailbox=self.mailbox.statistics(now),
        )


def _ends_all(error: BaseException) -> bool:
    return any(map(is_fatal, leaves_of(error)))


def start_failed(address: str, error: BaseException | None) -> ActorStartFailed:
    """The error for a start that did not come about."""
    if error is None:
        return ActorStartFailed(f"{address!r} was stopped while it started.", address=address)
    words = f"{address!r} did not start: {said(error)}{raised_at(error)}"
    if "\n  Fix: " not in words:
        words += "\n  Fix: see the cause above; its factory or its lifespan raised before the first message."
    failure = ActorStartFailed(
        words,
        address=address,
    )
    failure.__cause__ = trim(error)
    return failure


def stopped(address: str) -> ActorStopped:
    """The error for a call to something that has stopped permanently."""
    return ActorStopped(
        f"{address!r} has stopped.\n"
        "  Fix: start it again, with spawn() or with restart_child() of its supervisor; watch() tells when it stops.",
        address=address,
    )
