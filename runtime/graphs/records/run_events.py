"""What happened in a run, as typed values: the events of ``runtime.stream()``, and part of ``runtime.events()``."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Generic, TypeAlias, final

import attrs

from actors.lm import Delta, LMRequest
from actors.typevars import Out
from actors.words import repr_of
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
from runtime.core.host_events import HostLost, HostStarted
from runtime.graphs.records.run_record import RunStatus, Spend


@attrs.frozen(kw_only=True)
class RunEvent(Event):
    """Something happened in one run."""

    run_id: str


@final
@attrs.frozen(kw_only=True)
class RunStarted(RunEvent):
    """The run was accepted and its first messages are on their way."""

    graph: str
    input: Any = attrs.field(repr=repr_of)
    labels: Mapping[str, str] = attrs.field(factory=dict[str, str])
    """What its caller noted of it."""


@final
@attrs.frozen(kw_only=True)
class RunResumed(RunEvent):
    """A stored run goes on in this runtime; what its records say was done is not done again."""

    graph: str
    records: int
    """How many there are."""
    lives: int
    """How many times a worker has taken it up, this time included."""
    labels: Mapping[str, str] = attrs.field(factory=dict[str, str])
    """What its caller noted of it when it was started."""


@final
@attrs.frozen(kw_only=True)
class RunTakenOver(RunEvent):
    """A stored run goes on here because the process that had it is dead, or was taken to be. Comes behind ``RunResumed``."""

    graph: str
    from_worker: str
    """The name by which the store knew that process."""


@final
@attrs.frozen(kw_only=True)
class RunAdopted(RunEvent):
    """A stored run goes on in a graph that was changed. The steps are named by their paths."""

    graph: str
    kept: tuple[str, ...]
    """Their results still fit."""
    again: tuple[str, ...]
    """Their results no longer fit; they run again when the run comes to them."""
    dropped: tuple[str, ...]
    """Their results are of no more use."""


@final
@attrs.frozen(kw_only=True)
class RunSignalled(RunEvent):
    """A message was sent into the run with ``runtime.send``."""

    key: str
    signal: Any = attrs.field(repr=repr_of)


@final
@attrs.frozen(kw_only=True)
class RunParkedEvent(RunEvent):
    """A stored run cannot go on without a decision."""

    graph: str
    error: Any
    """The ``RunParked``, or the ``StoreDamaged``."""


@final
@attrs.frozen(kw_only=True)
class ScheduleFailed(Event):
    """A tick of a schedule could not be started; it is tried again, here and by other workers."""

    name: str
    """Of the schedule."""
    tick: datetime
    error: Any


@final
@attrs.frozen(kw_only=True)
class StoreStalled(Event):
    """The store cannot write; runs that wait for it stand still, and the same records are tried again."""

    since_s: float
    """The runtime's clock, in seconds."""
    error: Any
    """What the store said."""


@final
@attrs.frozen(kw_only=True)
class StoreRecovered(Event):
    """The store has written what it could not."""


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

    waited_s: float = 0.0
    """How long the message had waited for one of the node's instances; of a later attempt, its backoff too."""
    backoff_s: float = 0.0
    """The part of it, of a later attempt, for which it was held back after the failure; 0 for the first attempt."""


@final
@attrs.frozen(kw_only=True)
class NodeFinished(NodeEvent):
    """The node is done with the message."""

    output: Any = attrs.field(repr=repr_of)
    """What it returned; None for an async generator, whose items were :class:`NodeEmitted`."""


@final
@attrs.frozen(kw_only=True)
class NodeEmitted(NodeEvent):
    """An async generator node yielded its item number `index`."""

    index: int
    output: Any = attrs.field(repr=repr_of)


@final
@attrs.frozen(kw_only=True)
class NodeRetrying(NodeEvent):
    """The attempt failed and the message will be delivered again."""

    error: BaseException = attrs.field(repr=repr_of)


@final
@attrs.frozen(kw_only=True)
class NodeFellBack(NodeEvent):
    """The message has had all its attempts, and the node's fallback will work on it."""

    error: BaseException = attrs.field(repr=repr_of)


@final
@attrs.frozen(kw_only=True)
class NodeGaveUp(NodeEvent):
    """The node gave up on the message; the run fails."""

    error: BaseException = attrs.field(repr=repr_of)


@final
@attrs.frozen(kw_only=True)
class QuestionAsked(NodeEvent):
    """A person is asked. In a stored run it is told once, and not again in its later lives."""

    question: str
    """The id, for ``runtime.answer``."""
    asks: Any = attrs.field(repr=repr_of)
    """The message that is asked about."""
    due_at: datetime | None = None
    to: str | None = None


@final
@attrs.frozen(kw_only=True)
class QuestionAnswered(NodeEvent):
    """A question has its answer, or there was none in time."""

    question: str
    answer: Any = attrs.field(repr=repr_of)
    by: str | None = None
    timed_out: bool = False


@final
@attrs.frozen(kw_only=True)
class NodeCancelled(NodeEvent):
    """The node had begun, and was cancelled because its result is no longer wanted."""


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
    """Which answer of the attempt, counted from 1: one that does not fit is followed by another, which starts over."""


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
class LMCallStarted(NodeEvent):
    """A node calls a language model; one :class:`LMCalled` with the same `call` follows."""

    call: int
    """Which call of the run, counted from 1."""
    model: str
    operation: str
    """``"chat"``, ``"stream"`` or ``"embed"``."""
    again: str | None = None
    """Why the model is asked again what it was asked before in the attempt: ``"unreadable"``, its answer could not be read;
    ``"truncated"``, it stopped in the middle. None when it is asked for the first time."""


@final
@attrs.frozen(kw_only=True)
class LMCalled(NodeEvent):
    """A node's call to a language model has ended: with an answer, with an `error`, or with neither when it was cut short."""

    model: str
    prompt_tokens: int
    """What the whole call used, requests without an answer included; so do the other figures of what it used."""
    completion_tokens: int
    cost_usd: float | None
    requests: int
    """HTTP requests it took."""
    duration_s: float
    finish_reason: str | None = None
    """Why the answer ended: ``"stop"``, ``"length"``, ``"tool_calls"`` or ``"content_filter"``; None of embeddings and without an
    answer."""
    call: int = 0
    """Which call of the run, counted from 1."""
    provider: str | None = None
    """``"openai"`` of ``"openai/gpt-4o-mini"``; None where the model's name has none."""
    response_model: str | None = None
    """The model that the provider says has answered, where it says so."""
    first_token_s: float | None = None
    """How long the first piece of a streamed answer took; None of an answer in one piece."""
    cached_tokens: int = 0
    """Those of the prompt's tokens that the provider had read before, and charges less for."""
    reasoning_tokens: int = 0
    """Those of the completion's tokens that were reasoning."""
    error: BaseException | None = attrs.field(default=None, repr=repr_of)
    """With what the call failed."""
    text: str | None = None
    """The answer's text, at most :data:`MOST_SHOWN` characters of it, without what looks like a key. Only with
    ``open_runtime(show_prompts=True)``."""
    made: tuple[LMRequest, ...] = ()
    """Its requests, as they ended; none of an answer from a cache, or of a model that isn't asked over HTTP."""

    @property
    def from_cache(self) -> bool:
        """Whether the answer was kept from an earlier call, so no request was made."""
        return self.requests == 0 and self.finish_reason is not None


@final
@attrs.frozen(kw_only=True)
class ToolCallStarted(NodeEvent):
    """A call of a tool begins, or waits for a person who has to agree to it; ``path`` is the call's own.

    One ``ToolCalled`` of the same path follows, unless the call is cancelled.
    """

    tool: str


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
class SignalTaken(NodeEvent):
    """An agent has taken a message that was said into the run: its model reads it with its next call."""

    key: str
    signal: Any = attrs.field(repr=repr_of)


@final
@attrs.frozen(kw_only=True)
class NodeReported(NodeEvent):
    """A node, or a tool of its language model, tells how far it is: ``run.report("searching page 3", done=3, of=12)``."""

    text: str
    done: float | None = None
    of: float | None = None


@final
@attrs.frozen(kw_only=True)
class RunAbandoned(RunEvent):
    """The runtime is being closed, and this run was never awaited; it is cancelled now or has failed before."""

    graph: str


@final
@attrs.frozen(kw_only=True)
class RunFinished(RunEvent, Generic[Out]):
    """The run has ended; always the last event of its stream, and exactly one."""

    status: RunStatus
    """``"succeeded"``, ``"failed"`` or ``"cancelled"``."""
    output: Out = attrs.field(default=None, repr=repr_of)
    """None unless it succeeded."""
    error: BaseException | None = attrs.field(default=None, repr=repr_of)
    spend: Spend = attrs.field(factory=Spend)
    """What it has used of language models."""


AnyNodeEvent: TypeAlias = (
    NodeStarted
    | NodeFinished
    | NodeEmitted
    | NodeRetrying
    | NodeFellBack
    | NodeGaveUp
    | NodeCancelled
    | QuestionAsked
    | QuestionAnswered
    | NodeSlowToStop
    | LMDelta
    | FieldDelta
    | LMAsked
    | LMCallStarted
    | LMCalled
    | ToolCallStarted
    | ToolCalled
    | ToolsChanged
    | SignalTaken
    | NodeReported
)
"""Each event of a node: a type checker reports what a ``match`` leaves out. The other unions are like it."""

AnyRunEvent: TypeAlias = (
    RunStarted
    | RunResumed
    | RunTakenOver
    | RunAdopted
    | RunSignalled
    | AnyNodeEvent
    | RunAbandoned
    | RunFinished[Out]
    | EventsMissed
)
"""Each event of ``runtime.stream``. ``AnyRunEvent[Answer | None]`` names the type of the output in ``RunFinished``."""

AnyActorEvent: TypeAlias = (
    ActorStarted | ActorCrashed | ActorRestarting | ActorEnded | ActorUnresponsive | SupervisorParked | MessageRedelivering
)
"""Each event of an actor or a supervisor."""

AnyEvent: TypeAlias = (
    AnyActorEvent
    | RunStarted
    | RunResumed
    | RunTakenOver
    | RunAdopted
    | RunSignalled
    | RunParkedEvent
    | AnyNodeEvent
    | RunAbandoned
    | RunFinished
    | ScheduleFailed
    | StoreStalled
    | StoreRecovered
    | HostStarted
    | HostLost
    | MessageDeadLettered
    | LoopBlocked
    | InstrumentFailed
    | EventsMissed
)
"""Each event of ``runtime.events``: a type checker reports what a ``match`` leaves out."""
