"""Graphs and rows for the tests of evaluation."""

from __future__ import annotations

from typing import Any

import attrs
import trio

from actors import Graph


@attrs.frozen
class Sum:
    left: int
    right: int


@attrs.frozen
class Total:
    value: int


def adding(name: str = "adding", wrong: frozenset[int] = frozenset(), fails: frozenset[int] = frozenset()) -> Graph[Sum, Total]:
    """Adds, in a second for each unit of `left`; wrong or failing where `left` is so."""
    graph = Graph(name, input=Sum, output=Total)

    @graph.node
    async def add(given: Sum) -> Total:
        await trio.sleep(given.left)
        if given.left in fails:
            raise ValueError(f"{given.left} is too much")
        return Total(given.left + given.right + (given.left in wrong))

    return graph


def rows(count: int) -> list[dict[str, Any]]:
    return [{"id": f"r{at}", "left": at, "right": 1, "expected": at + 1} for at in range(count)]
