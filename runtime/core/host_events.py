"""Events of hosts: processes in which nodes and actors of a runtime run."""

from __future__ import annotations

from typing import final

import attrs

from runtime.core.events import Event


@attrs.frozen(kw_only=True)
class HostEvent(Event):
    """Something happened to a host; `host` is its name within `place`."""

    place: str
    host: str


@final
@attrs.frozen(kw_only=True)
class HostPending(HostEvent):
    """No machine can hold the host now; it starts when one can. What is to run there waits for ``start_timeout_s``."""

    needs: str
    """What it needs, in words."""
    has: str
    """What there is."""


@final
@attrs.frozen(kw_only=True)
class HostStarted(HostEvent):
    """A host has said hello and takes work."""

    incarnation: int
    """Which start of a host of this runtime it is."""


@final
@attrs.frozen(kw_only=True)
class HostLost(HostEvent):
    """A host that worked is gone; what was out there fails with the error of the same name."""

    incarnation: int
    how: str
    """What was seen, in words."""
    silent_s: float
    """For how many seconds nothing had been heard of it."""
