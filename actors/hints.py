"""What a graph may do and its author seldom means: hints, which hold no run up. Pure."""

from __future__ import annotations

import types
from collections.abc import Iterator

from actors.annotations import Many
from actors.errors import Problem
from actors.node import Kind, NodeSpec, is_empty
from actors.plan import Plan


def find_hints(plan: Plan) -> Iterator[Problem]:
    """All hints: of each node in the order of declaration, then of the types."""
    for spec in plan.nodes.values():
        yield from _empty_body(spec)


def _empty_body(spec: NodeSpec) -> Iterator[Problem]:
    """What compiles like ``...`` may be the body of a node that a language model was to fill."""
    writes = spec.kind in (Kind.FUNCTION, Kind.THREAD) and spec.outputs and spec.fan_out is not Many.STREAM
    if writes and isinstance(spec.function, types.FunctionType) and is_empty(spec.function):
        kinds = " | ".join(kind.__name__ for kind in spec.outputs)
        what = "function" if spec.message is None else "class"
        yield Problem(
            "empty-body",
            spec.name,
            f"its body is empty, so it always returns None, and never {kinds}.",
            f"write the body; or put @graph.predict above the {what}, and a language model fills {kinds}; or declare only None.",
            spec.location,
        )
