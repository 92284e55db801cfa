"""Which fan-outs a node works inside of, and which fan-outs a gathering parameter closes. Pure.

Every item of a fan-out starts a branch. What a node makes in a branch belongs to that branch; a ``list[A]`` parameter takes the
A's of one fan-out, the innermost around their maker, and its node works one level further out. A join works as deep as its
deepest input: values from further out are there for every branch.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import final

import attrs

from actors.graphs.annotations import Many
from actors.graphs.edges import Edge, Receiver
from actors.graphs.node import NodeSpec

Level = str | None
"""The innermost fan-out node around a place; None: the run itself."""


@final
@attrs.frozen
class Nesting:
    """What :func:`nest` found."""

    levels: Mapping[str, frozenset[Level]]
    """Node → the fan-outs that can be innermost around it. Empty: the node can never start."""
    gathers: Mapping[str, tuple[Receiver, ...]]
    """Fan-out node → the parameters that gather it."""
    outside: tuple[tuple[Receiver, Level], ...]
    """Gathering parameters with a maker (None: the graph's input) that no fan-out encloses."""
    arriving: Mapping[Receiver, frozenset[Level]]
    """Parameter → the levels on which its values arrive. Empty: nothing ever arrives."""

    def encloses(self, outer: Level, inner: Level) -> bool:
        """Whether branches of `inner` can lie within branches of `outer`."""
        return outer is None or outer in _around(inner, self.levels)


def nest(specs: Mapping[str, NodeSpec], edges: Sequence[Edge]) -> Nesting:
    """Compute the levels of all nodes: the least solution, by repetition until nothing changes."""
    incoming: dict[str, list[Edge]] = {name: [] for name in specs}
    outgoing: dict[Level, list[str]] = {name: [] for name in specs}
    for edge in edges:
        if edge.target is not None:
            incoming[edge.target].append(edge)
            outgoing.setdefault(edge.source, []).append(edge.target)
    levels: dict[str, frozenset[Level]] = {name: frozenset() for name in specs}
    changed = True
    while changed:
        changed = False
        queue = dict.fromkeys(specs)
        while queue:
            name = next(iter(queue))
            del queue[name]
            found = _level_of(specs[name], incoming[name], specs, levels)
            if found != levels[name]:
                levels[name] = found
                changed = True
                queue.update(dict.fromkeys(outgoing[name]))
    return _summary(specs, incoming, levels)


def _level_of(
    spec: NodeSpec, incoming: Sequence[Edge], specs: Mapping[str, NodeSpec], levels: Mapping[str, frozenset[Level]]
) -> frozenset[Level]:
    """Fold the levels of the parameters into those of the node: of each two that are nested, the deeper one."""
    absent = ""  # no node has this name: stands for "no parameter so far"
    found: set[Level] = {absent}
    for entry in spec.inputs:
        here = arrivals([edge for edge in incoming if edge.parameter == entry.name], specs, levels)
        joined: set[Level] = set(found) if entry.optional and spec.is_join else set()
        for one in found:
            for two in here:
                if one == absent:
                    joined.add(two)
                else:
                    joined.update(_deeper(one, two, levels))
        found = joined
    return frozenset(found - {absent}) if spec.inputs else frozenset()


def arrivals(incoming: Iterable[Edge], specs: Mapping[str, NodeSpec], levels: Mapping[str, frozenset[Level]]) -> frozenset[Level]:
    """The levels on which the values of these edges arrive."""
    found: set[Level] = set()
    for edge in incoming:
        made = _made_on(edge.source, specs, levels)
        if edge.gathers:
            for level in made:
                found |= levels[level] if level is not None else set[Level]()
        else:
            found |= made
    return frozenset(found)


def _made_on(source: str | None, specs: Mapping[str, NodeSpec], levels: Mapping[str, frozenset[Level]]) -> frozenset[Level]:
    if source is None:
        return frozenset([None])
    if specs[source].fan_out is not Many.ONE:
        return frozenset([source]) if levels[source] else frozenset()
    return levels[source]


def _deeper(one: Level, two: Level, levels: Mapping[str, frozenset[Level]]) -> set[Level]:
    if one == two:
        return {one}
    found: set[Level] = set()
    if one is None or one in _around(two, levels):
        found.add(two)
    if two is None or two in _around(one, levels):
        found.add(one)
    return found


def _around(level: Level, levels: Mapping[str, frozenset[Level]]) -> set[Level]:
    """The fan-outs that can enclose `level`, at any distance."""
    found: set[Level] = set()
    queue = [level]
    while queue:
        at = queue.pop()
        for outer in levels[at] if at is not None else ():
            if outer not in found:
                found.add(outer)
                queue.append(outer)
    return found


def _summary(
    specs: Mapping[str, NodeSpec], incoming: Mapping[str, list[Edge]], levels: Mapping[str, frozenset[Level]]
) -> Nesting:
    gathers: dict[str, dict[Receiver, None]] = {}
    outside: dict[tuple[Receiver, Level], None] = {}
    arriving: dict[Receiver, frozenset[Level]] = {}
    for name, spec in specs.items():
        for entry in spec.inputs:
            receiver = Receiver(name, entry.name)
            edges = [edge for edge in incoming[name] if edge.parameter == entry.name]
            arriving[receiver] = arrivals(edges, specs, levels)
            for edge in edges if entry.gather is not None else ():
                for level in sorted(_made_on(edge.source, specs, levels), key=lambda level: level or ""):
                    if level is None:
                        outside[receiver, edge.source] = None
                    else:
                        gathers.setdefault(level, {})[receiver] = None
    return Nesting(levels, {name: tuple(found) for name, found in gathers.items()}, tuple(outside), arriving)
