"""Rows of a SQLite store: how records, runs, questions and schedules stand in it, sealed where there is a codec."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any, Final, TypeVar, final

import attrs

from actors.store_errors import StoreDamaged, StoreError, StoreTooNew
from actors.words import said
from runtime.journal.records import CODES, KINDS, Record
from runtime.journal.store import Codec, Posted, PostedKind, StoredQuestion, StoredRun, StoredSchedule, StoredStatus
from runtime.journal.told_events import ToldEvent

T = TypeVar("T")
Row = tuple[Any, ...]

RECORD: Final = "run, seq, kind, path, at, digest, inputs, data, crc"
RUN: Final = (
    "id, graph, version, fingerprint, status, owner, coalesce((select max(seq) from journal where run = runs.id), 0), lives, "
    "wake_at, deadline, parent, parent_seq, label, created, ended, left_by"
)
QUESTION: Final = "id, run, path, asks, answers, asked, due, addressee, answered"
SCHEDULE: Final = "name, graph, spec, zone, catch_up, message, next_at"
POSTED: Final = "run, kind, key, data, by, at, id"
TOLD: Final = "seq, name, inside, outside"

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)


def micros(when: datetime | None) -> int | None:
    """Microseconds since 1970 in UTC; a time without a zone is taken to be in UTC."""
    if when is None:
        return None
    return ((when if when.tzinfo is not None else when.replace(tzinfo=UTC)) - _EPOCH) // _MICROSECOND


def time_of(value: int | None) -> datetime | None:
    """The time that :func:`micros` has stored."""
    return None if value is None else _EPOCH + timedelta(microseconds=value)


@final
@attrs.frozen
class Sealing:
    """Values on their way in and out, through the codec if there is one.

    With a codec the digest, the checksum and the digest of the inputs are sealed as well: they would show a reader of the file
    whether a guess of the data is right. The checksum beside them is then that of the row as it is stored.
    """

    codec: Codec | None = None

    def row_of(self, record: Record) -> Row:
        """The columns of a record, in the order of :data:`RECORD`."""
        if self.codec is not None:
            record = self._sealed(record)
        return (
            record.run,
            record.seq,
            CODES[record.kind],
            record.path,
            record.at,
            record.digest,
            record.inputs,
            record.data,
            record.crc,
        )

    def record_of(self, row: Row) -> Record:
        """The record in a row. Raises ``StoreTooNew`` for an unknown kind, ``StoreDamaged`` for what cannot be unsealed."""
        run, seq, code, path, at, digest, inputs, data, crc = row
        if code not in KINDS:
            raise StoreTooNew(
                f"record {seq} of run {run!r} is of kind {code}, which this release does not know.\n"
                "  Fix: use the later release that has written it; the run is left as it is."
            )
        record = Record(run, seq, KINDS[code], path, at, data, digest, inputs, crc)
        return record if self.codec is None or not _is_intact(record) else self._unsealed(record)

    def crc_of(self, row: Row) -> int | None:
        """The checksum that the record in a row had when it was appended; None: the row is damaged."""
        try:
            return self.record_of(row).crc
        except StoreError:
            return None

    def seal(self, data: bytes | None, about: str) -> bytes | None:
        """`data` as it is stored. Raises ``StoreError``."""
        if self.codec is None or data is None:
            return data
        try:
            return self.codec.seal(data, about.encode("utf-8", "surrogatepass"))
        except Exception as error:
            raise StoreError(f"the store's codec could not seal {about!r}: {said(error)}\n  Fix: look at its seal().") from error

    def open(self, data: bytes | None, about: str) -> bytes | None:
        """The data that was stored as `data`. Raises ``StoreDamaged``."""
        if self.codec is None or data is None:
            return data
        try:
            return self.codec.open(data, about.encode("utf-8", "surrogatepass"))
        except Exception as error:
            raise StoreDamaged(
                f"the store's codec could not open {about!r}: {said(error)}\n  Fix: give it the key with which this was sealed."
            ) from error

    def without_data(self, row: Row) -> Row:
        """The row of a record, without its data."""
        bare = attrs.evolve(self.record_of(row), data=None)
        return self.row_of(attrs.evolve(bare, crc=bare.checksum()))

    def _sealed(self, record: Record) -> Record:
        about = _about(record)
        marks = record.digest + record.crc.to_bytes(4, "big") + record.inputs
        sealed = attrs.evolve(
            record, data=self.seal(record.data, about), digest=self.seal(marks, f"{about}\nmarks") or b"", inputs=b"", crc=0
        )
        return attrs.evolve(sealed, crc=sealed.checksum())

    def _unsealed(self, record: Record) -> Record:
        about = _about(record)
        try:
            marks = self.open(record.digest, f"{about}\nmarks") or b""
            data = self.open(record.data, about)
        except StoreDamaged as error:
            error.run_id, error.seq = record.run, record.seq
            raise
        return attrs.evolve(record, data=data, digest=marks[:8], crc=int.from_bytes(marks[8:12], "big"), inputs=marks[12:])

    # --- the other tables -------------------------------------------------------------------------------------------------

    def question_row(self, question: StoredQuestion) -> Row:
        """The columns of :data:`QUESTION`."""
        return (
            question.id,
            question.run,
            question.path,
            self.seal(question.asks, f"question\n{question.id}"),
            json.dumps(question.answers),
            micros(question.asked),
            micros(question.due),
            question.to,
            micros(question.answered),
        )

    def question_of(self, row: Row) -> StoredQuestion:
        """The question in a row."""
        key, run, path, asks, answers, asked, due, to, answered = row
        return StoredQuestion(
            key,
            run,
            path,
            self.open(asks, f"question\n{key}"),
            tuple(json.loads(answers)),
            time_of(asked) or _EPOCH,
            time_of(due),
            to,
            time_of(answered),
        )

    def schedule_row(self, schedule: StoredSchedule) -> Row:
        """The columns of :data:`SCHEDULE`."""
        message = self.seal(schedule.message, f"schedule\n{schedule.name}")
        return (
            schedule.name,
            schedule.graph,
            schedule.spec,
            schedule.zone,
            schedule.catch_up,
            message,
            micros(schedule.next_at),
        )

    def schedule_of(self, row: Row) -> StoredSchedule:
        """The schedule in a row."""
        name, graph, spec, zone, catch_up, message, next_at = row
        opened = self.open(message, f"schedule\n{name}") or b""
        return StoredSchedule(name, graph, spec, zone, catch_up, opened, time_of(next_at))

    def posted_row(self, item: Posted, at: datetime) -> Row:
        """The columns of :data:`POSTED` but the last."""
        data = self.seal(item.data, f"posted\n{item.run}\n{item.kind.value}\n{item.key}")
        return (item.run, item.kind.value, item.key, data, item.by, micros(at))

    def posted_of(self, row: Row) -> Posted:
        """What was posted in a row."""
        run, kind, key, data, by, at, number = row
        return Posted(run, PostedKind(kind), key, self.open(data, f"posted\n{run}\n{kind}\n{key}"), by, time_of(at), number)

    def told_row(self, run: str, event: ToldEvent) -> Row:
        """The columns of :data:`TOLD`."""
        inside = self.seal(event.inside, f"told\n{run}\n{event.seq}")
        return event.seq, event.name, inside, self.seal(event.outside, f"told\n{run}\n{event.seq}\noutside")

    def told_of(self, run: str, row: Row) -> ToldEvent:
        """The event in a row."""
        seq, name, inside, outside = row
        opened = self.open(inside, f"told\n{run}\n{seq}") or b""
        return ToldEvent(seq, name, opened, self.open(outside, f"told\n{run}\n{seq}\noutside"))


def run_of(row: Row) -> StoredRun:
    """The run in a row with the columns of :data:`RUN`."""
    return StoredRun(
        id=row[0],
        graph=row[1],
        version=row[2],
        fingerprint=row[3],
        status=StoredStatus(row[4]),
        owner=row[5],
        last_seq=row[6],
        lives=row[7],
        wake_at=time_of(row[8]),
        deadline=time_of(row[9]),
        parent=row[10],
        parent_seq=row[11],
        label=row[12],
        created=time_of(row[13]) or _EPOCH,
        ended=time_of(row[14]),
        left_by=row[15],
    )


def one(db: sqlite3.Connection, sql: str, values: Row, made: Callable[[Row], T]) -> T | None:
    """What the first row of an answer holds; None: there is none."""
    row = db.execute(sql, values).fetchone()
    return None if row is None else made(row)


def _about(record: Record) -> str:
    return f"{record.run}\n{record.seq}\n{record.kind.value}"


def _is_intact(record: Record) -> bool:
    try:
        return record.is_intact
    except (AttributeError, TypeError, ValueError):  # a flipped bit has changed the type of a column
        return False
