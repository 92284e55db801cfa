"""How many requests may be on their way to one model at the same time, learned from what its provider answers.

Requests that were on their way together are a wave. When a provider asks for patience, the limit falls to those of the wave that
it did not turn away; a success lets it grow again. Nothing here sends anything.
"""

from __future__ import annotations

import math
from collections import deque
from typing import final

import trio

FIRST_WAVE = 32
"""So many requests go out at the same time to a model of which nothing is known."""
RAMP_S = 0.007
"""After them one more follows every so many seconds, and one for each success, until the provider first asks for patience. Its
first word comes within that time or a few of it, so a crowd of callers does not all have to be turned away once."""
MAX_REMEMBERED = 256
CAUTION_S = 60.0
"""A limit that has fallen twice within this time was right: it is tried half as often each time."""
MAX_CAUTION = 16
HOLD_S, MAX_HOLD_S = 0.1, 10.0
"""How long nothing goes out after a request has been turned away; twice as long each time, until one succeeds."""


@final
class AdaptiveLimit:
    """Counts the requests on their way, and holds back, in order of arrival, those above the limit."""

    def __init__(self) -> None:
        self.in_flight = 0
        self._limit = float(FIRST_WAVE)
        self._is_ramp = True
        """Whether the provider has never asked for patience."""
        self._known_good = 0.0
        """Up to here the limit grows with each success, above it by one in a whole round of them."""
        self._wave = 0
        self._wave_size = self._survivors = 0
        self._fallen_s = -math.inf
        self._held_until = -math.inf
        self._refusals = 0
        """Since the last success, those of one wave counted as one."""
        self._successes: deque[float] = deque(maxlen=MAX_REMEMBERED)
        """When the last ones ended."""
        self._caution = 1
        self._turn = trio.StrictFIFOLock()
        self._changed = trio.Event()

    @property
    def most(self) -> float:
        """The limit; ``inf`` until the provider first asks for patience."""
        return math.inf if self._is_ramp else self._limit

    @property
    def waiting(self) -> int:
        """Requests that are held back."""
        return self._turn.statistics().tasks_waiting + self._turn.locked()

    async def enter(self) -> int:
        """Wait for a place; without a turn of the scheduler where there is one. Returns the wave. Leave it with :meth:`leave`."""
        if self._turn.locked() or not self._has_room:
            async with self._turn:
                while not self._has_room:
                    await self._wait()
                self.in_flight += 1
        else:
            self.in_flight += 1
        return self._wave

    def leave(self) -> None:
        """A place is free."""
        self.in_flight -= 1
        self._wake()

    def succeeded(self) -> None:
        """Learn from an answer; before :meth:`leave`. Only a limit that is in use can be shown to be too low."""
        self._successes.append(trio.current_time())
        self._refusals = 0
        if self._is_ramp or self._limit < self._known_good:
            if self._turn.locked() or 2 * self.in_flight >= self._limit:
                self._limit += 1
        elif self._turn.locked() or self.in_flight >= math.floor(self._limit):
            self._limit += 1 / (self._limit * self._caution)
        self._wake()

    def overrun(self, wave: int, started_s: float, *, holds: bool = True) -> int:
        """Learn that a request of `wave`, sent at `started_s`, was one too many; before :meth:`leave`.

        With `holds` it was turned away: nothing goes out for a while, if there is anything else to send and if the model works
        at all. If a model answers no caller, every caller should hear of it soon.

        Returns: beside how many others it was one too many, on their way or about to be: it should have been held back.
        """
        if wave == self._wave:
            now_s = trio.current_time()
            works = bool(self._successes) and self._successes[-1] > now_s - CAUTION_S
            if holds and works and (self.in_flight > 1 or self.waiting):
                self._held_until = now_s + min(MAX_HOLD_S, HOLD_S * 2.0 ** min(self._refusals, 16))
                self._refusals += 1
            if self.in_flight == 1 and self._limit > 1:
                self._is_ramp = False
                return self.waiting if works else 0  # a single one doesn't show how many may go at the same time
            self._fall(started_s)
            others = self._wave_size - 1 + (self.waiting if works else 0)
        else:
            others = self._wave_size - 1
        if wave == self._wave - 1:
            self._survivors -= 1
            self._limit = max(1.0, self._limit - 1)
            self._known_good = self._survivors if self._survivors > 0 else self._wave_size / 2
        return others

    def _fall(self, started_s: float) -> None:
        now_s = trio.current_time()
        self._caution = min(MAX_CAUTION, 2 * self._caution) if now_s - self._fallen_s < CAUTION_S else 1
        self._fallen_s = now_s
        self._is_ramp = False
        self._wave += 1
        beside = sum(1 for ended_s in self._successes if ended_s > started_s)
        self._wave_size = self._survivors = min(self.in_flight + beside, max(self.in_flight, math.floor(self._limit)))
        self._limit = float(self._wave_size)

    @property
    def _has_room(self) -> bool:
        return self.in_flight < math.floor(self._limit) and self._held_until <= trio.current_time()

    async def _wait(self) -> None:
        held_s = self._held_until - trio.current_time()
        is_held = held_s > 0
        with trio.move_on_after(held_s if is_held else RAMP_S if self._is_ramp else math.inf) as scope:
            await self._changed.wait()
        if scope.cancelled_caught and self._is_ramp and not is_held:
            self._limit += 1

    def _wake(self) -> None:
        if self._turn.locked():
            self._changed.set()
            self._changed = trio.Event()
