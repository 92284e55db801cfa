"""What stands in for a node: its fallback, its graph's, and what finds out whether an interrupted step took effect."""

from __future__ import annotations

import inspect
import types
from collections.abc import Callable
from typing import Any

import attrs

from actors.errors import NodeFailed
from actors.graphs.annotations import (
    Many,
    NameLookup,
    Unreadable,
    location,
    read,
    split,
)
from actors.graphs.dependencies import Nodes
from actors.graphs.node import Fallback, Kind, NodeDeclaration, NodeSpec
from actors.graphs.parameters import Parameters, Report, read_parameter


def read_fallback(declaration: NodeDeclaration, spec: NodeSpec, nodes: Nodes, report: Report) -> Fallback | None:
    """Read what stands in for the node when it has given up; it may take less than the node, and makes nothing else."""
    function, names = declaration.options.fallback, declaration.fallback_names
    assert function is not None and names is not None, "only called with a fallback"
    who = f"its fallback {function.__name__}"
    found, error = _fallback_parameters(function, names, nodes, report, who)
    _check_fallback_inputs(spec, found, report, who, ", and the error: error: Exception")
    _check_fallback_return(declaration, spec, function, names, report)
    kind = Kind.FUNCTION if inspect.iscoroutinefunction(function) else Kind.THREAD
    taken = tuple(entry.name for entry in found.inputs)
    failure = _wants_failure(function, error, names)
    return Fallback(function, kind, taken, error, found.injected, found.needs, wants_failure=failure)


def _check_fallback_inputs(spec: NodeSpec, found: Parameters, report: Report, who: str, also: str) -> None:
    inputs = {entry.name: entry for entry in spec.inputs}
    for entry in found.inputs:
        own = inputs.get(entry.name)
        if own is None or (own.gather is None) is not (entry.gather is None) or not all(map(entry.takes, own.types)):
            report(
                "fallback-input",
                f"{who} takes {entry.name!r}, which is not a parameter of the node, or of another type there.",
                f"take some of the node's parameters ({', '.join(inputs)}) as they are{also}.",
            )
    if found.recalls:
        report("fallback-input", f"{who} recalls a message.", "recall it in the node; it gets what the node takes.")


def read_on_uncertain(declaration: NodeDeclaration, spec: NodeSpec, nodes: Nodes, report: Report) -> Fallback | None:
    """Read what finds out whether a step took effect; it returns what the node returns, or None if it did not."""
    function, names = declaration.options.on_uncertain, declaration.uncertain_names
    assert function is not None and names is not None, "only called with one"
    who = f"its on_uncertain {function.__name__}"
    found, error = _fallback_parameters(function, names, nodes, report, who)
    if error is not None:
        report("fallback-input", f"{who} takes an error, and there is none.", f"leave {error!r} out.")
    _check_fallback_inputs(spec, found, report, who, "")
    try:
        shape = read(inspect.signature(function).return_annotation, names)
    except Unreadable as problem:
        report(problem.code, f"{who}, return type: {problem.text}", problem.fix)
        return None
    if not spec.outputs or shape.many is not spec.fan_out or not all(issubclass(kind, spec.outputs) for kind in shape.types):
        report(
            "on-uncertain-return",
            f"{who} does not return what {declaration.name!r} returns, or None."
            if spec.outputs
            else f"{who} can only say that nothing happened: {declaration.name!r} returns nothing.",
            "annotate it with the node's return type and None; a node that has on_uncertain returns a message.",
        )
    kind = Kind.FUNCTION if inspect.iscoroutinefunction(function) else Kind.THREAD
    return Fallback(function, kind, tuple(entry.name for entry in found.inputs), None, found.injected, found.needs)


def read_default_fallback(
    function: types.FunctionType, names: NameLookup, nodes: Nodes, output_types: tuple[type, ...], report: Report
) -> Fallback | None:
    """Read the fallback of a graph, which stands in for every node that has none; None if its return type cannot be read."""
    who = f"the fallback {function.__name__} ({location(function)})"
    found, error = _fallback_parameters(function, names, nodes, report, who)
    if found.inputs or found.recalls:
        report(
            "fallback-input",
            f"{who} takes {_listed_names(found)}, and it stands in for nodes that take different messages.",
            "take the error as failure: NodeFailed, whose input is the message; or give the node its own fallback.",
        )
    try:
        shape = read(inspect.signature(function).return_annotation, names)
    except Unreadable as problem:
        report(problem.code, f"{who}, return type: {problem.text}", problem.fix)
        return None
    if shape.many is not Many.ONE or not all(issubclass(kind, output_types) for kind in shape.types):
        outputs = " | ".join(kind.__name__ for kind in output_types)
        report(
            "fallback-return",
            f"{who} does not return the graph's output: {outputs}.",
            f"return {outputs}, which ends the run, or None, which ends the branch of the node that failed.",
        )
    kind = Kind.FUNCTION if inspect.iscoroutinefunction(function) else Kind.THREAD
    fallback = Fallback(function, kind, (), error, found.injected, found.needs, is_default=True, may_end=shape.optional)
    return attrs.evolve(fallback, wants_failure=_wants_failure(function, error, names))


def _listed_names(found: Parameters) -> str:
    return ", ".join(repr(name) for name in (*(entry.name for entry in found.inputs), *(entry.name for entry in found.recalls)))


def _fallback_parameters(
    function: Callable[..., Any], names: NameLookup, nodes: Nodes, report: Report, who: str
) -> tuple[Parameters, str | None]:
    """What a fallback takes, and the parameter that gets the error."""
    found, error = Parameters(), None
    for parameter in inspect.signature(function).parameters.values():
        if parameter.annotation is parameter.empty:
            report(
                "missing-annotation",
                f"{who}, parameter {parameter.name!r}: it has no annotation.",
                f"write {parameter.name}: Exception for the error, or the type of the node's parameter of that name.",
            )
            continue
        try:
            if _takes_error(parameter, names):
                error = parameter.name
                continue
            found.add(parameter.name, read_parameter(parameter, names, nodes))
        except Unreadable as problem:
            report(problem.code, f"{who}, parameter {parameter.name!r}: {problem.text}", problem.fix)
    for name in found.given:
        report("fallback-input", f"{who} takes the tools of a toolbox in {name!r}.", "call them in a node.")
    return found, error


def _takes_error(parameter: inspect.Parameter, names: NameLookup) -> bool:
    kind, _ = split(parameter.annotation, names)
    return isinstance(kind, type) and issubclass(kind, BaseException)


def _wants_failure(function: Callable[..., Any], error: str | None, names: NameLookup) -> bool:
    if error is None:
        return False
    kind, _ = split(inspect.signature(function).parameters[error].annotation, names)
    return kind is NodeFailed


def _check_fallback_return(
    declaration: NodeDeclaration, spec: NodeSpec, function: Callable[..., Any], names: NameLookup, report: Report
) -> None:
    who = f"its fallback {function.__name__}"
    try:
        shape = read(inspect.signature(function).return_annotation, names)
    except Unreadable as problem:
        report(problem.code, f"{who}, return type: {problem.text}", problem.fix)
        return
    fits = all(issubclass(kind, spec.outputs) for kind in shape.types) and (spec.may_end or not shape.optional)
    if spec.fan_out is Many.STREAM:
        report(
            "fallback-return",
            f"{who} cannot take over a stream, of which items may have left.",
            "return list[…] from the node.",
        )
    elif shape.many is not spec.fan_out or not fits:
        report(
            "fallback-return",
            f"{who} does not return what {declaration.name!r} returns.",
            "annotate it with the node's return type.",
        )
