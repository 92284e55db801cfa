"""What a store knows of runs, and how they are listed: a part of the contract of stores."""

from __future__ import annotations

from datetime import timedelta

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
from runtime.testing.stores.samples import (
    HOSTILE,
    UNSTORABLE,
    MakeStore,
    create,
    journal,
    new_run,
    opened,
    record,
    written,
)


class RunContract:
    """What a store knows of runs, and how they are listed."""

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

    async def test_a_filtered_list_has_pages_as_well(self, make_store: MakeStore) -> None:
        """No run that fits is left out at the edge of a page, and none that doesn't is counted."""
        async with opened(make_store) as store:
            for number in range(9):
                await create(store, new_run(f"r{number}", graph="gh"[number % 2], label="x" if number % 3 else None))
            found: list[str] = []
            after: str | None = None
            while True:
                page = await store.runs(RunQuery(graph="g", label="x", limit=1, after=after))
                assert len(page.items) <= 1
                found += [run.id for run in page.items]
                if page.after is None:
                    break
                after = page.after

            assert found == ["r8", "r4", "r2"]

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
