"""From a decorated function to a node's specification: what its parameters take and what its return type makes.

Problems are collected, not raised, so the check of a graph can name all of them together.
"""

from __future__ import annotations

import functools
import inspect
import types
from collections import Counter
from collections.abc import Callable
from typing import Any, final, get_args

import attrs

from actors.errors import NodeFailed, Problem
from actors.graphs.annotations import (
    Many,
    Names,
    Shape,
    Unreadable,
    description_of,
    how_to_make_message,
    is_message_type,
    location,
    read,
    split,
)
from actors.graphs.dependencies import Dependency, Injected, Nodes, Recalled, asks_for_turns, needed
from actors.graphs.folds import gathered_types
from actors.graphs.markers import Dep, Gather, Recall, Run
from actors.graphs.node import Fallback, Input, Kind, NodeDeclaration, NodeSpec, has_no_body, is_empty
from actors.graphs.tools import ToolSpec, read_tool
from actors.lm import LM


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
        _check_predict(declaration, returned, report)
    elif declaration.human is not None:
        _check_human(declaration, found, returned, report)
    elif returned is not None:
        _check_body(declaration, returned, report)
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
        instruction=_instruction(declaration),
        location=declaration.location,
        message=declaration.message,
        embedded=None if declaration.embedded is None else declaration.embedded.what,
        tools=_read_tools(declaration, nodes, returned, report) if declaration.predict is not None else (),
    )
    if declaration.options.fallback is not None and returned is not None:
        spec = attrs.evolve(spec, fallback=_read_fallback(declaration, spec, nodes, report))
    if declaration.options.on_uncertain is not None and returned is not None:
        spec = attrs.evolve(spec, on_uncertain=_read_on_uncertain(declaration, spec, nodes, report))
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


def _instruction(declaration: NodeDeclaration) -> str:
    own = inspect.cleandoc(declaration.function.__doc__ or "")
    return own or (description_of(declaration.message) if declaration.message is not None else "")


Report = Callable[[str, str, str], None]

_INJECTED: dict[type, Injected] = {LM: Injected.LM, Run: Injected.RUN}


@final
@attrs.define
class _Parameters:
    inputs: list[Input] = attrs.field(factory=list[Input])
    injected: dict[str, Injected] = attrs.field(factory=dict[str, Injected])
    needs: dict[str, Dependency] = attrs.field(factory=dict[str, Dependency])
    recalls: list[Recalled] = attrs.field(factory=list[Recalled])

    def add(self, name: str, found: Input | Injected | Dependency | Recalled) -> None:
        if isinstance(found, Injected):
            self.injected[name] = found
        elif isinstance(found, Dependency):
            self.needs[name] = found
        elif isinstance(found, Recalled):
            self.recalls.append(found)
        else:
            self.inputs.append(found)


def _read_declared(declaration: NodeDeclaration, nodes: Nodes, report: Report) -> tuple[_Parameters, bool, Shape | None]:
    """What the node takes, whether all of that could be read, and what it returns: None if that could not."""
    embedded = declaration.embedded
    if embedded is not None and embedded.takes is not None:
        return _Parameters([Input("message", embedded.takes)]), True, Shape(embedded.returns or ())
    found, is_known = _read_parameters(declaration, nodes, report)
    return found, is_known, _read_return(declaration, report)


def _read_parameters(declaration: NodeDeclaration, nodes: Nodes, report: Report) -> tuple[_Parameters, bool]:
    parameters = _Parameters()
    complete = True
    for index, parameter in enumerate(inspect.signature(declaration.function).parameters.values()):
        if index == 0 and declaration.embedded is not None:
            continue  # an actor's ``self``
        if index == 0 and declaration.message is not None:
            parameters.inputs.append(Input(parameter.name, (declaration.message,)))
            continue
        try:
            parameters.add(parameter.name, _read_parameter(parameter, declaration.names, nodes))
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


def _read_parameter(parameter: inspect.Parameter, names: Names, nodes: Nodes) -> Input | Injected | Dependency | Recalled:
    _check_usable(parameter)
    if asks_for_turns(parameter.annotation, names):
        return Injected.TURNS
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
    _check_messages(shape, has_default=parameter.default is not parameter.empty)
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


def _read_fallback(declaration: NodeDeclaration, spec: NodeSpec, nodes: Nodes, report: Report) -> Fallback | None:
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


def _check_fallback_inputs(spec: NodeSpec, found: _Parameters, report: Report, who: str, also: str) -> None:
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


def _read_on_uncertain(declaration: NodeDeclaration, spec: NodeSpec, nodes: Nodes, report: Report) -> Fallback | None:
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
    function: types.FunctionType, names: Names, nodes: Nodes, output_types: tuple[type, ...], report: Report
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


def _listed_names(found: _Parameters) -> str:
    return ", ".join(repr(name) for name in (*(entry.name for entry in found.inputs), *(entry.name for entry in found.recalls)))


def _fallback_parameters(
    function: Callable[..., Any], names: Names, nodes: Nodes, report: Report, who: str
) -> tuple[_Parameters, str | None]:
    """What a fallback takes, and the parameter that gets the error."""
    found, error = _Parameters(), None
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
            found.add(parameter.name, _read_parameter(parameter, names, nodes))
        except Unreadable as problem:
            report(problem.code, f"{who}, parameter {parameter.name!r}: {problem.text}", problem.fix)
    return found, error


def _takes_error(parameter: inspect.Parameter, names: Names) -> bool:
    kind, _ = split(parameter.annotation, names)
    return isinstance(kind, type) and issubclass(kind, BaseException)


def _wants_failure(function: Callable[..., Any], error: str | None, names: Names) -> bool:
    if error is None:
        return False
    kind, _ = split(inspect.signature(function).parameters[error].annotation, names)
    return kind is NodeFailed


def _check_fallback_return(
    declaration: NodeDeclaration, spec: NodeSpec, function: Callable[..., Any], names: Names, report: Report
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


def _check_messages(shape: Shape, *, has_default: bool = False) -> None:
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


def _check_human(declaration: NodeDeclaration, found: _Parameters, returned: Shape | None, report: Report) -> None:
    if returned is not None and (not returned.types or returned.many is not Many.ONE):
        report(
            "human-return",
            "a person fills one message, and the return type is " + ("a list." if returned.many is not Many.ONE else "None."),
            "return a message type that holds the list as a field, and let a @graph.node fan it out."
            if returned.many is not Many.ONE
            else "name the message types to choose among; what only ends its branch asks nobody.",
        )
    if not has_no_body(declaration.function):  # type: ignore[arg-type]  # mypy binds a function held in a field
        report(
            "human-body",
            "it has a body, which would never run: a person fills the return type.",
            "leave only the docstring and '...' (or 'raise NotImplementedError'), or use @graph.node and ask with run.ask(…).",
        )
    elif not _instruction(declaration):
        where = "the class or its __call__" if declaration.message is not None else "the function"
        report("human-question", "it has no question.", f"write a docstring for {where}: it is what the person is asked.")
    for name in (*found.injected, *found.needs):
        report(
            "human-parameter",
            f"parameter {name!r} takes no message, and nothing runs while the person is asked.",
            "take messages, or recall one: Annotated[A, Recall()]; work out the rest in the node before it.",
        )
    names = Counter(kind.__name__ for kind in (returned.types if returned is not None else ()))
    for name, count in names.items():
        if count > 1:
            report(
                "human-same-name",
                f"the person would choose among {count} types of the one name {name!r}.",
                f"rename one of the classes {name}.",
            )


def _check_predict(declaration: NodeDeclaration, returned: Shape | None, report: Report) -> None:
    if returned is not None and (not returned.types or returned.many is not Many.ONE):
        report(
            "predict-return",
            "the language model fills one message, and the return type is "
            + ("a list." if returned.many is not Many.ONE else "None."),
            "return a message type that holds the list as a field, and let a @graph.node fan it out."
            if returned.many is not Many.ONE
            else "name the message types to choose among; what only ends its branch needs no language model.",
        )
    if not has_no_body(declaration.function):  # type: ignore[arg-type]  # mypy binds a function held in a field
        report(
            "predict-body",
            "it has a body, which would never run: the language model fills the return type.",
            "leave only the docstring and '...' (or 'raise NotImplementedError'), or use @graph.node and call the model through "
            "an LM parameter.",
        )
    module = declaration.predict.module if declaration.predict is not None else ""
    if not isinstance(module, str | type):
        got = "a functools.partial" if isinstance(module, functools.partial) else f"a {type(module).__name__}"
        report(
            "predict-module",
            f"module=… is {got}; expected the name of a DSPy module, or a dspy.Module class.",
            "derive a class whose constructor takes the signature: class Mine(dspy.ReAct): def __init__(self, signature): "
            "super().__init__(signature, tools=[…]); and pass module=Mine.",
        )
    if has_no_body(declaration.function) and not _instruction(declaration):  # type: ignore[arg-type]
        where = "the class or its __call__" if declaration.message is not None else "the function"
        report(
            "predict-instruction",
            "it has no instruction: the language model would be told nothing but the names of the types.",
            f"write a docstring for {where} that tells the model what to do: it is the prompt.",
        )
    names = Counter(kind.__name__ for kind in (returned.types if returned is not None else ()))
    for name, count in names.items():
        if count > 1:
            report(
                "predict-same-name",
                f"the language model would choose among {count} types of the one name {name!r}: it answers with a name.",
                f"rename one of the classes {name}.",
            )


def _check_body(declaration: NodeDeclaration, returned: Shape, report: Report) -> None:
    """Nothing under ``@graph.node`` is sent to a language model, so an empty body there returns None."""
    if declaration.embedded is not None or returned.optional or returned.many is Many.STREAM:
        return
    if not is_empty(declaration.function):  # type: ignore[arg-type]  # mypy binds a function held in a field
        return
    decorated = "class" if declaration.message is not None else "function"
    kinds = " | ".join(kind.__name__ for kind in returned.types)
    shown = f"list[{kinds}]" if returned.many is Many.LIST else kinds
    report(
        "empty-body",
        "its body is empty ('...', 'pass' and 'return None' are the same to Python), so it would return None, and it declares "
        f"{shown}.",
        f"write the body; or put @graph.predict above the {decorated}, and a language model fills {shown}."
        if returned.many is Many.ONE
        else "write the body.",
    )
