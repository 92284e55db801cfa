"""What all owners of one store may use together: rates, as time that is owed, and amounts that are spent.

Everything is booked before it is used. So what a worker has booked and died with counts as used, and no one has to find out.
"""

from __future__ import annotations

import math
from typing import Protocol, final, runtime_checkable

import attrs


@final
@attrs.frozen
class Amount:
    """What is spent of a budget; negative: given back."""

    tokens: float = 0.0
    usd: float = 0.0
    """US dollars."""


NO_LIMIT = Amount(math.inf, math.inf)


@runtime_checkable
class AllowanceStore(Protocol):
    """A store that counts what all who have it open use together; with any other, limits and budgets hold for one runtime."""

    async def owe(self, name: str, seconds: float) -> float:
        """Put `seconds` behind everything that is owed under `name`; returns for how many seconds that, before it, is still owed.

        It is paid back by the passing of time. Negative `seconds` are taken off, and not more than is still owed.
        """
        ...

    async def spend(self, name: str, amount: Amount, most: Amount) -> tuple[bool, Amount]:
        """Count `amount` as spent under `name`, durably, unless that would make it more than `most`.

        Returns whether it is counted, and what is spent under that name now.
        """
        ...
