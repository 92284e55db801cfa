"""What a client needs to be open: the transport that it shares, its own share of it, and the account it draws on."""

from __future__ import annotations

from types import TracebackType
from typing import final

import attrs
import trio

from runtime.lm.http.tape import Tape
from runtime.lm.http.transport import HttpTransport
from runtime.lm.limits.account import Account
from runtime.lm.limits.budget import Budget
from runtime.lm.limits.common_store import Common


@final
@attrs.define(eq=False)
class ClientLink:
    """One client's way to its provider, from being bound to being unbound."""

    transport: HttpTransport
    limiter: trio.CapacityLimiter
    """The client's own share of the transport's connections."""
    budget: Budget | None = None
    """The owner's; every call is charged to it as well."""
    tape: Tape | None = None
    """Records what passes, or answers in its place."""
    common: Common | None = None
    """Counts what several processes use together."""
    account: Account | None = None
    """Found at the first call, when the provider and the key are known."""

    async def place(self) -> ClientPlace:
        """Wait for a place among the client's requests; without a turn of the scheduler where no call waits."""
        place = ClientPlace(self.limiter)
        try:
            self.limiter.acquire_on_behalf_of_nowait(place)
        except trio.WouldBlock:
            await self.limiter.acquire_on_behalf_of(place)
        return place


@final
class ClientPlace:
    """One of a client's places, held for the length of a ``with`` block. Not by a task: one task may hold several."""

    __slots__ = ("__weakref__", "_limiter")

    def __init__(self, limiter: trio.CapacityLimiter) -> None:
        self._limiter = limiter

    def __enter__(self) -> None:
        """It is held already."""

    def release(self) -> None:
        """Let the next one in."""
        self._limiter.release_on_behalf_of(self)

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        self.release()
