"""Tools as an author declares them, and what their annotations turned out to mean.

A tool is a typed function. Its parameters are what a language model is shown and fills, except for those that are injected
(``LM``, ``Run``, ``Dep``), which no model ever sees. Together they make a message class, so the schema that is shown and the
strict reading of what came are those of messages.
"""

from __future__ import annotations

import enum
import functools
import inspect
import re
import types
from collections.abc import Callable, Iterable, Mapping
from typing import Annotated, Any, final
from weakref import WeakKeyDictionary

import attrs

from actors.actor import ActorRef
from actors.errors import DeclarationError
from actors.graphs.annotations import NameLookup, Unreadable, capture, description_of, is_message_type, location, split
from actors.graphs.dependencies import Dependency, Injected, Nodes, needed
from actors.graphs.docstrings import read_docstring
from actors.graphs.effects import Effect
from actors.graphs.markers import Run
from actors.lm import LM
from actors.words import repr_of

_INJECTED: Mapping[Any, Injected] = {LM: Injected.LM, Run: Injected.RUN}
_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
"""What providers take as the name of a tool."""


@final
class ToolForm(enum.Enum):
    """How a tool does its work."""

    FUNCTION = "function"
    """An ``async def``, or a plain ``def``, which runs in a worker thread."""
    GRAPH = "graph"
    """A graph, run on the message that the arguments make."""
    ACTOR = "actor"
    """An actor, asked with the message that the arguments make."""
    DSPY = "dspy"
    """A ``dspy.Tool``."""
    SERVED = "served"
    """One of a toolbox, as ``Tools`` gives it: an async callable with the ``schema`` of its arguments."""
    UNKNOWN = "unknown"
    """Something else; the check of the graph says so."""


@final
@attrs.frozen(eq=False, slots=False)
class Tool:
    """What a language model may call. Made by ``tool``; called by its author, it does what it did before."""

    what: Any = attrs.field(repr=False)
    """The function, the graph, the actor's ref or the ``dspy.Tool``."""
    form: ToolForm
    name: str
    description: str | None = attrs.field(default=None, repr=False)
    """None: the docstring says it."""
    takes: type | None = None
    """For a graph and an actor: the class of the message that the arguments make."""
    timeout_s: float | None = None
    """How many seconds one call may take; None: no limit but the node's and the run's."""
    effect: Effect = Effect.REPEAT
    """Whether a call may be made again after a crash."""
    approve: bool | Callable[..., bool] = False
    """Whether a person has to agree to a call, or a predicate of the arguments that says so."""
    approve_s: float | None = None
    """How many seconds people have to decide; None: no limit."""
    approve_to: str | None = None
    """Who is asked, as ``to`` of ``@graph.human``; None: anybody."""
    place: str = attrs.field(default="unknown place", repr=False)
    """``file.py:line`` of the function, or of the line that made the tool."""
    names: NameLookup | None = attrs.field(default=None, repr=False)
    """Where the annotations of a function are looked up."""

    def __attrs_post_init__(self) -> None:
        if self.form is ToolForm.FUNCTION:
            for attribute in ("__wrapped__", "__name__", "__qualname__", "__doc__", "__module__"):
                self.__dict__[attribute] = self.what if attribute == "__wrapped__" else getattr(self.what, attribute, None)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call the function."""
        if self.form not in (ToolForm.FUNCTION, ToolForm.SERVED):
            raise DeclarationError(f"the tool {self.name!r} isn't a function to call.\n  Fix: use {repr_of(self.what)} itself.")
        return self.what(*args, **kwargs)


@final
@attrs.frozen(eq=False)
class ToolSpec:
    """A tool as the runtime knows it."""

    tool: Tool
    name: str
    description: str
    arguments: type | None
    """The message class of its arguments; None where only a schema is known."""
    schema: Mapping[str, Any] | None = None
    """The JSON schema of its arguments, where `arguments` is None."""
    injected: Mapping[str, Injected] = attrs.field(factory=dict[str, Injected])
    needs: Mapping[str, Dependency] = attrs.field(factory=dict[str, Dependency])

    @property
    def is_thread(self) -> bool:
        """Whether it is a plain function, which runs in a worker thread."""
        return self.tool.form is ToolForm.FUNCTION and not _is_async(self.tool.what)


def as_tool(
    what: Any,
    names: Callable[[types.FunctionType], NameLookup],
    *,
    takes: Any = None,
    name: str | None = None,
    description: str | None = None,
    place: str = "unknown place",
    **options: Any,
) -> Tool:
    """`what` as a tool; whether it can be one, :func:`read_tool` finds out."""
    if isinstance(what, Tool):
        return what
    form = _form_of(what)
    plain = inspect.unwrap(what.__func__ if isinstance(what, types.MethodType) else what) if form is ToolForm.FUNCTION else None
    if form is ToolForm.GRAPH and takes is None:
        takes = _only_input(what)
    return Tool(
        what=what,
        form=form,
        name=name or _name_of(what, form, takes),
        description=description,
        takes=takes,
        place=location(plain) if isinstance(plain, types.FunctionType) else place,
        names=names(plain) if isinstance(plain, types.FunctionType) else None,
        **options,
    )


def _only_input(graph: Any) -> type | None:
    kinds: tuple[type, ...] = graph.input_types
    return kinds[0] if len(kinds) == 1 else None


def captured_here(frame: types.FrameType | None) -> Callable[[types.FunctionType], NameLookup]:
    """Looks names up around `frame`."""
    return functools.partial(capture, frame=frame)


def _form_of(what: Any) -> ToolForm:
    if isinstance(what, types.FunctionType | types.MethodType):
        return ToolForm.FUNCTION
    if isinstance(what, ActorRef):
        return ToolForm.ACTOR
    if hasattr(what, "input_types") and hasattr(what, "output_types") and hasattr(what, "nodes"):
        return ToolForm.GRAPH
    if type(what).__module__.partition(".")[0] == "dspy" and hasattr(what, "func") and hasattr(what, "args"):
        return ToolForm.DSPY
    return ToolForm.UNKNOWN


def _name_of(what: Any, form: ToolForm, takes: Any) -> str:
    if form is ToolForm.ACTOR:
        return _snake(getattr(takes, "__name__", "ask"))
    name = getattr(what, "name", None) if form in (ToolForm.GRAPH, ToolForm.DSPY) else getattr(what, "__name__", None)
    return name if isinstance(name, str) else type(what).__name__


def _snake(name: str) -> str:
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower()


def _is_async(what: Any) -> bool:
    return inspect.iscoroutinefunction(inspect.unwrap(getattr(what, "__func__", what)))


# --- reading what was declared --------------------------------------------------------------------------------------


def read_tool(tool: Tool, nodes: Nodes) -> ToolSpec:
    """What `tool` takes; `nodes` are those that it may depend on.

    Raises:
        Unreadable: no model could call it; it tells what to write.
    """
    if not _NAME.fullmatch(tool.name):
        raise Unreadable(
            "tool-name",
            _no_name(tool),
            "write it as a function with a name: async def look(at: str) -> str: …"
            if tool.name == "<lambda>"
            else f"tool({tool.name!r:.40}…, name='…') with 1 to 64 letters, digits, '_' and '-'.",
        )
    if tool.form is ToolForm.FUNCTION:
        return _read_function(tool, nodes)
    if tool.form is ToolForm.DSPY:
        parameters = {"type": "object", "properties": dict(tool.what.args or {}), "required": _required(tool.what)}
        described = tool.description if tool.description is not None else str(getattr(tool.what, "desc", None) or "")
        return ToolSpec(tool, tool.name, described, None, parameters)
    if tool.form is ToolForm.SERVED:
        return ToolSpec(tool, tool.name, tool.description or "", None, tool.what.schema)
    if tool.form is ToolForm.UNKNOWN:
        raise Unreadable(
            "tool-kind",
            f"{repr_of(tool.what)} isn't a tool.",
            "pass a function with annotated parameters, tool(graph), tool(ref, Message), a dspy.Tool, or mcp('name', …).",
        )
    return _read_message(tool)


def _no_name(tool: Tool) -> str:
    if tool.name == "<lambda>":
        return "a lambda has neither a name nor annotations for a language model to read."
    return f"the tool's name {tool.name!r} isn't one that providers take."


def _required(what: Any) -> list[str]:
    declared: dict[str, Any] = what.args or {}
    return [name for name, schema in declared.items() if "default" not in schema]


def _read_message(tool: Tool) -> ToolSpec:
    """A graph, or an actor, whose message the arguments make."""
    kind: Any = tool.takes
    if kind is None:
        what = "graph takes several types" if tool.form is ToolForm.GRAPH else "actor takes any message"
        raise Unreadable("tool-message", f"the {what}, and nothing tells which of them.", f"write tool({tool.name}, Message).")
    if not isinstance(kind, type) or not is_message_type(kind):
        raise Unreadable(
            "tool-message",
            f"{repr_of(kind)} isn't a message type (attrs class, dataclass or pydantic model).",
            "pass the class of the message as the second argument.",
        )
    described = tool.description if tool.description is not None else description_of(kind)
    return ToolSpec(tool, tool.name, described, kind)


def _read_function(tool: Tool, nodes: Nodes) -> ToolSpec:
    described, texts = read_docstring(inspect.getdoc(tool.what) or "")
    signature = inspect.signature(tool.what)
    names = tool.names if tool.names is not None else NameLookup({})
    fields: dict[str, Any] = {}
    injected: dict[str, Injected] = {}
    needs: dict[str, Dependency] = {}
    for parameter in signature.parameters.values():
        found = _read_parameter(parameter, names, nodes)
        if isinstance(found, Injected):
            injected[parameter.name] = found
        elif isinstance(found, Dependency):
            needs[parameter.name] = found
        else:
            kind, said = found
            fields[parameter.name] = _field(parameter, kind, said or texts.get(parameter.name, ""))
    _check_predicate(tool, fields)
    arguments: Any = attrs.make_class("".join(part.title() for part in tool.name.split("_")) or "Arguments", fields, frozen=True)
    arguments.__module__, arguments.__qualname__ = tool.what.__module__, f"{tool.what.__qualname__}.{arguments.__name__}"
    _FUNCTIONS[arguments] = inspect.unwrap(tool.what)
    return ToolSpec(
        tool,
        tool.name,
        tool.description if tool.description is not None else described,
        arguments,
        injected=types.MappingProxyType(injected),
        needs=types.MappingProxyType(needs),
    )


def _check_predicate(tool: Tool, fields: Mapping[str, Any]) -> None:
    if isinstance(tool.approve, bool):
        return
    unknown = [name for name in inspect.signature(tool.approve).parameters if name not in fields]
    if unknown:
        raise Unreadable(
            "tool-approve",
            f"its approve= takes {unknown[0]!r}, and the arguments that a model gives are {', '.join(fields) or 'none'}.",
            f"write approve=lambda {next(iter(fields), '…')}: …, with names of its parameters.",
        )


_FUNCTIONS: WeakKeyDictionary[type, Any] = WeakKeyDictionary()


def function_of(arguments: type) -> Any:
    """The function whose parameters the class `arguments` was made of; None for any other class."""
    return _FUNCTIONS.get(arguments)


def _field(parameter: inspect.Parameter, kind: Any, said: str) -> Any:
    default = attrs.NOTHING if parameter.default is parameter.empty else parameter.default
    metadata = {"description": said} if said else {}
    return attrs.field(type=kind, default=default, metadata=metadata, kw_only=True, alias=parameter.name)


def _read_parameter(parameter: inspect.Parameter, names: NameLookup, nodes: Nodes) -> Injected | Dependency | tuple[Any, str]:
    """What a parameter gets: something injected, or what the model gives, with what ``Annotated`` says of that."""
    if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD, parameter.POSITIONAL_ONLY):
        stars = "*" if parameter.kind is parameter.VAR_POSITIONAL else "**" if parameter.kind is parameter.VAR_KEYWORD else ""
        raise Unreadable(
            "tool-parameter",
            f"parameter '{stars}{parameter.name}' cannot be filled by name, as a language model fills them.",
            "name every parameter, each with its type: def look(first: str, second: int) -> str: …",
        )
    if parameter.annotation is parameter.empty:
        raise Unreadable(
            "missing-annotation",
            f"parameter {parameter.name!r} has no annotation, so there is nothing to tell a language model.",
            f"write {parameter.name}: str, or the type that it takes.",
        )
    need = needed(parameter.annotation, parameter.name, names, nodes)
    if isinstance(need, Dependency):
        return need
    if need is not None:
        raise Unreadable(
            "tool-parameter", f"parameter {parameter.name!r} recalls a message, which a tool cannot.", "let the model give it."
        )
    kind, markers = split(parameter.annotation, names)
    if kind in _INJECTED:
        return _INJECTED[kind]
    said = " ".join(marker for marker in markers if isinstance(marker, str))
    kept = tuple(marker for marker in markers if not isinstance(marker, str))
    return (Annotated[(kind, *kept)] if kept else kind), said


def graphs_in(tools: Iterable[Tool]) -> list[Any]:
    """The graphs that are tools."""
    return [each.what for each in tools if each.form is ToolForm.GRAPH]
