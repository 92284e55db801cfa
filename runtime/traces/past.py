"""The events of a stored run that its journal tells of, for what was never sent of it by the process that had it.

A journal holds what was decided, so of a run that no one followed less is known than of one that somebody did: not when a node
began, nor the pieces of an answer. What it holds became events in the order of the records.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from typing import Any, Final, cast

import attrs

from runtime.core.events import Event
from runtime.graphs.records.journaling import FRAME_END, details_of
from runtime.graphs.records.labels import labels_in, public
from runtime.graphs.records.outcomes import recorded_error
from runtime.graphs.records.questions import id_in
from runtime.graphs.records.recorded_answers import spend_of
from runtime.graphs.records.recorded_errors import error_of
from runtime.graphs.records.resuming import parked_by
from runtime.graphs.records.run_events import (
    NodeEmitted,
    NodeEvent,
    NodeFellBack,
    NodeFinished,
    NodeGaveUp,
    NodeRetrying,
    QuestionAnswered,
    QuestionAsked,
    RunEvent,
    RunFinished,
    RunParkedEvent,
    RunResumed,
    RunSignalled,
    RunStarted,
)
from runtime.graphs.records.run_record import RunStatus
from runtime.graphs.records.stored_answers import ANSWERED, TIMED_OUT, WITHDRAWN, read_answer
from runtime.journal.records import Record, RecordKind
from runtime.journal.store import StoredRun
from runtime.traces.event_json import kind_named, name_of

Identity = tuple[Any, ...]
_FAILURES: Final[dict[str, type[NodeEvent]]] = {"gave up": NodeGaveUp, "fallback": NodeFellBack}


def identity_of(event: Event) -> Identity | None:
    """What tells the event from others of its run, if a journal tells of it, too; None if none does."""
    match event:
        case RunStarted() | RunParkedEvent() | RunFinished():
            return (name_of(type(event)),)  # pyright: ignore[reportUnknownArgumentType]  # of any output
        case RunResumed():
            return "run.resumed", event.records
        case RunSignalled():
            return "run.signalled", event.key
        case NodeFinished():
            return "node.finished", event.path
        case NodeEmitted():
            return "node.emitted", event.path, event.attempt, event.index
        case NodeRetrying() | NodeFellBack() | NodeGaveUp():
            return "failed", event.path, event.attempt
        case QuestionAsked() | QuestionAnswered():
            return name_of(type(event)), event.question
        case _:
            return None


def is_made_again(event: Event) -> bool:
    """Whether a later life of a run makes such an event again although it was made before: it must not be sent twice."""
    return isinstance(event, NodeEmitted | QuestionAnswered)


def events_of(run: StoredRun, records: Sequence[Record], at_s: Callable[[datetime], float]) -> Iterator[RunEvent]:
    """The events that `records`, those of `run` from the first on, tell of. `at_s` is the runtime's clock at a time."""
    attempts: Counter[str] = Counter()
    asked: Counter[str] = Counter()
    for index, record in enumerate(records):
        own = record.path.rpartition(FRAME_END)[2]
        path, _, rest = own.partition("#")
        told: dict[str, Any] = {"run_id": run.id, "at_s": at_s(datetime.fromtimestamp(record.at, UTC))}
        node: dict[str, Any] = {
            **told,
            "node": _node_of(path),
            "path": path,
            "attempt": 1 + attempts[record.path.partition("#")[0]],
        }
        match record.kind:
            case RecordKind.STARTED:
                yield RunStarted(**told, graph=run.graph, input=untagged(record.data), labels=public(labels_in(run.label)))
            case RecordKind.RESUMED:
                yield RunResumed(**told, graph=run.graph, records=record.seq - 1, lives=_lives(records[:index]))
            case RecordKind.SIGNALLED:
                yield RunSignalled(**told, key=own, signal=untagged(record.data))
            case RecordKind.FINISHED | RecordKind.STOOD_IN:
                yield NodeFinished(**node, output=untagged(record.data))
            case RecordKind.EMITTED:
                yield NodeEmitted(**node, index=int(rest) if rest.isdecimal() else 0, output=untagged(record.data))
            case RecordKind.FAILED:
                attempts[record.path.partition("#")[0]] += 1
                details = details_of(record)
                kind: Any = _FAILURES.get(str(details.get("then")), NodeRetrying)
                yield kind(**node, error=error_of(details))
            case RecordKind.ASKED | RecordKind.ANSWERED:
                asked[record.path] += record.kind is RecordKind.ASKED
                question = f"{run.id}.{id_in(run.id, record.path, asked[record.path])}"
                yield from _of_question(record, node, question, is_node=not rest)
            case RecordKind.PARKED:
                yield RunParkedEvent(**told, graph=run.graph, error=parked_by(record))
            case RecordKind.OVER:
                yield _finished(record, told, spend_of(records[: index + 1]))
            case _:
                pass


def _of_question(record: Record, node: dict[str, Any], question: str, *, is_node: bool) -> Iterator[NodeEvent]:
    if record.kind is RecordKind.ASKED:
        told = details_of(record)
        due = told.get("due")
        due_at = None if due is None else datetime.fromtimestamp(due, UTC)
        yield QuestionAsked(**node, question=question, asks=_bare(told.get("asks")), due_at=due_at, to=told.get("to"))
        return
    how, answer = read_answer(record.data)
    if how == WITHDRAWN:
        return
    by = details_of(record).get("by")
    yield QuestionAnswered(**node, question=question, answer=untagged(answer), by=by, timed_out=how == TIMED_OUT)
    if how == ANSWERED and is_node:
        yield NodeFinished(**node, output=untagged(answer))


def _finished(record: Record, told: dict[str, Any], spend: Any) -> RunFinished:
    status = RunStatus(record.path)
    if status is RunStatus.SUCCEEDED:
        return RunFinished(**told, status=status, output=untagged(record.data), spend=spend)
    return RunFinished(**told, status=status, error=recorded_error(record), spend=spend)


def _lives(records: Sequence[Record]) -> int:
    return 2 + sum(record.kind is RecordKind.RESUMED for record in records)


def _node_of(path: str) -> str:
    parts = path.split("/")
    return parts[-2] if len(parts) > 1 else path.removeprefix("?")


def untagged(data: bytes | None) -> Any:
    """The JSON of a stored message, or of a list of them, without the names of their types."""
    value: Any = json.loads(data) if data else None
    if not isinstance(value, list):
        return _bare(value)
    items: list[Any] = value  # pyright: ignore[reportUnknownVariableType]  # JSON
    return [_bare(item) for item in items]


def _bare(value: Any) -> Any:
    if not isinstance(value, dict):
        return value
    fields = cast("dict[str, Any]", value)
    if len(fields) == 1:
        [(tag, inner)] = fields.items()
        if ":" in tag:
            return inner
    return fields


def event_of(told: dict[str, Any], run_id: str, at_s: Callable[[datetime], float]) -> Event | None:
    """The event that was sent as `told`, with JSON in its fields; None for one that this release does not know."""
    kind = kind_named(str(told.get("event")))
    if kind is None:
        return None
    fields = {field.name: told.get(field.name) for field in attrs.fields(kind) if field.name not in ("at_s", "run_id")}
    if issubclass(kind, RunEvent):
        fields["run_id"] = run_id
    made: Any = kind
    event: Event = made(**fields, at_s=at_s(datetime.fromisoformat(str(told["at"]))))
    return event
