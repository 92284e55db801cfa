"""A process's part of a budget that several processes share: it draws more when it needs more, and gives back what it does not.

What it holds counts as spent with all others from the moment at which it draws it. So the budget holds for all of them together,
and what a process that dies had drawn is spent.
"""

from __future__ import annotations

import math
from typing import Final, final

import trio

from runtime.lm.limits.common_store import SLICE_S, Common

LARGEST: Final = 0.01
"""What part of the whole is drawn at a time, at most, unless one call needs more."""


@final
class Drawn:
    """What this process has drawn of the budget `name`: so much `tokens` and `usd`, what it has spent of that included.

    Args:
        name: under which `common` counts it.
        max_tokens: of all processes together.
        max_usd: of all processes together.
        common: what counts.
        tokens: what this process has spent of it, and has counted, before.
        usd: the same in US dollars.
    """

    def __init__(
        self, name: str, max_tokens: float, max_usd: float, common: Common, tokens: float = 0.0, usd: float = 0.0
    ) -> None:
        self.common = common
        self.tokens = tokens
        self.usd = usd
        self.others_tokens = 0.0
        """What all others had drawn when the store was asked last."""
        self.others_usd = 0.0
        self._name = name
        self._max_tokens = max_tokens
        self._max_usd = max_usd
        self._turn = trio.Lock()
        self._size_tokens = self._size_usd = 0.0
        self._used_s = -math.inf

    async def cover(self, tokens: float, usd: float) -> bool:
        """Have drawn at least so much in all, what is spent included; False: there is not so much left of the budget.

        Others may hold it and not need it: what they do not use they give back after some seconds, which this waits for once.
        """
        async with self._turn:
            for patience_s in (SLICE_S * 1.5, 0.0):
                missing = max(0.0, tokens - self.tokens), max(0.0, usd - self.usd)
                if missing == (0.0, 0.0):
                    return True
                self._size_tokens = max(missing[0], min(2 * self._size_tokens, self._largest(self._max_tokens)))
                self._size_usd = max(missing[1], min(2 * self._size_usd, self._largest(self._max_usd)))
                if await self._draw(self._size_tokens, self._size_usd) or await self._draw(*missing):
                    return True
                self._size_tokens = self._size_usd = 0.0
                await trio.sleep(patience_s)
            return False

    @staticmethod
    def _largest(most: float) -> float:
        return 0.0 if math.isinf(most) else most * LARGEST

    async def _draw(self, tokens: float, usd: float) -> bool:
        self._used_s = trio.current_time()
        spent = await self.common.spend(self._name, tokens, usd, self._max_tokens, self._max_usd)
        if spent.is_counted:
            self.tokens += tokens
            self.usd += usd
        self.others_tokens = max(0.0, spent.tokens - self.tokens)
        self.others_usd = max(0.0, spent.usd - self.usd)
        return spent.is_counted

    async def settle(self, tokens: float, usd: float, *, is_last: bool) -> None:
        """So much is spent and held here: give back the rest if it has not been needed for a while, or count what is above."""
        async with self._turn:
            idle_tokens, idle_usd = self.tokens - tokens, self.usd - usd
            if not is_last and trio.current_time() - self._used_s < SLICE_S:  # it may need the rest soon
                idle_tokens, idle_usd = min(0.0, idle_tokens), min(0.0, idle_usd)
            if idle_tokens or idle_usd:
                await self.common.spend(self._name, -idle_tokens, -idle_usd, math.inf, math.inf)
                self.tokens -= idle_tokens
                self.usd -= idle_usd
