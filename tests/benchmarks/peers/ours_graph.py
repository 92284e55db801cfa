"""Graphs in this runtime, through its public names only: supervised actors, one deployment for all runs."""

from __future__ import annotations

from collections.abc import Callable
from time import perf_counter
from typing import Any

import attrs
import trio

from actors import Graph
from runtime import Runtime, open_runtime
from tests.benchmarks.graph_works import CHAIN, NAP_S, SHORT_CHAIN, Stopwatch, chain_runs, fan_runs, fans
from tests.benchmarks.peers.ours import in_runtime
from tests.benchmarks.works import Peer

WARM_UP = 5
"""Runs before a fan-out is measured: the first ones are slow, so that a thousand branches are not all at work at once."""


def message(name: str) -> Any:
    return attrs.make_class(name, {"number": attrs.field(type=int)}, frozen=True)


def node(source: Any, target: Any) -> Callable[[Any], Any]:
    async def add_one(value: Any) -> Any:
        return target(value.number + 1)

    add_one.__annotations__ = {"value": source, "return": target}
    return add_one


def row(length: int) -> tuple[Graph, Any]:
    """A chain, and its first message."""
    kinds = [message(f"Number{index}") for index in range(length + 1)]
    graph = Graph("row", input=kinds[0], output=kinds[-1])
    for index in range(length):
        graph.node(name=f"node{index}")(node(kinds[index], kinds[index + 1]))
    return graph, kinds[0](0)


def chain(size: int) -> float:
    graph, first = row(CHAIN)

    async def body(runtime: Runtime) -> float:
        await runtime.deploy(graph)
        begin = perf_counter()
        for _ in range(chain_runs(size)):
            assert (await runtime.run(graph, first)).number == CHAIN
        return perf_counter() - begin

    return in_runtime(body)


@attrs.frozen
class Ping:
    number: int


@attrs.frozen
class Pong:
    number: int


@attrs.frozen
class Sum:
    number: int


def circle(size: int) -> Graph:
    graph = Graph("circle", input=Ping, output=Sum)

    @graph.node
    async def one(ping: Ping) -> Pong | Sum:
        return Sum(ping.number) if ping.number == size else Pong(ping.number + 1)

    @graph.node
    async def two(pong: Pong) -> Ping | Sum:
        return Sum(pong.number) if pong.number == size else Ping(pong.number + 1)

    return graph


def cycle(size: int) -> float:
    graph = circle(size)

    async def body(runtime: Runtime) -> float:
        await runtime.deploy(graph)
        begin = perf_counter()
        assert (await runtime.run(graph, Ping(1))).number == size
        return perf_counter() - begin

    return in_runtime(body)


def runs(size: int) -> float:
    graph, first = row(SHORT_CHAIN)

    async def body(runtime: Runtime) -> float:
        await runtime.deploy(graph)
        await runtime.run(graph, first)
        begin = perf_counter()
        async with trio.open_nursery() as nursery:
            for _ in range(size):
                nursery.start_soon(runtime.run, graph, first)
        return perf_counter() - begin

    return in_runtime(body)


@attrs.frozen
class Width:
    number: int


@attrs.frozen
class Item:
    number: int


@attrs.frozen
class Slept:
    number: int


def wide(width: int) -> Graph:
    graph = Graph("wide", input=Width, output=Sum)

    @graph.node
    async def split(wanted: Width) -> list[Item]:
        return [Item(number) for number in range(wanted.number)]

    @graph.node(concurrency=width)
    async def nap(item: Item) -> Slept:
        await trio.sleep(NAP_S)
        return Slept(item.number)

    @graph.node
    async def add_up(slept: list[Slept]) -> Sum:
        return Sum(sum(each.number for each in slept))

    return graph


def fan(width: int, branches: int) -> float:
    graph = wide(width)

    async def main() -> float:
        async with open_runtime(seed=1) as runtime:
            await runtime.deploy(graph)
            for _ in range(WARM_UP):  # instances are started when they are first needed, and stay
                await runtime.run(graph, Width(width))
            watch = Stopwatch()
            for _ in range(fan_runs(branches, width)):
                assert (await runtime.run(graph, Width(width))).number == sum(range(width))
            return watch.beyond_naps(fan_runs(branches, width))

    return trio.run(main)


PEER = Peer("understudy", {"graph-chain": chain, "graph-cycle": cycle, "graph-runs": runs, **fans(fan)})
