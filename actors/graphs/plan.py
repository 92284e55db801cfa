"""A graph compiled for running: its edges, which of them lie on cycles, what may still reach what. Pure.

The plan is made by ``Graph.plan()`` from a graph without problems, and by the check from any graph. It holds no state of a run.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import final

import attrs

from actors.graphs.annotations import Many
from actors.graphs.components import returning_edges, strong_components
from actors.graphs.edges import Connection, Edge, Receiver, Takers, edges_of, related
from actors.graphs.nesting import Nesting, nest
from actors.graphs.node import NodeSpec


@final
@attrs.define(eq=False)
class Plan:
    """The compiled graph. Made by :func:`compile_plan`; shared by all runs."""

    name: str
    nodes: Mapping[str, NodeSpec]
    """In the order of declaration."""
    input_types: tuple[type, ...]
    output_types: tuple[type, ...]
    connections: tuple[Connection, ...]
    edges: tuple[Edge, ...]
    components: tuple[tuple[str, ...], ...]
    """The cycles: strongly connected components of more than one node, or of one that sends to itself."""
    returning: frozenset[tuple[str, str]]
    """The (source, target) pairs on which a loop goes back."""
    nesting: Nesting
    merges: frozenset[str]
    """Nodes that several concurrent ways of one run lead to without a join."""
    order: Mapping[str, int]
    """Node → its place in the declaration."""
    recalled: tuple[type, ...]
    """The types that nodes recall."""
    signal_types: tuple[type, ...]
    """What may come into a run from outside while it is open."""
    steering: tuple[type, ...]
    """Those of the signal types that no node takes: agents hear them."""
    signalled: frozenset[Receiver]
    """The parameters that a signal may bring a value for on its own: directly, or over nodes that take nothing else."""
    takers: Takers = attrs.field(repr=False)
    """Which parameters take what: what routes are looked up in."""
    alternatives: frozenset[tuple[str | None, str, str]] = attrs.field(default=frozenset(), init=False)
    """Nodes with two that each is connected to by conditions, of which only one may hold: a join's result hangs on that."""
    _back: frozenset[tuple[str | None, str]] = attrs.field(alias="back")
    _bits: Mapping[Receiver, int] = attrs.field(alias="bits")
    _reach: Mapping[str, int] = attrs.field(alias="reach")
    _level_reach: Mapping[str, int] = attrs.field(alias="level_reach")
    _inward_reach: Mapping[str, int] = attrs.field(alias="inward_reach")
    _forward: frozenset[tuple[str, str]] = attrs.field(alias="forward")
    _into: Mapping[Receiver, Sequence[Edge]] = attrs.field(alias="into", repr=False)
    _out_of: Mapping[str | None, Sequence[Edge]] = attrs.field(alias="out_of", repr=False)

    @property
    def gathers(self) -> Mapping[str, tuple[Receiver, ...]]:
        """Fan-out node → the ``list[A]`` parameters that gather it."""
        return self.nesting.gathers

    def into(self, node: str, parameter: str) -> Sequence[Edge]:
        """The edges that lead to one parameter, in order."""
        return self._into.get(Receiver(node, parameter), ())

    def out_of(self, source: str | None) -> Sequence[Edge]:
        """The edges that lead from a node (None: the graph's input), in order."""
        return self._out_of.get(source, ())

    def is_back(self, source: str | None, target: str) -> bool:
        """Whether the edge lies on a cycle."""
        return (source, target) in self._back

    def leads_forward(self, source: str, target: str) -> bool:
        """Whether an edge leads from one node to the other and no way leads back."""
        return (source, target) in self._forward

    def reaches(self, node: str, receiver: Receiver) -> bool:
        """Whether what `node` makes can lead, over any way, to a value for `receiver`."""
        return bool(self._reach[node] & self._bits[receiver])

    def within_reach(self, receiver: Receiver) -> int:
        """The set, as bits, of `receiver` and all that its node reaches: see :meth:`bit_of`."""
        return self._bits[receiver] | self._reach[receiver.node]

    def bit_of(self, receiver: Receiver) -> int:
        """The one bit of `receiver` in such sets."""
        return self._bits[receiver]

    def reaches_on_level(self, node: str, receiver: Receiver) -> bool:
        """The same for ways that end in the branch in which they began: into fan-outs only if they are gathered again."""
        return bool(self._level_reach[node] & self._bits[receiver])

    def reaches_inward(self, node: str, receiver: Receiver) -> bool:
        """The same for ways that end in the branch in which they began, or in a branch within it."""
        return bool(self._inward_reach[node] & self._bits[receiver])


def compile_plan(
    name: str,
    specs: Mapping[str, NodeSpec],
    input_types: tuple[type, ...],
    output_types: tuple[type, ...],
    connections: Sequence[Connection],
    signal_types: tuple[type, ...] = (),
) -> Plan:
    """Compile; never fails, even if the graph is wrong."""
    takers = Takers(specs, connections)
    edges = list(edges_of(specs, tuple(dict.fromkeys((*input_types, *signal_types))), output_types, takers))
    after: dict[str, dict[str, None]] = {node: {} for node in specs}
    for edge in edges:
        if edge.source is not None and edge.target is not None:
            after[edge.source][edge.target] = None
    links = {node: list(targets) for node, targets in after.items()}
    entries = dict.fromkeys(e.target for e in edges if e.source is None and e.target)
    groups = strong_components(links)
    home = {node: index for index, group in enumerate(groups) for node in group}
    back = frozenset((a, b) for a, targets in links.items() for b in targets if home[a] == home[b])
    edges = [attrs.evolve(edge, back=True) if (edge.source, edge.target) in back else edge for edge in edges]
    into: dict[Receiver, list[Edge]] = {}
    out_of: dict[str | None, list[Edge]] = {}
    for edge in edges:
        out_of.setdefault(edge.source, []).append(edge)
        if edge.target is not None and edge.parameter is not None:
            into.setdefault(Receiver(edge.target, edge.parameter), []).append(edge)
    nesting = nest(specs, edges)
    receivers = [Receiver(spec.name, entry.name) for spec in specs.values() for entry in spec.inputs]
    bits = {receiver: 1 << index for index, receiver in enumerate(receivers)}
    returning = returning_edges(links, entries)
    reach = level_reach = inward_reach = _closure(specs, _direct(specs, edges), bits)
    if any(spec.fan_out is not Many.ONE for spec in specs.values()):
        level_reach = _closure(specs, _direct_on_level(specs, edges, nesting, inward=False), bits)
        inward_reach = _closure(specs, _direct_on_level(specs, edges, nesting, inward=True), bits)
    return Plan(
        name=name,
        nodes=dict(specs),
        input_types=input_types,
        output_types=output_types,
        connections=tuple(connections),
        edges=tuple(edges),
        components=tuple(group for group in groups if any((node, node) in back for node in group) or len(group) > 1),
        returning=returning,
        nesting=nesting,
        merges=_merges(specs, edges, nesting, returning),
        order={node: index for index, node in enumerate(specs)},
        recalled=tuple(dict.fromkeys(kind for spec in specs.values() for entry in spec.recalls for kind in entry.types)),
        back=frozenset[tuple[str | None, str]](back),
        signal_types=signal_types,
        steering=tuple(kind for kind in signal_types if not any(related(kind, (e.type,)) for e in out_of.get(None, ()))),
        signalled=_signalled(specs, signal_types, out_of),
        takers=takers,
        into=into,
        out_of=out_of,
        forward=frozenset((a, b) for a, targets in links.items() for b in targets if (a, b) not in back),
        bits=bits,
        reach=reach,
        level_reach=level_reach,
        inward_reach=inward_reach,
    )


def _signalled(
    specs: Mapping[str, NodeSpec], signal_types: tuple[type, ...], out_of: Mapping[str | None, Sequence[Edge]]
) -> frozenset[Receiver]:
    found: set[Receiver] = set()
    queue = [edge for edge in out_of.get(None, ()) if signal_types and issubclass(edge.type, signal_types)]
    while queue:
        edge = queue.pop()
        receiver = Receiver(edge.target or "", edge.parameter or "")
        if edge.target is not None and receiver not in found:
            found.add(receiver)
            if not specs[edge.target].is_join:
                queue += out_of.get(edge.target, ())
    return frozenset(found)


def _direct(specs: Mapping[str, NodeSpec], edges: Iterable[Edge]) -> dict[str, list[Receiver]]:
    direct: dict[str, list[Receiver]] = {node: [] for node in specs}
    for edge in edges:
        if edge.source and edge.target and edge.parameter:
            direct[edge.source].append(Receiver(edge.target, edge.parameter))
    return direct


def _direct_on_level(
    specs: Mapping[str, NodeSpec], edges: Iterable[Edge], nesting: Nesting, *, inward: bool
) -> dict[str, list[Receiver]]:
    direct = _direct(specs, [edge for edge in edges if not edge.gathers])
    for node, spec in specs.items():
        if spec.fan_out is not Many.ONE:
            direct[node] = [*(direct[node] if inward else ()), *nesting.gathers.get(node, ())]
    return direct


def _closure(
    specs: Mapping[str, NodeSpec], direct: Mapping[str, Sequence[Receiver]], bits: Mapping[Receiver, int]
) -> dict[str, int]:
    """Node → the set, as bits, of all receivers that `direct` leads to over any number of nodes."""
    reach: dict[str, int] = dict.fromkeys(specs, 0)
    links = {node: [receiver.node for receiver in receivers] for node, receivers in direct.items()}
    for group in strong_components(links):
        found = 0
        for node in group:
            for receiver in direct[node]:
                found |= bits[receiver] | reach[receiver.node]
        for node in group:
            reach[node] = found
    return reach


def _merges(
    specs: Mapping[str, NodeSpec], edges: Sequence[Edge], nesting: Nesting, returning: frozenset[tuple[str, str]]
) -> frozenset[str]:
    """Nodes where ways meet that began with one message going to several receivers: they start once for each way.

    What is gathered comes from the fan-out, no matter which node made the items: it leaves the branches.
    """
    forward = [e for e in edges if e.target and not e.gathers and (e.source or "", e.target) not in returning]
    makers: dict[Receiver, dict[str | None, None]] = {}
    splits: dict[tuple[str | None, type], dict[str, None]] = {}
    for edge in forward:
        assert edge.target is not None and edge.parameter is not None
        makers.setdefault(Receiver(edge.target, edge.parameter), {})[edge.source] = None
        splits.setdefault((edge.source, edge.type), {})[edge.target] = None
    gathered: list[tuple[str | None, str]] = []
    comes_round = {Receiver(e.target, e.parameter or "") for e in edges if e.target and (e.source or "", e.target) in returning}
    for fan_out, ends in nesting.gathers.items():
        for end in (end for end in ends if end not in comes_round):
            makers.setdefault(end, {})[fan_out] = None
            splits.setdefault((fan_out, list), {})[end.node] = None
            gathered.append((fan_out, end.node))
    suspects = [(receiver.node, list(sources)) for receiver, sources in makers.items() if len(sources) > 1]
    if not suspects:
        return frozenset()
    below = _descendants(specs, [*((e.source, e.target) for e in forward if e.target), *gathered])
    parting = [(start, list(targets)) for (start, _), targets in splits.items() if len(targets) > 1]
    found: set[str] = set()
    for node, sources in suspects:
        for start, targets in parting:
            ways = [_last_steps(start, first, node, sources, below) for first in targets]
            led = [way for way in ways if way]
            if len(led) > 1 and any(way != led[0] or len(way) > 1 for way in led):  # two ways, and two last steps
                found.add(node)
                break
    return frozenset(found)


def _last_steps(
    start: str | None, first: str, node: str, sources: Sequence[str | None], below: Mapping[str, set[str]]
) -> list[int]:
    """Which of `sources`, by index, can be the last step before `node` on a way from `start` that begins with `first`."""
    reached = below[first]
    return [
        index
        for index, source in enumerate(sources)
        if (source == start and first == node) or (source is not None and source in reached)
    ]


def _descendants(specs: Mapping[str, NodeSpec], edges: Iterable[tuple[str | None, str]]) -> dict[str, set[str]]:
    links: dict[str, set[str]] = {node: set() for node in specs}
    for source, target in edges:
        if source is not None:
            links[source].add(target)
    below: dict[str, set[str]] = {}
    for group in strong_components({node: sorted(targets) for node, targets in links.items()}):
        found = set(group)
        for node in group:
            for target in links[node]:
                found |= below.get(target, set())
        for node in group:
            below[node] = found
    return below
