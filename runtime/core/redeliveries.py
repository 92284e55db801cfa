"""Messages that crashed their actor and wait, apart from it, for their next attempt."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import final

from runtime.core.envelope import Envelope
from runtime.core.kernel import Kernel
from runtime.core.mailbox import Mailbox
from runtime.core.timekeeper import Timer


@final
class Redeliveries:
    """Holds envelopes over their backoff, then puts them ahead of what waits in the mailbox, beyond its capacity."""

    __slots__ = ("_deliver", "_kernel", "_waiting")

    def __init__(self, kernel: Kernel, mailbox: Mailbox) -> None:
        self._kernel = kernel
        self._deliver: Callable[[Envelope], None] = partial(mailbox.put_beyond, first=True)
        self._waiting: dict[Envelope, Timer] = {}

    def put(self, envelope: Envelope, delay_s: float) -> None:
        """Deliver `envelope` again after `delay_s` seconds."""
        envelope.holder = self
        self._waiting[envelope] = self._kernel.timekeeper.call_after(delay_s, partial(self._due, envelope))

    def let_go(self, envelope: Envelope) -> None:
        """Forget a withdrawn envelope (see ``Envelope.withdraw``)."""
        timer = self._waiting.pop(envelope, None)
        if timer is not None:
            timer.cancel()
            envelope.holder = None
            if envelope.slot is not None:
                envelope.slot.released()

    def drain(self) -> list[Envelope]:
        """Stop waiting; what waited, in the order in which it failed."""
        waiting, self._waiting = self._waiting, {}
        for timer in waiting.values():
            timer.cancel()
        return list(waiting)

    def _due(self, envelope: Envelope) -> None:
        if self._waiting.pop(envelope, None) is not None:
            self._deliver(envelope)
