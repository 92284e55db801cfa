"""What an author can set on a node, and the errors for options that do not exist."""

from __future__ import annotations

import math
import types
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final, Literal, TypedDict, cast, final

import attrs

from actors.argument_checks import is_a, is_count, is_place, rejected
from actors.declared_fields import ELSEWHERE, inheriting, nearest
from actors.errors import DeclarationError
from actors.graphs.effects import Effect
from actors.lm import LM
from actors.mailbox import MailboxSpec
from actors.restarts import Backoff, Redelivery, RestartType
from actors.supervision import Supervision


def check_timeout(owner: object, name: str, value: object) -> None:
    """DeclarationError unless `value` is a number of seconds > 0, or None."""
    if value is not None and (not isinstance(value, int | float) or isinstance(value, bool) or not value > 0):
        raise rejected(owner, name, value, "None or a number > 0")


def _is_timeout(owner: object, attribute: attrs.Attribute[Any], value: object) -> None:
    check_timeout(owner, attribute.name, value)


Late = Literal["discard", "take"]
"""What happens to a result that came too late."""


def _is_late(owner: object, attribute: attrs.Attribute[Any], value: object) -> None:
    if value not in ("discard", "take"):
        raise rejected(owner, attribute.name, value, "'discard' or 'take'")


def _is_fallback(owner: object, attribute: attrs.Attribute[Any], value: object) -> None:
    if value is not None and (not isinstance(value, types.FunctionType) or value.__name__ == "<lambda>"):
        raise rejected(owner, attribute.name, value, "a function with a name and annotations, or None")


def _is_lm(owner: object, attribute: attrs.Attribute[Any], value: object) -> None:
    if (
        value is not None
        and not (isinstance(value, str) and value)
        and not (isinstance(value, LM) and not isinstance(value, type))
    ):
        raise rejected(owner, attribute.name, value, "the name of one of the runtime's lms, an LM, or None")


def _is_module(owner: object, attribute: attrs.Attribute[Any], value: object) -> None:
    if not (isinstance(value, str) and value.isidentifier()) and not callable(value):
        raise rejected(owner, attribute.name, value, "the name of a DSPy module, such as 'ChainOfThought', or its class")


def _is_truncated(owner: object, attribute: attrs.Attribute[Any], value: object) -> None:
    if value not in {None, "error", "widen", "accept"}:
        raise rejected(owner, attribute.name, value, "one of 'error', 'widen', 'accept', or None")


OnToolError = Literal["tell", "fail"]
"""What becomes of a call of a tool that fails."""


def _listed(tools: object) -> Any:
    return tuple(cast("list[object]", tools)) if isinstance(tools, list | tuple) else tools


def _are_tools(owner: object, attribute: attrs.Attribute[Any], value: object) -> None:
    if not isinstance(value, tuple):
        raise rejected(owner, attribute.name, value, "a list of tools, such as [search]")


def _is_on_tool_error(owner: object, attribute: attrs.Attribute[Any], value: object) -> None:
    if value not in ("tell", "fail"):
        raise rejected(owner, attribute.name, value, "'tell' or 'fail'")


REDELIVERY: Final = Redelivery(max_attempts=1)
"""The default of a node: its effects, if it has any, happen once."""
NODE_SUPERVISION: Final = Supervision(max_restarts=math.inf, backoff=Backoff(first_s=0.1, cap_s=1.0))
"""How the actors of a graph are restarted unless the graph sets it: one run that fails must not take down what others use.
Instances of nodes need neither budget nor delay, since they hold no state: see ``runtime.core.restarts``."""
PREDICT_REDELIVERY: Final = Redelivery(max_attempts=3)
"""The default of a predict node without tools: it has no effects except the answer."""


@final
@attrs.frozen
class NodeOptions:
    """What an author can set on ``@graph.node(…)``."""

    concurrency: int = attrs.field(default=64, validator=is_count(least=1))
    """Up to how many messages the node works on at the same time."""
    mailbox: MailboxSpec = attrs.field(factory=MailboxSpec, validator=is_a(MailboxSpec))
    """How many messages may wait for the node."""
    restart: RestartType = attrs.field(default=RestartType.PERMANENT, validator=is_a(RestartType))
    """After which ends an instance of the node is started again."""
    redelivery: Redelivery = attrs.field(default=REDELIVERY, validator=is_a(Redelivery))
    """What happens to a message that crashed the node: a predict node without tools makes 3 attempts, every other node one,
    unless it is written here. What a ``Redelivery`` does not write is inherited from that."""
    timeout_s: float | None = attrs.field(default=None, validator=_is_timeout)
    """How many seconds one attempt may take; None: no limit but the run's deadline."""
    idle_timeout_s: float | None = attrs.field(default=None, validator=_is_timeout)
    """How many seconds an attempt may continue without ``run.heartbeat()``, an item or an answer of a language model; None: no
    limit."""
    late: Late = attrs.field(default="discard", validator=_is_late)
    """What happens to the result of an attempt that was over its time and could not be stopped, as a plain ``def`` in its thread:
    ``"discard"`` (the attempt has failed with ``NodeTimedOut``), or ``"take"`` (it counts as any other result)."""
    fallback: Callable[..., Any] | None = attrs.field(default=None, validator=_is_fallback)
    """What works on a message that has had all its attempts: a function of the node's parameters and of the error."""
    repeatable: bool = attrs.field(default=False, validator=is_a(bool))
    """For an async generator: whether every attempt yields the same items in the same order. Then a further attempt continues
    after what the earlier one yielded; otherwise it starts again, and there is none once a node has begun to work on an item."""
    lm: str | LM | None = attrs.field(default=None, validator=_is_lm)
    """Which language model: a name from ``open_runtime(lms=…)``, an ``LM``, or None for the runtime's default."""
    effect: Effect = attrs.field(default=Effect.REPEAT, validator=is_a(Effect))
    """Whether a step that a crash cut short begins again. With ``Effect.ONCE`` its begin is stored before its code runs, and it
    does not: ``on_uncertain``, or a person, tells what became of it. Such a node has one attempt. Of stored runs only."""
    on_uncertain: Callable[..., Any] | None = attrs.field(default=None, validator=_is_fallback)
    """With ``Effect.ONCE``: what finds out whether a step that was cut short took effect. A function of the node's parameters
    that returns what the node would have returned, or None if nothing happened, and then the step begins again. When it raises,
    or without it, the run is parked with ``StepUncertain``."""
    place: str | None = attrs.field(default=None, validator=is_place)
    """Where its function runs: the name of one of ``open_runtime(places=…)``; None: in the process of the runtime."""


@final
@attrs.frozen
class PredictOptions:
    """What an author can set on ``@graph.predict(…)`` besides the options of a node."""

    module: Any = attrs.field(default="Predict", validator=_is_module)  # Any: a DSPy class, and dspy is not imported here
    """Which module of DSPy asks the model: its name, such as ``"ChainOfThought"``, or its class."""
    parse_attempts: int = attrs.field(default=2, validator=is_count(least=1))
    """How many answers are asked for until one can be read; the next prompt contains what was wrong with the last."""
    stream: bool = attrs.field(default=False, validator=is_a(bool))
    """Whether the answer is asked for as a stream, whose pieces are events of the run: ``FieldDelta``."""
    truncated: str | None = attrs.field(default=None, validator=_is_truncated)
    """What happens to an answer that stops in the middle, at the longest length allowed: ``"error"`` (LMTruncated), ``"widen"``
    (within ``parse_attempts`` it is asked for again with twice the room) or ``"accept"``; None: as the language model is set, and
    ``"error"`` where it is not."""
    tools: tuple[Any, ...] = attrs.field(
        default=(), validator=_are_tools, converter=_listed
    )  # Any: functions, and what makes tools
    """What the language model may call before it answers: typed functions, ``tool(…)``, ``dspy.Tool`` instances, toolboxes."""
    max_rounds: int = attrs.field(default=8, validator=is_count(least=1))
    """How many turns of calls the model has before it must answer; then the node fails with ``RoundsExceeded``."""
    on_tool_error: OnToolError = attrs.field(default="tell", validator=_is_on_tool_error)
    """What becomes of a call that fails: ``"tell"`` (the model reads the error, and goes on) or ``"fail"`` (the node fails)."""
    hints: bool = attrs.field(default=False, validator=is_a(bool))
    """Whether the model is told with each result how many rounds, and how many steps of the run, are left."""


def _is_addressee(owner: object, attribute: attrs.Attribute[Any], value: object) -> None:
    if value is not None and not (isinstance(value, str) and value.strip()):
        raise rejected(owner, attribute.name, value, "a name such as 'legal', or None")


@final
@attrs.frozen
class HumanOptions:
    """What an author can set on ``@graph.human(…)`` besides ``timeout_s`` and ``fallback``."""

    to: str | None = attrs.field(default=None, validator=_is_addressee)
    """Whom the question is for: a name that your own program knows. It is told with the question, and nothing else."""


class NodeKeywords(TypedDict, total=False):
    """The fields of :class:`NodeOptions` and of :class:`PredictOptions` as keywords, for type checkers."""

    concurrency: int
    mailbox: MailboxSpec
    restart: RestartType
    redelivery: Redelivery
    timeout_s: float | None
    idle_timeout_s: float | None
    late: Late
    fallback: Callable[..., Any] | None
    repeatable: bool
    lm: str | LM | None
    effect: Effect
    on_uncertain: Callable[..., Any] | None
    place: str | None
    module: Any
    parse_attempts: int
    stream: bool
    truncated: str | None
    tools: Sequence[Any]
    max_rounds: int
    on_tool_error: OnToolError
    hints: bool


def node_supervision(own: Supervision | None) -> Supervision:
    """How a graph's actors are restarted, given what its author wrote."""
    return NODE_SUPERVISION if own is None else inheriting(own, NODE_SUPERVISION)


def node_options(given: Mapping[str, Any], *, predict: bool, has_tools: bool = False) -> NodeOptions:
    """The options of a node, of which its author wrote `given`. What has tools has effects, as any other node.

    Raises:
        DeclarationError: an option has a wrong value.
    """
    options = NodeOptions(**given)
    base = PREDICT_REDELIVERY if predict and not has_tools and options.effect is not Effect.ONCE else REDELIVERY
    redelivery = inheriting(given["redelivery"], base) if "redelivery" in given else base
    if options.effect is Effect.ONCE and redelivery.max_attempts > 1:
        raise DeclarationError(
            f"effect=Effect.ONCE with redelivery of {redelivery.max_attempts:g} attempts: a further attempt, after an error, "
            "would do it a second time.\n"
            "  Fix: leave redelivery out; or effect=Effect.REPEAT, and give run.key to the other side."
        )
    if options.on_uncertain is not None and options.effect is not Effect.ONCE:
        raise rejected(
            NodeOptions, "on_uncertain", options.on_uncertain, "None without effect=Effect.ONCE: the step begins again"
        )
    return attrs.evolve(options, redelivery=redelivery)


def check_human_options(given: Iterable[str], *, where: str) -> None:
    """Reject what a node that a person fills does not have: it has no instances, and makes one attempt."""
    for option in given:
        if option in HUMAN_OPTIONS:
            continue
        fix = f"leave {option!r} out: a person is asked once, and nothing runs meanwhile."
        if option not in _OPTIONS and option not in PREDICT_OPTIONS:
            fix = nearest(
                option, HUMAN_OPTIONS, {"timeout": "timeout_s=…", "assignee": "to='name'", "on_timeout": "fallback=function"}
            )
        raise DeclarationError(
            f"{where}: @graph.human has no option {option!r}. Expected one of: {', '.join(HUMAN_OPTIONS)}.\n  Fix: {fix}"
        )


def check_options(given: Iterable[str], *, predict: bool, where: str) -> None:
    """Reject options that do not exist, naming the nearest one that does."""
    known = [*_OPTIONS, *(PREDICT_OPTIONS if predict else ())]
    for option in given:
        if option in known:
            continue
        decorator = "@graph.predict" if predict else "@graph.node"
        if not predict and option in PREDICT_OPTIONS:
            fix = f"use @graph.predict({option}=…), or leave {option!r} out."
        else:
            fix = nearest(option, known, _ELSEWHERE)
        raise DeclarationError(
            f"{where}: {decorator} has no option {option!r}. Expected one of: {', '.join(known)}.\n  Fix: {fix}"
        )


_ELSEWHERE = {
    **ELSEWHERE,
    **dict.fromkeys(("on_error", "error_handler", "handler"), "fallback=function"),
    **dict.fromkeys(("max_concurrency", "workers"), "concurrency=…"),
    "model": "lm=…",
}
"""What options of other names are called here."""

_OPTIONS = ("name", *(field.name for field in attrs.fields(NodeOptions)))
PREDICT_OPTIONS = tuple(field.name for field in attrs.fields(PredictOptions))
"""Those that only a node which a language model fills has."""
HUMAN_OPTIONS = ("name", "timeout_s", "fallback", "to")
"""Those of a node that a person fills."""
