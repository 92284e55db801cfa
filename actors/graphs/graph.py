"""A graph as its author writes it: nodes are decorated functions, and the types of their messages are the edges."""

from __future__ import annotations

import enum
import functools
import types
from collections.abc import Callable, Mapping
from typing import Any, Generic, TypeVar, Unpack, cast, final, overload

from actors.actor import Actor, ActorRef
from actors.errors import DeclarationError, GraphInvalid, Problem
from actors.graphs.added_nodes import embedded_in, message_types, nested_hints, nested_problems
from actors.graphs.analysis import compiled
from actors.graphs.annotations import capture, release
from actors.graphs.check import FURTHER_CHECKS
from actors.graphs.connections import Connect, check_when, plain
from actors.graphs.declaring import declare, embed
from actors.graphs.decorating import caller, decorator, unfilled
from actors.graphs.dependencies import ORIGINAL
from actors.graphs.describe import describe
from actors.graphs.finish import Finish
from actors.graphs.hints import find_hints
from actors.graphs.mermaid import draw
from actors.graphs.node import NodeDeclaration
from actors.graphs.options import NodeKeywords
from actors.graphs.plan import Plan
from actors.supervision import Supervision, check_id
from actors.typevars import In, Out
from actors.words import repr_of

F = TypeVar("F", bound=Callable[..., Any])


@final
class Graph(Generic[In, Out]):
    """Nodes that run as actors, joined by the types of their messages.

    A run begins with an `input` message and ends with the first message of the `output` type, unless `finish` changes that;
    either type may be a union. Every node that takes a type gets every message of that type and of its subclasses, unless
    :meth:`connect` narrows that.

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

    @overload
    def __init__(
        self,
        name: str,
        *,
        input: type[In],
        output: type[Out],
        supervision: Supervision | None = None,
        fallback: Callable[..., Any] | None = None,
        finish: Finish = Finish.FIRST_OUTPUT,
        version: str = "",
        signals: Any = (),
    ) -> None: ...
    @overload  # for a union, which isn't a type[…]: write Graph[A, B | C](…)
    def __init__(
        self,
        name: str,
        *,
        input: type[In],
        output: Any,
        supervision: Supervision | None = None,
        fallback: Callable[..., Any] | None = None,
        finish: Finish = Finish.FIRST_OUTPUT,
        version: str = "",
        signals: Any = (),
    ) -> None: ...
    @overload
    def __init__(
        self,
        name: str,
        *,
        input: Any,
        output: type[Out],
        supervision: Supervision | None = None,
        fallback: Callable[..., Any] | None = None,
        finish: Finish = Finish.FIRST_OUTPUT,
        version: str = "",
        signals: Any = (),
    ) -> None: ...
    @overload
    def __init__(
        self,
        name: str,
        *,
        input: Any,
        output: Any,
        supervision: Supervision | None = None,
        fallback: Callable[..., Any] | None = None,
        finish: Finish = Finish.FIRST_OUTPUT,
        version: str = "",
        signals: Any = (),
    ) -> None: ...
    def __init__(
        self,
        name: str,
        *,
        input: Any,  # noqa: A002
        output: Any,
        supervision: Supervision | None = None,
        fallback: Callable[..., Any] | None = None,
        finish: Finish = Finish.FIRST_OUTPUT,
        version: str = "",
        signals: Any = (),
    ) -> None:
        """Begin a graph without nodes.

        Args:
            name: names the graph in addresses, paths and reports.
            input: the message type that a run begins with, or a union of several.
            output: the message type that ends a run, or a union of several.
            supervision: how failures of nodes are treated; None: the runtime's default.
            fallback: what stands in for a node that has given up on a message and has no fallback itself. It may take the
                error (``failure: NodeFailed`` holds the message, the node and the cause), a ``Run``, an ``LM`` and dependencies.
                What it returns is the output of the run; None ends the branch of the node. When it fails, the run fails.
            finish: when a run returns: with its first output, which cancels all else that is in progress, or when nothing is in
                progress any more.
            version: whose stored runs it takes up: those that were begun with the same name and the same version.
            signals: a message type, or several, that may come into a run from outside with ``runtime.send``. They go where an
                input of their type would; a join that lacks nothing else waits for one.

        Raises:
            DeclarationError: the name, a type, the supervision, the fallback, `finish` or the version is of the wrong kind.
        """
        if not isinstance(name, str):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise DeclarationError(f"Graph({name!r}): expected a name first.\n  Fix: Graph('my-graph', input=A, output=B).")
        check_id(name)
        if supervision is not None and not isinstance(supervision, Supervision):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise DeclarationError(
                f"Graph({name!r}, supervision={repr_of(supervision)}): expected a Supervision.\n"
                "  Fix: supervision=Supervision(max_restarts=10), for example."
            )
        if not isinstance(finish, Finish):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise DeclarationError(
                f"Graph({name!r}, finish={finish!r}): expected a member of Finish.\n"
                "  Fix: finish=Finish.WHEN_QUIET, or leave it out for Finish.FIRST_OUTPUT."
            )
        if not isinstance(version, str):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise DeclarationError(
                f"Graph({name!r}, version={repr_of(version)}): expected text.\n  Fix: version='2', for example."
            )
        self.name = name
        self.version = version
        self.finish = finish
        self.input_types = message_types(f"Graph({name!r}", "input", input)
        self.output_types = message_types(f"Graph({name!r}", "output", output)
        self.signal_types = _signal_types(name, signals)
        self.supervision = supervision
        if fallback is not None and (not isinstance(fallback, types.FunctionType) or fallback.__name__ == "<lambda>"):
            raise DeclarationError(
                f"Graph({name!r}, fallback={repr_of(fallback)}): expected a function with a name and annotations.\n"
                f"  Fix: async def fallback(failure: NodeFailed) -> {self.output_types[0].__name__}: …"
            )
        self._fallback = fallback
        self._fallback_names = None if fallback is None else capture(fallback, caller())
        self._nodes: dict[str, NodeDeclaration] = {}
        self._origins: dict[int, list[NodeDeclaration]] = {}
        """The nodes by the id of what was decorated or added."""
        self._connections: list[Connect] = []
        self._plan: Plan | None = None
        self._sound: Plan | None = None
        """What the last check found to have no problems itself; None after a change."""
        self._checks = 0

    def __repr__(self) -> str:
        return f"<Graph {self.name!r}: {len(self._nodes)} node{'' if len(self._nodes) == 1 else 's'}>"

    @property
    def nodes(self) -> Mapping[str, NodeDeclaration]:
        """What was declared, by node name, in the order of declaration."""
        return types.MappingProxyType(self._nodes)

    @overload
    def node(self, function: F, /) -> F: ...
    @overload
    def node(self, /, *, name: str | enum.Enum | None = None, **given: Unpack[NodeKeywords]) -> Callable[[F], F]: ...
    def node(self, function: Any = None, /, *, name: str | enum.Enum | None = None, **given: Any) -> Any:
        """Make a function a node: ``@graph.node`` or ``@graph.node(timeout_s=5)``. The function itself stays as it is.

        Parameters annotated with message types are its inputs; ``LM`` and ``Run`` are injected. What it returns is sent on. The
        options are the fields of :class:`actors.graphs.options.NodeOptions`; `name` defaults to the function's, and may be
        the member of an enumeration.

        A message class with ``__call__`` is a node too: its messages go to it, and a message of a subclass that is itself a node
        of the graph goes to that one alone. Its `concurrency` defaults to 1. Nothing under ``@graph.node`` is ever sent to a
        language model, even without a body: that is :meth:`predict`, for classes as for functions.

        Raises:
            DeclarationError: neither a function nor a class with ``__call__``, a name that is taken, an unknown option, or one
                with a wrong value.
        """
        declaring = functools.partial(self._declare, name=name, given=given, predict=False)
        return decorator(declaring, function, caller())

    @overload
    def predict(self, function: F, /) -> F: ...
    @overload
    def predict(self, /, *, name: str | enum.Enum | None = None, **given: Unpack[NodeKeywords]) -> Callable[[F], F]: ...
    def predict(self, function: Any = None, /, *, name: str | enum.Enum | None = None, **given: Any) -> Any:
        """Make a function without a body, or a message class whose ``__call__`` has none, a node that a language model fills.

        The parameters are what the model is shown, the docstring is its instruction (of a class: that of ``__call__``, or else of
        the class), the return type is what it fills: it chooses one of several types first, and None, where that is allowed, is
        one of the choices. The body is ``...`` or ``raise NotImplementedError``, which type checkers take without a setting. The
        options are those of :meth:`node` and the fields of :class:`actors.graphs.options.PredictOptions`.

        Raises:
            DeclarationError: as for :meth:`node`. Calling the function itself raises UsageError.
        """
        declaring = functools.partial(self._declare, name=name, given=given, predict=True)
        return decorator(declaring, function, caller())

    @overload
    def human(self, function: F, /) -> F: ...
    @overload
    def human(
        self,
        /,
        *,
        name: str | enum.Enum | None = None,
        timeout_s: float | None = None,
        fallback: Callable[..., Any] | None = None,
        to: str | None = None,
    ) -> Callable[[F], F]: ...
    def human(self, function: Any = None, /, *, name: str | enum.Enum | None = None, **given: Any) -> Any:
        """Make a function without a body, or a message class whose ``__call__`` has none, a node that a person fills.

        The parameters are what the person is shown, the docstring is the question, the return type is the form: of several
        types the person chooses one, and None, where that is allowed, is one of the choices. ``runtime.questions()`` lists what
        is asked, ``runtime.answer(id, value)`` answers it. A question waits without an instance, a task or a frame: in a
        store it outlives the process, and nothing is run again for it.

        Args:
            function: the function or class, when the decorator is used without options.
            name: the node's name, by default the function's; it may be the member of an enumeration.
            given: `timeout_s`, how many seconds the person has, by the store's clock, over all lives of the run (after that the
                node has failed with ``NodeTimedOut``, or its fallback works on the message); `fallback`, as for :meth:`node`;
                `to`, whom the question is for: a name that your own program knows.

        Raises:
            DeclarationError: as for :meth:`node`. Calling the function itself raises UsageError.
        """
        declaring = functools.partial(self._declare, name=name, given=given, predict=False, human=True)
        return decorator(declaring, function, caller())

    def add(
        self,
        what: Graph | ActorRef[Any] | Callable[..., Actor],
        /,
        *,
        name: str | enum.Enum | None = None,
        takes: Any = None,
        returns: Any = None,
        **given: Any,
    ) -> None:
        """Make another graph, or an actor, a node.

        A graph takes its input type and gives its output type: each message starts a run, whose paths begin with that of
        the node, whose failures are failures of this run, and which ends when this run does. It has its own actors, which it
        shares with all other runs of that graph.

        An actor is asked, one message at a time, and keeps its state from run to run. A class (or another factory) is started
        with the graph and restarted like its nodes; a ref is to an actor that was spawned elsewhere.

        Args:
            what: a graph; an ``ActorRef``; or a class derived from ``Actor``, or a function without parameters that makes one.
            name: the node's name; by default the graph's, the class's or the last part of the ref's address.
            takes: for an actor: the message type, or union, that it is asked with; None: read from its ``receive``.
            returns: for an actor: what it answers with; None: read from its ``receive``.
            given: the options of :meth:`node`, without `lm`.

        Raises:
            DeclarationError: it is none of these, its types are not known, or an option is unknown or has a wrong value.
        """
        frame = caller()
        place = f"{frame.f_code.co_filename}:{frame.f_lineno}" if frame else "unknown place"
        embedded, own_name = embedded_in(what, takes, returns, place, is_graph=isinstance(what, Graph))
        self._add(embed(embedded, lambda found: capture(found, frame), name=plain(name) or own_name, given=given))

    def connect(
        self, source: Any, target: Any, /, *, when: Callable[[Any], bool] | None = None, parameter: str | None = None
    ) -> None:
        """Narrow where `source` sends the types that `target` takes: only to what it is connected to.

        With `when`, a message goes to `target` if ``when(message)`` is true. A message that no connection takes is the run's
        output if it is of that type, and otherwise ends its branch. With `parameter`, it goes to that parameter of `target`
        alone, which distinguishes two parameters of one type. Nodes are given as functions or by name (a graph or an actor that
        was added more than once: by name); the graph's check reports whether they fit.

        Raises:
            DeclarationError: `when` cannot be called, or not without waiting; or `parameter` isn't a name.
        """
        frame = caller()
        place = f"{frame.f_code.co_filename}:{frame.f_lineno}" if frame else "unknown place"
        check_when(when, place)
        if parameter is not None and not isinstance(parameter, str):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise DeclarationError(
                f"connect(…, parameter={repr_of(parameter)}) ({place}): expected the name of one of its parameters.\n"
                "  Fix: parameter='left', for example."
            )
        self._connections.append(Connect(source, target, when, parameter, place))
        self._changed()

    def check(self) -> list[Problem]:
        """Everything that is wrong with the graph, not only the first thing; empty when it can run.

        The runtime checks a graph before it runs it, and raises ``GraphInvalid`` with the same problems.
        """
        return list(self._compile()[1])

    def hints(self) -> list[Problem]:
        """What is allowed, and often not what was meant; the graph runs all the same.

        In the form of problems: node, file, line, and what to write instead. ``understudy graph check`` prints them. Empty for a
        graph that :meth:`check` rejects: fix that first.
        """
        plan, problems = self._compile()
        return [] if problems else [*find_hints(plan), *nested_hints(self._nodes)]

    def plan(self) -> Plan:
        """The compiled graph; made once, until the graph changes.

        Raises:
            GraphInvalid: it has problems; ``problems`` and the message hold all that :meth:`check` returns.
        """
        if self._plan is None or self._checks != len(FURTHER_CHECKS):
            plan, problems = self._compile()
            if problems:
                raise GraphInvalid(_report(self.name, problems), problems=problems)
            for declaration in self._nodes.values():
                release(declaration.names)
                for tool in declaration.tools:
                    if tool.names is not None:
                        release(tool.names)
                for names in (declaration.fallback_names, declaration.uncertain_names):
                    if names is not None:
                        release(names)
            if self._fallback_names is not None:
                release(self._fallback_names)
            self._plan = plan
        return self._plan

    def mermaid(self) -> str:
        """The graph as Mermaid text, beginning ``graph TD``; also of a graph that has problems."""
        return draw(self.sketch())

    def describe(self) -> str:
        """The graph's design page as Markdown: picture, nodes, prompts, dependencies, types, supervision, mailboxes, limits.

        Also of a graph that has problems: they are a section of it.
        """
        return describe(self.sketch(), self.check(), self.supervision, self.finish)

    def sketch(self) -> Plan:
        """The graph compiled as far as possible, even if it is wrong: for pictures of it."""
        return self._plan or self._sound or self._compile()[0]

    def _compile(self) -> tuple[Plan, tuple[Problem, ...]]:
        """The plan, and all problems. Work is done once for a graph that has none, until it changes; its parts may change too."""
        if self._sound is not None and self._checks == len(FURTHER_CHECKS):
            return self._sound, tuple(nested_problems(self, self._nodes))
        self._checks = len(FURTHER_CHECKS)
        fallback = None if self._fallback is None or self._fallback_names is None else (self._fallback, self._fallback_names)
        plan, own, unknown = compiled(
            self.name,
            self._nodes,
            self._connections,
            self.input_types,
            self.output_types,
            self.finish,
            fallback,
            self.signal_types,
        )
        if not own and not unknown:
            self._sound = plan
        return plan, (*own, *nested_problems(self, self._nodes), *unknown)

    def _declare(
        self,
        function: Any,
        frame: types.FrameType | None,
        *,
        name: str | enum.Enum | None,
        given: Mapping[str, Any],
        predict: bool,
        human: bool = False,
    ) -> Any:
        function = getattr(function, ORIGINAL, function)
        declaration = declare(
            function, lambda found: capture(found, frame), name=plain(name), given=given, predict=predict, human=human
        )
        for other in self._origins.get(id(declaration.origin), ()):
            if other.origin is declaration.origin:
                what = "class" if declaration.message is not None else "function"
                second = "a subclass" if declaration.message is not None else "a second function that calls the first"
                raise DeclarationError(
                    f"node {declaration.name!r} ({declaration.location}): the same {what} is already the node {other.name!r} "
                    f"of graph {self.name!r}.\n  Fix: remove one decorator, or define {second}."
                )
        self._add(declaration)
        return unfilled(function, declaration) if (predict or human) and declaration.message is None else function

    def _add(self, declaration: NodeDeclaration) -> None:
        if declaration.name in self._nodes:
            raise DeclarationError(
                f"node {declaration.name!r} ({declaration.location}): graph {self.name!r} already has a node of that name "
                f"({self._nodes[declaration.name].location}).\n  Fix: rename the function, or pass name=…."
            )
        self._nodes[declaration.name] = declaration
        self._origins.setdefault(id(declaration.origin), []).append(declaration)
        self._changed()

    def _changed(self) -> None:
        self._plan = self._sound = None


def _signal_types(name: str, signals: Any) -> tuple[type, ...]:
    is_several = isinstance(signals, tuple | list)
    given: tuple[Any, ...] = tuple(cast("tuple[Any, ...]", signals)) if is_several else (signals,)
    found = [kind for each in given for kind in message_types(f"Graph({name!r}", "signals", each)]
    return tuple(dict.fromkeys(found))


def _report(name: str, problems: tuple[Problem, ...]) -> str:
    count = "1 problem" if len(problems) == 1 else f"{len(problems)} problems"
    lines = [f"  {index}. {problem}" for index, problem in enumerate(problems, start=1)]
    return "\n".join([f"graph {name!r} has {count}:", *lines])
