"""Where an actor's messages are that are neither queued nor being handled: stashed, promised an answer, or to be redelivered."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, final

from actors.actor import Reply
from actors.errors import MailboxFull, UsageError
from runtime.core.envelope import Envelope, OneShot, Wrapper
from runtime.core.mailbox import Mailbox
from runtime.core.services import Services
from runtime.core.timekeeper import Timer


@final
class Stash:
    """Envelopes set aside, in order; at most `capacity`. Holds them, so a withdrawn ask leaves it."""

    __slots__ = ("_address", "_capacity", "_kept")

    def __init__(self, address: str, capacity: float) -> None:
        self._address = address
        self._capacity = capacity
        self._kept: dict[Envelope, None] = {}

    def __len__(self) -> int:
        return len(self._kept)

    def put(self, envelope: Envelope) -> None:
        """Set `envelope` aside."""
        if len(self._kept) >= self._capacity:
            raise MailboxFull(
                f"{self._address!r} cannot stash another message: {len(self._kept)} of {int(self._capacity)} are stashed.\n"
                "  Fix: unstash_all() earlier, or a larger mailbox: the stash holds as many messages as the mailbox.",
                address=self._address,
            )
        envelope.holder = self
        self._kept[envelope] = None

    def withdrawn(self, envelope: Envelope) -> None:
        """Forget a withdrawn envelope (see ``Envelope.withdraw``)."""
        self._kept.pop(envelope, None)
        envelope.holder = None
        if envelope.slot is not None:
            envelope.slot.released()

    def take(self, envelope: Envelope) -> None:
        """Stop holding `envelope`, if it is here."""
        self._kept.pop(envelope, None)

    def empty_into(self, mailbox: Mailbox) -> None:
        """Put all back, ahead of what waits there and in their own order."""
        kept, self._kept = self._kept, {}
        for envelope in reversed(kept):
            mailbox.put_beyond(envelope, first=True)


@final
class Deferred:
    """Asks whose reply somebody promised for later; each still ends when the incarnation does."""

    __slots__ = ("_answer", "_late", "_reject", "_waiting")

    def __init__(
        self,
        answer: Callable[[Envelope, Any], None],
        rejected: Callable[[Envelope, Exception], None],
        late: Callable[[Envelope, Any], None],
    ) -> None:
        self._waiting: dict[Envelope, None] = {}
        self._answer = answer
        self._reject = rejected
        self._late = late

    @property
    def owes(self) -> bool:
        """Whether an answer is still to be given."""
        return bool(self._waiting)

    def put(self, envelope: Envelope) -> LocalReply:
        """Promise an answer to `envelope`."""
        envelope.holder = self
        self._waiting[envelope] = None
        return LocalReply(self, envelope)

    def answer(self, envelope: Envelope, value: Any) -> None:
        """Give `value` to the asker, or make it a dead letter when no task waits for it any more."""
        if self.take(envelope):
            self._answer(envelope, value)
            envelope.slot = None
        else:
            self._late(envelope, value)

    def rejected(self, envelope: Envelope, error: Exception) -> None:
        """End the ask with `error`, if anybody waits for it still."""
        if self.take(envelope):
            self._reject(envelope, error)
            envelope.slot = None

    def wants(self, envelope: Envelope) -> bool:
        """Whether somebody still waits for the answer."""
        slot = envelope.slot
        gone = slot is None or envelope.withdrawn or (isinstance(slot, OneShot) and slot.abandoned)
        return not gone and envelope in self._waiting

    def take(self, envelope: Envelope) -> bool:
        """Stop waiting for the answer; whether it was still awaited."""
        if envelope not in self._waiting:
            return False
        del self._waiting[envelope]
        envelope.holder = None
        return True

    def withdrawn(self, envelope: Envelope) -> None:
        """Forget a withdrawn envelope (see ``Envelope.withdraw``)."""
        if self.take(envelope) and envelope.slot is not None:
            envelope.slot.released()

    def drain(self) -> list[Envelope]:
        """Stop waiting for all of them."""
        waiting, self._waiting = list(self._waiting), {}
        for envelope in waiting:
            envelope.holder = None
        return waiting


@final
class Redeliveries:
    """Messages that crashed their actor: after its backoff each goes ahead of what waits in the mailbox, beyond its capacity."""

    __slots__ = ("_deliver", "_services", "_waiting")

    def __init__(self, services: Services, mailbox: Mailbox) -> None:
        self._services = services
        self._deliver: Callable[[Envelope], None] = partial(mailbox.put_beyond, first=True)
        self._waiting: dict[Envelope, Timer] = {}

    def __len__(self) -> int:
        return len(self._waiting)

    def put(self, envelope: Envelope, delay_s: float) -> None:
        """Deliver `envelope` again after `delay_s` seconds."""
        envelope.holder = self
        message = envelope.message
        if issubclass(type(message), Wrapper):  # not isinstance: see `content_of`
            message.held_back(delay_s)
        self._waiting[envelope] = self._services.timekeeper.call_after(delay_s, partial(self._due, envelope))

    def withdrawn(self, envelope: Envelope) -> None:
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


@final
class LocalReply(Reply[Any]):
    """The right to answer one ask of this runtime."""

    __slots__ = ("_deferred", "_envelope", "_used")

    def __init__(self, deferred: Deferred, envelope: Envelope) -> None:
        self._deferred = deferred
        self._envelope = envelope
        self._used = False

    @property
    def wanted(self) -> bool:
        """See ``Reply.wanted``."""
        return self._deferred.wants(self._envelope)

    def send(self, value: Any) -> None:
        """See ``Reply.send``."""
        self._use()
        self._deferred.answer(self._envelope, value)

    def fail(self, error: Exception) -> None:
        """See ``Reply.fail``."""
        self._use()
        self._deferred.rejected(self._envelope, error)

    def _use(self) -> None:
        if self._used:
            raise UsageError("this reply was sent already; an ask has one answer.\n  Fix: call send() or fail() once.")
        self._used = True
