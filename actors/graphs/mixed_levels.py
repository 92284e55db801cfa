"""Parameters of joins whose values come both in branches of a fan-out and outside of them. Pure."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import final

from actors.graphs.edges import Edge, Receiver, overlap
from actors.graphs.node import Input, NodeSpec
from actors.graphs.plan import Plan


@final
class MixedLevels:
    """Values of one parameter both in a branch and outside of it, where others wait for them.

    A branch takes what was made in it or, if it has nothing yet, what lies further out. It cannot tell which it is to be.
    """

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._into: dict[Receiver, list[Edge]] = {}
        self._before_: dict[str, set[str]] = {name: set() for name in plan.nodes}
        for edge in plan.edges:
            if edge.target is not None and edge.parameter is not None:
                self._into.setdefault(Receiver(edge.target, edge.parameter), []).append(edge)
                if edge.source is not None:
                    self._before_[edge.target].add(edge.source)
        for fan_out, ends in plan.gathers.items():
            for end in ends:
                self._before_[end.node].add(fan_out)
        self._splits: list[tuple[Receiver, Receiver]] | None = None

    def is_race(self, spec: NodeSpec, entry: Input) -> bool:
        """Whether one run may bring values of one parameter both into a branch and outside of it."""
        nesting = self._plan.nesting
        arriving = nesting.arriving
        levels = arriving[Receiver(spec.name, entry.name)]
        if len(levels) < 2:
            return False
        others = {level for other in spec.inputs if other is not entry for level in arriving[Receiver(spec.name, other.name)]}
        return any(
            inner is not None
            and nesting.encloses(outer, inner)
            and any(other == outer or nesting.encloses(outer, other) for other in others)
            and self._both(spec, entry, inner)
            for outer in levels
            for inner in levels
        )

    def _both(self, spec: NodeSpec, entry: Input, fan_out: str) -> bool:
        """Whether one message may lead both to `fan_out` and, past it, to a value of the parameter."""
        if self._splits is None:
            self._splits = list(_splits(self._plan))
        receiver = Receiver(spec.name, entry.name)
        past: set[str] = set()
        for source in (e.source for e in self._into.get(receiver, ()) if e.source not in (None, fan_out)):
            past |= self._before(source or "", {fan_out, spec.name})
        into = self._before(fan_out, {spec.name})
        return any(
            (two.node in into and (one == receiver or one.node in past))
            or (one.node in into and (two == receiver or two.node in past))
            for one, two in self._splits
        )

    def _before(self, node: str, without: set[str]) -> set[str]:
        """`node` and those that lead to it, over any nodes but those in `without`."""
        found, queue = {node}, [node]
        while queue:
            new = self._before_[queue.pop()] - found - without
            found |= new
            queue += new
        return found


def _splits(plan: Plan) -> Iterator[tuple[Receiver, Receiver]]:
    """The pairs of parameters, of two nodes, that one message goes to."""
    by_source: dict[str | None, list[Edge]] = {}
    for edge in plan.edges:
        if edge.target is not None and not edge.gathers:
            by_source.setdefault(edge.source, []).append(edge)
    for edges in by_source.values():
        for a, b in itertools.combinations(edges, 2):
            if a.target and b.target and a.target != b.target and overlap(a.type, b.type):
                yield Receiver(a.target, a.parameter or ""), Receiver(b.target, b.parameter or "")
    for ends in plan.gathers.values():
        yield from ((a, b) for a, b in itertools.combinations(ends, 2) if a.node != b.node)
