"""Names and news of all who have a store in PostgreSQL open."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, final

import trio

from actors.store_errors import StoreDamaged, StoreError
from actors.words import said
from runtime.journal.meeting import NameHolder
from runtime.journal.postgres_pool import ConnectionPool
from runtime.journal.postgres_runs import check_name
from runtime.journal.store import Codec, Lease

KEPT_S: Final = 60.0
"""How long news is kept for a worker that is slow or was cut off; then it misses it."""
SWEEP_S: Final = 10.0
_ABOUT: Final = b"news"

# A worker is dead once its epoch has grown, and not when its time is over: until then it may still renew its lease. That is
# looked at by a statement that only reads, which sees names and workers as of one moment. One that waits for the row of a name
# would see it as it is by then, and the workers as they were when it began: without the one that has it now.
_LOOK: Final = """
select exists (select from {s}.workers where id = $2::text and epoch = $3::int), n.owner, n.fence, w.epoch = 1
from (select) l left join {s}.names n on n.name = $1::text left join {s}.workers w on w.id = n.owner"""
# Who takes the name takes it from the fence that was seen, so of all who have seen it free one gets it. Carried out twice, or
# late because a connection broke, it changes nothing.
_TAKE: Final = """
insert into {s}.names as n (name, owner, fence)
select $1::text, $2::text, $4::bigint + 1
where exists (select from {s}.workers where id = $2::text and epoch = $3::int for share)
on conflict (name) do update set owner = excluded.owner, fence = excluded.fence
where n.fence = $4::bigint or (n.fence = excluded.fence and n.owner = excluded.owner)
returning owner, fence"""
_HOLDER: Final = """
select n.owner, n.fence from {s}.names n join {s}.workers w on w.id = n.owner and w.epoch = 1 where n.name = $1::text"""
_RELEASE: Final = "update {s}.names set owner = null where name = $1::text and owner = $2::text and fence = $3::bigint"

# Not waited for on the platter: a server that forgets a moment of it has told no one.
_ANNOUNCE: Final = """
with n as (
    insert into {s}.news(owner, data, at) select $1::text, $2::bytea, now()
    where set_config('synchronous_commit', 'off', true) is not null returning id)
select count(pg_notify($3::text, '')) from n"""
_SWEEP: Final = "delete from {s}.news where at < now() - $1::float8 * interval '1 s'"
_NOW: Final = "select pg_current_snapshot()::text"
# Rows are not committed in the order of their numbers: what is new is what could not be seen the last time.
_NEWS: Final = """
select o.now, n.id, n.data from (select pg_current_snapshot()::text as now) o
left join {s}.news n on n.tx >= pg_snapshot_xmin($1::text::pg_snapshot)
    and not pg_visible_in_snapshot(n.tx, $1::text::pg_snapshot) and n.owner <> $2::text
order by n.id"""


@final
class PostgresMeeting:
    """A ``NameStore`` and a ``NewsStore``, without the waiting."""

    def __init__(self, pool: ConnectionPool, codec: Codec | None) -> None:
        self._pool = pool
        self._codec = codec
        self._seen = ""
        """The snapshot in which the news were last looked at."""
        self._swept_at = -SWEEP_S

    async def join(self) -> None:
        """What was announced before is not for this worker."""
        self._seen = (await self._pool.read(_NOW)).rows[0][0]

    async def hold(self, name: str, lease: Lease) -> NameHolder:
        """See ``NameStore.hold``."""
        check_name("the name", name)
        while True:
            [(is_alive, owner, fence, is_held)] = (await self._pool.read(_LOOK, name, lease.worker, lease.epoch)).rows
            if not is_alive:
                raise StoreError("the lease of this worker has ended, so it can hold no names.\n  Fix: open another runtime.")
            if is_held and owner != lease.worker:
                return NameHolder(owner, fence)
            taken = await self._pool.read(_TAKE, name, lease.worker, lease.epoch, fence or 0)
            if taken.rows:
                return NameHolder(*taken.rows[0])

    async def release_name(self, name: str, fence: int, lease: Lease) -> None:
        """See ``NameStore.release_name``."""
        await self._pool.read(_RELEASE, name, lease.worker, fence)

    async def holder(self, name: str) -> NameHolder | None:
        """See ``NameStore.holder``."""
        answer = await self._pool.read(_HOLDER, name)
        return NameHolder(*answer.rows[0]) if answer.rows else None

    async def announce(self, news: bytes, worker: str) -> None:
        """See ``NewsStore.announce``. If the connection breaks, it isn't sent again: once is the most that is promised."""
        now_s = trio.current_time()
        await self._pool.once(_ANNOUNCE, worker, self._sealed(news), self._pool.schema)
        if now_s - self._swept_at >= SWEEP_S:
            self._swept_at = now_s
            await self._pool.write(_SWEEP, KEPT_S)

    async def heard(self, worker: str) -> Sequence[bytes | StoreDamaged]:
        """What others have announced and this worker has not heard."""
        rows = (await self._pool.read(_NEWS, self._seen, worker)).rows
        self._seen = rows[0][0]
        return [self._opened(data) for _, number, data in rows if number is not None]

    def _sealed(self, news: bytes) -> bytes:
        if self._codec is None:
            return news
        try:
            return self._codec.seal(news, _ABOUT)
        except Exception as error:
            raise StoreError(f"the store's codec could not seal news: {said(error)}\n  Fix: look at its seal().") from error

    def _opened(self, data: bytes) -> bytes | StoreDamaged:
        if self._codec is None:
            return data
        try:
            return self._codec.open(data, _ABOUT)
        except Exception as error:  # noqa: BLE001 - foreign code; who is told of it reads on
            return StoreDamaged(
                f"the store's codec could not open news: {said(error)}\n  Fix: give it the key with which this was sealed."
            )
