"""Messages that other owners of a store have sent to this one's router: each is answered once, or said not to belong here."""

from __future__ import annotations

import math
from typing import Any, final

import attrs
import trio

from actors.placement_errors import MessageTooLarge, NotPortable
from runtime.core.envelope import Envelope
from runtime.core.mailbox import Mailbox
from runtime.placement.owner_channel import OwnerChannel
from runtime.placement.portable_errors import failure_data


@final
@attrs.define(eq=False)
class Brought:
    """One of them, and a ``Slot``: what becomes of it is told to its sender."""

    messages: BroughtMessages
    owner: str
    id: str
    fence: int
    """That of the shard which its sender knows: what was sent to an earlier life of this owner is for no one."""
    envelope: Envelope | None = None

    def succeed(self, value: Any) -> None:
        """See ``Slot``."""
        self.messages.answer(self, value)

    def fail(self, error: Exception) -> None:
        """See ``Slot``."""
        self.messages.fail(self, error)

    def released(self) -> None:
        """See ``Slot``."""
        self.messages.forget(self)


@final
class BroughtMessages:
    """Those that are not answered."""

    def __init__(self, channel: OwnerChannel, mailbox: Mailbox) -> None:
        self._channel = channel
        self._mailbox = mailbox
        self._all: dict[tuple[str, str], Brought] = {}
        self._unread: dict[Envelope, Brought] = {}
        """Those that the router has not come to."""

    def bring(self, owner: str, told: dict[str, Any]) -> None:
        """Put a message into the mailbox of the router, whose capacity holds for its own process."""
        brought = Brought(self, owner, told["id"], told["fence"])
        try:
            message = self._channel.read(told["data"])
        except NotPortable as error:
            self.fail(brought, error)
            return
        now_s = trio.current_time()
        deadline = math.inf if told["left_s"] is None else now_s + told["left_s"]
        envelope = Envelope(message, told["sender"], brought if told["asked"] else None, now_s, deadline)
        brought.envelope = envelope
        self._all[owner, brought.id] = self._unread[envelope] = brought
        self._mailbox.put_beyond(envelope)

    def reached(self, envelope: Envelope) -> Brought | None:
        """The router has come to a message; None: it is of its own process."""
        return self._unread.pop(envelope, None)

    def withdraw(self, owner: str, number: str) -> None:
        """Its sender no longer wants it handled."""
        brought = self._all.get((owner, number))
        if brought is not None and brought.envelope is not None:
            brought.envelope.withdraw()

    def withdraw_unread(self) -> None:
        """Handle none that the router has not come to."""
        for envelope in list(self._unread):
            envelope.withdraw()

    def tell_unknown(self, owner: str, numbers: list[str]) -> None:
        """Tell `owner` which of what it has sent, and got no answer to, is not here."""
        unknown = [each for each in numbers if (owner, each) not in self._all]
        if unknown:
            self._channel.say(owner, {"op": "unknown", "ids": unknown})

    def taken(self, brought: Brought) -> None:
        """It goes to its actor; who has only told it needs to know no more."""
        if brought.envelope is not None and brought.envelope.slot is None:
            self.answer(brought, None)
            self.forget(brought)

    def turn_away(self, brought: Brought) -> None:
        """It does not belong here: it is with its sender again."""
        self._channel.say(brought.owner, {"op": "elsewhere", "id": brought.id})
        self.forget(brought)
        if brought.envelope is not None:
            brought.envelope.holder = None

    def answer(self, brought: Brought, value: Any) -> None:
        """Tell its sender what it was answered."""
        try:
            data = self._channel.written(value, "the answer of")
        except (NotPortable, MessageTooLarge) as error:
            self.fail(brought, error)
        else:
            self._channel.say(brought.owner, {"op": "answer", "id": brought.id, "failed": False, "data": data})

    def fail(self, brought: Brought, error: Exception) -> None:
        """Tell its sender with what it failed."""
        told = {"op": "answer", "id": brought.id, "failed": True, "data": failure_data(error).decode()}
        self._channel.say(brought.owner, told)

    def forget(self, brought: Brought) -> None:
        """It is over here."""
        self._all.pop((brought.owner, brought.id), None)
        if brought.envelope is not None:
            self._unread.pop(brought.envelope, None)
