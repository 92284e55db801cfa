"""What is put into runs from outside, what people are asked, and what is started again and again, in PostgreSQL."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final, final

from actors.store_errors import StoreError
from actors.words import repr_of
from runtime.journal import postgres_values as values
from runtime.journal.postgres_pool import ConnectionPool
from runtime.journal.postgres_runs import Runs, check_name
from runtime.journal.store import Posted, PostedKind, StoredQuestion, StoredSchedule

_ITEM: Final = "i.run, i.kind, i.key, i.data, i.by, i.at, i.id"
# `posted` counts what has come: a worker that gives the run up tells how much it has seen (see `release`).
_POST: Final = """
with r as (select id from {s}.runs where id = $1::text),
i as (
    insert into {s}.inbox(run, kind, key, data, by, at)
    select id, $2::text, $3::text, $4::bytea, $5::text, now() from r on conflict (run, kind, key) do nothing returning id),
u as (
    update {s}.runs set posted = posted + 1,
        wake_at = case when owner is null and status = 'waiting' then now() else wake_at end
    where id = $1::text and exists (select from i)),
p as (select pg_notify($6::text, '') from i)
select exists (select from r), exists (select from i), (select count(*) from p)"""
_SAME: Final = """
select 1 from {s}.inbox where run = $1::text and kind = $2::text and key = $3::text
and data is not distinct from $4::bytea and by is not distinct from $5::text"""
# Rows are not committed in the order of their numbers: those of transactions that were at work last time are looked at again.
_POSTED: Final = f"""
select {_ITEM} from {{s}}.inbox i join {{s}}.runs r on r.id = i.run
where r.owner = $1::text and (i.tx >= $2::text::xid8 or i.run = any($3::text[])) order by i.id"""
_OLDEST: Final = "select pg_snapshot_xmin(pg_current_snapshot())"
_INBOX: Final = f"select {_ITEM} from {{s}}.inbox i where i.run = $1::text order by i.id"
_QUESTION: Final = "q.id, q.run, q.path, q.asks, q.answers, q.asked, q.due, q.addressee, q.answered"
_QUESTIONS: Final = f"""
select {_QUESTION} from {{s}}.questions q join {{s}}.runs r on r.id = q.run
where q.answered is null and r.status not in ('succeeded', 'failed', 'cancelled') and ($1::text is null or q.run = $1::text)
order by q.asked, q.id"""
_ONE_QUESTION: Final = f"select {_QUESTION} from {{s}}.questions q where q.id = $1::text"
_SCHEDULE: Final = """
insert into {s}.schedules(name, graph, spec, zone, catch_up, message, next_at)
values ($1::text, $2::text, $3::text, $4::text, $5::text, $6::bytea, $7::timestamptz)
on conflict (name) do update set graph = excluded.graph, spec = excluded.spec, zone = excluded.zone,
    catch_up = excluded.catch_up, message = excluded.message, next_at = excluded.next_at"""
_TICK: Final = """
update {s}.schedules set next_at = $3::timestamptz where name = $1::text and next_at is not distinct from $2::timestamptz"""


@final
class PostgresInbox:
    """What has been posted, as the worker sees it that has `runs`."""

    def __init__(self, pool: ConnectionPool, runs: Runs) -> None:
        self._pool = pool
        self._runs = runs
        self._from = 0
        """The oldest transaction that was at work when the inbox was last looked at."""

    async def post(self, item: Posted) -> bool:
        """See ``Store.post``."""
        check_name(f"the key of what is posted to run {repr_of(item.run, 60)},", item.key)
        given = (item.run, item.kind.value, item.key, item.data, item.by)
        answer = await self._pool.write(_POST, *given, self._pool.schema)
        is_known, is_new, _ = answer.rows[0]
        if not is_known:
            raise StoreError(f"no run {repr_of(item.run, 60)} is stored.\n  Fix: look for its id with `understudy runs list`.")
        if not is_new and answer.is_second:  # most likely it was the first time, whose acknowledgement was lost
            return bool((await self._pool.read(_SAME, *given)).rows)
        return bool(is_new)

    async def new(self) -> Sequence[Posted]:
        """What was posted to runs of this worker and not handed out yet."""
        fresh = set(self._runs.fresh)
        oldest = await self._pool.read(_OLDEST)
        answer = await self._pool.read(_POSTED, self._runs.worker, str(self._from), values.texts(fresh))
        self._from = oldest.rows[0][0]
        self._runs.fresh -= fresh
        return [item for item in map(_posted, answer.rows) if self._is_new(item)]

    async def of(self, run: str) -> Sequence[Posted]:
        """See ``Store.inbox``."""
        answer = await self._pool.read(_INBOX, run)
        items = [_posted(row) for row in answer.rows]
        for item in items:
            self._is_new(item)
        return items

    def _is_new(self, item: Posted) -> bool:
        """Whether this worker has its run and has not handed it out; from now on it has."""
        held = self._runs.held.get(item.run)
        if held is None or item.id in held.seen:
            return False
        held.seen.add(item.id)
        return True

    async def questions(self, run: str | None) -> Sequence[StoredQuestion]:
        """See ``Store.questions``."""
        return [_question(row) for row in (await self._pool.read(_QUESTIONS, run)).rows]

    async def question(self, question: str) -> StoredQuestion | None:
        """See ``Store.question``."""
        answer = await self._pool.read(_ONE_QUESTION, question)
        return _question(answer.rows[0]) if answer.rows else None

    async def schedule(self, it: StoredSchedule) -> None:
        """See ``Store.schedule``."""
        check_name("the name of the schedule", it.name)
        await self._pool.write(_SCHEDULE, it.name, it.graph, it.spec, it.zone, it.catch_up, it.message, it.next_at)

    async def unschedule(self, name: str) -> bool:
        """See ``Store.unschedule``."""
        answer = await self._pool.write("delete from {s}.schedules where name = $1::text", name)
        return bool(answer.count) or answer.is_second

    async def schedules(self) -> Sequence[StoredSchedule]:
        """See ``Store.schedules``."""
        answer = await self._pool.read(
            "select name, graph, spec, zone, catch_up, message, next_at from {s}.schedules order by name"
        )
        return [StoredSchedule(*row) for row in answer.rows]

    async def tick(self, name: str, seen: datetime | None, next_at: datetime | None) -> bool:
        """See ``Store.tick``. Sent twice it says yes: what a tick starts has the time for an id, and so is started once."""
        answer = await self._pool.write(_TICK, name, seen, next_at)
        return bool(answer.count) or answer.is_second


def _posted(row: tuple[Any, ...]) -> Posted:
    run, kind, key, data, by, at, id = row  # noqa: A001
    return Posted(run, PostedKind(kind), key, data, by, at, id)


def _question(row: tuple[Any, ...]) -> StoredQuestion:
    id, run, path, asks, answers, asked, due, to, answered = row  # noqa: A001
    return StoredQuestion(id, run, path, asks, answers, asked, due, to, answered)
