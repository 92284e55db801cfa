"""What the stores in memory of several workers share."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from datetime import datetime

import attrs
import trio

from actors.store_errors import RunLost
from runtime.journal.memory_allowances import MemoryAllowances
from runtime.journal.memory_meeting import MemoryMeeting
from runtime.journal.records import Record, RecordKind
from runtime.journal.store import (
    Created,
    Existing,
    Lease,
    NewRun,
    Posted,
    StoredQuestion,
    StoredRun,
    StoredSchedule,
    StoredStatus,
)
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
    meeting: MemoryMeeting = attrs.field(factory=MemoryMeeting)
    numbers: itertools.count[int] = attrs.field(factory=lambda: itertools.count(1))
    commits: int = 0
    began: datetime | None = None
    clock_offset_s: float = 0.0
    clock: object = None
    latest: datetime | None = None
    """The last time that anybody was told."""
    news: trio.Event = attrs.field(factory=trio.Event)
    """Set, and another put in its place, when something is posted."""

    def commit(self, rows: Sequence[Record], question: StoredQuestion | None, answered: str | None, now: datetime) -> None:
        """Keep records that were found to fit, and what comes with them."""
        for row in rows:
            run = self.runs[row.run]
            if row.seq != len(run.records) + 1:
                continue
            run.records.append(row)
            run.bytes += len(row.data or b"")
            if row.kind is RecordKind.OVER:
                run.stored = attrs.evolve(
                    run.stored, status=StoredStatus(row.path), owner=None, wake_at=None, ended=now, left_by=None
                )
                self._strike_out(row.run, now)
            elif row.kind is RecordKind.PARKED:
                run.stored = attrs.evolve(run.stored, status=StoredStatus.PARKED, owner=None, wake_at=None, left_by=None)
            elif row.kind is RecordKind.ADOPTED:
                run.stored = attrs.evolve(run.stored, version=row.path)
        if question is not None:
            self.questions.setdefault(question.id, question)
        if answered is not None and answered in self.questions:
            self.questions[answered] = attrs.evolve(self.questions[answered], answered=now)
        self.commits += 1

    def _strike_out(self, run: str, now: datetime) -> None:
        for key, question in self.questions.items():
            if question.run == run and question.answered is None:
                self.questions[key] = attrs.evolve(question, answered=now)

    def create(self, run: NewRun, records: Sequence[Record], owner: str | None, now: datetime) -> Created | Existing:
        """Keep a run, which is `owner`'s or, for None, anybody's; one of its id may be there."""
        known = self.runs.get(run.id)
        if known is not None:
            return Existing(known.stored, known.records[0])
        stored = StoredRun(
            id=run.id,
            graph=run.graph,
            version=run.version,
            fingerprint=run.fingerprint,
            status=StoredStatus.READY if owner is None else StoredStatus.RUNNING,
            owner=owner,
            last_seq=len(records),
            lives=0 if owner is None else 1,
            wake_at=now if owner is None else None,
            deadline=run.deadline,
            parent=run.parent,
            parent_seq=run.parent_seq,
            label=run.label,
            created=now,
            ended=None,
        )
        size = sum(len(record.data or b"") for record in records)
        self.runs[run.id] = MemoryRun(stored, next(self.numbers), list(records), size)
        return Created(stored)


def lost(run: str, why: str) -> RunLost:
    """The error for what a worker writes of a run that it does not have."""
    return RunLost(
        f"run {run!r} is no longer this worker's: {why}.\n  Fix: nothing; anyone who has it now goes on with it.", run_id=run
    )


def without_data(record: Record) -> Record:
    """What is left of `record` when its payload is kept no longer."""
    bare = attrs.evolve(record, data=None)
    return attrs.evolve(bare, crc=bare.checksum())
