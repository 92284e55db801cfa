"""Schedules: graphs that are started again and again, each time once, however many workers there are.

A tick is a run whose id is its time, so to start it twice is to start it once. The run is started first and the schedule moved on
then: a crash between the two starts nothing twice and loses nothing.
"""

from __future__ import annotations

import enum
import math
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any, Final, final

import attrs
import trio

from actors.errors import RuntimeDraining, UnderstudyError, UsageError
from actors.graphs.graph import Graph
from actors.store_errors import RunExists, StoreError
from actors.words import repr_of
from runtime.graphs.active_runs import check_run_id
from runtime.graphs.deployment import Deployment
from runtime.graphs.engine import Engine
from runtime.graphs.records.run_events import ScheduleFailed
from runtime.graphs.schedule_times import Times
from runtime.journal.store import Store, StoredSchedule

LOOK_S: Final = 10.0
"""How often the store is asked for schedules that other workers have made, and for its clock."""
MISSED_S: Final = 60.0
"""A tick that is later than this was missed."""


@final
class CatchUp(enum.StrEnum):
    """What to do about ticks that were missed, since no worker was there; equal to its plain word."""

    NONE = "none"
    """Nothing: the next one is the next to come."""
    LAST = "last"
    """Start the latest of them, late."""
    ALL = "all"
    """Start each of them, late."""


@final
@attrs.frozen
class Schedule:
    """A graph that is started at some times. The run of each is called ``name@2026-11-28T18:00:00Z``."""

    name: str
    graph: str
    """The graph's name."""
    times: str
    """``every 60``, ``cron 0 9 * * 1``, or ``at 2026-11-28T18:00:00+00:00``."""
    zone: str
    catch_up: CatchUp
    next_at: datetime | None
    """In UTC; None: it will not come again."""

    @classmethod
    def of(cls, stored: StoredSchedule) -> Schedule:
        """A stored one."""
        return cls(stored.name, stored.graph, stored.spec, stored.zone, CatchUp(stored.catch_up), stored.next_at)


def run_id_of(name: str, tick: datetime) -> str:
    """The id of the run of one tick."""
    return f"{name}@{tick.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}"


@final
class Scheduler:
    """The schedules of the store of one runtime."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._changed = trio.Event()
        self._reported: set[tuple[str, datetime]] = set()

    async def add(self, name: str, graph: Graph[Any, Any], message: object, times: Times, catch_up: CatchUp | str) -> Schedule:
        """See ``Runtime.schedule``."""
        store = self._engine.store("schedule()")
        check_run_id(name)
        check_run_id(run_id_of(name, store.wall_time()))  # which is longer
        if catch_up not in set(CatchUp):
            raise UsageError(f"schedule(catch_up={repr_of(catch_up)}): expected 'none', 'last' or 'all'.\n  Fix: CatchUp.LAST.")
        deployment = await self._engine.deployment_of(graph)
        deployment.check_input(message)
        data = deployment.codec.encode(message)
        known = next((each for each in await store.schedules() if each.name == name), None)
        made = StoredSchedule(
            name, graph.name, times.spec, times.zone, CatchUp(catch_up).value, data, times.first(store.wall_time())
        )
        if known is not None and (known.graph, known.spec, known.zone) == (made.graph, made.spec, made.zone):
            made = attrs.evolve(made, next_at=known.next_at)  # declared again, by a worker that has just begun, say
        await store.schedule(made)
        self._wake()
        return Schedule.of(made)

    async def remove(self, name: str) -> bool:
        """See ``Runtime.unschedule``."""
        return await self._engine.store("unschedule()").unschedule(name)

    async def all(self) -> list[Schedule]:
        """See ``Runtime.schedules``."""
        return [Schedule.of(each) for each in await self._engine.store("schedules()").schedules()]

    def _wake(self) -> None:
        self._changed.set()
        self._changed = trio.Event()

    async def run(self) -> None:
        """Start what is due, for ever."""
        store = self._engine.store("schedule()")
        while True:
            changed = self._changed
            try:
                wait_s = await self._start_due(store)
            except StoreError:
                wait_s = LOOK_S
            except RuntimeDraining:
                return
            with trio.move_on_after(wait_s):
                await changed.wait()

    async def _start_due(self, store: Store) -> float:
        """Start what is due now; returns in how many seconds to look again."""
        wait_s = LOOK_S
        for stored in await store.schedules():
            deployment = self._engine.deployed(stored.graph)
            now = store.wall_time()
            if deployment is None or stored.next_at is None:
                continue
            if stored.next_at <= now:
                following = await self._start(store, deployment, stored, stored.next_at, now)
            else:
                following = stored.next_at
            if following is not None:
                wait_s = min(wait_s, max(0.0, (following - store.wall_time()).total_seconds()))
        return wait_s

    async def _start(
        self, store: Store, deployment: Deployment[Any, Any], stored: StoredSchedule, first: datetime, now: datetime
    ) -> datetime | None:
        """Start one tick of a schedule that is due, and move it on; returns when it is to be looked at again, or None."""
        times, catch_up = Times(stored.spec, stored.zone), CatchUp(stored.catch_up)
        try:
            tick = first if catch_up is CatchUp.ALL else times.latest(first, now)
            following = times.after(tick)
            is_missed = now - tick > timedelta(seconds=MISSED_S)
            if not (catch_up is CatchUp.NONE and is_missed):
                message = deployment.codec.decode(stored.message)
                with suppress(RunExists):  # started, with the message that the schedule had before
                    await self._engine.start(deployment.graph, message, run_id_of(stored.name, tick), math.inf, here=False)
        except (StoreError, RuntimeDraining):
            raise
        except UnderstudyError as error:
            self._report(stored.name, first, error)
            return None
        await store.tick(stored.name, first, following)
        return following

    def _report(self, name: str, tick: datetime, error: Exception) -> None:
        """Tell once that a tick cannot be started; it is tried again, here and by other workers."""
        if (name, tick) not in self._reported:
            self._reported.add((name, tick))
            self._engine.publish(ScheduleFailed(name=name, tick=tick, error=error))
