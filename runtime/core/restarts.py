"""What a supervisor decides about the end of an incarnation: values and arithmetic, without a clock or a task."""

from __future__ import annotations

import random
from collections import deque
from typing import Final, TypeAlias, final

import attrs

from actors.actor import StopReason
from actors.errors import RestartsExhausted
from actors.placement_errors import HostLost
from actors.restarts import RestartType
from actors.supervision import Directive, Exhausted, Supervision
from runtime.core.cell import Cell
from runtime.core.incarnation import Exit, ExitKind


@final
@attrs.frozen
class Stop:
    """The child stays stopped."""

    reason: StopReason


@final
@attrs.frozen
class Restart:
    """The child is started again after a delay."""

    delay_s: float
    is_parked: bool = False
    """Whether the budget was spent, so the delay is the longest one and the budget starts again."""
    is_alone: bool = False
    """Whether its siblings are left alone under every strategy."""


@final
@attrs.frozen
class Escalate:
    """The supervisor itself fails with `error`."""

    error: BaseException


Decision: TypeAlias = Stop | Restart | Escalate


@final
class RestartBudget:
    """Counts the restart attempts of one supervisor within the sliding window of its :class:`Supervision`.

    Invariant: holds only attempts at most ``within_s`` old at the time of the last ``record``.
    Source: OTP 28, ``supervisor.erl``, ``add_restart/2``, with float seconds.
    """

    __slots__ = ("_attempts", "_supervision")

    def __init__(self, supervision: Supervision) -> None:
        self._supervision = supervision
        self._attempts: deque[float] = deque()

    def record(self, now: float) -> bool:
        """Count one attempt at `now`; whether the budget still allows it.

        An attempt exactly ``within_s`` old still counts; one more than ``max_restarts`` is too many.
        """
        if self._supervision.max_restarts == float("inf"):
            return True
        self._attempts.append(now)
        while self._attempts[0] < now - self._supervision.within_s:
            self._attempts.popleft()
        return len(self._attempts) <= self._supervision.max_restarts

    def forget(self) -> None:
        """Start with a fresh budget."""
        self._attempts.clear()

    @property
    def count(self) -> int:
        """Attempts in the window as of the last ``record``."""
        return len(self._attempts)

    def spent(self, now: float) -> int:
        """Attempts in the window that ends at `now`."""
        return sum(attempt >= now - self._supervision.within_s for attempt in self._attempts)


_MOST_LOSSES: Final = 64
"""Of so many lost hosts it is known that they were counted."""


@final
class RestartPolicy:
    """Decides about the children of one supervisor, by its declaration and by what it has restarted so far."""

    __slots__ = ("_address", "_budget", "_losses", "_rng", "_supervision")

    def __init__(self, address: str, supervision: Supervision, rng: random.Random) -> None:
        self._address = address
        self._supervision = supervision
        self._rng = rng
        self._budget = RestartBudget(supervision)
        self._losses: tuple[int, ...] = ()
        """The incarnations of the lost hosts that were counted last."""

    def forget(self) -> None:
        """Start with a fresh budget."""
        self._budget.forget()

    def spent(self, now: float) -> int:
        """How much of the restart budget is used at `now`."""
        return self._budget.spent(now)

    def directive(self, error: BaseException) -> Directive:
        """What the declaration says about `error`."""
        return self._supervision.directive(error)

    def decide(self, cell: Cell, exit: Exit, now: float) -> Decision:  # noqa: A002 - the word of the field
        """Decide about an incarnation of `cell` that ended on its own at `now`; counts restarts, and its failures in a row."""
        directive = self.directive(exit.error) if exit.kind is ExitKind.FAILED and exit.error is not None else Directive.RESTART
        if directive is Directive.ESCALATE:
            assert exit.error is not None, "only an error escalates"
            return Escalate(exit.error)
        if directive is Directive.STOP or not _calls_for_restart(cell.restart, exit.kind):
            return Stop(StopReason.FINISHED if exit.error is None else StopReason.FAILED)
        if cell.is_blameless:
            # A delay, or a budget that it uses up, would be paid by the messages behind the one that failed, which waits out a
            # backoff. What bounds these restarts are the attempts of the messages.
            return Restart(0.0, is_alone=True)
        return self._restart(cell, exit.error, now)

    def _restart(self, cell: Cell, error: BaseException | None, now: float) -> Restart | Escalate:
        backoff = self._supervision.backoff
        delay_s = backoff.delay_s(cell.count_failure(now, backoff.reset_after_s), self._rng)
        if self._is_counted(error) or self._budget.record(now):
            return Restart(delay_s)
        if self._supervision.exhausted is Exhausted.ESCALATE:
            return Escalate(self._exhausted(cell.address, error))
        self._budget.forget()
        return Restart(backoff.cap_s, is_parked=True)

    def _is_counted(self, error: BaseException | None) -> bool:
        """Whether the budget has paid for it: one host that is lost is one restart, however much lived there."""
        if not isinstance(error, HostLost) or not error.incarnation:
            return False
        if error.incarnation in self._losses:
            return True
        self._losses = (*self._losses, error.incarnation)[-_MOST_LOSSES:]
        return False

    def _exhausted(self, child: str, error: BaseException | None) -> RestartsExhausted:
        limit, within_s = self._supervision.max_restarts, self._supervision.within_s
        below: tuple[str, ...] = ()
        if isinstance(error, RestartsExhausted):  # told once: those below as a path, and the failure that all of them met
            below, error = error.path, error.__cause__
        path = (*below, self._address)
        told = f"  Path: {' -> '.join(repr(each or '(root)') for each in path)} gave up, one after the other.\n" if below else ""
        failure = RestartsExhausted(
            f"supervisor {self._address or '(root)'!r} gave up: {child!r} needed restart number {self._budget.count} "
            f"within {within_s:g} s, and max_restarts is {limit:g}.\n"
            f"{told}"
            "  Fix: see the cause above; or Supervision(max_restarts=…, within_s=…), or exhausted=Exhausted.PARK for outages.",
            address=self._address,
            path=path,
        )
        failure.__cause__ = error
        return failure


def _calls_for_restart(restart: RestartType, kind: ExitKind) -> bool:
    if restart is RestartType.TRANSIENT:
        return kind is ExitKind.FAILED
    return restart is RestartType.PERMANENT
