"""The runs of a runtime, kept for anyone who asks later: lists, streams that are taken up again, pages and replays.

One observer. Events are kept as they are, and written when the first reader comes, once for all readers: a run that no one
follows costs an append for each event. What is kept is bounded in runs, in events of each, and in bytes.
"""

from __future__ import annotations

import itertools
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final, Protocol, final

import attrs
import trio

from actors.checks import refuse
from runtime.core.events import Event, EventsMissed
from runtime.core.payloads import size_of
from runtime.graphs.events import NodeStarted, RunEvent, RunFinished, RunParkedEvent, RunResumed, RunStarted
from runtime.graphs.record import RunStatus, Spend
from runtime.recording.wire import Content, Encoder, Redact, is_sensitive, name_of

_EVENT_BYTES: Final = 400
"""What an event weighs beside what it shows."""
QUEUED: Final = "queued"
"""Where a run is that was accepted and has not begun."""


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
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or value < least:
                raise refuse(Recording, name, value, f"a whole number >= {least}")
        if self.content not in ("full", "none"):
            raise refuse(Recording, "content", self.content, '"full" or "none"')
        if self.redact is not None and not callable(self.redact):
            raise refuse(Recording, "redact", self.redact, "a function of JSON, or None")


@final
@attrs.define(eq=False)
class Entry:
    """One event of a run, written when it is first read."""

    seq: int
    name: str
    event: Event
    weight: int
    _texts: dict[bool, bytes] = attrs.field(factory=dict[bool, bytes], init=False)

    def text(self, encoder: Encoder, since_s: float, *, inside: bool) -> bytes:
        """Its JSON, for readers who see what is inside, or others."""
        shown = inside or not is_sensitive(type(self.event))
        text = self._texts.get(shown)
        if text is None:
            text = self._texts[shown] = encoder.encode(self.event, self.seq, since_s, inside=shown)
        return text


@final
@attrs.define(eq=False)
class RunRecord:
    """What is kept of one run."""

    id: str
    graph: str
    created_at_s: float
    """When it was accepted; the runtime's clock, in seconds, like the other times."""
    owner: str | None = None
    """The name of the caller who has started it; None if that was the program itself."""
    labels: Mapping[str, str] = attrs.field(factory=dict[str, str])
    status: str = QUEUED
    started_at_s: float | None = None
    ended_at_s: float | None = None
    output: Any = None
    error: BaseException | None = None
    spend: Spend = attrs.field(factory=Spend)
    steps: int = 0
    """How many messages nodes have begun to work on."""
    entries: deque[Entry] = attrs.field(factory=deque[Entry])
    next_seq: int = 0
    weight: int = 0
    news: trio.Event = attrs.field(factory=trio.Event)
    """Set when something comes, if somebody waits for it."""
    readers: int = 0
    """How many wait."""

    @property
    def is_over(self) -> bool:
        """Whether its last event has come."""
        return self.ended_at_s is not None

    @property
    def first_seq(self) -> int:
        """The number of the oldest event that is kept."""
        return self.entries[0].seq if self.entries else self.next_seq

    def after(self, seq: int) -> Sequence[Entry]:
        """What is kept of the events after number `seq`; the first may be an ``EventsMissed`` for those that are not kept."""
        first = self.first_seq
        kept = list(itertools.islice(reversed(self.entries), max(0, self.next_seq - 1 - seq)))[::-1]
        if seq + 1 < first:
            at_s = self.entries[0].event.at_s if self.entries else self.created_at_s
            missed = EventsMissed(count=first - seq - 1, at_s=at_s)
            return [Entry(first - 1, name_of(EventsMissed), missed, 0), *kept]
        return kept

    async def wait(self) -> None:
        """Return when there is something new. A checkpoint."""
        self.readers += 1
        try:
            await self.news.wait()
        finally:
            self.readers -= 1

    def wake(self) -> None:
        """Let those who wait look again."""
        if self.readers:
            self.news.set()
            self.news = trio.Event()


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
class Recorder:
    """The observer, and what it has kept: a :class:`RunRecords`. Give it to ``Runtime.observe(recorder, [RunEvent])``."""

    def __init__(self, recording: Recording, now: Callable[[], float] = trio.current_time) -> None:
        self._recording = recording
        self._now = now
        self._runs: OrderedDict[str, RunRecord] = OrderedDict()
        self._forgotten: OrderedDict[str, None] = OrderedDict()
        self._weight = 0
        self.on_over: list[Callable[[RunRecord], None]] = []
        """Called with each run that is over."""

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
        record = self._runs[run_id] = RunRecord(run_id, graph, self._now(), owner, dict(labels))
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

    def __call__(self, event: RunEvent) -> None:
        """Keep `event`."""
        record = self._runs.get(event.run_id)
        if record is None or (record.is_over and isinstance(event, RunStarted | RunResumed)):
            if record is None and event.run_id in self._forgotten and not isinstance(event, RunStarted | RunResumed):
                return
            graph = getattr(event, "graph", "")
            owner = None if record is None else record.owner
            self.withdraw(event.run_id)
            record = self.accept(event.run_id, graph, owner, {})
        if record.ended_at_s is not None:
            return
        self._note(record, event)
        weight = _EVENT_BYTES + _weight_of(event)
        record.entries.append(Entry(record.next_seq, name_of(type(event)), event, weight))
        record.next_seq += 1
        record.weight += weight
        self._weight += weight
        while len(record.entries) > self._recording.events_per_run:
            gone = record.entries.popleft().weight
            record.weight -= gone
            self._weight -= gone
        record.wake()
        if record.is_over:
            for call in self.on_over:
                call(record)
        if self._weight > self._recording.bytes:
            self._shrink()

    def _note(self, record: RunRecord, event: RunEvent) -> None:
        match event:
            case NodeStarted():
                record.steps += 1
            case RunStarted() | RunResumed():
                record.status, record.started_at_s = RunStatus.RUNNING, event.at_s
                record.graph = event.graph
                record.labels = getattr(event, "labels", None) or record.labels
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
        newest = next(reversed(self._runs), None)
        for run_id in [run_id for run_id, record in self._runs.items() if record.is_over and run_id != newest]:
            if len(self._runs) <= self._recording.runs and self._weight <= self._recording.bytes:
                return
            self._weight -= self._runs.pop(run_id).weight
            self._forgotten[run_id] = None
            if len(self._forgotten) > _KEPT_NAMES:
                self._forgotten.popitem(last=False)
        for record in self._runs.values():
            while self._weight > self._recording.bytes and len(record.entries) > 1:
                gone = record.entries.popleft().weight
                record.weight -= gone
                self._weight -= gone


_SHOWN: Final = ("input", "output", "delta", "text", "prompt")


def _weight_of(event: Event) -> int:
    """About how many bytes its content holds."""
    return sum(size_of(getattr(event, name), 1 << 20) for name in _SHOWN if getattr(event, name, None) is not None)
