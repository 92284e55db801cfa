"""A graph as its author writes it: nodes are decorated functions, and the types of their messages are the edges."""

from __future__ import annotations

import functools
import inspect
import types
from collections.abc import Callable, Mapping
from typing import Any, TypeVar, final, overload

import attrs

from actors.annotations import Names, Shape, Unreadable, capture, is_message_type, location, read, release
from actors.backoff import Redelivery
from actors.check import find_problems, listed
from actors.edges import Connection
from actors.errors import DeclarationError, GraphInvalid, Problem, UsageError
from actors.lm import LM
from actors.mailbox import MailboxSpec
from actors.mermaid import draw
from actors.node import NodeDeclaration, declare
from actors.plan import Plan, compile_plan
from actors.restart import RestartType
from actors.signature import resolve
from actors.supervision import Supervision, check_id

F = TypeVar("F", bound=Callable[..., Any])

_ORIGINAL = "__understudy_original__"


@final
@attrs.define(eq=False)
class _Connect:
    """One call of ``connect`` as it was written; the nodes are looked up when the graph is checked."""

    source: object
    target: object
    when: Callable[[Any], bool] | None
    location: str


@final
class Graph:
    """Nodes that run as actors, joined by the types of their messages.

    A run begins with an `input` message and ends with the first message of the `output` type; either may be a union. Every node
    that takes a type gets every message of that type and of its subclasses, unless :meth:`connect` narrows that.

    >>> import attrs
    >>> from actors import Graph
    >>> @attrs.frozen
    ... class Question:
    ...     text: str
    >>> @attrs.frozen
    ... class Answer:
    ...     text: str
    >>> graph = Graph("echo", input=Question, output=Answer)
    >>> @graph.node
    ... async def answer(question: Question) -> Answer:
    ...     return Answer(question.text)
    >>> graph.check()
    []
    """

    def __init__(self, name: str, *, input: Any, output: Any, supervision: Supervision | None = None) -> None:  # noqa: A002
        """Begin a graph without nodes.

        Args:
            name: names the graph in addresses, paths and reports.
            input: the message type that a run begins with, or a union of several.
            output: the message type that ends a run, or a union of several.
            supervision: how failures of nodes are treated; None: the runtime's default.

        Raises:
            DeclarationError: the name, a type or the supervision is of the wrong kind.
        """
        if not isinstance(name, str):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise DeclarationError(f"Graph({name!r}): expected a name first.\n  Mend: Graph('my-graph', input=A, output=B).")
        check_id(name)
        if supervision is not None and not isinstance(supervision, Supervision):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise DeclarationError(
                f"Graph({name!r}, supervision={supervision!r}): expected a Supervision.\n"
                "  Mend: supervision=Supervision(max_restarts=10), say."
            )
        self.name = name
        self.input_types = _message_types(name, "input", input)
        self.output_types = _message_types(name, "output", output)
        self.supervision = supervision
        self._nodes: dict[str, NodeDeclaration] = {}
        self._connections: list[_Connect] = []
        self._plan: Plan | None = None

    def __repr__(self) -> str:
        return f"<Graph {self.name!r}: {len(self._nodes)} node{'' if len(self._nodes) == 1 else 's'}>"

    @property
    def nodes(self) -> Mapping[str, NodeDeclaration]:
        """What was declared, by node name, in the order of declaration."""
        return types.MappingProxyType(self._nodes)

    @overload
    def node(self, function: F, /) -> F: ...
    @overload
    def node(
        self,
        /,
        *,
        name: str | None = None,
        concurrency: int = ...,
        mailbox: MailboxSpec = ...,
        restart: RestartType = ...,
        redelivery: Redelivery = ...,
        timeout_s: float | None = None,
        lm: str | LM | None = None,
    ) -> Callable[[F], F]: ...
    def node(self, function: Any = None, /, *, name: str | None = None, **given: Any) -> Any:
        """Make a function a node: ``@graph.node`` or ``@graph.node(timeout_s=5)``. The function itself stays as it is.

        Parameters annotated with message types are its inputs; ``LM`` and ``Run`` are injected. What it returns is sent on. The
        options are the fields of :class:`actors.node.NodeOptions`; `name` defaults to the function's.

        Raises:
            DeclarationError: no function, a name that is taken, an unknown option, or one with a wrong value.
        """
        if function is not None:
            return self._declare(function, name, given, predict=False, frame=_caller())

        def decorate(function: Any) -> Any:
            return self._declare(function, name, given, predict=False, frame=_caller())

        return decorate

    @overload
    def predict(self, function: F, /) -> F: ...
    @overload
    def predict(
        self,
        /,
        *,
        name: str | None = None,
        module: Any = ...,
        parse_attempts: int = ...,
        concurrency: int = ...,
        mailbox: MailboxSpec = ...,
        restart: RestartType = ...,
        redelivery: Redelivery = ...,
        timeout_s: float | None = None,
        lm: str | LM | None = None,
    ) -> Callable[[F], F]: ...
    def predict(self, function: Any = None, /, *, name: str | None = None, **given: Any) -> Any:
        """Make a function without a body a node that a language model fills.

        The parameters are what the model is shown, the docstring is its instruction, the return type is what it fills. The
        options are those of :meth:`node` and the fields of :class:`actors.node.PredictOptions`.

        Raises:
            DeclarationError: as for :meth:`node`. Calling the function itself raises UsageError.
        """
        if function is not None:
            return self._declare(function, name, given, predict=True, frame=_caller())

        def decorate(function: Any) -> Any:
            return self._declare(function, name, given, predict=True, frame=_caller())

        return decorate

    def connect(self, source: Any, target: Any, /, *, when: Callable[[Any], bool] | None = None) -> None:
        """Narrow where `source` sends the types that `target` takes: only to what it is connected to.

        With `when`, a message goes to `target` if ``when(message)`` is true. A message that no connection takes is the run's
        output if it is of that type, and otherwise ends its branch. Nodes are given as functions or by name; the graph's check
        says whether they fit.

        Raises:
            DeclarationError: `when` cannot be called.
        """
        frame = _caller()
        place = f"{frame.f_code.co_filename}:{frame.f_lineno}" if frame else "unknown place"
        if when is not None and not callable(when):
            raise DeclarationError(
                f"connect(…, when={when!r}) ({place}): expected a function of the message.\n  Mend: when=lambda message: …"
            )
        self._connections.append(_Connect(source, target, when, place))
        self._plan = None

    def check(self) -> list[Problem]:
        """Everything that is wrong with the graph, not only the first thing; empty when it can run.

        The runtime checks a graph before it runs it, and raises ``GraphInvalid`` with the same problems.
        """
        return list(self._compile()[1])

    def plan(self) -> Plan:
        """The compiled graph; made once, until the graph changes.

        Raises:
            GraphInvalid: it has problems; ``problems`` and the message hold all that :meth:`check` returns.
        """
        if self._plan is None:
            plan, problems = self._compile()
            if problems:
                raise GraphInvalid(_report(self.name, problems), problems=problems)
            for declaration in self._nodes.values():
                release(declaration.names)
            self._plan = plan
        return self._plan

    def mermaid(self) -> str:
        """The graph as Mermaid text, beginning ``graph TD``; also of a graph that has problems."""
        return draw(self._plan or self._compile()[0])

    def _compile(self) -> tuple[Plan, tuple[Problem, ...]]:
        resolved = {name: resolve(declaration) for name, declaration in self._nodes.items()}
        connections, unknown = self._resolve_connections()
        specs = {name: entry.spec for name, entry in resolved.items()}
        plan = compile_plan(self.name, specs, self.input_types, self.output_types, connections)
        if not specs:
            empty = Problem("no-nodes", None, "it has no nodes.", "decorate a function with @graph.node or @graph.predict.")
            return plan, (empty,)
        return plan, (*find_problems(plan, resolved), *unknown)

    def _declare(
        self, function: Any, name: str | None, given: Mapping[str, Any], *, predict: bool, frame: types.FrameType | None
    ) -> Any:
        function = getattr(function, _ORIGINAL, function)
        declaration = declare(function, lambda found: capture(found, frame), name=name, given=given, predict=predict)
        for other in self._nodes.values():
            if other.function is declaration.function:
                raise DeclarationError(
                    f"node {declaration.name!r} ({declaration.location}): the same function is already the node {other.name!r} "
                    f"of graph {self.name!r}.\n  Mend: remove one decorator, or define a second function that calls the first."
                )
        if declaration.name in self._nodes:
            raise DeclarationError(
                f"node {declaration.name!r} ({declaration.location}): graph {self.name!r} already has a node of that name "
                f"({self._nodes[declaration.name].location}).\n  Mend: rename the function, or pass name=…."
            )
        self._nodes[declaration.name] = declaration
        self._plan = None
        return _unfilled(function, declaration) if predict else function

    def _resolve_connections(self) -> tuple[list[Connection], list[Problem]]:
        found: list[Connection] = []
        problems: list[Problem] = []
        for connect in self._connections:
            ends: list[str] = []
            for end in (connect.source, connect.target):
                name = self._name_of(end)
                if name is not None:
                    ends.append(name)
                    continue
                shown = getattr(end, "__name__", None) or repr(end)
                known = listed(self._nodes)
                problems.append(
                    Problem(
                        "connect-unknown-node",
                        None,
                        f"connect() at {connect.location}: {shown} is not a node of the graph: {known}.",
                        "decorate it with @graph.node, or pass one of these.",
                        connect.location,
                    )
                )
            if len(ends) == 2:
                found.append(Connection(ends[0], ends[1], connect.when))
        return found, problems

    def _name_of(self, node: object) -> str | None:
        if isinstance(node, str):
            return node if node in self._nodes else None
        function = getattr(node, _ORIGINAL, node)
        return next((name for name, declaration in self._nodes.items() if declaration.function is function), None)


def _caller() -> types.FrameType | None:
    """The frame of whoever called the function that calls this."""
    here = inspect.currentframe()
    asking = here.f_back if here is not None else None
    return asking.f_back if asking is not None else None


def _message_types(graph: str, role: str, annotation: object) -> tuple[type, ...]:
    try:
        shape = read(annotation, Names({}))
    except Unreadable as error:
        raise DeclarationError(f"Graph({graph!r}, {role}=…): {error.text}\n  Mend: {error.mend}") from None
    wrong = [kind for kind in shape.types if not is_message_type(kind)]
    if shape != Shape(shape.types) or not shape.types or wrong:
        got = annotation.__name__ if isinstance(annotation, type) else annotation
        raise DeclarationError(
            f"Graph({graph!r}, {role}={got}): expected a message type (attrs class, dataclass or pydantic model) or a union of "
            f"them.\n  Mend: put @attrs.frozen on a class with the {role}'s fields and pass that class."
        )
    return shape.types


def _unfilled(function: types.FunctionType, declaration: NodeDeclaration) -> Callable[..., Any]:
    @functools.wraps(function)
    def unfilled(*_args: Any, **_kwargs: Any) -> Any:
        raise UsageError(
            f"{declaration.name!r} is filled by a language model; it has no body to call ({location(function)}).\n"
            "  Mend: run the graph, in a test with a scripted LM; or call lm.predict(…) yourself."
        )

    setattr(unfilled, _ORIGINAL, function)
    return unfilled


def _report(name: str, problems: tuple[Problem, ...]) -> str:
    count = "1 problem" if len(problems) == 1 else f"{len(problems)} problems"
    lines = [f"  {index}. {problem}" for index, problem in enumerate(problems, start=1)]
    return "\n".join([f"graph {name!r} has {count}:", *lines])
