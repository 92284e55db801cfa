"""What counts what several processes use together: a store, as limits and budgets see it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Protocol, final

import attrs

SLICE_S = 2.0
"""For how long a process keeps what it has taken of a common limit or budget and does not use; then it gives it back."""


@final
@attrs.frozen
class Spent:
    """What has become of asking for a part of a common budget."""

    is_counted: bool
    """Whether it may be spent."""
    tokens: float
    """What is spent by all, parts that others still hold included."""
    usd: float


class Common(Protocol):
    """Counts for all processes. Both calls wait until the store can be reached."""

    async def owe(self, name: str, seconds: float) -> float:
        """Put `seconds` behind what is owed under `name`; returns for how long that is still owed. See ``AllowanceStore.owe``."""
        ...

    async def spend(self, name: str, tokens: float, usd: float, max_tokens: float, max_usd: float) -> Spent:
        """Count so much as spent, unless that would be more than may be."""
        ...

    def tend(self, settle: Callable[[bool], Awaitable[None]]) -> None:
        """Call `settle` every :data:`SLICE_S` seconds, and with True at the end: it gives back what is not used."""
        ...
