"""From what a decorator is put on, or what is added, to the declaration of a node."""

from __future__ import annotations

import enum
import functools
import inspect
import types
from collections.abc import Callable, Mapping
from typing import Any

import attrs

from actors.argument_checks import rejected
from actors.errors import DeclarationError
from actors.graphs.annotations import NameLookup, how_to_make_message, is_message_type, location
from actors.graphs.effects import Effect
from actors.graphs.node import Embedded, Kind, NodeDeclaration
from actors.graphs.options import (
    PREDICT_OPTIONS,
    HumanOptions,
    NodeOptions,
    PredictOptions,
    check_human_options,
    check_options,
    node_options,
)
from actors.graphs.toolboxes import Toolbox
from actors.graphs.tools import as_tool
from actors.supervision import check_id
from actors.words import repr_of


def declare(
    function: object,
    names: Callable[[types.FunctionType], NameLookup],
    *,
    name: str | None,
    given: Mapping[str, Any],
    predict: bool,
    human: bool = False,
) -> NodeDeclaration:
    """Make the declaration of one decorated function, or of one class with ``__call__``.

    Raises:
        DeclarationError: it is neither a plain function nor such a class, or an option is unknown or has a wrong value.
    """
    decorator = "@graph.human" if human else "@graph.predict" if predict else "@graph.node"
    message, shown = None, function
    if isinstance(function, type):
        message, function = function, _handler(function, decorator)
        given = given if human else {"concurrency": 1, **given}
    if not isinstance(function, types.FunctionType) or function.__name__ == "<lambda>":
        raise _no_function(shown, decorator)
    own_name = function.__name__ if message is None else message.__name__
    where = f"node {name or own_name!r} ({location(function)})"
    if human:
        check_human_options(given, where=where)
    else:
        check_options(given, predict=predict, where=where)
    extra = {key: value for key, value in given.items() if key in PREDICT_OPTIONS}
    addressed = {key: value for key, value in given.items() if key == "to"}
    common = {key: value for key, value in given.items() if key not in extra and key not in addressed}
    try:
        if name is not None and not isinstance(name, str):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise rejected(NodeOptions, "name", name, "a string or None")
        check_id(name if name is not None else own_name)
        options = node_options(common, predict=predict, has_tools=bool(extra.get("tools")))
        _check_repeatable(options, function)
        _check_once(options, function)
        predict_options = _predict_options(extra, names, location(function)) if predict else None
        human_options = HumanOptions(**addressed) if human else None
    except DeclarationError as error:
        raise DeclarationError(f"{where}: {error}") from None
    fallback, uncertain = _names_of(options.fallback, names), _names_of(options.on_uncertain, names)
    return NodeDeclaration(
        name or own_name,
        function,
        options,
        predict_options,
        names(function),
        message,
        fallback_names=fallback,
        human=human_options,
        uncertain_names=uncertain,
    )


def _names_of(function: Any, names: Callable[[types.FunctionType], NameLookup]) -> NameLookup | None:
    return None if function is None else names(function)


def _predict_options(given: Mapping[str, Any], names: Callable[[types.FunctionType], NameLookup], place: str) -> PredictOptions:
    options = PredictOptions(**given)
    made = tuple(each if isinstance(each, Toolbox) else as_tool(each, names, place=place) for each in options.tools)
    return attrs.evolve(options, tools=made) if made else options


def _check_repeatable(options: NodeOptions, function: object) -> None:
    if options.repeatable and not inspect.isasyncgenfunction(function):
        raise rejected(
            NodeOptions, "repeatable", options.repeatable, "False: the node isn't an async generator, and so yields no items"
        )


def _check_once(options: NodeOptions, function: object) -> None:
    if options.effect is Effect.ONCE and inspect.isasyncgenfunction(function):
        raise rejected(
            NodeOptions,
            "effect",
            options.effect,
            "Effect.REPEAT for an async generator: its items leave one by one, and it has no one moment at which it took effect",
            "return a list; or let a node behind it, which takes one item, have the effect.",
        )


async def _stand_in(message: object) -> None:
    """Stands for the function that a graph or a ref as a node does not have."""


def embed(
    embedded: Embedded, names: Callable[[types.FunctionType], NameLookup], *, name: str, given: Mapping[str, Any]
) -> NodeDeclaration:
    """Make the declaration of a graph or an actor that stands as a node.

    Raises:
        DeclarationError: an option is unknown or has a wrong value.
    """
    where = f"node {name!r} ({embedded.place})"
    check_options(given, predict=False, where=where)
    try:
        check_id(name)
        options = node_options(given, predict=False)
        _check_repeatable(options, embedded.what)
        if embedded.kind is Kind.GRAPH and options.effect is Effect.ONCE:
            raise rejected(NodeOptions, "effect", options.effect, "Effect.REPEAT for a graph", "set it on nodes of that graph.")
    except DeclarationError as error:
        raise DeclarationError(f"{where}: {error}") from None
    function: Any = getattr(embedded.what, "receive", _stand_in) if embedded.takes is None else _stand_in
    fallback, uncertain = _names_of(options.fallback, names), _names_of(options.on_uncertain, names)
    return NodeDeclaration(
        name, function, options, None, names(function), embedded=embedded, fallback_names=fallback, uncertain_names=uncertain
    )


def _handler(kind: type, decorator: str) -> types.FunctionType:
    """The ``__call__`` of a class node."""
    found = next((base.__dict__["__call__"] for base in kind.__mro__ if "__call__" in base.__dict__), None)
    if not is_message_type(kind):
        fix = f"put {decorator} above @attrs.frozen, so it decorates the finished class."
        plain: Any = kind
        if issubclass(plain, enum.Enum) or getattr(plain, "_is_protocol", False):
            fix = how_to_make_message(plain)
        raise DeclarationError(
            f"{decorator}: the class {kind.__name__!r} isn't a message type (attrs class, dataclass or pydantic model).\n"
            f"  Fix: {fix}"
        )
    if not isinstance(found, types.FunctionType):
        raise DeclarationError(
            f"{decorator}: the class {kind.__name__!r} has no method __call__, so there is nothing to run.\n"
            "  Fix: add 'async def __call__(self) -> A | None: …', with a body under @graph.node, and with '...' under "
            "@graph.predict."
        )
    return found


def _no_function(got: object, decorator: str) -> DeclarationError:
    if isinstance(got, types.FunctionType):
        shown, fix = "a lambda", "give it a name and annotations: async def name(message: A) -> B: …"
    elif isinstance(got, types.BuiltinFunctionType):
        shown, fix = f"the built-in {got.__name__!r}", "call it from an annotated function and decorate that."
    elif isinstance(got, types.MethodType):
        shown, fix = f"the method {got.__qualname__!r}", "decorate a function at the top level that calls the method."
    elif isinstance(got, staticmethod | classmethod):
        kind = "staticmethod" if isinstance(got, staticmethod) else "classmethod"
        shown, fix = f"a {kind}", "decorate a function outside of the class."
    elif isinstance(got, functools.partial):
        shown, fix = "a functools.partial", "write an annotated function that calls it, and decorate that."
    elif isinstance(got, str):
        shown, fix = repr_of(got), f"options go by name: {decorator}(name={repr_of(got)})."
    else:
        shown, fix = repr_of(got), "decorate an 'async def' or a 'def'."
    return DeclarationError(f"{decorator}: expected a function or a message class. Got: {shown}.\n  Fix: {fix}")
