"""Burr: an application of actions over an immutable state, on asyncio, without a tracker or a persister."""

# pyright: reportMissingImports=false, reportUntypedBaseClass=false
# The library is installed for `make bench` only.
from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from itertools import pairwise
from time import perf_counter
from typing import Any

from burr.core import ApplicationBuilder, GraphBuilder, State, action, default, when
from burr.core.parallelism import MapStates

from tests.benchmarks.graph_works import CHAIN, NAP_S, SHORT_CHAIN, Stopwatch, chain_runs, fan_runs, fans
from tests.benchmarks.works import Peer


@action(reads=["number"], writes=["number"])
async def add_one(state: State) -> State:
    return state.update(number=state["number"] + 1)


def row(length: int) -> Any:
    names = [f"node{index}" for index in range(length)]
    actions = dict.fromkeys(names, add_one)
    return GraphBuilder().with_actions(**actions).with_transitions(*pairwise(names)).build()


def application(graph: Any, entry: str, **state: object) -> Any:
    return ApplicationBuilder().with_graph(graph).with_entrypoint(entry).with_state(**state).build()


async def run_row(graph: Any, length: int) -> int:
    """Each run is an application of its own: an application holds one state."""
    _, _, state = await application(graph, "node0", number=0).arun(halt_after=[f"node{length - 1}"])
    number: int = state["number"]
    return number


def chain(size: int) -> float:
    async def main() -> float:
        graph = row(CHAIN)
        begin = perf_counter()
        for _ in range(chain_runs(size)):
            assert await run_row(graph, CHAIN) == CHAIN
        return perf_counter() - begin

    return asyncio.run(main())


@action(reads=["number"], writes=["number"])
async def stop(state: State) -> State:
    return state


def cycle(size: int) -> float:
    transitions = [
        ("one", "stop", when(number=size)),
        ("one", "two", default),
        ("two", "stop", when(number=size)),
        ("two", "one", default),
    ]
    graph = GraphBuilder().with_actions(one=add_one, two=add_one, stop=stop).with_transitions(*transitions).build()

    async def main() -> float:
        app = application(graph, "one", number=0)
        begin = perf_counter()
        _, _, state = await app.arun(halt_after=["stop"])
        assert state["number"] == size
        return perf_counter() - begin

    return asyncio.run(main())


def runs(size: int) -> float:
    async def main() -> float:
        graph = row(SHORT_CHAIN)
        begin = perf_counter()
        await asyncio.gather(*(run_row(graph, SHORT_CHAIN) for _ in range(size)))
        return perf_counter() - begin

    return asyncio.run(main())


@action(reads=["number"], writes=["number"])
async def nap(state: State) -> State:
    await asyncio.sleep(NAP_S)
    return state


class Naps(MapStates):
    def action(self, state: State, inputs: dict[str, Any]) -> Any:
        return nap

    async def states(self, state: State, context: Any, inputs: dict[str, Any]) -> AsyncGenerator[State]:
        for number in range(state["width"]):
            yield state.update(number=number)

    async def reduce(self, state: State, states: AsyncGenerator[State]) -> State:
        return state.update(total=sum([each["number"] async for each in states]))

    def is_async(self) -> bool:
        return True

    @property
    def reads(self) -> list[str]:
        return ["width"]

    @property
    def writes(self) -> list[str]:
        return ["total"]


def fan(width: int, branches: int) -> float:
    graph = GraphBuilder().with_actions(naps=Naps()).with_transitions().build()

    async def main() -> float:
        watch = Stopwatch()
        for _ in range(fan_runs(branches, width)):
            _, _, state = await application(graph, "naps", width=width).arun(halt_after=["naps"])
            assert state["total"] == sum(range(width))
        return watch.beyond_naps(fan_runs(branches, width))

    return asyncio.run(main())


PEER = Peer("Burr", {"graph-chain": chain, "graph-cycle": cycle, "graph-runs": runs, **fans(fan)})
