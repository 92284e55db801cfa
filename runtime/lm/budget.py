"""Budgets in tokens and money: reserved before a call, settled after it, refunded when it fails or is cancelled."""

from __future__ import annotations

import math
from collections.abc import Generator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import final

import attrs

from actors.checks import is_number
from actors.errors import LMBudgetExhausted, UsageError
from actors.lm import Usage
from actors.words import repr_of

_spending: ContextVar[tuple[Budget, ...]] = ContextVar("_spending", default=())


@final
@attrs.define(eq=False)
class Budget:
    """What may be spent. One object may serve a call, a run, several clients or a whole runtime: whoever holds it shares it.

    A call first reserves what it may come to, by the length of its prompt, its ``max_tokens`` and LiteLLM's price table, and
    fails before anything is sent when that is more than what is left. So calls at the same time cannot spend the same money.
    Afterwards it is charged what it really used, which may be a little more than was reserved.
    """

    max_tokens: float = attrs.field(default=math.inf, validator=is_number(above=0), kw_only=True)
    """Prompt and completion together."""
    max_cost_usd: float = attrs.field(default=math.inf, validator=is_number(above=0), kw_only=True)
    """In US dollars. A model without a price in LiteLLM's table costs nothing here."""
    tokens: int = attrs.field(default=0, init=False)
    """Spent so far."""
    cost_usd: float = attrs.field(default=0.0, init=False)
    """Spent so far."""
    reserved_tokens: int = attrs.field(default=0, init=False)
    """Held for calls on their way."""
    reserved_usd: float = attrs.field(default=0.0, init=False)
    """Held for calls on their way."""
    holders: int = attrs.field(default=0, init=False)
    """Calls on their way that hold a part of it."""

    def refusal(self, tokens: int, cost_usd: float) -> str | None:
        """Why so much more may not be spent; None when it may."""
        if self.tokens + self.reserved_tokens + tokens > self.max_tokens:
            return f"{tokens} tokens asked, {self.max_tokens - self.tokens - self.reserved_tokens:g} of {self.max_tokens:g} left"
        left_usd = self.max_cost_usd - self.cost_usd - self.reserved_usd
        if cost_usd > left_usd:
            return f"${cost_usd:.6f} asked, ${left_usd:.6f} of ${self.max_cost_usd:g} left"
        return None

    def give_back(self, tokens: int, cost_usd: float) -> None:
        """One holder's part is held no longer. For :class:`Reservation`."""
        self.holders -= 1
        self.reserved_tokens -= tokens
        # Sums of fractions do not end at 0 exactly.
        self.reserved_usd = max(0.0, self.reserved_usd - cost_usd) if self.holders else 0.0


@final
@attrs.define(eq=False)
class Reservation:
    """What one call holds of its budgets until it is settled or released."""

    _budgets: tuple[Budget, ...]
    _tokens: int
    _cost_usd: float
    _is_held: bool = True

    def settle(self, usage: Usage) -> None:
        """Charge what was used, in place of what was held."""
        self.release()
        for budget in self._budgets:
            budget.tokens += usage.total_tokens
            budget.cost_usd += usage.cost_usd or 0.0

    def release(self) -> None:
        """Give the reserve back. Twice is fine."""
        if self._is_held:
            self._is_held = False
            for budget in self._budgets:
                budget.give_back(self._tokens, self._cost_usd)


@contextmanager
def spending(budget: Budget) -> Generator[Budget]:
    """Charge every call of this task, and of the tasks that it starts inside the block, to `budget` as well.

    A run that is started inside the block is charged to it too, with all that its nodes do.
    """
    with spending_all((budget,)):
        yield budget


@contextmanager
def spending_all(budgets: tuple[Budget, ...]) -> Generator[None]:
    """As :func:`spending`, for several."""
    token = _spending.set((*_spending.get(), *budgets))
    try:
        yield
    finally:
        _spending.reset(token)


def check_budget(given: object) -> Budget | None:
    """`given`, where a budget may be given. Raises UsageError when it is none."""
    if given is None or isinstance(given, Budget):
        return given
    raise UsageError(f"budget={repr_of(given)}: expected a Budget or None.\n  Mend: budget=Budget(max_tokens=50_000), say.")


def budgets_with(*own: Budget | None) -> tuple[Budget, ...]:
    """The budgets that a call is charged to: those of :func:`spending`, and `own`. None twice."""
    found = (*_spending.get(), *(budget for budget in own if budget is not None))
    return tuple(dict.fromkeys(found))


@contextmanager
def reserved(budgets: tuple[Budget, ...], tokens: int, cost_usd: float) -> Generator[Reservation]:
    """Hold so much of all `budgets` until it is settled, or for the length of the block; given back however the block ends.

    Raises:
        LMBudgetExhausted: one of them has not so much left; nothing is held then of any.
    """
    for budget in budgets:
        refusal = budget.refusal(tokens, cost_usd)
        if refusal is not None:
            raise LMBudgetExhausted(
                f"the budget does not cover the call: {refusal}; nothing was sent.\n"
                "  Mend: ask for less (max_tokens), wait for calls on their way to end, or raise the Budget.",
                attempt=0,
            )
    for budget in budgets:
        budget.reserved_tokens += tokens
        budget.reserved_usd += cost_usd
        budget.holders += 1
    reservation = Reservation(budgets, tokens, cost_usd)
    try:
        yield reservation
    finally:
        reservation.release()
