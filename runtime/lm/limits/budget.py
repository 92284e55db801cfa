"""Budgets in tokens and money: reserved before a call, settled after it, and charged for what a call used without an answer.

A call waits while what it asks for is only reserved by others, and is rejected when it is spent. Nothing is held while it waits,
so no two calls can wait for each other; lines are in order of arrival, the same order in all budgets. The one call that could
wait for itself, made in the block of a stream that holds a reserve, waits for none that a block may hold on to.
"""

from __future__ import annotations

import bisect
import itertools
import math
from collections.abc import Generator
from contextlib import contextmanager
from contextvars import ContextVar
from types import TracebackType
from typing import Protocol, Self, final

import attrs
import trio

from actors.argument_checks import is_number
from actors.errors import LMBudgetExhausted, UsageError
from actors.lm import LMRequest, Usage
from actors.words import repr_of
from runtime.lm.limits.common_store import Common
from runtime.lm.limits.drawn import Drawn


class Listener(Protocol):
    """Is told of the requests of one call."""

    def lost(self, usage: Usage) -> None:
        """So much was used without an answer."""
        ...

    def requested(self, request: LMRequest) -> None:
        """A request has ended. Its times are those of the runtime's clock."""
        ...


_MOST_NAME = 200


def _is_name(_: object, __: attrs.Attribute[str | None], value: str | None) -> None:
    if value is not None and not _is_printable(value):
        raise UsageError(
            f"Budget(shared_as={repr_of(value, 60)}): expected a name of up to {_MOST_NAME} printable characters, or None.\n"
            '  Fix: shared_as="november", say.'
        )


def _is_printable(value: object) -> bool:
    return isinstance(value, str) and bool(value.strip()) and len(value) <= _MOST_NAME and value.isprintable()


_spending: ContextVar[tuple[Budget, ...]] = ContextVar("_spending", default=())
_listening: ContextVar[tuple[Listener, ...]] = ContextVar("_listening", default=())
_held: ContextVar[tuple[Reservation, ...]] = ContextVar("_held", default=())
_arrivals = itertools.count()


@final
@attrs.define(eq=False)
class Budget:
    """What may be spent. One object may serve a call, a run, several clients or a whole runtime: all of them share it.

    A call first reserves what it may come to, by the length of its prompt, its ``max_tokens`` and LiteLLM's price table. So calls
    at the same time cannot spend the same money. It waits while others have reserved what it asks for, and fails before anything
    is sent when that has been spent. Afterwards it is charged what it really used, which may be a little more than was reserved;
    a stream that comes to more than what was reserved and is left is cut. What is used without an answer (by a call that is
    cancelled, a stream that is left, a hedge that loses) is charged by what was seen of it.
    """

    max_tokens: float = attrs.field(default=math.inf, validator=is_number(above=0), kw_only=True)
    """Prompt and completion together."""
    max_cost_usd: float = attrs.field(default=math.inf, validator=is_number(above=0), kw_only=True)
    """In US dollars. A model without a price in LiteLLM's table costs nothing here."""
    shared_as: str | None = attrs.field(default=None, validator=_is_name, kw_only=True)
    """Under which name all processes with the same store share it; what they spend is kept there permanently. None: it is this
    object's. Another month's budget has another name."""
    tokens: int = attrs.field(default=0, init=False)
    """Spent so far, by this process."""
    cost_usd: float = attrs.field(default=0.0, init=False)
    """Spent so far."""
    estimated_tokens: int = attrs.field(default=0, init=False)
    """Those of `tokens` that were counted by the length of prompts and pieces, because no provider reported what was used."""
    reserved_tokens: int = attrs.field(default=0, init=False)
    """Held for calls on their way."""
    reserved_usd: float = attrs.field(default=0.0, init=False)
    """Held for calls on their way."""
    holders: int = attrs.field(default=0, init=False)
    """Calls on their way that hold a part of it."""

    _lasting_tokens: int = attrs.field(default=0, init=False, repr=False)
    """Those of `reserved_tokens` that a block of the caller's holds, and not a request alone."""
    _lasting_usd: float = attrs.field(default=0.0, init=False, repr=False)
    _line: list[_Waiter] = attrs.field(factory=list["_Waiter"], init=False, repr=False)
    """Invariant: in the order of ``_Waiter.turn``; holds those for whom there was no room here when they last looked."""
    _drawn: Drawn | None = attrs.field(default=None, init=False, repr=False)
    """This process's part of it, if others share it."""

    def share(self, common: Common | None) -> None:
        """Share it through `common`, if it is one that others share. For :func:`reserve`.

        Raises:
            UsageError: there is no store to share it through.
        """
        if self.shared_as is None or (self._drawn is not None and self._drawn.common is common):
            return
        if common is None or self._drawn is not None:
            why = "nothing counts it" if common is None else "another runtime of this process uses the same object"
            raise UsageError(
                f"Budget(shared_as={self.shared_as!r}) is shared through the store of its runtime, and {why}.\n"
                "  Fix: open_runtime(store=…) with one of understudy's stores, and make a Budget for each runtime."
            )
        name = f"budget {self.shared_as}"
        self._drawn = Drawn(name, self.max_tokens, self.max_cost_usd, common, self.tokens, self.cost_usd)
        common.tend(self._settle)

    async def _settle(self, is_last: bool) -> None:
        if self._drawn is not None:
            held = self.tokens + self.reserved_tokens, self.cost_usd + self.reserved_usd
            await self._drawn.settle(*held, is_last=is_last)
            self._drawn = None if is_last else self._drawn
            self._wake()

    async def draw(self, waiter: _Waiter) -> bool:
        """Draw what `waiter` lacks, if that is what it lacks here; whether there may be room for it now."""
        tokens, usd = self.room()
        is_first = bool(self._line) and self._line[0] is waiter
        if self._drawn is None or not is_first or (waiter.tokens <= tokens and waiter.cost_usd <= usd):
            return False
        wanted = self.tokens + self.reserved_tokens + waiter.tokens, self.cost_usd + self.reserved_usd + waiter.cost_usd
        return await self._drawn.cover(*wanted) or self.shortfall(waiter.tokens, waiter.cost_usd) is not None

    def _others(self) -> tuple[float, float]:
        return (0.0, 0.0) if self._drawn is None else (self._drawn.others_tokens, self._drawn.others_usd)

    def shortfall(self, tokens: int, cost_usd: float, *, lasting: bool = False) -> str | None:
        """Why so much more may never be spent; None when it may, now or later. `lasting`: with no block left beforehand."""
        others_tokens, others_usd = self._others()
        left = self.max_tokens - others_tokens - self.tokens - (self._lasting_tokens if lasting else 0)
        if tokens > left:
            return f"{tokens} tokens asked, {left:g} of {self.max_tokens:g} left"
        left_usd = self.max_cost_usd - others_usd - self.cost_usd - (self._lasting_usd if lasting else 0.0)
        if cost_usd > left_usd:
            return f"${cost_usd:.6f} asked, ${left_usd:.6f} of ${self.max_cost_usd:g} left"
        return None

    def room(self) -> tuple[float, float]:
        """Tokens and US dollars that are neither spent nor reserved; of a shared one, of what was drawn."""
        drawn = self._drawn
        tokens = self.max_tokens if drawn is None or math.isinf(self.max_tokens) else drawn.tokens
        usd = self.max_cost_usd if drawn is None or math.isinf(self.max_cost_usd) else drawn.usd
        return tokens - self.tokens - self.reserved_tokens, usd - self.cost_usd - self.reserved_usd

    def outlook(self) -> tuple[float, float]:
        """As :meth:`room`, with what may still be drawn of a shared one."""
        others_tokens, others_usd = self._others()
        return (
            self.max_tokens - others_tokens - self.tokens - self.reserved_tokens,
            self.max_cost_usd - others_usd - self.cost_usd - self.reserved_usd,
        )

    def charge(self, usage: Usage) -> None:
        """Add what was used."""
        self.tokens += usage.total_tokens
        self.cost_usd += usage.cost_usd or 0.0
        if usage.is_estimate:
            self.estimated_tokens += usage.total_tokens
        self._wake()

    def hold(self, tokens: int, cost_usd: float, *, lasts: bool) -> None:
        """Keep so much for one more holder. For :class:`Reservation`."""
        self.holders += 1
        self.reserved_tokens += tokens
        self.reserved_usd += cost_usd
        if lasts:
            self._lasting_tokens += tokens
            self._lasting_usd += cost_usd

    def give_back(self, tokens: int, cost_usd: float, *, lasts: bool) -> None:
        """One holder's part is held no longer. For :class:`Reservation`."""
        self.holders -= 1
        self.reserved_tokens -= tokens
        # Sums of fractions do not end at 0 exactly; test_what_was_reserved_in_fractions_is_given_back_to_the_last_of_them breaks.
        self.reserved_usd = max(0.0, self.reserved_usd - cost_usd) if self.holders else 0.0
        if lasts:
            self._lasting_tokens -= tokens
            self._lasting_usd = max(0.0, self._lasting_usd - cost_usd) if self._lasting_tokens else 0.0
        self._wake()

    def holds_up(self, waiter: _Waiter) -> bool:
        """Whether there is no room for it now, or another one's turn comes first."""
        tokens, usd = self.room()
        is_first = not self._line or self._line[0].turn >= waiter.turn
        return waiter.tokens > tokens or waiter.cost_usd > usd or not is_first

    def enlist(self, waiter: _Waiter) -> None:
        """Put it into the line, at its turn."""
        bisect.insort(self._line, waiter, key=lambda each: each.turn)

    def step_out(self, waiter: _Waiter) -> None:
        """Take it out of the line: the next one may have room."""
        self._line.remove(waiter)
        self._wake()

    def _wake(self) -> None:
        if self._line:
            self._line[0].news.set()


@final
@attrs.define(eq=False)
class _Waiter:
    """A call that asks its budgets for room."""

    budgets: tuple[Budget, ...]
    tokens: int
    cost_usd: float
    is_holder: bool
    """Whether it is made in the block of a stream that has reserved a part of the same budgets."""
    turn: tuple[bool, int] = attrs.field(init=False)
    news: trio.Event = attrs.field(factory=trio.Event, init=False)
    lines: tuple[Budget, ...] = attrs.field(default=(), init=False)
    """The budgets in whose lines it stands."""

    def __attrs_post_init__(self) -> None:
        # What holds something goes first: others may wait for that. Without it
        # test_c9_one_that_holds_something_goes_before_those_that_hold_nothing breaks.
        self.turn = (not self.is_holder, next(_arrivals))

    def may_go(self) -> bool:
        """Whether every budget has room for it now; it stands in the lines of those that have none.

        Raises:
            LMBudgetExhausted: one of them will never have.
        """
        for budget in self.budgets:
            shortfall = budget.shortfall(self.tokens, self.cost_usd)
            if shortfall is not None:
                raise LMBudgetExhausted(
                    f"the budget does not cover the call: {shortfall}; nothing was sent.\n"
                    "  Fix: ask for less (max_tokens), or raise the Budget.",
                    attempt=0,
                )
            shortfall = budget.shortfall(self.tokens, self.cost_usd, lasting=True) if self.is_holder else None
            if shortfall is not None:
                raise LMBudgetExhausted(
                    f"the budget does not cover the call beside the streams that are open: {shortfall}; nothing was sent.\n"
                    "  Fix: make the call after the block of the stream, ask for less (max_tokens), or raise the Budget.",
                    attempt=0,
                )
        self.stand_in(tuple(budget for budget in self.budgets if budget.holds_up(self)))
        return not self.lines

    def stand_in(self, lines: tuple[Budget, ...]) -> None:
        """Stand in these lines and in no other."""
        before, self.lines = self.lines, lines
        for budget in lines:
            if budget not in before:
                budget.enlist(self)
        for budget in before:
            if budget not in lines:
                budget.step_out(self)


@final
@attrs.define(eq=False)
class Reservation:
    """What one call holds of its budgets until it is settled or released."""

    budgets: tuple[Budget, ...]
    _tokens: int
    _cost_usd: float
    _lasts: bool = False
    _listeners: tuple[Listener, ...] = ()
    _is_held: bool = True

    @property
    def is_watched(self) -> bool:
        """Whether anybody counts what is used."""
        return bool(self.budgets or self._listeners)

    def settle(self, usage: Usage) -> None:
        """Charge what was used, in place of what was held."""
        self.release()
        for budget in self.budgets:
            budget.charge(usage)

    def lose(self, usage: Usage) -> None:
        """Charge what was used without an answer, beside what is held for the next request of the call."""
        for budget in self.budgets:
            budget.charge(usage)
        for listener in self._listeners:
            listener.lost(usage)

    @property
    def is_heard(self) -> bool:
        """Whether anybody wants to know of each request."""
        return bool(self._listeners)

    def requested(self, request: LMRequest) -> None:
        """Tell of a request that has ended."""
        for listener in self._listeners:
            listener.requested(request)

    def excess(self, tokens: int, cost_usd: float) -> str | None:
        """Why a call that has come to so much must end: it is more than what is held for it and what is left. None if not."""
        for budget in self.budgets:
            tokens_left, usd_left = budget.outlook()
            if self._is_held:
                tokens_left, usd_left = tokens_left + self._tokens, usd_left + self._cost_usd
            if tokens > tokens_left:
                return f"it has come to about {tokens} tokens, and {max(0.0, tokens_left):g} of {budget.max_tokens:g} were left"
            if cost_usd > usd_left:
                return (
                    f"it has come to about ${cost_usd:.6f}, and ${max(0.0, usd_left):.6f} of ${budget.max_cost_usd:g} were left"
                )
        return None

    def release(self) -> None:
        """Give the reserve back. Twice is fine."""
        if self._is_held:
            self._is_held = False
            for budget in self.budgets:
                budget.give_back(self._tokens, self._cost_usd, lasts=self._lasts)

    def binds(self, budgets: tuple[Budget, ...]) -> bool:
        """Whether it holds a part of one of `budgets`."""
        return self._is_held and any(budget in self.budgets for budget in budgets)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        self.release()


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
    token = _spending.set(tuple(dict.fromkeys((*_spending.get(), *budgets))))  # none twice, however deep runs start runs
    try:
        yield
    finally:
        _spending.reset(token)


def check_budget(given: object) -> Budget | None:
    """`given`, where a budget may be given. Raises UsageError when it isn't one."""
    if given is None or isinstance(given, Budget):
        return given
    raise UsageError(
        f"budget={repr_of(given)}: expected a Budget or None.\n  Fix: budget=Budget(max_tokens=50_000), for example."
    )


def budgets_with(*own: Budget | None) -> tuple[Budget, ...]:
    """The budgets that a call is charged to: those of :func:`spending`, and `own`. None twice."""
    found = (*_spending.get(), *(budget for budget in own if budget is not None))
    return tuple(dict.fromkeys(found))


@contextmanager
def listening(listener: Listener) -> Generator[None]:
    """Tell `listener` of the requests that this task, and the tasks that it starts inside the block, make."""
    before = _listening.get()
    _listening.set((*before, listener))
    try:
        yield
    finally:
        _listening.set(before)


async def reserve(
    budgets: tuple[Budget, ...], tokens: int, cost_usd: float, *, lasts: bool = False, common: Common | None = None
) -> Reservation:
    """Hold so much of all `budgets` until it is settled or released. Waits for its turn; no checkpoint where there is room.

    Args:
        budgets: see :func:`budgets_with`.
        tokens: prompt and completion together.
        cost_usd: in US dollars.
        lasts: whether a block of the caller's may hold it for long; see :func:`held_by_block`.
        common: counts those budgets that other processes share.

    Raises:
        LMBudgetExhausted: one of them has spent it; nothing is held then of any.
        UsageError: one of them is to be shared, and cannot be.
    """
    if not budgets:
        return Reservation((), 0, 0.0, lasts, _listening.get())
    for budget in budgets:
        budget.share(common)
    is_holder = any(reservation.binds(budgets) for reservation in _held.get())
    waiter = _Waiter(budgets, tokens, cost_usd, is_holder)
    try:
        while not waiter.may_go():
            waiter.news = trio.Event()
            if not await _drawn_for(waiter):
                await waiter.news.wait()
        for budget in budgets:
            budget.hold(tokens, cost_usd, lasts=lasts)
    finally:
        waiter.stand_in(())
    return Reservation(budgets, tokens, cost_usd, lasts, _listening.get())


async def _drawn_for(waiter: _Waiter) -> bool:
    """Draw on the shared budgets that have no room for `waiter`; whether any has more now."""
    has_more = False
    for budget in waiter.lines:
        has_more |= await budget.draw(waiter)
    return has_more


@contextmanager
def held_by_block(reservation: Reservation) -> Generator[None]:
    """Calls of this task in the block are made while `reservation` is held: none of them may wait for it."""
    _held.set((*_held.get(), reservation))
    try:
        with reservation:
            yield
    finally:
        _held.set(tuple(each for each in _held.get() if each is not reservation))
