"""What comes to a run from outside: posts, questions, ticks: a part of the contract of stores."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

import attrs
import trio
import trio.testing

from actors.store_errors import RunLost, StoreError
from runtime.journal.records import RecordKind
from runtime.journal.store import (
    Posted,
    PostedKind,
    StoredStatus,
)
from runtime.testing.stores.samples import (
    PATIENCE_S,
    MakeStore,
    create,
    new_run,
    opened,
    question_of,
    record,
    schedule_of,
    written,
)


class OutsideContract:
    """What comes to a run from outside: posts, questions, ticks."""

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

    async def test_a_run_that_is_released_is_due_if_its_worker_has_not_looked_at_all_of_its_inbox(
        self, make_store: MakeStore
    ) -> None:
        """Though it was handed out: the worker may have had no use for it any more."""
        async with opened(make_store) as store:
            for name in ("missed", "known"):
                await create(store, new_run(name))
                assert await store.post(Posted(name, PostedKind.SIGNAL, "one"))
            handed: list[str] = []
            while len(handed) < 2:
                with trio.fail_after(PATIENCE_S):
                    handed += [item.run for item in await store.posted()]
            await store.release("missed", StoredStatus.WAITING, None, looked_at=0)
            await store.release("known", StoredStatus.WAITING, None, looked_at=1)

            assert [run.id for run in await store.claim({("g", "1")}, 10)] == ["missed"]

    async def test_a_run_that_was_taken_again_is_not_given_up_by_a_call_for_an_earlier_life(self, make_store: MakeStore) -> None:
        """The answer to the first call was lost, and the second comes when this worker has the run again."""
        async with opened(make_store) as store:
            await create(store)
            await store.release("r", StoredStatus.READY, store.wall_time(), life=1)
            [run] = await store.claim({("g", "1")}, 10)
            assert run.lives == 2
            await store.release("r", StoredStatus.READY, store.wall_time(), life=1)

            found = await store.run("r")
            assert found is not None
            assert (found.owner, found.lives) == (run.owner, 2)
            assert await written(store, record(store, 2)) is None
            await store.release("r", StoredStatus.READY, store.wall_time(), life=2)
            assert [each.lives for each in await store.claim({("g", "1")}, 10)] == [3]

    async def test_a_question_is_open_until_it_is_answered(self, make_store: MakeStore) -> None:
        """Asked and answered in the same transaction as the records that say so."""
        async with opened(make_store) as store:
            await create(store)
            question = question_of(store)
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
                assert await written(store, asked, question=question_of(store, name)) is None
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
            first = schedule_of(store)
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
