"""What went wrong with actors lately, and what held the event loop: a few lines for each, kept for who looks later.

An observer of rare events. It keeps words, never the errors themselves, whose frames would keep what has crashed alive.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable, Iterator
from typing import Any, Final, final

import attrs

from actors.words import cut, kind_of, words_of
from runtime.core.events import (
    ActorCrashed,
    ActorRestarting,
    ActorUnresponsive,
    Event,
    LoopBlocked,
    MessageRedelivering,
    SupervisorParked,
)
from runtime.traces.event_json import name_of

KINDS: Final[tuple[type[Event], ...]] = (
    ActorCrashed,
    ActorRestarting,
    ActorUnresponsive,
    SupervisorParked,
    MessageRedelivering,
    LoopBlocked,
)
MOST: Final = 200
"""How many incidents are kept of all actors together."""
MOST_OF_ONE: Final = 10
"""How many of one actor."""
MOST_ACTORS: Final = 1_000
"""Of how many actors; those that have been quiet for longest are forgotten."""
MAX_STACK: Final = 8_000
"""Characters of a stack."""


@final
@attrs.frozen
class Incident:
    """One thing that went wrong."""

    kind: str
    """The name of its event: ``"actor.crashed"``."""
    at_s: float
    """The runtime's clock, in seconds."""
    address: str | None
    error: str | None = None
    """The class of the error and what it says."""
    delay_s: float | None = None
    """How long the actor, or the message, waits before it is tried again."""
    held_s: float | None = None
    """For how long the event loop was held."""
    stack: str | None = None

    def told(self, time: Callable[[float], float]) -> dict[str, Any]:
        """For readers who see what is inside; `time` makes a time of day of the runtime's clock."""
        told = {"kind": self.kind, "at": time(self.at_s), "address": self.address}
        more = {"error": self.error, "delay_s": self.delay_s, "held_s": self.held_s, "stack": self.stack}
        return {**told, **{name: value for name, value in more.items() if value is not None}}


@final
class Incidents:
    """The latest. Give it to ``Runtime.observe(incidents, KINDS)``."""

    def __init__(self) -> None:
        self._all: deque[Incident] = deque(maxlen=MOST)
        self._of: OrderedDict[str, deque[Incident]] = OrderedDict()
        self.crashes = 0
        self.restarts = 0
        self.blocks = 0
        """Of the event loop."""

    def __call__(self, event: Event) -> None:
        """Note `event`."""
        error: BaseException | None = getattr(event, "error", None)
        stack: str | None = getattr(event, "stack", None)
        incident = Incident(
            kind=name_of(type(event)),
            at_s=event.at_s,
            address=getattr(event, "address", None),
            error=None if error is None else f"{kind_of(error)}: {words_of(error)}",
            delay_s=getattr(event, "delay_s", None),
            held_s=getattr(event, "held_s", None),
            stack=cut(stack, MAX_STACK) if stack else None,
        )
        self.crashes += isinstance(event, ActorCrashed)
        self.restarts += isinstance(event, ActorRestarting)
        self.blocks += isinstance(event, LoopBlocked)
        self._all.append(incident)
        if incident.address is not None:
            self._of.setdefault(incident.address, deque(maxlen=MOST_OF_ONE)).append(incident)
            self._of.move_to_end(incident.address)
            if len(self._of) > MOST_ACTORS:
                self._of.popitem(last=False)

    def newest_first(self) -> Iterator[Incident]:
        """Of all actors."""
        return reversed(self._all)

    def of(self, address: str) -> list[Incident]:
        """Of one actor or supervisor, newest first."""
        return list(reversed(self._of.get(address, ())))

    def last_error(self, address: str) -> str | None:
        """What the actor failed with last, as far as that is known."""
        return next((each.error for each in self.of(address) if each.error is not None), None)
