"""What is particular to the store in a SQLite file: one owner, files, faults of the disk, damage, codecs, other processes."""

from __future__ import annotations

import errno
import fcntl
import hmac
import os
import random
import resource
import shutil
import sqlite3
import stat
import subprocess
import sys
import textwrap
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import outcome
import pytest
import trio

from actors.errors import UsageError
from actors.store_errors import RunLost, StoreDamaged, StoreError, StoreInUse, StoreTooNew, StoreUnavailable
from runtime.journal import SqliteStore, sqlite_file, sqlite_possession, sqlite_writer
from runtime.journal.records import Record, RecordKind
from runtime.journal.sqlite_syncs import LogFile
from runtime.journal.store import Posted, PostedKind, RunQuery, StoredStatus
from runtime.journal.told_events import EventKeeper, ToldEvent
from runtime.testing.stores.samples import create, journal, new_run, opened, record, written

OVER = RecordKind.OVER


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "runs.db"


async def rested(store: SqliteStore) -> None:
    """Return when the thread is home again that has the connection: what is appended then is written immediately."""
    while store._writer()[0]._is_busy:
        await trio.lowlevel.checkpoint()


# --- the order --------------------------------------------------------------------------------------------------------------


async def test_a_plain_record_is_written_before_append_returns(path):
    """No thread, no wait: what makes a step cheap. It waits only while the thread is on its way home from other work."""
    async with opened(lambda: SqliteStore(path)) as store:
        await create(store)
        told: list[object] = []
        seq, was_immediate = 1, False

        with trio.fail_after(60):
            while not was_immediate:
                seq += 1
                store.append([record(store, seq)], False, told.append)
                was_immediate = len(told) == seq - 1
                while len(told) < seq - 1:
                    await trio.lowlevel.checkpoint()

        assert told == [None] * (seq - 1)


async def test_a_plain_record_behind_one_that_waits_for_its_sync_waits_too(path):
    """Else a crash could leave it without the one before it."""
    async with opened(lambda: SqliteStore(path)) as store:
        await create(store)
        told: list[int] = []
        over = trio.Event()

        store.append([record(store, 2)], True, lambda error: told.append(2))
        store.append([record(store, 3)], False, lambda error: told.append(3))
        store.append([record(store, 4)], False, lambda error: over.set())

        assert told == []
        with trio.fail_after(60):
            await over.wait()
        assert told == [2, 3]


async def test_a_plain_record_of_another_run_does_not_wait_for_a_sync(path, monkeypatch):
    """A sync takes milliseconds on a busy disk, and a step none."""
    synced, sync = threading.Event(), LogFile.sync

    def slow(log: LogFile) -> None:
        synced.wait()
        sync(log)

    async with opened(lambda: SqliteStore(path)) as store:
        await create(store)
        await create(store, new_run("other"))
        assert isinstance(store, SqliteStore)
        await rested(store)
        monkeypatch.setattr(LogFile, "sync", slow)
        told: list[object] = []
        try:
            store.append([record(store, 2)], True, lambda error: told.append((2, error)))
            store.append([record(store, 3)], False, lambda error: told.append((3, error)))
            store.append([record(store, 5)], False, lambda error: told.append((5, type(error))))
            store.append(
                [record(store, seq, run="other") for seq in (2, 3)], False, lambda error: told.append("two of the other")
            )
            store.append([record(store, 4, run="other")], False, lambda error: told.append("one of the other"))
            assert told == ["two of the other", "one of the other"]
            assert [row.seq for row in await journal(store)] == [1, 2, 3]
        finally:
            synced.set()
        with trio.fail_after(60):
            assert await written(store, record(store, 4), sync=True) is None

        assert told[2:] == [(2, None), (3, None), (5, StoreUnavailable)]


async def test_records_of_a_run_that_waits_for_a_sync_are_told_in_their_order_by_whichever_thread(path, monkeypatch):
    begun, synced, sync = threading.Event(), threading.Event(), LogFile.sync

    def slow(log: LogFile) -> None:
        monkeypatch.setattr(LogFile, "sync", sync)
        begun.set()
        synced.wait()
        sync(log)

    async with opened(lambda: SqliteStore(path)) as store:
        await create(store)
        assert isinstance(store, SqliteStore)
        writer = store._writer()[0]
        await rested(store)
        monkeypatch.setattr(LogFile, "sync", slow)
        told: list[int] = []
        try:
            store.append([record(store, 2)], True, lambda error: told.append(2))
            await trio.to_thread.run_sync(begun.wait)
            writer._pages = sqlite_writer.LOG_PAGES  # so the other thread does the next
            store.append([record(store, 3)], True, lambda error: told.append(3))
            with trio.fail_after(60):
                await rested(store)
            assert told == []
        finally:
            synced.set()
        with trio.fail_after(60):
            assert await written(store, record(store, 4), sync=True) is None

        assert told == [2, 3]
        assert store.statistics()["queued"] == 0


async def test_what_waits_for_a_sync_shares_one(path):
    async with opened(lambda: SqliteStore(path)) as store:
        for number in range(100):
            await create(store, new_run(f"r{number}"))
        before = store.statistics()["syncs"]

        async def write(number: int) -> None:
            assert await written(store, record(store, 2, run=f"r{number}"), sync=True) is None

        async with trio.open_nursery() as nursery:
            for number in range(100):
                nursery.start_soon(write, number)

        assert store.statistics()["syncs"] - before < 20


async def test_no_more_than_a_bound_waits_and_the_rest_is_turned_away_in_its_turn(path, monkeypatch):
    monkeypatch.setattr(sqlite_writer, "MAX_WAITING", 50)
    async with opened(lambda: SqliteStore(path)) as store:
        await create(store)
        told: list[object] = []
        over = trio.Event()

        for seq in range(2, 72):
            store.append([record(store, seq)], True, told.append)
        store.append([record(store, 72)], True, lambda error: over.set())
        with trio.fail_after(60):
            await over.wait()

        assert told[:50] == [None] * 50
        assert {type(error) for error in told[50:]} == {StoreUnavailable}
        assert await written(store, record(store, 52)) is None
        assert [row.seq for row in await journal(store)] == list(range(1, 53))


async def test_the_log_is_copied_by_the_thread_and_does_not_grow(path, monkeypatch):
    monkeypatch.setattr(sqlite_writer, "LOG_PAGES", 50)
    async with opened(lambda: SqliteStore(path)) as store:
        await create(store)

        for seq in range(2, 600):
            assert await written(store, record(store, seq, data=b'"' + b"x" * 300 + b'"')) is None

        assert store.statistics()["checkpoints"] > 5
        assert path.with_name("runs.db-wal").stat().st_size < 2_000_000
        assert len(await journal(store)) == 599


async def test_a_cancelled_call_has_an_outcome_that_is_known(path):
    """The transaction that has begun is waited for; before it, nothing happens."""
    async with opened(lambda: SqliteStore(path)) as store:
        with trio.CancelScope() as scope:
            scope.cancel()
            await create(store, new_run("never"))
        assert await store.run("never") is None

        with trio.CancelScope() as scope:
            trio.lowlevel.current_trio_token().run_sync_soon(scope.cancel)
            await create(store, new_run("whole"))
        assert len(await journal(store, "whole")) == 1


async def test_a_process_that_can_have_no_more_threads_is_told_and_goes_on_when_it_can(path, monkeypatch):
    def refuse(*_: object) -> None:
        raise RuntimeError("can't start new thread")

    async with opened(lambda: SqliteStore(path)) as store:
        await create(store)
        told, row = list[object](), record(store, 2)
        with monkeypatch.context() as patched:
            patched.setattr(trio.lowlevel, "start_thread_soon", refuse)
            store.append([row], True, told.append)
            with pytest.raises(StoreUnavailable, match="new thread"):
                await create(store, new_run("never"))
            patched.setattr("trio._core._thread_cache.ThreadCache.start_thread_soon", refuse)
            patched.setattr("trio._threads.start_thread_soon", refuse)
            with pytest.raises(StoreUnavailable, match="new thread"):
                await store.run("r")
        (error,) = told
        assert isinstance(error, StoreUnavailable)
        assert "Fix: let this process have more threads" in str(error)

        assert await written(store, row, sync=True) is None
        assert [each.seq for each in await journal(store)] == [1, 2]


async def test_what_waits_when_no_thread_can_go_on_with_it_is_told_so_and_written_later(path, monkeypatch):
    """The thread came back, more had come meanwhile, and there was no thread any more."""

    def refuse(*_: object) -> None:
        raise RuntimeError("can't start new thread")

    async with opened(lambda: SqliteStore(path)) as store:
        await create(store)
        assert isinstance(store, SqliteStore)
        writer = store._writer()[0]
        told: list[object] = []
        with monkeypatch.context() as patched:
            patched.setattr(trio.lowlevel, "start_thread_soon", refuse)
            writer._is_busy = True  # as while a thread is about to come back
            store.append([record(store, 2)], True, told.append)
            store.append([record(store, 3)], True, told.append)
            writer._rested(outcome.Value(()))
        assert [type(each) for each in told] == [StoreUnavailable, StoreUnavailable]
        assert writer.queued == 0

        for seq in (2, 3):
            assert await written(store, record(store, seq), sync=True) is None
        assert [each.seq for each in await journal(store)] == [1, 2, 3]


async def test_a_store_is_closed_whatever_fills_the_threads_of_the_program(path):
    """Calls of the program's own that block have all of trio's threads, and no one knows for how long."""
    limiter = trio.to_thread.current_default_thread_limiter()
    borrowers = [object() for _ in range(int(limiter.total_tokens))]
    for borrower in borrowers:
        await limiter.acquire_on_behalf_of(borrower)
    try:
        with trio.fail_after(60):
            async with opened(lambda: SqliteStore(path)) as store:
                await create(store)
                assert await store.run("r") is not None
    finally:
        for borrower in borrowers:
            limiter.release_on_behalf_of(borrower)


async def test_a_store_is_closed_without_a_thread(path, monkeypatch):
    def refuse(*_: object) -> None:
        raise RuntimeError("can't start new thread")

    async with trio.open_nursery() as nursery:
        store = SqliteStore(path)
        await store.open("worker", nursery)
        await create(store)
        with monkeypatch.context() as patched:
            patched.setattr("trio._threads.start_thread_soon", refuse)
            await store.close()
    async with opened(lambda: SqliteStore(path)) as again:
        assert len(await journal(again)) == 1


async def test_an_error_of_the_writer_itself_ends_the_nursery_and_what_waits_is_written(path, monkeypatch):
    told: list[object] = []

    async def work() -> None:
        async with opened(lambda: SqliteStore(path)) as store:
            await create(store)
            assert isinstance(store, SqliteStore)
            writer = store._writer()[0]
            work_off = writer._work_off

            def fail() -> Any:
                monkeypatch.setattr(writer, "_work_off", work_off)
                raise ArithmeticError("a mistake")

            monkeypatch.setattr(writer, "_work_off", fail)
            writer._pages = sqlite_writer.LOG_PAGES  # so the thread does it
            store.append([record(store, 2)], True, told.append)
            await trio.sleep_forever()

    with pytest.raises(ExceptionGroup) as caught:
        await work()

    assert caught.group_contains(ArithmeticError)
    assert told == [None]


async def test_an_error_of_the_sync_itself_ends_the_nursery_and_who_waits_is_told(path, monkeypatch):
    told: list[Any] = []

    def fail(_: LogFile) -> None:
        raise ArithmeticError("a mistake")

    async def work() -> None:
        async with opened(lambda: SqliteStore(path)) as store:
            await create(store)
            assert isinstance(store, SqliteStore)
            await rested(store)
            monkeypatch.setattr(LogFile, "sync", fail)
            told.append(await written(store, record(store, 2), sync=True))
            await trio.sleep_forever()

    with trio.fail_after(60), pytest.raises(ExceptionGroup) as caught:
        await work()

    assert caught.group_contains(ArithmeticError)
    assert type(told[0]) is StoreError
    assert "a mistake" in str(told[0])


async def test_who_waits_for_the_writer_is_told_of_its_own_errors(path, monkeypatch):
    """Else it would wait forever: a wait for the store cannot be cancelled."""
    told: list[Any] = []

    async def work() -> None:
        async with opened(lambda: SqliteStore(path)) as store:
            await create(store)
            assert isinstance(store, SqliteStore)
            with monkeypatch.context() as patched:
                patched.setattr(store._writer()[0], "_committed", lambda _, in_thread: 1 / 0)
                store._writer()[0]._pages = sqlite_writer.LOG_PAGES  # so the thread does it
                told.append(await written(store, record(store, 2), sync=True))
                await trio.sleep_forever()

    with trio.fail_after(60), pytest.raises(ExceptionGroup) as caught:
        await work()

    assert caught.group_contains(ZeroDivisionError)
    assert type(told[0]) is StoreError
    assert "division by zero" in str(told[0])


async def test_a_process_without_memory_can_write_again_when_it_has_some(path, monkeypatch):
    async with opened(lambda: SqliteStore(path)) as store:
        await create(store)
        assert isinstance(store, SqliteStore)
        writer = store._writer()[0]
        names = writer._names

        class Full:
            def check(self) -> None:
                raise MemoryError

        for sync in (True, False):
            monkeypatch.setattr(writer, "_names", Full())
            outcome = await written(store, record(store, 2), sync=sync)
            assert type(outcome) is StoreUnavailable
            assert "no memory left" in str(outcome)
        monkeypatch.setattr(writer, "_names", names)
        assert await written(store, record(store, 2), sync=False) is None


async def test_the_writer_waits_for_a_program_that_has_locked_the_file_and_the_loop_does_not(path, monkeypatch):
    """A copy is made with `sqlite3 runs.db`, say: that is over soon, and no reason for a run to stall."""
    async with opened(lambda: SqliteStore(path)) as store:
        await create(store)
        assert isinstance(store, SqliteStore)
        writer, other = store._writer()[0], sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        begins: list[str] = []

        def look(statement: str) -> None:
            begins.append(statement)
            if statement.startswith("pragma busy_timeout=") and not statement.endswith("=0"):
                other.execute("rollback")

        other.execute("begin immediate")
        await rested(store)
        assert isinstance(await written(store, record(store, 2)), StoreUnavailable)
        writer._db.set_trace_callback(look)
        with trio.fail_after(60):
            assert await written(store, record(store, 2), sync=True) is None
            assert await written(store, record(store, 3), sync=True) is None
        writer._db.set_trace_callback(None)
        other.close()

        assert [row.seq for row in await journal(store)] == [1, 2, 3]
        assert [each for each in begins if each.startswith("begin")] == ["begin immediate"] * 3
        [(patience,)] = writer._db.execute("pragma busy_timeout").fetchall()
        assert patience == 0


@pytest.mark.parametrize("is_alone", [True, False])
async def test_a_work_that_fails_leaves_nothing_behind_and_undoes_no_other(path, is_alone):
    def fail(db: sqlite3.Connection) -> None:
        db.execute("insert into meta values ('left', 'behind')")
        raise ZeroDivisionError

    async with opened(lambda: SqliteStore(path)) as store:
        await create(store)
        assert isinstance(store, SqliteStore)
        writer, others = store._writer()[0], list[Any]()
        await rested(store)
        commits = writer.commits
        if not is_alone:
            writer._is_busy = True  # so all of it waits for one transaction
            store.append([record(store, 2)], True, others.append)
            writer._put(sqlite_writer._Work(fail, others.append, sync=False))
            store.append([record(store, 3)], True, others.append)
            writer._is_busy = False
        with pytest.raises(StoreError, match="ZeroDivisionError"):
            await writer.do(fail, sync=False)
        assert writer.commits - commits == (0 if is_alone else 1)
        assert await written(store, record(store, 2 if is_alone else 4)) is None

        assert [isinstance(each, outcome.Error) for each in others] == ([] if is_alone else [False, True, False])
        assert [row.seq for row in await journal(store)] == ([1, 2] if is_alone else [1, 2, 3, 4])
        assert await store._read(lambda db: db.execute("select * from meta where key = 'left'").fetchall()) == []


async def test_closing_writes_what_waits(path):
    told: list[object] = []
    async with opened(lambda: SqliteStore(path)) as store:
        await create(store)
        for seq in range(2, 300):
            store.append([record(store, seq)], True, told.append)

    assert told == [None] * 298
    async with opened(lambda: SqliteStore(path)) as store:
        assert len(await journal(store)) == 299


# --- one owner --------------------------------------------------------------------------------------------------------------


async def test_what_is_read_of_a_closed_store_keeps_no_connection_open(path, monkeypatch):
    """A read may wait for a thread while its store is closed."""
    made: list[sqlite3.Connection] = []
    open_to_read = sqlite_possession.open_to_read

    def opening(place: Path) -> sqlite3.Connection:
        made.append(open_to_read(place))
        return made[-1]

    monkeypatch.setattr("runtime.journal.sqlite.open_to_read", opening)
    store = SqliteStore(path)
    async with opened(lambda: store):
        assert await store.schedules() == []
    assert await store.schedules() == []

    assert len(made) == 2
    for connection in made:
        with pytest.raises(sqlite3.ProgrammingError, match="closed database"):
            connection.execute("select 1")


async def test_a_second_owner_is_told_the_process_and_what_to_do(path):
    async with opened(lambda: SqliteStore(path)), trio.open_nursery() as nursery:
        with pytest.raises(StoreInUse) as caught:
            await SqliteStore(path).open("another", nursery)

    assert str(caught.value) == (
        f"the store {path} belongs to process {os.getpid()}, and a SQLite file has one owner at a time.\n"
        "  Fix: end that process first; to have several workers, use PostgreSQL (store='postgresql://…')."
    )


async def test_a_file_system_without_locks_is_rejected(path, monkeypatch):
    monkeypatch.setattr(fcntl, "flock", lambda file, how: None)
    async with trio.open_nursery() as nursery:
        with pytest.raises(StoreUnavailable, match="does not honour locks"):
            await SqliteStore(path).open("w", nursery)

    monkeypatch.undo()
    async with opened(lambda: SqliteStore(path)) as store:
        await create(store)


async def test_all_files_can_be_read_by_this_user_only(path):
    former = os.umask(0)
    try:
        async with opened(lambda: SqliteStore(path)) as store:
            await create(store)
            await store.post(Posted("r", PostedKind.SIGNAL, "k"))
            modes = {file.name: stat.S_IMODE(file.stat().st_mode) for file in path.parent.iterdir()}
    finally:
        os.umask(former)

    assert modes == {f"runs.db{end}": 0o600 for end in ("", "-wal", "-shm", "-owner", "-inbox")}


async def test_a_store_that_is_not_open_can_be_read_and_posted_to_by_another_process(path):
    """Its posts reach the owner, and wake runs that wait."""
    script = textwrap.dedent("""
        import sys, trio
        from runtime.journal import SqliteStore
        from runtime.journal.store import Posted, PostedKind
        async def main():
            store = SqliteStore(sys.argv[1])
            records = [each.seq async for each in store.read("r")]
            posts = [await store.post(Posted(run, PostedKind.SIGNAL, "k", b"1")) for run in ("r", "r", "waits")]
            print(records, posts, (await store.run("r")).status)
            await store.close()
        trio.run(main)
    """)
    async with opened(lambda: SqliteStore(path)) as store:
        for name in ("r", "waits"):
            await create(store, new_run(name))
        assert await written(store, record(store, 2)) is None
        await store.release("waits", StoredStatus.WAITING, None)

        done = await trio.run_process([sys.executable, "-c", script, str(path)], capture_stdout=True)

        assert done.stdout.decode() == "[1, 2] [True, False, True] running\n"
        with trio.fail_after(60):
            assert [item.run for item in await store.posted()] == ["r"]
        assert [run.id for run in await store.claim({("g", "1")}, 10)] == ["waits"]


async def test_what_was_posted_while_no_process_had_the_store_wakes_a_run(path):
    async with opened(lambda: SqliteStore(path)) as store:
        await create(store)
        await store.release("r", StoredStatus.WAITING, None)
    outside = SqliteStore(path)
    assert await outside.post(Posted("r", PostedKind.CANCEL, ""))
    await outside.close()

    async with opened(lambda: SqliteStore(path)) as store:
        assert [run.id for run in await store.claim({("g", "1")}, 10)] == ["r"]
        with trio.fail_after(60):
            assert [item.kind for item in await store.posted()] == [PostedKind.CANCEL]
        await store.release("r", StoredStatus.WAITING, None)
        assert await store.claim({("g", "1")}, 10) == []


async def test_posts_are_seen_after_somebody_has_deleted_the_inbox(path):
    """Its numbers begin again at 1."""
    async with opened(lambda: SqliteStore(path)) as store:
        await create(store)
        for key in "abc":
            await store.post(Posted("r", PostedKind.SIGNAL, key))
    path.with_name("runs.db-inbox").unlink()

    async with opened(lambda: SqliteStore(path)) as store:
        await store.take("r")
        await store.release("r", StoredStatus.WAITING, None)
        await store.post(Posted("r", PostedKind.SIGNAL, "d"))
        assert [run.id for run in await store.claim({("g", "1")}, 10)] == ["r"]


async def test_a_run_that_is_taken_while_it_is_forgotten_is_either_gone_or_whole(path):
    async with opened(lambda: SqliteStore(path)) as store:
        for number in range(20):
            run = f"r{number}"
            await create(store, new_run(run, here=False))
            await store.post(Posted(run, PostedKind.SIGNAL, "k"))
            outcomes: dict[str, object] = {}

            async def note(name: str, call: Any, outcomes: dict[str, object] = outcomes, run: str = run) -> None:
                try:
                    outcomes[name] = await call(run)
                except StoreError as error:
                    outcomes[name] = error

            async with trio.open_nursery() as nursery:
                nursery.start_soon(note, "taken", store.take)
                nursery.start_soon(note, "forgotten", store.forget)

            left = (len(await journal(store, run)), len(await store.inbox(run)))
            assert left == ((0, 0) if outcomes["forgotten"] is True else (1, 1)), outcomes
            assert (outcomes["taken"] is None) == (outcomes["forgotten"] is True)


async def test_a_store_that_is_not_there_is_not_made_by_reading(path):
    store = SqliteStore(path)

    with pytest.raises(StoreUnavailable, match=r"there is no store .*runs\.db"):
        await store.runs(RunQuery())

    assert list(path.parent.iterdir()) == []


@pytest.mark.parametrize("name", ["", ":memory:", "file:x?mode=memory"])
def test_what_is_not_a_file_is_rejected(name):
    with pytest.raises(UsageError, match=r"MemoryStore\(\)"):
        SqliteStore(name)


async def test_names_with_odd_characters_are_files_like_others(tmp_path):
    path = tmp_path / "a b?c#d%20é.db"
    async with opened(lambda: SqliteStore(path)) as store:
        await create(store)

    assert path.is_file()


async def test_a_database_of_something_else_is_left_alone(path):
    db = sqlite3.connect(path)
    db.execute("create table mine(x)")
    db.close()
    async with trio.open_nursery() as nursery:
        with pytest.raises(StoreError, match="database of something else"):
            await SqliteStore(path).open("w", nursery)

    path.write_bytes(b"not a database" * 100)
    async with trio.open_nursery() as nursery:
        with pytest.raises(StoreDamaged):
            await SqliteStore(path).open("w", nursery)
    assert path.read_bytes().startswith(b"not a database")


async def test_the_clock_is_the_one_that_is_given(path):
    when = datetime(2026, 11, 28, 18, tzinfo=UTC)
    async with opened(lambda: SqliteStore(path, wall_time=lambda: when)) as store:
        run = await create(store)
        await store.release("r", StoredStatus.WAITING, when + timedelta(microseconds=1))
        assert run.created == when
        assert await store.claim({("g", "1")}, 1) == []

        when += timedelta(microseconds=1)

        assert len(await store.claim({("g", "1")}, 1)) == 1


# --- schemas ----------------------------------------------------------------------------------------------------------------


async def test_a_migration_is_whole_and_keeps_a_copy(path, monkeypatch):
    async with opened(lambda: SqliteStore(path)) as store:
        await create(store)
    steps = ("alter table runs add column color text", "update runs set color = 'red'")
    now = sqlite_file.SCHEMA
    for module in (sqlite_file, sqlite_possession):
        monkeypatch.setattr(module, "SCHEMA", now + 1)

    monkeypatch.setattr(sqlite_file, "MIGRATIONS", {now: (*steps, "nonsense")})
    async with trio.open_nursery() as nursery:
        with pytest.raises(StoreError, match="nonsense"):
            await SqliteStore(path).open("w", nursery)
    monkeypatch.setattr(sqlite_file, "MIGRATIONS", {now: steps})
    reader = SqliteStore(path)
    with pytest.raises(StoreError, match=f"has the older schema {now}"):
        await reader.runs(RunQuery())
    await reader.close()
    async with opened(lambda: SqliteStore(path)) as store:
        assert [run.id for run in (await store.runs(RunQuery())).items] == ["r"]

    for file, schema in ((path, f"{now + 1}"), (path.with_name(f"runs.db-schema-{now}"), f"{now}")):
        db = sqlite3.connect(file)
        assert db.execute("select value from meta where key = 'schema'").fetchall() == [(schema,)]
        assert db.execute("select count(*) from journal").fetchall() == [(1,)]
        db.close()
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
    monkeypatch.undo()
    async with trio.open_nursery() as nursery:
        with pytest.raises(StoreTooNew, match=f"has schema {now + 1}, and this release knows {now}"):
            await SqliteStore(path).open("w", nursery)


async def test_a_file_of_the_first_schema_goes_on(path):
    async with opened(lambda: SqliteStore(path)) as store:
        await create(store)
    db = sqlite3.connect(path)
    db.executescript(
        "drop table told; drop table allowances; drop table names; alter table runs drop column left_by; "
        "update meta set value = '1' where key = 'schema'"
    )
    db.close()

    async with opened(lambda: SqliteStore(path)) as store:
        assert isinstance(store, EventKeeper)
        assert await store.tell("r", [ToldEvent(0, "run.started", b"{}")])
        assert [run.id for run in (await store.runs(RunQuery())).items] == ["r"]


# --- faults of the disk -----------------------------------------------------------------------------------------------------


async def test_a_full_disk_loses_nothing_and_the_run_goes_on_when_there_is_room(path):
    """A limit on the size of files, as the kernel enforces it: SQLite cannot write another page."""
    async with opened(lambda: SqliteStore(path)) as store:
        await create(store)
        assert await written(store, record(store, 2)) is None
        rows = [record(store, seq, data=b'"' + b"x" * 20_000 + b'"') for seq in range(3, 8)]
        with file_limit(path.with_name("runs.db-wal").stat().st_size + 10_000):
            errors = [await written(store, row, sync=row.seq % 2 == 0) for row in rows]

        assert {type(error) for error in errors} == {StoreUnavailable}
        assert await journal(store, after=2) == []
        assert [await written(store, row) for row in rows] == [None] * 5
        assert [row.seq for row in await journal(store)] == list(range(1, 8))


@contextmanager
def file_limit(size: int) -> Iterator[None]:
    former = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, former[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, former)


class FaultyConnection:
    """A connection whose statements of one kind fail with an error of SQLite while `code` is set."""

    code: int | None = None
    statement = "commit"
    said: ClassVar[list[str]] = []

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db

    def execute(self, sql: str, *values: Any) -> sqlite3.Cursor:
        type(self).said.append(sql)
        code = type(self).code
        if code is not None and sql.startswith(type(self).statement):
            error = sqlite3.OperationalError("a fault that the test planned")
            error.sqlite_errorcode = code
            raise error
        return self._db.execute(sql, *values)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._db, name)


@pytest.fixture
def faulty(monkeypatch) -> type[FaultyConnection]:
    class Faulty(FaultyConnection):
        said: ClassVar[list[str]] = []

    connect = sqlite_file.connect
    monkeypatch.setattr(
        sqlite_possession,
        "connect",
        lambda path, mode: Faulty(connect(path, mode=mode)) if mode == "rw" else connect(path, mode=mode),
    )
    return Faulty


@pytest.mark.parametrize("statement", ["begin", "insert into", "commit"])
@pytest.mark.parametrize(
    "code", [sqlite3.SQLITE_FULL, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_IOERR | 4 << 8, sqlite3.SQLITE_BUSY]
)
async def test_an_error_of_the_disk_at_any_statement_leaves_nothing_behind(path, faulty, statement, code):
    async with opened(lambda: SqliteStore(path)) as store:
        await create(store)
        rows = [record(store, 2), record(store, 3)]
        faulty.code, faulty.statement = code, statement
        assert isinstance(await written(store, *rows, sync=True), StoreUnavailable)
        with pytest.raises(StoreUnavailable):
            await create(store, new_run("another"))
        faulty.code = None

        assert len(await journal(store)) == 1
        assert await store.run("another") is None
        assert await written(store, *rows, sync=True) is None
        assert await journal(store, after=1) == rows


async def test_after_an_error_of_the_disk_no_sync_is_believed_before_the_log_was_copied(path, faulty):
    """The kernel reports a failed sync once, and may have dropped what it could not write: the next one succeeds without it."""
    async with opened(lambda: SqliteStore(path)) as store:
        await create(store)
        rows = [record(store, 2), record(store, 3)]
        faulty.code = sqlite3.SQLITE_IOERR | 4 << 8
        assert isinstance(await written(store, *rows, sync=True), StoreUnavailable)
        faulty.code = None
        faulty.said.clear()

        assert await written(store, *rows, sync=True) is None

        assert faulty.said.index("pragma wal_checkpoint(passive)") < faulty.said.index("commit")


@pytest.mark.parametrize("is_read", [False, True])
async def test_after_a_sync_that_failed_none_is_believed_before_the_log_was_copied(path, faulty, monkeypatch, is_read):
    """As long as somebody reads what was there before, the log cannot be copied whole."""
    sync = LogFile.sync

    def fail(log: LogFile) -> None:
        monkeypatch.setattr(LogFile, "sync", sync)
        raise OSError(errno.EIO, "Input/output error")

    async with opened(lambda: SqliteStore(path)) as store:
        await create(store)
        assert isinstance(store, SqliteStore)
        await rested(store)
        monkeypatch.setattr(LogFile, "sync", fail)
        reader = sqlite3.connect(path, isolation_level=None)
        if is_read:
            reader.execute("begin").execute("select * from runs").fetchall()
        faulty.said.clear()
        row = record(store, 2)
        assert isinstance(await written(store, row, sync=True), StoreUnavailable)
        assert "pragma wal_checkpoint(passive)" not in faulty.said

        if is_read:
            again = await written(store, row, sync=True)
            assert isinstance(again, StoreUnavailable)
            assert "no sync of it is believed" in str(again)
        reader.close()
        assert await written(store, row, sync=True) is None
        assert "pragma wal_checkpoint(passive)" in faulty.said
        assert await written(store, record(store, 3), sync=True) is None
        assert [row.seq for row in await journal(store)] == [1, 2, 3]


async def test_what_was_written_while_a_sync_failed_is_not_believed_either(path, monkeypatch):
    """The kernel tells of what it could not write once, whoever wrote it, and the next sync would succeed without it."""
    begun, may_fail, sync = threading.Event(), threading.Event(), LogFile.sync

    def fail(log: LogFile) -> None:
        monkeypatch.setattr(LogFile, "sync", sync)
        begun.set()
        may_fail.wait()
        raise OSError(errno.EIO, "Input/output error")

    async with opened(lambda: SqliteStore(path)) as store:
        assert isinstance(store, SqliteStore)
        for run in ("r", "other"):
            await create(store, new_run(run))
        await rested(store)
        monkeypatch.setattr(LogFile, "sync", fail)
        told: list[object] = []
        rows = [record(store, 2, run="other"), record(store, 3, run="other")]
        store.append([record(store, 2)], True, told.append)
        await trio.to_thread.run_sync(begun.wait)
        store.append(rows[:1], True, told.append)
        store.append(rows[1:], False, told.append)
        may_fail.set()
        with trio.fail_after(60):
            while len(told) < 3:
                await trio.lowlevel.checkpoint()

        assert [type(error) for error in told] == [StoreUnavailable] * 3
        before = store.statistics()["checkpoints"]
        assert await written(store, *rows, sync=True) is None
        assert store.statistics()["checkpoints"] > before


async def test_a_record_that_is_there_and_was_not_synced_is_synced_when_it_is_appended_again(path, monkeypatch):
    """By the thread, too, whose transaction then writes nothing."""
    synced: list[int] = []
    sync = LogFile.sync

    def counted(log: LogFile) -> None:
        synced.append(1)
        sync(log)

    def refused(*_: object) -> None:
        raise RuntimeError("can't start new thread")

    async with opened(lambda: SqliteStore(path)) as store:
        assert isinstance(store, SqliteStore)
        await create(store)
        await rested(store)
        with monkeypatch.context() as patch:
            patch.setattr(trio.lowlevel, "start_thread_soon", refused)
            row = record(store, 2)
            assert isinstance(await written(store, row, sync=True), StoreUnavailable)
        monkeypatch.setattr(LogFile, "sync", counted)
        writer = store._writer()[0]
        async with trio.open_nursery() as nursery:
            nursery.start_soon(partial(writer.do, lambda db: None, sync=False))
            while not writer._is_busy:
                await trio.lowlevel.checkpoint()
            assert await written(store, row, sync=True) is None

        assert synced


@pytest.mark.parametrize("end", ["", "-wal"])
async def test_a_file_that_was_moved_away_is_noticed_and_used_again_when_it_is_back(path, end, monkeypatch):
    """SQLite itself would go on writing to a file that has no name any more."""
    monkeypatch.setattr(sqlite_writer, "LOOK_EVERY", 1)
    file = path.with_name(f"runs.db{end}")
    async with opened(lambda: SqliteStore(path)) as store:
        await create(store)
        assert await written(store, record(store, 2)) is None
        file.rename(path.with_name("elsewhere"))

        for sync in (False, True):
            error = await written(store, record(store, 3), sync=sync)
            assert isinstance(error, StoreUnavailable)
            assert f"{file} was deleted, moved or replaced" in str(error)

        path.with_name("elsewhere").rename(file)
        assert await written(store, record(store, 3)) is None
        assert len(await journal(store)) == 3


# --- damage -----------------------------------------------------------------------------------------------------------------


async def with_records(path: Path, count: int = 30, codec: Any = None) -> list[Record]:
    async with opened(lambda: SqliteStore(path, codec=codec)) as store:
        await create(store)
        rows = [record(store, seq, data=f'"value {seq}"'.encode()) for seq in range(2, count + 1)]
        for row in rows:
            assert await written(store, row) is None
        await create(store, new_run("other"))
        return await journal(store)


async def test_a_log_cut_at_any_byte_of_its_last_frame_loses_that_record_at_most(path, tmp_path):
    """A missing tail is not damage: the run goes on from the record before."""
    async with opened(lambda: SqliteStore(path)) as store:
        await create(store)
        for seq in range(2, 12):
            assert await written(store, record(store, seq)) is None
        copies = {end: path.with_name(f"runs.db{end}").read_bytes() for end in ("", "-wal")}
    frame, cut = 4096 + 24, tmp_path / "cut.db"
    for missing in (*range(1, 40), *range(40, frame, 401), frame - 24, frame - 1, frame):
        for end, data in copies.items():
            cut.with_name(f"cut.db{end}").write_bytes(data[: len(data) - missing] if end else data)

        reader = SqliteStore(cut)
        found = await journal(reader)
        await reader.close()

        assert [row.seq for row in found] == list(range(1, 11))
        assert all(row.is_intact for row in found)
        for file in tmp_path.glob("cut.db*"):
            file.unlink()


async def test_a_flipped_bit_is_noticed_wherever_it_is(path, tmp_path):
    """The record is not intact, or the store says that it is damaged; nothing else is raised, and nothing wrong is believed."""
    whole = await with_records(path)
    data, flipped, chance = path.read_bytes(), tmp_path / "flipped.db", random.Random(7)
    outcomes = {"same": 0, "not intact": 0, "error": 0}
    for _ in range(300):
        place, changed = chance.randrange(100, len(data)), bytearray(data)
        changed[place] ^= 1 << chance.randrange(8)
        flipped.write_bytes(changed)
        reader = SqliteStore(flipped)
        try:
            found = await journal(reader)
            await reader.runs(RunQuery())
        except StoreError:
            outcomes["error"] += 1
        else:
            believed = [row for row in found if row.is_intact]
            assert [row for row in believed if row not in whole] == []
            outcomes["same" if found == whole else "not intact"] += 1
        await reader.close()

    assert min(outcomes.values()) > 0, outcomes


async def test_rows_that_were_exchanged_are_noticed(path):
    await with_records(path)
    db = sqlite3.connect(path)
    for a, b in ((4, -1), (5, 4), (-1, 5)):
        db.execute("update journal set seq = ? where run = 'r' and seq = ?", (b, a))
    db.commit()
    db.close()

    reader = SqliteStore(path)
    found = await journal(reader)
    await reader.close()

    assert [row.seq for row in found if not row.is_intact] == [4, 5]


async def test_a_kind_of_a_later_release_leaves_the_run_alone(path):
    await with_records(path)
    db = sqlite3.connect(path)
    db.execute("update journal set kind = 200 where run = 'r' and seq = 3")
    db.commit()
    db.close()

    async with opened(lambda: SqliteStore(path)) as store:
        with pytest.raises(StoreTooNew, match="record 3 of run 'r' is of kind 200"):
            await journal(store)
        assert len(await journal(store, "other")) == 1


# --- codecs -----------------------------------------------------------------------------------------------------------------


class KeyedCodec:
    """Real sealing needs a library; this one is enough to see what is bound to what."""

    def __init__(self, key: bytes) -> None:
        self._key = key

    def _stream(self, about: bytes, size: int) -> bytes:
        made = b""
        while len(made) < size:
            made += hmac.digest(self._key, about + len(made).to_bytes(4, "big"), "sha256")
        return made[:size]

    def seal(self, data: bytes, about: bytes) -> bytes:
        mixed = bytes(a ^ b for a, b in zip(data, self._stream(about, len(data)), strict=True))
        return hmac.digest(self._key, about + mixed, "sha256") + mixed

    def open(self, data: bytes, about: bytes) -> bytes:
        tag, mixed = data[:32], data[32:]
        if not hmac.compare_digest(tag, hmac.digest(self._key, about + mixed, "sha256")):
            raise ValueError("the tag is wrong")
        return bytes(a ^ b for a, b in zip(mixed, self._stream(about, len(mixed)), strict=True))


async def test_sealed_data_stands_nowhere_in_the_files_and_comes_back(path):
    """Digests and checksums of it neither: they would confirm a guess."""
    codec = KeyedCodec(b"k")
    async with opened(lambda: SqliteStore(path, codec=codec)) as store:
        await create(store, data=b'"secret input"')
        row = record(store, 2, data=b'"secret output"')
        assert await written(store, row) is None
        assert await written(store, row) is None
        assert isinstance(await written(store, record(store, 2, data=b'"another"')), RunLost)
        await store.post(Posted("r", PostedKind.SIGNAL, "k", b'"secret signal"'))

        assert (await journal(store, after=1)) == [row]
        [item] = await store.inbox("r")
        assert item.data == b'"secret signal"'
        files = b"".join(file.read_bytes() for file in path.parent.iterdir())
        assert b"secret" not in files
        assert row.digest not in files


async def test_sealed_rows_cannot_be_exchanged_nor_opened_with_another_key(path):
    await with_records(path, codec=KeyedCodec(b"k"))
    reader = SqliteStore(path, codec=KeyedCodec(b"another"))
    with pytest.raises(StoreDamaged) as caught:
        await journal(reader)
    await reader.close()
    assert (caught.value.run_id, caught.value.seq) == ("r", 1)
    assert "Fix: give it the key" in str(caught.value)

    db = sqlite3.connect(path)
    [(data, digest)] = db.execute("select data, digest from journal where run = 'r' and seq = 9").fetchall()
    bare = sqlite_file.connect(path, mode="ro")
    row = bare.execute("select path, at from journal where run = 'r' and seq = 8").fetchone()
    bare.close()
    forged = Record("r", 8, RecordKind.FINISHED, row[0], row[1], data, digest, b"", 0)
    db.execute("update journal set data = ?, digest = ?, crc = ? where run = 'r' and seq = 8", (data, digest, forged.checksum()))
    db.commit()
    db.close()
    reader = SqliteStore(path, codec=KeyedCodec(b"k"))
    with pytest.raises(StoreDamaged) as caught:
        await journal(reader)
    await reader.close()
    assert caught.value.seq == 8


async def test_a_codec_that_fails_is_an_error_of_that_record_only(path):
    class Moody(KeyedCodec):
        def seal(self, data: bytes, about: bytes) -> bytes:
            if b"bad" in data:
                raise KeyError("no key today")
            return super().seal(data, about)

    async with opened(lambda: SqliteStore(path, codec=Moody(b"k"))) as store:
        await create(store)
        await create(store, new_run("other"))
        outcomes: list[object] = []

        async with trio.open_nursery() as nursery:

            async def write(run: str, data: bytes) -> None:
                outcomes.append((run, type(await written(store, record(store, 2, run=run, data=data), sync=True))))

            nursery.start_soon(write, "r", b'"bad"')
            nursery.start_soon(write, "other", b'"good"')

        assert sorted(outcomes, key=str) == [("other", type(None)), ("r", StoreError)]


# --- what is kept -----------------------------------------------------------------------------------------------------------


async def test_a_warning_that_is_an_error_does_not_make_the_file_a_damaged_one(path):
    def warn(db: object) -> None:
        raise DeprecationWarning("it is old")

    async with opened(lambda: SqliteStore(path)) as store:
        assert isinstance(store, SqliteStore)
        with pytest.raises(StoreError, match=r"DeprecationWarning.* it is old") as caught:
            await store._writer()[0].do(warn, sync=False)
        with pytest.raises(StoreError, match="it is old") as read:
            await store._read(warn)
        await store.create(new_run("r"), record(store, 1, run="r", kind=RecordKind.STARTED))

    assert type(caught.value) is type(read.value) is StoreError


async def test_what_is_forgotten_is_not_in_the_file_any_more(path):
    async with opened(lambda: SqliteStore(path)) as store:
        await create(store, data=b'"to be forgotten"')
        assert await written(store, record(store, 2, kind=OVER, path="succeeded"), sync=True) is None
        await store.post(Posted("r", PostedKind.SIGNAL, "k", b'"to be forgotten"'))
        assert await store.forget("r")

    assert b"to be forgotten" not in b"".join(file.read_bytes() for file in path.parent.iterdir())


async def test_runs_are_claimed_again_after_a_copy_of_the_files(path, tmp_path):
    """A backup that was taken with the log beside it is a store."""
    async with opened(lambda: SqliteStore(path)) as store:
        await create(store)
        for end in ("", "-wal"):
            shutil.copy(path.with_name(f"runs.db{end}"), tmp_path / f"copy.db{end}")

    async with opened(lambda: SqliteStore(tmp_path / "copy.db")) as store:
        assert [run.lives for run in await store.claim({("g", "1")}, 10)] == [2]


# --- processes that end -----------------------------------------------------------------------------------------------------


def test_a_killed_writer_loses_nothing_that_was_acknowledged():
    """Short form; `python -m tests.runtime.journal.kills 1000` is the long one."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.runtime.journal.kills", "25"], capture_output=True, text=True, timeout=300, check=False
    )

    assert done.returncode == 0, done.stdout + done.stderr
    assert "25 kills, 0 lost, 0 gaps, 0 damaged" in done.stdout


def test_a_forked_child_neither_writes_nor_keeps_the_store_from_others(path):
    """The lock is the parent's: a child that outlives it must not hold it."""
    script = textwrap.dedent("""
        import os, sys, trio
        from runtime.journal import SqliteStore
        from runtime.testing.stores.samples import create, record, written
        async def main():
            store = SqliteStore(sys.argv[1])
            async with trio.open_nursery() as nursery:
                await store.open("w", nursery)
                await create(store)
                if os.fork() == 0:
                    told = []
                    store.append([record(store, 2)], False, told.append)
                    print(type(told[0]).__name__, flush=True)
                    os.read(0, 1)
                    os._exit(0)
                os._exit(0)
        trio.run(main)
    """)
    with subprocess.Popen(
        [sys.executable, "-c", script, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as parent:
        assert parent.stdin is not None
        assert parent.stdout is not None
        assert parent.stdout.readline() == "RunLost\n"
        assert parent.wait() == 0

        async def take_over() -> list[int]:
            async with opened(lambda: SqliteStore(path)) as store:
                return [row.seq for row in await journal(store)]

        assert trio.run(take_over) == [1]
        parent.stdin.close()
