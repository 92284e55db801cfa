"""Durable runs: started once by their id, taken up, handed back, and what becomes of them when the store fails."""

from __future__ import annotations

from typing import Any

import pytest
import trio

from actors import Run, RunCancelled, RunCrashes, RunExists, RunLost, StoreUnavailable, UnknownRun
from runtime import RunResumed, StoreRecovered, StoreStalled, open_runtime
from runtime.journal.memory import MemoryStore
from runtime.journal.records import RecordKind
from runtime.testing.stores.crashing_store import crash_after
from runtime.testing.stores.troubled import FlakyStore, SlowStore
from tests.runtime.graphs.stage import Ask, Done, Part, graph_of


async def kinds_of(store: MemoryStore, run_id: str) -> list[str]:
    return [record.kind.value async for record in store.read(run_id)]


def slow(ran: list[str], seconds: float = 10) -> Any:
    async def first(ask: Ask) -> Part:
        ran.append("first")
        return Part(ask.n)

    async def second(part: Part, run: Run) -> Done:
        ran.append(f"second {run.key} {run.attempt}{' resumed' if run.is_resumed else ''}")
        await trio.sleep(seconds)
        return Done(part.n)

    return graph_of(first, second)


async def test_a_run_is_started_once_by_its_id_and_gives_its_result_ever_after(autojump_clock):
    ran: list[str] = []
    store, graph = MemoryStore(), slow(ran)

    async with open_runtime(store=store) as runtime:
        one = await runtime.start(graph, Ask(3), run_id="it")
        other = await runtime.start(graph, Ask(3), run_id="it")
        assert one.durable
        assert other.durable
        assert (await one.result(), await other.result()) == (Done(3), Done(3))
        with pytest.raises(RunExists, match="with another input"):
            await runtime.start(graph, Ask(4), run_id="it")
    async with open_runtime(store=store.beside(), graphs=[graph]) as runtime:
        again = await runtime.start(graph, Ask(3), run_id="it")
        assert again.status == "succeeded"
        assert await again.result() == Done(3)
        assert await (await runtime.handle("it")).result() == Done(3)
        with pytest.raises(UnknownRun):
            await runtime.handle("none")

    assert ran == ["first", "second it/g/second/0 1"]


async def test_many_starts_of_one_id_at_a_time_are_one_run(autojump_clock):
    ran: list[str] = []
    graph = slow(ran)
    async with open_runtime(store=MemoryStore()) as runtime, trio.open_nursery() as nursery:

        async def start() -> None:
            assert await (await runtime.start(graph, Ask(1), run_id="it")).result() == Done(1)

        for _ in range(20):
            nursery.start_soon(start)

    assert ran == ["first", "second it/g/second/0 1"]


async def test_a_runtime_that_closes_hands_its_runs_back_and_the_next_goes_on_with_them(autojump_clock):
    ran: list[str] = []
    store, graph = MemoryStore(), slow(ran)

    async with open_runtime(store=store) as runtime:
        handle = await runtime.start(graph, Ask(3), run_id="it")
        await trio.sleep(5)
    assert handle.status == "cancelled"
    events: list[Any] = []
    async with open_runtime(store=store.beside(), graphs=[graph], instruments=[events.append]) as runtime:
        assert await (await runtime.handle("it")).result() == Done(3)

    assert ran == ["first", "second it/g/second/0 1", "second it/g/second/0 1 resumed"]
    [resumed] = [event for event in events if isinstance(event, RunResumed)]
    assert (resumed.run_id, resumed.records, resumed.lives) == ("it", 3, 2)
    assert await kinds_of(store, "it") == [
        "started",
        "finished",
        "released",
        "resumed",
        "finished",
        "over",
    ]


async def test_a_run_is_cancelled_for_good_by_its_handle_in_any_runtime(autojump_clock):
    store, graph = MemoryStore(), slow([], 1_000)
    async with open_runtime(store=store) as runtime, open_runtime(store=store.beside()) as other:
        handle = await runtime.start(graph, Ask(3), run_id="it")
        elsewhere = await other.handle("it")

        await elsewhere.cancel()

        with pytest.raises(RunCancelled):
            await handle.result()
        with pytest.raises(RunCancelled):
            await elsewhere.result()
        assert elsewhere.status == "cancelled"


async def test_a_run_that_kills_its_process_again_and_again_is_parked(autojump_clock):
    store, graph = MemoryStore(), slow([], 1_000)
    for _ in range(5):
        async with open_runtime(store=store, graphs=[graph]) as runtime:
            handle = await runtime.start(graph, Ask(3), run_id="it")
            await trio.sleep(2)
            store.crash()
        store = store.beside()
    async with open_runtime(store=store, graphs=[graph]) as runtime:
        handle = await runtime.start(graph, Ask(3), run_id="it")

        assert handle.status == "parked"
        with pytest.raises(RunCrashes, match="cut short 3 times"):
            await handle.result()


async def test_an_append_that_fails_is_tried_again_and_the_node_is_not(autojump_clock):
    ran: list[str] = []
    events: list[Any] = []
    store = FlakyStore(MemoryStore(), {1: None, 2: None, 3: None})
    async with open_runtime(store=store, instruments=[events.append]) as runtime:
        handle = await runtime.start(slow(ran), Ask(3), run_id="it")

        assert await handle.result() == Done(3)

    assert ran == ["first", "second it/g/second/0 1"]
    assert [type(event) for event in events if isinstance(event, StoreStalled | StoreRecovered)] == [StoreStalled, StoreRecovered]


async def test_a_store_that_fails_for_too_long_ends_the_run_here_and_the_next_life_goes_on(autojump_clock):
    ran: list[str] = []
    memory, graph = MemoryStore(), slow(ran)
    async with open_runtime(store=FlakyStore(memory, lambda _: True)) as runtime:
        handle = await runtime.start(graph, Ask(3), run_id="it")
        started_s = trio.current_time()
        with pytest.raises(StoreUnavailable, match="the run ends here"):
            await handle.result()
        assert 300 <= trio.current_time() - started_s <= 302
    async with open_runtime(store=memory.beside(), graphs=[graph]) as runtime:
        assert await (await runtime.handle("it")).result() == Done(3)


async def test_a_store_that_is_slow_holds_up_what_follows_and_nothing_else(autojump_clock):
    ran: list[str] = []
    memory = MemoryStore()
    async with open_runtime(store=SlowStore(memory, 5)) as runtime:
        handle = await runtime.start(slow(ran), Ask(3), run_id="it")
        with trio.fail_after(60):
            assert await handle.result() == Done(3)

    assert ran == ["first", "second it/g/second/0 1"]


async def test_a_worker_that_is_cut_off_loses_its_runs_and_writes_nothing_more(autojump_clock):
    ran: list[str] = []
    store = MemoryStore(lease_s=15)
    other, graph = store.beside(), slow(ran, 30)
    async with open_runtime(store=store) as runtime, open_runtime(store=other, graphs=[graph]) as survivor:
        handle = await runtime.start(graph, Ask(3), run_id="it")
        await trio.sleep(1)

        store.cut_off()
        assert await (await survivor.handle("it")).result() == Done(3)

        store.heal()
        with pytest.raises(RunLost):
            await handle.result()

    told = [record async for record in other.read("it")]
    assert [record.seq for record in told] == list(range(1, len(told) + 1))
    assert [record.kind for record in told].count(RecordKind.OVER) == 1


async def test_what_is_not_durable_is_not_stored(autojump_clock):
    store = MemoryStore()
    async with open_runtime(store=store) as runtime:
        handle = await runtime.start(slow([]), Ask(1), durable=False)
        assert not handle.durable
        assert await handle.result() == Done(1)
        assert await runtime.run(slow([]), Ask(1)) == Done(1)
        assert await runtime.run(slow([]), Ask(1), run_id="kept") == Done(1)

    assert store.run_ids == ("kept",)


async def test_a_message_that_has_no_json_is_an_error_of_its_node(autojump_clock):
    async def odd(ask: Ask) -> Done:
        return Done(object())

    async with open_runtime(store=MemoryStore()) as runtime:
        handle = await runtime.start(graph_of(odd), Ask(1))
        with pytest.raises(ExceptionGroup) as failed:
            await handle.result()

    assert "field 'n' of a Done cannot be stored" in str(failed.value.exceptions[0])


async def test_a_crash_leaves_the_id_free_when_nothing_was_written(autojump_clock):
    store = crash_after(1, written=False)
    with pytest.raises(StoreUnavailable):
        async with open_runtime(store=store) as runtime:
            await runtime.start(slow([]), Ask(1), run_id="it")

    assert store.run_ids == ()
