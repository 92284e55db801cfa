"""What the addresses in messages of hosts stand for, in the runtime: its own actors."""

from __future__ import annotations

import weakref
from typing import Any, final

import trio

from actors.actor import ActorRef, ActorState, ActorStatistics, StopReason, Terminated
from actors.errors import MailboxFull, UsageError
from runtime.core.actor_cell import stopped
from runtime.core.dead_letters import DeadReason
from runtime.core.envelope import Envelope
from runtime.core.refs import LocalRef
from runtime.core.services import Services


@final
class OwnerAddresses:
    """See ``Addresses``."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._told: weakref.WeakValueDictionary[str, LocalRef] = weakref.WeakValueDictionary()
        """Refs that hosts were given: an actor may have ended since, and still be meant."""

    def address_of(self, ref: ActorRef[Any], /) -> str:
        """See ``Addresses.address_of``."""
        if isinstance(ref, NobodyRef):
            return ref.address
        if not isinstance(ref, LocalRef) or ref.cell.services is not self._services:
            raise ValueError(f"{ref!r} isn't of this runtime")
        self._told[ref.address] = ref
        return ref.address

    def ref_at(self, address: str, /) -> ActorRef[Any]:
        """See ``Addresses.ref_at``: that of an actor which is gone, if there is none."""
        found = self._services.registry.get(address)
        if found is not None and isinstance(found.ref, ActorRef):
            return found.ref
        return self._told.get(address) or NobodyRef(address, self._services)

    def tell_nowait(self, address: str, message: object, sender: str | None) -> None:
        """Put a message into a mailbox; where there is no room, it is a dead letter."""
        ref = self.ref_at(address)
        try:
            ref.tell_nowait(message)
        except MailboxFull as error:
            envelope = Envelope(message, sender, None, self._services.now())
            self._services.dead_letters.add(address, DeadReason.OVERFLOW, envelope, error)


@final
class NobodyRef(ActorRef[Any]):
    """A ref to an actor of which nothing is left but its address."""

    __slots__ = ("_address", "_services")

    def __init__(self, address: str, services: Services) -> None:
        self._address = address
        self._services = services

    @property
    def address(self) -> str:
        """See ``ActorRef.address``."""
        return self._address

    async def tell(self, message: Any) -> None:
        """See ``ActorRef.tell``: the message is a dead letter."""
        await trio.lowlevel.checkpoint()
        self.tell_nowait(message)

    def tell_nowait(self, message: Any) -> None:
        """See ``ActorRef.tell_nowait``: the message is a dead letter."""
        envelope = Envelope(message, None, None, self._services.now())
        self._services.dead_letters.add(self._address, DeadReason.STOPPED, envelope)

    async def ask(self, message: Any, *, detach: bool = False) -> Any:
        """See ``ActorRef.ask``.

        Raises:
            ActorStopped: always.
        """
        await trio.lowlevel.checkpoint()
        raise stopped(self._address)

    async def ended(self) -> Terminated:
        """See ``ActorRef.ended``."""
        await trio.lowlevel.checkpoint()
        return Terminated(self, StopReason.STOPPED)

    def statistics(self) -> ActorStatistics:
        """There are none.

        Raises:
            UsageError: always.
        """
        raise UsageError(f"no actor {self._address!r} is known, so it has no statistics.\n  Fix: spawn() it first.")

    def __repr__(self) -> str:
        return f"<ActorRef {self._address!r} {ActorState.STOPPED.value}>"
