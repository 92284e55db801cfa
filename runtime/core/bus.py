"""A typed bus: actors subscribe to a type of message and receive every message of it that is published."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any, TypeAlias, final

import trio

from actors.actor import Terminated
from actors.errors import MailboxFull, UsageError
from actors.words import repr_of
from runtime.core.cell import current_cell
from runtime.core.dead_letters import DeadReason
from runtime.core.envelope import Envelope
from runtime.core.refs import Recipient
from runtime.core.services import Services

Key: TypeAlias = tuple[type, Hashable | None]
"""What one subscribes to: a type of message, under one topic or, with None, under any and none."""


@final
class Bus:
    """Who subscribed to what; a subscription ends with the actor."""

    def __init__(self, services: Services) -> None:
        self._services = services
        # Dicts as ordered sets: messages go out in the order of the subscriptions.
        self._by_key: dict[Key, dict[Recipient, None]] = {}
        self._subscribers: dict[Recipient, set[Key]] = {}

    @property
    def kinds(self) -> set[type]:
        """What is subscribed to."""
        return {kind for kind, _ in self._by_key}

    def subscribe(self, kind: type, cell: Recipient, topic: Hashable | None = None) -> None:
        """Send `cell` the messages of `kind` from now on, or only those under `topic`; once each, however often it subscribed."""
        key = (subscribed_kind(kind, topic), topic)
        self._by_key.setdefault(key, {})[cell] = None
        if cell not in self._subscribers:
            self._subscribers[cell] = set()
            cell.on_end(lambda end: self._forget(cell, end))
        if cell in self._subscribers:  # else it had ended before
            self._subscribers[cell].add(key)

    def unsubscribe(self, kind: type, cell: Recipient, topic: Hashable | None = None) -> None:
        """Undo ``subscribe``; without effect if it was not."""
        self._drop((subscribed_kind(kind, topic), topic), cell)

    def _drop(self, key: Key, cell: Recipient) -> None:
        self._by_key.get(key, {}).pop(cell, None)
        if not self._by_key.get(key, True):
            del self._by_key[key]
        if cell in self._subscribers:
            self._subscribers[cell].discard(key)

    def _forget(self, cell: Recipient, end: Terminated) -> None:
        keys = self._subscribers.pop(cell)
        for key in keys or list(self._by_key):
            self._drop(key, cell)

    def publish(self, message: Any, topic: Hashable | None = None) -> int:
        """Put `message` into the mailbox of every subscriber of its type or a base of it; to how many. Never blocks.

        A mailbox without room applies its policy; where that would block or reject, the message is a dead letter.
        """
        caller = current_cell.get()
        sender = caller.address if caller is not None else None
        topics = (None,) if topic is None else (None, topic)
        kinds = type(message).__mro__
        cells = dict.fromkeys(cell for kind in kinds for each in topics for cell in self._by_key.get((kind, each), ()))
        reached = 0
        for cell in cells:
            envelope = Envelope(message, sender, None, trio.current_time())
            try:
                cell.mailbox.put_nowait(envelope)
                reached += 1
            except MailboxFull as error:
                self._services.dead_letters.add(cell.address, DeadReason.OVERFLOW, envelope, error)
        return reached


def subscribed_kind(kind: object, topic: Hashable | None) -> type:
    """`kind`, if one can subscribe to it.

    Raises:
        UsageError: it isn't a class.
    """
    if isinstance(kind, type):
        return kind
    given = repr_of(kind)
    way = "pass a class" if topic is not None else f"subscribe(object, ref, topic={given}), for all messages under that topic"
    raise UsageError(f"subscribe({given}, …): expected the type of the messages.\n  Fix: {way}.")
