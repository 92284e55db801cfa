"""Where the result of a graph would depend on timing without its author having asked for that. Pure.

A join pairs what comes for one parameter with what comes for the others, first with first. So what comes for one parameter must
come in an order that no clock decides: from one node; from nodes that work one after the other; from nodes of which one message
reaches only one; or in branches of a fan-out that lie apart.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from typing import final

from actors.annotations import Many
from actors.check import listed, type_names
from actors.edges import Edge, Receiver, related
from actors.errors import Problem
from actors.nesting import Level, arrivals
from actors.node import Input, NodeSpec
from actors.plan import Plan


def find_races(plan: Plan) -> Iterator[Problem]:
    """The parameters of joins that unrelated nodes feed side by side."""
    joins = [spec for spec in plan.nodes.values() if spec.is_join and plan.nesting.levels[spec.name]]
    if not joins:
        return
    makers = _Makers(plan)
    for spec in joins:
        origins = {entry.name: makers.origins(spec, entry) for entry in spec.inputs}
        for entry in spec.inputs:
            others = [origins[other.name] for other in spec.inputs if other is not entry]
            pairs = itertools.combinations(origins[entry.name].items(), 2)
            racing = {
                name: None
                for (one, here), (two, there) in pairs
                if not all(one in other and two in other for other in others)  # else every parameter gets one of each, in pairs
                and makers.race(one, two, spec.name)
                and _meet(plan, here, there)
                for name in (one, two)
            }
            if racing:
                yield _problem(spec, entry, list(racing))
            elif makers.is_within_itself(spec, entry):
                yield _problem_within(spec, entry)


def _problem(spec: NodeSpec, entry: Input, racing: list[str | None]) -> Problem:
    kinds = type_names(entry.types)
    shown = f"list[{kinds}]" if entry.gather is not None else kinds
    return Problem(
        "join-by-timing",
        spec.name,
        f"it joins the {shown} in {entry.name!r} with its other inputs, and {listed(racing)} make one side by side: which comes "
        "first depends on timing.",
        f"give what each of them makes a type of its own; or send one elsewhere: graph.connect({racing[-1]}, …)"
        + (
            "."
            if entry.gather is not None
            else f"; or let one node return them all as list[{kinds}], and gather list[{kinds}] here."
        ),
        spec.location,
    )


def _problem_within(spec: NodeSpec, entry: Input) -> Problem:
    kinds = type_names(entry.types)
    shown = f"list[{kinds}]" if entry.gather is not None else kinds
    return Problem(
        "join-by-timing",
        spec.name,
        f"it joins the {shown} in {entry.name!r} with its other inputs, both in branches of a fan-out and outside of them: "
        "which one a branch takes depends on timing.",
        "give what is made outside of the fan-out a type of its own; or do the work of one branch in a graph of its own: "
        "graph.add(…).",
        spec.location,
    )


def _meet(plan: Plan, here: frozenset[Level], there: frozenset[Level]) -> bool:
    """Whether values of both levels can stand before one join: not those of fan-outs that lie side by side."""
    nesting = plan.nesting
    return any(a == b or nesting.encloses(a, b) or nesting.encloses(b, a) for a in here for b in there)


Origins = Mapping[str | None, frozenset[Level]]
"""Who brings a value (None: the graph's input), and on which levels it arrives."""


@final
class _Makers:
    """Who makes what in one plan, and which nodes one message may set to work side by side."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._next: dict[str | None, dict[str, None]] = {}
        self._into: dict[Receiver, list[Edge]] = {}
        for edge in plan.edges:
            if edge.target is not None and edge.parameter is not None:
                self._into.setdefault(Receiver(edge.target, edge.parameter), []).append(edge)
                self._next.setdefault(edge.source, {})[edge.target] = None
        self._splits = list(_splits(plan))
        for fan_out, ends in plan.gathers.items():
            self._next.setdefault(fan_out, {}).update(dict.fromkeys(end.node for end in ends))
            self._splits += [(a, b) for a, b in itertools.combinations(ends, 2) if a.node != b.node]

    def origins(self, spec: NodeSpec, entry: Input) -> Origins:
        """Who brings the values of one parameter. Of a node that only passes on what several bring it: those."""
        receiver = Receiver(spec.name, entry.name)
        levels = self._plan.nesting.levels
        if entry.gather is not None:
            fan_outs = [fan_out for fan_out, ends in self._plan.gathers.items() if receiver in ends]
            return {fan_out: frozenset(levels[fan_out]) for fan_out in fan_outs}
        found = self._brought(receiver, without=spec.name)
        seen = {spec.name}
        while len(found) == 1:
            (maker,) = found
            node = self._plan.nodes.get(maker or "")
            if node is None or node.name in seen or len(node.inputs) != 1 or node.fan_out is not Many.ONE:
                break
            if node.inputs[0].gather is not None:
                break
            seen.add(node.name)
            found = self._brought(Receiver(node.name, node.inputs[0].name), without=spec.name) or found
        return found

    def _brought(self, receiver: Receiver, *, without: str) -> Origins:
        """What the join makes itself begins its next round, and so comes after all others."""
        found: dict[str | None, frozenset[Level]] = {}
        for edge in self._into.get(receiver, ()):
            if edge.source != without:
                arriving = arrivals([edge], self._plan.nodes, self._plan.nesting.levels)
                found[edge.source] = found.get(edge.source, frozenset()) | arriving
        return found

    def race(self, one: str | None, two: str | None, join: str) -> bool:
        """Whether one message may set both to work, each without the other, before `join` is."""
        if one is None or two is None:
            return False
        before_one, before_two = self._before(one, {two, join}), self._before(two, {one, join})
        return any(
            (a.node in before_one and b.node in before_two) or (b.node in before_one and a.node in before_two)
            for a, b in self._splits
        )

    def is_within_itself(self, spec: NodeSpec, entry: Input) -> bool:
        """Whether one run may bring values of one parameter both into a branch and outside of it, where others wait for them.

        A branch takes what was made in it or, if it has nothing yet, what lies further out. It cannot tell which it is to be.
        """
        nesting = self._plan.nesting
        arriving = nesting.arriving
        levels = arriving[Receiver(spec.name, entry.name)]
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
        receiver = Receiver(spec.name, entry.name)
        past: set[str | None] = set()
        for source in (e.source for e in self._into.get(receiver, ()) if e.source not in (None, fan_out)):
            past |= self._before(source or "", {fan_out, spec.name})
        into = self._before(fan_out, {spec.name})
        return any(
            (two.node in into and (one == receiver or one.node in past))
            or (one.node in into and (two == receiver or two.node in past))
            for one, two in self._splits
        )

    def _before(self, node: str, without: set[str]) -> set[str | None]:
        """`node` and those that lead to it, over any nodes but those in `without`."""
        found: set[str | None] = {node}
        while more := {a for a, targets in self._next.items() if a not in found | without and not found.isdisjoint(targets)}:
            found |= more
        return found


def _splits(plan: Plan) -> Iterator[tuple[Receiver, Receiver]]:
    """The pairs of parameters, of two nodes, that one message goes to; two conditions on it are taken to be alternatives."""
    by_source: dict[str | None, list[Edge]] = {}
    for edge in plan.edges:
        if edge.target is not None and not edge.gathers:
            by_source.setdefault(edge.source, []).append(edge)
    for edges in by_source.values():
        for a, b in itertools.combinations(edges, 2):
            alike = related(a.type, (b.type,)) or related(b.type, (a.type,))
            if a.target and b.target and a.target != b.target and alike and not (a.conditional and b.conditional):
                yield Receiver(a.target, a.parameter or ""), Receiver(b.target, b.parameter or "")
