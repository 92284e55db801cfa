"""Where nodes and actors may run besides the runtime's own process: what a place is, and the one that is no other process."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import AbstractAsyncContextManager
from typing import Protocol, final, runtime_checkable

import attrs
import trio

from actors.errors import Problem
from actors.graphs.node import NodeSpec
from actors.supervision import ChildSpec


@final
@attrs.frozen
class Invitation:
    """What a host that is started needs in order to work for this runtime."""

    place: str
    """The name of its place."""
    host: str
    """Its own name within the place."""
    incarnation: int
    """Which start of a host of this runtime it is, counted from 1; `fence` in the code that runs there."""
    secret: bytes = attrs.field(repr=False)
    """What it says first, so no other process can take its part: 32 random bytes, for this start only."""
    dead_after_s: float
    """A host that has not heard of the runtime for 0.6 of these seconds ends on its own."""
    watchdog_s: float | None = None
    """After how many seconds in which code holds its event loop it tells so: see ``LoopBlocked``. None: it does not look."""
    pending: Callable[[str, str], None] = attrs.field(default=lambda needs, has: None, repr=False, eq=False)
    """What its engine calls while no machine can hold the host, with what it needs and what there is: see ``HostPending``."""


@final
@attrs.frozen
class Gone:
    """The end of a host, as its engine has seen it."""

    how: str
    """In words: ``"its process ended with signal 9"``."""
    silent_s: float = 0.0
    """For how many seconds nothing had been heard of it; 0 where its end was seen."""


class StartedHost(Protocol):
    """A host that an engine has started."""

    @property
    def stream(self) -> trio.abc.Stream:
        """The way to it and back."""
        ...

    def kill(self) -> None:
        """End it immediately, no matter what it does; returns before it has ended. Without effect on one that has."""
        ...

    async def gone(self) -> Gone:
        """Wait until the engine knows that it has ended, or has heard nothing of its machine for ``dead_after_s``."""
        ...


@runtime_checkable
class HostTerms(Protocol):
    """What is common to all groups of like hosts, however they are started."""

    @property
    def hosts(self) -> int:
        """How many there are to be."""
        ...

    @property
    def window(self) -> int:
        """How many calls may be out to one host."""
        ...

    @property
    def start_timeout_s(self) -> float:
        """How many seconds a host may take to start; so long, what is to run here waits for one."""
        ...

    @property
    def dead_after_s(self) -> float:
        """After how many seconds without a sign of life of its engine a host is lost."""
        ...

    @property
    def stuck_after_s(self) -> float:
        """After how many seconds without a sign of life of its event loop a host is killed, and lost."""
        ...

    @property
    def cancel_grace_s(self) -> float:
        """How many seconds code that was cancelled may take to end before its host is killed."""
        ...

    def problems(self, spec: NodeSpec | ChildSpec, /) -> Iterable[Problem]:
        """What keeps its hosts from finding the code of a node or an actor: ``naming_problems(spec)`` where they import it."""
        ...


class StartsHosts(Protocol):
    """What starts hosts."""

    def start(self, host_id: str, invitation: Invitation, /) -> AbstractAsyncContextManager[StartedHost]:
        """Start a host, and end it when the block is left. It says hello over its stream when it is ready.

        Raises:
            Exception: it cannot be started. It is tried again as any actor that does not start.
        """
        ...


@runtime_checkable
class Place(HostTerms, StartsHosts, Protocol):
    """A group of like hosts: a value that starts nothing before a runtime uses it. Others than ours may be written."""


class OpenedPlace(StartsHosts, Protocol):
    """What starts the hosts of a place that is open."""

    async def gone(self) -> Gone:
        """Wait until it is of no more use: then it is closed, and opened again. Its hosts need not have ended."""
        ...


@runtime_checkable
class SharedPlace(HostTerms, Protocol):
    """A :class:`Place` whose hosts share something, such as a connection to a cluster; it is opened before any of them starts."""

    def open(self) -> AbstractAsyncContextManager[OpenedPlace]:
        """Open what its hosts share, and close it when the block is left.

        Raises:
            UsageError: it cannot be opened here, ever. Exception: not now; it is tried again as any actor that does not start.
        """
        ...


@final
@attrs.frozen
class Here:
    """The runtime's own process as a place: what is placed here runs as if it were not placed. For tests, and for a laptop."""
