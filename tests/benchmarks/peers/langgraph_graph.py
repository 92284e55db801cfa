"""LangGraph: a ``StateGraph`` without a saver, on asyncio; ``Send`` for a fan-out, a reducer for its results."""

# pyright: reportMissingImports=false, reportUntypedBaseClass=false
# The library is installed for `make bench` only.
from __future__ import annotations

import asyncio
import operator
from collections.abc import Awaitable, Callable
from time import perf_counter
from typing import Annotated, Any, TypedDict

from langgraph.graph import END, START, StateGraph
from langgraph.types import Send

from tests.benchmarks.graph_works import CHAIN, NAP_S, SHORT_CHAIN, Stopwatch, chain_runs, fan_runs, fans
from tests.benchmarks.works import Peer


class Number(TypedDict):
    number: int


async def add_one(state: Number) -> dict[str, int]:
    return {"number": state["number"] + 1}


def row(length: int) -> Any:
    builder: Any = StateGraph(Number)
    names = [f"node{index}" for index in range(length)]
    for name in names:
        builder.add_node(name, add_one)
    for source, target in zip([START, *names], [*names, END], strict=True):
        builder.add_edge(source, target)
    return builder.compile()


def limits(steps: int) -> dict[str, int]:
    return {"recursion_limit": steps + 10}


def timed(body: Callable[[], Awaitable[float]]) -> float:
    async def main() -> float:
        return await body()

    return asyncio.run(main())


def chain(size: int) -> float:
    async def body() -> float:
        graph = row(CHAIN)
        await graph.ainvoke({"number": 0}, limits(CHAIN))
        begin = perf_counter()
        for _ in range(chain_runs(size)):
            assert (await graph.ainvoke({"number": 0}, limits(CHAIN)))["number"] == CHAIN
        return perf_counter() - begin

    return timed(body)


def cycle(size: int) -> float:
    builder: Any = StateGraph(Number)
    for name, other in (("one", "two"), ("two", "one")):
        builder.add_node(name, add_one)
        following = lambda state, other=other: END if state["number"] == size else other  # noqa: E731
        builder.add_conditional_edges(name, following, [other, END])
    builder.add_edge(START, "one")
    graph = builder.compile()

    async def body() -> float:
        begin = perf_counter()
        assert (await graph.ainvoke({"number": 0}, limits(size)))["number"] == size
        return perf_counter() - begin

    return timed(body)


def runs(size: int) -> float:
    async def body() -> float:
        graph = row(SHORT_CHAIN)
        await graph.ainvoke({"number": 0})
        begin = perf_counter()
        await asyncio.gather(*(graph.ainvoke({"number": 0}) for _ in range(size)))
        return perf_counter() - begin

    return timed(body)


class Wide(TypedDict):
    width: int
    slept: Annotated[list[int], operator.add]
    total: int


async def nap(item: Number) -> dict[str, list[int]]:
    await asyncio.sleep(NAP_S)
    return {"slept": [item["number"]]}


async def add_up(state: Wide) -> dict[str, int]:
    return {"total": sum(state["slept"])}


def fan(width: int, branches: int) -> float:
    def split(state: Wide) -> list[Send]:
        return [Send("nap", {"number": number}) for number in range(state["width"])]

    builder: Any = StateGraph(Wide)
    builder.add_node("nap", nap)
    builder.add_node("add_up", add_up)
    builder.add_conditional_edges(START, split, ["nap"])
    builder.add_edge("nap", "add_up")
    builder.add_edge("add_up", END)
    graph = builder.compile()

    async def body() -> float:
        await graph.ainvoke({"width": 1, "slept": []})
        watch = Stopwatch()
        for _ in range(fan_runs(branches, width)):
            assert (await graph.ainvoke({"width": width, "slept": []}))["total"] == sum(range(width))
        return watch.beyond_naps(fan_runs(branches, width))

    return timed(body)


PEER = Peer("LangGraph", {"graph-chain": chain, "graph-cycle": cycle, "graph-runs": runs, **fans(fan)})
