"""Refs on a host to actors of the runtime: each call goes over the link, in the name of the placed actor that makes it."""

from __future__ import annotations

import contextvars
from collections.abc import Mapping
from typing import Any, Protocol, final

import trio

from actors.actor import ActorContext, ActorRef, ActorStatistics, Reply, StopReason, Terminated
from actors.argument_checks import COROUTINE
from actors.errors import UsageError
from runtime.core.refs import LocalRef, not_awaited
from runtime.placement.call_payloads import unpacked
from runtime.placement.link import Hear
from runtime.placement.portable_errors import failure_data, failure_of


class Speaker(Protocol):
    """The placed actor, or the call of a placed node, in whose name code on a host speaks to the runtime."""

    @property
    def address(self) -> str:
        """Its own."""
        ...

    @property
    def cell(self) -> Any:
        """Its cell on the host."""
        ...

    @property
    def models(self) -> Mapping[str | None, str]:
        """The language models of the runtime, by the names that it has for them; that of the default is None."""
        ...

    @property
    def spawner(self) -> ActorContext | None:
        """What starts its children on the host; None if it can have none."""
        ...

    async def ask(self, head: dict[str, Any], data: bytes = b"", *, hear: Hear | None = None) -> bytes:
        """What the runtime answers; `hear` takes what it tells before."""
        ...

    def tell(self, head: dict[str, Any], data: bytes = b"") -> None:
        """Tell the runtime something."""
        ...

    def written(self, value: object, what: str) -> bytes:
        """A value for the runtime."""
        ...

    def read(self, data: bytes) -> Any:
        """A value that comes from it."""
        ...

    def check_type(self, name: str) -> None:
        """Raise ``NotPortable`` unless the class ``module:Class`` is one of those that both sides know of who speaks."""
        ...


speaking: contextvars.ContextVar[Speaker | None] = contextvars.ContextVar("understudy_speaking", default=None)
"""The placed actor in whose code, or that of its children, this runs; or the call of a placed node."""


def speaker() -> Speaker:
    """The placed actor, or the call of a node, in whose name this code speaks.

    Raises:
        UsageError: it runs in none.
    """
    found = speaking.get()
    if found is None:
        raise UsageError(
            "this code runs on a host, outside of its actors and nodes, so it cannot send messages from there.\n"
            "  Fix: send them in the handler of a placed actor, or in the function of a placed node."
        )
    return found


@final
class RemoteRef(ActorRef[Any]):
    """An actor of the runtime, seen from a host."""

    __slots__ = ("_address",)

    def __init__(self, address: str) -> None:
        self._address = address

    @property
    def address(self) -> str:
        """See ``ActorRef.address``."""
        return self._address

    async def tell(self, message: Any) -> None:
        """See ``ActorRef.tell``."""
        me = speaker()
        await me.ask({"op": "tell", "to": self._address}, self._written(me, message))

    def tell_nowait(self, message: Any) -> None:
        """See ``ActorRef.tell_nowait``. From a host it raises no ``MailboxFull``: the message is a dead letter then."""
        me = speaker()
        data = self._written(me, message)
        here(lambda: me.tell({"op": "tell", "to": self._address}, data))

    async def ask(self, message: Any, *, detach: bool = False) -> Any:
        """See ``ActorRef.ask``."""
        me = speaker()
        data = await me.ask({"op": "ask", "to": self._address, "detach": detach}, self._written(me, message))
        return me.read(data) if data else None

    async def ended(self) -> Terminated:
        """See ``ActorRef.ended``."""
        head, data = unpacked(await speaker().ask({"op": "ended", "to": self._address}))
        error = failure_of(data, "the runtime") if data else None
        return Terminated(self, StopReason(head["reason"]), error)

    def statistics(self) -> ActorStatistics:
        """Not on a host, which would have to wait for them.

        Raises:
            UsageError: always.
        """
        raise UsageError(
            f"statistics() of {self._address!r} was called on a host, which does not have them.\n"
            "  Fix: call it where the runtime is open."
        )

    def _written(self, me: Speaker, message: object) -> bytes:
        if type(message) is COROUTINE:
            raise not_awaited(message, "message")
        return me.written(message, f"a message to {self._address!r}")

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ActorRef) and other.address == self._address

    def __hash__(self) -> int:
        return hash(self._address)

    def __repr__(self) -> str:
        return f"<ActorRef {self._address!r}>"


@final
class RemoteReply(Reply[Any]):
    """The right to answer one ask later; who asked waits in the runtime."""

    __slots__ = ("_me", "_number", "_used", "_wanted")

    def __init__(self, me: Speaker, number: int, *, wanted: bool) -> None:
        self._me = me
        self._number = number
        self._used = False
        self._wanted = wanted

    @property
    def wanted(self) -> bool:
        """See ``Reply.wanted``. On a host: whether the message was asked, and not answered yet."""
        return self._wanted and not self._used

    def send(self, value: Any) -> None:
        """See ``Reply.send``."""
        data = self._me.written(value, f"what {self._me.address!r} answers")
        self._use()
        self._me.tell({"op": "reply", "key": self._number}, data)

    def fail(self, error: Exception) -> None:
        """See ``Reply.fail``."""
        self._use()
        self._me.tell({"op": "decline", "key": self._number}, failure_data(error))

    def _use(self) -> None:
        if self._used:
            raise UsageError("this reply was sent already; an ask has one answer.\n  Fix: call send() or fail() once.")
        self._used = True


@final
class HostAddresses:
    """See ``Addresses``: on a host they stand for actors of the runtime."""

    def address_of(self, ref: ActorRef[Any], /) -> str:
        """See ``Addresses.address_of``."""
        if isinstance(ref, RemoteRef):
            return ref.address
        me = speaking.get()
        if isinstance(ref, LocalRef) and me is not None and ref.cell is me.cell:
            return me.address
        raise ValueError(f"{ref.address!r} lives within an actor on a host, and is known only there; spawn it with place=…")

    def ref_at(self, address: str, /) -> ActorRef[Any]:
        """See ``Addresses.ref_at``."""
        return RemoteRef(address)


def here(call: Any) -> Any:
    """What `call` returns on trio, also from the worker thread of a plain function."""
    return call() if trio.lowlevel.in_trio_task() else trio.from_thread.run_sync(call)
