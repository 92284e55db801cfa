"""Between mailbox and handler: where tests watch what actors handle, and bend it.

A tap is a function of an actor's address and its handler that returns the handler to use instead. It holds for incarnations and
``become`` handlers that begin after it was set.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from runtime.app import Runtime

Handler = Callable[[Any], Awaitable[Any]]
Tap = Callable[[str, Handler], Handler]


def tap(runtime: Runtime, around: Tap) -> None:
    """Set `around` on `runtime`, outside of the taps that are there already."""
    services = runtime._services  # pyright: ignore[reportPrivateUsage]
    former = services.around_receive

    def both(address: str, handler: Handler) -> Handler:
        return around(address, handler if former is None else former(address, handler))

    services.around_receive = both
