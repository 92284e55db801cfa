"""What every store must do, as a class of tests: subclass :class:`StoreContract`, and give it a fixture ``make_store``.

::

    class TestMyStore(StoreContract):
        @pytest.fixture
        def make_store(self, tmp_path):
            return lambda: MyStore(tmp_path / "runs")

Each call returns a store that isn't open yet, and all of one test's stores hold the same data: the second is what another
process, or the same one after a restart, sees. The tests are coroutines; run them with pytest-trio (``trio_mode``, or
``@pytest.mark.trio`` on the class).
"""

from __future__ import annotations

import itertools
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Final

import attrs
import trio
import trio.testing

from actors.store_errors import RunLost, StoreError, StoreInUse
from runtime.journal.records import MAX_RECORD_BYTES, Record, RecordKind
from runtime.journal.store import (
    Created,
    Existing,
    NewRun,
    Posted,
    PostedKind,
    RunQuery,
    Store,
    StoredQuestion,
    StoredRun,
    StoredSchedule,
    StoredStatus,
)
from runtime.journal.told import EventLog, ToldEvent

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


class StoreContract:
    """The tests. A store that passes them can keep the journals of any graph."""

    # --- journals ---------------------------------------------------------------------------------------------------------

    async def test_records_come_back_as_they_were_written_and_in_order(self, make_store: MakeStore) -> None:
        """Every kind, data that is null, empty or not ASCII, and the number after which to begin."""
        async with opened(make_store) as store:
            await create(store)
            kinds = [kind for kind in RecordKind if kind not in {RecordKind.STARTED, RecordKind.OVER, RecordKind.PARKED}]
            datas = (None, b"", b'"a"', bytes(range(256)))
            rows = [
                record(store, seq, kind=kind, path=f"g/{kind}", data=datas[seq % 4]) for seq, kind in enumerate(kinds, start=2)
            ]

            for row in rows:
                assert await written(store, row) is None

            assert (await journal(store))[1:] == rows
            assert all(row.is_intact for row in await journal(store))
            assert await journal(store, after=3) == rows[2:]
            assert await journal(store, "another") == []
            stored = await store.run("r")
            assert stored is not None
            assert stored.last_seq == rows[-1].seq

    async def test_appends_are_done_in_the_order_in_which_they_came(self, make_store: MakeStore) -> None:
        """Durable ones among plain ones, of several runs, all waiting together."""
        async with opened(make_store) as store:
            for name in ("a", "b"):
                await create(store, new_run(name))
            told: list[tuple[str, int, object]] = []
            over = trio.Event()

            def done(run: str, seq: int, error: object) -> None:
                told.append((run, seq, error))
                if len(told) == 400:
                    over.set()

            for seq in range(2, 202):
                for name in ("a", "b"):
                    store.append([record(store, seq, run=name)], seq % 7 == 0, partial(done, name, seq))
            with trio.fail_after(PATIENCE_S):
                await over.wait()

            assert told == [(name, seq, None) for seq in range(2, 202) for name in ("a", "b")]
            assert [row.seq for row in await journal(store, "b")] == list(range(1, 202))

    async def test_a_batch_is_written_whole_or_not_at_all(self, make_store: MakeStore) -> None:
        """One bad row among three: none of them is stored, and the run goes on behind what was there."""
        async with opened(make_store) as store:
            await create(store)
            too_large = record(store, 3, data=b'"' + b"x" * MAX_RECORD_BYTES + b'"')

            error = await written(store, record(store, 2), too_large, record(store, 4))

            assert isinstance(error, StoreError), error
            assert [row.seq for row in await journal(store)] == [1]
            assert await written(store, record(store, 2), record(store, 3)) is None
            assert [row.seq for row in await journal(store)] == [1, 2, 3]

    async def test_a_record_appended_again_counts_as_written(self, make_store: MakeStore) -> None:
        """An append whose outcome was not known is sent again as it was."""
        async with opened(make_store) as store:
            await create(store)
            row = record(store, 2)
            assert await written(store, row) is None

            assert await written(store, row) is None
            assert await written(store, row, record(store, 3)) is None

            assert [each.seq for each in await journal(store)] == [1, 2, 3]

    async def test_another_record_under_a_number_that_is_taken_means_that_the_run_is_lost(self, make_store: MakeStore) -> None:
        """Two lives of one run write different things: the second to come is told, and nothing is overwritten."""
        async with opened(make_store) as store:
            await create(store)
            assert await written(store, record(store, 2, data=b'"first"')) is None

            error = await written(store, record(store, 2, data=b'"second"'), record(store, 3))

            assert isinstance(error, RunLost), error
            assert [row.data for row in (await journal(store))[1:]] == [b'"first"']

    async def test_a_record_behind_a_missing_one_is_rejected(self, make_store: MakeStore) -> None:
        """Else a crash would leave a journal with a hole."""
        async with opened(make_store) as store:
            await create(store)

            error = await written(store, record(store, 3))

            assert isinstance(error, StoreError), error
            assert [row.seq for row in await journal(store)] == [1]

    async def test_values_of_four_mebibytes_are_kept(self, make_store: MakeStore) -> None:
        """The largest that a record may be; one byte more is rejected."""
        async with opened(make_store) as store:
            await create(store)
            data = b'"' + b"\xe2\x82" * (MAX_RECORD_BYTES // 2 - 1) + b'"'
            assert await written(store, record(store, 2, data=data), sync=True) is None
            assert isinstance(await written(store, record(store, 3, data=data + b" ")), StoreError)

            assert [row.data for row in await journal(store, after=1)] == [data]

    async def test_everything_is_there_after_reopening(self, make_store: MakeStore) -> None:
        """Records, runs, questions, schedules and what was posted."""
        async with opened(make_store) as store:
            await create(store, new_run(label="mine"))
            question = _question(store)
            rows = [record(store, 2), record(store, 3, kind=RecordKind.ASKED)]
            assert await written(store, rows[0]) is None
            assert await written(store, rows[1], question=question) is None
            assert await store.post(Posted("r", PostedKind.SIGNAL, "k", b'"s"', "anna"))
            await store.schedule(_schedule(store))

        async with opened(make_store) as store:
            assert (await journal(store))[1:] == rows
            stored = await store.run("r")
            assert stored is not None
            assert (stored.label, stored.last_seq, stored.status, stored.owner) == ("mine", 3, StoredStatus.READY, None)
            assert list(await store.questions()) == [question]
            [posted] = await store.inbox("r")
            assert (posted.kind, posted.key, posted.data, posted.by) == (PostedKind.SIGNAL, "k", b'"s"', "anna")
            assert [each.name for each in await store.schedules()] == ["nightly"]

    # --- runs -------------------------------------------------------------------------------------------------------------

    async def test_a_run_is_created_once(self, make_store: MakeStore) -> None:
        """The second to ask is given the first one's run and record, unchanged."""
        async with opened(make_store) as store:
            made = await create(store, new_run(label="first"))
            other = record(store, 1, kind=RecordKind.STARTED, data=b'"other"')

            again = await store.create(new_run(label="second", graph="h"), other)

            assert isinstance(again, Existing)
            assert again.run == made
            assert (again.first.data, made.label, made.lives, made.status) == (b'{"n": 1}', "first", 1, StoredStatus.RUNNING)

    async def test_of_many_that_create_one_run_at_the_same_time_one_does(self, make_store: MakeStore) -> None:
        """Which one is chance; the others are told the same run."""
        async with opened(make_store) as store:
            answers: list[Created | Existing] = []

            async def start() -> None:
                answers.append(await store.create(new_run(), record(store, 1, kind=RecordKind.STARTED)))

            async with trio.open_nursery() as nursery:
                for _ in range(10):
                    nursery.start_soon(start)

            assert sum(isinstance(answer, Created) for answer in answers) == 1
            assert {answer.run.id for answer in answers} == {"r"}

    async def test_hostile_ids_and_labels_are_only_text(self, make_store: MakeStore) -> None:
        """Each names its own run, and no other."""
        async with opened(make_store) as store:
            for name in HOSTILE:
                await create(store, new_run(name, graph=name, version=name, label=name), data=name.encode())
                assert await written(store, record(store, 2, run=name, path=name)) is None

            for name in HOSTILE:
                assert [row.path for row in await journal(store, name)] == ["", name]
                page = await store.runs(RunQuery(label=name))
                assert [run.id for run in page.items] == [name]
                page = await store.runs(RunQuery(graph=name))
                assert [run.label for run in page.items] == [name]
                assert await store.post(Posted(name, PostedKind.SIGNAL, name))
                assert [each.key for each in await store.inbox(name)] == [name]
            assert len((await store.runs(RunQuery())).items) == len(HOSTILE)
            assert (await store.runs(RunQuery(label="%"))).items == ()

    async def test_text_that_the_store_cannot_hold_is_rejected_or_kept_whole(self, make_store: MakeStore) -> None:
        """Never cut, never another error than the store's."""
        async with opened(make_store) as store:
            for name in UNSTORABLE:
                try:
                    await create(store, new_run(name))
                except StoreError:
                    continue
                stored = await store.run(name)
                assert stored is not None
                assert stored.id == name
            await create(store)
            for name in UNSTORABLE:
                error = await written(store, record(store, 2, path=name))
                assert error is None or isinstance(error, StoreError), error
                if error is None:
                    assert (await journal(store))[-1].path == name
                    break
            assert all(row.is_intact for row in await journal(store))

    async def test_pages_list_the_newest_first_and_each_run_once(self, make_store: MakeStore) -> None:
        """Runs created between two pages do not shift the second one."""
        async with opened(make_store) as store:
            for number in range(7):
                await create(store, new_run(f"r{number}"))

            first = await store.runs(RunQuery(limit=3))
            await create(store, new_run("late"))
            second = await store.runs(RunQuery(limit=3, after=first.after))
            third = await store.runs(RunQuery(limit=3, after=second.after))

            assert [run.id for run in first.items] == ["r6", "r5", "r4"]
            assert [run.id for run in second.items] == ["r3", "r2", "r1"]
            assert [run.id for run in third.items] == ["r0"]
            assert third.after is None

    async def test_filters_can_be_combined(self, make_store: MakeStore) -> None:
        """Graph, status, label and time of the start."""
        async with opened(make_store) as store:
            for name, graph, label in (("a", "g", "x"), ("b", "g", None), ("c", "h", "x")):
                await create(store, new_run(name, graph=graph, label=label))
            assert await written(store, record(store, 2, run="a", kind=RecordKind.OVER, path="succeeded"), sync=True) is None

            async def found(query: RunQuery) -> list[str]:
                return [run.id for run in (await store.runs(query)).items]

            assert await found(RunQuery(graph="g")) == ["b", "a"]
            assert await found(RunQuery(label="x")) == ["c", "a"]
            assert await found(RunQuery(graph="g", label="x")) == ["a"]
            assert await found(RunQuery(status=StoredStatus.SUCCEEDED)) == ["a"]
            assert await found(RunQuery(status=StoredStatus.RUNNING, graph="h")) == ["c"]
            assert await found(RunQuery(started_after=store.wall_time() + timedelta(hours=1))) == []
            assert await found(RunQuery(started_after=store.wall_time() - timedelta(hours=1))) == ["c", "b", "a"]

    async def test_a_run_that_is_over_or_parked_belongs_to_nobody(self, make_store: MakeStore) -> None:
        """The record that ends it ends the ownership, in one transaction."""
        async with opened(make_store) as store:
            for name, kind, path in (("a", RecordKind.OVER, "failed"), ("b", RecordKind.PARKED, "")):
                await create(store, new_run(name))
                last = record(store, 2, run=name, kind=kind, path=path)
                assert await written(store, last, sync=True) is None

                stored = await store.run(name)
                assert stored is not None
                assert (stored.owner, stored.status.value) == (None, path or "parked")
                assert (stored.ended is not None) == stored.status.is_over
                assert isinstance(await written(store, record(store, 3, run=name)), RunLost)
                assert await written(store, last) is None
            assert await store.claim({("g", "1")}, 10) == []

    # --- who has a run ----------------------------------------------------------------------------------------------------

    async def test_due_runs_are_claimed_once_and_of_known_graphs_only(self, make_store: MakeStore) -> None:
        """Several claims at the same time share the due runs among them, the longest due first."""
        async with opened(make_store) as store:
            for number in range(20):
                await create(store, new_run(f"r{number}", here=False))
            await create(store, new_run("other graph", graph="h", here=False))
            await create(store, new_run("other version", version="2", here=False))
            await create(store, new_run("mine"))
            assert await store.claim({("g", "3")}, 10) == []
            assert [run.id for run in await store.claim({("g", "1")}, 2)] == ["r0", "r1"]
            claimed: list[StoredRun] = []

            async def claim() -> None:
                claimed.extend(await store.claim({("g", "1"), ("k", "1")}, 5))

            async with trio.open_nursery() as nursery:
                for _ in range(6):
                    nursery.start_soon(claim)

            assert sorted(run.id for run in claimed) == sorted(f"r{number}" for number in range(2, 20))
            assert {(run.status, run.lives, run.wake_at) for run in claimed} == {(StoredStatus.RUNNING, 1, None)}
            assert len({run.owner for run in claimed}) == 1
            assert await store.claim([], 5) == []

    async def test_a_run_is_taken_in_any_status_or_the_one_asked_for_unless_somebody_has_it(self, make_store: MakeStore) -> None:
        """Taking it is one more life."""
        async with opened(make_store) as store:
            await create(store)
            assert await store.take("r") is None
            assert await written(store, record(store, 2, kind=RecordKind.OVER, path="cancelled"), sync=True) is None

            assert await store.take("r", StoredStatus.READY) is None
            taken = await store.take("r")

            assert taken is not None
            assert (taken.status, taken.lives, taken.ended, taken.last_seq) == (StoredStatus.RUNNING, 2, None, 2)
            assert await written(store, record(store, 3, kind=RecordKind.RESUMED)) is None
            assert await store.take("unknown") is None
            await store.release("r", StoredStatus.READY, None)
            assert await store.take("r", StoredStatus.READY) is not None

    async def test_a_released_run_is_due_at_its_time(self, make_store: MakeStore) -> None:
        """And no one's until then: an append of the life that gave it up is rejected."""
        async with opened(make_store) as store:
            for name in ("now", "later", "asked"):
                await create(store, new_run(name))
            now = store.wall_time()
            await store.release("now", StoredStatus.WAITING, now - timedelta(seconds=1))
            await store.release("later", StoredStatus.WAITING, now + timedelta(hours=1))
            await store.release("asked", StoredStatus.WAITING, None)

            assert isinstance(await written(store, record(store, 2, run="later")), RunLost)
            assert [run.id for run in await store.claim({("g", "1")}, 10)] == ["now"]
            later = await store.run("later")
            assert later is not None
            assert (later.status, later.owner, later.wake_at) == (StoredStatus.WAITING, None, now + timedelta(hours=1))

    async def test_closing_hands_the_runs_back_and_ends_the_right_to_write(
        self, make_store: MakeStore, nursery: trio.Nursery
    ) -> None:
        """The next worker takes them up; what the former one still appends is rejected."""
        old = make_store()
        lease = await old.open("former", nursery)
        await create(old)
        row = record(old, 2)
        await old.close()
        await old.close()
        assert lease.lost.is_set()
        assert isinstance(await written(old, row), RunLost)

        async with opened(make_store) as store:
            [run] = await store.claim({("g", "1")}, 10)
            assert (run.id, run.lives) == ("r", 2)
            assert [each.seq for each in await journal(store)] == [1]
            assert isinstance(await written(old, row), RunLost)
            assert await written(store, row) is None

    async def test_two_writers_never_share_a_run(self, make_store: MakeStore, nursery: trio.Nursery) -> None:
        """A store for one process rejects the second; any other gives each run to one of them."""
        async with opened(make_store) as store:
            await create(store)
            other = make_store()
            try:
                await other.open("the other", nursery)
            except StoreInUse as error:
                assert "Fix:" in str(error)
                return
            try:
                assert await other.take("r") is None
                assert await other.claim({("g", "1")}, 10) == []
                assert isinstance(await written(other, record(other, 2)), RunLost)
                assert await written(store, record(store, 2)) is None
                assert len(await journal(other)) == 2
            finally:
                await other.close()

    # --- from outside -----------------------------------------------------------------------------------------------------

    async def test_what_is_posted_twice_counts_once(self, make_store: MakeStore) -> None:
        """By run, kind and key; numbers grow."""
        async with opened(make_store) as store:
            for name in ("a", "b"):
                await create(store, new_run(name))
            items = [
                Posted(run, kind, key, b"1")
                for run in ("a", "b")
                for kind in (PostedKind.SIGNAL, PostedKind.ANSWER)
                for key in "xy"
            ]

            assert [await store.post(item) for item in items] == [True] * 8
            assert [await store.post(attrs.evolve(item, data=b"2")) for item in items] == [False] * 8

            inbox = await store.inbox("a")
            assert [(each.kind, each.key, each.data) for each in inbox] == [(each.kind, each.key, b"1") for each in items[:4]]
            assert [each.id for each in inbox] == sorted({each.id for each in inbox})
            assert all(each.at is not None and each.at.tzinfo is not None for each in inbox)
            unknown = Posted("unknown", PostedKind.CANCEL, "")
            try:
                await store.post(unknown)
            except StoreError as error:
                assert "Fix:" in str(error)
            else:
                raise AssertionError("something was posted to a run that is not stored")

    async def test_the_worker_of_a_run_is_handed_what_is_posted_to_it_once_in_each_life(self, make_store: MakeStore) -> None:
        """``posted`` waits until there is some."""
        async with opened(make_store) as store:
            await create(store)
            handed: list[Sequence[Posted]] = []

            async def listen() -> None:
                handed.append(await store.posted())

            async with trio.open_nursery() as nursery:
                nursery.start_soon(listen)
                await trio.testing.wait_all_tasks_blocked()
                assert handed == []
                assert await store.post(Posted("r", PostedKind.SIGNAL, "one"))
            assert [[each.key for each in items] for items in handed] == [["one"]]
            assert await store.post(Posted("r", PostedKind.SIGNAL, "two"))
            with trio.fail_after(PATIENCE_S):
                assert [each.key for each in await store.posted()] == ["two"]
            assert [each.key for each in await store.inbox("r")] == ["one", "two"]

    async def test_posting_wakes_a_run_that_waits(self, make_store: MakeStore) -> None:
        """Before it was released, too, if it was not handed out: else it would wait forever."""
        async with opened(make_store) as store:
            for name in ("after", "before"):
                await create(store, new_run(name))
            assert await store.post(Posted("before", PostedKind.CANCEL, ""))
            for name in ("after", "before"):
                await store.release(name, StoredStatus.WAITING, None)
            assert await store.post(Posted("after", PostedKind.CANCEL, ""))

            assert sorted(run.id for run in await store.claim({("g", "1")}, 10)) == ["after", "before"]

    async def test_a_question_is_open_until_it_is_answered(self, make_store: MakeStore) -> None:
        """Asked and answered in the same transaction as the records that say so."""
        async with opened(make_store) as store:
            await create(store)
            question = _question(store)
            asked = record(store, 2, kind=RecordKind.ASKED)

            assert await written(store, asked, question=question) is None
            assert list(await store.questions()) == list(await store.questions("r")) == [question]
            assert await store.questions("another") == []
            assert isinstance(
                await written(store, record(store, 2, kind=RecordKind.ANSWERED, data=b"2"), answered="r/q"), RunLost
            )
            assert list(await store.questions()) == [question]
            assert await written(store, record(store, 3, kind=RecordKind.ANSWERED), sync=True, answered="r/q") is None

            assert list(await store.questions()) == []
            known = await store.question("r/q")
            assert known is not None
            assert known.answered is not None
            assert attrs.evolve(known, answered=None) == question
            assert await store.question("none") is None

    async def test_the_end_of_a_run_strikes_out_its_questions(self, make_store: MakeStore) -> None:
        """And leaves those of other runs alone; a parked run keeps its own."""
        async with opened(make_store) as store:
            for name in ("r", "s", "t"):
                await create(store, new_run(name))
                asked = record(store, 2, kind=RecordKind.ASKED, run=name)
                assert await written(store, asked, question=_question(store, name)) is None
            over = record(store, 3, kind=RecordKind.OVER, run="r", path="cancelled")
            parked = record(store, 3, kind=RecordKind.PARKED, run="s")

            assert await written(store, over, sync=True) is None
            assert await written(store, parked) is None

            assert {each.run for each in await store.questions()} == {"s", "t"}
            known = await store.question("r/q")
            assert known is not None
            assert known.answered is not None

    async def test_a_tick_of_a_schedule_is_won_once(self, make_store: MakeStore) -> None:
        """By the one who saw the time that it moves on from."""
        async with opened(make_store) as store:
            first = _schedule(store)
            await store.schedule(first)
            later = (first.next_at or store.wall_time()) + timedelta(minutes=1)
            won: list[bool] = []

            async def tick() -> None:
                won.append(await store.tick("nightly", first.next_at, later))

            async with trio.open_nursery() as nursery:
                for _ in range(5):
                    nursery.start_soon(tick)

            assert sorted(won) == [False] * 4 + [True]
            assert list(await store.schedules()) == [attrs.evolve(first, next_at=later)]
            assert await store.tick("nightly", later, None)
            assert await store.tick("nightly", None, None)
            await store.schedule(attrs.evolve(first, spec="every 5"))
            assert [each.spec for each in await store.schedules()] == ["every 5"]
            assert await store.unschedule("nightly")
            assert not await store.unschedule("nightly")
            assert not await store.tick("nightly", first.next_at, None)

    # --- copies and ends --------------------------------------------------------------------------------------------------

    async def test_a_run_that_another_version_has_adopted_is_of_that_version(self, make_store: MakeStore) -> None:
        """Otherwise a worker with the old code would take it up after a crash."""
        async with opened(make_store) as store:
            await store.create(new_run("r"), record(store, 1, kind=RecordKind.STARTED))
            await store.create(new_run("other"), record(store, 1, run="other", kind=RecordKind.STARTED))
            assert await written(store, record(store, 2, kind=RecordKind.ADOPTED, path="2")) is None
            adopted = await store.run("r")
            assert adopted is not None
            assert (adopted.version, adopted.status, adopted.owner is None) == ("2", StoredStatus.RUNNING, False)
            assert await written(store, record(store, 3)) is None
            other = await store.run("other")
            assert other is not None
            assert other.version == "1"
            await store.release("r", StoredStatus.READY, store.wall_time())
            assert await store.claim({("g", "1")}, 10) == []
            assert [each.id for each in await store.claim({("g", "2")}, 10)] == ["r"]

    async def test_a_fork_is_a_run_of_its_own(self, make_store: MakeStore) -> None:
        """Its records are its own; anybody may take it up."""
        async with opened(make_store) as store:
            await create(store)
            assert await written(store, record(store, 2)) is None
            copied = [
                record(store, seq, run="fork", kind=kind) for seq, kind in ((1, RecordKind.STARTED), (2, RecordKind.FORKED))
            ]
            run = attrs.evolve(new_run("fork", here=False), parent="r", parent_seq=1)

            made = await store.fork(run, copied)

            assert isinstance(made, Created)
            assert (made.run.parent, made.run.parent_seq, made.run.last_seq) == ("r", 1, 2)
            assert isinstance(await store.fork(run, copied), Existing)
            assert await journal(store, "fork") == copied
            assert [each.id for each in await store.claim({("g", "1")}, 10)] == ["fork"]
            assert await written(store, record(store, 3, run="fork")) is None
            assert len(await journal(store)) == 2

    async def test_forgetting_a_run_leaves_nothing_of_it(self, make_store: MakeStore) -> None:
        """And nothing of others is touched; a run at work cannot be forgotten."""
        async with opened(make_store) as store:
            for name in ("r", "s"):
                await create(store, new_run(name))
                asked = record(store, 2, run=name, kind=RecordKind.ASKED)
                assert await written(store, asked, question=_question(store, name)) is None
                await store.post(Posted(name, PostedKind.SIGNAL, "k"))
            try:
                await store.forget("r")
            except StoreError as error:
                assert "Fix:" in str(error)
            else:
                raise AssertionError("a run at work was forgotten")
            await store.release("r", StoredStatus.FAILED, None)

            assert await store.forget("r")

            assert not await store.forget("r")
            assert (await store.run("r"), await journal(store), list(await store.inbox("r"))) == (None, [], [])
            assert [each.run for each in await store.questions()] == ["s"]
            assert (len(await journal(store, "s")), len(await store.inbox("s"))) == (2, 1)
            assert await store.question("r/q") is None
            assert isinstance(await written(store, record(store, 3)), RunLost)
            await create(store)
            assert [row.seq for row in await journal(store)] == [1]

    async def test_only_what_is_over_expires(self, make_store: MakeStore) -> None:
        """Successes and failures by their own limits; data may go before the rest."""
        async with opened(make_store) as store:
            for name, status in (("done", "succeeded"), ("failed", "failed"), ("cancelled", "cancelled"), ("running", "")):
                await create(store, new_run(name))
                if status:
                    assert await written(store, record(store, 2, run=name, kind=RecordKind.OVER, path=status), sync=True) is None
            soon = store.wall_time() + timedelta(hours=1)

            assert await store.expire(None, None, None) == 0
            assert await store.expire(datetime(2000, 1, 1, tzinfo=UTC), datetime(2000, 1, 1, tzinfo=UTC), None) == 0
            assert await store.expire(None, None, soon) == 0
            kept = await journal(store, "done")
            assert [(row.data, row.is_intact, row.kind) for row in kept] == [
                (None, True, RecordKind.STARTED),
                (None, True, RecordKind.OVER),
            ]
            assert kept[0].digest == record(store, 1, data=b'{"n": 1}').digest
            assert [row.data for row in await journal(store, "running")] == [b'{"n": 1}']
            assert await store.expire(soon, None, None) == 1
            assert await store.expire(None, soon, None) == 2
            assert [run.id for run in (await store.runs(RunQuery())).items] == ["running"]

    async def test_what_readers_were_told_is_kept_as_it_was(self, make_store: MakeStore) -> None:
        """Of a store that keeps it: once under each number, for runs that are stored, until they are forgotten."""
        rows = [ToldEvent(n, "node.finished", b'{"seq":%d}' % n, b"{}" if n % 2 else None) for n in range(1_200)]
        async with opened(make_store) as store:
            if not isinstance(store, EventLog):
                return
            assert not await store.tell("r", rows[:1])
            await create(store)

            assert await store.tell("r", rows[:3])
            assert await store.tell("r", rows[1:4])  # again, as after an answer that was lost
            assert not await store.tell("r", [attrs.evolve(rows[3], inside=b"another"), *rows[4:6]])
            assert await store.told("r", 3) == []
            assert await store.tell("r", rows[4:])
        async with opened(make_store) as store:
            assert isinstance(store, EventLog)
            found: list[ToldEvent] = []
            while page := await store.told("r", found[-1].seq if found else -1):
                found += page
            assert found == rows
            assert await store.told("s") == []
            assert await store.take("r") is not None
            assert await written(store, record(store, 2, kind=RecordKind.OVER, path="succeeded"), sync=True) is None
            await store.expire(None, None, store.wall_time() + timedelta(hours=1))
            assert await store.told("r") == []  # they hold what was dropped
            assert await store.tell("r", rows[:1])
            assert await store.forget("r")
            await create(store)
            assert await store.told("r") == []

    # --- looking in -------------------------------------------------------------------------------------------------------

    async def test_the_store_counts_and_has_a_clock(self, make_store: MakeStore) -> None:
        """In UTC."""
        async with opened(make_store) as store:
            before = store.wall_time()
            run = await create(store)

            assert before <= run.created <= store.wall_time()
            assert before.utcoffset() == timedelta(0)
            assert {"records", "commits", "queued"} <= set(store.statistics())

    async def test_reads_are_checkpoints(self, make_store: MakeStore) -> None:
        """A loop over a store never keeps others from running, and can be cancelled."""
        async with opened(make_store) as store:
            await create(store)
            with trio.CancelScope() as scope:
                scope.cancel()
                await store.run("r")
                raise AssertionError("a cancelled read went on")
            assert scope.cancelled_caught


def _question(store: Store, run: str = "r") -> StoredQuestion:
    now = store.wall_time()
    return StoredQuestion(f"{run}/q", run, "g/ask", b'{"a": 1}', ("m:Yes", "m:No"), now, now + timedelta(days=1), "anna")


def _schedule(store: Store) -> StoredSchedule:
    return StoredSchedule("nightly", "g", "every 60", "UTC", "last", b"{}", store.wall_time())
