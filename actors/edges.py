"""The edges of a graph: who makes which type, who takes it, and what ``connect`` says otherwise. Pure.

Two rules. A parameter annotated with T takes instances of T and of its subclasses. A node's message goes to every parameter
that takes it, unless the node is connected to one that does: then it goes only where the node is connected to.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, final

import attrs

from actors.node import Input, NodeSpec


@final
@attrs.frozen
class Connection:
    """One ``graph.connect(source, target, when=…)``."""

    source: str
    target: str
    when: Callable[[Any], bool] | None = None


@final
@attrs.frozen(cache_hash=True)
class Receiver:
    """One parameter of one node, as the end of an edge."""

    node: str
    parameter: str


@final
@attrs.frozen
class Edge:
    """Messages of one type from one node to one parameter of another."""

    source: str | None
    """The node that makes them; None: the graph's input."""
    type: type
    target: str | None
    """The node that takes them; None: they are the graph's output."""
    parameter: str | None = None
    gathers: bool = False
    """They end in a ``list[A]`` parameter."""
    fans_out: bool = False
    """They are the items of a fan-out."""
    conditional: bool = False
    """``connect(…, when=…)`` decides."""
    back: bool = False
    """It lies on a cycle: messages along it queue and never block the sender."""


def takers(specs: Mapping[str, NodeSpec], fits: Callable[[Input], bool]) -> list[tuple[NodeSpec, Input]]:
    """Every input that `fits`, in the order in which nodes and parameters were declared."""
    return [(spec, entry) for spec in specs.values() if not spec.is_on_demand for entry in spec.inputs if fits(entry)]


def narrowed(
    found: Sequence[tuple[NodeSpec, Input]], source: str | None, connections: Sequence[Connection]
) -> tuple[list[tuple[NodeSpec, Input]], bool]:
    """`found` without what `source` is not connected to, and whether any connection had a say."""
    targets = {connection.target for connection in connections if connection.source == source}
    kept = [(spec, entry) for spec, entry in found if spec.name in targets]
    return (kept, True) if kept else (list(found), False)


def related(made: type, taken: tuple[type, ...]) -> type | None:
    """The type that can flow from a maker of `made` to a taker of `taken`, or None.

    That is `made` itself when it is taken; or the narrower taken type, since a maker of a base class may make a subclass.
    """
    if issubclass(made, taken):
        return made
    return next((kind for kind in taken if issubclass(kind, made)), None)


def _flowing(made: type, entry: Input) -> type | None:
    return None if issubclass(made, entry.excluded) else related(made, entry.types)


def edges_of(
    specs: Mapping[str, NodeSpec],
    input_types: tuple[type, ...],
    output_types: tuple[type, ...],
    connections: Sequence[Connection],
) -> Iterator[Edge]:
    """All edges that messages can take, in declaration order; the graph's input first."""
    makers: list[tuple[str | None, tuple[type, ...]]] = [(None, input_types)]
    makers += [(spec.name, spec.outputs) for spec in specs.values() if not spec.is_on_demand]
    for source, outputs in makers:
        fans_out = source is not None and specs[source].fan_out.value != "one"
        for kind in outputs:
            yield from _edges_from(source, kind, fans_out, specs, output_types, connections)


def _edges_from(
    source: str | None,
    kind: type,
    fans_out: bool,
    specs: Mapping[str, NodeSpec],
    output_types: tuple[type, ...],
    connections: Sequence[Connection],
) -> Iterator[Edge]:
    found, decided = narrowed(takers(specs, lambda entry: _flowing(kind, entry) is not None), source, connections)
    whens = {(c.target, c.when is None) for c in connections if c.source == source}
    always = False
    for spec, entry in found:
        conditional = decided and (spec.name, True) not in whens
        always = always or (decided and not conditional)
        flowing = _flowing(kind, entry) or kind
        yield Edge(source, flowing, spec.name, entry.name, entry.gather is not None, fans_out, conditional)
    output = related(kind, output_types)
    if source is not None and output is not None and not always:
        yield Edge(source, output, None, fans_out=fans_out, conditional=decided)
