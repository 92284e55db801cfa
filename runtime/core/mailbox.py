"""The mailbox of one address: a bounded queue that belongs to the address, not to an incarnation.

A receiver that finds it empty parks its task here and is woken directly by the next message; otherwise it drains without
waiting. Senders that find it full under ``BLOCK`` park in arrival order. All but ``put()`` and ``wait()`` is synchronous.

Invariants: a sender waits only while the mailbox is full. A withdrawn envelope stays in the queue, uncounted, until it is
reached, until nothing else waits, or until withdrawn ones outnumber the rest (removing it immediately would cost a scan). While
messages wait, no receiver lies idle unless another one has been called and has not looked yet: one is called for the first
message, and each that finds more than it takes calls two others. So a burst that one receiver can drain wakes few, and one
that it cannot wakes all, soon.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any, Protocol, final

import outcome
import trio

from actors.errors import ActorStopped, MailboxFull
from actors.mailbox import MailboxSpec, Overflow
from actors.mailbox import MailboxStatistics as MailboxStatistics
from actors.words import with_article
from runtime.core.dead_letters import DeadReason
from runtime.core.envelope import Envelope, content_of


class DeadLetterSink(Protocol):
    """Where a mailbox takes what it cannot keep."""

    def add(self, recipient: str, reason: DeadReason, envelope: Envelope, error: BaseException | None = None) -> None:
        """File a dead letter."""
        ...


@final
class Mailbox:
    """Bounded queue with a declared overflow policy, for one or several receivers."""

    __slots__ = (
        "_address",
        "_blocked",
        "_capacity",
        "_closed",
        "_coming",
        "_dead_letters",
        "_dropped",
        "_high_water",
        "_live",
        "_parked",
        "_queue",
        "_receiver",
        "_spec",
        "_taken",
        "_urgent",
        "on_unattended",
    )

    def __init__(self, address: str, spec: MailboxSpec, dead_letters: DeadLetterSink) -> None:
        self._address = address
        self._spec = spec
        self._capacity = spec.capacity
        self._dead_letters = dead_letters
        # Empty containers weigh more than the rest of an idle actor's mailbox, so each is made when first needed.
        self._queue: deque[Envelope] = _NONE_QUEUED
        self._urgent: deque[Envelope] = _NONE_QUEUED
        self._live = 0
        self._receiver: trio.lowlevel.Task | None = None
        """The receiver that has been parked the longest."""
        self._parked: dict[trio.lowlevel.Task, None] = _NONE_PARKED
        """The other parked receivers (of a pool), in their order."""
        self._blocked: dict[Envelope, trio.lowlevel.Task] = _NONE_BLOCKED
        self._coming = 0
        """Receivers that were called, and have not looked yet."""
        self._closed = False
        self._high_water = self._taken = self._dropped = 0
        self.on_unattended: Callable[[], bool] | None = None
        """Called when a receiver is needed and none is parked; returns whether it has called one that will say ``came()``."""

    # --- senders ------------------------------------------------------------------------------------------------------

    @property
    def closed(self) -> bool:
        """Whether the address has stopped: what is put now becomes a dead letter immediately."""
        return self._closed

    def __len__(self) -> int:
        return self._live + len(self._urgent)

    @property
    def capacity(self) -> float:
        """How many messages may wait."""
        return self._capacity

    @property
    def makes_wait(self) -> bool:
        """Whether ``put`` would wait for room."""
        return self._live >= self._capacity and not self._closed and self._spec.overflow is Overflow.BLOCK

    @property
    def has_room(self) -> bool:
        """Whether ``put_nowait`` would queue a message as it is: neither turn it away nor drop another one."""
        return self._live < self._capacity and not self._closed

    def put_nowait(self, envelope: Envelope) -> None:
        """Queue `envelope` or apply the overflow policy; ``BLOCK`` raises ``MailboxFull`` like ``REJECT``."""
        if self._closed:
            self.bury(envelope)
        elif self._live < self._capacity or self._make_room(envelope):
            # `_append` once more, because this is the way of nearly every message.
            envelope.holder = self
            if self._queue is _NONE_QUEUED:
                self._queue = deque()
            self._queue.append(envelope)
            self._live = live = self._live + 1
            if live > self._high_water:
                self._high_water = live
            if not self._coming and (self._receiver is not None or self._parked or self.on_unattended is not None):
                self.call()

    async def put(self, envelope: Envelope) -> None:
        """Queue `envelope`, waiting for room under ``BLOCK``. Not a checkpoint unless it waits. Cancelled: not sent."""
        if not self.makes_wait:
            self.put_nowait(envelope)
            return
        if self._blocked is _NONE_BLOCKED:
            self._blocked = {}
        self._blocked[envelope] = trio.lowlevel.current_task()
        envelope.holder = self

        def abort(_: Any) -> trio.lowlevel.Abort:
            self._blocked.pop(envelope, None)
            envelope.holder = None
            return trio.lowlevel.Abort.SUCCEEDED

        await trio.lowlevel.wait_task_rescheduled(abort)

    def put_beyond(self, envelope: Envelope, *, first: bool = False) -> None:
        """Queue `envelope` beyond the capacity too: for redeliveries (`first`: ahead of all) and for cycles of a graph."""
        if self._closed:
            self.bury(envelope)
        else:
            self._append(envelope, first=first)

    def put_urgent(self, envelope: Envelope) -> None:
        """Queue a signal, which never waits behind messages and is never dropped."""
        if self._closed:
            self.bury(envelope)
            return
        envelope.holder = self
        if self._urgent is _NONE_QUEUED:
            self._urgent = deque()
        self._urgent.append(envelope)
        self._attend()

    def withdrawn(self, envelope: Envelope) -> None:
        """Forget a withdrawn envelope (see ``Envelope.withdraw``)."""
        envelope.holder = None
        task = self._blocked.pop(envelope, None)
        if task is not None:  # its sender still waits for room, and is told by returning
            trio.lowlevel.reschedule(task)
        elif envelope in self._urgent:
            self._urgent.remove(envelope)
        else:
            self._live -= 1
            self._admit()
            if not self._live:  # those left hold on to what they belong to: whole runs, perhaps
                self._queue.clear()
            elif len(self._queue) > 2 * self._live + 16:
                self._queue = deque(waiting for waiting in self._queue if not waiting.withdrawn)
        if envelope.slot is not None:
            envelope.slot.released()

    def pull(self, envelope: Envelope) -> bool:
        """Take `envelope` out, wherever it waits, for another mailbox; whether it was here."""
        if envelope.holder is not self or envelope.withdrawn:
            return False
        envelope.holder = None
        task = self._blocked.pop(envelope, None)
        if task is not None:  # its sender need not wait for room here any more
            trio.lowlevel.reschedule(task)
        else:
            self._queue.remove(envelope)
            self._live -= 1
            self._admit()
        return True

    # --- receivers ----------------------------------------------------------------------------------------------------

    def take_nowait(self) -> Envelope | None:
        """The next envelope, signals first; None when nothing waits."""
        queue = self._queue
        if queue and not self._urgent and not queue[0].withdrawn:  # what the loop below does, for nearly every message
            envelope = queue.popleft()
            self._live -= 1
            if self._blocked:
                self._admit()
            self._taken += 1
            envelope.holder = None
            return envelope
        queue = self._urgent or queue
        while queue:
            envelope = queue.popleft()
            if queue is self._queue:
                if envelope.withdrawn:
                    continue
                self._live -= 1
                if self._blocked:
                    self._admit()
            self._taken += 1
            envelope.holder = None
            return envelope
        return None

    async def wait(self) -> None:
        """Park until woken by an arrival or by ``wake()``; may return with nothing there."""
        task = trio.lowlevel.current_task()
        if self._receiver is None and not self._parked:
            self._receiver = task
            if await trio.lowlevel.wait_task_rescheduled(self._abort_wait):
                self._coming -= 1
            return
        if self._parked is _NONE_PARKED:
            self._parked = {}
        self._parked[task] = None

        def abort(_: Any) -> trio.lowlevel.Abort:
            self._unpark(task)
            return trio.lowlevel.Abort.SUCCEEDED

        if await trio.lowlevel.wait_task_rescheduled(abort):
            self._coming -= 1

    def _abort_wait(self, _: Any) -> trio.lowlevel.Abort:
        self._receiver = None
        return trio.lowlevel.Abort.SUCCEEDED

    def _unpark(self, task: trio.lowlevel.Task) -> bool:
        """Forget that `task` is parked here; whether it was."""
        if task is self._receiver:
            self._receiver = None
            return True
        if task in self._parked:
            del self._parked[task]
            return True
        return False

    def wake(self, task: trio.lowlevel.Task | None = None) -> None:
        """Wake `task` if it is parked here, or every parked receiver."""
        everybody = [*([self._receiver] if self._receiver is not None else []), *self._parked]
        for parked in [task] if task is not None else everybody:
            if self._unpark(parked):
                trio.lowlevel.reschedule(parked)

    def came(self) -> None:
        """A receiver that ``on_unattended`` has called is here, and looks next."""
        self._coming -= 1

    def call(self) -> bool:
        """Have one more receiver look; False when there is none."""
        receiver = self._receiver
        if receiver is not None:
            self._receiver = None
        elif self._parked:
            receiver = next(iter(self._parked))
            del self._parked[receiver]
        elif self.on_unattended is None or not self.on_unattended():
            return False
        self._coming += 1
        if receiver is not None:
            trio.lowlevel.reschedule(receiver, outcome.Value(True))  # anything but True: not called, only woken
        return True

    def call_others(self) -> None:
        """A receiver has taken the first message since it came: call others for what still waits."""
        while self._coming < min(2, self._live) and self.call():
            pass

    def hand_over(self) -> None:
        """A receiver has ended: if it had been woken for what still waits, wake another one."""
        if len(self) and (self._receiver is not None or self._parked):
            self._attend()

    def close(self) -> None:
        """The address stops: every waiting message becomes a dead letter, every blocked sender returns."""
        self._closed = True
        waiting = [*self._urgent, *(e for e in self._queue if not e.withdrawn), *self._blocked]
        senders = list(self._blocked.values())
        self._urgent.clear()
        self._queue.clear()
        self._blocked.clear()
        self._live = 0
        for task in senders:
            trio.lowlevel.reschedule(task)
        for envelope in waiting:
            self.bury(envelope)
        self.wake()

    def reopen(self) -> None:
        """The address starts again, empty."""
        self._closed = False

    def bury(self, envelope: Envelope, *, begun: bool = False) -> None:
        """Make `envelope` a dead letter because the address has stopped, before its handling or after it had `begun`."""
        envelope.holder = None
        self._dead_letters.add(self._address, DeadReason.STOPPED, envelope, envelope.last_error)
        envelope.give_up(self.stopped_error(envelope, begun=begun))

    def stopped_error(self, envelope: Envelope, *, begun: bool = False) -> ActorStopped:
        """The error for the sender of a message that a stop has overtaken."""
        shown = message_kind(envelope.message)
        error = ActorStopped(
            f"{self._address!r} was stopped while it handled {shown}.\n"
            "  Fix: give it more time to stop (shutdown_s), or ask before the stop."
            if begun
            else f"{self._address!r} has stopped; {shown} was not handled.\n"
            "  Fix: send it before the stop; or start the actor again, with spawn() or with restart_child() of its supervisor.",
            address=self._address,
        )
        error.__cause__ = envelope.last_error
        return error

    def statistics(self, now: float | None = None) -> MailboxStatistics:
        """One look at this mailbox; see :class:`MailboxStatistics`. `now` is the time on its clock; None asks trio."""
        oldest = next((e for e in (*self._urgent, *self._queue) if not e.withdrawn), None)
        return MailboxStatistics(
            depth=len(self),
            capacity=self._spec.capacity,
            high_water=self._high_water,
            oldest_age_s=(trio.current_time() if now is None else now) - oldest.sent_at if oldest else 0.0,
            blocked_senders=len(self._blocked),
            taken=self._taken,
            dropped=self._dropped,
        )

    # --- inside -------------------------------------------------------------------------------------------------------

    def _append(self, envelope: Envelope, *, first: bool = False) -> None:
        envelope.holder = self
        if self._queue is _NONE_QUEUED:
            self._queue = deque()
        if first:
            self._queue.appendleft(envelope)
        else:
            self._queue.append(envelope)
        self._live = live = self._live + 1
        if live > self._high_water:
            self._high_water = live
        self._attend()

    def _attend(self) -> None:
        """A message has arrived: somebody is to look."""
        if not self._coming:
            self.call()

    def _admit(self) -> None:
        """Let the longest blocked senders in, as far as there is room."""
        while self._blocked and self._live < self._spec.capacity:
            envelope = next(iter(self._blocked))
            trio.lowlevel.reschedule(self._blocked.pop(envelope))
            self._append(envelope)

    def _make_room(self, envelope: Envelope) -> bool:
        """Apply the overflow policy to a full mailbox; whether `envelope` may be queued now."""
        match self._spec.overflow:
            case Overflow.DROP_NEWEST:
                self._drop(envelope)
                return False
            case Overflow.DROP_OLDEST:
                while self._live >= self._spec.capacity:
                    oldest = self._queue.popleft()
                    if not oldest.withdrawn:
                        self._live -= 1
                        self._drop(oldest)
                return True
            case _:
                raise self._full(envelope)

    def _drop(self, envelope: Envelope) -> None:
        self._dropped += 1
        self._dead_letters.add(self._address, DeadReason.OVERFLOW, envelope, envelope.last_error)
        envelope.give_up(self._full(envelope))

    def _full(self, envelope: Envelope) -> MailboxFull:
        capacity = int(self._spec.capacity)
        sender = f" from {envelope.sender!r}" if envelope.sender else ""
        return MailboxFull(
            f"{self._address!r} rejected {message_kind(envelope.message)}{sender}: "
            f"{capacity} of {capacity} messages wait, overflow={self._spec.overflow.name}.\n"
            "  Cause: messages come faster than the actor handles them.\n"
            f"  Fix: MailboxSpec(capacity={capacity * 4}), or overflow=Overflow.BLOCK with tell(), or send more slowly.",
            address=self._address,
        )


def message_kind(message: object) -> str:
    """The kind of a message, never its content, which may be large or secret."""
    name = type(content_of(message)).__name__
    return f"{with_article(name)} message"


_NONE_QUEUED: deque[Envelope] = deque()
_NONE_PARKED: dict[trio.lowlevel.Task, None] = {}
_NONE_BLOCKED: dict[Envelope, trio.lowlevel.Task] = {}
"""Stand in for containers that were not needed yet; nothing is ever put into them."""
