"""What happened in a run, as typed values: the events of ``runtime.stream()``, and part of ``runtime.events()``."""

from __future__ import annotations

from typing import Any, final

import attrs

from actors.lm import Delta
from runtime.events import Event


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
class LMDelta(NodeEvent):
    """A piece of an answer that a node streams from a language model (``lm.stream``)."""

    delta: Delta


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


@final
@attrs.frozen(kw_only=True)
class RunFinished(RunEvent):
    """The run has ended; always the last event of its stream, and exactly one."""

    status: str
    """``"succeeded"``, ``"failed"`` or ``"cancelled"``."""
    output: Any = None
    error: BaseException | None = None
