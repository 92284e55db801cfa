"""Taking up: a runtime goes on with stored runs that are due, or that something has come for."""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable
from typing import Any, Final, final

import trio

from actors.store_errors import StoreDamaged, StoreError
from runtime.graphs.accepting import DurableRuns
from runtime.graphs.deployment import Deployment
from runtime.graphs.runs.launch import Launch
from runtime.graphs.stored_talks import is_talk, kept_as
from runtime.journal.store import StoredRun, StoredStatus

LOOK_S: Final = 1.0
"""How often the store is asked for runs that are due."""
MOST_CLAIMED: Final = 20
"""How many runs are taken up at a time."""


TakeTalk = Callable[[Deployment[Any, Any], StoredRun], Awaitable[None]]
"""Goes on with a stored conversation that is this worker's now."""


@final
class TakingUp:
    """What runs beside the runs of a runtime that has a store."""

    def __init__(self, runs: DurableRuns, take_talk: TakeTalk) -> None:
        """`take_talk` goes on with a conversation."""
        self._runs = runs
        self._take_talk = take_talk

    async def take_up(self) -> None:
        """Take up stored runs that are due, as many as graphs here have room for; for ever."""
        with self._runs.purse.swept() as done:
            while True:
                with contextlib.suppress(StoreError):
                    await self._take_up_due()
                done()
                await trio.sleep(LOOK_S)

    async def fetch(self, run_id: str) -> None:
        """Take up a run that waits, since something has come for it."""
        with contextlib.suppress(StoreError):
            if not self._is_open():
                return
            stored = await self._runs.keeping.store.take(run_id, StoredStatus.WAITING)
            if stored is not None:
                await self._take(self._deployed(stored), stored)

    def _deployed(self, stored: StoredRun) -> Deployment | None:
        wanted = (stored.graph, stored.version)
        return next((d for d in self._runs.deployments.running() if (d.graph.name, d.graph.version) == wanted), None)

    async def _take_up_due(self) -> None:
        runs, keeping = self._runs, self._runs.keeping
        await keeping.release_left()
        while self._is_open():
            open_for = {(d.graph.name, d.graph.version): d for d in runs.deployments.running() if d.places_left}
            if not open_for:
                return
            most = int(min(MOST_CLAIMED, *(each.places_left for each in open_for.values())))
            talks = {(kept_as(name), version): each for (name, version), each in open_for.items()}
            claimed = await keeping.store.claim([*open_for, *talks], most)
            failure: StoreError | None = None
            for stored in claimed:
                try:
                    if is_talk(stored):
                        await self._take_talk(talks[stored.graph, stored.version], stored)
                    else:
                        await self._take(open_for[stored.graph, stored.version], stored)
                except StoreError as error:  # the others are this worker's as well, and no one else takes them up
                    failure = error
            await keeping.release_left()
            if failure is not None:  # it would be claimed again immediately
                raise failure
            if len(claimed) < most:
                return

    async def _take(self, deployment: Deployment | None, stored: StoredRun) -> None:
        runs = self._runs
        if deployment is None or not self._is_open():
            await runs.keeping.release(stored.id, stored.lives)
            return
        try:
            launch = await runs.revive(deployment, stored)
        except StoreDamaged:
            return
        if isinstance(launch, Launch):
            await runs.go_on(launch)

    def _is_open(self) -> bool:
        """Whether runs are taken up: one that was just handed back would be taken up again by the runtime that closes."""
        return self._runs.is_open
