"""What all calls of one model on one provider account share: pauses, an adaptive limit, a breaker, and the account's quota.

Two clients with the same provider, address, key and model share all of it, whichever nodes they serve; of two models on one key
only the quota is shared, so one that is overloaded or down holds no other back. A reply that asks for patience holds every
call of its model back until the time is up; they wait, they do not fail. Nothing here sends anything.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Self, final

import attrs
import trio

from actors.errors import LMError, LMRateLimited, LMTimeout, LMUnavailable
from runtime.lm.limits.adaptive import AdaptiveLimit
from runtime.lm.limits.quota import Quota, QuotaEntry

if TYPE_CHECKING:
    from types import TracebackType

BREAK_AFTER = 20
"""Failures in a row, without one success between them, after which the model counts as down."""
COOL_OFF_S = 10.0
"""How long calls fail immediately then; after it, one of them is let through to see."""
LONGEST_PAUSE_S = 3600.0
"""No ``Retry-After`` holds a model back for longer: a provider's slip of a digit must not shut it forever."""
PROBE_S = 60.0
"""How often one call is let through a longer pause, to see whether it is over early."""
PAUSING_STATUSES = frozenset({429, 503, 529})
"""Only these ask for patience on behalf of other calls. A wrong request says nothing about the next one."""


@final
@attrs.frozen
class AccountStatistics:
    """A snapshot of one model's part of an account."""

    in_flight: int
    """Requests on their way."""
    waiting: int
    """Requests that the adaptive limit holds back."""
    limit: float
    """How many requests may be on their way at the same time; ``inf`` until the provider first asks for patience."""
    paused_s: float
    """Seconds for which every call still waits."""
    failures_in_a_row: int
    is_broken: bool
    """Whether calls fail immediately, because the provider is down."""


@final
@attrs.define(eq=False)
class Ticket:
    """One request's permission to go out. Leave it as a context manager, or :meth:`close` it.

    Left as a context manager, an LMError is a failure, no error a success, and a cancellation neither.
    """

    _account: Account
    _request: QuotaEntry
    _tokens: QuotaEntry | None = None
    started_s: float = math.inf
    """When it could go out."""
    is_probe: bool = False
    """Whether it is the one that finds out if the provider is up again."""
    wave: int | None = None
    """Which requests are on their way together with it; None while it is not on its way."""
    excess_beside: int = 0
    """Beside how many others it was turned away as one too many, which the adaptive limit should have known."""
    _is_judged: bool = False

    def expects(self, tokens: QuotaEntry) -> None:
        """What it is expected to use is booked."""
        self._tokens = tokens

    def used(self, tokens: int) -> None:
        """Book what the request really used."""
        if self._tokens is not None:
            self._account.quota.tokens.correct(self._tokens, tokens)

    def unsent(self) -> None:
        """Nothing went out, so nothing is to be counted."""
        self._account.quota.requests.correct(self._request, 0)
        self.used(0)
        self.close()

    def succeeded(self) -> None:
        """The whole answer is there. Only the first result of a request counts."""
        if not self._is_judged:
            self._is_judged = True
            self._account.succeeded(self.started_s)

    def failed(self, error: LMError) -> None:
        """There is no answer, or no whole one. Only the first result of a request counts."""
        if not self._is_judged:
            self._is_judged = True
            self._account.failed(error, self)

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
    """The shared state of one model on one provider account.

    Args:
        name: for messages: the provider's address.
        quota: the account's; left out, the account makes one.
    """

    def __init__(self, name: str, quota: Quota | None = None) -> None:
        self.name = name
        self.quota = Quota() if quota is None else quota
        self._limit = AdaptiveLimit()
        self._paused_at_s = self._paused_until = self._probe_at_s = -math.inf
        self._resumed = trio.Event()
        self._failures = 0
        self._broken_until: float | None = None
        self._is_probing = False

    def statistics(self) -> AccountStatistics:
        """Its state now."""
        return AccountStatistics(
            in_flight=self._limit.in_flight,
            waiting=self._limit.waiting,
            limit=self._limit.most,
            paused_s=max(0.0, self._paused_until - trio.current_time()),
            failures_in_a_row=self._failures,
            is_broken=self._broken_until is not None,
        )

    def declare(self, rpm: float | None, tpm: float | None) -> None:
        """See :meth:`runtime.lm.limits.quota.Quota.declare`."""
        self.quota.declare(rpm, tpm)

    async def admit(self, tokens: int, max_pause_s: float) -> Ticket:
        """Wait until a request may go out; until its ticket is closed, it is on its way. Cancelled, nothing stays booked.

        Args:
            tokens: what the request is expected to use.
            max_pause_s: a longer pause is not waited out.

        Raises:
            LMUnavailable: the model is down; nothing was sent.
            LMRateLimited: the model is paused for longer than `max_pause_s`; nothing was sent.
        """
        is_sounding = await self._wait_for_the_end_of_the_pause(max_pause_s)
        ticket = Ticket(self, await self.quota.requests.take(1))
        try:
            ticket.expects(await self.quota.tokens.take(tokens))
            ticket.wave = await self._limit.enter()
            if not is_sounding:
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
        if ticket.wave is not None:
            ticket.wave = None
            self._limit.leave()

    async def _wait_for_the_end_of_the_pause(self, max_pause_s: float) -> bool:
        """Whether this call goes out in the middle of it, as the one in a minute that finds out whether it is over."""
        while (wait_s := self._paused_until - (now_s := trio.current_time())) > 0:
            if now_s >= self._probe_at_s:
                self._probe_at_s = now_s + PROBE_S
                return True
            if wait_s > max_pause_s:
                error = LMRateLimited(
                    f"{self.name} has asked for patience, for {wait_s:g} s more; nothing was sent.\n"
                    "  Fix: wait, raise Retry(max_retry_after_s=…), or name fallbacks."
                )
                error.retry_after_s = wait_s
                raise error
            with trio.move_on_after(min(wait_s, self._probe_at_s - now_s)):
                await self._resumed.wait()
        return False

    def _check_breaker(self) -> bool:
        """Whether this request is the one that is let through to see; LMUnavailable while the model counts as down."""
        if self._broken_until is None:
            return False
        wait_s = self._broken_until - trio.current_time()
        if wait_s > 0 or self._is_probing:
            error = LMUnavailable(
                f"{self.name} has failed {self._failures} times in a row and counts as down; nothing was sent.\n"
                "  Fix: check the provider's status page; calls go out again after a while on their own."
            )
            error.retryable = False
            raise error
        self._is_probing = True
        return True

    def failed(self, error: LMError, ticket: Ticket) -> None:
        """Learn from the failure of the request that `ticket` is for."""
        now_s = trio.current_time()
        if error.retry_after_s is not None and error.status in PAUSING_STATUSES:
            self._paused_at_s, self._probe_at_s = now_s, now_s + PROBE_S
            self._paused_until = max(self._paused_until, now_s + min(error.retry_after_s, LONGEST_PAUSE_S))
        if isinstance(error, LMRateLimited | LMTimeout) and ticket.wave is not None:
            is_turned_away = isinstance(error, LMRateLimited)
            others = self._limit.overrun(ticket.wave, ticket.started_s, holds=is_turned_away)
            ticket.excess_beside = others if is_turned_away else 0
        if isinstance(error, LMUnavailable | LMTimeout):
            self._failures += 1
            if self._failures >= BREAK_AFTER:
                self._broken_until = now_s + COOL_OFF_S
        else:
            self._failures, self._broken_until = 0, None  # it answers: test_a_provider_that_rejects_a_request_is_not_down

    def succeeded(self, started_s: float = -math.inf) -> None:
        """Learn from the answer to a request that went out at `started_s`. One sent in a pause shows that it is over."""
        self._failures, self._broken_until = 0, None
        self._limit.succeeded()
        if started_s > self._paused_at_s and self._paused_until > trio.current_time():
            self._paused_until = -math.inf
            self._resumed.set()
            self._resumed = trio.Event()
