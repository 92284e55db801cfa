"""What the hosts of a place share, as a supervised actor: it opens that before them, and again when it is of no more use."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator, Mapping
from typing import Any, final

from actors.actor import Actor
from actors.errors import UsageError
from actors.placement_errors import PlaceUnavailable
from actors.words import repr_of
from runtime.placement.hosts import HostedPlace
from runtime.placement.places import OpenedPlace, SharedPlace


@final
class OpenerActor(Actor):
    """Keeps one place open."""

    def __init__(self, place: HostedPlace, shared: SharedPlace) -> None:
        self._place = place
        self._shared = shared

    @contextlib.asynccontextmanager
    async def lifespan(self) -> AsyncGenerator[None]:
        """Open it, and close it."""
        failure: BaseException | None = None
        async with self._shared.open() as opened:
            try:
                with self._place.opening(opened):
                    self.context.nursery.start_soon(self._watch, opened)
                    yield
            except BaseException as error:  # noqa: BLE001 - raised below: a nursery of the engine's would make a group of it
                failure = error
        if failure is not None:
            raise failure

    async def _watch(self, opened: OpenedPlace) -> None:
        gone = await opened.gone()
        raise PlaceUnavailable(
            f"place {self._place.name!r} can start no host: {gone.how}.\n"
            "  Fix: nothing, if it happens seldom: it is opened again. Otherwise see what it has written.",
            place=self._place.name,
        )

    def describe(self) -> Mapping[str, Any]:
        """What it works on now."""
        return {"place": self._place.name}

    async def receive(self, message: object) -> None:
        """Reject it."""
        raise UsageError(f"what opens a place takes no messages. Got: {repr_of(message)}.\n  Fix: send it to an actor.")
