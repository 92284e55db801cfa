"""The log of one run on its way to a store: numbered, in order, tried again until the store takes it.

What follows from a record happens in the order of the numbers, and when the record is written; not when the task that made it is
woken. trio wakes the tasks of one batch in random order, and a later event may cancel what an earlier one delivers.
"""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any, Final, final

import attrs
import outcome
import trio

from actors.errors import UnderstudyError
from actors.store_errors import RunLost, StoreError, StoreUnavailable
from runtime.journal.records import PAID, Record, RecordKind
from runtime.journal.store import Lease, Posted, PostedKind, Store, StoredQuestion

MOST_ROWS: Final = 500
"""Records of one run in one append."""
LOOK_S: Final = 0.25
"""How often a lease that has run out is looked at."""


def _shielded(_: object) -> trio.lowlevel.Abort:
    return trio.lowlevel.Abort.FAILED


def nothing() -> None:
    """Follows from a record from which nothing follows."""


@final
@attrs.define(eq=False)
class LogEntry:
    """One record on its way, and what follows from it."""

    record: Record
    then: Callable[[], Any]
    is_paid: bool = False
    result: outcome.Outcome[Any] | None = None
    """What ``then`` returned or raised; or why the record was not written."""
    waiter: trio.lowlevel.Task | None = None
    """The one task that waits for it, if any."""
    question: StoredQuestion | None = None
    """A question to be listed with the record."""
    answered: str | None = None
    """The id of a question to be struck out with it."""

    def settle(self, result: outcome.Outcome[Any]) -> None:
        """Let anyone who waits go on."""
        self.result = result
        if self.waiter is not None:
            trio.lowlevel.reschedule(self.waiter)
            self.waiter = None

    async def wait(self) -> Any:
        """Wait until the record is written and what follows from it has happened. A checkpoint, shielded: it must be known.

        Raises:
            StoreError: it was not written, and is not going to be. RunLost: the run is another worker's.
        """
        if self.result is None:
            assert self.waiter is None, "one task has told it, and waits"
            self.waiter = trio.lowlevel.current_task()
            await trio.lowlevel.wait_task_rescheduled(_shielded)  # a shielded scope would cost more than the record
        else:
            await trio.lowlevel.cancel_shielded_checkpoint()
        assert self.result is not None, "it was settled"
        return self.result.unwrap()


@final
class RunLog:
    """The records of one run that this worker has, from the next number on."""

    def __init__(
        self,
        store: Store,
        run_id: str,
        last_seq: int,
        on_stall: Callable[[RunLog], None],
        on_recovery: Callable[[RunLog], None],
        on_loss: Callable[[UnderstudyError], None],
        *,
        lease: Lease | None = None,
        sync: bool | None = None,
        life: int = 1,
    ) -> None:
        """The log behind record `last_seq`.

        Args:
            store: where it is kept.
            run_id: whose it is.
            last_seq: the number of the newest record there is.
            on_stall: called when the store cannot write; :meth:`retry` is to be called after a while, or :meth:`give_up`.
            on_recovery: called when the store has written what it could not.
            on_loss: called once, when nothing more of the run will ever be written by this worker.
            lease: that of the worker which has the run; None: no one else can have it.
            sync: whether records are on the platter before anything follows; None: those that were paid for or promised.
            life: how many times the run was taken up, this time included.
        """
        self._store = store
        self.run_id = run_id
        self.life = life
        self._seq = self._first_seq = last_seq
        self._on_stall = on_stall
        self._on_recovery = on_recovery
        self._on_loss = on_loss
        self._lease = lease
        self._sync = sync
        self._waiting: deque[LogEntry] = deque()
        self._flying: Sequence[LogEntry] = ()
        self._is_sending = False
        self.error: UnderstudyError | None = None
        """Why nothing more is written."""
        self.waiting_since_s: float | None = None
        """Since when the store has had records, without having written them."""
        self.stalled_by: StoreError | None = None

    @property
    def last_seq(self) -> int:
        """The number of the newest record, written or not."""
        return self._seq

    @property
    def is_idle(self) -> bool:
        """Whether everything is written."""
        return not self._flying and not self._waiting

    def wall_time(self) -> datetime:
        """The store's clock."""
        return self._store.wall_time()

    async def confirm(self) -> None:
        """Return when no one else can have the run now: to be asked before anything that leaves the process.

        While the lease is good, no checkpoint; past it, this waits for a renewal.

        Raises:
            RunLost: somebody else may have it. StoreUnavailable: nothing more of it is written here.
        """
        while self.error is None:
            if self._lease is None or trio.current_time() < self._lease.good_until():
                return
            if self._lease.lost.is_set():
                self.lose_lease()
                break
            with trio.move_on_after(LOOK_S):
                await self._lease.lost.wait()
            await trio.lowlevel.checkpoint()
        assert self.error is not None, "it was lost"
        raise self.error

    def append(
        self,
        kind: RecordKind,
        path: str,
        data: bytes | None,
        then: Callable[[], Any] = nothing,
        inputs: bytes = b"",
        *,
        is_paid: bool = False,
        question: StoredQuestion | None = None,
        answered: str | None = None,
    ) -> LogEntry:
        """Write a record behind all others; `then` is called when it is written. Never waits.

        One that `is_paid`, or of a kind in ``PAID``, is on the platter then.
        """
        at = self._store.wall_time().timestamp()
        self._seq += 1
        record = Record.of(self.run_id, self._seq, kind, path, at, data, inputs)
        entry = LogEntry(record, then, is_paid, question=question, answered=answered)
        if self.error is not None:
            entry.settle(outcome.Error(self.error))
            return entry
        if self._flying or self._is_sending or self._waiting:
            self._waiting.append(entry)
            if not self._flying and not self._is_sending:
                self._send()
            return entry
        self._flying = [entry]  # as _send does it, for a record that needs not wait for others: what most do
        self._is_sending = True
        try:
            must_sync = (is_paid or kind in PAID) if self._sync is None else self._sync
            self._store.append([record], must_sync, self._done, question, answered)
        finally:
            self._is_sending = False
        if self._flying:
            self._since()
        elif self._waiting:
            self._send()
        return entry

    def _since(self) -> None:
        """From now on, if not before, the store has what it has not written."""
        if self.waiting_since_s is None and self.error is None:
            self.waiting_since_s = trio.current_time()

    def _send(self) -> None:
        """Hand what waits to the store, as long as it takes it immediately."""
        self._is_sending = True
        try:
            while self._waiting and not self._flying and self.error is None:
                self._flying = self._next_rows()
                self._fly()
            if self._flying:
                self._since()
        finally:
            self._is_sending = False

    def _next_rows(self) -> list[LogEntry]:
        """Those that go together: one append has room for one question."""
        rows: list[LogEntry] = []
        while self._waiting and len(rows) < MOST_ROWS:
            rows.append(self._waiting.popleft())
            if rows[-1].question is not None or rows[-1].answered is not None:
                break
        return rows

    def _fly(self) -> None:
        rows = [entry.record for entry in self._flying]
        sync = self._sync
        if sync is None:
            sync = any(each.is_paid or each.record.kind in PAID for each in self._flying)
        last = self._flying[-1]
        self._store.append(rows, sync, self._done, last.question, last.answered)

    def _done(self, error: StoreError | RunLost | None) -> None:
        if self.error is not None:
            return  # given up meanwhile
        if error is None:
            self.waiting_since_s = None
            if self.stalled_by is not None:
                self.stalled_by = None
                self._on_recovery(self)
            for entry in self._flying:  # still flying: what these append comes after all of them
                entry.settle(outcome.capture(entry.then))
            self._flying = ()
            if not self._is_sending:
                self._send()
        elif isinstance(error, StoreError) and error.retryable is not False:
            self._since()
            self.stalled_by = error
            self._on_stall(self)
        else:
            self._lose(error)

    async def ask_to_cancel(self) -> None:
        """Let it be known, wherever the run goes on, that it is to be cancelled. What the store cannot take is left out."""
        with contextlib.suppress(StoreError):
            await self._store.post(Posted(self.run_id, PostedKind.CANCEL, f"cancel behind {self._first_seq}"))

    def retry(self) -> None:
        """Try the same append again, as it was."""
        if self.error is None and self._flying:
            self._fly()

    def give_up(self, why: str) -> None:
        """The store has not answered for too long: the run ends here, and can be resumed from what is written."""
        error = StoreUnavailable(
            f"the store of run {self.run_id!r} could not write {why}; the run ends here, as far as it is recorded.\n"
            "  Fix: see to the store; the run is taken up again when a runtime is opened with it."
        )
        error.__cause__ = self.stalled_by
        self._lose(error)

    def _lose(self, error: UnderstudyError) -> None:
        if self.error is not None:
            return
        self.error = error
        lost = [*self._flying, *self._waiting]
        self._flying = ()
        self._waiting.clear()
        self._on_loss(error)  # first: anyone who waits finds the run ended
        for entry in lost:
            entry.settle(outcome.Error(error))

    def lose_lease(self) -> None:
        """Another worker may have the run: nothing more of it is written here."""
        self._lose(
            RunLost(
                f"run {self.run_id!r} is no longer this worker's: its lease has ended.\n"
                "  Fix: nothing; the worker that takes the run over continues it.",
                run_id=self.run_id,
            )
        )
