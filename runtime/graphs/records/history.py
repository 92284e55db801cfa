"""What is stored of a run, as values: its records, its steps, what people were asked, and a text to keep as a test."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final, final

import attrs

from actors.errors import UsageError
from runtime.graphs.records.journaling import FRAME_END, details_of
from runtime.graphs.records.recorded_answers import spend_of
from runtime.graphs.records.run_record import Spend, StepStatus
from runtime.journal.records import Record, RecordKind
from runtime.journal.store import Store, StoredQuestion, StoredRun, StoredStatus

FORMAT: Final = 1
"""Of the first line of an export."""
_HOLDS: Final = frozenset({RecordKind.STARTED, RecordKind.FINISHED, RecordKind.ANSWER, RecordKind.ONCE})
"""Records without which a run cannot be run again."""


@final
@attrs.define
class HistoryStep:
    """One message at one node, as far as it was recorded."""

    node: str
    path: str
    """As in ``RunHandle.trace``; in a nested run, behind the path and the attempt of the step that the nested run works for."""
    status: StepStatus
    ready_at: datetime
    """When what it took was recorded: it began then or later. Beginnings are not recorded."""
    ended_at: datetime | None = None
    attempts: int = 1
    """How many were made, as far as is recorded; of those that a crash cut short nothing is."""
    items: int = 0
    """How many a generator had yielded."""
    error: str | None = None
    """The last attempt's, in words."""

    @property
    def depth(self) -> int:
        """In how many runs it is nested."""
        return self.path.count(FRAME_END)


@final
@attrs.frozen
class History:
    """Everything that is stored of one run."""

    run: StoredRun
    records: tuple[Record, ...] = attrs.field(repr=False)
    questions: tuple[StoredQuestion, ...] = ()
    """That are open."""
    is_case: bool = False
    """Whether it was read from a case: ``replays`` runs it again, and does not only tell it to the graph."""

    @property
    def steps(self) -> tuple[HistoryStep, ...]:
        """The steps of the run and of the runs inside it, in the order in which they were first heard of."""
        found: dict[str, HistoryStep] = {}
        ended: dict[str, datetime] = {}
        latest = self.run.created
        for record in self.records:
            at = datetime.fromtimestamp(record.at, UTC)
            change = _CHANGES.get(record.kind)
            if change is not None:
                path = _step_of(record)
                step = found.get(path)
                if step is None:
                    ready_at = _ready_at(path, ended, latest)
                    step = found[path] = HistoryStep(_node_of(path), path, StepStatus.RUNNING, ready_at)
                change(step, record, at)
                if step.ended_at is not None:
                    ended[path] = at
            latest = at
        return tuple(found.values())

    @property
    def spend(self) -> Spend:
        """What its calls of language models have used over all lives; ``uncertain_calls`` are those without a recorded end.

        If the run is at work, those that are in flight now are among them.
        """
        return spend_of(self.records)

    @property
    def is_intact(self) -> bool:
        """Whether the records are numbered without gaps, and each reads as it was written."""
        return all(record.seq == number and record.is_intact for number, record in enumerate(self.records, start=1))

    def case(self) -> str:
        """The run as a case, which ``replays``, ``explore(start=…)`` and ``Runtime.what_if`` run again: an export that says so.

        It holds the input, the answers of models, results of tools, what people and programs said, faults, and when each came.

        Raises:
            UsageError: messages of it are kept no longer.
        """
        if any(record.data is None and record.kind in _HOLDS for record in self.records):
            raise UsageError(
                f"run {self.run.id!r}: its messages are kept no longer, so it cannot be run again.\n"
                "  Fix: capture runs before Retention(payload_s=…) has passed."
            )
        return attrs.evolve(self, is_case=True).export()

    def export(self) -> str:
        """The history as JSON Lines: the run, then each record, with its data exactly as it is stored. See :meth:`of_export`."""
        head: dict[str, Any] = {"understudy": FORMAT, "run": self.run.id}
        if self.is_case:
            head["case"] = True
        for name in ("graph", "version", "lives", "label", "parent", "parent_seq"):
            head[name] = getattr(self.run, name)
        head["fingerprint"] = self.run.fingerprint.hex()
        head["status"] = self.run.status.value
        for name in ("created", "ended", "deadline"):
            when: datetime | None = getattr(self.run, name)
            head[name] = None if when is None else when.isoformat()
        return "".join(f"{json.dumps(line)}\n" for line in [head, *map(_line_of, self.records)])

    @classmethod
    def of_export(cls, text: str) -> History:
        """The history that :meth:`export` has written; without its questions.

        Raises:
            UsageError: it is no such text; it says in which line.
        """
        number = 0
        try:
            lines = [line for line in text.split("\n") if line.strip()]
            head: Any = json.loads(lines[0]) if lines else {}
            if head.get("understudy") != FORMAT:
                raise UsageError(
                    f'this isn\'t the export of a run: its first line has no "understudy": {FORMAT}.\n'
                    "  Fix: write one with `understudy runs export ID --store FILE`."
                )
            records: list[Record] = []
            for number, line in enumerate(lines[1:], start=2):  # noqa: B007 - for the error below
                records.append(_record_of(head["run"], json.loads(line)))
            number = 1
            return cls(_run_of(head, len(records)), tuple(records), is_case=bool(head.get("case")))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise UsageError(
                f"line {number or 1} of the export isn't one of a run: {error!r}.\n  Fix: export the run again."
            ) from error


def _step_of(record: Record) -> str:
    """The path of the step that a record is about."""
    if record.kind in (RecordKind.EMITTED, RecordKind.FAILED, RecordKind.BEGAN, RecordKind.ANSWER):
        frame, end, own = record.path.rpartition(FRAME_END)
        return f"{frame}{end}{own.partition('#')[0]}"
    return record.path


def _node_of(path: str) -> str:
    parts = path.rpartition(FRAME_END)[2].split("/")
    return parts[-2] if len(parts) > 1 else path


def _ready_at(path: str, ended: dict[str, datetime], latest: datetime) -> datetime:
    """The end of the step that it took its message from; where that is not in its path, as of a join, the latest record."""
    place = path
    while "/" in place:
        place = place.rpartition("/")[0]
        if place in ended:
            return ended[place]
    return latest


def _finished(step: HistoryStep, record: Record, at: datetime) -> None:
    step.status, step.ended_at, step.error = StepStatus.DONE, at, None


def _stood_in(step: HistoryStep, record: Record, at: datetime) -> None:
    step.status, step.ended_at = StepStatus.DONE, at


def _emitted(step: HistoryStep, record: Record, at: datetime) -> None:
    step.items += 1


def _retracted(step: HistoryStep, record: Record, at: datetime) -> None:
    step.items = 0


def _ended(step: HistoryStep, record: Record, at: datetime) -> None:
    step.status, step.ended_at = (StepStatus.FAILED if step.error else StepStatus.CANCELLED), at


def _failed(step: HistoryStep, record: Record, at: datetime) -> None:
    told: Mapping[str, Any] = details_of(record) if record.is_intact else {}
    attempt = record.path.rpartition("#")[2]
    step.attempts = int(attempt) if attempt.isdecimal() else step.attempts
    step.error = str(told.get("error", ""))
    match told.get("then"):
        case "gave up":
            step.status, step.ended_at = StepStatus.FAILED, at
        case "fallback":
            step.status = StepStatus.FALLING_BACK
        case _:
            step.status, step.attempts = StepStatus.RETRYING, step.attempts + 1


_CHANGES: Final = {
    RecordKind.FINISHED: _finished,
    RecordKind.STOOD_IN: _stood_in,
    RecordKind.EMITTED: _emitted,
    RecordKind.RETRACTED: _retracted,
    RecordKind.ENDED: _ended,
    RecordKind.FAILED: _failed,
}


def _line_of(record: Record) -> dict[str, Any]:
    line: dict[str, Any] = {"seq": record.seq, "kind": record.kind.value, "path": record.path, "at": record.at}
    if record.data is None or record.data.isascii():
        line["data"] = None if record.data is None else record.data.decode("ascii")
    else:
        line["base64"] = base64.b64encode(record.data).decode("ascii")
    return {**line, "digest": record.digest.hex(), "inputs": record.inputs.hex(), "crc": record.crc}


def _record_of(run: str, line: Any) -> Record:
    data = base64.b64decode(line["base64"]) if "base64" in line else line["data"]
    return Record(
        run=run,
        seq=line["seq"],
        kind=RecordKind(line["kind"]),
        path=line["path"],
        at=float(line["at"]),
        data=data.encode("ascii") if isinstance(data, str) else data,
        digest=bytes.fromhex(line["digest"]),
        inputs=bytes.fromhex(line["inputs"]),
        crc=line["crc"],
    )


def _run_of(head: Any, last_seq: int) -> StoredRun:
    times = {name: None if head[name] is None else datetime.fromisoformat(head[name]) for name in ("ended", "deadline")}
    return StoredRun(
        id=head["run"],
        graph=head["graph"],
        version=head["version"],
        fingerprint=bytes.fromhex(head["fingerprint"]),
        status=StoredStatus(head["status"]),
        owner=None,
        last_seq=last_seq,
        lives=head["lives"],
        wake_at=None,
        deadline=times["deadline"],
        parent=head["parent"],
        parent_seq=head["parent_seq"],
        label=head["label"],
        created=datetime.fromisoformat(head["created"]),
        ended=times["ended"],
    )


async def history_of(store: Store, run_id: str) -> History | None:
    """What `store` has of a run; None if it has none of this id. Raises ``StoreError``."""
    run: StoredRun | None = await store.run(run_id)
    if run is None:
        return None
    records = [record async for record in store.read(run_id)]
    questions: Sequence[StoredQuestion] = await store.questions(run_id)
    return History(run, tuple(records), tuple(questions))
