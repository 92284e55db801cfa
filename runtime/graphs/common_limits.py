"""What the limits and budgets of a runtime count with, where its store counts for all processes that have it open."""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable
from typing import Final, Self, TypeVar, final

import trio

from actors.store_errors import StoreError
from runtime.journal.allowances import AllowanceStore, Amount
from runtime.lm.limits.common_store import SLICE_S, Spent

T = TypeVar("T")
RETRY_S: Final = 1.0
"""How long after a failure of the store it is asked again."""


@final
class CommonLimits:
    """A ``Common``. A call of a language model waits while the store is away, as the run that makes it would have to anyway."""

    def __init__(self, store: AllowanceStore) -> None:
        """Nothing is counted before the store is open."""
        self._store = store
        self._settles: list[Callable[[bool], Awaitable[None]]] = []
        self._has_any = trio.Event()
        self._is_closed = False

    @classmethod
    def of(cls, store: object) -> Self | None:
        """That of `store`; None if it is none that counts, so limits and budgets hold for this process."""
        return cls(store) if isinstance(store, AllowanceStore) else None

    async def owe(self, name: str, seconds: float) -> float:
        """See ``Common.owe``."""
        return await self._asked(lambda: self._store.owe(name, seconds))

    async def spend(self, name: str, tokens: float, usd: float, max_tokens: float, max_usd: float) -> Spent:
        """See ``Common.spend``."""
        amount, most = Amount(tokens, usd), Amount(max_tokens, max_usd)
        is_counted, spent = await self._asked(lambda: self._store.spend(name, amount, most))
        return Spent(is_counted, spent.tokens, spent.usd)

    def tend(self, settle: Callable[[bool], Awaitable[None]]) -> None:
        """See ``Common.tend``."""
        self._settles.append(settle)
        self._has_any.set()

    async def run(self) -> None:
        """Give back what is not used, again and again; a program without common limits isn't woken for it."""
        await self._has_any.wait()
        while True:
            await trio.sleep(SLICE_S)
            for settle in list(self._settles):
                await settle(False)

    async def close(self) -> None:
        """Give back everything, while the store is still open; what it cannot take now counts as used."""
        self._is_closed = True
        settles, self._settles = self._settles, []
        for settle in settles:
            with contextlib.suppress(StoreError):
                await settle(True)

    async def _asked(self, ask: Callable[[], Awaitable[T]]) -> T:
        while True:
            try:
                with trio.CancelScope(shield=True):  # or what the store has counted would be counted by no one here
                    return await ask()
            except StoreError:
                if self._is_closed:
                    raise
                await trio.sleep(RETRY_S)
