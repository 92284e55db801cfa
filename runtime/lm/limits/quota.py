"""What a provider account may use per minute, where its user sets it: requests and tokens, refilled all the time.

All models on the account draw on it. Nothing here sends anything.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Protocol, final

import attrs
import trio

WINDOW_S = 60.0


class Limit(Protocol):
    """So many requests or tokens a minute."""

    most: float

    async def take(self, amount: float) -> QuotaEntry:
        """Wait, in order of arrival, until `amount` fits, and book it. More than a minute's worth waits until nothing is owed."""
        ...

    def correct(self, entry: QuotaEntry, amount: float) -> None:
        """Book `amount` in place of what was taken: 0 for what was never sent. What has been paid back meanwhile stays so."""
        ...

    @property
    def used(self) -> float:
        """How much of a minute's worth has been taken and is not paid back yet; 0 without a limit."""
        ...


@final
class MinuteLimit:
    """A minute's worth together after a quiet minute, and from then on as much as refills: `most` per sixty seconds.

    It is the generic cell rate algorithm: what is taken is paid back at a constant rate, and at most a minute's worth is owed.

    Args:
        most: requests or tokens; ``inf`` for no limit.
    """

    def __init__(self, most: float) -> None:
        self.most = most
        self._paid_at_s = -math.inf
        """When all that was taken will have been paid back."""
        self._turn = trio.Lock()
        self._corrected = trio.Event()

    async def take(self, amount: float) -> QuotaEntry:
        """See ``Limit.take``."""
        entry = QuotaEntry(amount)
        if math.isinf(self.most):
            return entry
        async with self._turn:
            while (wait_s := self._wait_s(amount)) > 0:
                with trio.move_on_after(wait_s):
                    await self._corrected.wait()
            entry.each_s = WINDOW_S / self.most
            entry.begin_s = max(self._paid_at_s, trio.current_time())
            self._paid_at_s = entry.end_s
        return entry

    def correct(self, entry: QuotaEntry, amount: float) -> None:
        """See ``Limit.correct``."""
        if not entry.each_s:
            return
        now_s, ended_s = trio.current_time(), entry.end_s
        if amount > entry.amount:
            self._paid_at_s = max(self._paid_at_s, now_s) + (amount - entry.amount) * entry.each_s
            entry.amount = amount
        else:
            entry.amount = amount
            self._paid_at_s -= max(0.0, ended_s - max(now_s, entry.end_s))
        self._corrected.set()
        self._corrected = trio.Event()

    @property
    def used(self) -> float:
        """See ``Limit.used``."""
        if math.isinf(self.most):
            return 0.0
        return max(0.0, self._paid_at_s - trio.current_time()) * self.most / WINDOW_S

    def _wait_s(self, amount: float) -> float:
        due_s = self._paid_at_s + min(amount * WINDOW_S / self.most, WINDOW_S) - WINDOW_S
        return due_s - trio.current_time()


@final
@attrs.define(eq=False)
class QuotaEntry:
    """What one request has taken of a :class:`MinuteLimit`."""

    amount: float
    each_s: float = 0.0
    """Seconds in which one is paid back; 0 where there is no limit."""
    begin_s: float = 0.0
    """When its own paying back begins."""

    @property
    def end_s(self) -> float:
        """When it has been paid back."""
        return self.begin_s + self.amount * self.each_s


@final
class Quota:
    """The two limits of one account."""

    def __init__(self, limit: Callable[[str], Limit] | None = None) -> None:
        """`limit` makes those that several processes share, by what is counted; None: they are this process's."""
        self.requests: Limit = MinuteLimit(math.inf) if limit is None else limit("requests")
        self.tokens: Limit = MinuteLimit(math.inf) if limit is None else limit("tokens")

    def declare(self, rpm: float | None, tpm: float | None) -> None:
        """A client's own limits per minute. If several clients on one account have limits, the lowest holds."""
        self.requests.most = min(self.requests.most, math.inf if rpm is None else rpm)
        self.tokens.most = min(self.tokens.most, math.inf if tpm is None else tpm)
