"""Appending to journals in PostgreSQL: one task and one connection for all runs of a process, one statement for what waits."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Final, final

import attrs
import trio

from actors.store_errors import RecordTooLarge, RunLost, StoreDamaged, StoreError, StoreUnavailable
from actors.words import said
from runtime.journal import postgres_values as values
from runtime.journal.postgres_pool import ConnectionPool
from runtime.journal.postgres_wire import ConnectionLost, PostgresConnection, Rejected, StatementResult
from runtime.journal.records import CODES, MAX_RECORD_BYTES, MAX_RUN_BYTES, Record, RecordKind
from runtime.journal.store import Codec, Done, StoredQuestion

MAX_BATCH_ROWS: Final = 500
MAX_BATCH_BYTES: Final = 4 * 2**20
MAX_WAITING_ROWS: Final = 10_000
MAX_UNSYNCED_ROWS: Final = 2_000
"""So many rows are written without waiting for the server's disk before one commit waits, and with it all of them."""

Outcome = StoreError | RunLost | None

FENCE: Final = """
with w as (
    select set_config('synchronous_commit',
        case when $3::bool then coalesce(nullif(current_setting('synchronous_commit'), 'off'), 'on') else 'off' end, true)
    from {s}.workers where id = $1::text and epoch = $2::int for share)"""
"""$1 is the worker, $2 its epoch, $3 whether to wait for the server's disk. Without such a worker ``w`` has no row."""
COLUMNS: Final = "run, seq, kind, path, at, digest, inputs, data, crc"
_ROWS: Final = f"""
insert into {{s}}.journal({COLUMNS})
select * from unnest(
    $4::text[], $5::int[], $6::int2[], $7::text[], $8::float8[], $9::bytea[], $10::bytea[], $11::bytea[], $12::int8[])
where exists (select from w)"""

APPEND: Final = FENCE + _ROWS
"""The fence and the rows. A take-over changes the worker's row, and so waits for this; this then finds another epoch."""

_APPEND_MORE: Final = f"""{FENCE},
rows as ({_ROWS} returning 1),
asking as (
    insert into {{s}}.questions(id, run, path, asks, answers, asked, due, addressee)
    select $13::text, $14::text, $15::text, $16::bytea, $17::text[], $18::timestamptz, $19::timestamptz, $20::text
    where $13::text is not null and exists (select from w) on conflict (id) do nothing),
answering as (
    update {{s}}.questions set answered = now() where id = $21::text and answered is null and exists (select from w)),
ending as (
    update {{s}}.runs r set status = case e.status when '' then r.status else e.status end,
        version = case e.status when '' then e.version else r.version end,
        owner = case e.status when '' then r.owner end, left_by = case e.status when '' then r.left_by end,
        wake_at = case e.status when '' then r.wake_at end,
        ended = case when e.status in ('', 'parked') then r.ended else now() end
    from unnest($22::text[], $23::text[], $24::text[]) e(id, status, version) where r.id = e.id and exists (select from w)),
striking as (
    update {{s}}.questions q set answered = now() from unnest($22::text[], $23::text[]) e(id, status)
    where q.run = e.id and e.status not in ('', 'parked') and q.answered is null and exists (select from w))
select 1 from rows"""
"""The same with a question to list or to strike out, with runs that end, and with runs that another version has adopted."""

_FIND: Final = """
select j.run, j.seq, j.crc from {s}.journal j join unnest($1::text[], $2::int[]) w(run, seq) on j.run = w.run and j.seq = w.seq"""


def columns(rows: Sequence[Record], sealed: Sequence[bytes | None]) -> list[values.Packed]:
    """The parameters for `rows`: an array for each column."""
    return [
        values.texts(row.run for row in rows),
        values.ints([row.seq for row in rows]),
        values.shorts([CODES[row.kind] for row in rows]),
        values.texts(row.path for row in rows),
        values.floats([row.at for row in rows]),
        values.blobs(row.digest for row in rows),
        values.blobs(row.inputs for row in rows),
        values.blobs(sealed),
        values.longs([row.crc for row in rows]),
    ]


def about(row: Record) -> bytes:
    """What sealed data is bound to."""
    return f"{row.run}\n{row.seq}\n{row.kind.value}".encode("utf-8", "surrogatepass")


def seal(codec: Codec | None, rows: Sequence[Record]) -> list[bytes | None]:
    """The data of `rows` as it is written. Raises ``StoreError``."""
    for row in rows:
        if row.data is not None and len(row.data) > MAX_RECORD_BYTES:
            raise RecordTooLarge(
                f"a record of {len(row.data):,} bytes at {row.path!r} of run {row.run!r}, and {MAX_RECORD_BYTES:,} is the most.\n"
                "  Fix: put the large value elsewhere, and its name into the message.",
                size=len(row.data),
                limit=MAX_RECORD_BYTES,
            )
    if codec is None:
        return [row.data for row in rows]
    try:
        return [None if row.data is None else codec.seal(row.data, about(row)) for row in rows]
    except Exception as error:
        raise StoreError(f"the store's codec could not seal a record: {said(error)}") from error


@final
@attrs.define(eq=False)
class HeldRun:
    """A run that this worker has."""

    last_seq: int
    """Of what is stored or waits to be."""
    life: int
    """How many times it was taken up, this time included."""
    size: int = 0
    """The bytes of its data, as far as this life has read and written them."""
    seen: set[int] = attrs.field(factory=set[int])
    """What of its inbox was handed out."""
    broken: StoreError | RunLost | None = None
    """Why the record behind ``last_seq`` was not stored: nothing is stored behind a gap."""


@final
@attrs.define(eq=False)
class _Append:
    """Rows that wait, and whom to tell."""

    rows: Sequence[Record]
    sealed: Sequence[bytes | None]
    sync: bool
    done: Done
    question: StoredQuestion | None = None
    answered: str | None = None
    rejected: Outcome = None
    """Known before it is its turn; it is told in its turn all the same."""
    is_adrift: bool = False
    """Its run is not this worker's: it is only looked for, as the last word of a run that has ended with it."""
    written: trio.Event | None = None

    @property
    def size(self) -> int:
        return sum(len(data) for data in self.sealed if data is not None)

    @property
    def ends(self) -> list[Record]:
        return [row for row in self.rows if row.kind in (RecordKind.OVER, RecordKind.PARKED)]

    @property
    def is_plain(self) -> bool:
        return self.question is None and self.answered is None and not self.changes

    @property
    def changes(self) -> list[Record]:
        """What changes its run's row: of each run the last word, since one statement can change a row once."""
        kinds = (RecordKind.OVER, RecordKind.PARKED, RecordKind.ADOPTED)
        return list({row.run: row for row in self.rows if row.kind in kinds}.values())


@final
class PostgresWriter:
    """Writes what is appended, in order, for one worker."""

    def __init__(
        self,
        pool: ConnectionPool,
        worker: str,
        epoch: int,
        sync: str,
        codec: Codec | None,
        *,
        held: Mapping[str, HeldRun],
        ended: Callable[[str], None],
        lose: Callable[[], None],
    ) -> None:
        self._pool = pool
        self._worker = worker
        self._epoch = epoch
        self._sync = sync
        self._codec = codec
        self._held = held
        self._ended = ended
        self._lose = lose
        self._connection: PostgresConnection | None = None
        self._queue: deque[_Append] = deque()
        self._wake = trio.Event()
        self._unsynced: list[_Append] = []
        self._unsynced_rows = 0
        """How many rows these have, or more: those of a run that parts are not counted off."""
        self._lost: RunLost | None = None
        self._has_ended = False
        self.rows_waiting = 0
        self.rows_written = 0
        self.commits = 0

    def append(
        self, rows: Sequence[Record], sync: bool, done: Done, question: StoredQuestion | None, answered: str | None
    ) -> None:
        """See ``Store.append``."""
        append = _Append(rows, (), sync, done, question, answered)
        try:
            append.sealed = seal(self._codec, rows)
            if self.rows_waiting + len(rows) > MAX_WAITING_ROWS:
                raise StoreUnavailable(f"{self.rows_waiting:,} records wait to be written to the store already.")
            self._admit(append)
        except (StoreError, RunLost) as error:
            append.rejected = error
            self._break(append, error)
        self._put(append)

    def _admit(self, append: _Append) -> None:
        """Note that its rows are next in their runs, or raise what they are instead."""
        if self._lost is not None:
            raise self._lost
        for row in append.rows:
            held = self._held.get(row.run)
            if held is None:
                append.is_adrift = True
                continue
            if row.seq > held.last_seq + 1:
                raise held.broken or StoreDamaged(
                    f"record {row.seq} of run {row.run!r} came before record {held.last_seq + 1}.", run_id=row.run, seq=row.seq
                )
            if row.seq == held.last_seq + 1:
                held.broken = None
                held.last_seq = row.seq
                held.size += len(row.data or b"")
                if held.size > MAX_RUN_BYTES:
                    raise RecordTooLarge(
                        f"the records of run {row.run!r} are larger than {MAX_RUN_BYTES:,} bytes.\n"
                        "  Fix: put large values elsewhere, and their names into messages.",
                        size=held.size,
                        limit=MAX_RUN_BYTES,
                    )

    async def flushed(self) -> None:
        """Wait until everything appended before is written or rejected."""
        written = trio.Event()
        self._put(_Append((), (), False, lambda _: None, written=written))
        await written.wait()

    def part(self, run: str) -> None:
        """The run is given up or deleted, durably and so with all of its records: no record of it is ever written again."""
        self._unsynced = [append for append in self._unsynced if all(row.run != run for row in append.rows)]

    async def run(self) -> None:
        """Write until cancelled; then no one is left waiting for what was not written."""
        batch: list[_Append] = []
        try:
            while True:
                if not self._queue:
                    self._wake = trio.Event()
                    await self._wake.wait()
                batch = self._batch()
                outcomes = await self._write(batch)
                told, batch = batch, []
                self._tell(told, outcomes)
        finally:
            self._has_ended = True
            if self._connection is not None:
                self._connection.close()
            left = [*batch, *self._queue]
            self._queue.clear()
            self._tell(left, [self._too_late(append) for append in left])

    def _too_late(self, append: _Append) -> Outcome:
        error = StoreUnavailable("the store was closed before it could write this.\n  Fix: open it again, in a new runtime.")
        return append.rejected or (error if append.rows else None)

    def _put(self, append: _Append) -> None:
        self.rows_waiting += len(append.rows)
        if self._has_ended:
            self._tell([append], [self._too_late(append)])
            return
        self._queue.append(append)
        self._wake.set()

    def _batch(self) -> list[_Append]:
        batch: list[_Append] = []
        rows = size = 0
        while self._queue:
            append = self._queue[0]
            rows += len(append.rows)
            size += append.size
            if batch and (rows > MAX_BATCH_ROWS or size > MAX_BATCH_BYTES or not append.is_plain or not batch[-1].is_plain):
                break
            batch.append(self._queue.popleft())
        return batch

    def _tell(self, batch: Sequence[_Append], outcomes: Sequence[Outcome]) -> None:
        told = list(zip(batch, outcomes, strict=True))
        away = next((each for append, each in told if isinstance(each, StoreUnavailable) and each is not append.rejected), None)
        if away is not None:  # none of those behind may be written before these are
            told += [(append, append.rejected or away) for append in self._queue]
            self._queue.clear()
        for append, outcome in told:
            self.rows_waiting -= len(append.rows)
            if outcome is not None:
                self._break(append, outcome)
        for append, outcome in told:
            if outcome is None:
                for end in append.ends:
                    self._ended(end.run)
            if append.written is not None:
                append.written.set()
            append.done(outcome)

    def _break(self, append: _Append, error: StoreError | RunLost) -> None:
        """Nothing of `append` is stored: its runs go back to before it."""
        if isinstance(error, RunLost):
            return
        for row in append.rows:
            held = self._held.get(row.run)
            if held is not None and row.seq <= held.last_seq + 1:
                held.size -= len(row.data or b"") if row.seq <= held.last_seq else 0
                held.last_seq, held.broken = row.seq - 1, error

    def _behind_a_gap(self, append: _Append) -> StoreError | RunLost | None:
        """Why an earlier record of a run of its was not stored."""
        if self._lost is not None:
            return self._lost
        found = [held for row in append.rows if (held := self._held.get(row.run)) is not None and row.seq > held.last_seq]
        return next((held.broken for held in found if held.broken is not None), None)

    async def _write(self, batch: Sequence[_Append]) -> list[Outcome]:
        """The outcome of each: from the server, or why there is none."""
        failure: StoreError | None = None
        for _ in range(2):
            try:
                if any(append.rejected is None and append.rows for append in batch):
                    await self._connect()
                for append in batch:
                    append.rejected = append.rejected or self._behind_a_gap(append)
                wanted = [append for append in batch if append.rejected is None and append.rows]
                if not wanted:
                    return [append.rejected for append in batch]
                found = dict(zip(map(id, wanted), await self._insert(wanted), strict=True))
                return [append.rejected or found.get(id(append)) for append in batch]
            except ConnectionLost as error:  # it may have been written or not: the same again finds out
                failure = error
            except StoreError as error:
                failure = error
                break
        if isinstance(failure, Rejected) and len(batch) > 1:  # one of them is wrong, and the others have no part in it
            return await self._one_by_one(batch)
        return [append.rejected or (failure if append.rows else None) for append in batch]

    async def _one_by_one(self, batch: Sequence[_Append]) -> list[Outcome]:
        outcomes: list[Outcome] = []
        for append in batch:
            (outcome,) = await self._write([append])
            if outcome is not None:
                self._break(append, outcome)
            outcomes.append(outcome)
        return outcomes

    async def _connect(self) -> None:
        if self._connection is None or not self._connection.is_open:
            self._connection = await self._pool.connect()
            await self._restore()

    async def _restore(self) -> None:
        """Write again what a server may have lost, stopping before its disk had it: a record behind it would leave a gap."""
        unsynced, self._unsynced = self._unsynced, []
        try:
            outcomes = await self._insert_missing(unsynced) if unsynced else []
        finally:
            self._unsynced = unsynced
        for append, outcome in zip(unsynced, outcomes, strict=True):
            if outcome is not None:
                self._break(append, outcome)

    async def _insert(self, batch: Sequence[_Append]) -> list[Outcome]:
        if any(append.is_adrift for append in batch):
            return await self._insert_missing(batch)
        try:
            return await self._send(batch)
        except Rejected as error:
            if error.sqlstate != "23505":
                raise
        return await self._insert_missing(batch)

    async def _insert_missing(self, batch: Sequence[_Append]) -> list[Outcome]:
        """Some rows are there already: the same ones count as written, others are another worker's."""
        rows = [row for append in batch for row in append.rows]
        answer = await self._run(_FIND, values.texts(row.run for row in rows), values.ints([row.seq for row in rows]))
        there = {(run, seq): crc for run, seq, crc in answer.rows}
        outcomes: list[Outcome] = []
        for append in batch:
            theirs = [row for row in append.rows if there.get((row.run, row.seq), row.crc) != row.crc]
            outcomes.append(self._taken(theirs[0]) if theirs else None)
            missing = [number for number, row in enumerate(append.rows) if (row.run, row.seq) not in there]
            if missing and append.is_adrift:
                outcomes[-1] = RunLost(f"this worker does not have run {append.rows[missing[0]].run!r} any more.")
            elif missing and not theirs:
                rest = attrs.evolve(
                    append, rows=[append.rows[number] for number in missing], sealed=[append.sealed[number] for number in missing]
                )
                (outcomes[-1],) = await self._send([rest])
        return outcomes

    def _taken(self, row: Record) -> RunLost:
        error = RunLost(
            f"another record {row.seq} of run {row.run!r} is there.\n  Fix: nothing; anyone who has the run goes on with it."
        )
        held = self._held.get(row.run)
        if held is not None:
            held.last_seq, held.broken = row.seq, error
        return error

    async def _send(self, batch: Sequence[_Append]) -> list[Outcome]:
        rows = [row for append in batch for row in append.rows]
        late = self._unsynced_rows + len(rows) > MAX_UNSYNCED_ROWS
        sync = late or self._sync == "always" or (self._sync == "paid" and any(append.sync for append in batch))
        try:
            row_columns = columns(rows, [data for append in batch for data in append.sealed])
        except Exception as error:  # a row that is none must not stop the others
            raise Rejected(f"a record cannot be written: {said(error)}") from error
        given: list[values.Value] = [self._worker, self._epoch, sync, *row_columns]
        if len(batch) == 1 and not batch[0].is_plain:
            answer = await self._run(_APPEND_MORE, *given, *_more(batch[0]))
        else:
            answer = await self._run(APPEND, *given)
        self.commits += 1
        if answer.count < len(rows):
            return [self._fenced()] * len(batch)
        self.rows_written += len(rows)
        if sync:
            self._unsynced.clear()
            self._unsynced_rows = 0
        else:
            self._unsynced.extend(batch)
            self._unsynced_rows += len(rows)
        return [None] * len(batch)

    async def _run(self, statement: str, *given: values.Value) -> StatementResult:
        assert self._connection is not None, "connected before anything is sent"
        return await self._connection.run(self._pool.text(statement), *given, prepare=True)

    def _fenced(self) -> RunLost:
        if self._lost is None:
            self._lost = RunLost(f"the lease of worker {self._worker!r} has ended: others have taken its runs over.")
            self._lose()
        return self._lost


def _more(append: _Append) -> list[values.Value]:
    question = append.question
    asked: list[values.Value] = [None] * 8
    if question is not None:
        due: datetime | None = question.due
        answers = values.texts(question.answers)
        asked = [question.id, question.run, question.path, question.asks, answers, question.asked, due, question.to]
    changes = append.changes
    statuses = [_STATUS.get(row.kind, row.path) for row in changes]
    versions = [row.path for row in changes]
    runs = values.texts(row.run for row in changes)
    return [*asked, append.answered, runs, values.texts(statuses), values.texts(versions)]


_STATUS: Final = {RecordKind.PARKED: "parked", RecordKind.ADOPTED: ""}
