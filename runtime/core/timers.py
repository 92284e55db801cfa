"""The timers of one incarnation: keyed messages to itself that die with it."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any, final

import attrs
import trio

from runtime.core.envelope import Envelope
from runtime.core.mailbox import Mailbox
from runtime.core.timekeeper import Timekeeper, Timer


@final
@attrs.define(eq=False)
class _Schedule:
    message: Any
    interval_s: float | None
    timer: Timer | None = None
    tick: Envelope | None = None
    """The newest message of this timer; it may still wait in the mailbox."""


@final
class KeyedTimers:
    """Puts messages into a mailbox when their time has come, beyond its capacity: at most one per timer waits there.

    A cancelled or replaced timer leaves nothing behind, also no message that is already queued.
    """

    def __init__(self, timekeeper: Timekeeper, mailbox: Mailbox, address: str) -> None:
        self._timekeeper = timekeeper
        self._mailbox = mailbox
        self._address = address
        self._schedules: dict[Hashable, _Schedule] = {}

    def set(self, key: Hashable | None, delay_s: float, message: Any, interval_s: float | None = None) -> None:
        """Send `message` after `delay_s` seconds, then every `interval_s` seconds; replaces the timer of that key."""
        schedule = _Schedule(message, interval_s)
        name: Hashable = schedule if key is None else key
        self.cancel(name)
        self._schedules[name] = schedule
        self._arm(name, schedule, trio.current_time() + delay_s)

    def cancel(self, key: Hashable) -> bool:
        """Forget the timer of that key and its queued message; whether there was one."""
        schedule = self._schedules.pop(key, None)
        if schedule is None:
            return False
        pending = schedule.timer is not None
        if schedule.timer is not None:
            schedule.timer.cancel()
        tick = schedule.tick
        if tick is not None and tick.holder is self._mailbox:
            tick.withdraw()
            pending = True
        return pending

    def clear(self) -> None:
        """Forget all of them."""
        for key in list(self._schedules):
            self.cancel(key)

    def _arm(self, key: Hashable, schedule: _Schedule, deadline: float) -> None:
        schedule.timer = self._timekeeper.call_at(deadline, lambda: self._fire(key, schedule, deadline))

    def _fire(self, key: Hashable, schedule: _Schedule, deadline: float) -> None:
        schedule.timer = None
        now = trio.current_time()
        # A tick that still waits stands for this one too, so a slow actor finds one and not a heap of them.
        if schedule.tick is None or schedule.tick.holder is not self._mailbox:
            schedule.tick = Envelope(schedule.message, self._address, None, now)
            self._mailbox.put_beyond(schedule.tick)
        if schedule.interval_s is not None:
            missed = int((now - deadline) // schedule.interval_s)
            self._arm(key, schedule, deadline + (missed + 1) * schedule.interval_s)
