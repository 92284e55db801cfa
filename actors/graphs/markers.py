"""What a node's parameters can ask for besides messages: the run's handle, dependencies, earlier messages, gathered lists."""

from __future__ import annotations

import copy
import functools
import inspect
import types
from collections.abc import Callable, Iterable
from datetime import datetime
from typing import Any, Protocol, TypeVar, final

import attrs

from actors.argument_checks import check_count, rejected
from actors.errors import DeclarationError
from actors.graphs.toolboxes import Toolbox
from actors.words import repr_of

A = TypeVar("A")


class Run(Protocol):
    """The run that a node works in: annotate a parameter with ``Run`` and it is injected.

    It belongs to one attempt at one message. The runtime makes it; in a unit test any object with these attributes will do.
    """

    @property
    def id(self) -> str:
        """The run's id, unique within its runtime."""
        ...

    @property
    def graph(self) -> str:
        """The graph's name."""
        ...

    @property
    def node(self) -> str:
        """The node's name."""
        ...

    @property
    def path(self) -> str:
        """Which message this is, by its way through the graph (``"graph/split/0/3/score/0"``); the same at every attempt."""
        ...

    @property
    def attempt(self) -> int:
        """Which delivery of the message this is, counted from 1."""
        ...

    @property
    def key(self) -> str:
        """``id/path``, the same at every attempt and in every life of a stored run: a key for what is to be done once."""
        ...

    @property
    def is_resumed(self) -> bool:
        """Whether the run has had a life before this one: its process ended, and it goes on from what was recorded."""
        ...

    @property
    def fence(self) -> int:
        """Which life of a stored run this is: it grows with each worker that takes the run up. 0 if the run isn't stored.

        For conditional writes outside: a table that keeps the highest fence it has seen, and rejects a lower one, takes nothing
        more from a process that was taken to be dead and goes on.
        """
        ...

    def wall_time(self) -> datetime:
        """The time in UTC: the store's, for a runtime that has one, so all its workers agree."""
        ...

    @property
    def steps_left(self) -> float:
        """How many more messages the run may deliver to nodes before its ``max_steps`` fails it; ``math.inf`` without one.

        So a loop can end in time: at 0, return the output or None. What has been delivered already counts, queued messages too.
        """
        ...

    async def ask(self, question: object, answer: type[A], timeout_s: float | None = None) -> A:
        """Ask a person about `question`, any message, and wait for an `answer`: a message type, or a union of several.

        The question is in ``runtime.questions()`` until somebody calls ``runtime.answer()``. The node waits in the middle of its
        work: it holds its instance, and a stored run stays in memory. When the process ends meanwhile, the next one runs the
        node from its beginning, so its own lines before this one run again; answers that were given come from the journal, in
        a further attempt too. An ``@graph.human`` node waits without any of that: prefer one where a question has its own step.

        Raises:
            NodeTimedOut: no one has answered within `timeout_s` seconds, by the store's clock, counted from the first time.
        """
        ...

    def heartbeat(self) -> None:
        """Report that the node is alive: its ``idle_timeout_s`` starts again. Also from a worker thread; never waits long."""
        ...

    async def once(self, name: str, function: Callable[..., Any], *args: Any) -> Any:
        """What ``function(*args)`` returns; of a stored run, what it returned the first time, however often the node begins.

        The result is on the disk before this returns, so a further attempt at the message, or another process that goes on with
        the run, gets it without calling again. If the process ends while the function is at work, it is called again: pass on
        :attr:`key` where the other side takes a key. What it raises is not kept. In a run that is not stored it just calls.

        A name may be used again, one call after the other: the second call of a name is the second in each attempt.

        Args:
            name: what is done, for example ``"charge"``.
            function: an ``async def``, or a plain ``def``, which works in a thread.
            args: its arguments.

        Raises:
            NotStorable: the result is neither text, a number, a bool, None, one of the graph's messages, nor lists and dicts of
                these. UsageError: a call of that name is in progress in this attempt, or it cannot be a name.
        """
        ...

    async def sleep(self, seconds: float, *, begin_again: bool = False) -> None:
        """Sleep. In a stored run whose process ends meanwhile, the sleep ends when it would have ended, or as soon as possible.

        The store's clock tells when. It counts towards ``timeout_s``, and not towards ``idle_timeout_s``. A further attempt,
        after an error, sleeps again.

        With `begin_again`, the node may begin again from its first line when the sleep is over, as after a crash: its own lines
        before it run twice, and what it has bought, or done with :meth:`once`, comes from the journal. So a stored run that
        does nothing but wait need not stay in memory: it leaves it after ``open_runtime(evict_after_s=)``, and comes back when
        the time has come, on any worker. It stays if the node does something else besides, or gives the sleep up sooner.

        Raises:
            UsageError: `seconds` isn't a finite number >= 0; or the run is stored, and the node cannot begin again, since it
                may run once only or is an async generator that isn't ``repeatable``.
        """
        ...

    def report(self, text: str, *, done: float | None = None, of: float | None = None) -> None:
        """Tell those who listen to the run how far the node is (``NodeReported``): ``run.report("page 3", done=3, of=12)``.

        A sign of life, too. Costs nothing when no one listens; also from a worker thread.
        """
        ...


def _is_first(owner: object, attribute: attrs.Attribute[Any], value: object) -> None:
    check_count(owner, attribute.name, value, optional=True)


def _is_reduce(owner: object, attribute: attrs.Attribute[Any], value: object) -> None:
    plain = isinstance(value, types.FunctionType) and value.__name__ != "<lambda>" and not inspect.iscoroutinefunction(value)
    if value is not None and not plain:
        raise rejected(
            owner, attribute.name, value, "a plain function such as def add(total: Total, item: Item) -> Total, or None"
        )


def _goes_with_reduce(owner: Gather, attribute: attrs.Attribute[Any], value: object) -> None:
    if owner.reduce is None and value is not ...:
        raise rejected(owner, attribute.name, value, "reduce=… with it")
    if owner.reduce is not None and value is ...:
        raise DeclarationError(
            f"Gather(reduce={owner.reduce.__name__}): the value of an empty fan-out is missing.\n"
            "  Fix: pass initial=…, the value before the first item, or a class or function that makes one."
        )


def _is_initial(_: Gather, attribute: attrs.Attribute[Any], value: object) -> None:
    """Each fold must begin with its own value, or what one run appends would be there for the next run."""
    kind = type(value)
    if inspect.iscoroutinefunction(value):
        raise rejected(Gather, attribute.name, value, "a value, or a class or plain function that makes one")
    if callable(value):
        return
    made = f"initial={kind.__name__}" if kind in (list, dict, set) and not value else f"initial=lambda: {kind.__name__}(…)"
    if kind.__hash__ is None:  # the sign by which dataclasses know a mutable default
        raise DeclarationError(
            f"Gather(initial={repr_of(value)}): every run would begin with the same {kind.__name__}, which can be changed.\n"
            f"  Fix: pass what makes a new one: {made}."
        )
    try:
        copy.deepcopy(value)
    except Exception as error:
        raise DeclarationError(
            f"Gather(initial={repr_of(value)}): each run begins with a copy, and a {kind.__name__} cannot be copied: "
            f"{type(error).__name__}.\n  Fix: pass what makes a new one: {made}."
        ) from error


@final
@attrs.frozen
class Gather:
    """How a ``list[A]`` parameter gathers a fan-out: ``Annotated[list[A], Gather(first=2)]``.

    With `first` None (also without the marker) it waits until every branch has ended and gives the items in item order. With
    `first` = k it gives the first k items that arrive, in item order, and cancels the rest of the fan-out; when fewer than k
    come, it gives those once every branch has ended.

    With `reduce` the items are folded, in item order independent of timing, into one value, whose type the parameter has:
    ``Annotated[Total, Gather(reduce=add, initial=Total(0))]`` with ``def add(total: Total, score: Score) -> Total``. What is
    gathered is the type of the second parameter. `initial` comes before the first item, and is what an empty fan-out gives. Each
    fold begins with its own: a class or function is called for it (``initial=list``), any other value is copied, deeply. The
    folding is part of each attempt.

    Raises:
        DeclarationError: `initial` can be changed, by the rule of dataclasses (it has no hash), or cannot be copied.
    """

    first: int | None = attrs.field(default=None, validator=_is_first)
    reduce: Callable[[Any, Any], Any] | None = attrs.field(default=None, validator=_is_reduce, kw_only=True)
    initial: Any = attrs.field(default=..., validator=[_goes_with_reduce, _is_initial], kw_only=True, eq=id)
    # By identity: typing keeps one Annotated for all markers that are equal, and 0, 0.0 and False are. Without eq=id
    # test_folds_that_begin_with_equal_values_keep_their_own breaks.

    def fold(self, items: Iterable[Any]) -> Any:
        """`items` as the parameter gets them."""
        if self.reduce is None:
            return list(items)
        first = self.initial() if callable(self.initial) else copy.deepcopy(self.initial)
        return functools.reduce(self.reduce, items, first)


def _is_function(owner: object, attribute: attrs.Attribute[Any], value: object) -> None:
    if isinstance(value, Toolbox):
        return
    if isinstance(value, type) and "__call__" in dir(value):
        return  # presumably a message class that is a node; the check of the graph reports it if not
    if not isinstance(value, types.FunctionType) or value.__name__ == "<lambda>":
        expected = "a function that was defined with a name and a return annotation, a node of the graph, or a toolbox"
        raise rejected(owner, attribute.name, value, expected)


@final
@attrs.frozen
class Dep:
    """What a parameter gets that no message brings: ``Annotated[Weather, Dep(get_weather)]``.

    The function is called when a node of the run first needs it, and once per run; its value is shared by all nodes of the run.
    It is an ``async def``, a plain ``def`` (which runs in a worker thread), or an async context manager, which is closed when the
    run is over. Its parameters may be dependencies too (independent ones are computed at the same time), or take the message
    that the run began with. When it fails, the node fails with ``DepError``, and a further attempt calls it again.

    It may be a node of the same graph: a function or message class under ``@graph.node`` or ``@graph.predict``. Then it is run as
    that node, with its options, language model, attempts and fallback, on the message that the run began with; once per run, and
    only when it is needed. Such a node takes part in the graph in no other way: no message starts it, and what it makes goes only
    to those that depend on it.

    And it may be a toolbox, in a parameter of a node: ``Annotated[Tools, Dep(mcp("files", command=[…]))]``; see ``Tools``.
    """

    function: Callable[..., Any] | Toolbox = attrs.field(validator=_is_function)


@final
@attrs.frozen
class Recall:
    """The latest message of a type that led to this one: ``Annotated[Draft, Recall()]``.

    Looked for among the messages from which those that the node takes were made, its own inputs not included. The latest is the
    one with the most nodes before it; of several, that of the node declared last, and of the items of a fan-out the last in item
    order. Timing has no part in it. Without one, the node fails with ``RecallError``, or gets None with
    ``Annotated[Draft | None, Recall()]``.

    ``Annotated[list[Turn], Recall(conversation=True)]`` gets the earlier turns of the run's conversation,
    oldest first; an empty list in a run that is part of none.
    """

    conversation: bool = False
