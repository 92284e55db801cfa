"""One actor for each key, behind one ref: started by its first message, and ended when it has been idle."""

from __future__ import annotations

import math
from collections.abc import AsyncGenerator, Callable, Hashable, Mapping
from contextlib import asynccontextmanager
from hashlib import blake2s
from typing import Any, Final, final

import attrs
import trio

from actors.actor import Actor
from actors.argument_checks import is_a, is_count, is_number, is_place
from actors.errors import DeclarationError, UnderstudyError
from actors.mailbox import MailboxSpec
from actors.restarts import Redelivery
from actors.supervision import ChildSpec, Supervision
from actors.words import repr_of
from runtime.core.actor_cell import ActorCell
from runtime.core.context import LocalContext
from runtime.core.lifecycle import State
from runtime.core.refs import LocalRef
from runtime.core.supervisor import SupervisorCell
from runtime.graphs.fellow_owners import FellowOwners
from runtime.placement.owner_routes import OwnerRoutes

SUPERVISION: Final = Supervision(max_restarts=math.inf)
"""Of the actors of the keys: what one of them fails of must not end the others, so each waits longer from failure to failure."""
LOOK_S: Final = 0.05
"""How often one of them is looked for that has come to rest, while all that may live are busy."""
_MAX_NAME: Final = 100


@final
@attrs.frozen
class Sharded:
    """One actor per key: ``await runtime.spawn(Sharded(Chat, key=lambda message: message.user), name="chats", place="cpu")``.

    ``factory(key)`` makes the actor of a key, on its first message. There is one of each key at any time. With a place, they are
    spread over its hosts; who routes stays with the runtime.

    With ``everywhere=True`` there is one of each key in all runtimes that have the same store open and have spawned this under
    the same name: the first to get a message of a key has it, and what others get is sent there, and answered from there.
    """

    factory: Callable[[Any], Actor[Any]] = attrs.field()
    """A class derived from ``Actor``, or a function that makes one, called with the key."""
    key: Callable[[Any], Hashable] = attrs.field(kw_only=True)
    """Whose a message is. One for which this raises is answered with that error."""
    idle_s: float | None = attrs.field(default=None, kw_only=True, validator=attrs.validators.optional(is_number(above=0)))
    """An actor that has had nothing to do for so many seconds is stopped; the next message starts it again. None: it stays."""
    limit: float = attrs.field(default=math.inf, kw_only=True, validator=is_count(least=1, unbounded=True))
    """How many may live at the same time: to start one more, that which has been idle for longest is stopped."""
    mailbox: MailboxSpec = attrs.field(default=MailboxSpec(), kw_only=True, validator=is_a(MailboxSpec))
    """Of each of them."""
    redelivery: Redelivery = attrs.field(default=Redelivery(), kw_only=True, validator=is_a(Redelivery))
    """Of each of them."""
    shutdown_s: float = attrs.field(default=5.0, kw_only=True, validator=is_number(least=0))
    """Of each of them."""
    place: str | None = attrs.field(default=None, kw_only=True, validator=is_place)
    """Where they live; what is given to ``spawn`` counts."""
    everywhere: bool = attrs.field(default=False, kw_only=True, validator=is_a(bool))
    """Whether a key has one actor in all owners of the store. Keys are texts, whole numbers, bytes, UUIDs, or tuples of these."""

    def __attrs_post_init__(self) -> None:
        if self.everywhere and not hasattr(self.factory, "__qualname__"):
            raise DeclarationError(
                f"Sharded({repr_of(self.factory)}, everywhere=True): what it makes cannot be told to other owners of the store.\n"
                "  Fix: give it a class derived from Actor, or a function."
            )

    def __call__(self) -> Actor[Any]:
        """The actor that routes; called by the runtime for every incarnation."""
        return _Shards(self)


@final
@attrs.define(eq=False)
class _Shard:
    cell: ActorCell
    used_at: float
    is_leaving: bool = False


@final
class _Shards(Actor[Any]):
    """Routes by key. ``_shards`` has them from the one that was used longest ago to the newest."""

    def __init__(self, sharded: Sharded) -> None:
        self._sharded = sharded
        self._shards: dict[Hashable, _Shard] = {}
        self._supervisor: SupervisorCell | None = None
        self._routes: OwnerRoutes | None = None

    @asynccontextmanager
    async def lifespan(self) -> AsyncGenerator[None]:
        context = self.context
        assert isinstance(context, LocalContext), "who routes lives with the runtime"
        self._supervisor = context.open_supervisor(SUPERVISION)
        await self._supervisor.wait_started()
        if self._sharded.idle_s is not None:
            context.nursery.start_soon(self._let_idle_ones_go, self._sharded.idle_s)
        fellows: FellowOwners | None = self._cell.services.fellows if self._sharded.everywhere else None
        if fellows is None or not fellows.can_meet:
            yield
            return
        self._routes = OwnerRoutes(fellows, self._cell, self._sharded.factory, self._sharded.redelivery)
        self._routes.open(context.nursery.start_soon)
        try:
            yield
        except BaseException:
            await self._routes.close(is_wanted=False)
            raise
        await self._routes.close(is_wanted=True)

    async def receive(self, message: Any) -> None:
        hand = self._cell.hand
        try:
            key = self._sharded.key(message)
            hash(key)
        except Exception as error:  # noqa: BLE001 - the author's own code, or a key that is none
            self.context.fail(error)
            return
        try:
            if self._routes is not None and not await self._routes.is_here(key):
                return
            shard = await self._shard(key)
        except UnderstudyError as error:  # a key that cannot travel, or it is not known whose it is
            hand.reject(error)
            return
        await hand.forward(shard.cell.hand)
        self._used(key, shard)

    def describe(self) -> Mapping[str, Any]:
        """How many live."""
        return {"active": len(self._shards)}

    @property
    def _cell(self) -> ActorCell:
        ref = self.context.ref
        assert isinstance(ref, LocalRef), "the runtime's own refs"
        assert isinstance(ref.cell, ActorCell), "a ref of the runtime is to an actor"
        return ref.cell

    # --- one of them ------------------------------------------------------------------------------------------------------

    async def _shard(self, key: Hashable) -> _Shard:
        """The actor of `key`, which may still be starting: its mailbox is open."""
        shard = self._shards.get(key)
        if shard is not None and not shard.cell.is_gone:
            return shard
        self._forget(key)
        if self._routes is not None:
            self._routes.wants(key)
        while len(self._shards) >= self._sharded.limit:
            await self._make_room()
        supervisor = self._supervisor
        assert supervisor is not None, "it was opened in the lifespan"
        sharded = self._sharded
        spec = ChildSpec(
            _name_of(key),
            sharded.factory,
            (key,),
            mailbox=sharded.mailbox,
            redelivery=sharded.redelivery,
            shutdown_s=sharded.shutdown_s,
            place=sharded.place,
        )
        shard = self._shards[key] = _Shard(supervisor.adopt_soon(spec), trio.current_time())
        if self._routes is not None:
            shard.cell.fence = self._routes.fence_of(key)
        return shard

    def _forget(self, key: Hashable) -> None:
        self._shards.pop(key, None)
        if self._routes is not None:
            self._routes.gone(key)

    def _used(self, key: Hashable, shard: _Shard) -> None:
        if self._shards.get(key) is shard:
            shard.used_at = trio.current_time()
            self._shards[key] = self._shards.pop(key)

    async def _make_room(self) -> None:
        """Wait until one less lives, or may."""
        for key, shard in self._shards.items():
            if shard.cell.is_gone:
                self._forget(key)
                return
            if _is_idle(shard):
                self._let_go(key, shard)
                break
        leaving = next((shard for shard in self._shards.values() if shard.is_leaving), None)
        if leaving is None:
            await trio.sleep(LOOK_S)
        else:
            await leaving.cell.wait_exited()
            await trio.lowlevel.checkpoint()

    async def _let_idle_ones_go(self, idle_s: float) -> None:
        while True:
            now = trio.current_time()
            for key, shard in list(self._shards.items()):
                if now - shard.used_at < idle_s:
                    break
                if _is_idle(shard):
                    self._let_go(key, shard)
                else:
                    self._used(key, shard)  # it is at work, or has come to rest since: its time begins again
            oldest = next((shard.used_at for shard in self._shards.values() if not shard.is_leaving), now)
            await trio.sleep(max(oldest + idle_s - now, LOOK_S))

    def _let_go(self, key: Hashable, shard: _Shard) -> None:
        """End its incarnation. Its mailbox stays open until that has ended: what comes meanwhile starts it again."""
        shard.is_leaving = True
        shard.cell.stop_to_rejoin()
        self.context.nursery.start_soon(self._see_out, key, shard)

    async def _see_out(self, key: Hashable, shard: _Shard) -> None:
        cell = shard.cell
        await cell.wait_exited()
        shard.is_leaving = False
        if len(cell.mailbox) and self._supervisor is not None:
            self._supervisor.start_again(cell)
        else:
            if self._shards.get(key) is shard:
                self._forget(key)
            cell.stop_permanently(forget=True)


def _is_idle(shard: _Shard) -> bool:
    return shard.cell.state is State.RUNNING and not shard.is_leaving and shard.cell.hand.is_at_rest


def _name_of(key: Hashable) -> str:
    """The key itself where it can name an actor, else a digest of it."""
    if isinstance(key, str) and 0 < len(key) <= _MAX_NAME and key.isprintable() and "/" not in key:
        return key
    return f"{type(key).__name__}-{blake2s(repr(key).encode('utf-8', 'surrogatepass'), digest_size=8).hexdigest()}"
