"""What a store keeps of journals: a part of the contract of stores."""

from __future__ import annotations

from functools import partial

import trio

from actors.store_errors import RunLost, StoreError
from runtime.journal.records import MAX_RECORD_BYTES, RecordKind
from runtime.journal.store import (
    Posted,
    PostedKind,
    StoredStatus,
)
from runtime.testing.stores.samples import (
    PATIENCE_S,
    MakeStore,
    create,
    journal,
    new_run,
    opened,
    question_of,
    record,
    schedule_of,
    written,
)


class JournalContract:
    """What a store keeps of journals."""

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
        """Durable ones among plain ones, of several runs, all waiting together: for each run in its order."""
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

            for name in ("a", "b"):
                assert [each for each in told if each[0] == name] == [(name, seq, None) for seq in range(2, 202)]
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

    async def test_runs_that_are_written_together_keep_to_themselves(self, make_store: MakeStore) -> None:
        """A batch of several runs, with the same numbers and paths: each has its own rows, and one that doesn't fit stops all."""
        async with opened(make_store) as store:
            for name in ("a", "b"):
                await create(store, new_run(name))
            rows = [record(store, seq, run=name, data=f'"{name}{seq}"'.encode()) for seq in (2, 3) for name in ("a", "b")]

            assert await written(store, *rows) is None
            assert await written(store, record(store, 4, run="a"), record(store, 5, run="b")) is not None

            for name in ("a", "b"):
                assert [row.data for row in await journal(store, name)][1:] == [f'"{name}{seq}"'.encode() for seq in (2, 3)]

    async def test_everything_is_there_after_reopening(self, make_store: MakeStore) -> None:
        """Records, runs, questions, schedules and what was posted."""
        async with opened(make_store) as store:
            await create(store, new_run(label="mine"))
            question = question_of(store)
            rows = [record(store, 2), record(store, 3, kind=RecordKind.ASKED)]
            assert await written(store, rows[0]) is None
            assert await written(store, rows[1], question=question) is None
            assert await store.post(Posted("r", PostedKind.SIGNAL, "k", b'"s"', "anna"))
            await store.schedule(schedule_of(store))

        async with opened(make_store) as store:
            assert (await journal(store))[1:] == rows
            stored = await store.run("r")
            assert stored is not None
            assert (stored.label, stored.last_seq, stored.status, stored.owner) == ("mine", 3, StoredStatus.READY, None)
            assert list(await store.questions()) == [question]
            [posted] = await store.inbox("r")
            assert (posted.kind, posted.key, posted.data, posted.by) == (PostedKind.SIGNAL, "k", b'"s"', "anna")
            assert [each.name for each in await store.schedules()] == ["nightly"]
