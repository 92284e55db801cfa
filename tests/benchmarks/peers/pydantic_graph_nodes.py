"""pydantic-graph: node classes whose ``run`` returns the next node, one after the other, on asyncio.

The form in which it is fastest where nothing runs side by side. There is no fan-out in it.
"""

# pyright: reportMissingImports=false, reportUntypedBaseClass=false
# The library is installed for `make bench` only.
from __future__ import annotations

import asyncio
from time import perf_counter
from typing import Any, TypeAlias

import attrs
from pydantic_graph import BaseNode, End, GraphBuilder, GraphRunContext

from tests.benchmarks.graph_works import CHAIN, SHORT_CHAIN, chain_runs
from tests.benchmarks.works import Peer

Context: TypeAlias = GraphRunContext[None, None]


def linked(first: type, nodes: list[type]) -> Any:
    builder: Any = GraphBuilder(name="nodes", input_type=first, output_type=int, auto_instrument=False)
    builder.add(*(builder.node(node) for node in nodes), builder.edge_from(builder.start_node).to(first))
    return builder.build()


def last_node(index: int) -> type:
    @attrs.frozen
    class Last(BaseNode[None, None, int]):
        number: int

        async def run(self, ctx: Context) -> End[int]:
            return End(self.number + 1)

    Last.__name__ = f"Node{index}"
    return Last


def node_before(following: Any, index: int) -> type[Any]:
    @attrs.frozen
    class Node(BaseNode[None, None, int]):
        number: int

        async def run(self, ctx: Context) -> Any:
            return following(self.number + 1)

    Node.__name__ = f"Node{index}"
    Node.run.__annotations__["return"] = following
    return Node


def row(length: int) -> tuple[Any, Any]:
    """A chain, and its first node."""
    nodes = [last_node(length - 1)]
    for index in reversed(range(length - 1)):
        nodes.insert(0, node_before(nodes[0], index))
    first: Any = nodes[0]
    return linked(first, nodes), first(0)


def chain(size: int) -> float:
    async def main() -> float:
        graph, first = row(CHAIN)
        begin = perf_counter()
        for _ in range(chain_runs(size)):
            assert await graph.run(inputs=first) == CHAIN
        return perf_counter() - begin

    return asyncio.run(main())


@attrs.frozen
class One(BaseNode[None, None, int]):
    number: int
    size: int

    async def run(self, ctx: Context) -> Two | End[int]:
        return End(self.number) if self.number == self.size else Two(self.number + 1, self.size)


@attrs.frozen
class Two(BaseNode[None, None, int]):
    number: int
    size: int

    async def run(self, ctx: Context) -> One | End[int]:
        return End(self.number) if self.number == self.size else One(self.number + 1, self.size)


def cycle(size: int) -> float:
    async def main() -> float:
        graph = linked(One, [One, Two])
        begin = perf_counter()
        assert await graph.run(inputs=One(1, size)) == size
        return perf_counter() - begin

    return asyncio.run(main())


def runs(size: int) -> float:
    async def main() -> float:
        graph, first = row(SHORT_CHAIN)
        begin = perf_counter()
        results = await asyncio.gather(*(graph.run(inputs=first) for _ in range(size)))
        took_s = perf_counter() - begin
        assert results == [SHORT_CHAIN] * size
        return took_s

    return asyncio.run(main())


PEER = Peer("pydantic, nodes", {"graph-chain": chain, "graph-cycle": cycle, "graph-runs": runs})
