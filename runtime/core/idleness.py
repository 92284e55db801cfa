"""A limit for how long the handling of one message may go on without a sign of life."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, final

import trio

from actors.errors import ActorIdle


@final
class Idleness:
    """Cancels a handler that has given no sign of life for `limit_s` seconds, and raises ``ActorIdle`` instead."""

    __slots__ = ("_address", "_limit_s", "_scope")

    def __init__(self, address: str, limit_s: float) -> None:
        self._address = address
        self._limit_s = limit_s
        self._scope: trio.CancelScope | None = None

    def bounding(self, handler: Callable[[Any], Awaitable[Any]]) -> Callable[[Any], Awaitable[Any]]:
        """`handler` under this limit."""

        async def handle(message: Any) -> Any:
            with trio.CancelScope(deadline=trio.current_time() + self._limit_s) as self._scope:
                try:
                    return await handler(message)
                finally:
                    self._scope = None
            raise ActorIdle(
                f"{self._address!r} gave no sign of life for idle_timeout_s={self._limit_s:g}.\n"
                "  Fix: call self.context.heartbeat() while it works, or give it a larger idle_timeout_s.",
                address=self._address,
            )

        return handle

    def renew(self) -> None:
        """A sign of life: the limit for the current message begins again."""
        if self._scope is not None:
            self._scope.deadline = trio.current_time() + self._limit_s
