"""``graph.connect(…)`` as it was written, and the nodes that it names."""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping, Sequence
from typing import Any, final

import attrs

from actors.check import listed
from actors.dependencies import ORIGINAL
from actors.edges import Connection
from actors.errors import Problem
from actors.node import NodeDeclaration
from actors.words import repr_of


@final
@attrs.define(eq=False)
class Connect:
    """One call of ``connect`` as it was written; the nodes are looked up when the graph is checked."""

    source: object
    target: object
    when: Callable[[Any], bool] | None
    location: str


def looked_up(calls: Sequence[Connect], nodes: Mapping[str, NodeDeclaration]) -> tuple[list[Connection], list[Problem]]:
    """The connections between the nodes that the calls name, and a problem for each name that is no node's."""
    found: list[Connection] = []
    problems: list[Problem] = []
    for call in calls:
        ends = [_name_of(end, nodes) for end in (call.source, call.target)]
        for end, name in zip((call.source, call.target), ends, strict=True):
            if name is None:
                problems.append(_unknown(call, end, nodes))
        source, target = ends
        if source is not None and target is not None:
            found.append(Connection(source, target, call.when))
    return found, problems


def plain(name: str | enum.Enum | None) -> str | None:
    """A name that is given as the member of an enumeration is that member's value."""
    return name.value if isinstance(name, enum.Enum) else name


def _unknown(call: Connect, end: object, nodes: Mapping[str, NodeDeclaration]) -> Problem:
    shown = getattr(end, "__name__", None) or repr_of(end)
    return Problem(
        "connect-unknown-node",
        None,
        f"connect() at {call.location}: {shown} is not a node of the graph: {listed(nodes)}.",
        "decorate it with @graph.node, or pass one of these.",
        call.location,
    )


def _name_of(node: object, nodes: Mapping[str, NodeDeclaration]) -> str | None:
    if isinstance(node, str | enum.Enum):
        return name if (name := plain(node)) in nodes else None
    origin = getattr(node, ORIGINAL, node)
    return next((name for name, declaration in nodes.items() if declaration.origin is origin), None)
