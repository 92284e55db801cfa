"""The context of a placed actor: children without a place, tasks and behaviour are of its host; the rest is of the runtime."""

from __future__ import annotations

import itertools
from collections.abc import Awaitable, Callable, Hashable
from typing import Any, Protocol, Unpack, final

import attrs

from actors.actor import Actor, ActorContext, ActorNursery, ActorRef, Failure, Reply, SpawnOptions
from actors.argument_checks import is_seconds
from actors.errors import UsageError
from actors.typevars import M
from actors.words import repr_of
from runtime.core.actor_cell import ActorCell
from runtime.core.context import LocalContext
from runtime.placement.host.remote_refs import RemoteRef, RemoteReply, Speaker, here
from runtime.placement.host.spawning_there import spawn_there
from runtime.placement.portable_errors import failure_data


class HostedMessage(Protocol):
    """What came over the link and is in the actor's hand."""

    is_asked: bool
    is_taken: bool
    """Whether its answer was given, or promised, already."""
    timer: int | None


class Resident(Speaker, Protocol):
    """What a context needs of the actor that lives here."""

    @property
    def incarnation(self) -> int:
        """Which life of the actor this is, as the runtime counts them."""
        ...

    @property
    def fence(self) -> int:
        """The number of this host's start."""
        ...

    @property
    def parent(self) -> str | None:
        """The address of the actor above it, if there is one."""
        ...

    @property
    def current_message(self) -> HostedMessage | None:
        """The message of the runtime that its handler works on."""
        ...


@final
class HostedContext(ActorContext):
    """The context of an actor that lives on a host."""

    __slots__ = ("_keys", "_local", "_me", "_numbers", "_timers")

    def __init__(self, me: Resident, cell: ActorCell) -> None:
        self._me = me
        self._local = LocalContext(cell)
        self._numbers = itertools.count(1)
        self._keys: dict[Hashable, int] = {}
        """The numbers of the timers that have a key."""
        self._timers: dict[int, _Timer] = {}
        """Those that may still send a message."""

    @property
    def ref(self) -> ActorRef[Any]:
        """See ``ActorContext.ref``: its mailbox is in the runtime, so what it tells itself goes there."""
        return RemoteRef(self._me.address)

    @property
    def incarnation(self) -> int:
        """See ``ActorContext.incarnation``."""
        return self._me.incarnation

    @property
    def fence(self) -> int:
        """See ``ActorContext.fence``."""
        return self._me.fence

    @property
    def parent(self) -> Any:
        """See ``ActorContext.parent``; None on a host if that isn't an actor."""
        return None if self._me.parent is None else RemoteRef(self._me.parent)

    @property
    def runtime(self) -> Any:
        """See ``ActorContext.runtime``: what a host has of it."""
        return self._local.runtime

    # --- children ---------------------------------------------------------------------------------------------------------

    async def spawn(
        self,
        factory: Callable[..., Actor[M]],
        *args: Any,
        name: str | None = None,
        **options: Unpack[SpawnOptions],
    ) -> ActorRef[M]:
        """See ``ActorContext.spawn``: without a place, the child lives on this host, too, and only this actor can name it."""
        if options.get("place") is not None:
            self._local.reject_when_closed("it starts no children")
            return await spawn_there(factory, args, name, options, is_child=True)
        return await self._local.spawn(factory, *args, name=name, **options)

    def stop(self, ref: ActorRef[Any] | None = None) -> None:
        """See ``ActorContext.stop``."""
        if ref is None or ref == self.ref:
            self._say({"op": "finish"})
        elif isinstance(ref, RemoteRef):
            self._say({"op": "stop", "to": ref.address})
        else:
            self._local.stop(ref)

    def watch(self, ref: Any) -> None:
        """See ``ActorContext.watch``."""
        if isinstance(ref, RemoteRef):
            self._say({"op": "watch", "to": ref.address})
        else:
            self._local.watch(ref)

    def unwatch(self, ref: Any) -> None:
        """See ``ActorContext.unwatch``."""
        if isinstance(ref, RemoteRef):
            self._say({"op": "unwatch", "to": ref.address})
        else:
            self._local.unwatch(ref)

    # --- time -------------------------------------------------------------------------------------------------------------

    def schedule_once(self, delay_s: float, message: Any, key: Hashable | None = None) -> None:
        """See ``ActorContext.schedule_once``: the message waits in the runtime until it is time."""
        if not is_seconds(delay_s):
            raise UsageError(f"schedule_once({repr_of(delay_s)}): expected seconds >= 0.\n  Fix: a delay of 0 or more.")
        self._schedule(delay_s, message, key, every=False)

    def schedule_every(self, interval_s: float, message: Any, key: Hashable | None = None) -> None:
        """See ``ActorContext.schedule_every``."""
        if not is_seconds(interval_s, zero=False):
            raise UsageError(f"schedule_every({repr_of(interval_s)}): expected seconds > 0.\n  Fix: an interval above 0.")
        self._schedule(interval_s, message, key, every=True)

    def _schedule(self, seconds: float, message: object, key: Hashable | None, *, every: bool) -> None:
        data = self._me.written(message, f"a message of {self._me.address!r} to itself")
        if key is not None:
            self.cancel(key)
        number = next(self._numbers)
        if key is not None:
            self._keys[key] = number
        self._timers[number] = _Timer(key, every)
        self._say({"op": "timer", "key": number, "s": seconds, "every": every}, data)

    def cancel(self, key: Hashable) -> bool:
        """See ``ActorContext.cancel``."""
        number = self._keys.pop(key, None)
        if number is None or self._timers.pop(number, None) is None:
            return False
        self._say({"op": "cancel", "key": number})
        return True

    def timer_came(self, number: int) -> bool:
        """A message of that timer is here; whether it is still to be handled."""
        timer = self._timers.get(number)
        if timer is None:
            return False
        if not timer.every:
            del self._timers[number]
            if timer.key is not None and self._keys.get(timer.key) == number:
                del self._keys[timer.key]
        return True

    # --- handling ---------------------------------------------------------------------------------------------------------

    def stash(self) -> None:
        """Not on a host.

        Raises:
            UsageError: always.
        """
        raise UsageError(
            f"{self._me.address!r} lives on a host, where messages cannot be stashed: one is there at a time.\n"
            "  Fix: keep it on self, and take reply_later() for its answer; or leave place out."
        )

    def unstash_all(self) -> None:
        """See ``ActorContext.unstash_all``: there is nothing."""

    def become(self, handler: Callable[[Any], Awaitable[Any]]) -> None:
        """See ``ActorContext.become``."""
        self._local.become(handler)

    def fail(self, error: Exception) -> None:
        """See ``ActorContext.fail``."""
        Failure(error)  # raises for what isn't an Exception
        if self._me.current_message is None:
            self._local.fail(error)
        else:
            self._take("fail()")
            self._say({"op": "fail"}, failure_data(error))

    def unhandled(self, message: Any) -> None:
        """See ``ActorContext.unhandled``."""
        if self._me.current_message is None:
            self._local.unhandled(message)
        else:
            self._take("unhandled()")
            self._say({"op": "unhandled"})

    def heartbeat(self) -> None:
        """See ``ActorContext.heartbeat``."""
        self._say({"op": "heartbeat"})

    def reply_later(self) -> Reply[Any]:
        """See ``ActorContext.reply_later``."""
        message = self._me.current_message
        if message is None:
            return self._local.reply_later()
        self._take("reply_later()")
        number = next(self._numbers)
        self._say({"op": "later", "key": number})
        return RemoteReply(self._me, number, wanted=message.is_asked)

    def _take(self, call: str) -> None:
        message = self._me.current_message
        if message is None or message.is_taken:
            raise UsageError(
                f"{self._me.address!r} called {call}, and has no current message that is not answered or promised a reply "
                f"already.\n  Fix: call {call} once, in the handler of the message."
            )
        message.is_taken = True

    @property
    def nursery(self) -> ActorNursery:
        """See ``ActorContext.nursery``."""
        return self._local.nursery

    def _say(self, head: dict[str, Any], data: bytes = b"") -> None:
        self._local.reject_when_closed("the runtime is told nothing more")
        here(lambda: self._me.tell(head, data))

    # --- the end ----------------------------------------------------------------------------------------------------------

    async def close(self, *, kill: bool) -> None:
        """See ``Closable.close``."""
        await self._local.close(kill=kill)

    def kill(self) -> None:
        """See ``Closable.kill``."""
        self._local.kill()


@final
@attrs.frozen
class _Timer:
    key: Hashable | None
    every: bool
