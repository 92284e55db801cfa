"""Resuming: a new reducer is told what the records say the old one was told; what is at work then is delivered again. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final, final

import attrs

from actors.errors import DeclarationError, InternalError
from actors.graphs.annotations import Many
from actors.graphs.node import Kind
from actors.store_errors import RunChanged, RunCrashes, RunParked, RunUndecodable, StepUncertain, StoreDamaged
from runtime.graphs.records.digests import Digests
from runtime.graphs.records.journaling import FRAME_END, details_of, is_by_hand, note_parts
from runtime.graphs.records.recorded_errors import error_of
from runtime.graphs.records.run_record import Step, StepStatus
from runtime.graphs.records.stored_answers import ANSWERED, TIMED_OUT, WITHDRAWN, read_answer
from runtime.graphs.reducer.branches import Delivery
from runtime.graphs.reducer.deliveries import Commands
from runtime.graphs.reducer.state import RunState
from runtime.journal.records import Record, RecordKind
from runtime.messages.codec import MessageCodec
from runtime.messages.problems import MessageInvalid

MAX_LIVES: Final = 3
"""Lives in a row that leave no record before the run is parked."""

TOLD: Final = frozenset(
    {
        RecordKind.FINISHED,
        RecordKind.STOOD_IN,
        RecordKind.EMITTED,
        RecordKind.RETRACTED,
        RecordKind.ENDED,
        RecordKind.SIGNALLED,
    }
)
"""What a reducer is told again; see :func:`is_told`."""
_DONE: Final = frozenset({RecordKind.FINISHED, RecordKind.STOOD_IN, RecordKind.ANSWERED})
_OF_THE_RUN: Final = frozenset(
    {
        RecordKind.STARTED,
        RecordKind.RESUMED,
        RecordKind.RELEASED,
        RecordKind.PARKED,
        RecordKind.FORKED,
        RecordKind.ADOPTED,
        RecordKind.OVER,
        RecordKind.WITHDRAWN,
        RecordKind.GIVEN,
    }
)
"""What tells of the run as a whole, and of no step."""


@final
@attrs.frozen
class AskedBefore:
    """A person was asked in an earlier life, and had not answered."""

    at_s: float
    """When, in seconds since 1970."""
    due_s: float | None
    """Until when there is time; None: for ever."""
    about: bytes
    """The digest of what was asked about and of what may be the answer; empty: not known, or a part of its path."""


def _as_told(error: Exception | None) -> object:
    """What makes two errors of records the same: exceptions themselves are equal to none but themselves."""
    return None if error is None else (type(error), error.args, str(error))


@final
@attrs.define
class Past:
    """What is known of a delivery from earlier lives."""

    attempts: int = 0
    """Attempts that failed."""
    error: Exception | None = attrs.field(default=None, eq=_as_told)
    """The last error."""
    then: str = ""
    """What came of it: ``"fallback"``, ``"gave up"``, or nothing yet."""
    has_begun: bool = False
    is_overdue: bool = False
    """A person was asked, and there was no answer in time."""
    asked: dict[str, AskedBefore] = attrs.field(factory=dict[str, AskedBefore])
    """Questions by the path of their records."""
    answers: dict[str, Record] = attrs.field(factory=dict[str, Record])
    """The answers to questions of ``run.ask``, by that path."""
    is_uncertain: bool = False
    """Whether it may run once only, had begun, and nothing is known of how it ended."""

    @property
    def is_retried(self) -> bool:
        """Whether its last attempt has failed, another is to come, and no one has had the run resumed since."""
        return self.attempts > 0 and self.error is not None and not self.then and not self.is_uncertain


@final
@attrs.define(eq=False)
class Resumed:
    """A reducer that has been told everything again."""

    state: RunState
    commands: Commands
    """Deliver what is at work, in the order of its start."""
    past: dict[str, Past] = attrs.field(factory=dict[str, Past])
    """By path."""
    steps: list[Step] = attrs.field(factory=list[Step])
    """What has ended, for the trace."""
    broken: list[Delivery] = attrs.field(factory=list[Delivery])
    """Generators that were cut short and whose items were taken: they cannot begin again."""
    retracted: list[str] = attrs.field(factory=list[str])
    """Generators whose items were taken back, since they begin again."""

    @property
    def uncertain(self) -> list[Delivery]:
        """What is at work, may run once only, and was cut short."""
        return [each for each in self.commands.deliveries if each.path in self.past and self.past[each.path].is_uncertain]

    def attempt_of(self, path: str) -> int:
        """Which attempt at a message comes next, from 1."""
        return self.past[path].attempts + 1 if path in self.past else 1


def check(run_id: str, records: Sequence[Record], last_seq: int | None = None) -> None:
    """See that `records` are whole: numbered without gaps, each as it was written.

    Raises:
        StoreDamaged: they are not; ``seq`` tells where.
    """
    for expected, record in enumerate(records, start=1):
        if record.seq != expected or record.run != run_id or not record.is_intact:
            what = f"there is no record {expected}" if record.seq != expected else f"record {expected} is not what was written"
            raise _damaged(run_id, expected, what)
    if not records or records[0].kind is not RecordKind.STARTED:
        raise _damaged(run_id, 1, "it has no first record")
    if last_seq is not None and len(records) < last_seq:
        raise _damaged(run_id, len(records) + 1, f"there is no record {len(records) + 1}")


def _damaged(run_id: str, seq: int, what: str) -> StoreDamaged:
    return StoreDamaged(
        f"the journal of run {run_id!r} is damaged: {what}.\n  Fix: restore the store from a backup, or forget the run.",
        run_id=run_id,
        seq=seq,
    )


def lives_in_vain(records: Sequence[Record]) -> int:
    """How many lives at the end of `records` have left no record, the first one included."""
    count = 0
    for record in reversed(records):
        if record.kind is RecordKind.RELEASED or is_by_hand(record):
            return count
        if record.kind in (RecordKind.CALLED, RecordKind.UNANSWERED):  # it has not come further than to ask again
            continue
        if record.kind is not RecordKind.RESUMED:
            return count + (record.kind is RecordKind.STARTED)
        count += 1
    return count


def dues_of(records: Sequence[Record]) -> dict[str, float]:
    """Until when attempts have time that began in an earlier life and go on: by their places, in seconds since 1970."""
    found: dict[str, float] = {}
    for record in records:
        if record.kind is RecordKind.RELEASED and record.data is not None:
            found.update(details_of(record).get("due", {}))
        elif record.kind is RecordKind.FAILED:
            found.pop(record.path, None)
        elif is_by_hand(record):
            found.clear()
    return found


def crashed_too_often(run_id: str, lives: int) -> RunCrashes:
    """The error for a run whose process has died again and again."""
    return RunCrashes(
        f"run {run_id!r} was cut short {lives} times without recording anything new: most likely it ends its process.\n"
        "  Fix: find out which of its steps does that, and resume the run.",
        run_id=run_id,
        reason="crashes",
    )


def step_uncertain(run_id: str, names: str, path: str, why: str = "") -> StepUncertain:
    """The error of a run that waits for a decision on the step of `path`, which is among `names`."""
    return StepUncertain(
        f"run {run_id!r} was cut short in {names}, which may run once only: it may have taken effect or not{why}.\n"
        f"  Fix: find out, and await runtime.resume({run_id!r}, uncertain={{{path!r}: …}}) with what it returned, "
        "or with 'repeat' if nothing happened.",
        run_id=run_id,
        reason="uncertain",
        path=path,
    )


@final
class Retelling:
    """A new reducer that is told, record by record, what an earlier one was."""

    def __init__(self, state: RunState, codec: MessageCodec, digests: Digests, now_s: float) -> None:
        """`codec` reads the records, `digests` notes what messages are stored as."""
        self.state = state
        self._codec = codec
        self._digests = digests
        self._now_s = now_s
        self._resumed = Resumed(state, Commands())
        self._steps: dict[str, Step] = {}
        self._was_over = False

    def start(self, message: object) -> Commands:
        """The run begins with `message`.

        Raises:
            RunChanged: its graph does not take that any more.
        """
        try:
            return self._obeyed(self.state.start(message))
        except DeclarationError as error:
            raise changed(self.state.run_id, "it does not take its input any more") from error

    def note(self, record: Record, path: str) -> None:
        """What the reducer is not told, and a node is."""
        how = read_answer(record.data)[0] if record.kind is RecordKind.ANSWERED else ANSWERED
        _note(self._resumed, record, path, how)
        self._was_over = self._was_over or record.kind is RecordKind.OVER
        if is_by_hand(record):
            _open_again(self._resumed, {path: step.node for path, step in self._steps.items()}, was_over=self._was_over)
            self._was_over = False

    def tell(self, record: Record, path: str) -> Commands:
        """What a reducer is told.

        Raises:
            RunUndecodable: what the record holds isn't a value of its type any more.
            RunChanged: the graph is another one, in which what is recorded cannot have happened.
        """
        data = read_answer(record.data)[1] if record.kind is RecordKind.ANSWERED else record.data or b"null"
        try:
            value = self._codec.decode(data)
            note_parts(self._digests, self._codec, value, data)
            commands = self._obeyed(_tell(self.state, record.kind, path, value))
        except MessageInvalid as error:
            raise undecodable(record, error) from error
        except (DeclarationError, InternalError, LookupError, ValueError) as error:
            raise changed(record.run, f"record {record.seq}, {record.kind} {path!r}, cannot have happened in it") from error
        if record.kind in _DONE and path in self._steps:
            step = self._steps[path]
            step.status, step.ended_at_s, step.started_at_s = StepStatus.DONE, self._now_s, self._now_s
            step.attempt = self._resumed.past.get(path, Past()).attempts + 1
        return commands

    def _obeyed(self, commands: Commands) -> Commands:
        for path in commands.cancelled:
            if path in self._steps:
                self._steps[path].status = StepStatus.CANCELLED
        for delivery in commands.deliveries:
            self._steps[delivery.path] = Step(delivery.node, delivery.path, self._now_s)
        return commands

    def result(self) -> Resumed:
        """The reducer, and what is to be done now."""
        resumed, state = self._resumed, self.state
        _begin_streams_again(resumed)
        at_work = () if state.output is not None else state.at_work
        resumed.commands = Commands(at_work)
        working = {delivery.path for delivery in at_work}
        resumed.steps = [step for path, step in self._steps.items() if path not in working]
        return resumed


def replay(
    state: RunState,
    message: object,
    records: Sequence[Record],
    codec: MessageCodec,
    now_s: float,
    digests: Digests | None = None,
) -> Resumed:
    """Tell `state` that it starts with `message`, and then what `records` say, all of one run or one frame.

    Raises:
        RunUndecodable: what a record holds isn't a value of its type any more.
        RunChanged: the graph is another one, in which what is recorded cannot have happened.
    """
    retelling = Retelling(state, codec, Digests() if digests is None else digests, now_s)
    retelling.start(message)
    for record in records:
        path = record.path.rpartition(FRAME_END)[2]
        if is_told(record):
            retelling.tell(record, path)
        else:
            retelling.note(record, path)
    return retelling.result()


def read_input(codec: MessageCodec, first: Record) -> Any:
    """The message that a run began with.

    Raises:
        RunUndecodable: it isn't a value of its type any more.
    """
    try:
        return codec.decode(first.data or b"null")
    except MessageInvalid as error:
        raise undecodable(first, error) from error


def _tell(state: RunState, kind: RecordKind, path: str, value: Any) -> Commands:
    match kind:
        case RecordKind.FINISHED | RecordKind.ANSWERED:
            return state.finished(path, value)
        case RecordKind.STOOD_IN:
            return state.stood_in(path, value)
        case RecordKind.EMITTED:
            task, _, index = path.rpartition("#")
            return state.emitted(task, value, int(index))
        case RecordKind.SIGNALLED:
            return state.signalled(value)
        case RecordKind.RETRACTED:
            commands = state.retracted(path, nothing_has_begun)
            if commands is None:
                raise InternalError(f"what {path} emitted was taken")
            return commands
        case _:
            return state.ended(path)


def is_told(record: Record) -> bool:
    """Whether a reducer is told of `record`: the answer of a person is what a human node makes, or goes to ``run.ask``."""
    if record.kind is not RecordKind.ANSWERED:
        return record.kind in TOLD
    return "#" not in record.path.rpartition(FRAME_END)[2] and read_answer(record.data)[0] == ANSWERED


def nothing_has_begun(_: str) -> bool:
    """Nothing had begun with a stream that was taken back once."""
    return False


def _note(resumed: Resumed, record: Record, path: str, how: str) -> None:
    """What the reducer is not told, and a node is."""
    if record.kind is RecordKind.FAILED:
        task, _, attempt = path.rpartition("#")
        past = resumed.past.setdefault(task, Past())
        told = details_of(record)
        past.attempts = max(past.attempts, int(attempt))
        past.error, past.then, past.has_begun = error_of(told), str(told.get("then", "")), True
        past.is_uncertain = False
    elif record.kind not in _OF_THE_RUN:  # it was bought, or asked, by a node that had begun
        is_of_person = record.kind in (RecordKind.ASKED, RecordKind.ANSWERED)
        task = path.partition("#")[0] if is_of_person else path.rpartition("#")[0]
        past = resumed.past.setdefault(task, Past())
        past.has_begun = True
        if record.kind is RecordKind.ASKED:
            past.asked[path] = AskedBefore(record.at, details_of(record).get("due"), record.inputs)
        elif how == WITHDRAWN:
            past.asked.pop(path, None)  # the store has struck it out: who asks again has another question
        elif record.kind is RecordKind.ANSWERED and path == task:
            past.is_overdue = past.is_overdue or how == TIMED_OUT
        elif record.kind is RecordKind.ANSWERED:
            past.answers[path] = record
        if record.kind in (RecordKind.BEGAN, RecordKind.REPEATED) and ":" not in path.rpartition("#")[2]:  # none of a tool's
            past.is_uncertain = record.kind is RecordKind.BEGAN


def _open_again(resumed: Resumed, nodes: Mapping[str, str], *, was_over: bool) -> None:
    """Somebody has the run resumed: what has failed permanently begins again, with as many attempts as at first.

    In a nested run that has failed, only what failed does: it goes on where it was, in the attempt that it was. When the run was
    over, the store has struck out its questions: people are asked again.
    """
    for path, past in resumed.past.items():
        if was_over:
            past.asked.clear()
        if past.then == "gave up":
            node = nodes.get(path)
            is_graph = node is not None and resumed.state.plan.nodes[node].kind is Kind.GRAPH
            past.attempts, past.then, past.error = max(0, past.attempts - 1) if is_graph else 0, "", None
            past.is_overdue = False


def _begin_streams_again(resumed: Resumed) -> None:
    """Generators at work were cut short: they begin again, and their items are made again, if no one has taken one."""
    state = resumed.state

    def has_begun(path: str) -> bool:
        return path in resumed.past and resumed.past[path].has_begun

    for delivery in state.at_work:
        spec = state.plan.nodes[delivery.node]
        falls_back = delivery.path in resumed.past and resumed.past[delivery.path].then == "fallback"
        if spec.fan_out is not Many.STREAM or spec.options.repeatable or falls_back or not state.emitted_by(delivery.path):
            continue
        if not state.is_at_work(delivery.path):  # taken back with the items of one further out
            continue
        if state.retracted(delivery.path, has_begun) is None:
            resumed.broken.append(delivery)
        else:
            resumed.retracted.append(delivery.path)


def undecodable(record: Record, error: MessageInvalid) -> RunUndecodable:
    """The error for a record that cannot be read as its type any more."""
    where = f"record {record.seq} of run {record.run!r} ({record.kind} {record.path!r})"
    return RunUndecodable(
        f"{where} cannot be read as its type any more: {error.problems[0]}.\n"
        "  Fix: give the field a default, say how old data is read with @upcast(Type, since=…), or run the code that wrote it;\n"
        "  or let the step run again: await runtime.resume(run_id, adopt=True).",
        run_id=record.run,
        reason="undecodable",
    )


def changed(run_id: str, why: str) -> RunChanged:
    """The error for a run whose records do not fit its graph."""
    return RunChanged(
        f"run {run_id!r} cannot go on: its graph was changed, and {why}.\n  Fix: run it with the code that began it.",
        run_id=run_id,
        reason="changed",
    )


_PARKED: Final[dict[str, type[RunParked]]] = {each.__name__: each for each in (RunChanged, RunCrashes, RunUndecodable)}


def told_of(error: RunParked) -> bytes:
    """What the record that parks a run says; :func:`parked_by` makes the error of it again."""
    told = {"error": type(error).__name__, "message": str(error), "reason": error.reason}
    return json.dumps({**told, "path": error.path} if isinstance(error, StepUncertain) else told).encode()


def parked_by(record: Record) -> RunParked:
    """The error of a run that was parked with `record`."""
    told = details_of(record)
    if told.get("error") == StepUncertain.__name__:
        return StepUncertain(
            str(told.get("message")), run_id=record.run, reason=str(told.get("reason", "")), path=str(told.get("path", ""))
        )
    kind = _PARKED.get(str(told.get("error")), RunParked)
    return kind(str(told.get("message", "it was parked")), run_id=record.run, reason=str(told.get("reason", "")))
