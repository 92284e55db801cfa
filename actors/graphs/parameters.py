"""What the parameters of a node, and of what stands in for it, take."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, final, get_args

import attrs

from actors.graphs.annotations import (
    Many,
    NameLookup,
    Shape,
    Unreadable,
    how_to_make_message,
    is_message_type,
    read,
    split,
)
from actors.graphs.dependencies import Dependency, Injected, Nodes, Recalled, asks_for_turns, needed
from actors.graphs.folds import gathered_types
from actors.graphs.markers import Dep, Gather, Recall, Run
from actors.graphs.node import Input, NodeDeclaration
from actors.graphs.tool_lists import asks_for_tools
from actors.graphs.toolboxes import Toolbox
from actors.lm import LM

Report = Callable[[str, str, str], None]
"""Takes the code of a problem, its text, and how to fix it."""


_INJECTED: dict[type, Injected] = {LM: Injected.LM, Run: Injected.RUN}


@final
@attrs.define
class Parameters:
    """What was found so far, by what fills it."""

    inputs: list[Input] = attrs.field(factory=list[Input])
    injected: dict[str, Injected] = attrs.field(factory=dict[str, Injected])
    needs: dict[str, Dependency] = attrs.field(factory=dict[str, Dependency])
    recalls: list[Recalled] = attrs.field(factory=list[Recalled])
    given: dict[str, Toolbox] = attrs.field(factory=dict[str, Toolbox])

    def add(self, name: str, found: Input | Injected | Dependency | Recalled | Toolbox) -> None:
        """Sort one parameter in."""
        if isinstance(found, Toolbox):
            self.given[name] = found
        elif isinstance(found, Injected):
            self.injected[name] = found
        elif isinstance(found, Dependency):
            self.needs[name] = found
        elif isinstance(found, Recalled):
            self.recalls.append(found)
        else:
            self.inputs.append(found)


def read_parameters(declaration: NodeDeclaration, nodes: Nodes, report: Report) -> tuple[Parameters, bool]:
    """What the function takes, and whether all of that could be read."""
    parameters = Parameters()
    complete = True
    for index, parameter in enumerate(inspect.signature(declaration.function).parameters.values()):
        if index == 0 and declaration.embedded is not None:
            continue  # an actor's ``self``
        if index == 0 and declaration.message is not None:
            parameters.inputs.append(Input(parameter.name, (declaration.message,)))
            continue
        try:
            parameters.add(parameter.name, read_parameter(parameter, declaration.names, nodes))
        except Unreadable as error:
            report(error.code, f"parameter {parameter.name!r}: {error.text}", error.fix)
            complete = False
    if not parameters.inputs and complete:
        report(
            "no-input",
            "it takes no message, so nothing would ever start it.",
            "give it a parameter annotated with a message type.",
        )
    return parameters, complete


def read_parameter(
    parameter: inspect.Parameter, names: NameLookup, nodes: Nodes
) -> Input | Injected | Dependency | Recalled | Toolbox:
    """What fills one parameter; a toolbox: its tools.

    Raises:
        Unreadable: nothing can, and why.
    """
    _check_usable(parameter)
    if asks_for_turns(parameter.annotation, names):
        return Injected.TURNS
    box = asks_for_tools(parameter.annotation, names)
    if box is not None:
        return box
    need = needed(parameter.annotation, parameter.name, names, nodes)
    if need is not None:
        return need
    wanted, markers = split(parameter.annotation, names)
    fold = next((marker for marker in markers if isinstance(marker, Gather) and marker.reduce is not None), None)
    if fold is not None:
        return Input(parameter.name, gathered_types(fold, wanted, names), type(None) in get_args(wanted), fold)
    shape = read(parameter.annotation, names)
    special = [_INJECTED[kind] for kind in shape.types if kind in _INJECTED]
    if special and len(shape.types) == 1 and shape.many is Many.ONE:
        return special[0]
    check_messages(shape, has_default=parameter.default is not parameter.empty)
    return Input(parameter.name, shape.types, shape.optional, _read_gather(shape))


def _check_usable(parameter: inspect.Parameter) -> None:
    if parameter.kind is parameter.POSITIONAL_ONLY:
        raise Unreadable("unusable-parameter", "nodes are called by keyword, and it is positional only.", "remove the '/'.")
    if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
        raise Unreadable(
            "unusable-parameter", "'*' and '**' parameters cannot take messages.", "name every parameter, each with its type."
        )
    if parameter.annotation is parameter.empty:
        is_method = parameter.name == "self"
        raise Unreadable(
            "missing-annotation",
            "it has no annotation" + (", as of a method: nodes are functions." if is_method else "."),
            "decorate a function outside of the class, or a message class with __call__."
            if is_method
            else f"write {parameter.name}: Message, with the type that it takes.",
        )
    if isinstance(parameter.default, Dep | Recall | Gather):
        raise Unreadable(
            "unusable-parameter",
            f"its default is a {type(parameter.default).__name__}, which belongs to its annotation.",
            f"write {parameter.name}: Annotated[T, {type(parameter.default).__name__}(…)], without a default.",
        )


def _read_gather(shape: Shape) -> Gather | None:
    """How a list is gathered; None for what isn't a list."""
    gathers = [marker for marker in shape.markers if isinstance(marker, Gather)]
    if any(marker is Gather for marker in shape.markers):
        raise Unreadable(
            "unusable-annotation", "Gather is the marker's class, not a marker.", "write Gather(first=1), for example."
        )
    if shape.many is Many.STREAM:
        raise Unreadable(
            "unusable-annotation", "a stream cannot be a parameter.", "take the items one by one, or gather them as list[A]."
        )
    if gathers and shape.many is not Many.LIST:
        raise Unreadable(
            "unusable-annotation",
            "Gather declares how a list is gathered.",
            "write Annotated[list[A], Gather(…)], or leave it out.",
        )
    return (gathers[0] if gathers else Gather()) if shape.many is Many.LIST else None


def check_messages(shape: Shape, *, has_default: bool = False) -> None:
    """Reject types that are not messages; a parameter with a default may have been meant for something else."""
    if not shape.types:
        raise Unreadable("not-a-message", "None is not a message.", "annotate it with the message type that it takes.")
    for kind in shape.types:
        if kind in (object, Any):
            raise Unreadable("not-a-message", f"{kind.__name__} names no message type.", "name them: A, or A | B.")
        if not is_message_type(kind) and has_default:
            raise Unreadable(
                "not-a-message",
                f"nothing but its default would ever fill it: {kind.__name__} is neither a message type nor injected (LM, Run).",
                f"leave it out, or get it from a function: Annotated[{kind.__name__}, Dep(function)].",
            )
        if not is_message_type(kind):
            raise Unreadable(
                "not-a-message",
                f"{kind.__name__} is neither a message type (attrs class, dataclass or pydantic model) nor injected (LM, Run).",
                how_to_make_message(kind),
            )
