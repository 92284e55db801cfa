"""What a mailbox is allowed to hold, and what happens to what does not fit. The mailbox itself is the runtime's."""

from __future__ import annotations

import enum
from typing import final

import attrs

from actors.argument_checks import is_a, is_count


@final
class Overflow(enum.Enum):
    """What happens to a message for a full mailbox."""

    BLOCK = "block"
    """``tell`` and ``ask`` wait for room; ``tell_nowait`` raises ``MailboxFull``."""
    REJECT = "reject"
    """The sender gets ``MailboxFull`` immediately and keeps the message."""
    DROP_NEWEST = "drop_newest"
    """The arriving message becomes a dead letter; an ask among them ends with ``MailboxFull``."""
    DROP_OLDEST = "drop_oldest"
    """The oldest waiting message becomes a dead letter and makes room; an ask among them ends with ``MailboxFull``."""


@final
@attrs.frozen
class MailboxSpec:
    """How many messages may wait for an actor, and what happens to the next one."""

    capacity: float = attrs.field(default=64, validator=is_count(least=1, unbounded=True))
    """A number of messages, at least 1; or ``math.inf``, written out by an author who wants no bound."""
    overflow: Overflow = attrs.field(default=Overflow.BLOCK, validator=is_a(Overflow))
    """What happens to a message that finds no room."""


@final
@attrs.frozen
class DeadLetterPolicy:
    """How many dead letters a runtime keeps, and how much memory they may hold. All are counted, and each is an event."""

    keep: int = attrs.field(default=1000, validator=is_count())
    """A number of letters; the oldest are dropped first. 0 keeps none."""
    bytes: float = attrs.field(default=8 * 2**20, validator=is_count(unbounded=True))
    """About how much memory their messages may take together, in bytes; or ``math.inf``. The oldest are dropped first."""
    large_bytes: float = attrs.field(default=16 * 2**10, validator=is_count(unbounded=True))
    """A message that takes more is replaced by its ``MessageSummary``, in the letter and in the event, so nothing holds it;
    one that takes more than `bytes` too. ``math.inf`` replaces none."""


@final
@attrs.frozen
class MailboxStatistics:
    """One look at a mailbox."""

    depth: int
    """Messages that wait."""
    capacity: float
    """Messages that may wait; ``math.inf`` for no bound."""
    high_water: int
    """The largest depth so far."""
    oldest_age_s: float
    """How long the oldest waiting message has been waiting, in seconds; 0.0 when none waits."""
    blocked_senders: int
    """Senders that wait for room."""
    taken: int
    """Messages handed to the actor so far, redeliveries included."""
    dropped: int
    """Messages that the overflow policy made dead letters."""
