"""What a node needs besides messages: functions that are called once per run, and earlier messages of the run. Pure.

A dependency is a function named in ``Annotated[T, Dep(function)]``. Its own parameters are dependencies in turn, or take the
message that the run began with. Nothing is called here: the annotations are read, and what is wrong with them is reported.
"""

from __future__ import annotations

import contextlib
import enum
import inspect
import types
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Mapping
from typing import Any, Union, cast, final, get_args, get_origin

import attrs

from actors.graphs.annotations import Many, NameLookup, Unreadable, is_message_type, location, read, shown, split
from actors.graphs.conversations import Turn
from actors.graphs.markers import Dep, Recall
from actors.graphs.toolboxes import Toolbox

ORIGINAL = "__understudy_original__"
"""The attribute by which what ``@graph.predict`` returns knows its function."""


@final
class Injected(enum.Enum):
    """What a parameter that takes no message gets."""

    LM = "LM"
    RUN = "Run"
    TURNS = "list[Turn]"
    """The earlier turns of the conversation."""


@final
class Supply(enum.Enum):
    """How a dependency comes to its value."""

    ASYNC = "async"
    """An ``async def``."""
    THREAD = "thread"
    """A plain ``def``: runs in a worker thread."""
    CONTEXT = "context"
    """An async context manager, entered at first use and left at the end of the run."""
    NODE = "node"
    """A node of the graph, run on the message that the run began with."""


@final
@attrs.frozen(eq=False)
class Dependency:
    """One function that supplies a value, with what it needs itself."""

    function: Callable[..., Any]
    """What the value is kept under: as it was named in ``Dep``."""
    call: Callable[..., Any]
    """What is called: the function, or the context manager that is made of an async generator."""
    supply: Supply
    needs: Mapping[str, Dependency]
    """Parameter → the dependency that it gets."""
    inputs: Mapping[str, tuple[type, ...]]
    """Parameter → what it takes of the message that the run began with."""
    location: str
    node: str | None = None
    """For a node of the graph: its name. What it needs and takes is then declared by that node."""

    @property
    def name(self) -> str:
        """The function's name, or the node's."""
        return self.node or self.function.__name__

    def all(self) -> Iterator[Dependency]:
        """Itself and everything that it needs, nearest first; one that is needed twice comes twice."""
        yield self
        for needed in self.needs.values():
            yield from needed.all()


@final
@attrs.frozen
class Recalled:
    """A parameter that gets an earlier message of the run."""

    name: str
    types: tuple[type, ...]
    optional: bool
    """It gets None when there is none."""


Nodes = Mapping[object, "tuple[str, NameLookup]"]
"""What was decorated as a node of the graph → its name, and where its annotations are looked up."""


def needed(annotation: object, parameter: str, names: NameLookup, nodes: Nodes) -> Dependency | Recalled | None:
    """What the annotation of a node's parameter asks for by ``Dep`` or ``Recall``; None without one.

    Raises:
        Unreadable: it asks for it wrongly, or the function named in it cannot be used.
    """
    wanted, markers = split(annotation, names)
    marker = _only_marker(wanted, markers)
    if isinstance(marker, Dep):
        return _dependency(_function_of(marker), wanted, names, (), nodes)
    if isinstance(marker, Recall):
        shape = read(wanted, names)
        wrong = [kind.__name__ for kind in shape.types if not is_message_type(kind)]
        if shape.many is not Many.ONE or not shape.types or wrong:
            raise Unreadable(
                "recall-type",
                "what is recalled is one message of the run" + (f", and {wrong[0]} isn't a message type." if wrong else "."),
                "write Annotated[Message, Recall()], or Annotated[Message | None, Recall()].",
            )
        return Recalled(parameter, shape.types, shape.optional)
    return None


def asks_for_turns(annotation: object, names: NameLookup) -> bool:
    """Whether a parameter gets the earlier turns of the conversation.

    Raises:
        Unreadable: it asks for them as something else than ``list[Turn]``.
    """
    wanted, markers = split(annotation, names)
    if not any(isinstance(marker, Recall) and marker.conversation for marker in markers):
        return False
    if get_origin(wanted) is not list or get_args(wanted) != (Turn,):
        raise Unreadable(
            "recall-type",
            f"the turns of a conversation are a list[Turn], and it is annotated with {shown(wanted)}.",
            "write Annotated[list[Turn], Recall(conversation=True)].",
        )
    return True


def _only_marker(wanted: object, markers: tuple[object, ...]) -> Dep | Recall | None:
    if isinstance(wanted, Dep | Recall):
        shown = "Recall()" if isinstance(wanted, Recall) else f"Dep({_named(wanted)})"
        raise Unreadable("unusable-annotation", f"{shown} is not a type.", f"write Annotated[T, {shown}], with the type it gets.")
    for kind in (Dep, Recall):
        if any(marker is kind for marker in markers):
            example = "Dep(function)" if kind is Dep else "Recall()"
            raise Unreadable("unusable-annotation", f"{kind.__name__} is the marker's class, not a marker.", f"write {example}.")
    found = [marker for marker in markers if isinstance(marker, Dep | Recall)]
    if len(found) > 1:
        raise Unreadable("unusable-annotation", "it has several of Dep and Recall.", "leave one of them.")
    inside = [marker for member in get_args(wanted) for marker in getattr(member, "__metadata__", ())]
    if not found and any(isinstance(marker, Dep | Recall) for marker in inside):
        raise Unreadable(
            "unusable-annotation",
            "Dep and Recall declare where the whole parameter comes from, and this one is within a union or a list.",
            "put Annotated around all of it: Annotated[T | None, Recall()].",
        )
    return found[0] if found else None


def _named(marker: Dep) -> str:
    return marker.function.name if isinstance(marker.function, Toolbox) else marker.function.__name__


def _function_of(marker: Dep) -> Callable[..., Any]:
    if isinstance(marker.function, Toolbox):
        raise Unreadable(
            "dep-toolbox",
            f"the tools of {marker.function.name!r} are given to nodes, as calls are steps; this isn't a node's parameter.",
            "take them in the node, and pass on what a call gave; an agent calls them by tools=[…].",
        )
    return marker.function


def _dependency(
    function: Callable[..., Any], wanted: object, names: NameLookup, chain: tuple[Callable[..., Any], ...], nodes: Nodes
) -> Dependency:
    origin = getattr(function, ORIGINAL, function)
    if origin in nodes:
        return _node(origin, wanted, *nodes[origin])
    _check_callable(function, wanted, chain)
    plain = cast("types.FunctionType", inspect.unwrap(function))
    own = names_of(plain, names)
    place = location(plain)
    supply = _supply_of(function, plain)
    _check_made(function.__name__, plain, supply, wanted, own, place)
    needs: dict[str, Dependency] = {}
    inputs: dict[str, tuple[type, ...]] = {}
    for parameter in inspect.signature(plain).parameters.values():
        found = _read_parameter(function, parameter, own, place, (*chain, function), nodes)
        if isinstance(found, Dependency):
            needs[parameter.name] = found
        elif found:  # else it keeps its default
            inputs[parameter.name] = found
    generates = supply is Supply.CONTEXT and inspect.isasyncgenfunction(function)
    call = contextlib.asynccontextmanager(function) if generates else function
    return Dependency(function, call, supply, types.MappingProxyType(needs), types.MappingProxyType(inputs), place)


def _check_callable(function: Callable[..., Any], wanted: object, chain: tuple[Callable[..., Any], ...]) -> None:
    """Reject what a run could not call for what it needs."""
    if isinstance(function, type):
        raise Unreadable(
            "dep-is-class",
            f"the class {function.__name__} isn't a node of the graph, and a dependency is a function or a node.",
            f"put @graph.node above it, or write a function that returns {shown(wanted)}.",
        )
    if function in chain:
        ring = [each.__name__ for each in (*chain[chain.index(function) :], function)]
        raise Unreadable(
            "dep-cycle",
            f"its dependencies form a ring: {' needs '.join(ring)}.",
            "let one of them take what it needs from elsewhere: the run's input, or a message.",
        )
    if hasattr(function, ORIGINAL):
        raise Unreadable(
            "dep-is-node",
            f"{function.__name__} is filled by a language model as a node of another graph, and cannot be called.",
            "declare it in this graph too, or write a function.",
        )


def _node(origin: Any, wanted: object, name: str, names: NameLookup) -> Dependency:
    """A node of the graph as a dependency; what it takes and needs is looked at when all nodes are known."""
    function = origin.__call__ if isinstance(origin, type) else origin
    plain = cast("types.FunctionType", inspect.unwrap(function))
    place = location(plain)
    _check_made(name, plain, Supply.NODE, wanted, names, place)
    return Dependency(origin, origin, Supply.NODE, types.MappingProxyType({}), types.MappingProxyType({}), place, name)


def _read_parameter(
    function: Callable[..., Any],
    parameter: inspect.Parameter,
    names: NameLookup,
    place: str,
    chain: tuple[Callable[..., Any], ...],
    nodes: Nodes,
) -> Dependency | tuple[type, ...]:
    where = f"dependency {function.__name__} ({place}), parameter {parameter.name!r}"
    fix = "give it Annotated[T, Dep(function)], the run's input type, or leave it out."
    if parameter.kind not in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY):
        raise Unreadable("dep-parameter", f"{where}: it cannot be filled by name.", fix)
    if parameter.annotation is parameter.empty:
        if parameter.default is not parameter.empty:
            return ()
        raise Unreadable("dep-parameter", f"{where}: it has no annotation.", fix)
    wanted, markers = split(parameter.annotation, names)
    marker = _only_marker(wanted, markers)
    if isinstance(marker, Dep):
        return _dependency(_function_of(marker), wanted, names, chain, nodes)
    if isinstance(marker, Recall):
        raise Unreadable(
            "dep-recall",
            f"{where}: it recalls, and a dependency is called once per run, not for each message.",
            "recall the message in the node, and call the function there.",
        )
    if parameter.default is not parameter.empty:
        return ()
    shape = read(parameter.annotation, names)
    if shape.many is not Many.ONE or shape.optional or not shape.types or not all(map(is_message_type, shape.types)):
        raise Unreadable("dep-parameter", f"{where}: nothing can fill it.", fix)
    return shape.types


def names_of(plain: types.FunctionType, names: NameLookup) -> NameLookup:
    """Where the annotations of a dependency are looked up: its own closure first, then what its user sees, then its module."""
    local = dict(names.local)
    for name, cell in zip(plain.__code__.co_freevars, plain.__closure__ or (), strict=True):
        with contextlib.suppress(ValueError):  # an empty cell: defined further down
            local[name] = cell.cell_contents
    shadowed = {
        name: value for name, value in local.items() if name not in plain.__globals__ or name in plain.__code__.co_freevars
    }
    return NameLookup(plain.__globals__, shadowed if plain.__globals__ is not names.globals else local, names.pending)


def _supply_of(function: Callable[..., Any], plain: types.FunctionType) -> Supply:
    if inspect.isasyncgenfunction(plain):
        return Supply.CONTEXT
    if inspect.iscoroutinefunction(function):
        return Supply.ASYNC
    returned = str(plain.__annotations__.get("return", ""))
    return Supply.CONTEXT if "AsyncContextManager" in returned else Supply.THREAD


def _check_made(name: str, plain: types.FunctionType, supply: Supply, wanted: object, names: NameLookup, place: str) -> None:
    """Whether the declared return type of the function is what the parameter wants."""
    annotation = inspect.signature(plain).return_annotation
    who = f"dependency {name} ({place})"
    if annotation is inspect.Signature.empty:
        raise Unreadable("dep-return", f"{who} doesn't declare what it returns.", f"annotate its return type: {shown(wanted)}.")
    made, _ = split(annotation, names)
    if supply is Supply.CONTEXT:
        arguments = get_args(made)
        if not arguments or not _is_context(made):
            raise Unreadable(
                "dep-return",
                f"{who} is a context manager and returns {shown(made)}.",
                f"annotate it with AsyncIterator[{shown(wanted)}], and yield once.",
            )
        made, _ = split(arguments[0], names)
    if not fits(made, wanted):
        raise Unreadable(
            "dep-type",
            f"{who} returns {shown(made)}, and {shown(wanted)} is wanted.",
            "change one of the two annotations.",
        )


def _is_context(made: object) -> bool:
    origin = get_origin(made)
    return origin in (AsyncIterator, AsyncGenerator) or origin is contextlib.AbstractAsyncContextManager


def fits(made: object, wanted: object) -> bool:
    """Whether a value annotated as `made` can stand where `wanted` is annotated; in doubt it can."""
    if made is None or wanted is None:
        return made in (None, type(None)) and wanted in (None, type(None))
    if wanted is Any or wanted is object or made is Any or made == wanted:
        return True
    for whole, every in ((made, all), (wanted, any)):
        if get_origin(whole) in (Union, types.UnionType):
            members = get_args(whole)
            return every(fits(member, wanted) if whole is made else fits(made, member) for member in members)
    one, two = get_origin(made) or made, get_origin(wanted) or wanted
    if not isinstance(one, type) or not isinstance(two, type) or getattr(two, "_is_protocol", False):
        return True
    return issubclass(one, two)
