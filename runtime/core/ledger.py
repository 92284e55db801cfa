"""The restart budget of one supervisor, as arithmetic: no clock of its own, no task."""

from __future__ import annotations

from collections import deque
from typing import final

from actors.supervision import Supervision


@final
class RestartLedger:
    """Counts restart attempts within the sliding window of a :class:`Supervision`.

    Invariant: holds only attempts at most ``within_s`` old at the time of the last ``record``.
    Source: OTP 28, ``supervisor.erl``, ``add_restart/2``, with float seconds.
    """

    __slots__ = ("_attempts", "_supervision")

    def __init__(self, supervision: Supervision) -> None:
        self._supervision = supervision
        self._attempts: deque[float] = deque()

    def record(self, now: float) -> bool:
        """Count one attempt at `now`; whether the budget still allows it.

        An attempt exactly ``within_s`` old still counts; one more than ``max_restarts`` is too many.
        """
        if self._supervision.max_restarts == float("inf"):
            return True
        self._attempts.append(now)
        while self._attempts[0] < now - self._supervision.within_s:
            self._attempts.popleft()
        return len(self._attempts) <= self._supervision.max_restarts

    def forget(self) -> None:
        """Start with a fresh budget."""
        self._attempts.clear()

    @property
    def count(self) -> int:
        """Attempts in the window as of the last ``record``."""
        return len(self._attempts)
