"""Who has a run, and who may write of it: a part of the contract of stores."""

from __future__ import annotations

from datetime import timedelta

import trio

from actors.store_errors import RunLost, StoreInUse
from runtime.journal.records import RecordKind
from runtime.journal.store import (
    StoredRun,
    StoredStatus,
)
from runtime.testing.stores.samples import (
    MakeStore,
    create,
    journal,
    new_run,
    opened,
    record,
    written,
)


class OwnerContract:
    """Who has a run, and who may write of it."""

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
