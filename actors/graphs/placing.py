"""What keeps a node from running on the hosts of its place. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from types import FunctionType
from typing import Any, Final, get_origin

from actors.actor import ActorRef
from actors.errors import Problem
from actors.graphs.dependencies import Injected, Supply
from actors.graphs.node import Kind, NodeSpec
from actors.portable import why_not_named
from actors.supervision import ChildSpec


def handler_of(spec: NodeSpec) -> Any:
    """What a host imports for a node: its function; of a class node, the class."""
    return spec.function if spec.message is None else spec.message


def taken_types(spec: NodeSpec) -> Iterator[tuple[type, ...]]:
    """The types of each parameter that gets a message, or recalls one."""
    yield from (entry.types for entry in spec.inputs)
    yield from (entry.types for entry in spec.recalls)


def placing_problems(spec: NodeSpec) -> Iterator[Problem]:
    """Everything that keeps a node from running on the hosts of its place, except for names; see :func:`naming_problems`."""

    def problem(code: str, text: str, fix: str) -> Problem:
        return Problem(code, spec.name, text, fix, spec.location)

    if spec.kind is Kind.ACTOR and not isinstance(spec.embedded, ActorRef):
        return
    if spec.kind not in (Kind.FUNCTION, Kind.THREAD):
        yield problem(
            "placed-kind",
            f"its place is {spec.options.place!r}, and {_WHAT[spec.kind]} is not placed.",
            _FIX.get(spec.kind, "leave place out; what has a body can be placed: @graph.node(place=…) on a function or a class."),
        )
        return
    for parameter, wanted in spec.injected.items():
        if wanted not in (Injected.RUN, Injected.LM):
            yield problem(
                "placed-parameter",
                f"its place is {spec.options.place!r}, and parameter {parameter!r} gets a {wanted.value}, which its hosts don't "
                "have.",
                "let a node that isn't placed use it, and send this one what it needs as a message.",
            )
    for parameter, box in spec.given.items():
        yield problem(
            "placed-parameter",
            f"its place is {spec.options.place!r}, and parameter {parameter!r} gets the tools of {box.name!r}, which its hosts "
            "don't have.",
            "let a node that isn't placed call them, and send this one what they gave as a message.",
        )
    for parameter, need in spec.needs.items():
        if any(each.supply is Supply.NODE for each in need.all()):
            yield problem(
                "placed-parameter",
                f"its place is {spec.options.place!r}, and parameter {parameter!r} depends on a node, which runs elsewhere.",
                "let it take that node's message as an input.",
            )


def naming_problems(spec: NodeSpec | ChildSpec) -> Iterator[Problem]:
    """What a host could not import of a placed node, or of a placed actor."""
    if isinstance(spec, ChildSpec):
        factory = get_origin(spec.factory) or spec.factory
        why = why_not_named(factory)
        if why is not None:
            fix = "move it to the top level of a module that both import."
            if not isinstance(factory, type | FunctionType):
                fix = "pass the class, or a function at the top level of a module; what it needs besides, as arguments."
            yield Problem("placed-name", spec.id, f"another process imports what makes it by name, and {why}.", fix, "")
        return
    needs = [each.function for need in spec.needs.values() for each in need.all() if each.supply is not Supply.NODE]
    types = [kind for kinds in taken_types(spec) for kind in kinds]
    for thing in dict.fromkeys([handler_of(spec), *needs, *types, *spec.outputs]):
        why = why_not_named(thing)
        if why is not None:
            yield Problem(
                "placed-name",
                spec.name,
                f"its place is {spec.options.place!r}, where another process imports it by name, and {why}.",
                "move it to the top level of a module that both import.",
                spec.location,
            )


_WHAT: Final = {
    Kind.PREDICT: "what a language model fills",
    Kind.HUMAN: "what a person fills",
    Kind.GRAPH: "a graph",
    Kind.ACTOR: "an actor that was spawned elsewhere",
}
_FIX: Final = {Kind.ACTOR: "place it where it is spawned: spawn(…, place=…); or add its class, which the graph starts there."}
