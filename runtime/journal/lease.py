"""The lease of a worker in PostgreSQL: one row that says until when it lives, and what becomes of workers that do not renew it.

A lease belongs to a worker and not to a run, so it costs the same however many runs the worker has. What keeps two workers from
writing to one run is the epoch that goes with every append; clocks only decide how soon a worker is thought to be dead.
"""

from __future__ import annotations

import contextlib
import math
import os
import socket
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Final, final

import trio

from actors.store_errors import StoreError, StoreInUse, StoreUnavailable
from actors.words import repr_of, words_of
from runtime.journal.postgres_pool import ConnectionPool
from runtime.journal.postgres_wire import BlockingConnection, monotonic
from runtime.journal.store import Lease

MAX_BLOCKED_S: Final = 300.0
"""An event loop that does nothing for so long is taken for dead, and its lease is not renewed any more."""

JUMP_S: Final = 0.5
END_S: Final = 2.0
"""How long the thread that renews may take to end, and a server to hear that an ``open`` failed; a thread that still connects
ends on its own."""

# Sent twice, because the connection broke before there was an answer, it finds its own row: by the time, which is this process's.
_REGISTER: Final = """
insert into {s}.workers as w (id, epoch, until, host, pid, started)
values ($1::text, 1, now() + $2::float8 * interval '1 s', $3::text, $4::int, $5::timestamptz)
on conflict (id) do update set until = excluded.until
where w.epoch = 1 and w.host = excluded.host and w.pid = excluded.pid and w.started = excluded.started
returning clock_timestamp()"""

# Waited for until it is on the platter, also with sync='never': after a crash of the server that forgot it, others would take
# this worker for dead while it relies on its lease.
_RENEW: Final = """
update {s}.workers set until = now() + $3::float8 * interval '1 s'
where id = $1::text and epoch = $2::int and set_config('synchronous_commit', 'on', true) is not null
returning clock_timestamp()"""

_BURY: Final = """
update {s}.workers set epoch = epoch + 1
where id in (select id from {s}.workers where until < now() and epoch = 1 and id <> $1::text for update skip locked)
returning id"""

_INHERIT: Final = """
update {s}.runs set owner = null, left_by = owner, status = 'ready', wake_at = now()
where id in (select id from {s}.runs where owner in (select id from {s}.workers where epoch > 1) for update skip locked)
returning id"""

_LET_GO: Final = "update {s}.names n set owner = null from {s}.workers w where w.id = n.owner and w.epoch > 1"

_FORGET: Final = """
delete from {s}.workers w where epoch > 1 and until < now() - interval '1 day'
and not exists (select from {s}.runs r where r.owner = w.id) and not exists (select from {s}.names n where n.owner = w.id)"""

# The epoch first: it waits for what is being written for this worker, and nothing can be written for it behind that.
_LEAVE: Final = """
with gone as (
    update {s}.workers set epoch = epoch + 1 where id = $1::text and epoch = $2::int and started = $3::timestamptz returning id),
handed_back as (
    update {s}.runs set owner = null, left_by = null, status = 'ready', wake_at = now() where owner in (select id from gone)),
let_go as (update {s}.names set owner = null where owner in (select id from gone))
select count(*) from gone"""

# What that statement did not see, because it was just being written, keeps the row: others take it over as they do of the dead.
_VANISH: Final = """
delete from {s}.workers w where id = $1::text and epoch > 1 and started = $2::timestamptz
and not exists (select from {s}.runs r where r.owner = w.id) and not exists (select from {s}.names n where n.owner = w.id)"""


@final
class HeldLease:
    """The lease of this process, renewed by a thread with its own connection: a busy event loop must not cost it."""

    def __init__(self, pool: ConnectionPool, worker: str, lease_s: float) -> None:
        self.lease = Lease(worker, epoch=1, good_until=self._good_until)
        self._pool = pool
        self._lease_s = lease_s
        self._began = datetime.now(UTC)  # with it the row of this process is told from that of another of its name
        self._until = -math.inf  # on `monotonic`
        self._ahead_s = 0.0  # the server's clock, less `monotonic`
        self._alive_at = monotonic()
        self._stopping = threading.Event()
        self._has_ended = trio.Event()
        self._thread = threading.Thread(target=self._renew_again_and_again, name=f"lease of {worker}", daemon=True)
        self._token = trio.lowlevel.current_trio_token()

    async def begin(self) -> None:
        """Register the worker. Raises ``StoreInUse`` when there is one of that name. After any error: :meth:`abandon` it."""
        before = monotonic()
        host = socket.gethostname()
        answer = await self._pool.read(_REGISTER, self.lease.worker, self._lease_s, host, os.getpid(), self._began)
        if not answer.rows:
            raise StoreInUse(
                f"there is a worker of the name {repr_of(self.lease.worker)} already.\n"
                "  Fix: give each process its own worker name, or none."
            )
        self._renewed(before, answer.rows[0][0])
        try:
            self._thread.start()
        except RuntimeError as error:
            raise StoreUnavailable(
                f"no thread can be had to renew the lease of worker {repr_of(self.lease.worker)}: {words_of(error)}.\n"
                "  Fix: let this process have more threads, or end what has so many."
            ) from error

    async def end(self) -> None:
        """Give the runs and names back to anybody, and leave. Raises nothing: what is not given back is taken over."""
        self.lose()
        with contextlib.suppress(StoreError):
            await self._pool.read(_LEAVE, self.lease.worker, self.lease.epoch, self._began)
            await self._pool.read(_VANISH, self.lease.worker, self._began)
        if self._thread.ident is not None:
            with trio.move_on_after(END_S):
                await self._has_ended.wait()
                self._thread.join(END_S)  # it has only to return

    async def abandon(self) -> None:
        """The same, of a store that could not be opened, soon, even if the server does not answer or the caller was cancelled."""
        with trio.CancelScope(shield=True), trio.move_on_after(END_S):
            await self.end()

    def alive(self) -> None:
        """The event loop says that it runs."""
        self._alive_at = monotonic()

    def lose(self) -> None:
        """The server says that the lease has ended."""
        self._stopping.set()
        self.lease.lost.set()

    def wall_time(self) -> datetime:
        """The server's clock, less what an answer takes; never earlier than what it is known to have said."""
        return datetime.fromtimestamp(monotonic() + self._ahead_s, UTC)

    def told(self, server_time: datetime) -> None:
        """The server's clock has said this, just now or earlier."""
        self._ahead_s = max(self._ahead_s, server_time.timestamp() - monotonic())

    def _good_until(self) -> float:
        return -math.inf if self.lease.lost.is_set() else trio.current_time() + self._until - monotonic()

    def _renewed(self, before: float, server_time: datetime) -> None:
        self._until = before + self._lease_s
        ahead_s = server_time.timestamp() - monotonic()
        # An answer that took long says less than the one before; more than that, and the server's clock was set.
        self._ahead_s = max(ahead_s, self._ahead_s) if abs(ahead_s - self._ahead_s) < JUMP_S else ahead_s

    def _renew_again_and_again(self) -> None:
        try:
            self._renew()
        finally:
            self._in_the_loop(self._has_ended.set)

    def _renew(self) -> None:
        connection: BlockingConnection | None = None
        wait_s = self._lease_s / 3
        while not self._stopping.wait(wait_s):
            if monotonic() - self._alive_at > MAX_BLOCKED_S:
                continue
            before = monotonic()
            try:
                if connection is None or not connection.is_open:
                    connection = BlockingConnection.open(self._pool.address)
                answer = connection.run(
                    self._pool.text(_RENEW),
                    self.lease.worker,
                    self.lease.epoch,
                    self._lease_s,
                    patience_s=max(self._lease_s / 3, 1.0),
                )
            except StoreError:
                wait_s = self._lease_s / 12
                continue
            wait_s = self._lease_s / 3
            if not answer.rows:
                self._in_the_loop(self.lose)
                break
            self._renewed(before, answer.rows[0][0])
        if connection is not None:
            connection.close()

    def _in_the_loop(self, call: Callable[[], object]) -> None:
        with contextlib.suppress(trio.RunFinishedError):
            self._token.run_sync_soon(call)


async def take_over(pool: ConnectionPool, worker: str) -> int:
    """End the leases that have run out, and free the runs of their workers; returns how many.

    Two statements, each of which may be the last before a crash: what the first has left undone, the next call of any worker
    does. Only the second, which begins when the first is committed, sees all that a dead worker has taken.
    """
    buried = await pool.write(_BURY, worker)
    freed = await pool.write(_INHERIT)
    if buried.count:
        await pool.write(_LET_GO)  # they are free already: so their worker can be forgotten
        await pool.write(_FORGET)
    return freed.count
