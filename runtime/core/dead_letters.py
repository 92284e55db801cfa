"""Messages that no actor handled: the latest are kept, all are counted and published as events."""

from __future__ import annotations

import enum
import math
from collections import deque
from collections.abc import Iterator
from typing import Any, final

import attrs
import trio

from actors.errors import UnderstudyError
from actors.groups import bare
from actors.mailbox import DeadLetterPolicy
from actors.words import repr_of
from runtime.core.envelope import Envelope, content_of
from runtime.core.events import EventBus, MessageDeadLettered
from runtime.core.message_sizes import size_of, summary_of

_LETTER_BYTES = 300
"""What a letter weighs besides its message and its error."""


@final
class DeadReason(enum.StrEnum):
    """Why a message was not handled; equal to its plain word."""

    STOPPED = "stopped"
    """The actor was gone, or stopped with the message still in its mailbox."""
    FAILED = "failed"
    """The actor failed on it and it has no attempts left."""
    OVERFLOW = "overflow"
    """The mailbox was full and its policy drops."""
    UNHANDLED = "unhandled"
    """The actor does not know messages of its kind; see ``ActorContext.unhandled``."""
    LATE_REPLY = "late_reply"
    """A reply whose asker no longer waited."""


@final
@attrs.frozen
class DeadLetter:
    """One message that no actor handled."""

    recipient: str
    """The address that it was for; of a late reply, that of the asker, or ``"(asker)"``."""
    reason: DeadReason
    message: Any = attrs.field(repr=repr_of)
    """What was sent; of a large message its ``MessageSummary`` (see ``DeadLetterPolicy``)."""
    sender: str | None
    """The address of the actor that sent it; None from outside of actors."""
    age_s: float
    """The age of the message, in seconds."""
    attempts: int = 1
    """How many times it was delivered."""
    error: BaseException | None = attrs.field(default=None, repr=repr_of)
    """The last failure, when there was one: a copy without traceback and causes, which would keep dead incarnations alive.

    Of one that itself holds a large message, an ``UnderstudyError`` that names its class and shows the beginning of its text."""
    at_s: float = attrs.field(default=0.0, eq=False, repr=False)
    """When it became one; the runtime's clock, in seconds."""


@final
class DeadLetters:
    """The newest dead letters of a runtime, oldest first; iterable."""

    def __init__(self, events: EventBus, policy: DeadLetterPolicy | None = None) -> None:
        self.policy = policy if policy is not None else DeadLetterPolicy()
        """How many are kept."""
        self._events = events
        self._letters: deque[DeadLetter] = deque()
        self._sizes: deque[int] = deque()
        self._bytes = 0
        self._total = 0

    @property
    def total(self) -> int:
        """How many messages became dead letters since the runtime opened."""
        return self._total

    def __len__(self) -> int:
        return len(self._letters)

    def __iter__(self) -> Iterator[DeadLetter]:
        return iter(tuple(self._letters))

    def __getitem__(self, index: int) -> DeadLetter:
        return self._letters[index]

    def add(self, recipient: str, reason: DeadReason, envelope: Envelope, error: BaseException | None = None) -> None:
        """File `envelope`."""
        self._total += 1
        if not self.policy.keep and not self._events.listening:
            return
        now_s = trio.current_time()
        age_s = now_s - envelope.sent_at
        message, message_bytes = self._bounded(content_of(envelope.message))
        kept, error_bytes = self._bounded_error(error) if error is not None else (None, 0)
        letter = DeadLetter(recipient, reason, message, envelope.sender, age_s, envelope.attempt, kept, now_s)
        self._keep(letter, _LETTER_BYTES + message_bytes + error_bytes)
        if self._events.wants(MessageDeadLettered):
            self._events.publish(MessageDeadLettered(letter=letter))

    def _keep(self, letter: DeadLetter, size: int) -> None:
        self._letters.append(letter)
        self._sizes.append(size)
        self._bytes += size
        while self._letters and (len(self._letters) > self.policy.keep or self._bytes > self.policy.bytes):
            self._letters.popleft()
            self._bytes -= self._sizes.popleft()

    def _bounded(self, message: object) -> tuple[object, int]:
        """The message, or a summary of it when it is large; and about how much memory that takes."""
        limit = min(self.policy.large_bytes, self.policy.bytes)
        if limit == math.inf:
            return message, 0
        size = size_of(message, limit)
        if size <= limit:
            return message, size
        summary = summary_of(message, size)
        return summary, size_of(summary.text, limit)

    def _bounded_error(self, error: BaseException) -> tuple[BaseException, int]:
        kept = bare(error)
        held, size = self._bounded((kept.args, kept.__dict__))
        if isinstance(held, tuple):
            return kept, size
        begins = summary_of(kept.args[0], 0).text if kept.args else ""
        return UnderstudyError(f"{type(error).__name__}: {begins}"), size
