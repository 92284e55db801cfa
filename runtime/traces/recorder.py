"""The runs of a runtime, kept for anyone who asks later: lists, streams that are taken up again, pages and replays.

One observer. Events are kept as they are, and written when the first reader comes, once for all readers: a run that no one
follows costs an append for each event. What is kept is bounded in runs, in events of each, and in bytes.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final, Protocol, final

import attrs
import trio

from actors.argument_checks import check_count, rejected
from runtime.core.events import Event
from runtime.core.instruments import Instrument, TellUnmade
from runtime.graphs.records.run_events import (
    NodeFinished,
    NodeStarted,
    RunEvent,
    RunFinished,
    RunParkedEvent,
    RunResumed,
    RunStarted,
)
from runtime.graphs.records.run_record import RunStatus, Step
from runtime.graphs.records.step_events import finished_event, started_event
from runtime.traces.event_json import Content, Redact
from runtime.traces.fresh_events import BEGUN, DONE
from runtime.traces.kept_run import RunRecord
from runtime.traces.past import identity_of
from runtime.traces.weight import EVENT_BYTES, weight_of, weight_of_message


@final
@attrs.frozen
class Recording:
    """How much of runs is kept, and what of it readers see."""

    runs: int = 1_000
    """How many; the oldest that are over go first."""
    events_per_run: int = 10_000
    """The oldest go first."""
    bytes: int = 64 * 1024 * 1024
    """About how much memory all of it may hold."""
    content: Content = "full"
    """``"none"`` leaves out what messages, prompts and answers hold."""
    redact: Redact | None = None
    """Gets the JSON of each such content and returns what is shown of it, before anything else sees it."""

    def __attrs_post_init__(self) -> None:
        for name, least in (("runs", 1), ("events_per_run", 2), ("bytes", 1)):
            check_count(Recording, name, getattr(self, name), least)
        if self.content not in ("full", "none"):
            raise rejected(Recording, "content", self.content, '"full" or "none"')
        if self.redact is not None and not callable(self.redact):
            raise rejected(Recording, "redact", self.redact, "a function of JSON, or None")


class RunRecords(Protocol):
    """What is known of runs, those that are over among them."""

    def get(self, run_id: str) -> RunRecord | None:
        """What is kept of a run; None if it is not known, or forgotten."""
        ...

    def is_forgotten(self, run_id: str) -> bool:
        """Whether there was a run of this id, of which nothing is kept any more."""
        ...

    def newest_first(self) -> Iterator[RunRecord]:
        """Those that are kept."""
        ...


_KEPT_NAMES: Final = 10_000
"""How many ids of forgotten runs are known."""


@final
class Recorder(Instrument):
    """The observer, and what it has kept: a :class:`RunRecords`. Give it to ``open_runtime(instruments=[recorder])``.

    With a store it is too late for ``Runtime.observe``: runs go on as soon as their graph is deployed.
    """

    kinds = (RunEvent,)

    def __init__(self, recording: Recording, now: Callable[[], float] = trio.current_time) -> None:
        self.recording = recording
        """How much is kept."""
        self._most_events, self._most_bytes = recording.events_per_run, recording.bytes
        self._now = now
        self._runs: OrderedDict[str, RunRecord] = OrderedDict()
        self._forgotten: OrderedDict[str, None] = OrderedDict()
        self._weight = 0
        self.on_over: list[Callable[[RunRecord], None]] = []
        """Called with each run that is over."""
        self.taken_up: Callable[[RunResumed], RunRecord | None] = lambda _: None
        """What is known of a stored run that goes on here, if all of it is."""

    # --- what is known ----------------------------------------------------------------------------------------------------

    def get(self, run_id: str) -> RunRecord | None:
        """See :class:`RunRecords`."""
        return self._runs.get(run_id)

    def is_forgotten(self, run_id: str) -> bool:
        """See :class:`RunRecords`."""
        return run_id in self._forgotten

    def newest_first(self) -> Iterator[RunRecord]:
        """See :class:`RunRecords`."""
        return reversed(self._runs.values())

    @property
    def weight_bytes(self) -> int:
        """About how much memory is held."""
        return self._weight

    # --- what happens -----------------------------------------------------------------------------------------------------

    def accept(self, run_id: str, graph: str, owner: str | None, labels: Mapping[str, str]) -> RunRecord:
        """A run is about to be started for `owner`."""
        record = self._runs[run_id] = RunRecord(run_id, graph, self._now(), owner, labels if not labels else dict(labels))
        self._forgotten.pop(run_id, None)
        self._shrink()
        return record

    def withdraw(self, run_id: str) -> None:
        """The start has failed: there is no such run."""
        record = self._runs.pop(run_id, None)
        if record is not None:
            self._weight -= record.weight
            record.ended_at_s = self._now()
            record.wake()

    def method_for(self, kind: type[Any]) -> Callable[[Any], object]:
        """See :class:`Instrument`."""
        return self._happened if issubclass(kind, RunEvent) else self._ignore

    def unmade_method_for(self, kind: type[Any]) -> TellUnmade | None:
        """See :class:`Instrument`."""
        return self._attempt_begins if kind is NodeStarted else self._attempt_ends_well if kind is NodeFinished else None

    def _attempt_begins(self, run_id: str, step: Step, at_s: float, _: object) -> None:
        record = self._runs.get(run_id)
        if step.put_off is None:  # as its properties tell, without two calls
            waited_s, backoff_s = at_s - step.delivered_at_s, 0.0
        else:
            waited_s, backoff_s = at_s - step.put_off[0], step.put_off[1]
        if record is None or record.ended_at_s is not None or record.known:
            self._happened(started_event(at_s, run_id, step.node, step.path, step.attempt, waited_s, backoff_s))
            return
        record.steps += 1
        # `_keep`, written out here and below: two calls less for each of these (test_graph_costs.py counts them).
        record.fresh += (BEGUN, at_s, step.node, step.path, step.attempt, waited_s, backoff_s)
        record.fresh_weights.append(EVENT_BYTES)
        record.next_seq += 1
        record.weight += EVENT_BYTES
        self._weight += EVENT_BYTES
        if record.waiting or record.next_seq > self._most_events or self._weight > self._most_bytes:
            self._kept(record)

    def _attempt_ends_well(self, run_id: str, step: Step, at_s: float, output: object) -> None:
        record = self._runs.get(run_id)
        if record is None or record.ended_at_s is not None or record.known:
            self._happened(finished_event(at_s, run_id, step.node, step.path, step.attempt, output))
            return
        weight = EVENT_BYTES + weight_of_message(output)
        record.fresh += (DONE, at_s, step.node, step.path, step.attempt, output)
        record.fresh_weights.append(weight)
        record.next_seq += 1
        record.weight += weight
        self._weight += weight
        if record.waiting or record.next_seq > self._most_events or self._weight > self._most_bytes:
            self._kept(record)

    def _ignore(self, event: Event) -> None:
        """It is not about a run: ``runtime.observe(recorder)`` gives it all events."""

    def _happened(self, event: RunEvent) -> None:
        """Keep `event`, of any class."""
        record = self._runs.get(event.run_id)
        kind: Any = type(event)
        if record is None or (record.ended_at_s is not None and (kind is RunStarted or kind is RunResumed)):
            record = self._begun(event, record)
        if record is None or record.ended_at_s is not None or (record.known and identity_of(event) in record.known):
            return
        if kind is NodeStarted:
            record.steps += 1
        elif kind in _TURNS:
            self._note(record, event)
        self._keep(record, event, weight_of(event))
        if kind is RunFinished:
            if record.ended_by_its_end:
                record.wake()
            for call in self.on_over:
                call(record)

    def _keep(self, record: RunRecord, event: RunEvent, weight: int) -> None:
        record.keep(event, weight)
        self._weight += weight
        self._kept(record)

    def _kept(self, record: RunRecord) -> None:
        """Something is new: forget the oldest if that is too much, and tell those who read."""
        while record.count > self._most_events:
            self._weight -= record.lose_oldest()
        if record.waiting:
            record.wake()
        if self._weight > self._most_bytes:
            self._shrink()

    def _begun(self, event: RunEvent, record: RunRecord | None) -> RunRecord | None:
        """The record of a run that is not in progress as far as is known; `record` is one that is over. None: it is forgotten."""
        if isinstance(event, RunResumed):
            found = record if record is not None else self.taken_up(event)
            if found is not None:
                return self._again(found, event.records)
        elif record is None and event.run_id in self._forgotten and not isinstance(event, RunStarted):
            return None
        graph = getattr(event, "graph", "")
        owner = None if record is None else record.owner
        self.withdraw(event.run_id)
        fresh = self.accept(event.run_id, graph, owner, {})
        if isinstance(event, RunResumed):
            fresh.earlier, fresh.is_stored, fresh.begun_records = event.records, True, event.records
        return fresh

    def _again(self, record: RunRecord, records: int) -> RunRecord:
        """A stored run that is known goes on: behind what is kept of it."""
        if self._runs.get(record.id) is not record:
            self._runs[record.id] = record
            self._weight += record.weight
        record.ended_at_s = record.output = record.error = None
        record.begun_seq, record.begun_records = record.next_seq, records
        return record

    def weighed(self, record: RunRecord, before: int) -> None:
        """A record that weighed `before` weighs something else now."""
        if self._runs.get(record.id) is record:
            self._weight += record.weight - before

    def lose(self, record: RunRecord) -> None:
        """Keep nothing of the run, and have those who read it ask for it again.

        Of one that goes on here, what no one was sent is kept: its numbers are given again.
        """
        if self._runs.get(record.id) is record:
            rest = None if record.is_over or not record.is_stored else record.without_what_was_sent()
            self.withdraw(record.id)
            if rest is not None:
                self._runs[record.id] = rest
                self._weight += rest.weight
        record.is_gone = True
        record.wake()

    def _note(self, record: RunRecord, event: RunEvent) -> None:
        match event:
            case RunStarted() | RunResumed():
                if record.next_seq:
                    record.note_made_again()
                record.status, record.started_at_s = RunStatus.RUNNING, event.at_s
                record.graph = event.graph
                record.note_labels(event.labels)
            case RunParkedEvent():
                record.status = RunStatus.PARKED
            case RunFinished():
                record.status, record.ended_at_s = event.status, event.at_s
                record.output = event.output  # pyright: ignore[reportUnknownMemberType]  # RunFinished[Unknown], by the match
                record.error, record.spend = event.error, event.spend
            case _:
                pass

    def _shrink(self) -> None:
        """Forget runs that are over, the oldest first; then the oldest events of those that are not."""
        gone: list[str] = []
        newest, weight = next(reversed(self._runs), None), self._weight
        most, count = self.recording.bytes, len(self._runs) - self.recording.runs
        for run_id, record in self._runs.items():  # as far as need be: at each start the oldest goes
            if len(gone) >= count and weight <= most:
                break
            if record.ended_at_s is not None and run_id != newest:
                gone.append(run_id)
                weight -= record.weight
        for run_id in gone:
            del self._runs[run_id]
            self._forgotten[run_id] = None
            if len(self._forgotten) > _KEPT_NAMES:
                self._forgotten.popitem(last=False)
        self._weight = weight
        for record in self._runs.values() if weight > most else ():
            while self._weight > self.recording.bytes and record.count > 1:
                self._weight -= record.lose_oldest()


_TURNS: Final = frozenset({RunStarted, RunResumed, RunParkedEvent, RunFinished})
"""Events that say where a run is."""
