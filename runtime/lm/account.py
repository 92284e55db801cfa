"""What all calls on one provider account share: its rate limits, its pauses, and its breaker.

Two clients with the same provider, address and key draw on one account, whichever nodes they serve. A reply that asks for
patience holds every call on the account back until the time is up; they wait, they do not fail. Nothing here sends anything.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import final

import attrs
import trio

from actors.errors import LMError, LMRateLimited, LMTimeout, LMUnavailable

WINDOW_S = 60.0
BREAK_AFTER = 20
"""Failures in a row, without one success between them, after which the account's provider counts as down."""
COOL_OFF_S = 10.0
"""How long calls fail at once then; after it, one of them is let through to see."""


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
            wait_s = self._wait_s(amount)
            while wait_s > 0:
                with trio.move_on_after(wait_s):
                    await self._corrected.wait()
                wait_s = self._wait_s(amount)
            entry.at_s = trio.current_time()
            self._entries.append(entry)
            self._sum += amount
        return entry

    def correct(self, entry: _Entry, amount: float) -> None:
        """Book `amount` in place of what was taken."""
        if not entry.is_booked:
            return
        self._sum += amount - entry.amount
        entry.amount = amount
        self._corrected.set()
        self._corrected = trio.Event()

    def _wait_s(self, amount: float) -> float:
        now_s = trio.current_time()
        while self._entries and self._entries[0].at_s + WINDOW_S <= now_s:
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
    """One request's permission to go out."""

    started_s: float
    _tokens: MinuteLimit
    _entry: _Entry

    def used(self, tokens: int) -> None:
        """Book what the request really used."""
        self._tokens.correct(self._entry, tokens)


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

    @asynccontextmanager
    async def admitted(self, tokens: int, max_pause_s: float) -> AsyncGenerator[Ticket]:
        """Wait until a request may go out; inside the block it is on its way, and its outcome is learned from.

        Args:
            tokens: what the request is expected to use.
            max_pause_s: a longer pause of the account is not waited out.

        Raises:
            LMUnavailable: the provider is down; nothing was sent.
            LMRateLimited: the account is paused for longer than `max_pause_s`; nothing was sent.
        """
        await self._wait_for_the_end_of_the_pause(max_pause_s)
        await self.requests.take(1)
        entry = await self.tokens.take(tokens)
        borrower = object()
        try:
            self._limiter.acquire_on_behalf_of_nowait(borrower)
        except trio.WouldBlock:
            await self._limiter.acquire_on_behalf_of(borrower)
        is_probe = False
        try:
            await self._wait_for_the_end_of_the_pause(max_pause_s)
            is_probe = self._check_breaker()
            ticket = Ticket(trio.current_time(), self.tokens, entry)
            try:
                yield ticket
            except LMError as error:
                self._failed(error, ticket)
                raise
            self._succeeded()
        finally:
            if is_probe:
                self._is_probing = False
            self._limiter.release_on_behalf_of(borrower)

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

    def _failed(self, error: LMError, ticket: Ticket) -> None:
        now_s = trio.current_time()
        if error.retry_after_s is not None:
            self._paused_until = max(self._paused_until, now_s + error.retry_after_s)
        if isinstance(error, LMRateLimited | LMTimeout) and ticket.started_s > self._lowered_s:
            # Once per wave: requests that were on their way when the limit fell say nothing about the new one.
            self._lowered_s = now_s
            self._set_limit(max(1.0, min(self._limit, self._limiter.statistics().borrowed_tokens) / 2))
        if isinstance(error, LMUnavailable | LMTimeout):
            self._failures += 1
            if self._failures >= BREAK_AFTER:
                self._broken_until = now_s + COOL_OFF_S
        else:
            self._failures, self._broken_until = 0, None  # it answers

    def _succeeded(self) -> None:
        self._failures, self._broken_until = 0, None
        if not math.isinf(self._limit):
            self._set_limit(self._limit + 1 / self._limit)

    def _set_limit(self, limit: float) -> None:
        self._limit = limit
        self._limiter.total_tokens = math.floor(limit)
