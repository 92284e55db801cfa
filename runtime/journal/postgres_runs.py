"""The runs of a store in PostgreSQL: created, claimed, given up, listed, copied, forgotten."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final, final

import attrs

from actors.store_errors import RecordTooLarge, StoreDamaged, StoreError, StoreUnavailable
from actors.words import repr_of, said
from runtime.journal import postgres_values as values
from runtime.journal.lease import HeldLease
from runtime.journal.postgres_pool import ConnectionPool
from runtime.journal.postgres_wire import ConnectionLost, PostgresConnection, StatementResult
from runtime.journal.postgres_writer import COLUMNS, FENCE, MAX_BATCH_BYTES, HeldRun, about, columns, seal
from runtime.journal.records import KINDS, MAX_RUN_BYTES, Record
from runtime.journal.store import Codec, Created, Existing, NewRun, Page, RunQuery, StoredRun, StoredStatus

MAX_NAME_BYTES: Final = 1_000
"""Of an id or a key: an index of PostgreSQL holds no more than 2,700 bytes a row."""
_READ_ROWS: Final = 500

_RUN: Final = """r.id, r.graph, r.version, r.fingerprint, r.status, r.owner,
    coalesce((select max(j.seq) from {s}.journal j where j.run = r.id), 0), r.lives, r.wake_at, r.deadline,
    r.parent, r.parent_seq, r.label, r.created, r.ended, r.left_by"""
_CREATE: Final = f"""{FENCE},
n as (
    insert into {{s}}.runs(
        id, graph, version, fingerprint, deadline, parent, parent_seq, label, status, owner, lives, wake_at, created)
    select $4::text, $5::text, $6::text, $7::bytea, $8::timestamptz, $9::text, $10::int, $11::text,
        case when $12::bool then 'running' else 'ready' end, case when $12::bool then $1::text end,
        case when $12::bool then 1 else 0 end, case when $12::bool then null else now() end, now()
    where exists (select from w) on conflict (id) do nothing
    returning id, graph, version, fingerprint, status, owner, 1, lives, wake_at, deadline,
        parent, parent_seq, label, created, ended),
j as (
    insert into {{s}}.journal({COLUMNS})
    select u.* from unnest(
        $13::text[], $14::int[], $15::int2[], $16::text[], $17::float8[], $18::bytea[], $19::bytea[], $20::bytea[], $21::int8[]
    ) u where exists (select from n)),
p as (select case when $12::bool then null else pg_notify($22::text, '') end from n)
select exists (select from w), (select count(*) from p), n.* from (values (1)) one left join n on true"""
_MORE: Final = f"""
insert into {{s}}.journal({COLUMNS})
select * from unnest(
    $1::text[], $2::int[], $3::int2[], $4::text[], $5::float8[], $6::bytea[], $7::bytea[], $8::bytea[], $9::int8[])"""
_CLAIM: Final = f"""{FENCE},
due as (
    select id, wake_at from {{s}}.runs
    where owner is null and status in ('ready', 'waiting') and wake_at <= now()
    and (graph, version) in (select * from unnest($4::text[], $5::text[])) and exists (select from w)
    order by wake_at limit $6::int for update skip locked)
update {{s}}.runs r set owner = $1::text, status = 'running', lives = r.lives + 1, wake_at = null
from due where r.id = due.id returning {_RUN}, due.wake_at"""
_TAKE: Final = f"""{FENCE}
update {{s}}.runs r set owner = $1::text, status = 'running', lives = r.lives + 1, wake_at = null, ended = null
where r.id = $4::text and r.owner is null and ($5::text is null or r.status = $5::text) and exists (select from w)
returning {_RUN}"""
_MISLAID: Final = f"""
select {_RUN} from {{s}}.runs r where r.owner = $1::text and not (r.id = any($2::text[]))"""
# What was posted since the worker last looked makes the run due now. Both sides change the run's row, and so wait for each other.
_RELEASE: Final = f"""{FENCE}
update {{s}}.runs set owner = null, left_by = null, status = $5::text,
    wake_at = case when posted > $7::bigint and $5::text in ('ready', 'waiting') then now() else $6::timestamptz end
where id = $4::text and owner = $1::text and lives = coalesce($8::int, lives) and exists (select from w)"""
_ONE: Final = f"select {_RUN} from {{s}}.runs r where r.id = $1::text"
_LIST: Final = f"""
select {_RUN} from {{s}}.runs r
where ($1::text is null or r.graph = $1::text) and ($2::text is null or r.status = $2::text)
and ($3::timestamptz is null or r.created > $3::timestamptz)
and ($4::text is null or strpos(chr(10) || r.label || chr(10), chr(10) || $4::text || chr(10)) > 0)
and ($5::timestamptz is null or (r.created, r.id) < ($5::timestamptz, $6::text))
order by r.created desc, r.id desc limit $7::int"""
_READ: Final = f"""
select {COLUMNS} from (
    select *, sum(octet_length(data)) over (order by seq) - coalesce(octet_length(data), 0) before
    from (select * from {{s}}.journal where run = $1::text and seq > $2::int order by seq limit $3::int) page
) counted where coalesce(before, 0) < $4::bigint order by seq"""
_FORGET: Final = """
with r as (delete from {s}.runs where id = $1::text and owner is null returning id),
j as (delete from {s}.journal where run in (select id from r))
select count(*), (select owner from {s}.runs where id = $1::text) from r"""
_EXPIRE: Final = """
with r as (
    delete from {s}.runs where owner is null and ended is not null
    and ((status = 'succeeded' and ended < $1::timestamptz) or (status in ('failed', 'cancelled') and ended < $2::timestamptz))
    returning id),
j as (delete from {s}.journal where run in (select id from r))
select count(*) from r"""
_TO_BARE: Final = """
select id from {s}.runs where owner is null and status in ('succeeded', 'failed', 'cancelled')
and ended < $1::timestamptz and not bare order by ended limit 100"""
_WITH_DATA: Final = f"""
select {COLUMNS.replace("data", "''::bytea")} from {{s}}.journal where run = $1::text and data is not null
order by seq limit 1000"""
_BARE: Final = """
update {s}.journal j set data = null, crc = u.crc from unnest($2::int[], $3::int8[]) u(seq, crc)
where j.run = $1::text and j.seq = u.seq"""
_BARED: Final = """
with b as (update {s}.runs set bare = true where id = $1::text and owner is null returning id)
delete from {s}.told where run in (select id from b)"""


@final
class Runs:
    """The runs, as one worker sees them or, before it has a lease, anybody."""

    def __init__(self, pool: ConnectionPool, sync: bool, codec: Codec | None) -> None:
        self.held: dict[str, HeldRun] = {}
        """The runs of this worker."""
        self.fresh: set[str] = set()
        """Those whose inbox has not been looked at since they were taken up."""
        self._pool = pool
        self.lease: HeldLease | None = None
        """Set when the store is opened."""
        self._sync = sync
        self._codec = codec
        self._mislaid = False

    async def create(self, run: NewRun, first: Record) -> Created | Existing:
        """See ``Store.create``."""
        check_name("the run id", run.id)
        answer = await self._writing(_CREATE, *self._new(run, first))
        belongs, _, *made = answer.rows[0]
        self._check(belongs)
        if made[0] is not None:
            return self._created(_stored(made))
        found, record = await self._known(run.id)
        if record.crc == first.crc and found.owner == self.worker and run.id not in self.held:
            return self._created(found)  # our own, whose acknowledgement was lost
        return Existing(found, record)

    async def fork(self, run: NewRun, records: Sequence[Record]) -> Created | Existing:
        """See ``Store.fork``."""
        check_name("the run id", run.id)
        if sum(len(record.data or b"") for record in records) > MAX_RUN_BYTES:
            raise RecordTooLarge(f"the records of run {run.id!r} are larger than {MAX_RUN_BYTES:,} bytes.", limit=MAX_RUN_BYTES)
        async with self._pool.transaction() as connection:
            new = self._new(attrs.evolve(run, here=False), records[0])
            answer = await connection.run(self._pool.text(_CREATE), *self._fence, *new)
            belongs, _, *made = answer.rows[0]
            self._check(belongs)
            for at in range(1, len(records), _READ_ROWS) if made[0] is not None else ():
                await self._copy(connection, records[at : at + _READ_ROWS])
        if made[0] is None:
            return Existing(*await self._known(run.id))
        return Created(attrs.evolve(_stored(made), last_seq=len(records)))

    async def _known(self, run: str) -> tuple[StoredRun, Record]:
        """A run that is there, with its first record."""
        found = await self.run(run)
        answer = await self._pool.read(_READ, run, 0, 1, MAX_BATCH_BYTES)
        if found is None or not answer.rows:
            raise StoreUnavailable(f"the run {run!r} was there and is deleted now.\n  Fix: start it again.")
        return found, self._record(answer.rows[0])

    async def claim(self, graphs: Collection[tuple[str, str]], limit: int) -> Sequence[StoredRun]:
        """See ``Store.claim``."""
        if self._mislaid:  # a claim whose answer was lost may have given us runs: these come first
            answer = await self._pool.read(_MISLAID, self.worker, values.texts(self.held))
            found = [run for run in map(_stored, answer.rows) if (run.graph, run.version) in graphs][:limit]
            self._mislaid = len(found) < len(answer.rows)
            if found:
                return [self._hold(run) for run in found]
        names, versions = [each[0] for each in graphs], [each[1] for each in graphs]
        answer = await self._writing(_CLAIM, values.texts(names), values.texts(versions), limit)
        return [self._hold(_stored(row)) for row in sorted(answer.rows, key=lambda row: row[-1])]

    async def take(self, run: str, only: StoredStatus | None) -> StoredRun | None:
        """See ``Store.take``."""
        answer = await self._writing(_TAKE, run, None if only is None else only.value)
        if answer.rows:
            return self._hold(_stored(answer.rows[0]))
        found = await self.run(run)
        if found is not None and found.owner == self.worker and run not in self.held:
            return self._hold(found)  # taken by the call whose answer was lost
        return None

    async def release(
        self, run: str, status: StoredStatus, wake_at: datetime | None, looked_at: int | None, life: int | None
    ) -> bool:
        """See ``Store.release``; False: this worker has taken it again meanwhile."""
        held = self.held.get(run)
        if looked_at is None:
            looked_at = 0 if held is None else len(held.seen)
        if life is None and held is not None:
            life = held.life
        await self._writing(_RELEASE, run, status.value, wake_at, looked_at, life)
        if held is not None and self.held.get(run) is held and life == held.life:  # not what was taken again meanwhile
            self.drop(run)
        return run not in self.held

    def drop(self, run: str) -> None:
        """The run is this worker's no more."""
        self.held.pop(run, None)
        self.fresh.discard(run)

    async def run(self, run: str) -> StoredRun | None:
        """See ``Store.run``."""
        answer = await self._pool.read(_ONE, run)
        return _stored(answer.rows[0]) if answer.rows else None

    async def page(self, query: RunQuery) -> Page[StoredRun]:
        """See ``Store.runs``."""
        created, last = (None, None) if query.after is None else _place(query.after)
        status = None if query.status is None else query.status.value
        answer = await self._pool.read(
            _LIST, query.graph, status, query.started_after, query.label, created, last, query.limit + 1
        )
        found = tuple(map(_stored, answer.rows))
        items = found[: query.limit]
        return Page(items, f"{_micros(items[-1].created)}:{items[-1].id}" if len(found) > len(items) and items else None)

    async def read(self, run: str, after: int = 0) -> AsyncIterator[Record]:
        """See ``Store.read``."""
        held, size = (self.held.get(run) if after == 0 else None), 0
        while True:
            answer = await self._pool.read(_READ, run, after, _READ_ROWS, MAX_BATCH_BYTES)
            for row in answer.rows:
                record = self._record(row)
                size += len(record.data or b"")
                yield record
            if not answer.rows:
                if held is not None:  # only now: one who wants the first records goes, and what comes meanwhile is counted
                    held.size = max(held.size, size)
                return
            after = answer.rows[-1][1]

    async def forget(self, run: str) -> bool:
        """See ``Store.forget``."""
        answer = await self._pool.write(_FORGET, run)
        count, owner = answer.rows[0]
        if owner is not None:
            raise StoreError(f"worker {owner!r} has run {run!r} at work.\n  Fix: cancel the run, and forget it when it is over.")
        return bool(count) or answer.is_second

    async def expire(self, done: datetime | None, failed: datetime | None, payload: datetime | None) -> int:
        """See ``Store.expire``."""
        answer = await self._pool.write(_EXPIRE, done, failed)
        while payload is not None:
            runs = await self._pool.read(_TO_BARE, payload)
            for (run,) in runs.rows:
                await self._bare(run)
            if not runs.rows:
                break
        return int(answer.rows[0][0])

    async def _bare(self, run: str) -> None:
        while True:
            answer = await self._pool.read(_WITH_DATA, run)
            bare = [attrs.evolve(_record(row), data=None) for row in answer.rows]
            if not bare:
                break
            checksums = values.longs([record.checksum() for record in bare])
            await self._pool.write(_BARE, run, values.ints([record.seq for record in bare]), checksums)
        await self._pool.write(_BARED, run)

    @property
    def mine(self) -> HeldLease:
        """The lease. Raises ``StoreError`` before there is one."""
        if self.lease is None:
            raise StoreError("the store in PostgreSQL was not opened.\n  Fix: give it to open_runtime(store=…).")
        return self.lease

    @property
    def worker(self) -> str:
        """This worker's name."""
        return self.mine.lease.worker

    @property
    def _fence(self) -> tuple[values.Value, ...]:
        return self.worker, self.mine.lease.epoch, self._sync

    def _new(self, run: NewRun, first: Record) -> list[values.Value]:
        return [
            *(run.id, run.graph, run.version, run.fingerprint, run.deadline, run.parent, run.parent_seq, run.label, run.here),
            *columns([first], seal(self._codec, [first])),
            self._pool.schema,
        ]

    async def _writing(self, statement: str, *given: values.Value) -> StatementResult:
        try:
            answer = await self._pool.write(statement, *self._fence, *given)
        except ConnectionLost:
            self._mislaid = True
            raise
        self._mislaid = self._mislaid or answer.is_second
        return answer

    def _check(self, belongs: bool) -> None:
        if not belongs:
            self.mine.lose()
            raise StoreError(f"the lease of worker {self.worker!r} has ended: it can create and take no runs any more.")

    def _created(self, run: StoredRun) -> Created:
        self.mine.told(run.created)
        return Created(self._hold(run) if run.owner == self.worker else run)

    def _hold(self, run: StoredRun) -> StoredRun:
        self.held[run.id] = HeldRun(run.last_seq, run.lives)
        self.fresh.add(run.id)
        return run

    async def _copy(self, connection: PostgresConnection, records: Sequence[Record]) -> None:
        await connection.run(self._pool.text(_MORE), *columns(records, seal(self._codec, records)))

    def _record(self, row: tuple[Any, ...]) -> Record:
        record = _record(row)
        if self._codec is None or record.data is None:
            return record
        try:
            return attrs.evolve(record, data=self._codec.open(record.data, about(record)))
        except Exception as error:
            raise StoreDamaged(
                f"record {record.seq} of run {record.run!r} could not be opened by the store's codec: {said(error)}",
                run_id=record.run,
                seq=record.seq,
            ) from error


def check_name(what: str, name: str) -> None:
    """Raise ``StoreError`` for an id or a key that no index holds."""
    size = len(values.text(name))
    if size > MAX_NAME_BYTES:
        raise StoreError(
            f"{what} {repr_of(name, 60)} has {size:,} bytes, and {MAX_NAME_BYTES:,} is the most.\n  Fix: choose a shorter one."
        )


def _record(row: tuple[Any, ...]) -> Record:
    run, seq, code, path, at, digest, inputs, data, crc = row
    kind = KINDS.get(code)
    if kind is None:
        raise StoreError(
            f"record {seq} of run {run!r} is of a kind that this release does not know ({code}).\n"
            "  Fix: upgrade understudy here, too."
        )
    return Record(run, seq, kind, path, at, data, digest, inputs, crc)


def _stored(row: Sequence[Any]) -> StoredRun:
    id, graph, version, fingerprint, status, *rest = row[:16]  # noqa: A001
    return StoredRun(id, graph, version, fingerprint, StoredStatus(status), *rest)


_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


def _micros(instant: datetime) -> int:
    return (instant - _EPOCH) // timedelta(microseconds=1)


def _place(after: str) -> tuple[datetime, str]:
    created, separator, run = after.partition(":")
    try:
        if separator:
            return _EPOCH + timedelta(microseconds=int(created)), run
    except (ValueError, OverflowError):
        pass
    raise StoreError(f"{repr_of(after)} is not where a page ends.\n  Fix: pass the `after` of the page before.")
