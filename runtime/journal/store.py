"""The protocol of stores: what a journal needs of SQLite, PostgreSQL, memory, or your own store."""

from __future__ import annotations

import enum
from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from datetime import datetime
from typing import Generic, Protocol, TypeVar, final

import attrs
import trio

from actors.store_errors import RunLost, StoreError
from runtime.journal.records import Record

T = TypeVar("T")


@final
class StoredStatus(enum.StrEnum):
    """Where a stored run is; equal to its plain word."""

    READY = "ready"
    """It waits for a worker."""
    RUNNING = "running"
    WAITING = "waiting"
    """For a person, a time or a signal; no worker has it in memory."""
    PARKED = "parked"
    """For a decision: see ``RunParked``."""
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def is_over(self) -> bool:
        """Whether nothing more happens unless somebody resumes it."""
        return self in {StoredStatus.SUCCEEDED, StoredStatus.FAILED, StoredStatus.CANCELLED}


@final
@attrs.frozen
class NewRun:
    """A run to be created. It is the worker's from the start, or, with ``here=False``, anybody's who has deployed its graph."""

    id: str
    graph: str
    version: str
    fingerprint: bytes
    """Of the plan of its graph: what decides where messages go, not the bodies of its nodes."""
    deadline: datetime | None = None
    parent: str | None = None
    """The run that it was forked from."""
    parent_seq: int | None = None
    """Up to which record."""
    label: str | None = None
    """The labels of the run, a line each."""
    here: bool = True


@final
@attrs.frozen
class StoredRun:
    """A run as the store knows it."""

    id: str
    graph: str
    version: str
    fingerprint: bytes = attrs.field(repr=False)
    status: StoredStatus
    owner: str | None
    """The worker that has it."""
    last_seq: int
    """The number of its newest record."""
    lives: int
    """How many times a worker has taken it up."""
    wake_at: datetime | None
    """When it is due, if no one has it."""
    deadline: datetime | None
    parent: str | None
    parent_seq: int | None
    label: str | None
    created: datetime
    ended: datetime | None
    left_by: str | None = None
    """The worker that died with it, until the life that took it over then is at its end, too."""


@final
@attrs.frozen
class Created:
    """The run was not there, and is now; its first record is durable."""

    run: StoredRun


@final
@attrs.frozen
class Existing:
    """A run of this id was there already; `first` is its first record, whose digest is that of its input."""

    run: StoredRun
    first: Record


@final
class PostedKind(enum.StrEnum):
    """What can be put into a run from outside of the process that has it."""

    ANSWER = "answer"
    """To a question; the key is the question's id."""
    SIGNAL = "signal"
    """A message of a declared signal type."""
    CANCEL = "cancel"
    RESUME = "resume"


@final
@attrs.frozen
class Posted:
    """Something put into a run from outside. The first of two with the same run, kind and key counts."""

    run: str
    kind: PostedKind
    key: str
    data: bytes | None = attrs.field(default=None, repr=False)
    by: str | None = None
    at: datetime | None = None
    """When the store took it; set by the store."""
    id: int = 0
    """Grows with each; set by the store."""


@final
@attrs.frozen
class StoredQuestion:
    """A person is asked. The store keeps it in the same transaction as the record that asks (see ``Store.append``)."""

    id: str
    run: str
    path: str
    asks: bytes | None = attrs.field(repr=False)
    """What is asked, as JSON: the ``node``, its ``text`` in words, and in ``asks`` the message that the node was given."""
    answers: tuple[str, ...]
    """The types that the answer may have, as ``module:Class``."""
    asked: datetime
    due: datetime | None = None
    to: str | None = None
    answered: datetime | None = None


@final
@attrs.frozen
class StoredSchedule:
    """A graph that is started again and again."""

    name: str
    graph: str
    spec: str
    """``every 60``, ``cron 0 9 * * 1``, or ``at 2026-11-28T18:00:00+00:00``."""
    zone: str
    catch_up: str
    message: bytes = attrs.field(repr=False)
    next_at: datetime | None
    """None: it will not come again."""


@final
@attrs.frozen
class RunQuery:
    """Which runs to list, newest first. None: any."""

    graph: str | None = None
    status: StoredStatus | None = None
    started_after: datetime | None = None
    label: str | None = None
    """One of its lines."""
    limit: int = 100
    after: str | None = None
    """``Page.after`` of the page before."""


@final
@attrs.frozen
class Page(Generic[T]):
    """Some of the answers, in order."""

    items: tuple[T, ...]
    after: str | None = None
    """Where the next page begins; None: this is the last."""


@attrs.frozen(eq=False)
class Lease:
    """The right of a worker to write. A store that is closed, or whose worker is taken to be dead, sets ``lost``."""

    worker: str
    epoch: int
    lost: trio.Event = attrs.field(factory=trio.Event)
    good_until: Callable[[], float] = lambda: float("inf")
    """Until when, on ``trio.current_time()``, no one can have taken the worker to be dead."""


Done = Callable[[StoreError | RunLost | None], None]


class Codec(Protocol):
    """Seals the data of records before a store writes it, and opens it when it is read.

    `about` names the run, the number and the kind of the record, so sealed data does not open in another row.
    """

    def seal(self, data: bytes, about: bytes) -> bytes:
        """What to write in place of `data`; may be called again for the same record, and need not give the same bytes."""
        ...

    def open(self, data: bytes, about: bytes) -> bytes:
        """The data that was sealed as `data`."""
        ...


class Store(Protocol):
    """Where journals are kept.

    Every coroutine raises ``StoreError`` and nothing else, and is a checkpoint. A store is opened once, by one runtime.
    """

    async def open(self, worker: str, nursery: trio.Nursery) -> Lease:
        """Open it, bring its schema up to date or raise, and register `worker`, whose name is new for each process.

        A store that writes, renews or looks in the background starts its tasks in `nursery`. They are shielded from its
        cancellation, since what is appended while a runtime ends must still be written, and so end with ``close`` alone:
        anyone who opens must close, or the nursery never ends. They raise nothing into it.
        """
        ...

    async def close(self) -> None:
        """Write what waits, hand the runs of this worker back to anybody, and close. Closed already: no effect."""
        ...

    def append(
        self,
        rows: Sequence[Record],
        sync: bool,
        done: Done,
        question: StoredQuestion | None = None,
        answered: str | None = None,
    ) -> None:
        """Write `rows`, all or none, behind everything appended before; returns immediately.

        `done` is called on the event loop, for each run in the order of the calls to ``append``, and maybe before that returns:
        with None once the rows are written (with `sync`: on the platter), or with the error. After a ``StoreError`` nothing of
        `rows` is stored as far as the store knows, and the caller appends the same rows again: a row that is there already with
        the same checksum counts as written. ``RunLost``: a row of that number with another checksum is there, or this worker's
        lease has ended; nothing of `rows` will ever be stored.

        With a record ``asked`` comes the `question` to list, with ``answered`` the id of the question to strike out; both in the
        same transaction as the rows. A row of kind ``over`` sets the run's status to its path (``succeeded``, ``failed`` or
        ``cancelled``) and strikes out its questions, one of kind ``parked`` to parked; the run then has no owner. One of kind
        ``adopted`` sets the version of its graph to its path.
        """
        ...

    async def create(self, run: NewRun, first: Record) -> Created | Existing:
        """Store a new run with its first record, durably; or return the run of that id as it is, unchanged."""
        ...

    async def claim(self, graphs: Collection[tuple[str, str]], limit: int) -> Sequence[StoredRun]:
        """Take up to `limit` runs that are due and that no one has, of these graphs and versions, the longest due first.

        Each then belongs to this worker alone, is ``running``, and has one more life.
        """
        ...

    async def take(self, run: str, only: StoredStatus | None = None) -> StoredRun | None:
        """Take this run, if no one has it and its status is `only` (None: any): one more life.

        None: another worker has it, its status is another one by now, or it is unknown.
        """
        ...

    async def release(
        self,
        run: str,
        status: StoredStatus,
        wake_at: datetime | None,
        *,
        looked_at: int | None = None,
        life: int | None = None,
    ) -> None:
        """Give up a run of this worker: it is then `status`, and due at `wake_at` (None: when something is posted to it).

        `looked_at`: of how many items of its inbox the worker knows what they are (None: of those that it was handed out). If
        there are more, the run is due now: in the same step, so no item is missed by a worker that ends right after it.

        `life`: the run's ``lives`` since this worker took it (None: any). A call that comes late, because the answer to another
        was lost, then has no effect on a run that this worker has taken again.
        """
        ...

    def read(self, run: str, after: int = 0) -> AsyncIterator[Record]:
        """The records of a run behind number `after`, in order, unsealed; of an unknown run none. See ``Record.is_intact``."""
        ...

    async def run(self, run: str) -> StoredRun | None:
        """One run; None: unknown."""
        ...

    async def runs(self, query: RunQuery) -> Page[StoredRun]:
        """Runs, newest first."""
        ...

    async def questions(self, run: str | None = None) -> Sequence[StoredQuestion]:
        """Open questions, oldest first; of one run, or of all."""
        ...

    async def question(self, question: str) -> StoredQuestion | None:
        """One question, answered or not."""
        ...

    async def post(self, item: Posted) -> bool:
        """Put something into a run, from any process; False: one of that run, kind and key is there already.

        A run that no one has and that is waiting becomes due now. Unknown run: ``StoreError``.
        """
        ...

    async def posted(self) -> Sequence[Posted]:
        """What was posted to runs of this worker and not handed out yet; waits until there is some.

        What was handed out and is not in the run's journal at its end of life is handed out again to the next life.
        """
        ...

    async def inbox(self, run: str) -> Sequence[Posted]:
        """Everything posted to one run, in order; for its next life, which compares it with the journal."""
        ...

    async def schedule(self, schedule: StoredSchedule) -> None:
        """Store a schedule, or replace the one of that name."""
        ...

    async def unschedule(self, name: str) -> bool:
        """Remove a schedule; False: there was none."""
        ...

    async def schedules(self) -> Sequence[StoredSchedule]:
        """All of them, by name."""
        ...

    async def tick(self, name: str, seen: datetime | None, next_at: datetime | None) -> bool:
        """Move a schedule on from `seen` to `next_at`; False: another worker has, or it is gone."""
        ...

    async def fork(self, run: NewRun, records: Sequence[Record]) -> Created | Existing:
        """Store a new run with `records`, numbered from 1, as its journal, durably, ready for anybody to take up."""
        ...

    async def forget(self, run: str) -> bool:
        """Delete everything about a run; False: it was unknown. A run that a worker has: ``StoreError``."""
        ...

    async def expire(self, done: datetime | None, failed: datetime | None, payload: datetime | None) -> int:
        """Delete what is kept no longer; returns how many runs were deleted. Never touches a run that is not over.

        Runs that succeeded before `done`, and those that failed or were cancelled before `failed`, are deleted. The records of
        those that ended before `payload` lose their data. None: keep all of that sort.
        """
        ...

    def statistics(self) -> Mapping[str, float]:
        """What it has done and holds, by name: ``records``, ``commits``, ``queued`` and what else this kind of store counts."""
        ...

    def wall_time(self) -> datetime:
        """The store's clock, in UTC. Not a checkpoint."""
        ...
