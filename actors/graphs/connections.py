"""``graph.connect(…)`` as it was written, and the nodes that it names."""

from __future__ import annotations

import enum
import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any, final

import attrs

from actors.errors import DeclarationError, Problem
from actors.graphs.dependencies import ORIGINAL
from actors.graphs.edges import Connection
from actors.graphs.node import NodeDeclaration
from actors.words import listed, repr_of


@final
@attrs.define(eq=False)
class Connect:
    """One call of ``connect`` as it was written; the nodes are looked up when the graph is checked."""

    source: object
    target: object
    when: Callable[[Any], bool] | None
    parameter: str | None
    location: str


def looked_up(calls: Sequence[Connect], nodes: Mapping[str, NodeDeclaration]) -> tuple[list[Connection], list[Problem]]:
    """The connections between the nodes that the calls name, and a problem for each name that isn't a node's, or several's."""
    found: list[Connection] = []
    problems: list[Problem] = []
    for call in calls:
        ends = [_names_of(end, nodes) for end in (call.source, call.target)]
        for end, names in zip((call.source, call.target), ends, strict=True):
            if len(names) != 1:
                problems.append(_several(call, end, names) if names else _unknown(call, end, nodes))
        sources, targets = ends
        if len(sources) == len(targets) == 1:
            found.append(Connection(sources[0], targets[0], call.when, call.parameter, call.location))
    return found, problems


def check_when(when: object, place: str) -> None:
    """Reject a condition that cannot be asked.

    Raises:
        DeclarationError: it cannot be called; or it is async, and what it returned would always count as true.
    """
    if when is None:
        return
    if not callable(when):
        raise DeclarationError(
            f"connect(…, when={repr_of(when)}) ({place}): expected a function of the message.\n  Fix: when=lambda message: …"
        )
    function: Any = when
    while isinstance(function, functools.partial):
        function = function.func
    is_plain = inspect.isroutine(function) or isinstance(function, type)
    if _is_async(function) or (not is_plain and _is_async(type(function).__call__)):
        name = getattr(function, "__name__", type(function).__name__)
        raise DeclarationError(
            f"connect(…, when={name}) ({place}): {name} is async, so what it returns would be a coroutine, which always counts "
            "as true.\n"
            "  Fix: write it as a plain 'def' that returns True or False; what it has to wait for is the work of a node, which "
            "returns one type or another."
        )


def _is_async(function: Any) -> bool:
    function = inspect.unwrap(function)
    return inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function)


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


def _several(call: Connect, end: object, names: Sequence[str]) -> Problem:
    shown = getattr(end, "name", None) or getattr(end, "__name__", None) or repr(end)
    return Problem(
        "connect-several-nodes",
        None,
        f"connect() at {call.location}: {shown} stands as the nodes {listed(names)}, and it isn't clear which of them is meant.",
        f"pass the node's name: {names[0]!r}.",
        call.location,
    )


def _names_of(node: object, nodes: Mapping[str, NodeDeclaration]) -> list[str]:
    """The nodes that `node` names: one, none, or several where a graph or an actor was added more than once."""
    if isinstance(node, str | enum.Enum):
        return [name] if (name := plain(node)) in nodes and name is not None else []
    origin = getattr(node, ORIGINAL, node)
    return [name for name, declaration in nodes.items() if declaration.origin is origin]
