"""A typed bus: actors subscribe to a type of message and receive every message of it that is published."""

from __future__ import annotations

from typing import Any, final

import trio

from actors.actor import Terminated
from actors.errors import MailboxFull
from runtime.cell import Cell, current_cell
from runtime.dead_letters import DeadReason
from runtime.envelope import Envelope
from runtime.kernel import Kernel
from runtime.refs import MailedCell


@final
class Bus:
    """Who subscribed to what; a subscription ends with the actor."""

    def __init__(self, kernel: Kernel) -> None:
        self._kernel = kernel
        # Dicts as ordered sets: messages go out in the order of the subscriptions.
        self._by_kind: dict[type, dict[MailedCell, None]] = {}
        self._subscribers: dict[Cell, set[type]] = {}

    def subscribe(self, kind: type, cell: MailedCell) -> None:
        """Send `cell` the messages of `kind` from now on; once each, however often it subscribed."""
        self._by_kind.setdefault(kind, {})[cell] = None
        if cell not in self._subscribers:
            self._subscribers[cell] = set()
            cell.on_end(lambda end: self._forget(cell, end))
        if cell in self._subscribers:  # else it had ended before
            self._subscribers[cell].add(kind)

    def unsubscribe(self, kind: type, cell: MailedCell) -> None:
        """Undo ``subscribe``; without effect if it was not."""
        self._by_kind.get(kind, {}).pop(cell, None)
        if not self._by_kind.get(kind, True):
            del self._by_kind[kind]
        if cell in self._subscribers:
            self._subscribers[cell].discard(kind)

    def _forget(self, cell: MailedCell, end: Terminated) -> None:
        kinds = self._subscribers.pop(cell)
        for kind in kinds or list(self._by_kind):
            self.unsubscribe(kind, cell)

    def publish(self, message: Any) -> int:
        """Put `message` into the mailbox of every subscriber of its type or a base of it; to how many. Never blocks.

        A mailbox without room applies its policy; where that would block or refuse, the message is a dead letter.
        """
        caller = current_cell.get()
        sender = caller.address if caller is not None else None
        cells = dict.fromkeys(cell for kind in type(message).__mro__ for cell in self._by_kind.get(kind, ()))
        reached = 0
        for cell in cells:
            envelope = Envelope(message, sender, None, trio.current_time())
            try:
                cell.mailbox.put_nowait(envelope)
                reached += 1
            except MailboxFull as error:
                self._kernel.dead_letters.add(cell.address, DeadReason.OVERFLOW, envelope, error)
        return reached
