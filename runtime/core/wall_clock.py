"""The wall clock beside the runtime's own, which starts at a random number: read once, so no step of it moves an event."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Final, final

import attrs
import trio

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


@final
@attrs.frozen
class WallClock:
    """Two clocks that showed the same moment."""

    at_s: float
    """The runtime's clock, in seconds."""
    time: datetime
    """UTC."""

    def of(self, at_s: float) -> datetime:
        """The time in UTC at which the runtime's clock showed `at_s`."""
        return self.time + timedelta(seconds=at_s - self.at_s)


def read_wall_clock() -> WallClock:
    """Read both now. A virtual clock has no other beside it: its seconds count from 1970, so they are the same in every test."""
    clock = trio.lowlevel.current_clock()
    if type(clock).__name__ != "SystemClock":  # trio's own, which has no public name
        return WallClock(0.0, _EPOCH)
    return WallClock(clock.current_time(), datetime.now(UTC))
