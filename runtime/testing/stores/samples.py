"""What the tests of a store are made of: a store that is open, records, runs, questions, schedules."""

from __future__ import annotations

import itertools
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Final

import trio

from actors.store_errors import RunLost, StoreError
from runtime.journal.records import Record, RecordKind
from runtime.journal.store import (
    Created,
    NewRun,
    Store,
    StoredQuestion,
    StoredRun,
    StoredSchedule,
)

MakeStore = Callable[[], Store]

PATIENCE_S: Final = 60.0
"""Seconds for one wait on a store; a slow machine needs them, a good store never does."""
HOSTILE: Final = (
    "'; drop table runs; --",
    '"quoted" `ticks` $1 ?1 :a %s {} \\',
    "100%_*[a-z]?",
    " spaces around ",
    "line\nbreak\ttab\r",
    "../../etc/passwd",
    "名前-Ω-🙂-\u202eright to left",
    "e\u0301 is not \u00e9",
    "UPPER and upper",
    "x" * 400,
)
"""Ids and labels that a careless store mistakes for code, a pattern, a path or one another."""
UNSTORABLE: Final = ("nul\0byte", "lone\ud800surrogate")
"""What some databases cannot hold as text: kept whole, or rejected with a ``StoreError``."""

_numbers = itertools.count(1)


@asynccontextmanager
async def opened(make_store: MakeStore) -> AsyncGenerator[Store]:
    """A store that a worker of a new name has opened; closed at the end of the block."""
    store = make_store()
    async with trio.open_nursery() as nursery:
        with trio.fail_after(PATIENCE_S):
            await store.open(f"worker-{next(_numbers)}", nursery)
        try:
            yield store
        finally:
            with trio.CancelScope(deadline=trio.current_time() + PATIENCE_S, shield=True):
                await store.close()


async def written(
    store: Store,
    *rows: Record,
    sync: bool = False,
    question: StoredQuestion | None = None,
    answered: str | None = None,
) -> StoreError | RunLost | None:
    """Append `rows` and wait: None, or the error that the store reported."""
    told: list[StoreError | RunLost | None] = []
    over = trio.Event()

    def done(error: StoreError | RunLost | None) -> None:
        told.append(error)
        over.set()

    store.append(rows, sync, done, question, answered)
    with trio.fail_after(PATIENCE_S):
        await over.wait()
    return told[0]


def new_run(name: str = "r", *, graph: str = "g", version: str = "1", here: bool = True, label: str | None = None) -> NewRun:
    """A run to be created."""
    return NewRun(id=name, graph=graph, version=version, fingerprint=b"plan", label=label, here=here)


def record(
    store: Store,
    seq: int,
    *,
    run: str = "r",
    kind: RecordKind = RecordKind.FINISHED,
    path: str = "g/n",
    data: bytes | None = b"{}",
) -> Record:
    """A record with the store's time."""
    return Record.of(run, seq, kind, path, store.wall_time().timestamp(), data, b"inputs")


async def create(store: Store, run: NewRun | None = None, data: bytes = b'{"n": 1}') -> StoredRun:
    """Create a run that must not be there yet."""
    run = run or new_run()
    answer = await store.create(run, record(store, 1, run=run.id, kind=RecordKind.STARTED, path="", data=data))
    assert isinstance(answer, Created), answer
    return answer.run


async def journal(store: Store, run: str = "r", after: int = 0) -> list[Record]:
    """The records of a run behind `after`."""
    return [each async for each in store.read(run, after)]


def question_of(store: Store, run: str = "r") -> StoredQuestion:
    """A question of `run`, open for a day."""
    now = store.wall_time()
    return StoredQuestion(f"{run}/q", run, "g/ask", b'{"a": 1}', ("m:Yes", "m:No"), now, now + timedelta(days=1), "anna")


def schedule_of(store: Store) -> StoredSchedule:
    """A schedule that is due now."""
    return StoredSchedule("nightly", "g", "every 60", "UTC", "last", b"{}", store.wall_time())
