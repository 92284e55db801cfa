"""What all calls on one provider account share: its rate limits, its pauses, and its breaker.

Two clients with the same provider, address and key draw on one account, whichever nodes they serve. A reply that asks for
patience holds every call on the account back until the time is up; they wait, they do not fail. Nothing here sends anything.
"""

from __future__ import annotations

import math
from collections import deque
from typing import TYPE_CHECKING, Self, final

import attrs
import trio

from actors.errors import LMError, LMRateLimited, LMTimeout, LMUnavailable

if TYPE_CHECKING:
    from types import TracebackType

WINDOW_S = 60.0
BREAK_AFTER = 20
"""Failures in a row, without one success between them, after which the account's provider counts as down."""
COOL_OFF_S = 10.0
"""How long calls fail at once then; after it, one of them is let through to see."""
LONGEST_PAUSE_S = 3600.0
"""No ``Retry-After`` holds an account back for longer: a provider's slip of a digit must not shut it for ever."""


@final
class MinuteLimit:
    """At most so much in any sixty seconds. Not only on average: providers count by the minute, and so does this.

    Args:
        most: requests or tokens; ``inf`` for no limit.
    """

    def __init__(self, most: float) -> None:
        self.most = most
        self._entries: deque[_Entry] = deque()
        self._sum = 0.0
        self._turn = trio.Lock()
        self._corrected = trio.Event()

    async def take(self, amount: float) -> _Entry:
        """Wait, in order of arrival, until `amount` fits, and book it. One above the whole limit waits for an empty minute."""
        entry = _Entry(amount)
        if math.isinf(self.most):
            entry.is_booked = False
            return entry
        async with self._turn:
            while (wait_s := self._wait_s(amount)) > 0:
                with trio.move_on_after(wait_s):
                    await self._corrected.wait()
            entry.at_s = trio.current_time()
            self._entries.append(entry)
            self._sum += amount
        return entry

    def correct(self, entry: _Entry, amount: float) -> None:
        """Book `amount` in place of what was taken: 0 for what was never sent."""
        if not entry.is_booked:
            return
        self._sum += amount - entry.amount
        entry.amount = amount
        self._corrected.set()
        self._corrected = trio.Event()

    def _wait_s(self, amount: float) -> float:
        now_s = trio.current_time()
        while self._entries and (self._entries[0].at_s + WINDOW_S <= now_s or self._entries[0].amount <= 0):
            gone = self._entries.popleft()
            gone.is_booked = False
            self._sum -= gone.amount
        if not self._entries or self._sum + amount <= self.most:
            return 0.0
        return self._entries[0].at_s + WINDOW_S - now_s


@attrs.define(eq=False)
class _Entry:
    amount: float
    at_s: float = -math.inf
    is_booked: bool = True


@final
@attrs.frozen
class AccountStatistics:
    """A snapshot of one account."""

    in_flight: int
    """Requests on their way."""
    waiting: int
    """Requests that the adaptive limit holds back."""
    limit: float
    """How many requests may be on their way at once; ``inf`` until the provider first asks for patience."""
    paused_s: float
    """Seconds for which every call still waits."""
    failures_in_a_row: int
    is_broken: bool
    """Whether calls fail at once, because the provider is down."""


@final
@attrs.define(eq=False)
class Ticket:
    """One request's permission to go out. Leave it as a context manager, or :meth:`close` it.

    Left as a context manager, an LMError is a failure, no error a success, and a cancellation neither.
    """

    _account: Account
    _request: _Entry
    _tokens: _Entry | None = None
    started_s: float = math.inf
    """When it could go out."""
    is_probe: bool = False
    """Whether it is the one that finds out if the provider is up again."""
    has_place: bool = False
    """Whether it counts as on its way."""
    _is_judged: bool = False

    def expects(self, tokens: _Entry) -> None:
        """What it is expected to use is booked."""
        self._tokens = tokens

    def used(self, tokens: int) -> None:
        """Book what the request really used."""
        if self._tokens is not None:
            self._account.tokens.correct(self._tokens, tokens)

    def unsent(self) -> None:
        """Nothing went out, so nothing is to be counted."""
        self._account.requests.correct(self._request, 0)
        self.used(0)
        self.close()

    def succeeded(self) -> None:
        """The whole answer is there. Only the first verdict on a request counts."""
        if not self._is_judged:
            self._is_judged = True
            self._account.succeeded()

    def failed(self, error: LMError) -> None:
        """There is no answer, or no whole one. Only the first verdict on a request counts."""
        if not self._is_judged:
            self._is_judged = True
            self._account.failed(error, self.started_s)

    def close(self) -> None:
        """The request is on its way no longer. Twice is fine."""
        self._account.leave(self)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        if isinstance(error, LMError):
            self.failed(error)
        elif error is None:
            self.succeeded()
        self.close()


@final
class Account:
    """The shared state of one provider account."""

    def __init__(self, name: str) -> None:
        self.name = name
        """For messages: the provider's address."""
        self.requests = MinuteLimit(math.inf)
        self.tokens = MinuteLimit(math.inf)
        self._limiter = trio.CapacityLimiter(math.inf)
        self._limit = math.inf
        self._lowered_s = -math.inf
        self._paused_until = -math.inf
        self._failures = 0
        self._broken_until: float | None = None
        self._is_probing = False

    def statistics(self) -> AccountStatistics:
        """Its state now."""
        limits = self._limiter.statistics()
        return AccountStatistics(
            in_flight=limits.borrowed_tokens,
            waiting=limits.tasks_waiting,
            limit=self._limit,
            paused_s=max(0.0, self._paused_until - trio.current_time()),
            failures_in_a_row=self._failures,
            is_broken=self._broken_until is not None,
        )

    def declare(self, rpm: float | None, tpm: float | None) -> None:
        """A client's own limits per minute. Of several clients' on one account, the lowest holds."""
        self.requests.most = min(self.requests.most, math.inf if rpm is None else rpm)
        self.tokens.most = min(self.tokens.most, math.inf if tpm is None else tpm)

    async def admit(self, tokens: int, max_pause_s: float) -> Ticket:
        """Wait until a request may go out; until its ticket is closed, it is on its way. Cancelled, nothing stays booked.

        Args:
            tokens: what the request is expected to use.
            max_pause_s: a longer pause of the account is not waited out.

        Raises:
            LMUnavailable: the provider is down; nothing was sent.
            LMRateLimited: the account is paused for longer than `max_pause_s`; nothing was sent.
        """
        await self._wait_for_the_end_of_the_pause(max_pause_s)
        ticket = Ticket(self, await self.requests.take(1))
        try:
            ticket.expects(await self.tokens.take(tokens))
            try:
                self._limiter.acquire_on_behalf_of_nowait(ticket)
            except trio.WouldBlock:
                await self._limiter.acquire_on_behalf_of(ticket)
            ticket.has_place = True
            await self._wait_for_the_end_of_the_pause(max_pause_s)
            ticket.is_probe = self._check_breaker()
        except BaseException:
            ticket.unsent()
            raise
        ticket.started_s = trio.current_time()
        return ticket

    def leave(self, ticket: Ticket) -> None:
        """`ticket` is closed."""
        if ticket.is_probe:
            ticket.is_probe = self._is_probing = False
        if ticket.has_place:
            ticket.has_place = False
            self._limiter.release_on_behalf_of(ticket)

    async def _wait_for_the_end_of_the_pause(self, max_pause_s: float) -> None:
        while (wait_s := self._paused_until - trio.current_time()) > 0:
            if wait_s > max_pause_s:
                error = LMRateLimited(
                    f"{self.name} has asked for patience, for {wait_s:g} s more; nothing was sent.\n"
                    "  Mend: wait, raise Retry(max_retry_after_s=…), or name fallbacks."
                )
                error.retry_after_s = wait_s
                raise error
            await trio.sleep(wait_s)

    def _check_breaker(self) -> bool:
        """Whether this request is the one that is let through to see; LMUnavailable while the provider counts as down."""
        if self._broken_until is None:
            return False
        wait_s = self._broken_until - trio.current_time()
        if wait_s > 0 or self._is_probing:
            error = LMUnavailable(
                f"{self.name} has failed {self._failures} times in a row and counts as down; nothing was sent.\n"
                "  Mend: check the provider's status page; calls go out again after a while by themselves."
            )
            error.retryable = False
            raise error
        self._is_probing = True
        return True

    def failed(self, error: LMError, started_s: float) -> None:
        """Learn from the failure of a request that went out at `started_s`."""
        now_s = trio.current_time()
        if error.retry_after_s is not None:
            self._paused_until = max(self._paused_until, now_s + min(error.retry_after_s, LONGEST_PAUSE_S))
        if isinstance(error, LMRateLimited | LMTimeout) and started_s > self._lowered_s:
            # Once per wave: requests that were on their way when the limit fell say nothing about the new one.
            self._lowered_s = now_s
            self._set_limit(max(1.0, min(self._limit, self._limiter.statistics().borrowed_tokens) / 2))
        if isinstance(error, LMUnavailable | LMTimeout):
            self._failures += 1
            if self._failures >= BREAK_AFTER:
                self._broken_until = now_s + COOL_OFF_S
        else:
            self._failures, self._broken_until = 0, None  # it answers

    def succeeded(self) -> None:
        """Learn from an answer."""
        self._failures, self._broken_until = 0, None
        if not math.isinf(self._limit):
            self._set_limit(self._limit + 1 / self._limit)

    def _set_limit(self, limit: float) -> None:
        self._limit = limit
        self._limiter.total_tokens = math.floor(limit)
