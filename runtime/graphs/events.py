"""What happened in a run, as typed values: the events of ``runtime.stream()``, and part of ``runtime.events()``."""

from __future__ import annotations

from typing import Any, Generic, TypeAlias, final

import attrs

from actors.lm import Delta
from actors.typevars import Out
from runtime.core.events import (
    ActorCrashed,
    ActorEnded,
    ActorRestarting,
    ActorStarted,
    ActorUnresponsive,
    Event,
    EventsMissed,
    InstrumentFailed,
    LoopBlocked,
    MessageDeadLettered,
    MessageRedelivering,
    SupervisorParked,
)
from runtime.graphs.record import RunStatus


@attrs.frozen(kw_only=True)
class RunEvent(Event):
    """Something happened in one run."""

    run_id: str


@final
@attrs.frozen(kw_only=True)
class RunStarted(RunEvent):
    """The run was accepted and its first messages are on their way."""

    graph: str
    input: Any


@attrs.frozen(kw_only=True)
class NodeEvent(RunEvent):
    """Something happened at one node."""

    node: str
    path: str
    """Which message, by its way through the graph."""
    attempt: int


@final
@attrs.frozen(kw_only=True)
class NodeStarted(NodeEvent):
    """The node began to work on a message."""


@final
@attrs.frozen(kw_only=True)
class NodeFinished(NodeEvent):
    """The node is done with the message."""

    output: Any
    """What it returned; None for an async generator, whose items were :class:`NodeEmitted`."""


@final
@attrs.frozen(kw_only=True)
class NodeEmitted(NodeEvent):
    """An async generator node yielded its item number `index`."""

    index: int
    output: Any


@final
@attrs.frozen(kw_only=True)
class NodeRetrying(NodeEvent):
    """The attempt failed and the message will be delivered again."""

    error: BaseException


@final
@attrs.frozen(kw_only=True)
class NodeFellBack(NodeEvent):
    """The message has had all its attempts, and the node's fallback will work on it."""

    error: BaseException


@final
@attrs.frozen(kw_only=True)
class NodeGaveUp(NodeEvent):
    """The node gave up on the message; the run fails."""

    error: BaseException


@final
@attrs.frozen(kw_only=True)
class NodeCancelled(NodeEvent):
    """The node had begun, and was cancelled because nobody wants its result any more."""


@final
@attrs.frozen(kw_only=True)
class NodeSlowToStop(NodeEvent):
    """The node's time is up and it was cancelled, and it goes on. Its error comes when it has really stopped."""

    overdue_s: float
    """For how long it has gone on so far."""
    stack: str
    """Where it is, innermost last."""


@final
@attrs.frozen(kw_only=True)
class LMDelta(NodeEvent):
    """A piece of an answer that a node streams from a language model (``lm.stream``)."""

    delta: Delta


@final
@attrs.frozen(kw_only=True)
class FieldDelta(NodeEvent):
    """A piece of a field that a language model fills, of a predict node with ``stream=True``."""

    field: str
    """The field of the return type; ``"reasoning"`` is the one that a ``ChainOfThought`` writes before them."""
    text: str
    """As the model writes it: not yet parsed to the field's type."""
    answer: int
    """Which answer of the attempt, counted from 1: one that does not fit is followed by another, which begins anew."""


@final
@attrs.frozen
class PromptMessage:
    """One message of a prompt, as events show it."""

    role: str
    text: str = attrs.field(repr=lambda text: f"<{len(text)} characters>")
    """Its text, at most :data:`MOST_SHOWN` characters of it, without what looks like a key; other parts are named in brackets."""


MOST_SHOWN = 20_000
"""How many characters of one message an event carries."""


@final
@attrs.frozen(kw_only=True)
class LMAsked(NodeEvent):
    """A node asks a language model. Only with ``open_runtime(show_prompts=True)``: prompts hold what users have written."""

    model: str
    prompt: tuple[PromptMessage, ...]


@final
@attrs.frozen(kw_only=True)
class LMCalled(NodeEvent):
    """A node's call to a language model has ended."""

    model: str
    prompt_tokens: int
    completion_tokens: int
    cost_usd: float | None
    requests: int
    """HTTP requests it took."""
    duration_s: float
    finish_reason: str | None = None
    """Why the answer ended: ``"stop"``, ``"length"``, ``"tool_calls"`` or ``"content_filter"``; None of embeddings."""


@final
@attrs.frozen(kw_only=True)
class ToolCalled(NodeEvent):
    """A call of a tool by a node's language model has ended; ``path`` is the call's own."""

    tool: str
    duration_s: float
    error: BaseException | None = None
    """Why it failed; None when it did not. What the model is told of it depends on ``on_tool_error``."""


@final
@attrs.frozen(kw_only=True)
class ToolsChanged(NodeEvent):
    """What a server offers a node's language model is not what it was when a model was first shown it."""

    toolbox: str
    added: tuple[str, ...]
    removed: tuple[str, ...]
    changed: tuple[str, ...]
    """Those with another description, or with other arguments."""


@final
@attrs.frozen(kw_only=True)
class NodeReported(NodeEvent):
    """A node, or a tool of its language model, says how far it is: ``run.report("searching page 3", done=3, of=12)``."""

    text: str
    done: float | None = None
    of: float | None = None


@final
@attrs.frozen(kw_only=True)
class RunAbandoned(RunEvent):
    """The runtime is being closed, and nobody has ever waited for this run, which is cancelled now or has failed before."""

    graph: str


@final
@attrs.frozen(kw_only=True)
class RunFinished(RunEvent, Generic[Out]):
    """The run has ended; always the last event of its stream, and exactly one."""

    status: RunStatus
    """``"succeeded"``, ``"failed"`` or ``"cancelled"``."""
    output: Out = None  # type: ignore[assignment]  # pyright: ignore[reportAssignmentType]
    """None unless it succeeded."""
    error: BaseException | None = None


AnyNodeEvent: TypeAlias = (
    NodeStarted
    | NodeFinished
    | NodeEmitted
    | NodeRetrying
    | NodeFellBack
    | NodeGaveUp
    | NodeCancelled
    | NodeSlowToStop
    | LMDelta
    | FieldDelta
    | LMAsked
    | LMCalled
    | ToolCalled
    | ToolsChanged
    | NodeReported
)
"""Each event of a node: a type checker reports what a ``match`` leaves out. The other unions are like it."""

AnyRunEvent: TypeAlias = RunStarted | AnyNodeEvent | RunAbandoned | RunFinished[Out] | EventsMissed
"""Each event of ``runtime.stream``. ``AnyRunEvent[Answer | None]`` names the type of the output in ``RunFinished``."""

AnyActorEvent: TypeAlias = (
    ActorStarted | ActorCrashed | ActorRestarting | ActorEnded | ActorUnresponsive | SupervisorParked | MessageRedelivering
)
"""Each event of an actor or a supervisor."""

AnyEvent: TypeAlias = (
    AnyActorEvent
    | RunStarted
    | AnyNodeEvent
    | RunAbandoned
    | RunFinished
    | MessageDeadLettered
    | LoopBlocked
    | InstrumentFailed
    | EventsMissed
)
"""Each event of ``runtime.events``: a type checker reports what a ``match`` leaves out."""
