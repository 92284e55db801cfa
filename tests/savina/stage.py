"""What every program needs: actors with the mailbox and the fate under test, and a place where the result arrives."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Generic, TypeVar, final

import trio

from actors import Actor, ActorRef, Backoff, MailboxSpec, Redelivery, RestartType
from runtime import Runtime

T = TypeVar("T")

UNBOUNDED = MailboxSpec(capacity=math.inf)
"""For actors on a cycle of tells: Savina's mailboxes have no bound, and with one such a cycle can block itself."""

AGAIN = Redelivery(max_attempts=10, backoff=Backoff(first_s=0, jitter=0))
"""The message that was in hand at the crash comes back at once, ahead of all others, so that order is kept."""


@final
class Killed(Exception):
    """An actor was struck down; neither its fault nor the message's."""


@final
class Fate:
    """Strikes before the deliveries of those numbers, counted over all incarnations of all who share it."""

    def __init__(self, strikes: Sequence[int] = ()) -> None:
        self._deliveries = 0
        self._strikes = set(strikes)

    @property
    def left(self) -> int:
        """Strikes that are still to come."""
        return len(self._strikes)

    def strike(self) -> None:
        """Count one delivery; raise if it is one that must not be survived."""
        self._deliveries += 1
        if self._deliveries in self._strikes:
            self._strikes.remove(self._deliveries)
            raise Killed(f"delivery {self._deliveries}")


def doomed(kind: type[Actor], fate: Fate) -> type[Actor]:
    """`kind`, whose ``receive`` crashes when `fate` says so, before it has had any effect."""

    class Doomed(kind):  # type: ignore[misc, valid-type]
        async def receive(self, message: Any) -> Any:
            fate.strike()
            return await super().receive(message)

    Doomed.__name__ = kind.__name__
    return Doomed


@final
class Result(Generic[T]):
    """Where a program leaves its result, once."""

    def __init__(self) -> None:
        self._done = trio.Event()
        self._values: list[T] = []

    def set(self, value: T) -> None:
        """The result is `value`."""
        assert not self._values, f"a second result: {value!r}, after {self._values[0]!r}"
        self._values.append(value)
        self._done.set()

    async def wait(self) -> T:
        """The result, when it is there."""
        await self._done.wait()
        return self._values[0]


@final
class Stage:
    """One runtime, one mailbox size, one fate."""

    def __init__(self, runtime: Runtime, mailbox: MailboxSpec, fate: Fate) -> None:
        self.runtime = runtime
        self.mailbox = mailbox
        self.fate = fate

    @property
    def is_plain(self) -> bool:
        """Whether this is the run at full size: usual mailboxes and nobody struck."""
        return self.mailbox.capacity > 1 and not self.fate.left

    def size(self, plain: int, otherwise: int) -> int:
        """`plain`, or a smaller number for the variants in which each message costs more."""
        return plain if self.is_plain else otherwise

    def hot(self, kind: type[Actor]) -> type[Actor]:
        """`kind` under this stage's fate."""
        return doomed(kind, self.fate) if self.fate.left else kind

    async def spawn(
        self,
        kind: type[Actor],
        *args: Any,
        name: str | None = None,
        hot: bool = False,
        on_cycle: bool = False,
        restart: RestartType = RestartType.PERMANENT,
    ) -> ActorRef[Any]:
        """Start an actor: `hot`, if it is the one that is struck; `on_cycle`, if its mailbox must not have a bound."""
        factory = self.hot(kind) if hot else kind
        mailbox = UNBOUNDED if on_cycle else self.mailbox
        return await self.runtime.spawn(factory, *args, name=name, mailbox=mailbox, redelivery=AGAIN, restart=restart)
