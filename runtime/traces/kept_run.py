"""What is kept of one run: its events, numbered and written for readers when the first comes, and where the run is."""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any, Final, final

import attrs
import trio

from runtime.core.events import Event, EventsMissed
from runtime.graphs.records.labels import RESERVED, public
from runtime.graphs.records.run_events import NodeStarted
from runtime.graphs.records.run_record import Spend
from runtime.traces.event_json import Encoder, is_sensitive, name_of
from runtime.traces.fresh_events import WHOLE, events_in
from runtime.traces.past import Identity, identity_of, is_made_again

OWNER: Final = f"{RESERVED}owner"
"""The label of a stored run that names whose it is."""
REQUEST: Final = f"{RESERVED}request"
"""The label of a stored run that was asked for with an idempotency key: the digest of what was asked for."""
QUEUED: Final = "queued"
"""Where a run is that was accepted and has not begun."""


@final
@attrs.define(eq=False)
class KeptEvent:
    """One event of a run, written when it is first read."""

    seq: int
    event: Event
    weight: int
    _inside: bytes | None = None
    """What it is written as, for readers who see what is inside."""
    _outside: bytes | None = None
    """The same for others, where it differs."""
    _name: str | None = None

    @property
    def name(self) -> str:
        """Such as ``node.finished``."""
        return self._name if self._name is not None else name_of(type(self.event))

    @property
    def is_read_back(self) -> bool:
        """Whether it comes from a store, with the very text that was sent, of which this event may hold less."""
        return self._name is not None

    def text(self, encoder: Encoder, since_s: float, *, inside: bool) -> bytes:
        """Its JSON, for readers who see what is inside, or others."""
        if not inside and self._outside is not None:
            return self._outside
        if inside or not is_sensitive(type(self.event)):
            if self._inside is None:
                self._inside = encoder.encode(self.event, self.seq, since_s, inside=True)
            return self._inside
        self._outside = encoder.encode(self.event, self.seq, since_s, inside=False)
        return self._outside


_NO_LABELS: Final[Mapping[str, str]] = {}
_NOTHING_SPENT: Final = Spend()


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
    labels: Mapping[str, str] = _NO_LABELS
    status: str = QUEUED
    started_at_s: float | None = None
    ended_at_s: float | None = None
    output: Any = None
    error: BaseException | None = None
    spend: Spend = _NOTHING_SPENT
    steps: int = 0
    """How many messages nodes have begun to work on."""
    _entries: deque[KeptEvent] | None = None  # made for the first reader: an empty one takes more than all the rest here
    fresh: list[Any] = attrs.field(factory=list[Any], init=False)
    """What the newest events are made of, which no one has asked for yet; see ``events_in``."""
    fresh_weights: list[int] = attrs.field(factory=list[int], init=False)
    """What each of them weighs."""
    next_seq: int = 0
    first_here: int = 0
    """The number of the first event that this process has heard of; those before were of earlier lives of a stored run."""
    weight: int = 0
    request: str | None = None
    """What was asked for with an idempotency key, as a digest."""
    is_stored: bool | None = None
    """Whether a store has it; None: no one has looked."""
    earlier: int | None = None
    """How many records earlier lives have left, while the events of these are not here: then numbers are not final."""
    begun_seq: int = 0
    """The number of the first event of the life that is here."""
    begun_records: int = 0
    """How many records the lives before it have left."""
    records: int = 0
    """How many records were read for what is here of earlier lives."""
    kept_seq: int = 0
    """The number of the first event that the store need not have yet."""
    known: set[Identity] | None = None
    """Events of earlier lives that come again in a later one, and are not told again."""
    is_elsewhere: bool = False
    """Whether another process had it when it was looked at last; what happens there is not heard of here."""
    is_gone: bool = False
    """Whether something else is kept under its id now: anyone who reads it has to ask for the run again."""
    waiting: dict[trio.lowlevel.Task, None] | None = None
    """Tasks that wait for something new, in the order in which they came."""
    ended_by_its_end: list[trio.CancelScope] | None = None
    """Cancelled when its last event has come: waits for that alone, which no other event is to wake."""

    @property
    def is_over(self) -> bool:
        """Whether its last event has come."""
        return self.ended_at_s is not None

    @property
    def entries(self) -> deque[KeptEvent]:
        """What is kept of its events, the oldest first."""
        weights = self.fresh_weights
        if weights:
            numbers = range(self.next_seq - len(weights), self.next_seq)
            made = map(KeptEvent, numbers, events_in(self.fresh, self.id), weights)
            if self._entries is None:
                self._entries = deque(made)
            else:
                self._entries.extend(made)
            self.fresh.clear()
            weights.clear()
        elif self._entries is None:
            self._entries = deque()
        return self._entries

    @property
    def count(self) -> int:
        """How many of its events are kept."""
        return (0 if self._entries is None else len(self._entries)) + len(self.fresh_weights)

    @property
    def first_seq(self) -> int:
        """The number of the oldest event that is kept."""
        return self._entries[0].seq if self._entries else self.next_seq - len(self.fresh_weights)

    def keep(self, event: Event, weight: int) -> None:
        """Number one more event, which weighs so much, and keep it."""
        self.fresh += (WHOLE, event)
        self.fresh_weights.append(weight)
        self.next_seq += 1
        self.weight += weight

    def lose_oldest(self) -> int:
        """Keep the oldest event no longer; returns what it weighed."""
        lost = self.entries.popleft().weight
        self.weight -= lost
        return lost

    def note_labels(self, labels: Mapping[str, str]) -> None:
        """Take from all labels of a run, as it was started with, what its caller noted, and the reserved ones."""
        if labels:
            self.owner = labels.get(OWNER, self.owner)
            self.request = labels.get(REQUEST, self.request)
            self.labels = public(labels) or self.labels

    def note_made_again(self) -> None:
        """Another life begins: what it makes again is not to be told again."""
        again = {identity_of(entry.event) for entry in self.entries if is_made_again(entry.event)}
        if again:
            self.known = {each for each in again if each is not None} | (self.known or set())

    def without_what_was_sent(self) -> RunRecord:
        """The same of a run that goes on here, with those events alone that no one was sent; the others are in the store."""
        first = max(self.begun_seq, self.kept_seq)
        own = [KeptEvent(entry.seq - first, entry.event, entry.weight) for entry in self.entries if entry.seq >= first]
        return attrs.evolve(
            self,
            entries=deque(own),
            next_seq=max(0, self.next_seq - first),
            first_here=0,
            begun_seq=0,
            kept_seq=0,
            weight=sum(entry.weight for entry in own),
            steps=sum(isinstance(entry.event, NodeStarted) for entry in own),
            earlier=self.begun_records,
            known=None,
            waiting=None,
            ended_by_its_end=None,
        )

    def put_before(self, earlier: Sequence[KeptEvent], known: set[Identity]) -> None:
        """The events of `earlier` lives are here: what this process has heard of is numbered behind them."""
        missed = self.first_seq
        own = [entry for entry in self.entries if identity_of(entry.event) not in known]
        self.first_here = self.begun_seq = earlier[-1].seq + 1 if earlier else 0
        self.next_seq = self.first_here + missed
        self._entries = deque(() if missed else earlier)  # numbers have no gap among those that are kept
        self.weight = sum(entry.weight for entry in self._entries)
        for entry in own:
            self.keep(entry.event, entry.weight)
        self.known, self.earlier = known, None

    def after(self, seq: int) -> Sequence[KeptEvent]:
        """What is kept of the events after number `seq`; the first may be an ``EventsMissed`` for those that are not kept."""
        first = self.first_seq
        kept = list(itertools.islice(reversed(self.entries), max(0, self.next_seq - 1 - seq)))[::-1]
        if seq + 1 < first:
            at_s = self.entries[0].event.at_s if self.entries else self.created_at_s
            missed = EventsMissed(count=first - seq - 1, at_s=at_s)
            return [KeptEvent(first - 1, missed, 0), *kept]
        return kept

    async def wait(self) -> None:
        """Return when there is something new, or somebody says :meth:`nudge`. A checkpoint."""
        task = trio.lowlevel.current_task()
        waiting = self.waiting = {} if self.waiting is None else self.waiting
        waiting[task] = None

        def give_up(_: object) -> trio.lowlevel.Abort:
            del waiting[task]
            return trio.lowlevel.Abort.SUCCEEDED

        await trio.lowlevel.wait_task_rescheduled(give_up)

    def nudge(self, task: trio.lowlevel.Task) -> None:
        """Let that one look again, if it waits."""
        if self.waiting is not None and task in self.waiting:
            del self.waiting[task]
            trio.lowlevel.reschedule(task)

    def wake(self) -> None:
        """Let those who wait look again."""
        waiting, self.waiting = self.waiting, None
        for task in waiting or ():
            trio.lowlevel.reschedule(task)
        if self.is_over:
            for scope in self.ended_by_its_end or ():
                scope.cancel()
