"""Calls of a store that are cancelled at each of their checkpoints: the store is whole afterwards, and goes on."""

from __future__ import annotations

from datetime import timedelta

import attrs
import trio.lowlevel

from runtime.journal.log import RunLog
from runtime.journal.records import RecordKind
from runtime.journal.store import Created, Existing, Posted, PostedKind, RunQuery, Store, StoredStatus
from runtime.testing import cancel_at_every_checkpoint
from runtime.testing.stores.samples import MakeStore, create, journal, new_run, opened, record, written


def _unheard(_: object) -> None:
    pass


async def is_writable(store: Store, run: str) -> bool:
    """Whether another record of `run` is written behind those that are there."""
    rows = await journal(store, run)
    assert [row.seq for row in rows] == list(range(1, len(rows) + 1))
    return await written(store, record(store, len(rows) + 1, run=run)) is None


class CancelledContract:
    """Tests beside those of ``StoreContract``, with the same fixture."""

    async def test_whoever_waits_for_a_record_and_is_cancelled_knows_that_it_is_written(self, make_store: MakeStore) -> None:
        async with opened(make_store) as store:
            await create(store)
            log = RunLog(store, "r", 1, _unheard, _unheard, _unheard)
            told: list[int] = []

            async def step(kind: RecordKind) -> None:
                entry = log.append(kind, f"g/n/{log.last_seq}", b"{}", lambda: told.append(log.last_seq))
                await entry.wait()
                assert entry.result is not None
                await trio.lowlevel.checkpoint()

            for kind in (RecordKind.FINISHED, RecordKind.ANSWER):  # written, and on the platter as well

                async def after(number: int) -> None:
                    assert log.is_idle
                    assert [row.seq for row in await journal(store)] == list(range(1, log.last_seq + 1))

                assert await cancel_at_every_checkpoint(lambda kind=kind: step(kind), after) >= 2  # type: ignore[misc]
            assert told == list(range(2, log.last_seq + 1))

    async def test_a_run_whose_creation_is_cancelled_is_there_whole_or_not_at_all(self, make_store: MakeStore) -> None:
        async with opened(make_store) as store:
            number = 0

            async def make() -> None:
                await store.create(new_run(f"r{number}"), record(store, 1, run=f"r{number}", kind=RecordKind.STARTED, data=b"1"))

            async def after(_: int) -> None:
                nonlocal number
                again = await store.create(new_run(f"r{number}"), record(store, 1, run=f"r{number}", data=b"2"))
                assert isinstance(again, Created | Existing)
                assert [row.data for row in await journal(store, f"r{number}")] == [b"2" if isinstance(again, Created) else b"1"]
                assert again.run.owner is not None
                assert await is_writable(store, f"r{number}")
                number += 1

            assert await cancel_at_every_checkpoint(make, after) >= 1

    async def test_a_post_that_is_cancelled_is_there_once_or_not_at_all(self, make_store: MakeStore) -> None:
        async with opened(make_store) as store:
            await create(store)
            number = 0

            async def post() -> None:
                await store.post(Posted("r", PostedKind.SIGNAL, f"k{number}", b"1"))

            async def after(_: int) -> None:
                nonlocal number
                known = f"k{number}" in [each.key for each in await store.inbox("r")]
                assert await store.post(Posted("r", PostedKind.SIGNAL, f"k{number}", b"1")) is not known
                assert [each.key for each in await store.inbox("r")].count(f"k{number}") == 1
                number += 1

            assert await cancel_at_every_checkpoint(post, after) >= 1

    async def test_a_run_is_had_by_somebody_or_by_nobody_wherever_a_call_is_cancelled(self, make_store: MakeStore) -> None:
        """And whoever has it may write, and nobody else."""
        async with opened(make_store) as store:
            await create(store)

            async def calls() -> None:
                await store.release("r", StoredStatus.WAITING, store.wall_time() - timedelta(seconds=1))
                await store.claim({("g", "1")}, 5)
                await store.release("r", StoredStatus.READY, None)
                await store.take("r", StoredStatus.READY)
                await store.runs(RunQuery())
                await store.questions("r")

            async def after(_: int) -> None:
                run = await store.run("r")
                assert run is not None
                assert (run.owner is None) == (run.status is not StoredStatus.RUNNING)
                if run.owner is None:
                    assert not await is_writable(store, "r")
                    taken = await store.take("r")
                    assert taken is not None
                    assert attrs.evolve(taken, owner=None).lives == run.lives + 1
                assert await is_writable(store, "r")

            assert await cancel_at_every_checkpoint(calls, after) >= 6
