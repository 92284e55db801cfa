"""A node of a graph: what its author declared, and what its annotations turned out to mean.

A :class:`NodeDeclaration` is made by the decorator: the function, its options, where it stands. ``actors.graphs.signature`` reads
its annotations, when the graph is checked, and gives the :class:`NodeSpec` that the plan and the engine work with.
"""

from __future__ import annotations

import enum
import inspect
import types
from collections.abc import Callable, Mapping
from typing import Any, Protocol, final

import attrs

from actors.errors import Problem
from actors.graphs.annotations import Many, NameLookup, location
from actors.graphs.dependencies import Dependency, Injected, Recalled
from actors.graphs.markers import Gather
from actors.graphs.options import (
    HumanOptions,
    NodeOptions,
    PredictOptions,
)
from actors.graphs.toolboxes import Toolbox
from actors.graphs.tools import Tool, ToolSpec


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
    names: NameLookup
    message: type | None = None
    """The class that is message and handler in one; `function` is then its ``__call__``."""
    embedded: Embedded | None = None
    """A graph or an actor that stands as a node; `function` is then a stand-in, or the actor's ``receive``."""
    fallback_names: NameLookup | None = None
    human: HumanOptions | None = None
    """Set for a node that a person fills."""
    uncertain_names: NameLookup | None = None

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
    given: Mapping[str, Toolbox] = attrs.field(factory=dict[str, Toolbox])
    """Parameter name → the toolbox whose tools it gets, for the node's own code."""
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
