"""A placed actor, in the runtime: it has the mailbox, the supervisor and the address, and lets a host do the work."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from typing import Any, final

import attrs
import trio

from actors.actor import Actor
from actors.errors import InternalError, UsageError
from actors.placement_errors import HostLost, MessageTooLarge, NotPortable
from runtime.core.actor_cell import ActorCell
from runtime.core.foreign_errors import failure_in
from runtime.core.refs import LocalRef
from runtime.placement.actor_codes import ActorCode
from runtime.placement.errands import Errands, RuntimeKnowledge
from runtime.placement.hosts import Host, HostedPlace
from runtime.placement.placed_lives import Life


@final
@attrs.frozen(eq=False)
class Residence:
    """Where a placed actor lives, and what it is made of."""

    place: HostedPlace
    start: Callable[[], Awaitable[None]]
    """Starts the hosts of the place, unless they have been."""
    code: ActorCode
    data: bytes
    """The arguments of its factory."""
    known: RuntimeKnowledge


@final
class Away(Actor):
    """Lives on a host: each message is handled there, one at a time, while the others wait here.

    So its address and what waits outlive hosts, and a lost host leaves one message in doubt at most: the one that was there.
    """

    def __init__(self, residence: Residence) -> None:
        self._residence = residence
        self._life: Life | None = None
        self._host: Host | None = None

    @contextlib.asynccontextmanager
    async def lifespan(self) -> AsyncGenerator[None]:
        """Start the actor on the host that holds the fewest, and end it there."""
        residence, cell = self._residence, self._cell
        await residence.start()
        async with residence.place.house(residence.code) as host:
            self._host = host
            number = next(host.numbers)
            errands = Errands(residence.known, residence.code, self.context)
            life = Life(number, cell, host.link, self.context, errands, host.lives)
            parent = self.context.parent
            told = {
                "address": cell.address,
                "incarnation": cell.incarnation,
                "shutdown_s": cell.shutdown_s if cell.shutdown_s != float("inf") else None,
                "code": residence.code.name,
                "models": _models(cell.services.facade),
                "parent": parent.address if isinstance(parent, LocalRef) else None,
                "fence": cell.fence,
            }
            await life.begin(told, residence.data)
            self._life = life
            try:
                yield
            except BaseException as error:
                failure = failure_in(error)
                await life.end(kill=failure is None, error=failure if isinstance(failure, Exception) else None)
                raise
            else:
                await life.end(kill=False, error=None)

    async def receive(self, message: Any) -> Any:
        """Have the host handle it.

        Raises:
            HostLost: the host was lost while it did. And what the handler raised.
        """
        life, hand = self._life, self._cell.hand
        if life is None:
            raise InternalError("a message came before the start")
        try:
            body = life.told(message, is_asked=hand.is_asked, left_s=hand.left_s)
        except (NotPortable, MessageTooLarge) as error:
            hand.reject(error)
            await trio.lowlevel.checkpoint()
            return None
        try:
            return await life.handle(body)
        except HostLost as error:
            if error.was_sent or self._host is None or error.incarnation != self._host.incarnation:
                raise
            self.context.stash()  # the loss ends this incarnation, and the message goes back as if it had not been taken
            return None

    def describe(self) -> Mapping[str, Any] | None:
        """Where it lives."""
        host = self._host
        return None if host is None else {"place": host.place, "host": host.name, "incarnation": host.incarnation}

    @property
    def _cell(self) -> ActorCell:
        ref = self.context.ref
        assert isinstance(ref, LocalRef), "the runtime's own ref"
        assert isinstance(ref.cell, ActorCell), "of an actor"
        return ref.cell


def _models(runtime: Any) -> list[list[str | None]]:
    """The names of the language models and of what they stand for; that of the default is None."""
    named: list[list[str | None]] = [[name, lm.model] for name, lm in runtime.lms.items()]
    with contextlib.suppress(UsageError):
        named.append([None, runtime.lm.model])
    return named
