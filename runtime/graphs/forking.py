"""Forks: the records of a run up to some step, or with another result for one, as those of a new run. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final, final

from actors.errors import UsageError
from actors.words import repr_of
from runtime.graphs.adopting import Adoption, Terrain, effective, in_order, is_of_step, order_of, step_of
from runtime.graphs.records.inner_runs import graph_in, result_of
from runtime.graphs.records.journaling import FRAME_END
from runtime.graphs.records.resuming import is_told, read_input
from runtime.graphs.records.stored_answers import ANSWERED, answer_data
from runtime.graphs.runs.terms import terms_of
from runtime.journal.records import Record, RecordKind

_OF_ONE_LIFE: Final = frozenset(
    {
        RecordKind.CALLED,
        RecordKind.FAILED,
        RecordKind.PARKED,
        RecordKind.RESUMED,
        RecordKind.FORKED,
        RecordKind.ADOPTED,
        RecordKind.OVER,
        RecordKind.RELEASED,
        RecordKind.UNANSWERED,
    }
)
"""What tells of the lives of a run, and is not copied: a fork has none yet."""
_RESULTS: Final = frozenset({RecordKind.FINISHED, RecordKind.STOOD_IN, RecordKind.ANSWERED})
_MOST_LISTED: Final = 20


def forked(
    run_id: str,
    new_id: str,
    records: Sequence[Record],
    terrain: Terrain,
    before: Sequence[str],
    edit: Mapping[str, Any],
) -> list[Record]:
    """The records of the fork `new_id`, of those of `run_id`, which are intact.

    Raises:
        UsageError: `before` or `edit` names no step of the run. NotStorable: a message has no JSON.
        RunUndecodable: a record cannot be read as its type any more. RunChanged: the graph takes another input.
    """
    terms = terms_of(records).of_fork().written()
    copy = _Copy([each for each in effective(records)[0] if each.kind not in _OF_ONE_LIFE], terrain)
    for path in before:
        copy.drop(path)
    for path, message in edit.items():
        copy.put(path, message)
    kept = copy.kept()
    told = {"run": run_id, "records": len(records), "before": list(before), "edited": list(edit)}
    at = records[-1].at
    made = [
        Record.of(new_id, seq, each.kind, each.path if seq > 1 else terms, each.at, each.data, each.inputs)
        for seq, each in enumerate(kept, start=1)
    ]
    return [*made, Record.of(new_id, len(made) + 1, RecordKind.FORKED, "", at, json.dumps(told).encode())]


@final
class _Copy:
    """The records of a run that are about to be copied."""

    def __init__(self, records: list[Record], terrain: Terrain) -> None:
        self._records = records
        self._terrain = terrain
        self._steps: dict[str, str] = {}
        """Steps by their paths in the trace: where each is in the records, the runs around it before it."""
        for record in records[1:]:
            if record.kind in (RecordKind.SIGNALLED, RecordKind.WITHDRAWN, RecordKind.GIVEN):
                continue
            frame, end, _ = record.path.rpartition(FRAME_END)
            self._steps[step_of(record)] = f"{frame}{end}{step_of(record)}"
        self._edited: dict[int, str] = {}
        """By the numbers of the records that hold them."""

    def drop(self, path: str) -> None:
        """Forget what a step made, and what was bought for it."""
        whole = self._whole(path, "before")
        self._open_around(whole)
        self._records = [record for record in self._records if not is_of_step(record, whole)]

    def put(self, path: str, message: Any) -> None:
        """Let a step, or item ``step#index`` of one, have made `message`."""
        step, is_item, _ = path.partition("#")
        whole = self._whole(step, "edit")
        codec = self._terrain_of(whole).codec
        data = codec.encode(message)
        self._open_around(whole)
        wanted = whole + path[len(step) :]
        for at, record in enumerate(self._records):
            if record.path == wanted and is_told(record) and record.kind in ({RecordKind.EMITTED} if is_item else _RESULTS):
                data = answer_data(ANSWERED, data) if record.kind is RecordKind.ANSWERED else data
                self._records[at] = Record.of(record.run, record.seq, record.kind, record.path, record.at, data, record.inputs)
                self._edited[record.seq] = path
                return
        if is_item:
            raise self._no_such(path, "edit")
        last = self._records[-1]
        seq = max(record.seq for record in self._records) + 1  # by hand, for a step that has made nothing
        self._records.append(Record.of(last.run, seq, RecordKind.FINISHED, wanted, last.at, data))
        self._edited[seq] = path

    def kept(self) -> list[Record]:
        """The records that the fork has."""
        first = self._records[0]
        message = read_input(self._terrain.codec, first)
        adoption = Adoption(first.run, self._terrain, self._records, message, 0.0, adopt=False)
        report = adoption.report
        told = {seq for level in report.told for seq in level}
        for seq, path in self._edited.items():
            if seq not in told:
                raise UsageError(
                    f"fork(edit={{{path!r}: …}}): nothing would come of it: the run does not come to that step any more.\n"
                    "  Fix: edit the last of the steps only; those behind it run again."
                )
        gone = {*report.again, *report.dropped}
        return [each for each in in_order(self._records, order_of(self._records, report)) if self._stays(each, adoption, gone)]

    def _stays(self, record: Record, adoption: Adoption, gone: set[str]) -> bool:
        if record.kind in (RecordKind.STARTED, RecordKind.SIGNALLED, RecordKind.WITHDRAWN, RecordKind.GIVEN):
            return True
        if record.kind is RecordKind.ASKED:  # the question has the id of its run: a fork asks its own
            return False
        frame, end, _ = record.path.rpartition(FRAME_END)
        if frame.rpartition(FRAME_END)[2].startswith("?"):
            return True  # a node that others depend on
        whole = f"{frame}{end}{step_of(record)}"
        return whole in adoption.seen and whole not in gone

    def _open_around(self, whole: str) -> None:
        """The runs around a step have not ended: nor have the steps that they work for."""
        parts = whole.split(FRAME_END)[:-1]
        around: set[str | None] = {FRAME_END.join([*parts[:at], part.partition("#")[0]]) for at, part in enumerate(parts)}
        around |= {result_of(FRAME_END.join(parts[: at + 1])) for at in range(len(parts))}
        self._records = [record for record in self._records if record.path not in around]

    def _terrain_of(self, whole: str) -> Terrain:
        terrain = self._terrain
        for part in whole.split(FRAME_END)[:-1]:
            node = part.split("/")[-2].partition("@")[0]
            spec = terrain.routing.plan.nodes.get(node)
            graph = None if spec is None else graph_in(spec, part)
            if graph is None:
                return terrain
            terrain = Terrain.of(graph)
        return terrain

    def _whole(self, path: str, option: str) -> str:
        found = self._steps.get(path)
        if found is None and option == "edit" and self._is_possible(path):
            return path
        if found is None:
            raise self._no_such(path, option)
        return found

    def _is_possible(self, path: str) -> bool:
        """Whether a step that has recorded nothing may have this path."""
        parts = path.split("/")
        return (
            len(parts) > 2 and parts[0] == self._terrain.name and parts[-2].partition("@")[0] in self._terrain.routing.plan.nodes
        )

    def _no_such(self, path: object, option: str) -> UsageError:
        known = ", ".join(list(self._steps)[:_MOST_LISTED]) or "none"
        return UsageError(
            f"fork({option}={repr_of(path)}): the run has recorded nothing of such a step. Recorded: {known}.\n"
            "  Fix: give the path of a step as handle.trace and the history of the run have it."
        )
