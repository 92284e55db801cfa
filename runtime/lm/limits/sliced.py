"""A limit per minute that several processes share: each takes slices of it that last for some seconds.

All processes put what they take into one line of time, which a store keeps; a slice may be used when its turn in the line is at
most a minute away. So the line is the rate of them all, first come first served, and a slice whose process dies is simply used.
"""

from __future__ import annotations

import math
from typing import final

import trio

from runtime.lm.limits.common_store import SLICE_S, Common
from runtime.lm.limits.quota import WINDOW_S, QuotaEntry


@final
class SlicedLimit:
    """As ``MinuteLimit``, for all processes that count with the same `common` under `name`.

    Args:
        most: requests or tokens per minute, of all processes together; ``inf`` for no limit.
        name: of the account and of what is counted.
        common: what counts.
    """

    def __init__(self, most: float, name: str, common: Common) -> None:
        self.most = most
        self._name = name
        self._common = common
        self._turn = trio.Lock()
        self._left = 0.0
        """Of the slice."""
        self._at_s = 0.0
        """Where in the line that begins."""
        self._from_s = self._until_s = -math.inf
        """When the slice may be used."""
        self._size = 0.0
        """How large the last slice was, if it was used up."""
        self._debt_s = 0.0
        """What was used beyond what was taken, and is not in the line yet; below 0: what is to be given back."""
        self._line_s = -math.inf
        """Where the line ends, as far as is known."""
        self._is_tended = False

    async def take(self, amount: float) -> QuotaEntry:
        """See ``Limit.take``; processes take turns with their slices."""
        entry = QuotaEntry(amount)
        if math.isinf(self.most):
            return entry
        if not self._is_tended:
            self._is_tended = True
            self._common.tend(self.settle)
        each_s = WINDOW_S / self.most
        async with self._turn:
            self._drop_if_old()
            if self._left < amount:
                await self._draw(amount, each_s)
            if self._from_s > trio.current_time():
                await trio.sleep_until(self._from_s)
            entry.each_s, entry.begin_s = each_s, self._at_s
            self._at_s += amount * each_s
            self._left = max(0.0, self._left - amount)
        return entry

    async def _draw(self, amount: float, each_s: float) -> None:
        """Take a slice with room for `amount`: twice as much as the last, while slices are used up, of at most some seconds."""
        largest = self.most * SLICE_S / WINDOW_S
        self._size = max(amount, min(2 * self._size, largest))
        taken = self._size - self._left
        debt_s, self._debt_s = self._debt_s, 0.0
        ahead_s = await self._common.owe(self._name, taken * each_s + debt_s)
        now_s = trio.current_time()
        self._line_s = now_s + max(0.0, ahead_s + taken * each_s + debt_s)
        begin_s = self._line_s - taken * each_s
        self._at_s = begin_s - self._left * each_s
        self._left = self._size
        self._from_s = begin_s + min(taken * each_s, WINDOW_S) - WINDOW_S
        self._until_s = max(now_s, self._from_s) + SLICE_S

    def _drop_if_old(self) -> None:
        """Give back what is left of a slice that no one has used in time; what time has paid back already stays so."""
        now_s = trio.current_time()
        if now_s <= self._until_s or not self._left:
            return
        end_s = self._at_s + self._left * WINDOW_S / self.most
        self._debt_s -= max(0.0, end_s - max(now_s, self._at_s))
        self._left = self._size = 0.0

    def correct(self, entry: QuotaEntry, amount: float) -> None:
        """See ``Limit.correct``; the line is told with the next slice."""
        if not entry.each_s:
            return
        if amount > entry.amount:
            self._debt_s += (amount - entry.amount) * entry.each_s
            entry.amount = amount
        else:
            now_s, ended_s = trio.current_time(), entry.end_s
            entry.amount = amount
            self._debt_s -= max(0.0, ended_s - max(now_s, entry.end_s))

    async def settle(self, is_last: bool) -> None:
        """Give back what is not used, and book what was used beyond what was taken."""
        if self._turn.statistics().locked and not is_last:
            return  # the task that is at it does so
        async with self._turn:
            self._until_s = -math.inf if is_last else self._until_s
            self._drop_if_old()
            debt_s, self._debt_s = self._debt_s, 0.0
            if debt_s:
                ahead_s = await self._common.owe(self._name, debt_s)
                self._line_s = trio.current_time() + max(0.0, ahead_s + debt_s)

    @property
    def used(self) -> float:
        """See ``Limit.used``; of all processes, as far as this one knows."""
        if math.isinf(self.most):
            return 0.0
        return max(0.0, self._line_s - trio.current_time()) * self.most / WINDOW_S
