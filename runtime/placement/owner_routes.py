"""Which owner of a store has the actor of a key: settled by names of the store, so no two have it, and messages reach it.

Keys fall into :data:`SHARDS` shards, the same ones in every owner. An owner that gets a message takes the shard if no one has
it; else the message goes to who has it, as words on a channel, and the answer comes back. Each message is put before one owner
at a time: it is handled there, or that owner says that the shard is not its own any more, or the owner is lost, and the message
is in doubt.
"""

from __future__ import annotations

import contextlib
import enum
import math
from collections.abc import Callable, Hashable
from functools import partial
from typing import Any, Final, final

import attrs
import trio

from actors.errors import ActorFailed, MailboxFull
from actors.placement_errors import NotPortable, OwnerLost
from actors.restarts import Redelivery
from actors.store_errors import NameLost, StoreError
from runtime.core.actor_cell import ActorCell
from runtime.core.dead_letters import DeadReason
from runtime.core.envelope import Envelope
from runtime.graphs.fellow_owners import FellowOwners
from runtime.placement.brought_messages import Brought, BroughtMessages
from runtime.placement.owner_channel import ALL, OwnerChannel
from runtime.placement.portable_errors import failure_of
from runtime.placement.shard_keys import name_of_shard, shard_of

LOOK_S: Final = 1.0
"""How often it is looked whether the owner is still there that messages were sent to, and which shards no one uses."""
LOOKS: Final = 3
"""So often in a row another must have a shard before what its owner was sent counts as lost: answers may be on the way."""
FRESH_S: Final = 1.0
"""For how long it is known who has a shard, before the store is asked again."""
ASK_S: Final = 10.0
"""An owner that has not answered for so long is asked whether it has the message at all."""
MAX_OUT: Final = 10_000
"""Messages that may be with other owners, or wait to be sent to them."""


class _At(enum.Enum):
    """Where a shard is."""

    UNKNOWN = "unknown"
    HERE = "here"
    THERE = "there"
    MOVING = "moving"
    """What was sent there is awaited before anything more is sent anywhere, or it is being given up here."""


@final
@attrs.define(eq=False)
class _Route:
    """One shard, as this owner knows it."""

    name: str
    at: _At = _At.UNKNOWN
    owner: str = ""
    fence: int = 0
    known_at: float = -math.inf
    keys: set[Hashable] = attrs.field(factory=set[Hashable])
    """Those whose actors live here, or may."""
    out: dict[str, _Sent] = attrs.field(factory=dict[str, "_Sent"])
    """Messages that its owner was sent, in order."""
    aside: list[tuple[int, Envelope]] = attrs.field(factory=list[tuple[int, Envelope]])
    """Messages that wait until it has moved, with their places in the order of all."""
    looks: int = 0
    in_doubt: bool = False
    """The store may take this owner to have it, though it is not here."""


@final
@attrs.define(eq=False)
class _Sent:
    """A message that is with another owner; it holds the envelope."""

    routes: OwnerRoutes
    route: _Route
    id: str
    place: int
    envelope: Envelope
    sent_at: float

    def withdrawn(self, envelope: Envelope) -> None:
        """See ``Holder``: the owner is told, and not waited for."""
        self.routes.withdraw(self)


@final
@attrs.define(eq=False)
class _Aside:
    """Holds a message that waits."""

    route: _Route

    def withdrawn(self, envelope: Envelope) -> None:
        """See ``Holder``."""
        self.route.aside = [each for each in self.route.aside if each[1] is not envelope]
        envelope.holder = None
        if envelope.slot is not None:
            envelope.slot.released()


@final
class OwnerRoutes:
    """The shards of one router, for one incarnation of it."""

    def __init__(self, fellows: FellowOwners, cell: ActorCell, factory: Any, redelivery: Redelivery) -> None:
        self._fellows = fellows
        self._cell = cell
        self._redelivery = redelivery
        self._channel = OwnerChannel(fellows, cell.address, factory)
        self._brought = BroughtMessages(self._channel, cell.mailbox)
        self._routes: dict[int, _Route] = {}
        self._sent: dict[str, _Sent] = {}
        self._places = 0

    # --- its life ---------------------------------------------------------------------------------------------------------

    def open(self, start_soon: Callable[..., object]) -> None:
        """Hear other owners, and look after what is with them; `start_soon` runs tasks while the router lives."""
        self._channel.open(self._hear, start_soon)
        start_soon(self._look)
        if self._fellows.left_s > 0:
            start_soon(self._until_lost)

    async def close(self, *, is_wanted: bool) -> None:
        """The actors of all keys have ended: let other owners have the shards; `is_wanted`: as a router that was stopped.

        What others have sent to one that has crashed, and it had not come to, waits in its mailbox for its next incarnation. Of
        one that was stopped, all unanswered messages go on elsewhere.
        """
        self._channel.close()
        if is_wanted:
            self._brought.withdraw_unread()
        for sent in list(self._sent.values()):
            self._pop(sent)
            self._cell.mailbox.bury(sent.envelope, begun=True)
        async with trio.open_nursery() as nursery:
            for route in self._routes.values():
                for _, envelope in route.aside:
                    self._cell.mailbox.bury(envelope)
                route.aside = []
                if route.at is _At.HERE:
                    nursery.start_soon(self._fellows.let_go, route.name, route.fence)
                elif route.in_doubt:
                    nursery.start_soon(self._let_go_if_mine, route)
        if is_wanted:
            self._channel.say(ALL, {"op": "left"})

    async def _let_go_if_mine(self, route: _Route) -> None:
        """The answer of the store, when it was asked for this shard, was not heard."""
        with contextlib.suppress(StoreError):  # then it is free when the store is closed
            held = await self._fellows.hold(route.name)
            if held.worker == self._fellows.me:
                await self._fellows.let_go(route.name, held.fence)

    async def _until_lost(self) -> None:
        await self._fellows.wait_until_lost()
        raise self._lost_lease()

    def _lost_lease(self) -> NameLost:
        return NameLost(
            f"this process may no longer have actors of {self._cell.address!r}: its lease of the store ended, and another owner "
            "may have started them.\n  Fix: end this process, or open another runtime.",
            name=self._cell.address,
        )

    # --- what the router asks ---------------------------------------------------------------------------------------------

    async def is_here(self, key: Hashable) -> bool:
        """Whether the router is to hand its current message to the actor of `key`; else it is seen to.

        Raises:
            NotPortable: the key is of no type that all owners read alike, or the message cannot travel. MessageTooLarge: it is
                too large. MailboxFull: too much is with other owners. StoreError: the store cannot say who has it.
            NameLost: it may be with another by now.
        """
        route = self._route(key)
        hand = self._cell.hand
        envelope = hand.envelope
        assert envelope is not None, "the router has a message"
        brought = self._brought.reached(envelope)
        if brought is not None:
            return await self._is_ours(key, route, brought)
        if self._fellows.left_s <= 0:
            raise self._lost_lease()
        await self._settle(route)
        if route.at is _At.HERE:
            self.wants(key)
            return True
        if len(self._sent) + sum(len(each.aside) for each in self._routes.values()) >= MAX_OUT:
            raise MailboxFull(
                f"{MAX_OUT} messages to {self._cell.address!r} are with other owners already.\n"
                "  Fix: send fewer at a time, or to the owner that has their keys.",
                address=self._cell.address,
            )
        if route.at is _At.MOVING:
            self._put_aside(route, self._next_place(), hand.give_to(_Aside(route)))
        else:
            self._send(route, envelope)
        return False

    async def _is_ours(self, key: Hashable, route: _Route, brought: Brought) -> bool:
        """The same for a message that another owner has sent: it was sent to this life of the shard, or goes back."""
        if self._fellows.left_s > 0:
            with contextlib.suppress(StoreError):
                await self._settle(route)
                if route.at is _At.HERE and brought.fence == route.fence:
                    self.wants(key)
                    self._brought.taken(brought)
                    return True
        self._brought.turn_away(brought)
        return False

    def fence_of(self, key: Hashable) -> int:
        """That of the shard of `key`, which is here."""
        return self._route(key).fence

    def wants(self, key: Hashable) -> None:
        """The actor of `key` lives here, or is about to."""
        self._route(key).keys.add(key)

    def gone(self, key: Hashable) -> None:
        """The actor of `key` has ended here."""
        self._route(key).keys.discard(key)

    def _route(self, key: Hashable) -> _Route:
        number = shard_of(key)
        route = self._routes.get(number)
        if route is None:
            route = self._routes[number] = _Route(name_of_shard(number, self._cell.address))
        return route

    async def _settle(self, route: _Route) -> None:
        """Find out who has a shard, unless that is known; take it if no one does.

        Raises:
            StoreError: the store cannot say.
        """
        is_fresh = route.at is not _At.UNKNOWN and trio.current_time() - route.known_at < FRESH_S
        if is_fresh or route.at in (_At.HERE, _At.MOVING):
            return
        route.in_doubt = True
        held = await self._fellows.hold(route.name)
        route.in_doubt = False
        route.known_at = trio.current_time()
        mine = held.worker == self._fellows.me
        if route.out and (held.worker, held.fence) != (route.owner, route.fence):
            route.at, route.in_doubt = _At.MOVING, mine  # what was sent to who had it comes first
        elif not route.out:
            route.at, route.owner, route.fence = (_At.HERE if mine else _At.THERE), held.worker, held.fence

    # --- what is sent -----------------------------------------------------------------------------------------------------

    def _next_place(self) -> int:
        self._places += 1
        return self._places

    def _send(self, route: _Route, envelope: Envelope) -> None:
        data = self._channel.written(envelope.message, "a message to")
        place = self._next_place()
        number = f"{self._cell.incarnation}.{place}"
        sent = _Sent(self, route, number, place, envelope, trio.current_time())
        self._cell.hand.give_to(sent)
        self._sent[number] = route.out[number] = sent
        left_s = None if envelope.deadline == math.inf else envelope.deadline - sent.sent_at
        head = {
            "op": "message",
            "id": number,
            "fence": route.fence,
            "asked": envelope.slot is not None,
            "left_s": left_s,
            "sender": envelope.sender,
        }
        self._channel.say(route.owner, {**head, "data": data}, partial(self._unsaid, sent))

    def _unsaid(self, sent: _Sent, reason: DeadReason, error: Exception | None) -> None:
        """The store did not take it, or has not said whether."""
        if sent.id in self._sent:
            self._lose(sent, error)

    def withdraw(self, sent: _Sent) -> None:
        """No one waits for the answer to it any more."""
        if self._pop(sent):
            self._channel.say(sent.route.owner, {"op": "cancel", "id": sent.id})
            sent.envelope.holder = None
            if sent.envelope.slot is not None:
                sent.envelope.slot.released()
            self._moved_perhaps(sent.route)

    def _pop(self, sent: _Sent) -> bool:
        sent.route.out.pop(sent.id, None)
        return self._sent.pop(sent.id, None) is not None

    def _lose(self, sent: _Sent, why: Exception | None = None) -> None:
        """Its owner is lost, or has never seen it."""
        self._pop(sent)
        owner, envelope, route = sent.route.owner, sent.envelope, sent.route
        error = OwnerLost(
            f"{owner!r}, the owner of the store that had the actor of this key in {self._cell.address!r}, was lost before it had "
            "answered; whether the message was handled is not known.\n"
            "  Fix: Sharded(…, redelivery=Redelivery(max_attempts=3)), if it may be handled twice.",
            owner=owner,
        )
        error.__cause__ = why
        envelope.last_error = error
        route.at = _At.MOVING
        if self._redelivery.wants(error, envelope.attempt):
            envelope.attempt += 1
            self._put_aside(route, sent.place, envelope)
        else:
            self._cell.services.dead_letters.add(self._cell.address, DeadReason.FAILED, envelope, error)
            failure = ActorFailed(str(error), address=self._cell.address)
            failure.__cause__ = error
            envelope.give_up(failure)
        self._moved_perhaps(route)

    def _put_aside(self, route: _Route, place: int, envelope: Envelope) -> None:
        envelope.holder = _Aside(route)
        route.aside.append((place, envelope))

    def _moved_perhaps(self, route: _Route) -> None:
        """Once nothing of a shard that moves is out, what waits for it begins again, in order, ahead of what came later."""
        if route.at is not _At.MOVING or route.out:
            return
        route.at, route.looks = _At.UNKNOWN, 0
        aside, route.aside = route.aside, []
        for _, envelope in sorted(aside, key=lambda each: each[0], reverse=True):
            self._cell.mailbox.put_beyond(envelope, first=True)

    # --- what others say --------------------------------------------------------------------------------------------------

    def _hear(self, owner: str, told: dict[str, Any]) -> None:
        match told["op"]:
            case "message":
                self._brought.bring(owner, told)
            case "cancel":
                self._brought.withdraw(owner, told["id"])
            case "look":
                self._brought.tell_unknown(owner, told["ids"])
            case "left":
                self._owner_left(owner)
            case _:
                for number in told.get("ids") or [told["id"]]:
                    sent = self._sent.get(number)
                    if sent is not None and sent.route.owner == owner:
                        self._take_outcome(sent, told)

    def _take_outcome(self, sent: _Sent, told: dict[str, Any]) -> None:
        route, envelope = sent.route, sent.envelope
        if told["op"] == "unknown":
            self._lose(sent)
            return
        self._pop(sent)
        route.known_at = trio.current_time()
        if told["op"] == "elsewhere":
            route.at = _At.MOVING
            self._put_aside(route, sent.place, envelope)
        else:
            envelope.holder = None
            self._conclude(envelope, told)
        self._moved_perhaps(route)

    def _owner_left(self, owner: str) -> None:
        """It has answered all that it had come to; the rest goes on elsewhere."""
        for route in self._routes.values():
            if route.owner == owner and (route.out or route.at is _At.THERE):
                route.at = _At.MOVING
                for sent in list(route.out.values()):
                    self._pop(sent)
                    self._put_aside(route, sent.place, sent.envelope)
                self._moved_perhaps(route)

    def _conclude(self, envelope: Envelope, told: dict[str, Any]) -> None:
        slot = envelope.slot
        if slot is None:
            return
        if told["failed"]:
            slot.fail(failure_of(told["data"].encode(), told["from"]))
        else:
            try:
                slot.succeed(self._channel.read(told["data"]))
            except NotPortable as error:
                slot.fail(error)
        slot.released()

    # --- looking ----------------------------------------------------------------------------------------------------------

    async def _look(self) -> None:
        while True:
            await trio.sleep(LOOK_S)
            for route in list(self._routes.values()):
                if route.out:
                    await self._look_after(route)
                elif route.at is _At.HERE and not route.keys:
                    await self._leave(route)

    async def _look_after(self, route: _Route) -> None:
        """Whether who has messages of this shard is still there, and has them."""
        try:
            holder = await self._fellows.holder(route.name)
        except StoreError:
            return
        if holder is not None and holder.worker == route.owner:
            route.looks = 0
            until = trio.current_time() - ASK_S
            late = [sent for sent in route.out.values() if sent.sent_at <= until]
            if late:
                for sent in late:
                    sent.sent_at = trio.current_time()
                self._channel.say(route.owner, {"op": "look", "ids": [sent.id for sent in late]})
            return
        route.looks += 1
        if route.looks >= LOOKS:
            for sent in list(route.out.values()):
                self._lose(sent)

    async def _leave(self, route: _Route) -> None:
        """Let another owner have a shard of which no actor lives here."""
        route.at = _At.MOVING
        await self._fellows.let_go(route.name, route.fence)
        self._moved_perhaps(route)
