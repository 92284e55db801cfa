"""Runs of a store as readers see them, also those that this process has never had: one sequence of events over all lives.

What was sent under a number must mean the same for ever. So an event of a stored run is kept in the store before it is sent, and
what a run had done in earlier lives is, in this order: what was sent of it, then what its journal tells besides. Events that
no one was sent need not be kept: no matter what they are numbered later, no one has seen another number.
"""

from __future__ import annotations

import contextlib
import json
from collections import Counter, OrderedDict
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping, Sequence
from datetime import datetime
from typing import Any, Final, final
from weakref import WeakValueDictionary

import attrs
import trio

from actors.errors import UnderstudyError
from actors.store_errors import StoreError
from runtime.core.events import Event, EventsMissed
from runtime.graphs.records.labels import labels_in
from runtime.graphs.records.recorded_answers import spend_of
from runtime.graphs.records.run_events import NodeFinished, NodeStarted, RunEvent, RunResumed, StoreStalled
from runtime.graphs.records.run_record import RunStatus
from runtime.journal.records import Record, RecordKind
from runtime.journal.store import Page, RunQuery, Store, StoredRun, StoredStatus
from runtime.journal.told_events import EventKeeper, ToldEvent
from runtime.traces.event_json import Encoder, is_sensitive
from runtime.traces.kept_run import KeptEvent, RunRecord
from runtime.traces.past import Identity, event_of, events_of, identity_of, is_made_again, untagged
from runtime.traces.recorder import Recorder
from runtime.traces.weight import EVENT_BYTES

MOST_AWAY: Final = 100
"""How many runs that are not here are kept in memory."""
FRESH_S: Final = 1.0
"""For how long it is believed that a store answers."""
PATIENCE_S: Final = 2.0
"""How long it has to."""
SLICE: Final = 200
"""Events that are read before other tasks get their turn."""

_STATUS: Final[Mapping[StoredStatus, RunStatus]] = {
    status: RunStatus(status.value) for status in StoredStatus if status is not StoredStatus.READY
}


async def up_to(count: int | None, records: AsyncIterator[Record]) -> list[Record]:
    """The first `count` records of a run, of which `records` are all; all of them for None. What comes behind is not read."""
    found: list[Record] = []
    try:
        async for record in records:
            if count is None or record.seq <= count:
                found.append(record)
            if count is not None and record.seq >= count:
                break
    finally:
        if isinstance(records, AsyncGenerator):  # left early: it would be closed by the collector, in another task
            await records.aclose()
    return found


@final
class Archive:
    """The runs of `store`, beside those that `recorder` keeps.

    Args:
        store: where they are.
        recorder: what this process has heard of runs. Its runs go on where the archive's end.
        encoder: how events are written.
        is_here: whether this process has the run of that id.
        result: the output of a stored run that is over; raises what it failed with.
    """

    def __init__(
        self,
        store: Store,
        recorder: Recorder,
        encoder: Encoder,
        is_here: Callable[[str], bool],
        result: Callable[[str], Awaitable[Any]],
    ) -> None:
        self._store = store
        self._log: EventKeeper | None = store if isinstance(store, EventKeeper) else None
        self._recorder = recorder
        self._encoder = encoder
        self._is_here = is_here
        self._result = result
        self._away: WeakValueDictionary[str, RunRecord] = WeakValueDictionary()
        self._recent: OrderedDict[str, RunRecord] = OrderedDict()
        self._locks: WeakValueDictionary[str, trio.Lock] = WeakValueDictionary()
        self._is_stalled = False
        self._answers = True
        self._asked_s = float("-inf")
        self._is_asking = False
        recorder.taken_up = self._taken_up

    def at_s(self, time: datetime) -> float:
        """The runtime's clock at a time."""
        return (time - self._encoder.wall_time(0.0)).total_seconds()

    # --- the store --------------------------------------------------------------------------------------------------------

    def note(self, event: Event) -> None:
        """The store cannot write, or can again: an observer of :class:`StoreStalled` and :class:`StoreRecovered`."""
        self._is_stalled = isinstance(event, StoreStalled)

    async def is_well(self) -> bool:
        """Whether the store answers, and can write as far as is known; asked at most once in :data:`FRESH_S` seconds.

        Who asks while another does is told what was so before.
        """
        if not self._is_asking and trio.current_time() - self._asked_s >= FRESH_S:
            self._is_asking = True
            try:
                answers = False
                with contextlib.suppress(StoreError), trio.move_on_after(PATIENCE_S):
                    await self._store.run("")
                    answers = True
                self._asked_s, self._answers = trio.current_time(), answers
            finally:  # by a client that has left, too: the next one asks
                self._is_asking = False
        return self._answers and not self._is_stalled

    # --- finding ----------------------------------------------------------------------------------------------------------

    async def find(self, run_id: str) -> RunRecord | None:
        """What is known of a run, that of its earlier lives included; None if there is none.

        Raises:
            StoreError: the store failed.
        """
        record = self._recorder.get(run_id)
        if record is not None and record.earlier is None:
            return record
        async with self._lock(run_id):
            record = self._recorder.get(run_id)
            if record is not None and record.earlier is None:
                return record
            run = await self._store.run(run_id)
            if run is None:
                return record
            if record is not None:
                return await self._completed(record, run)
            known = self._away.get(run_id)
            # Of a run that was another's only what was sent is here: once no one has it, its journal tells the rest.
            is_all = known is not None and (run.owner is not None or not known.is_elsewhere)
            if known is not None and is_all and known.records == run.last_seq and not known.is_gone:
                self._note_place(known, run)
                return known
            return await self._fetched(run, known)

    def _lock(self, run_id: str) -> trio.Lock:
        lock = self._locks.get(run_id)
        if lock is None:
            lock = self._locks[run_id] = trio.Lock()
        return lock

    async def _completed(self, record: RunRecord, run: StoredRun) -> RunRecord:
        """A run that goes on here, with what earlier lives have left."""
        earlier = record.earlier
        records = await self._records(run.id, earlier)
        past = await self._past(run, records)
        before = record.weight
        record.steps += _steps(past.entries)
        past.put_before(record, self.at_s(run.created))
        self._recorder.weighed(record, before)
        return record

    async def _fetched(self, run: StoredRun, former: RunRecord | None) -> RunRecord:
        """A run that is not here."""
        is_elsewhere = run.owner is not None and not self._is_here(run.id)
        records = await self._records(run.id, None)
        record = await self._headed(run, records)
        # Anyone who has it numbers what comes, so here is what was sent there, and the rest when no one has it.
        past = await self._past(run, [] if is_elsewhere else records)
        past.put_before(record, record.created_at_s)
        record.steps = max(record.steps, _steps(past.entries))
        live = self._recorder.get(run.id)
        if live is not None:  # it has come here meanwhile
            return await self._completed(live, run) if live.earlier is not None else live
        if former is not None:
            self._recorder.lose(former)
        self._away[run.id] = self._recent[run.id] = record
        self._recent.move_to_end(run.id)
        if len(self._recent) > MOST_AWAY:
            self._recent.popitem(last=False)
        return record

    async def _headed(self, run: StoredRun, records: Sequence[Record]) -> RunRecord:
        """Where a run is that is not here, without its events."""
        record = RunRecord(run.id, run.graph, self.at_s(run.created), is_stored=True)
        record.note_labels(labels_in(run.label))
        record.records, record.spend, record.started_at_s = len(records), spend_of(records), record.created_at_s
        record.steps = sum(each.kind in (RecordKind.FINISHED, RecordKind.STOOD_IN) for each in records)
        self._note_place(record, run)
        if run.status.is_over:
            await self._note_end(record, run, records)
        return record

    async def summary(self, run: StoredRun) -> RunRecord:
        """What is known of a run, for lists: without its events, if they are not here."""
        known = self._recorder.get(run.id) or self._away.get(run.id)
        if known is not None and (known.records == run.last_seq or self._recorder.get(run.id) is known):
            return known
        return await self._headed(run, await self._records(run.id, None))

    async def page(self, query: RunQuery) -> Page[StoredRun]:
        """Runs of the store."""
        return await self._store.runs(query)

    async def has(self, record: RunRecord) -> bool:
        """Whether the store has the run."""
        if record.is_stored is None:
            is_there = await self._store.run(record.id) is not None
            record.is_stored = is_there if is_there or record.is_over else None  # it may be about to be stored
        return bool(record.is_stored)

    def _note_place(self, record: RunRecord, run: StoredRun) -> None:
        if not record.is_over:
            record.status = _STATUS.get(run.status, RunStatus.WAITING)
        record.is_elsewhere = run.owner is not None

    async def _note_end(self, record: RunRecord, run: StoredRun, records: Sequence[Record]) -> None:
        record.ended_at_s = record.created_at_s if run.ended is None else self.at_s(run.ended)
        is_made = run.status is StoredStatus.SUCCEEDED and records and records[-1].kind is RecordKind.OVER
        record.output = untagged(records[-1].data) if is_made else None
        try:
            output = await self._result(run.id)
        except UnderstudyError as error:
            record.error = error if run.status is not StoredStatus.SUCCEEDED else None  # else it is there, and unreadable
        else:
            record.output = output

    async def _records(self, run_id: str, count: int | None) -> list[Record]:
        return await up_to(count, self._store.read(run_id))

    async def _past(self, run: StoredRun, records: Sequence[Record]) -> _Past:
        """What was sent of a run, and what else `records` tell of."""
        past = _Past()
        await self._read_sent(run.id, past)
        past.kept_seq = past.next_seq
        for event in events_of(run, records, self.at_s):
            past.add_unless_sent(event)
        return past

    async def _read_sent(self, run_id: str, past: _Past) -> None:
        entries = past.entries
        while self._log is not None:
            page = await self._log.told(run_id, entries[-1].seq if entries else -1)
            if not page:
                return
            for count, row in enumerate(page, 1):
                told = json.loads(row.inside)
                past.add_sent(self._entry(run_id, row, told))
                if past.accepted_s is None:
                    past.accepted_s = entries[-1].event.at_s - float(told["elapsed_s"])
                if not count % SLICE:
                    await trio.lowlevel.checkpoint()

    def _entry(self, run_id: str, row: ToldEvent, told: dict[str, Any]) -> KeptEvent:
        event = event_of(told, run_id, self.at_s)
        if event is None:  # of a later release: it is still what was sent
            event = EventsMissed(count=0, at_s=self.at_s(datetime.fromisoformat(str(told["at"]))))
        return KeptEvent(row.seq, event, EVENT_BYTES + len(row.inside), row.inside, row.outside, row.name)

    def _taken_up(self, event: RunResumed) -> RunRecord | None:
        """What is known of a run that goes on here, if that is all of its earlier lives."""
        self._recent.pop(event.run_id, None)
        record = self._away.pop(event.run_id, None)
        if record is None:
            return None
        if record.records == event.records and not record.is_gone and not record.is_elsewhere:
            return record
        self._recorder.lose(record)
        return None

    async def is_replaced(self, record: RunRecord) -> bool:
        """Whether something else is known under the id of `record` by now, so anyone who reads it should ask again."""
        try:
            return record.is_gone or await self.find(record.id) is not record
        except StoreError:
            return False

    # --- keeping ----------------------------------------------------------------------------------------------------------

    async def keep(self, record: RunRecord, entries: Sequence[KeptEvent]) -> bool:
        """Have `entries` in the store before they are sent. False: something else was sent under one of their numbers.

        Raises:
            StoreError: the store failed, and nothing may be sent yet.
        """
        last = entries[-1].seq
        if self._log is None or record.is_stored is False or last < record.kept_seq:
            return not record.is_gone
        async with self._lock(record.id):
            if record.is_stored is None:
                record.is_stored = await self._store.run(record.id) is not None
            if not record.is_stored or last < record.kept_seq:
                return not record.is_gone
            new = [entry for entry in entries if entry.seq >= record.kept_seq and entry.weight]
            if new and not await self._log.tell(record.id, [self._row(record, entry) for entry in new]):
                self._recent.pop(record.id, None)
                self._away.pop(record.id, None)
                self._recorder.lose(record)
                return False
            record.kept_seq = last + 1
            return not record.is_gone

    def _row(self, record: RunRecord, entry: KeptEvent) -> ToldEvent:
        inside = entry.text(self._encoder, record.created_at_s, inside=True)
        is_other = is_sensitive(type(entry.event))
        outside = entry.text(self._encoder, record.created_at_s, inside=False) if is_other else None
        return ToldEvent(entry.seq, entry.name, inside, outside)


@final
@attrs.define(eq=False)
class _Past:
    """What is known of the earlier lives of a run."""

    entries: list[KeptEvent] = attrs.field(factory=list[KeptEvent])
    kept_seq: int = 0
    """The number of the first event that the store does not have."""
    accepted_s: float | None = None
    """When it was accepted, as was told of its events."""
    _sent: Counter[Identity] = attrs.field(factory=Counter[Identity])
    _known: set[Identity] = attrs.field(factory=set[Identity])
    """Events that a later life makes again."""

    @property
    def next_seq(self) -> int:
        """The number of the event that comes next."""
        return self.entries[-1].seq + 1 if self.entries else 0

    def add_sent(self, entry: KeptEvent) -> None:
        """An event that the store has."""
        if self.entries and entry.seq != self.next_seq:
            self.entries.clear()  # what is missing had gone from memory before anybody was sent it
        self.entries.append(entry)
        identity = identity_of(entry.event)
        if identity is not None:
            self._sent[identity] += 1
            self._note(entry.event, identity)

    def add_unless_sent(self, event: RunEvent) -> None:
        """An event that the journal tells of."""
        identity = identity_of(event)
        if identity is None or not self._sent[identity]:
            self.entries.append(KeptEvent(self.next_seq, event, EVENT_BYTES))
        else:
            self._sent[identity] -= 1
        if identity is not None:
            self._note(event, identity)

    def _note(self, event: Event, identity: Identity) -> None:
        if is_made_again(event):
            self._known.add(identity)

    def put_before(self, record: RunRecord, created_s: float) -> None:
        """Put it before what this process has heard of the run, which was stored at `created_s`."""
        record.created_at_s = self.accepted_s if self.accepted_s is not None else created_s
        record.put_before(self.entries, self._known)
        record.kept_seq = self.kept_seq


def _steps(entries: Sequence[KeptEvent]) -> int:
    began = sum(isinstance(entry.event, NodeStarted) for entry in entries)
    return max(began, sum(isinstance(entry.event, NodeFinished) for entry in entries))
