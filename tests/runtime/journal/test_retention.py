"""How long runs are kept after their end."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import attrs
import pytest
import trio

from actors import Graph
from actors.errors import UsageError
from runtime import open_runtime
from runtime.journal import MemoryStore, Retention, SqliteStore
from runtime.journal.records import RecordKind
from runtime.testing.stores.samples import create, journal, new_run, opened, record, written


@attrs.frozen
class Order:
    number: int


@attrs.frozen
class Sent:
    number: int


def quick() -> Graph[Order, Sent]:
    graph = Graph("quick", input=Order, output=Sent)

    @graph.node
    async def send(order: Order) -> Sent:
        return Sent(order.number)

    return graph


async def test_runs_are_deleted_when_their_time_is_over_and_not_before(autojump_clock):
    graph = quick()
    async with open_runtime(store=MemoryStore(), graphs=[graph], retention=Retention(done_s=100)) as runtime:
        first = await runtime.start(graph, Order(1), run_id="first")
        assert await first.result() == Sent(1)
        await trio.sleep(90)
        assert [run.id for run in (await runtime.stored()).items] == ["first"]

        await trio.sleep(100)

        assert (await runtime.stored()).items == ()


async def test_without_a_retention_everything_is_kept(autojump_clock):
    async with open_runtime(store=MemoryStore()) as runtime:
        await (await runtime.start(quick(), Order(1), run_id="first")).result()
        await trio.sleep(500)

        assert [run.id for run in (await runtime.stored()).items] == ["first"]


async def test_data_goes_before_the_run_does(tmp_path):
    """What is not over keeps all of it, however old it is."""
    now = datetime(2026, 11, 28, tzinfo=UTC)
    async with opened(lambda: SqliteStore(tmp_path / "runs.db", wall_time=lambda: now)) as store:
        for name, status in (("done", "succeeded"), ("failed", "failed"), ("old", "")):
            await create(store, new_run(name))
            if status:
                assert await written(store, record(store, 2, run=name, kind=RecordKind.OVER, path=status), sync=True) is None
        kept = Retention(done_s=10, failed_s=20, payload_s=5)
        counts: list[tuple[int, int, int]] = []
        for seconds in (4, 6, 11, 21, 10_000):
            now = datetime(2026, 11, 28, tzinfo=UTC) + timedelta(seconds=seconds)
            gone = await kept.sweep(store)
            rows = [row for name in ("done", "failed", "old") for row in await journal(store, name)]
            counts.append((gone, len(rows), sum(row.data is not None for row in rows)))

    assert counts == [(0, 5, 5), (0, 5, 1), (1, 3, 1), (1, 1, 1), (0, 1, 1)]


@pytest.mark.parametrize("value", [-1, float("nan"), float("inf"), "30 d", True])
def test_a_duration_that_cannot_be_meant_is_rejected(value):
    with pytest.raises(UsageError, match="expected seconds, or None to keep forever"):
        Retention(done_s=value)


def test_how_often_is_looked_follows_from_the_shortest_duration():
    assert [Retention(done_s=s, failed_s=None).sweep_s for s in (0, 10_000, 30 * 86_400)] == [60, 1_000, 3_600]
    assert Retention(None, None, None).sweep_s == 3_600
