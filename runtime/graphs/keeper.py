"""The actor that owns the store of a runtime: it opens and closes it, tries again what it could not write, ends lost runs.

Records never pass through its mailbox: a run hands them to the store itself.
"""

from __future__ import annotations

import contextlib
import math
import secrets
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import Final, final

import attrs
import outcome
import trio

from actors.actor import Actor
from actors.errors import UnderstudyError, UsageError
from actors.store_errors import StoreError
from actors.words import repr_of
from runtime.core.events import Event
from runtime.graphs.records.run_events import StoreRecovered, StoreStalled
from runtime.journal.log import RunLog
from runtime.journal.retention import Retention
from runtime.journal.store import Lease, Store, StoredStatus

LOOK_S: Final = 1.0
"""How often stalled logs are looked at."""
FIRST_RETRY_S: Final = 1.0
LAST_RETRY_S: Final = 15.0
"""How long after a failure the same records are handed to the store again: doubled each time, between these."""
MAX_STALL_S: Final = 300.0
"""How long the store may fail, or not answer, before a run that waits for it ends here."""
CLOSE_S: Final = 10.0
"""How long a store may take to be closed."""


@final
@attrs.define(eq=False)
class _Stall:
    next_s: float
    delay_s: float


@final
class Keeping:
    """What keeps the runs of one runtime: its store, its lease, and the logs that are being written."""

    def __init__(
        self, store: Store, worker: str | None, publish: Callable[[Event], None], retention: Retention | None = None
    ) -> None:
        """Nothing is opened yet; the keeper does that."""
        self.store = store
        self.worker = f"{worker or 'worker'}-{secrets.token_hex(6)}"
        """New for each process, so two deployments never share one."""
        self.lease: Lease | None = None
        self.nursery: trio.Nursery | None = None
        """For what a stored run needs besides its nodes."""
        self._publish = publish
        self.retention = retention
        self.before_close: list[Callable[[], Awaitable[None]]] = []
        """Called in turn, while the store is still open, when nothing of the runtime uses it any more."""
        self._logs: dict[RunLog, None] = {}
        self._stalls: dict[RunLog, _Stall] = {}
        self._is_hurried = False
        self._unreleased: dict[tuple[str, int], StoredStatus] = {}
        """Runs that are to be given back, each in the life that has ended, and the store could not take them."""

    def open_log(self, run_id: str, last_seq: int, on_loss: Callable[[UnderstudyError], None], life: int) -> RunLog:
        """The log of a run that this worker has, in the run's `life`, counted from 1."""

        def lost(error: UnderstudyError) -> None:
            self.close_log(log)
            on_loss(error)

        log = RunLog(self.store, run_id, last_seq, self._stalled, self._recovered, lost, lease=self.lease, life=life)
        self._logs[log] = None
        return log

    def close_log(self, log: RunLog) -> None:
        """Nothing more of it is to be written. Twice is fine."""
        self._logs.pop(log, None)
        self._recovered(log)

    def put_away(self, run_id: str, log: RunLog, *, handed_back: bool) -> None:
        """A durable run is over here; if it was handed back, somebody else may have it."""
        self.close_log(log)
        if handed_back and log.error is None and self.nursery is not None:
            self.nursery.start_soon(self.release, run_id, log.life)

    def hurry(self) -> None:
        """The runtime is closed: what the store cannot write now is not waited for."""
        self._is_hurried = True
        for log in list(self._stalls):
            log.give_up("while the runtime was closed")

    def _stalled(self, log: RunLog) -> None:
        now_s = trio.current_time()
        if self._is_hurried:
            log.give_up("while the runtime was closed")
            return
        known = self._stalls.get(log)
        if known is None:
            if not self._stalls:
                self._publish(StoreStalled(since_s=now_s, error=log.stalled_by))
            self._stalls[log] = _Stall(now_s + FIRST_RETRY_S, FIRST_RETRY_S)
        else:
            known.delay_s = min(2 * known.delay_s, LAST_RETRY_S)
            known.next_s = now_s + known.delay_s

    def _recovered(self, log: RunLog) -> None:
        if self._stalls.pop(log, None) is not None and not self._stalls:
            self._publish(StoreRecovered())

    async def release(self, run_id: str, life: int, status: StoredStatus = StoredStatus.READY) -> None:
        """Give a run back that this worker has had since its `life`, for anybody to have if it is ready.

        When the store is closed, it does so itself.

        What the store cannot do now is tried again by :meth:`release_left`: else the run would be with this worker, which does
        nothing about it, for as long as it lives.
        """
        try:
            await self._released(run_id, life, status)
        except StoreError:
            self._unreleased[run_id, life] = status

    async def release_left(self) -> None:
        """Give back what could not be given back before; not a run that this worker has taken again since.

        Raises:
            StoreError: it still can't be.
        """
        for (run_id, life), status in list(self._unreleased.items()):
            await self._released(run_id, life, status)
            self._unreleased.pop((run_id, life), None)

    async def _released(self, run_id: str, life: int, status: StoredStatus) -> None:
        wake_at = self.store.wall_time() if status is StoredStatus.READY else None
        await self.store.release(run_id, status, wake_at, life=life)

    async def tend(self) -> None:
        """Hand stalled records to the store again, and end runs that have waited for it for too long."""
        while True:
            await trio.sleep(LOOK_S)
            self._look(trio.current_time())

    def _look(self, now_s: float) -> None:  # on its own, so no variable keeps the last of them for a second
        for log in list(self._logs):
            if log.waiting_since_s is not None and now_s - log.waiting_since_s >= MAX_STALL_S:
                log.give_up(f"for {MAX_STALL_S:g} s")
            elif (stall := self._stalls.get(log)) is not None and stall.next_s <= now_s:
                stall.next_s = math.inf  # until it answers
                log.retry()

    async def sweep(self, retention: Retention) -> None:
        """Delete what is kept no longer, again and again; what the store cannot do now is done the next time."""
        while True:
            with contextlib.suppress(StoreError):
                await retention.sweep(self.store)
            await trio.sleep(retention.sweep_s)

    async def watch_lease(self, lease: Lease) -> None:
        """End all runs here when another worker may have them."""
        await lease.lost.wait()
        for log in list(self._logs):
            log.lose_lease()


@final
class Keeper(Actor):
    """Owns the store. It takes no messages."""

    def __init__(self, keeping: Keeping, *tasks: Callable[[], Awaitable[None]]) -> None:
        """`tasks` run while the store is open: one looks for runs that are due, say."""
        self._keeping = keeping
        self._tasks = tasks

    @contextlib.asynccontextmanager
    async def lifespan(self) -> AsyncGenerator[None]:
        """Open the store; on leaving, write what waits, hand back what is not over, and close it."""
        keeping = self._keeping
        opened: outcome.Outcome[Lease] = outcome.Error(UsageError("the store was not opened"))
        async with trio.open_nursery() as nursery:
            opened = await outcome.acapture(keeping.store.open, keeping.worker, nursery)
            if isinstance(opened, outcome.Value):
                try:
                    keeping.lease, keeping.nursery = opened.value, nursery
                    nursery.start_soon(keeping.tend)
                    nursery.start_soon(keeping.watch_lease, opened.value)
                    for task in self._tasks:
                        nursery.start_soon(task)
                    if keeping.retention is not None:
                        nursery.start_soon(keeping.sweep, keeping.retention)
                    yield
                finally:
                    keeping.nursery = None
                    for call in keeping.before_close:
                        with trio.CancelScope(shield=True), trio.move_on_after(CLOSE_S), contextlib.suppress(StoreError):
                            await call()
                    with trio.CancelScope(shield=True), trio.move_on_after(CLOSE_S), contextlib.suppress(StoreError):
                        await keeping.store.close()
                    nursery.cancel_scope.cancel()
        opened.unwrap()

    async def receive(self, message: object) -> None:
        """Reject it."""
        raise UsageError(f"this actor takes no messages. Got: {repr_of(message)}.\n  Fix: send it to another actor.")
