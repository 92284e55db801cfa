"""How long a store keeps runs that are over."""

from __future__ import annotations

import math
from datetime import datetime, timedelta
from typing import Final, final

import attrs

from actors.errors import UsageError
from actors.words import repr_of
from runtime.journal.store import Store

DAY_S: Final = 86_400.0
LEAST_SWEEP_S: Final = 60.0
MOST_SWEEP_S: Final = 3_600.0


@final
@attrs.frozen
class Retention:
    """How long runs are kept after their end: ``open_runtime(store=…, retention=Retention(done_s=7 * 86400))``.

    Runs that are not over are never touched, however old they are. None keeps forever.
    """

    done_s: float | None = 30 * DAY_S
    """Seconds for which a run that succeeded is kept."""
    failed_s: float | None = 90 * DAY_S
    """Seconds for which a run that failed or was cancelled is kept."""
    payload_s: float | None = None
    """Seconds after which the data of a run is dropped; its kinds, paths, times and digests stay until the run is deleted."""

    def __attrs_post_init__(self) -> None:
        """Raises ``UsageError`` for a duration that cannot be meant."""
        for name in ("done_s", "failed_s", "payload_s"):
            value: object = getattr(self, name)
            if value is not None and (isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < math.inf):
                raise UsageError(
                    f"Retention({name}={repr_of(value)}): expected seconds, or None to keep forever.\n  Fix: 7 * 86400 is a week."
                )

    @property
    def sweep_s(self) -> float:
        """How often to look, in seconds: ten times within the shortest duration, from once a minute to once an hour."""
        shortest = min((each for each in (self.done_s, self.failed_s, self.payload_s) if each is not None), default=math.inf)
        return min(max(shortest / 10, LEAST_SWEEP_S), MOST_SWEEP_S)

    async def sweep(self, store: Store) -> int:
        """Delete what is kept no longer, and return how many runs that were. Raises ``StoreError``."""
        now = store.wall_time()

        def before(seconds: float | None) -> datetime | None:
            return None if seconds is None else now - timedelta(seconds=min(seconds, 3650 * DAY_S))

        return await store.expire(before(self.done_s), before(self.failed_s), before(self.payload_s))
