"""What a supervisor decides about the end of an incarnation: values and arithmetic, with no clock of its own and no task."""

from __future__ import annotations

import random
from typing import TypeAlias, final

import attrs

from actors.actor import StopReason
from actors.errors import RestartsExhausted
from actors.restart import RestartType
from actors.supervision import Directive, Exhausted, Supervision
from runtime.core.cell import Cell, Exit, ExitKind
from runtime.core.ledger import RestartLedger


@final
@attrs.frozen
class Over:
    """The child is not started again."""

    reason: StopReason


@final
@attrs.frozen
class Again:
    """The child is started again after a delay."""

    delay_s: float
    is_parked: bool = False
    """Whether the budget was spent, so that the delay is the longest one and the budget starts afresh."""
    is_alone: bool = False
    """Whether it is no matter for its siblings, whatever the strategy."""


@final
@attrs.frozen
class GiveUp:
    """The supervisor itself fails with `error`."""

    error: BaseException


Verdict: TypeAlias = Over | Again | GiveUp


@final
class Judge:
    """Decides about the children of one supervisor, by its declaration and by what it has restarted so far."""

    __slots__ = ("_address", "_ledger", "_rng", "_supervision")

    def __init__(self, address: str, supervision: Supervision, rng: random.Random) -> None:
        self._address = address
        self._supervision = supervision
        self._rng = rng
        self._ledger = RestartLedger(supervision)

    def forget(self) -> None:
        """Start with a fresh budget."""
        self._ledger.forget()

    def directive(self, error: BaseException) -> Directive:
        """What the declaration says about `error`."""
        return self._supervision.directive(error)

    def verdict(self, cell: Cell, exit: Exit, now: float) -> Verdict:  # noqa: A002 - the word of the field
        """Decide about an incarnation of `cell` that ended of itself at `now`; counts restarts, and its failures in a row."""
        directive = self.directive(exit.error) if exit.kind is ExitKind.FAILED and exit.error is not None else Directive.RESTART
        if directive is Directive.ESCALATE:
            assert exit.error is not None, "only an error escalates"
            return GiveUp(exit.error)
        if directive is Directive.STOP or not _calls_for_restart(cell.restart, exit.kind):
            return Over(StopReason.FINISHED if exit.error is None else StopReason.FAILED)
        if cell.is_blameless:
            # A delay, or a budget that it uses up, would be paid by the messages behind the one that failed, which waits out a
            # backoff of its own. What bounds these restarts are the attempts of the messages.
            return Again(0.0, is_alone=True)
        return self._restart(cell, exit.error, now)

    def _restart(self, cell: Cell, error: BaseException | None, now: float) -> Again | GiveUp:
        backoff = self._supervision.backoff
        delay_s = backoff.delay_s(cell.count_failure(now, backoff.reset_after_s), self._rng)
        if self._ledger.record(now):
            return Again(delay_s)
        if self._supervision.exhausted is Exhausted.ESCALATE:
            return GiveUp(self._exhausted(cell.address, error))
        self._ledger.forget()
        return Again(backoff.cap_s, is_parked=True)

    def _exhausted(self, child: str, error: BaseException | None) -> RestartsExhausted:
        limit, within_s = self._supervision.max_restarts, self._supervision.within_s
        below: tuple[str, ...] = ()
        if isinstance(error, RestartsExhausted):  # told once: those below as a path, and the failure that all of them met
            below, error = error.path, error.__cause__
        path = (*below, self._address)
        told = f"  Path: {' -> '.join(repr(each or '(root)') for each in path)} gave up, one after the other.\n" if below else ""
        failure = RestartsExhausted(
            f"supervisor {self._address or '(root)'!r} gave up: {child!r} needed restart number {self._ledger.count} "
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
