"""What a graph may do and its author seldom means: hints, which hold no run up. Pure."""

from __future__ import annotations

import dataclasses
import types
from collections.abc import Iterator
from typing import Any

from actors.errors import Problem
from actors.graphs.annotations import Many
from actors.graphs.bodies import is_empty
from actors.graphs.edges import related
from actors.graphs.node import Kind, NodeSpec
from actors.graphs.plan import Plan
from actors.words import listed


def find_hints(plan: Plan) -> Iterator[Problem]:
    """All hints: of each node in the order of declaration, then of the types."""
    for spec in plan.nodes.values():
        yield from _empty_body(spec)
    yield from _shared_and_mutable(plan)


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


def _shared_and_mutable(plan: Plan) -> Iterator[Problem]:
    """One message goes to several nodes as it is, so what one of them changes in it is changed for the others."""
    takers: dict[type, dict[str, None]] = {}
    for source in (None, *plan.nodes):
        edges = [edge for edge in plan.out_of(source) if edge.target is not None]
        for edge in edges:
            nodes = dict.fromkeys(other.target or "" for other in edges if related(edge.type, (other.type,)))
            if len(nodes) > 1 and not is_frozen(edge.type):
                takers.setdefault(edge.type, {}).update(nodes)
    for kind, nodes in takers.items():
        yield Problem(
            "mutable-message",
            None,
            f"{kind.__module__}.{kind.__qualname__} can be changed, and one message of it goes to {listed(nodes)}, which work at "
            "the same time: what one changes in it, the others see, or not, as timing has it.",
            f"{_how_to_freeze(kind)}, and let a node that changes something make its own message (attrs.evolve, "
            "dataclasses.replace, model_copy).",
        )


def is_frozen(kind: type) -> bool:
    """Whether the fields of an instance cannot be set; what the fields hold may still change."""
    own: Any = kind
    if hasattr(own, "model_fields"):
        config: Any = getattr(own, "model_config", {})
        return bool(config.get("frozen"))
    if dataclasses.is_dataclass(kind):
        return bool(own.__dataclass_params__.frozen)
    return "frozen" in own.__setattr__.__name__  # what attrs puts there


def _how_to_freeze(kind: type) -> str:
    name = kind.__name__
    if hasattr(kind, "model_fields"):
        return f"write model_config = ConfigDict(frozen=True) in {name}"
    return f"write {'@dataclass(frozen=True)' if dataclasses.is_dataclass(kind) else '@attrs.frozen'} above {name}"
