"""Stepping: actors and the nodes of graphs handle one message each time the test allows it."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from typing import Any, final

import attrs
import trio
import trio.testing

from runtime.app import Runtime
from runtime.graphs.runs.run import ActiveDelivery
from runtime.testing.schedules.taps import Handler, tap


@final
@attrs.frozen
class Held:
    """A message whose handling waits for the test."""

    address: str
    """The actor's, for a node ``"graph/node"``."""
    message: Any
    """What it got; for a node, its arguments by parameter."""


@final
class Stepper:
    """Holds every message of the actors that `wanted` accepts (all, without it) until :meth:`step` lets it be handled.

    Make it before those actors are spawned or the graph is deployed.
    """

    def __init__(self, runtime: Runtime, wanted: Callable[[str], bool] | None = None) -> None:
        self._wanted = wanted
        self._held: deque[tuple[Held, trio.Event]] = deque()
        self._released = False
        tap(runtime, self._tap)

    def _tap(self, address: str, handler: Handler) -> Handler:
        if self._wanted is not None and not self._wanted(address):
            return handler

        async def handle(message: Any) -> Any:
            if self._released:
                return await handler(message)
            entry = (Held(address, _content(message)), trio.Event())
            self._held.append(entry)
            try:
                await entry[1].wait()
            except trio.Cancelled:
                if entry in self._held:
                    self._held.remove(entry)
                raise
            return await handler(message)

        return handle

    async def held(self) -> list[Held]:
        """What waits for the test now, longest waiting first, once nothing else can happen."""
        await trio.testing.wait_all_tasks_blocked()
        return [held for held, _ in self._held]

    async def step(self, address: str | None = None) -> Held | None:
        """Let the longest waiting message (of that actor, if given) be handled as far as it goes; None when there is none."""
        await self.held()
        for index, (held, event) in enumerate(self._held):
            if address in (None, held.address):
                del self._held[index]
                event.set()
                await trio.testing.wait_all_tasks_blocked()
                return held
        return None

    def release(self) -> None:
        """Hold nothing any more."""
        self._released = True
        while self._held:
            self._held.popleft()[1].set()


def _content(message: Any) -> Any:
    if not isinstance(message, ActiveDelivery):
        return message
    arguments: Mapping[str, Any] = message.delivery.arguments
    return dict(arguments)
