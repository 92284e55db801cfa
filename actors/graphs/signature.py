"""From a decorated function to a node's specification: what its parameters take and what its return type makes.

Problems are collected, not raised, so the check of a graph can name all of them together.
"""

from __future__ import annotations

import inspect
import types
from typing import final

import attrs

from actors.errors import Problem
from actors.graphs.annotations import (
    Many,
    Shape,
    Unreadable,
    read,
)
from actors.graphs.dependencies import Nodes
from actors.graphs.filled import check_body, check_human, check_predict, instruction_of
from actors.graphs.node import Input, NodeDeclaration, NodeSpec
from actors.graphs.parameters import Parameters, Report, check_messages, read_parameters
from actors.graphs.stand_ins import read_fallback, read_on_uncertain
from actors.graphs.tools import ToolSpec, read_tool


@final
@attrs.frozen
class Resolved:
    """What :func:`resolve` found out."""

    spec: NodeSpec
    problems: tuple[Problem, ...]
    knows_inputs: bool
    """False: a parameter could not be read, so what the node takes is not fully known."""
    knows_outputs: bool
    """False: the return annotation could not be read."""


def resolve(declaration: NodeDeclaration, nodes: Nodes) -> Resolved:
    """Read the annotations of one node; problems are collected, not raised. `nodes` are those that it may depend on."""
    problems: list[Problem] = []

    def report(code: str, text: str, fix: str) -> None:
        problems.append(Problem(code, declaration.name, text, fix, declaration.location))

    found, knows_inputs, returned = _read_declared(declaration, nodes, report)
    shape = returned or Shape()
    if declaration.predict is not None:
        check_predict(declaration, found, returned, report)
    elif declaration.human is not None:
        check_human(declaration, found, returned, report)
    elif returned is not None:
        check_body(declaration, returned, report)
    spec = NodeSpec(
        name=declaration.name,
        function=declaration.function,
        kind=declaration.kind,
        inputs=tuple(found.inputs),
        injected=types.MappingProxyType(found.injected),
        outputs=shape.types,
        may_end=shape.optional,
        fan_out=shape.many,
        item_may_end=shape.item_optional,
        options=declaration.options,
        predict=declaration.predict,
        human=declaration.human,
        needs=types.MappingProxyType(found.needs),
        recalls=tuple(found.recalls),
        given=types.MappingProxyType(found.given),
        instruction=instruction_of(declaration),
        location=declaration.location,
        message=declaration.message,
        embedded=None if declaration.embedded is None else declaration.embedded.what,
        tools=_read_tools(declaration, nodes, returned, report) if declaration.predict is not None else (),
    )
    if declaration.options.fallback is not None and returned is not None:
        spec = attrs.evolve(spec, fallback=read_fallback(declaration, spec, nodes, report))
    if declaration.options.on_uncertain is not None and returned is not None:
        spec = attrs.evolve(spec, on_uncertain=read_on_uncertain(declaration, spec, nodes, report))
    return Resolved(spec, tuple(problems), knows_inputs, returned is not None)


def _read_tools(declaration: NodeDeclaration, nodes: Nodes, returned: Shape | None, report: Report) -> tuple[ToolSpec, ...]:
    """The tools of a predict node, and what is wrong with them."""
    found: dict[str, ToolSpec] = {}
    for tool in declaration.tools:
        try:
            spec = read_tool(tool, nodes)
        except Unreadable as problem:
            report(problem.code, f"its tool {tool.name!r} ({tool.place}): {problem.text}", problem.fix)
            continue
        if spec.name in found:
            report(
                "tool-same-name",
                f"it has two tools of the one name {spec.name!r} ({found[spec.name].tool.place} and {tool.place}): a language "
                "model calls a tool by its name.",
                f"write tool({spec.name}, name='other') for one of them.",
            )
        found[spec.name] = spec
    if (
        found
        and returned is not None
        and len(returned.types) == 1
        and not returned.optional
        and _has_no_fields(returned.types[0])
    ):
        report(
            "tool-no-answer",
            f"{returned.types[0].__name__} has no fields, so no language model would ever be asked, and no tool called.",
            "give it a field for what was found out.",
        )
    return tuple(found.values())


def _has_no_fields(kind: type) -> bool:
    return not getattr(kind, "__annotations__", None) and all(not vars(base).get("__annotations__") for base in kind.__mro__)


def _read_declared(declaration: NodeDeclaration, nodes: Nodes, report: Report) -> tuple[Parameters, bool, Shape | None]:
    """What the node takes, whether all of that could be read, and what it returns: None if that could not."""
    embedded = declaration.embedded
    if embedded is not None and embedded.takes is not None:
        return Parameters([Input("message", embedded.takes)]), True, Shape(embedded.returns or ())
    found, is_known = read_parameters(declaration, nodes, report)
    return found, is_known, _read_return(declaration, report)


def _read_return(declaration: NodeDeclaration, report: Report) -> Shape | None:
    annotation = inspect.signature(declaration.function).return_annotation
    if annotation is inspect.Signature.empty:
        report(
            "missing-annotation",
            "its return type is not annotated, so nothing is known to receive what it returns.",
            "write '-> Message', or '-> None' for a node that only ends its branch.",
        )
        return None
    try:
        shape = read(annotation, declaration.names)
        if shape.types or not shape.optional:
            check_messages(shape)
    except Unreadable as error:
        report(error.code, f"return type: {error.text}", error.fix)
        return None
    generates = inspect.isasyncgenfunction(declaration.function)
    if inspect.isgeneratorfunction(declaration.function):
        report(
            "wrong-stream", "it is a synchronous generator.", "make it 'async def' with '-> AsyncIterator[A]', or return list[A]."
        )
    elif shape.many is Many.STREAM and not generates and not (declaration.predict or declaration.human):
        report("wrong-stream", "it is annotated as a stream but never yields.", "yield the items, or return list[A].")
    elif generates and shape.many is not Many.STREAM:
        report("wrong-stream", "it yields but is not annotated as a stream.", "annotate it with '-> AsyncIterator[A]'.")
    return shape
