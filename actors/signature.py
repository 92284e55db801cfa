"""From a decorated function to a node's specification: what its parameters take and what its return type makes.

Problems are collected, not raised, so that the check of a graph can name all of them at once.
"""

from __future__ import annotations

import dis
import inspect
import types
from collections.abc import Callable
from typing import final

import attrs

from actors.annotations import Many, Names, Shape, Unreadable, is_message_type, read
from actors.errors import Problem
from actors.lm import LM
from actors.markers import Gather, Run
from actors.node import Injected, Input, NodeDeclaration, NodeSpec


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


def resolve(declaration: NodeDeclaration) -> Resolved:
    """Read the annotations of one node; problems are collected, not raised."""
    problems: list[Problem] = []

    def report(code: str, text: str, mend: str) -> None:
        problems.append(Problem(code, declaration.name, text, mend, declaration.location))

    inputs, injected, knows_inputs = _read_parameters(declaration, report)
    returned = _read_return(declaration, report)
    if declaration.predict is not None:
        _check_predict(declaration, returned, report)
    shape = returned or Shape()
    spec = NodeSpec(
        name=declaration.name,
        function=declaration.function,
        kind=declaration.kind,
        inputs=tuple(inputs),
        injected=types.MappingProxyType(injected),
        outputs=shape.types,
        may_end=shape.optional,
        fan_out=shape.many,
        item_may_end=shape.item_optional,
        options=declaration.options,
        predict=declaration.predict,
        instruction=inspect.getdoc(declaration.function) or "",
        location=declaration.location,
    )
    return Resolved(spec, tuple(problems), knows_inputs, returned is not None)


Report = Callable[[str, str, str], None]

_INJECTED: dict[type, Injected] = {LM: Injected.LM, Run: Injected.RUN}


def _read_parameters(declaration: NodeDeclaration, report: Report) -> tuple[list[Input], dict[str, Injected], bool]:
    inputs: list[Input] = []
    injected: dict[str, Injected] = {}
    complete = True
    for parameter in inspect.signature(declaration.function).parameters.values():
        try:
            found = _read_parameter(parameter, declaration.names)
        except Unreadable as error:
            report(error.code, f"parameter {parameter.name!r}: {error.text}", error.mend)
            complete = False
            continue
        if isinstance(found, Injected):
            injected[parameter.name] = found
        else:
            inputs.append(found)
    if not inputs and complete:
        report(
            "no-input",
            "it takes no message, so nothing would ever start it.",
            "give it a parameter annotated with a message type.",
        )
    return inputs, injected, complete


def _read_parameter(parameter: inspect.Parameter, names: Names) -> Input | Injected:
    if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
        raise Unreadable(
            "unusable-parameter", "'*' and '**' parameters cannot take messages.", "name every parameter, each with its type."
        )
    if parameter.annotation is parameter.empty:
        raise Unreadable(
            "missing-annotation", "it has no annotation.", f"write {parameter.name}: Message, with the type that it takes."
        )
    shape = read(parameter.annotation, names)
    special = [_INJECTED[kind] for kind in shape.types if kind in _INJECTED]
    if special and len(shape.types) == 1 and shape.many is Many.ONE:
        return special[0]
    _check_messages(shape)
    gathers = [marker for marker in shape.markers if isinstance(marker, Gather)]
    if any(marker is Gather for marker in shape.markers):
        raise Unreadable("unusable-annotation", "Gather is the marker's class, not a marker.", "write Gather(first=1), say.")
    if shape.many is Many.STREAM:
        raise Unreadable(
            "unusable-annotation", "a stream cannot be a parameter.", "take the items one by one, or gather them as list[A]."
        )
    if gathers and shape.many is not Many.LIST:
        raise Unreadable(
            "unusable-annotation",
            "Gather says how a list is gathered.",
            "write Annotated[list[A], Gather(…)], or leave it out.",
        )
    gather = (gathers[0] if gathers else Gather()) if shape.many is Many.LIST else None
    return Input(parameter.name, shape.types, shape.optional, gather)


def _check_messages(shape: Shape) -> None:
    if not shape.types:
        raise Unreadable("not-a-message", "None is not a message.", "annotate it with the message type that it takes.")
    for kind in shape.types:
        if not is_message_type(kind):
            raise Unreadable(
                "not-a-message",
                f"{kind.__name__} is neither a message type (attrs class, dataclass or pydantic model) nor injected (LM, Run).",
                f"put @attrs.frozen on the class {kind.__name__}."
                if kind.__module__ != "builtins"
                else f"wrap it: @attrs.frozen class Name: value: {kind.__name__}",
            )


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
            _check_messages(shape)
    except Unreadable as error:
        report(error.code, f"return type: {error.text}", error.mend)
        return None
    generates = inspect.isasyncgenfunction(declaration.function)
    if inspect.isgeneratorfunction(declaration.function):
        report(
            "wrong-stream", "it is a synchronous generator.", "make it 'async def' with '-> AsyncIterator[A]', or return list[A]."
        )
    elif shape.many is Many.STREAM and not generates and declaration.predict is None:
        report("wrong-stream", "it is annotated as a stream but never yields.", "yield the items, or return list[A].")
    elif generates and shape.many is not Many.STREAM:
        report("wrong-stream", "it yields but is not annotated as a stream.", "annotate it with '-> AsyncIterator[A]'.")
    return shape


def _check_predict(declaration: NodeDeclaration, returned: Shape | None, report: Report) -> None:
    if returned is not None and (len(returned.types) != 1 or returned.optional or returned.many is not Many.ONE):
        report(
            "predict-return",
            "the language model fills exactly one message type, and the return type is "
            + ("a list." if returned.many is not Many.ONE else "a choice." if returned.types else "None."),
            "return one message type that holds the alternatives or the list as fields, and let a @graph.node route on it.",
        )
    if not _is_empty(declaration.function):  # type: ignore[arg-type]  # mypy binds a function held in a field
        report(
            "predict-body",
            "it has a body, which would never run: the language model fills the return type.",
            "leave only the docstring and '...', or use @graph.node and call the model through an LM parameter.",
        )


async def _empty_async() -> None: ...


def _empty() -> None: ...


def _is_empty(function: types.FunctionType) -> bool:
    """Whether the body does nothing: compared as bytecode, so that no source is needed."""
    model = _empty_async if inspect.iscoroutinefunction(function) else _empty
    return [(step.opname, step.argval) for step in dis.get_instructions(function)] == [
        (step.opname, step.argval) for step in dis.get_instructions(model)
    ]
