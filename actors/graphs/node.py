"""A node of a graph: what its author declared, and what its annotations turned out to mean.

A :class:`NodeDeclaration` is made by the decorator: the function, its options, where it stands. ``actors.graphs.signature`` reads
its annotations, when the graph is checked, and gives the :class:`NodeSpec` that the plan and the engine work with.
"""

from __future__ import annotations

import dis
import enum
import functools
import inspect
import types
from collections.abc import Callable, Mapping
from typing import Any, Protocol, cast, final

import attrs

from actors.checks import refuse
from actors.errors import DeclarationError, Problem
from actors.graphs.annotations import Many, Names, how_to_make_message, is_message_type, location
from actors.graphs.dependencies import Dependency, Injected, Recalled
from actors.graphs.effects import Effect
from actors.graphs.markers import Gather
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
from actors.graphs.tools import Tool, ToolSpec, as_tool
from actors.supervision import check_id
from actors.words import repr_of


@final
class Kind(enum.Enum):
    """How a node does its work."""

    FUNCTION = "function"
    """An ``async def``, or an async generator."""
    THREAD = "thread"
    """A plain ``def``: runs in a worker thread."""
    PREDICT = "predict"
    """A language model chooses among the return types and fills the chosen one."""
    HUMAN = "human"
    """A person chooses among the return types and fills the chosen one."""
    GRAPH = "graph"
    """A nested graph, run for each message."""
    ACTOR = "actor"
    """An actor, which is asked."""


class Nested(Protocol):
    """A graph, as far as a node needs to know one."""

    @property
    def name(self) -> str:
        """Its name."""
        ...

    @property
    def input_types(self) -> tuple[type, ...]:
        """What a run of it begins with."""
        ...

    @property
    def output_types(self) -> tuple[type, ...]:
        """What a run of it ends with."""
        ...

    @property
    def signal_types(self) -> tuple[type, ...]:
        """What may come into a run of it from outside."""
        ...

    @property
    def nodes(self) -> Mapping[str, NodeDeclaration]:
        """Its nodes, by name."""
        ...

    def check(self) -> list[Problem]:
        """What is wrong with it."""
        ...

    def hints(self) -> list[Problem]:
        """What its author may not have meant."""
        ...

    def sketch(self) -> Any:
        """Its plan, even if the graph is wrong; Any, since plans are made of nodes."""
        ...


@final
@attrs.frozen(eq=False)
class Embedded:
    """A graph or an actor that stands as a node."""

    kind: Kind
    what: Any
    """The graph, the actor's ref, or what makes the actor."""
    place: str
    """``file.py:line`` of the line that added it."""
    takes: tuple[type, ...] | None
    returns: tuple[type, ...] | None
    """None: read from the annotations of the actor's ``receive``."""


@final
@attrs.frozen(eq=False)
class NodeDeclaration:
    """A decorated function with its options; its annotations have not been read yet."""

    name: str
    function: types.FunctionType
    options: NodeOptions
    predict: PredictOptions | None
    names: Names
    message: type | None = None
    """The class that is message and handler in one; `function` is then its ``__call__``."""
    embedded: Embedded | None = None
    """A graph or an actor that stands as a node; `function` is then a stand-in, or the actor's ``receive``."""
    fallback_names: Names | None = None
    human: HumanOptions | None = None
    """Set for a node that a person fills."""
    uncertain_names: Names | None = None

    @property
    def tools(self) -> tuple[Tool, ...]:
        """What its language model may call, without the toolboxes."""
        return () if self.predict is None else tuple(each for each in self.predict.tools if isinstance(each, Tool))

    @property
    def origin(self) -> object:
        """What was decorated."""
        if self.embedded is not None:
            return self.embedded.what
        return self.function if self.message is None else self.message

    @property
    def location(self) -> str:
        """``file.py:line`` of the function, or of the line that added a graph or an actor."""
        if self.embedded is not None:
            return self.embedded.place
        return location(self.function)  # type: ignore[arg-type]  # mypy binds a function held in a field

    @property
    def kind(self) -> Kind:
        """How the node does its work."""
        if self.embedded is not None:
            return self.embedded.kind
        if self.predict is not None:
            return Kind.PREDICT
        if self.human is not None:
            return Kind.HUMAN
        waits = inspect.iscoroutinefunction(self.function) or inspect.isasyncgenfunction(self.function)
        return Kind.FUNCTION if waits else Kind.THREAD


@final
@attrs.frozen
class Input:
    """One parameter that takes messages."""

    name: str
    types: tuple[type, ...]
    """It takes instances of these and of their subclasses."""
    optional: bool = False
    """In a join: the node fires without it, with None, when nothing can make it any more."""
    gather: Gather | None = None
    """Set for a ``list[A]`` parameter."""
    excluded: tuple[type, ...] = ()
    """For a class node: the subclasses that are nodes themselves, whose messages go to them alone."""

    def takes(self, kind: type) -> bool:
        """Whether a message of class `kind` goes here."""
        return issubclass(kind, self.types) and not issubclass(kind, self.excluded)


@final
@attrs.frozen(eq=False)
class Fallback:
    """What works on a message that has had all its attempts."""

    function: Callable[..., Any]
    kind: Kind
    """``FUNCTION`` or ``THREAD``."""
    inputs: tuple[str, ...]
    """Those of the node's parameters that it takes."""
    error: str | None
    """The parameter that gets the last error."""
    injected: Mapping[str, Injected]
    needs: Mapping[str, Dependency]
    wants_failure: bool = False
    """The error comes as the ``NodeFailed`` that the run would fail with, whose cause it is."""
    is_default: bool = False
    """It is the graph's, for nodes without one: what it returns is the output of the run."""
    may_end: bool = False
    """For the graph's fallback: it may return None, and the branch ends."""


@final
@attrs.frozen(eq=False)
class NodeSpec:
    """A node as the plan and the engine know it."""

    name: str
    function: Callable[..., Any]
    kind: Kind
    inputs: tuple[Input, ...]
    injected: Mapping[str, Injected]
    """Parameter name → what it gets."""
    outputs: tuple[type, ...]
    """What it may return; for a fan-out, what its items may be."""
    may_end: bool
    """It may return None."""
    fan_out: Many
    """``ONE``, or how it fans out."""
    item_may_end: bool
    """For a fan-out: an item may be None."""
    options: NodeOptions
    predict: PredictOptions | None
    needs: Mapping[str, Dependency]
    """Parameter name → the dependency that it gets."""
    recalls: tuple[Recalled, ...]
    """Parameters that get an earlier message of the run."""
    instruction: str
    """The docstring, with its indentation removed; empty without one. A class node without one has the class's."""
    location: str
    message: type | None = None
    """For a class node: the class, whose instances its first parameter takes."""
    embedded: Any = None
    """For a graph or an actor as a node: the graph, the ref, or what makes the actor. Any: the runtime knows which by `kind`."""
    fallback: Fallback | None = None
    human: HumanOptions | None = None
    """Set for a node that a person fills."""
    on_uncertain: Fallback | None = None
    """What finds out whether a step that was cut short took effect; it gets no error."""
    tools: tuple[ToolSpec, ...] = ()
    """What its language model may call, besides what the toolboxes of its options offer."""
    is_on_demand: bool = False
    """Another node depends on it: it is run for that, and messages neither come to it nor leave it."""

    @property
    def wants_lm(self) -> bool:
        """It, or its fallback, works with a language model; what a nested graph does is that graph's own."""
        stand_ins = [each for each in (self.fallback, self.on_uncertain) if each is not None]
        injected = [*self.injected.values(), *(wanted for each in stand_ins for wanted in each.injected.values())]
        return self.kind is Kind.PREDICT or Injected.LM in injected

    @property
    def all_needs(self) -> tuple[Dependency, ...]:
        """The dependencies of the node and of its fallback, and those that these need; nearest first."""
        stand_ins = [each for each in (self.fallback, self.on_uncertain) if each is not None]
        direct = [*self.needs.values(), *(need for each in stand_ins for need in each.needs.values())]
        direct += [need for tool in self.tools for need in tool.needs.values()]
        return tuple(each for need in direct for each in need.all())

    @property
    def toolboxes(self) -> tuple[Toolbox, ...]:
        """Those whose tools its language model may call."""
        return () if self.predict is None else tuple(each for each in self.predict.tools if isinstance(each, Toolbox))

    @property
    def tool_names(self) -> tuple[str, ...]:
        """What its language model may call, as pictures show it: tools by name, and toolboxes with what they allow."""
        boxes = (f"{box.name}({', '.join(box.allow)})" for box in self.toolboxes)
        return (*(tool.name for tool in self.tools), *boxes)

    @property
    def has_tools(self) -> bool:
        """Whether its language model may call anything."""
        return self.predict is not None and bool(self.predict.tools)

    @property
    def gathering(self) -> tuple[Input, ...]:
        """The parameters that gather what a fan-out makes."""
        return tuple(entry for entry in self.inputs if entry.gather is not None)

    @property
    def is_join(self) -> bool:
        """It has several inputs, which wait for each other."""
        return len(self.inputs) > 1


def declare(
    function: object,
    names: Callable[[types.FunctionType], Names],
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
            raise refuse(NodeOptions, "name", name, "a string or None")
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


def _names_of(function: Any, names: Callable[[types.FunctionType], Names]) -> Names | None:
    return None if function is None else names(function)


def _predict_options(given: Mapping[str, Any], names: Callable[[types.FunctionType], Names], place: str) -> PredictOptions:
    options = PredictOptions(**given)
    made = tuple(each if isinstance(each, Toolbox) else as_tool(each, names, place=place) for each in options.tools)
    return attrs.evolve(options, tools=made) if made else options


def _check_repeatable(options: NodeOptions, function: object) -> None:
    if options.repeatable and not inspect.isasyncgenfunction(function):
        raise refuse(
            NodeOptions, "repeatable", options.repeatable, "False: the node isn't an async generator, and so yields no items"
        )


def _check_once(options: NodeOptions, function: object) -> None:
    if options.effect is Effect.ONCE and inspect.isasyncgenfunction(function):
        raise refuse(
            NodeOptions,
            "effect",
            options.effect,
            "Effect.REPEAT for an async generator: its items leave one by one, and it has no one moment at which it took effect",
            "return a list; or let a node behind it, which takes one item, have the effect.",
        )


async def _stand_in(message: object) -> None:
    """Stands for the function that a graph or a ref as a node does not have."""


def embed(
    embedded: Embedded, names: Callable[[types.FunctionType], Names], *, name: str, given: Mapping[str, Any]
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
            raise refuse(NodeOptions, "effect", options.effect, "Effect.REPEAT for a graph", "set it on nodes of that graph.")
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


async def _empty_async() -> None: ...


def _empty() -> None: ...


async def _left_open_async() -> None:
    raise NotImplementedError


async def _left_open_called_async() -> None:
    raise NotImplementedError()  # compiles differently


async def _left_open_said_async() -> None:
    raise NotImplementedError("why")


def _left_open() -> None:
    raise NotImplementedError


def _left_open_called() -> None:
    raise NotImplementedError()


def _left_open_said() -> None:
    raise NotImplementedError("why")


def is_empty(function: types.FunctionType) -> bool:
    """Whether the body does nothing but return None: compared as bytecode, so no source is needed."""
    model = cast("types.FunctionType", _empty_async if inspect.iscoroutinefunction(function) else _empty)
    is_as_long = len(function.__code__.co_code) == len(model.__code__.co_code)  # for large graphs: a look at each step takes time
    return is_as_long and _steps(function) == _steps(model)


def has_no_body(function: types.FunctionType) -> bool:
    """Whether the body is what one writes where there is none: nothing, ``...``, or ``raise NotImplementedError``."""
    models = (
        (_left_open_async, _left_open_called_async, _left_open_said_async)
        if inspect.iscoroutinefunction(function)
        else (_left_open, _left_open_called, _left_open_said)
    )
    return is_empty(function) or _steps(function) in map(_steps, cast("tuple[types.FunctionType, ...]", models))


def _steps(function: types.FunctionType) -> list[tuple[str, object]]:
    """The bytecode of a function; any text in it counts as the same."""
    steps = dis.get_instructions(function)
    return [(step.opname, str if isinstance(step.argval, str) and step.opname == "LOAD_CONST" else step.argval) for step in steps]


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
