"""How runs are copied, forgotten and deleted: a part of the contract of stores."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import attrs
import trio

from actors.store_errors import RunLost, StoreError
from runtime.journal.records import RecordKind
from runtime.journal.store import (
    Created,
    Existing,
    Posted,
    PostedKind,
    RunQuery,
    StoredStatus,
)
from runtime.journal.told_events import EventKeeper, ToldEvent
from runtime.testing.stores.samples import (
    MakeStore,
    create,
    journal,
    new_run,
    opened,
    question_of,
    record,
    written,
)


class EndContract:
    """How runs are copied, forgotten and deleted."""

    async def test_a_run_that_another_version_has_adopted_is_of_that_version(self, make_store: MakeStore) -> None:
        """Otherwise a worker with the old code would take it up after a crash."""
        async with opened(make_store) as store:
            await store.create(new_run("r"), record(store, 1, kind=RecordKind.STARTED))
            await store.create(new_run("other"), record(store, 1, run="other", kind=RecordKind.STARTED))
            assert await written(store, record(store, 2, kind=RecordKind.RESUMED)) is None  # as each life begins
            assert await written(store, record(store, 3, kind=RecordKind.ADOPTED, path="2")) is None
            adopted = await store.run("r")
            assert adopted is not None
            assert (adopted.version, adopted.status, adopted.owner is None) == ("2", StoredStatus.RUNNING, False)
            assert await written(store, record(store, 4)) is None
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
                assert await written(store, asked, question=question_of(store, name)) is None
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

    async def test_a_fork_outlives_the_run_that_it_came_from(self, make_store: MakeStore) -> None:
        """Forgetting the one leaves the other whole, and it goes on."""
        async with opened(make_store) as store:
            await create(store)
            copied = [
                record(store, seq, run="fork", kind=kind) for seq, kind in ((1, RecordKind.STARTED), (2, RecordKind.FORKED))
            ]
            await store.fork(attrs.evolve(new_run("fork", here=False), parent="r", parent_seq=1), copied)
            await store.release("r", StoredStatus.CANCELLED, None)

            assert await store.forget("r")

            assert await journal(store, "fork") == copied
            taken = await store.take("fork")
            assert taken is not None
            assert taken.parent == "r"
            assert await written(store, record(store, 3, run="fork")) is None

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
            if not isinstance(store, EventKeeper):
                return
            assert not await store.tell("r", rows[:1])
            await create(store)

            assert await store.tell("r", rows[:3])
            assert await store.tell("r", rows[1:4])  # again, as after an answer that was lost
            assert not await store.tell("r", [attrs.evolve(rows[3], inside=b"another"), *rows[4:6]])
            assert await store.told("r", 3) == []
            assert await store.tell("r", rows[4:])
        async with opened(make_store) as store:
            assert isinstance(store, EventKeeper)
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
