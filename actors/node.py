"""A node of a graph: what its author declared, and what its annotations turned out to mean.

A :class:`NodeDeclaration` is made by the decorator: the function, its options, where it stands. ``actors.signature`` reads its
annotations, when the graph is checked, and gives the :class:`NodeSpec` that the plan and the engine work with.
"""

from __future__ import annotations

import difflib
import enum
import inspect
import types
from collections.abc import Callable, Iterable, Mapping
from typing import Any, final

import attrs

from actors.annotations import Many, Names, location
from actors.backoff import Backoff, Redelivery
from actors.checks import is_a, is_count, refuse
from actors.errors import DeclarationError
from actors.lm import LM
from actors.mailbox import MailboxSpec
from actors.markers import Gather
from actors.restart import RestartType
from actors.supervision import check_id


@final
class Kind(enum.Enum):
    """How a node does its work."""

    FUNCTION = "function"
    """An ``async def``, or an async generator."""
    THREAD = "thread"
    """A plain ``def``: runs in a worker thread."""
    PREDICT = "predict"
    """A language model fills the return type."""


@final
class Injected(enum.Enum):
    """What a parameter that takes no message gets."""

    LM = "LM"
    RUN = "Run"


def _is_timeout(owner: object, attribute: attrs.Attribute[Any], value: object) -> None:
    if value is not None and (not isinstance(value, int | float) or isinstance(value, bool) or not value > 0):
        raise refuse(owner, attribute.name, value, "None or a number > 0")


def _is_lm(owner: object, attribute: attrs.Attribute[Any], value: object) -> None:
    if (
        value is not None
        and not (isinstance(value, str) and value)
        and not (isinstance(value, LM) and not isinstance(value, type))
    ):
        raise refuse(owner, attribute.name, value, "the name of one of the runtime's lms, an LM, or None")


def _is_module(owner: object, attribute: attrs.Attribute[Any], value: object) -> None:
    if not (isinstance(value, str) and value.isidentifier()) and not callable(value):
        raise refuse(owner, attribute.name, value, "the name of a DSPy module, such as 'ChainOfThought', or its class")


def _redelivery() -> Redelivery:
    return Redelivery(max_attempts=3, backoff=Backoff(first_s=0.1))


@final
@attrs.frozen
class NodeOptions:
    """What an author can set on ``@graph.node(…)``."""

    concurrency: int = attrs.field(default=64, validator=is_count(least=1))
    """Up to how many messages the node works on at once."""
    mailbox: MailboxSpec = attrs.field(factory=MailboxSpec, validator=is_a(MailboxSpec))
    restart: RestartType = attrs.field(default=RestartType.PERMANENT, validator=is_a(RestartType))
    redelivery: Redelivery = attrs.field(factory=_redelivery, validator=is_a(Redelivery))
    """What becomes of a message that crashed the node."""
    timeout_s: float | None = attrs.field(default=None, validator=_is_timeout)
    """How long one attempt may take; None: no limit but the run's deadline."""
    lm: str | LM | None = attrs.field(default=None, validator=_is_lm)
    """Which language model: a name from ``open_runtime(lms=…)``, an ``LM``, or None for the runtime's default."""


@final
@attrs.frozen
class PredictOptions:
    """What an author can set on ``@graph.predict(…)`` besides the options of a node."""

    module: Any = attrs.field(default="Predict", validator=_is_module)  # Any: a DSPy class, and dspy is not imported here
    parse_attempts: int = attrs.field(default=2, validator=is_count(least=1))
    """How many answers are asked for until one can be read; the next prompt says what was wrong with the last."""


@final
@attrs.frozen(eq=False)
class NodeDeclaration:
    """A decorated function with its options; its annotations have not been read yet."""

    name: str
    function: types.FunctionType
    options: NodeOptions
    predict: PredictOptions | None
    names: Names

    @property
    def location(self) -> str:
        """``file.py:line`` of the function."""
        return location(self.function)  # type: ignore[arg-type]  # mypy binds a function held in a field

    @property
    def kind(self) -> Kind:
        """How the node does its work."""
        if self.predict is not None:
            return Kind.PREDICT
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

    def takes(self, kind: type) -> bool:
        """Whether a message of class `kind` goes here."""
        return issubclass(kind, self.types)


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
    instruction: str
    """The docstring, with its indentation removed; empty without one."""
    location: str

    @property
    def is_join(self) -> bool:
        """It has several inputs, which wait for each other."""
        return len(self.inputs) > 1


def declare(
    function: object, names: Callable[[types.FunctionType], Names], *, name: str | None, given: Mapping[str, Any], predict: bool
) -> NodeDeclaration:
    """Make the declaration of one decorated function.

    Raises:
        DeclarationError: it is no plain function, or an option is unknown or has a wrong value.
    """
    decorator = "@graph.predict" if predict else "@graph.node"
    if not isinstance(function, types.FunctionType) or function.__name__ == "<lambda>":
        raise _no_function(function, decorator)
    where = f"node {name or function.__name__!r} ({location(function)})"
    check_options(given, predict=predict, where=where)
    extra = {key: value for key, value in given.items() if key in _PREDICT_OPTIONS}
    common = {key: value for key, value in given.items() if key not in _PREDICT_OPTIONS}
    try:
        if name is not None and not isinstance(name, str):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise refuse(NodeOptions, "name", name, "a string or None")
        check_id(name if name is not None else function.__name__)
        options = NodeOptions(**common)
        predict_options = PredictOptions(**extra) if predict else None
    except DeclarationError as error:
        raise DeclarationError(f"{where}: {error}") from None
    return NodeDeclaration(name or function.__name__, function, options, predict_options, names(function))


def check_options(given: Iterable[str], *, predict: bool, where: str) -> None:
    """Refuse options that do not exist, naming the nearest one that does."""
    known = [*_OPTIONS, *(_PREDICT_OPTIONS if predict else ())]
    for option in given:
        if option in known:
            continue
        decorator = "@graph.predict" if predict else "@graph.node"
        near = difflib.get_close_matches(option, known, n=1)
        if not predict and option in _PREDICT_OPTIONS:
            mend = f"use @graph.predict({option}=…), or leave {option!r} out."
        else:
            mend = f"write {near[0]!r}." if near else f"leave {option!r} out."
        raise DeclarationError(
            f"{where}: {decorator} has no option {option!r}. Expected one of: {', '.join(known)}.\n  Mend: {mend}"
        )


_OPTIONS = ("name", *(field.name for field in attrs.fields(NodeOptions)))
_PREDICT_OPTIONS = tuple(field.name for field in attrs.fields(PredictOptions))


def _no_function(got: object, decorator: str) -> DeclarationError:
    if isinstance(got, types.FunctionType):
        shown, mend = "a lambda", "give it a name and annotations: async def name(message: A) -> B: …"
    elif isinstance(got, type):
        shown, mend = f"the class {got.__name__!r}", "decorate a function that takes and returns messages."
    elif isinstance(got, types.BuiltinFunctionType):
        shown, mend = f"the built-in {got.__name__!r}", "call it from an annotated function and decorate that."
    elif isinstance(got, types.MethodType):
        shown, mend = f"the method {got.__qualname__!r}", "decorate a function at the top level that calls the method."
    elif isinstance(got, str):
        shown, mend = repr(got), f"options go by name: {decorator}(name={got!r})."
    else:
        shown, mend = repr(got), "decorate an 'async def' or a 'def'."
    return DeclarationError(f"{decorator}: expected a function. Got: {shown}.\n  Mend: {mend}")
