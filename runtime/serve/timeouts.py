"""Many waits of one length: one task and one deadline for all of them.

Each open stream waits for events, and each write for its client. A cancel scope with a deadline around every one of them would
cost more memory and time than the wait itself, times readers, times events. Waits of one length end in the order in which they
began, so a single task can sleep until the oldest of them.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Generic, TypeVar, final

import trio

T = TypeVar("T")


@final
class Timeouts(Generic[T]):
    """Calls `due` for each wait that has lasted `after_s` seconds, once."""

    def __init__(self, after_s: float, due: Callable[[T], None]) -> None:
        self._after_s = after_s
        self._due = due
        self._since: OrderedDict[T, float] = OrderedDict()
        self._sleeper: trio.Event | None = None

    def begin(self, wait: T) -> None:
        """It waits from now on. It must not wait already."""
        self._since[wait] = trio.current_time()
        if self._sleeper is not None:
            self._sleeper.set()
            self._sleeper = None

    def end(self, wait: T) -> None:
        """It waits no longer, or was called already."""
        self._since.pop(wait, None)

    async def run(self) -> None:
        """Call them, for as long as this is not cancelled."""
        while True:
            oldest = next(iter(self._since.items()), None)
            if oldest is None:
                self._sleeper = trio.Event()
                await self._sleeper.wait()
            elif oldest[1] + self._after_s > trio.current_time():
                await trio.sleep_until(oldest[1] + self._after_s)
            else:
                del self._since[oldest[0]]
                self._due(oldest[0])
