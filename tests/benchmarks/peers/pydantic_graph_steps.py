"""pydantic-graph: the builder with steps, decisions, a map and a join, on asyncio."""

# pyright: reportMissingImports=false, reportUntypedBaseClass=false
# The library is installed for `make bench` only.
from __future__ import annotations

import asyncio
from itertools import pairwise
from time import perf_counter
from typing import Any

from pydantic_graph import GraphBuilder, StepContext, reduce_list_append

from tests.benchmarks.graph_works import CHAIN, NAP_S, SHORT_CHAIN, Stopwatch, chain_runs, fan_runs, fans
from tests.benchmarks.works import Peer


async def add_one(ctx: StepContext[None, None, int]) -> int:
    return 1 + int(ctx.inputs)


def row(length: int) -> Any:
    builder: Any = GraphBuilder(name="row", input_type=int, output_type=int, auto_instrument=False)
    steps = [builder.step(add_one, node_id=f"node{index}") for index in range(length)]
    stations = [builder.start_node, *steps, builder.end_node]
    builder.add(*(builder.edge_from(source).to(target) for source, target in pairwise(stations)))
    return builder.build()


def chain(size: int) -> float:
    async def main() -> float:
        graph = row(CHAIN)
        begin = perf_counter()
        for _ in range(chain_runs(size)):
            assert await graph.run(inputs=0) == CHAIN
        return perf_counter() - begin

    return asyncio.run(main())


def cycle(size: int) -> float:
    builder: Any = GraphBuilder(name="circle", input_type=int, output_type=int, auto_instrument=False)
    one, two = builder.step(add_one, node_id="one"), builder.step(add_one, node_id="two")

    def onwards(other: Any) -> Any:
        is_over = builder.match(int, matches=lambda number: number == size).to(builder.end_node)
        return builder.decision().branch(is_over).branch(builder.match(int).to(other))

    builder.add(
        builder.edge_from(builder.start_node).to(one),
        builder.edge_from(one).to(onwards(two)),
        builder.edge_from(two).to(onwards(one)),
    )
    graph = builder.build()

    async def main() -> float:
        begin = perf_counter()
        assert await graph.run(inputs=0) == size
        return perf_counter() - begin

    return asyncio.run(main())


def runs(size: int) -> float:
    async def main() -> float:
        graph = row(SHORT_CHAIN)
        begin = perf_counter()
        await asyncio.gather(*(graph.run(inputs=0) for _ in range(size)))
        return perf_counter() - begin

    return asyncio.run(main())


async def split(ctx: StepContext[None, None, int]) -> list[int]:
    return list(range(ctx.inputs))


async def nap(ctx: StepContext[None, None, int]) -> int:
    await asyncio.sleep(NAP_S)
    return int(ctx.inputs)


async def add_up(ctx: StepContext[None, None, list[int]]) -> int:
    return sum(ctx.inputs)


def fan(width: int, branches: int) -> float:
    builder: Any = GraphBuilder(name="wide", input_type=int, output_type=int, auto_instrument=False)
    splitting, napping, adding = builder.step(split), builder.step(nap), builder.step(add_up)
    joined = builder.join(reduce_list_append, initial_factory=list[int])
    builder.add(
        builder.edge_from(builder.start_node).to(splitting),
        builder.edge_from(splitting).map().to(napping),
        builder.edge_from(napping).to(joined),
        builder.edge_from(joined).to(adding),
        builder.edge_from(adding).to(builder.end_node),
    )
    graph = builder.build()

    async def main() -> float:
        watch = Stopwatch()
        for _ in range(fan_runs(branches, width)):
            assert await graph.run(inputs=width) == sum(range(width))
        return watch.beyond_naps(fan_runs(branches, width))

    return asyncio.run(main())


PEER = Peer("pydantic-graph", {"graph-chain": chain, "graph-cycle": cycle, "graph-runs": runs, **fans(fan)})
