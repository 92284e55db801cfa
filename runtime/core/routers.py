"""Routers: several actors of one kind behind one ref, and the ways to choose among them."""

from __future__ import annotations

import zlib
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from typing import Any, ClassVar, final

import attrs
import trio

from actors.actor import Actor, ActorRef, Terminated
from actors.argument_checks import is_a, is_count, rejected
from actors.declared_fields import explains_its_fields
from actors.errors import ActorError
from actors.factories import actor_class
from actors.supervision import ChildSpec
from runtime.core.actor_cell import ActorCell
from runtime.core.refs import LocalRef


@final
@attrs.frozen
class Routing:
    """How a :class:`Pool` chooses the actor for a message."""

    name: str
    key: Callable[[Any], object] | None = None
    """Of ``HASH``: what of a message decides; equal keys go to the same actor."""

    ROUND_ROBIN: ClassVar[Routing]
    """Each in turn."""
    LEAST_BUSY: ClassVar[Routing]
    """The one with the fewest messages that wait or are being handled; of equals the first."""
    BROADCAST: ClassVar[Routing]
    """All of them; an ask is answered with the list of their answers, with the ``ActorError`` where one failed."""

    @staticmethod
    def HASH(key: Callable[[Any], object]) -> Routing:
        """The same actor for messages of equal ``key(message)``: by its ``repr``, so it is the same in every process."""
        return Routing("HASH", key)


Routing.ROUND_ROBIN = Routing("ROUND_ROBIN")
Routing.LEAST_BUSY = Routing("LEAST_BUSY")
Routing.BROADCAST = Routing("BROADCAST")


def _is_spec(owner: object, attribute: attrs.Attribute[Any], value: object) -> None:
    if isinstance(value, ChildSpec):
        return
    kind = actor_class(value)
    line = None if kind is None else f"Pool(ChildSpec({kind.__name__.lower()!r}, {kind.__name__}), 4)."
    raise rejected(owner, attribute.name, value, "a ChildSpec", line)


def _example(_: tuple[object, ...]) -> str:
    return "Pool(ChildSpec('worker', Worker), 4), for four of them."


@final
@explains_its_fields(_example, {"workers": "size=…", "instances": "size=…", "strategy": "routing=Routing.ROUND_ROBIN"})
@attrs.frozen
class Pool:
    """`size` actors made from one spec, behind one ref: ``await runtime.spawn(Pool(spec, 4), name="pool")``.

    The pool is itself an actor, and they are its children, supervised one for one. What waits for all of them waits in its
    mailbox or in theirs; deadlines and cancellation of an ask reach the actor that handles it.
    """

    spec: ChildSpec = attrs.field(validator=_is_spec)
    """How each of them is made; their ids are its id and a number."""
    size: int = attrs.field(validator=is_count(least=1))
    routing: Routing = attrs.field(default=Routing.ROUND_ROBIN, validator=is_a(Routing))
    """Which of them gets a message."""

    def __call__(self) -> Actor:
        """The actor that routes; called by the runtime for every incarnation."""
        return _Router(self)


@final
class _Router(Actor):
    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._routees: list[ActorCell] = []
        self._turn = -1

    @asynccontextmanager
    async def lifespan(self) -> AsyncGenerator[None]:
        spec = self._pool.spec
        for number in range(1, self._pool.size + 1):
            ref = await self.context.spawn(
                spec.factory,
                *spec.args,
                name=f"{spec.id}-{number}",
                restart=spec.restart,
                mailbox=spec.mailbox,
                redelivery=spec.redelivery,
                shutdown_s=spec.shutdown_s,
                idle_timeout_s=spec.idle_timeout_s,
                place=spec.place,
            )
            self.context.watch(ref)
            self._routees.append(_cell_of(ref))
        yield

    async def receive(self, message: Any) -> Any:
        if isinstance(message, Terminated) and any(cell.ref is message.ref for cell in self._routees):
            self._routees = [cell for cell in self._routees if cell.ref is not message.ref]
            if not self._routees:
                self.context.stop()  # the last of them has ended without being stopped, and so does the pool
            return None
        hand = _cell_of(self.context.ref).hand
        if self._pool.routing is not Routing.BROADCAST:
            return await hand.forward(self._choose(message, self._routees).hand)
        if hand.is_asked:
            return await self._ask_all(message)
        for routee in self._routees:
            await routee.ref.tell(message)
        return None

    async def _ask_all(self, message: Any) -> list[Any]:
        answers: list[Any] = [None] * len(self._routees)

        async def ask(place: int, routee: ActorCell) -> None:
            try:
                answers[place] = await routee.ref.ask(message)
            except ActorError as error:
                answers[place] = error

        async with trio.open_nursery() as nursery:
            for place, routee in enumerate(self._routees):
                nursery.start_soon(ask, place, routee)
        return answers

    def _choose(self, message: Any, routees: list[ActorCell]) -> ActorCell:
        routing = self._pool.routing
        if routing is Routing.LEAST_BUSY:
            return min(routees, key=lambda cell: cell.hand.load)
        if routing.key is not None:
            return routees[zlib.crc32(repr(routing.key(message)).encode()) % len(routees)]
        self._turn += 1
        return routees[self._turn % len(routees)]


def _cell_of(ref: ActorRef[Any]) -> ActorCell:
    assert isinstance(ref, LocalRef), "the runtime's own refs"
    assert isinstance(ref.cell, ActorCell), "a ref of the runtime is to an actor"
    return ref.cell
