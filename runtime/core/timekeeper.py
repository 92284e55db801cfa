"""Timers without tasks: one task sleeps until the earliest of all deadlines and calls what is due.

Restart delays, redeliveries and actor timers all wait here, on trio's clock, so a virtual clock moves every one of them.
Calls are synchronous and short; equal deadlines fire in the order in which they were set.
"""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable
from typing import final

import attrs
import trio


@final
@attrs.define(eq=False)
class Timer:
    """One pending call; ``cancel()`` forgets it, also when it has fired already."""

    deadline: float
    call: Callable[[], None] | None
    keeper: Timekeeper

    def cancel(self) -> None:
        """Never call it."""
        if self.call is not None:
            self.call = None
            self.keeper.count_cancelled()


@final
class Timekeeper:
    """All timers of one runtime."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, Timer]] = []
        self._sequence = itertools.count()
        self._sleep = trio.CancelScope()
        self._cancelled = 0
        """Entries of the heap that are empty: removing each immediately would cost a scan."""

    def call_at(self, deadline: float, call: Callable[[], None]) -> Timer:
        """Call `call` once at `deadline` (trio's clock, seconds) or as soon after it as the loop is free."""
        timer = Timer(deadline, call, self)
        heapq.heappush(self._heap, (deadline, next(self._sequence), timer))
        if self._heap[0][2] is timer:
            self._sleep.deadline = deadline
        return timer

    def call_after(self, delay_s: float, call: Callable[[], None]) -> Timer:
        """Call `call` once after `delay_s` seconds."""
        return self.call_at(trio.current_time() + delay_s, call)

    def count_cancelled(self) -> None:
        """One more entry is empty; sweep them out once they outnumber the others."""
        self._cancelled += 1
        if 2 * self._cancelled > len(self._heap) + 16:
            self._heap = [entry for entry in self._heap if entry[2].call is not None]
            heapq.heapify(self._heap)
            self._cancelled = 0

    @trio.lowlevel.enable_ki_protection  # else Ctrl-C could lose a timer, and end the task that all of them need
    async def run(self) -> None:
        """Serve until cancelled."""
        while True:
            self._call_due()
            while self._heap and self._heap[0][2].call is None:  # so no task is woken in vain
                heapq.heappop(self._heap)
                self._cancelled -= 1
            # An empty heap sleeps for ever; call_at() moves the deadline of the sleeping scope.
            deadline = self._heap[0][0] if self._heap else float("inf")
            with trio.CancelScope(deadline=deadline) as self._sleep:
                await trio.sleep_forever()

    def _call_due(self) -> None:
        now = trio.current_time()
        while self._heap and self._heap[0][0] <= now:
            timer = heapq.heappop(self._heap)[2]
            call, timer.call = timer.call, None
            if call is None:
                self._cancelled -= 1
            else:
                call()
