"""Messages that reached nobody: kept for a while, counted for ever, published as events."""

from __future__ import annotations

import enum
from collections import deque
from collections.abc import Iterator
from typing import Any, final

import attrs
import trio

from actors.groups import bare
from runtime.envelope import Envelope, content_of
from runtime.events import EventBus, MessageDeadLettered

DEFAULT_HISTORY = 1000
"""Dead letters kept for reading; older ones are only counted."""


@final
class DeadReason(enum.StrEnum):
    """Why a message reached nobody; equal to its plain word."""

    STOPPED = "stopped"
    """The actor was gone, or stopped with the message still in its mailbox."""
    FAILED = "failed"
    """The actor failed on it and it has no attempts left."""
    OVERFLOW = "overflow"
    """The mailbox was full and its policy drops."""
    LATE_REPLY = "late_reply"
    """A reply whose asker no longer waited."""


@final
@attrs.frozen
class DeadLetter:
    """One message that reached nobody."""

    recipient: str
    """The address that it was for; of a late reply, that of whoever had asked, or ``"(asker)"``."""
    reason: DeadReason
    message: Any
    sender: str | None
    """The address of the actor that sent it; None from outside of actors."""
    age_s: float
    """How long the message had been under way, in seconds."""
    attempts: int = 1
    """How many times it was delivered."""
    error: BaseException | None = None
    """The last failure, when there was one: a copy without traceback and causes, which would keep dead incarnations alive."""


@final
class DeadLetters:
    """The newest dead letters of a runtime, oldest first; iterable."""

    def __init__(self, events: EventBus, history: int = DEFAULT_HISTORY) -> None:
        self._events = events
        self._letters: deque[DeadLetter] = deque(maxlen=history)
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
        age_s = trio.current_time() - envelope.sent_at
        kept = bare(error) if error is not None else None
        letter = DeadLetter(recipient, reason, content_of(envelope.message), envelope.sender, age_s, envelope.attempt, kept)
        self._letters.append(letter)
        self._total += 1
        if self._events.listening:
            self._events.publish(MessageDeadLettered(letter=letter))
