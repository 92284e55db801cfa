"""A store that takes 5 s for each append, and of which one append in a hundred fails: slow, and nothing else."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
import trio

from actors import LM
from runtime import open_runtime
from runtime.journal.memory import MemoryStore
from runtime.testing import FlakyStore, ModelScript, SlowStore
from runtime.testing.network import VirtualNetwork
from tests.runtime.graphs.stage import Ask, Done, Other, Part, graph_of

RUNS = 30


async def test_nothing_is_lost_and_no_node_is_begun_twice_behind_a_slow_store_that_fails_at_times(autojump_clock):
    begun: Counter[str] = Counter()
    waiting: list[int] = []

    async def split(ask: Ask) -> list[Part]:
        return [Part(n) for n in range(ask.n)]

    async def work(part: Part) -> Other:
        begun[f"work {part.n}"] += 1
        return Other(part.n)

    async def gather(others: list[Other]) -> Done:
        begun["gather"] += 1
        return Done(sum(other.n for other in others))

    memory = MemoryStore()
    flaky = FlakyStore(memory, lambda number: number % 100 == 0)
    graph = graph_of(split, work, gather, concurrency=4)
    made: list[Any] = []
    async with open_runtime(store=SlowStore(flaky, 5)) as runtime, trio.open_nursery() as nursery:

        async def one(number: int) -> None:
            handle = await runtime.start(graph, Ask(8), run_id=f"run-{number}")
            made.append(await handle.result())

        async def look() -> None:
            while len(made) < RUNS:
                waiting.append(sum(begun.values()))
                await trio.sleep(1)

        nursery.start_soon(look)
        for number in range(RUNS):
            nursery.start_soon(one, number)

    assert made == [Done(28)] * RUNS
    assert flaky.appends > 100, "some of them failed"
    assert begun == Counter({**{f"work {n}": RUNS for n in range(8)}, "gather": RUNS})
    assert waiting[1] == 0, "no node is a store's latency ahead of what is written"
    for number in range(RUNS):
        told = [(record.kind.value, record.path) async for record in memory.read(f"run-{number}")]
        assert len(told) == len(set(told)) == 12


@pytest.mark.explore(runs=1)
async def test_a_language_model_is_asked_as_often_and_as_closely_as_with_a_quick_store(virtual_clock):
    """Nothing of a model's limits is held while an answer is written down."""

    async def split(ask: Ask) -> list[Part]:
        return [Part(n) for n in range(ask.n)]

    async def work(part: Part, lm: LM) -> Other:
        await lm.chat([{"role": "user", "content": f"part {part.n}"}])
        return Other(part.n)

    async def gather(others: list[Other]) -> Done:
        return Done(sum(other.n for other in others))

    graph = graph_of(split, work, gather)

    async def asked_at(store: Any) -> list[float]:
        network = VirtualNetwork()
        network.provider("api.openai.com", {"gpt-4o-mini": ModelScript("an answer", latency_s=1)})
        async with network.client("openai/gpt-4o-mini", max_connections=1) as lm, open_runtime(store=store, lm=lm) as runtime:
            handle = await runtime.start(graph, Ask(8), run_id="it")
            assert await handle.result() == Done(28)
            assert (handle.spend.calls, handle.spend.uncertain_calls) == (8, 0)
        began = network.requests[0].at_s
        return [request.at_s - began for request in network.requests]

    quick = await asked_at(MemoryStore())
    slow = await asked_at(SlowStore(FlakyStore(MemoryStore(), lambda number: number % 7 == 0), 5))

    assert quick == pytest.approx(range(8))
    # That the first is about to be asked is written alone, and that of all others together.
    assert slow == pytest.approx([0, *range(5, 12)])
