"""What the stores in memory of several workers share."""

from __future__ import annotations

import itertools
from datetime import datetime

import attrs
import trio

from actors.store_errors import RunLost
from runtime.journal.memory_allowances import MemoryAllowances
from runtime.journal.records import Record
from runtime.journal.store import Lease, Posted, StoredQuestion, StoredRun, StoredSchedule
from runtime.journal.told_events import ToldEvent


@attrs.define(eq=False)
class MemoryWorker:
    """One that has opened the store."""

    lease: Lease
    until_s: float | None = None
    """When its lease ends, for one that is cut off; None while it is well."""
    is_over: bool = False


@attrs.define(eq=False)
class MemoryRun:
    """Everything that is stored of one run."""

    _stored: StoredRun
    number: int
    records: list[Record] = attrs.field(factory=list[Record])
    bytes: int = 0
    posted: list[Posted] = attrs.field(factory=list[Posted])
    told: dict[int, ToldEvent] = attrs.field(factory=dict[int, ToldEvent])
    """What readers were told, by number."""

    @property
    def stored(self) -> StoredRun:
        """As others see it. Its newest record is looked up now: to copy all fields for each would be a fifth of a step."""
        if self._stored.last_seq != len(self.records):
            self._stored = attrs.evolve(self._stored, last_seq=len(self.records))
        return self._stored

    @stored.setter
    def stored(self, stored: StoredRun) -> None:
        self._stored = stored

    @property
    def owner(self) -> str | None:
        """The worker that has it."""
        return self._stored.owner


@attrs.define(eq=False)
class MemoryData:
    """What all workers see."""

    runs: dict[str, MemoryRun] = attrs.field(factory=dict[str, MemoryRun])
    questions: dict[str, StoredQuestion] = attrs.field(factory=dict[str, StoredQuestion])
    schedules: dict[str, StoredSchedule] = attrs.field(factory=dict[str, StoredSchedule])
    workers: dict[str, MemoryWorker] = attrs.field(factory=dict[str, MemoryWorker])
    allowances: MemoryAllowances = attrs.field(factory=MemoryAllowances)
    numbers: itertools.count[int] = attrs.field(factory=lambda: itertools.count(1))
    commits: int = 0
    began: datetime | None = None
    clock_offset_s: float = 0.0
    clock: object = None
    latest: datetime | None = None
    """The last time that anybody was told."""
    news: trio.Event = attrs.field(factory=trio.Event)
    """Set, and another put in its place, when something is posted."""


def lost(run: str, why: str) -> RunLost:
    """The error for what a worker writes of a run that it does not have."""
    return RunLost(
        f"run {run!r} is no longer this worker's: {why}.\n  Fix: nothing; anyone who has it now goes on with it.", run_id=run
    )


def without_data(record: Record) -> Record:
    """What is left of `record` when its payload is kept no longer."""
    bare = attrs.evolve(record, data=None)
    return attrs.evolve(bare, crc=bare.checksum())
