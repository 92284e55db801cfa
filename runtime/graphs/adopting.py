"""Adopting: a run goes on in a graph that was changed. Each recorded result that still fits is kept. Pure.

A result fits when its step is at work in the graph as it is now, and takes what it took: the bytes that were stored, compared by
their digests. Results are told in the order in which they were recorded, so in an unchanged graph this is exactly a replay.
"""

from __future__ import annotations

import heapq
import json
from collections.abc import Sequence
from typing import Any, Final, final

import attrs

from actors.graphs.graph import Graph
from actors.graphs.plan import Plan
from actors.store_errors import RunChanged, RunUndecodable
from runtime.graphs.records.digests import Digests
from runtime.graphs.records.inner_runs import inner_runs
from runtime.graphs.records.journaling import FRAME_END, by_frame, details_of
from runtime.graphs.records.questions import question_id
from runtime.graphs.records.resuming import Resumed, Retelling, is_told, read_input, replay
from runtime.graphs.records.run_events import RunAdopted
from runtime.graphs.reducer.branches import Delivery
from runtime.graphs.reducer.deliveries import Commands
from runtime.graphs.reducer.routing import RoutingTable
from runtime.graphs.reducer.state import RunState
from runtime.journal.fingerprint import fingerprint
from runtime.journal.records import Record, RecordKind, digest_of
from runtime.messages.codec import MessageCodec

_RESULTS: Final = frozenset({RecordKind.FINISHED, RecordKind.STOOD_IN, RecordKind.EMITTED, RecordKind.ANSWERED})
PAID: Final = frozenset({RecordKind.ANSWER, RecordKind.ONCE, RecordKind.ANSWERED})
"""What was bought for a step, or answered by a person."""
_MOST_LISTED: Final = 20
"""Paths that an error names."""


@final
@attrs.frozen(eq=False)
class Terrain:
    """A graph as it is now, as far as a run needs it that goes on in it."""

    name: str
    version: str
    routing: RoutingTable
    codec: MessageCodec
    fingerprint: bytes

    @classmethod
    def of(cls, graph: Graph[Any, Any]) -> Terrain:
        """That of `graph`, which need not be deployed."""
        plan = graph.plan()
        return cls(graph.name, graph.version, RoutingTable(plan, graph.finish), codec_of(plan), fingerprint(plan))


def codec_of(plan: Plan) -> MessageCodec:
    """What stores the messages of a graph."""
    outputs = [kind for spec in plan.nodes.values() for kind in spec.outputs]
    return MessageCodec([*plan.input_types, *plan.signal_types, *plan.output_types, *outputs])


@final
@attrs.frozen
class Paid:
    """What steps had used of language models, as far as it is recorded, and what else was bought for them."""

    answers: int = 0
    tokens: int = 0
    cost_usd: float = 0.0
    others: int = 0
    """Results of ``run.once``, and answers of people."""

    def plus(self, other: Paid) -> Paid:
        """Both together."""
        return Paid(
            self.answers + other.answers,
            self.tokens + other.tokens,
            self.cost_usd + other.cost_usd,
            self.others + other.others,
        )

    def __str__(self) -> str:
        parts = [f"{self.answers} answers of language models"] if self.answers != 1 else ["1 answer of a language model"]
        if self.tokens:
            parts.append(f"{self.tokens:,} tokens")
        if self.cost_usd:
            parts.append(f"{self.cost_usd:.4f} USD")
        if self.others:
            parts.append(f"{self.others} results of run.once or of people")
        return f"{', '.join(parts[:-1])} and {parts[-1]}" if len(parts) > 1 else parts[0]


@final
@attrs.define(eq=False)
class Report:
    """What became of what is recorded: each step with a result, or with something that was paid for, is in one of three."""

    kept: list[str] = attrs.field(factory=list[str])
    again: list[str] = attrs.field(factory=list[str])
    """Steps whose result no longer fits, of nodes that the graph still has: they run again when the run comes to them."""
    dropped: list[str] = attrs.field(factory=list[str])
    """Steps whose node is no more."""
    paid: Paid = attrs.field(factory=Paid)
    """For what is not kept."""
    told: list[list[int]] = attrs.field(factory=list[list[int]])
    """Numbers of the records that were told, in that order; of the run, and of each run inside it."""
    without: set[int] = attrs.field(factory=set[int])
    """Numbers of the records that count no longer."""

    @property
    def is_whole(self) -> bool:
        """Whether everything was kept."""
        return not self.again and not self.dropped

    def event(self, run_id: str, graph: str) -> RunAdopted:
        """What is told of it."""
        return RunAdopted(run_id=run_id, graph=graph, kept=tuple(self.kept), again=tuple(self.again), dropped=tuple(self.dropped))


@final
@attrs.frozen(eq=False)
class Restored:
    """A stored run, ready to go on."""

    message: Any
    resumed: Resumed
    digests: Digests
    own: Sequence[Record]
    """Those of its records that still count, of the run itself."""
    frames: dict[str, list[Record]]
    """And of the runs inside it."""
    report: Report | None
    """Of an adoption; None for a run whose graph was not changed."""
    leftover: Sequence[tuple[str, str]]
    """Questions that no one asks any more, since their step is gone or asks something else: their paths and ids."""
    adopted: bytes | None
    """What a record ``adopted`` is to hold, so later lives see the journal as this one does; None: there need be none."""


def restored(
    run_id: str,
    records: Sequence[Record],
    terrain: Terrain,
    known: bytes,
    now_s: float,
    *,
    adopt: bool = False,
) -> Restored:
    """The run of `records`, which are intact, in the graph as it is now; `known` is the fingerprint that the store has.

    With `adopt`, what does not fit any more is given up.

    Raises:
        RunChanged: something recorded doesn't fit; the message lists what.
        RunUndecodable: a record cannot be read as its type any more.
    """
    message = read_input(terrain.codec, records[0])
    counted, latest = effective(records)
    is_same = (known if latest is None else latest) == terrain.fingerprint
    if is_same and not adopt:
        own, frames = by_frame(counted[1:])
        digests = Digests()
        digests.note(message, digest_of(records[0].data))
        try:
            state = RunState(terrain.routing, run_id)
            resumed = replay(state, message, own, terrain.codec, now_s, digests)
            return Restored(message, resumed, digests, own, frames, None, (), None)
        except RunChanged:
            pass  # a condition has changed, say, which no fingerprint shows
    adoption = Adoption(run_id, terrain, counted, message, now_s, adopt=adopt)
    report = adoption.report
    if not report.is_whole and not adopt:
        raise _no_longer_fits(run_id, report)
    leftover = leftover_questions(run_id, records, adoption)
    for record, _ in leftover:  # a step of that path that comes to ask asks another question
        report.without.add(record.seq)
        if record.path in adoption.resumed.past:
            adoption.resumed.past[record.path].asked.pop(record.path, None)
    order = order_of(counted, report)
    own, frames = by_frame(in_order(counted, order)[1:])
    told = {"fingerprint": terrain.fingerprint.hex(), "order": order, "again": report.again, "dropped": report.dropped}
    adopted = json.dumps(told).encode()
    gone = [(record.path, question) for record, question in leftover]
    return Restored(message, adoption.resumed, adoption.digests, own, frames, report, gone, adopted)


def leftover_questions(run_id: str, records: Sequence[Record], adoption: Adoption) -> list[tuple[Record, str]]:
    """The open questions of steps that are no more, or whose record counts no longer: their records and ids."""
    times: dict[str, int] = {}
    still_open: dict[str, Record] = {}
    for record in records:
        if record.kind is RecordKind.ASKED:
            times[record.path] = times.get(record.path, 0) + 1
            still_open[record.path] = record
        elif record.kind is RecordKind.ANSWERED:
            still_open.pop(record.path, None)
        elif record.kind is RecordKind.OVER:  # the store has struck them out
            still_open.clear()
    gone: list[tuple[Record, str]] = []
    for path, record in still_open.items():
        frame, end, _ = path.rpartition(FRAME_END)
        if record.seq in adoption.report.without or f"{frame}{end}{step_of(record)}" not in adoption.seen:
            gone.append((record, question_id(run_id, path, times[path])))
    return gone


def effective(records: Sequence[Record]) -> tuple[list[Record], bytes | None]:
    """Those of `records` that count after the adoptions among them, in the order in which they are to be told.

    Also the fingerprint of the graph that adopted the run last.
    """
    found: list[Record] = []
    latest: bytes | None = None
    for record in records:
        found.append(record)
        if record.kind is RecordKind.ADOPTED:
            told = details_of(record)
            found = in_order(found, told.get("order"))
            latest = bytes.fromhex(str(told.get("fingerprint", "")))
    return found, latest


def in_order(records: Sequence[Record], order: Any) -> list[Record]:
    """`records` as an adoption put them; None as `order`: as they are."""
    if order is None:
        return list(records)
    by_seq = {record.seq: record for record in records}
    return [by_seq[int(seq)] for seq in order if int(seq) in by_seq]


def order_of(counted: Sequence[Record], report: Report) -> list[int] | None:
    """The numbers of the records that still count, in the order in which they are to be told; None: all of them, as they are."""
    before = [record.seq for record in counted]
    left = [seq for seq in before if seq not in report.without]
    if any(told != sorted(told) for told in report.told):
        moved = [seq for told in report.told for seq in told]
        left = [left[0], *moved, *(seq for seq in left[1:] if seq not in set(moved))]
    return None if left == before else left


def _no_longer_fits(run_id: str, report: Report) -> RunChanged:
    lines = [f"run {run_id!r} cannot go on automatically: its graph was changed, and some of what is recorded no longer fits."]
    for word, paths in (("kept", report.kept), ("runs again", report.again), ("dropped", report.dropped)):
        if paths:
            more = f" and {len(paths) - _MOST_LISTED} more" if len(paths) > _MOST_LISTED else ""
            lines.append(f"  {word}: {', '.join(_shown(path) for path in paths[:_MOST_LISTED])}{more}")
    lines.append(f"  what is not kept had used: {report.paid}.")
    lines.append(
        f"  Fix: await runtime.resume({run_id!r}, adopt=True) goes on with what is kept; or run it with the code that began it."
    )
    return RunChanged("\n".join(lines), run_id=run_id, reason="changed")


def _shown(path: str) -> str:
    return path.replace(FRAME_END, " > ")


@final
class Adoption:
    """One run told to a changed graph, with the runs inside it."""

    def __init__(
        self,
        run_id: str,
        terrain: Terrain,
        records: Sequence[Record],
        message: Any,
        now_s: float,
        *,
        adopt: bool,
    ) -> None:
        """Tell everything that fits. With `adopt`, what cannot be read any more does not fit; else it is an error."""
        self.report = Report()
        self.digests = Digests()
        self.seen: set[str] = set()
        """Each step that was ever at work, the frames of the runs around it before its path."""
        self._run_id = run_id
        self._now_s = now_s
        self._adopt = adopt
        self._records = records
        self._terrains: dict[int, Terrain] = {}
        self.digests.note(message, digest_of(records[0].data))
        own, self._frames = by_frame(records[1:])
        self.resumed = self._level(terrain, None, "", own, message)

    def _level(self, terrain: Terrain, prefix: str | None, frame: str, own: Sequence[Record], message: Any) -> Resumed:
        """The run itself, or the run in a frame; then those inside it."""
        state = RunState(terrain.routing, self._run_id, prefix)
        level = Level(state, terrain.codec, self.digests, own, self._now_s, adopt=self._adopt)
        resumed = level.tell_all(message)
        before = f"{frame}{FRAME_END}" if frame else ""
        self._judge(level, before)
        for delivery in state.at_work:
            spec = terrain.routing.plan.nodes[delivery.node]
            for run in inner_runs(spec, delivery, resumed.attempt_of(delivery.path), frame, own, self._frames):
                nested = self._terrain_of(run.graph)
                given = run.message(nested.codec)
                if given is not None:
                    self._level(nested, run.prefix, run.frame, self._frames[run.frame], given)
        return resumed

    def _terrain_of(self, graph: Graph[Any, Any]) -> Terrain:
        key = id(graph)
        if key not in self._terrains:
            self._terrains[key] = Terrain.of(graph)
        return self._terrains[key]

    def _judge(self, level: Level, before: str) -> None:
        report = self.report
        report.told.append(level.told)
        self.seen.update(before + step for step in level.seen)
        told = set(level.told)
        nodes = level.state.plan.nodes
        left: dict[str, None] = {}
        kept: dict[str, None] = {}
        for record in level.records:
            step = step_of(record)
            if record.kind in _RESULTS and is_told(record):
                (kept if record.seq in told else left)[step] = None
            elif record.kind in PAID and step not in level.seen:
                left[step] = None
            if is_told(record) and record.seq not in told:
                report.without.add(record.seq)
        for frame in self._frames:
            step = frame.removeprefix(before).partition("#")[0]
            is_of_this = frame.startswith(before) and FRAME_END not in frame.removeprefix(before)
            if is_of_this and not step.startswith("?") and step not in level.seen:
                left[step] = None  # the run inside was cut short, and the step has no record
        report.kept += [before + step for step in kept if step not in left]
        for step in left:
            is_known = step in level.seen or _node_of(step) in nodes
            (report.again if is_known else report.dropped).append(before + step)
            self._give_up(before + step)

    def _give_up(self, whole: str) -> None:
        """Count what was paid for a step and the runs inside it; its attempts, and they, are no more."""
        for record in self._records:
            if not is_of_step(record, whole):
                continue
            if record.kind in PAID:
                self.report.paid = self.report.paid.plus(paid_for(record))
            if record.kind is RecordKind.FAILED or is_told(record) or is_question(record):
                self.report.without.add(record.seq)


@final
class Level:
    """The records of one run or one frame, told to a new reducer as far as they fit."""

    def __init__(
        self,
        state: RunState,
        codec: MessageCodec,
        digests: Digests,
        records: Sequence[Record],
        now_s: float,
        *,
        adopt: bool,
    ) -> None:
        """`records` are told to `state`; with `adopt`, what cannot be read any more does not fit, else it is an error."""
        self.state = state
        self.records = records
        self.seen: dict[str, bytes] = {}
        """Each step that was ever at work, and what it takes."""
        self.told: list[int] = []
        self._adopt = adopt
        self._codec = codec
        self._digests = digests
        self._retelling = Retelling(state, codec, digests, now_s)
        self._waiting: dict[str, list[tuple[int, Record]]] = {}
        """What is recorded of each step and not told yet, the next one last; with its place in the order."""
        self._next: list[tuple[int, str, Record]] = []
        """A heap."""

    def tell_all(self, message: object) -> Resumed:
        """Tell everything that fits, in the recorded order."""
        for place, record in reversed(list(enumerate(self.records))):
            if record.kind is RecordKind.SIGNALLED:  # of no step: it came when it came
                self._next.append((place, "", record))
            elif is_told(record):
                self._waiting.setdefault(step_of(record), []).append((place, record))
        heapq.heapify(self._next)
        self._look_at(self._retelling.start(message))
        while self._next:
            _, path, record = heapq.heappop(self._next)
            try:
                commands = self._retelling.tell(record, record.path.rpartition(FRAME_END)[2])
            except RunUndecodable:
                if not self._adopt:
                    raise
                continue
            except RunChanged:
                continue
            self.told.append(record.seq)
            self._look_at(commands)
            self._offer(path)
        told = set(self.told)
        failed = {step_of(record) for record in self.records if is_told(record) and record.seq not in told}
        for record in self.records:
            is_of_result = record.kind is RecordKind.FAILED or is_question(record)
            if not is_told(record) and not (is_of_result and step_of(record) in failed):
                self._retelling.note(record, record.path.rpartition(FRAME_END)[2])
        return self._retelling.result()

    def _look_at(self, commands: Commands) -> None:
        for delivery in commands.deliveries:
            self._arrived(delivery)

    def _arrived(self, delivery: Delivery) -> None:
        self.seen[delivery.path] = (
            self._digests.of_inputs(delivery, self._codec.encode) if delivery.path in self._waiting else b""
        )
        self._offer(delivery.path)

    def _offer(self, path: str) -> None:
        """The next record of a step takes its place in the order, if it is made of what the step takes."""
        waiting = self._waiting.get(path)
        if waiting and waiting[-1][1].inputs in (b"", self.seen[path]):
            place, record = waiting.pop()
            heapq.heappush(self._next, (place, path, record))


def step_of(record: Record) -> str:
    """The path, in its own run, of the step that a record is about."""
    return record.path.rpartition(FRAME_END)[2].partition("#")[0]


def is_question(record: Record) -> bool:
    """Whether it says that a human node asked, or how that ended; not what ``run.ask`` did, which is asked for by content."""
    is_of_person = record.kind in (RecordKind.ASKED, RecordKind.ANSWERED)
    return is_of_person and "#" not in record.path.rpartition(FRAME_END)[2]


def is_of_step(record: Record, whole: str) -> bool:
    """Whether a record is about the step of this whole path, its frames before it, or about a run inside it."""
    path = record.path
    return path.startswith(whole) and path[len(whole) : len(whole) + 1] in ("", "#")


def _node_of(step: str) -> str:
    """The node in the path of a step."""
    parts = step.split("/")
    return parts[-2].partition("@")[0] if len(parts) > 1 else step


def paid_for(record: Record) -> Paid:
    """What a record says was bought."""
    if record.kind is not RecordKind.ANSWER:
        return Paid(others=1)
    used: Any = details_of(record).get("spend", {})
    tokens = sum(int(used.get(name, 0)) for name in ("prompt_tokens", "completion_tokens"))
    return Paid(answers=1, tokens=tokens, cost_usd=float(used.get("cost_usd", 0)))
