"""A cell: the runtime's box around an actor or a supervisor. It has the address; incarnations come and go inside it.

What both kinds share is here: states, the scope that bounds an incarnation, the ladder of stopping, the permanent end.

The ladder, once: *stop* asks, and the cell finishes the current message; after ``shutdown_s`` seconds, or immediately for a
*kill*, it is cancelled; the clean-up of its lifespan has another ``shutdown_s`` seconds; a cell that then still runs is
reported as unresponsive and waited for, because structured concurrency cannot abandon it.

Each incarnation runs in a **shielded** scope: a cancellation of the host reaches supervisors only, and they take their
children down in order. So ``trio.Cancelled`` inside an actor always means that the runtime itself wanted it to end.
"""

from __future__ import annotations

import contextvars
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import trio

from actors.actor import ActorRef, StopReason, Terminated
from actors.restarts import RestartType
from actors.supervision import Directive, SupervisorRef
from runtime.core.events import ActorCrashed, ActorEnded, ActorStarted
from runtime.core.foreign_errors import is_of_a_dead_loop
from runtime.core.incarnation import Exit, ExitKind, Start, classify
from runtime.core.lifecycle import Move, Next, NextStep, State, Unrecovered, moved
from runtime.core.services import Services
from runtime.core.timekeeper import Timer
from runtime.core.tracebacks import trim
from runtime.core.waits import Waiter

current_cell: contextvars.ContextVar[Cell | None] = contextvars.ContextVar("current_cell", default=None)
"""The cell in whose handler this code runs, also in tasks that the handler started."""
off_duty: contextvars.ContextVar[bool] = contextvars.ContextVar("off_duty", default=False)
"""Whether this code runs beside the handler of ``current_cell``, so an ask of it does not hold the actor up."""


class Overseer(Protocol):
    """What a cell needs of the supervisor above it."""

    @property
    def address(self) -> str:
        """The supervisor's address."""
        ...

    def child_exited(self, cell: Cell, exit: Exit) -> None:  # noqa: A002 - the word of the field
        """An incarnation of `cell` has ended; decide what becomes of the cell before this returns."""
        ...

    def child_ended(self, cell: Cell) -> None:
        """`cell` is gone permanently."""
        ...

    def directive(self, error: BaseException) -> Directive:
        """What this supervisor does about `error`."""
        ...

    def run_beside(self, function: Callable[..., Any], *args: Any) -> None:
        """Run an async function in the supervisor's nursery, beside the children."""
        ...


class Cell(ABC):
    """Address, state and life of one child of a supervisor."""

    __slots__ = (
        "_awaited",
        "_changed",
        "_ended",
        "_next",
        "_state",
        "_streak",
        "_watchers",
        "address",
        "asking",
        "context_vars",
        "ends",
        "incarnation",
        "parent",
        "registered",
        "restart",
        "restarts",
        "retry_timer",
        "scope",
        "services",
        "shutdown_s",
        "significant",
        "started_at",
        "stopping",
    )

    def __init__(
        self,
        services: Services,
        address: str,
        parent: Overseer,
        *,
        restart: RestartType,
        shutdown_s: float,
        significant: bool,
        registered: bool = True,
    ) -> None:
        self.services = services
        self.address = address
        self.parent = parent
        self.restart = restart
        self.shutdown_s = shutdown_s
        self.significant = significant
        # A restart runs in the context in which the child was declared, not in that of the timer that restarts it.
        self.context_vars = contextvars.copy_context()
        self.incarnation = 0
        self.restarts = 0
        self._streak = 0
        """Failures in a row; decides the next backoff."""
        self.started_at: float | None = None
        """When this incarnation had entered its lifespan; None before."""
        self._awaited: Start | None = None
        """Who waits for the start in progress; None once that has succeeded or failed."""
        self._next: NextStep = Next.GONE
        self.retry_timer: Timer | None = None
        self.stopping = False
        """Whether the end of this incarnation was asked for from outside; the loop of an actor looks before each message."""
        self.registered = registered
        """Whether ``whereis`` finds it."""
        self.asking: list[Waiter] = []
        """The actors whose replies the present handler waits for, and the runs and places that it waits for."""
        self.ends = 0
        """How often it was gone permanently: it may have been started again since."""
        self.scope = trio.CancelScope(shield=True)
        self._state = State.NEW
        self._changed: trio.Event | None = None
        self._watchers: dict[Callable[[Terminated], None], None] | None = None
        self._ended: Terminated | None = None

    # --- what the two kinds differ in -----------------------------------------------------------------------------------

    @property
    @abstractmethod
    def ref(self) -> ActorRef[Any] | SupervisorRef:
        """The one handle to this cell."""

    @abstractmethod
    async def _live(self) -> None:
        """One incarnation, from its start (which it reports with ``mark_started``) to its end."""

    @abstractmethod
    def _nudge(self) -> None:
        """Make the incarnation notice that ``stopping`` was set."""

    def _settle(self, exit: Exit, *, revives: bool) -> None:  # noqa: A002, B027 - supervisors hold no message
        """Decide about the current message, after the supervisor has decided about the cell."""

    def _close(self) -> None:  # noqa: B027 - a hook
        """The cell is gone permanently: turn away what it holds."""

    def _reopen(self) -> None:  # noqa: B027 - a hook
        """A stopped cell is about to be started again."""

    # --- states ---------------------------------------------------------------------------------------------------------

    @property
    def state(self) -> State:
        """Where the cell is between its start and its end."""
        return self._state

    @property
    def is_gone(self) -> bool:
        """Whether it has ended permanently."""
        return self._state is State.STOPPED

    @property
    def task(self) -> trio.lowlevel.Task | None:
        """The task of the present incarnation, of an actor."""
        return None

    @property
    def label(self) -> str:
        """Its address."""
        return self.address

    @property
    def needs_all(self) -> bool:
        """A handler ends when all that it has begun has."""
        return True

    def awaits(self) -> Sequence[Waiter]:
        """What its handler waits for."""
        return self.asking

    def make_way(self) -> bool:
        """A cell that waits for an answer lacks no place."""
        return False

    @property
    def is_blameless(self) -> bool:
        """Whether what ends now is one of several workers without state, by the message in its hand and by nothing else."""
        return False

    @property
    def can_launch(self) -> bool:
        """Whether it has no incarnation, so the next one may begin."""
        return self._state in (State.NEW, State.BACKING_OFF, State.STOPPED)

    def _move(self, what: Move) -> None:
        """Go to the state that the table of ``runtime.core.lifecycle`` says."""
        self._state = moved(self._state, what, self.address)

    # --- what comes next: as its supervisor decides ------------------------------------------------------------------------

    @property
    def rejoins(self) -> bool:
        """Whether it was stopped only to be started again. A temporary one never is."""
        return self._next is Next.REJOIN and self.restart is not RestartType.TEMPORARY

    @property
    def is_kept(self) -> bool:
        """Whether its supervisor still knows it after its end."""
        return self._next is not Next.FORGET and self.restart is not RestartType.TEMPORARY

    def forget_once_gone(self) -> None:
        """Nothing is kept of it after its end."""
        self._next = Next.FORGET

    def stop_permanently(self, *, kill: bool = False, forget: bool = False) -> None:
        """Ask it to end, and not to be started again with others; with `forget`, nothing is kept of it."""
        if self._state is State.BACKING_OFF:
            self._end_without_start()  # before the next line, while it is known what it failed with
        self._next = Next.FORGET if forget or self._next is Next.FORGET else Next.GONE
        if self._state is State.STOPPED:
            self._after_end()
        else:
            self.request_stop(kill=kill)

    def stop_to_rejoin(self, *, kill: bool = False) -> None:
        """End this incarnation only; the next one comes with its group, or with its supervisor."""
        self.request_stop(kill=kill)
        if self._state is State.STOPPING:
            self._next = Next.REJOIN

    def back_off(self, *, is_restart: bool) -> None:
        """Wait for the next start; `is_restart`: it follows a failure, or an end that was not asked for, and is counted."""
        self.restarts += is_restart
        self._move(Move.RETRY)

    def back_off_permanently(self, error: BaseException | None) -> None:
        """Wait for a restart of its supervisor: nothing less starts it again after `error`."""
        self._move(Move.RETRY)
        if error is not None:
            self._next = Unrecovered(error)

    def retry_with(self, timer: Timer) -> None:
        """`timer` is to start it."""
        self.retry_timer = timer

    def count_failure(self, now: float, reset_after_s: float) -> int:
        """How many failures in a row came before this one, at `now`; a life of `reset_after_s` seconds ends a row."""
        if self.started_at is not None and now - self.started_at >= reset_after_s:
            self._streak = 0
        streak = self._streak
        self._streak += 1
        return streak

    def cancel_retry(self) -> None:
        """Let no timer start it; it waits until it is started otherwise."""
        if self.retry_timer is not None:
            self.retry_timer.cancel()
            self.retry_timer = None

    def launch(self, start_soon: Callable[..., None], start: Start | None = None) -> None:
        """Begin the next incarnation as a task; `start_soon` is the one of the nursery that is to hold it.

        `start` is told whether it comes about; without one, a failure of it is a failure like any other.
        """
        if self._state is State.STOPPED:
            self._reopen()
        self._awaited = start
        self._move(Move.LAUNCH)
        self._ended = None
        self.incarnation += 1
        self.started_at = None
        self.stopping = False
        self._next = Next.GONE
        self.cancel_retry()  # started before its time: the timer must not cut the wait after a later failure short
        if self.incarnation > 1:  # a scope is entered once
            self.scope = trio.CancelScope(shield=True)
        if self.registered:
            self.services.registry[self.address] = self
        self.context_vars.run(start_soon, self._run)

    @trio.lowlevel.enable_ki_protection  # Ctrl-C comes in the code of authors, or where the main task waits
    async def _run(self) -> None:
        exit_ = await self._incarnate()
        # Each of these runs even if the one before it raised: otherwise a task waits forever, and that hides what went wrong.
        try:
            self._tell_of_crash(exit_)
        finally:
            try:
                self.parent.child_exited(self, exit_)
            finally:
                try:
                    self._settle(exit_, revives=self._state is State.BACKING_OFF)
                finally:
                    self._after_end()

    def _tell_of_crash(self, exit: Exit) -> None:  # noqa: A002
        if (
            exit.kind in (ExitKind.FAILED, ExitKind.SHUTDOWN)
            and self.services.events.wants(ActorCrashed)
            and exit.error is not None
        ):
            self.services.events.publish(
                ActorCrashed(
                    address=self.address,
                    incarnation=self.incarnation,
                    error=exit.error,
                    while_starting=self.started_at is None,
                )
            )

    async def _incarnate(self) -> Exit:
        current_cell.set(self)
        if off_duty.get():
            off_duty.set(False)
        task = trio.lowlevel.current_task()
        try:
            with self.scope:
                await self._live()
        except BaseException as error:  # the one handler; classify() lets nothing fatal pass for a failure
            if is_of_a_dead_loop(error, task):
                raise  # nothing can be done properly any more
            return self._classify(trim(error))
        return Exit(ExitKind.NORMAL)

    def _classify(self, error: BaseException) -> Exit:
        return classify(error, self.address)

    def mark_started(self) -> None:
        """The lifespan was entered: tell the task that waits for the start."""
        self._move(Move.STARTED)
        self.started_at = trio.current_time()
        start = self.take_start()
        if start is not None:
            start.succeed(None)
        self._announce()
        if self.services.events.wants(ActorStarted):
            self.services.events.publish(ActorStarted(address=self.address, incarnation=self.incarnation))

    @property
    def is_start_awaited(self) -> bool:
        """Whether a task waits for the start in progress, and takes its failure."""
        return self._awaited is not None

    def take_start(self) -> Start | None:
        """Take the wait for the start, to tell it the outcome; afterwards the start is no longer awaited."""
        start, self._awaited = self._awaited, None
        return start

    # --- the end --------------------------------------------------------------------------------------------------------

    def request_stop(self, *, kill: bool = False) -> None:
        """Ask the cell to end; returns immediately. See the ladder at the top of this file."""
        match self._state:
            case State.NEW | State.STOPPED:
                return
            case State.BACKING_OFF:
                self._end_without_start()
                self._after_end()
                return
            case State.STARTING:
                kill = True  # there is no message yet that could be finished
            case _:
                pass
        self.stopping = True
        self._move(Move.STOP)
        if kill or self.shutdown_s == 0:
            self.scope.cancel()
        elif self.shutdown_s != math.inf:
            self._bound_stop(trio.current_time() + self.shutdown_s)
        self._nudge()

    def _bound_stop(self, deadline: float) -> None:
        self.scope.deadline = min(self.scope.deadline, deadline)

    def _end_without_start(self) -> None:
        """It waits for a start that will not come."""
        if isinstance(self._next, Unrecovered):
            self.end(StopReason.FAILED, self._next.error)
        else:
            self.end(StopReason.STOPPED)

    def end(self, reason: StopReason, error: BaseException | None = None) -> None:
        """Gone permanently: only now do watchers hear of it and the address stops taking messages."""
        self._move(Move.END)
        self.ends += 1
        self.stopping = False
        if self._next is not Next.FORGET:
            self._next = Next.GONE
        self.cancel_retry()
        if self.services.registry.get(self.address) is self:
            del self.services.registry[self.address]
        if self.services.events.wants(ActorEnded):
            self.services.events.publish(
                ActorEnded(address=self.address, incarnation=self.incarnation, reason=reason, error=error)
            )
        self._close()
        self._ended = Terminated(self.ref, reason, error)
        watchers, self._watchers = self._watchers or (), None
        for tell in watchers:
            tell(self._ended)

    def _after_end(self) -> None:
        """After an incarnation: wake those who wait for its end, and let the supervisor forget a cell that is gone."""
        self._announce()
        if self._state is State.STOPPED:
            self.parent.child_ended(self)

    def _announce(self) -> None:
        if self._changed is not None:
            self._changed.set()
            self._changed = None

    async def _wait_while(self, *states: State) -> None:
        incarnation = self.incarnation  # by the time this wakes somebody may have started the next one
        await trio.lowlevel.checkpoint()
        while self._state in states and self.incarnation == incarnation:
            if self._changed is None:
                self._changed = trio.Event()
            await self._changed.wait()

    def on_end(self, tell: Callable[[Terminated], None]) -> None:
        """Call `tell` once when the cell is gone permanently; immediately if it is."""
        if self._ended is not None:
            tell(self._ended)
            return
        if self._watchers is None:
            self._watchers = {}
        self._watchers[tell] = None

    def forget_on_end(self, tell: Callable[[Terminated], None]) -> None:
        """Undo ``on_end``."""
        if self._watchers is not None:
            self._watchers.pop(tell, None)

    async def wait_started(self) -> None:
        """Return once the start now in progress has succeeded or failed. A checkpoint."""
        await self._wait_while(State.STARTING)

    async def wait_exited(self) -> None:
        """Return once the present incarnation has ended; immediately when there is none. A checkpoint."""
        await self._wait_while(State.STARTING, State.RUNNING, State.STOPPING)
