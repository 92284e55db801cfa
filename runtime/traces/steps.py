"""What a run did, attempt by attempt and call by call, out of its events. Pure.

Times are whole microseconds: their sums are exact.

``runtime/inspector/static/timeline.js`` reads the same events for the page; tests/browser holds both to the same figures.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, final

import attrs

from runtime.traces.event_json import EVENTS_MISSED
from runtime.traces.event_reader import WireEvent

ENDS: Final[Mapping[str, str]] = {
    "node.finished": "done",
    "node.retrying": "retrying",
    "node.fell_back": "fell back",
    "node.gave_up": "failed",
    "node.cancelled": "cancelled",
}
"""Where an attempt is after the event of this name."""
OVER: Final = ("succeeded", "failed", "cancelled")


@final
@attrs.frozen(eq=False)
class CallRequest:
    """One HTTP request of a call; times since the call began."""

    asked_us: int
    """When the call wanted to send it."""
    sent_us: int | None
    ended_us: int
    error: str | None
    is_answered: bool
    prompt_tokens: int
    completion_tokens: int
    cost_usd: float


@final
@attrs.define(eq=False)
class Call:
    """One call of a language model."""

    number: int
    model: str
    operation: str
    began_us: int
    again: str | None = None
    """Why the model is asked again: ``"unreadable"`` or ``"truncated"``."""
    ended_us: int | None = None
    finish_reason: str | None = None
    error: str | None = None
    """The class of what it failed with."""
    requests: int = 0
    prompt_tokens: int = 0
    """Of all its requests."""
    completion_tokens: int = 0
    cost_usd: float = 0.0
    made: Sequence[CallRequest] = ()


@final
@attrs.define(eq=False)
class Attempt:
    """One attempt of a node at a message. Times since the run was accepted."""

    node: str
    path: str
    attempt: int
    delivered_us: int
    """Since when the message had waited for it; of a later attempt, since the one before it had failed."""
    began_us: int
    began_seq: int
    """The number of the event with which it began."""
    backoff_us: int = 0
    """The part of its wait for which it was held back after a failure."""
    ended_us: int | None = None
    ended_seq: int | None = None
    status: str = "running"
    """``"running"``, ``"done"``, ``"retrying"``, ``"fell back"``, ``"failed"`` or ``"cancelled"``."""
    error: Mapping[str, Any] | None = None
    calls: list[Call] = attrs.field(factory=list[Call])
    tools: list[WireEvent] = attrs.field(factory=list[WireEvent])
    items: list[tuple[int, int]] = attrs.field(factory=list[tuple[int, int]])
    """Of a generator: when each item came, and the number of its event."""
    before: Attempt | None = None
    """The attempt at the same message that had failed before it."""

    @property
    def error_type(self) -> str | None:
        """The class of what it failed with."""
        return None if self.error is None else str(self.error.get("type"))

    def encloses(self, path: str) -> bool:
        """Whether `path` is that of a step of the graph that this attempt's node stands for, or of a tool of its model's.

        The path of what is done with an item of a list begins with the path of the step that made the list, and then comes
        the item's number.
        """
        return path.startswith(f"{self.path}/") and not path[len(self.path) + 1 :].partition("/")[0].isdigit()


@final
@attrs.define(eq=False)
class Trace:
    """What one run did."""

    run: str = ""
    graph: str = ""
    status: str = "queued"
    labels: Mapping[str, Any] = attrs.field(factory=dict[str, Any])
    began_us: int = 0
    """When it was accepted, on the clock of its events."""
    ended_us: int = 0
    """When it ended; of one that goes on, the time of its latest event."""
    error: Mapping[str, Any] | None = None
    spend: Mapping[str, Any] = attrs.field(factory=dict[str, Any])
    attempts: list[Attempt] = attrs.field(factory=list[Attempt])
    """In the order in which they began."""
    questions: dict[str, tuple[str, int, int | None]] = attrs.field(factory=dict[str, tuple[str, int, int | None]])
    """By id: the path of the step that asks, when it began to wait for the answer, and when it came."""
    missed: int = 0
    """Events that were not kept."""
    is_resumed: bool = False

    @property
    def is_over(self) -> bool:
        """Whether it has ended."""
        return self.status in OVER

    @property
    def duration_us(self) -> int:
        """How long it took, or has gone on so far."""
        return self.ended_us - self.began_us

    @property
    def nodes(self) -> Mapping[str, Sequence[Attempt]]:
        """The attempts of each node, by its name, in the order in which the nodes began."""
        found: dict[str, list[Attempt]] = {}
        for attempt in self.attempts:
            found.setdefault(attempt.node, []).append(attempt)
        return found

    def end_of(self, attempt: Attempt) -> int:
        """When `attempt` ended; of one that goes on, the end of what is known."""
        return self.ended_us if attempt.ended_us is None else attempt.ended_us


def trace_of(events: Iterable[WireEvent]) -> Trace:
    """What the run did whose events, in their order, are `events`; see ``read_events``.

    What is not known is left out: events that are missing, and kinds of events that a later version has added.
    """
    return _Reader().read(events)


@final
class _Reader:
    """Keeps what is open while the events of one run come by."""

    def __init__(self) -> None:
        self._trace = Trace()
        self._open: dict[str, Attempt] = {}
        """Attempts in progress, by path: a message has one at a time."""
        self._latest: dict[str, Attempt] = {}
        self._calls: dict[int, Call] = {}
        self._ended_us = -(10**18)
        """When the latest attempt ended."""

    def read(self, events: Iterable[WireEvent]) -> Trace:
        trace, is_first = self._trace, True
        for event in events:
            name: str = event["event"]
            if name == EVENTS_MISSED:
                trace.missed += event["count"]
                continue
            at_us = _us(event["elapsed_s"])
            if is_first:
                trace.run, trace.began_us, is_first = event.get("run") or "", at_us, False
            trace.ended_us = max(trace.ended_us, at_us)
            self._note(name, event, at_us)
        if trace.is_over:
            for attempt in self._open.values():
                attempt.ended_us, attempt.status = trace.ended_us, "cancelled"
        return trace

    def _note(self, name: str, event: WireEvent, at_us: int) -> None:
        trace = self._trace
        if name == "node.started":
            self._begin(event, at_us)
        elif name in ENDS:
            self._end(ENDS[name], event, at_us)
        elif name == "node.emitted":
            attempt = self._open.get(event["path"])
            if attempt is not None:
                attempt.items.append((at_us, event["seq"]))
        elif name == "lm.started":
            self._calls[event["call"]] = call = Call(
                event["call"], event["model"], event.get("operation") or "chat", at_us, event.get("again")
            )
            attempt = self._open.get(event["path"]) or self._enclosing(event["path"])
            if attempt is not None:
                attempt.calls.append(call)
        elif name == "lm.finished":
            self._end_call(event, at_us)
        elif name == "tool.called":
            attempt = self._enclosing(event["path"])
            if attempt is not None:
                attempt.tools.append(event)
        elif name == "question.asked":
            trace.questions[event["question"]] = (event["path"], at_us, None)
        elif name == "question.answered" and event["question"] in trace.questions:
            path, asked_us, _ = trace.questions[event["question"]]
            trace.questions[event["question"]] = (path, asked_us, at_us)
        elif name in ("run.started", "run.resumed"):
            trace.status, trace.graph = "running", event.get("graph") or ""
            trace.labels = event.get("labels") or trace.labels
            trace.is_resumed = trace.is_resumed or name == "run.resumed"
        elif name == "run.parked":
            trace.status = "parked"
        elif name == "run.finished":
            trace.status, trace.error, trace.spend = event.get("status") or "", event.get("error"), event.get("spend") or {}

    def _begin(self, event: WireEvent, at_us: int) -> None:
        path = event["path"]
        waited_us = _us(event.get("waited_s"))
        delivered_us = max(self._trace.began_us, at_us - waited_us)
        backoff_us = _us(event.get("backoff_s"))
        attempt = Attempt(event["node"], path, event["attempt"], delivered_us, at_us, event["seq"], backoff_us)
        attempt.before = self._latest.get(path)
        self._trace.attempts.append(attempt)
        self._open[path] = self._latest[path] = attempt

    def _end(self, status: str, event: WireEvent, at_us: int) -> None:
        attempt = self._open.pop(event["path"], None)
        if attempt is None and not self._trace.missed:
            attempt = self._stored(event)
        if attempt is not None:
            attempt.ended_us, attempt.ended_seq, attempt.status = at_us, event["seq"], status
            attempt.error = event.get("error")
        self._ended_us = at_us

    def _stored(self, event: WireEvent) -> Attempt:
        """The attempt that ends with `event` in a run that only a store knows, whose records tell when steps ended and no more.

        It is taken to begin with the end of the one before it.
        """
        began_us = max(self._ended_us, self._trace.began_us)
        attempt = Attempt(event["node"], event["path"], event["attempt"], began_us, began_us, event["seq"])
        attempt.before = self._latest.get(attempt.path)
        self._trace.attempts.append(attempt)
        self._latest[attempt.path] = attempt
        return attempt

    def _end_call(self, event: WireEvent, at_us: int) -> None:
        call = self._calls.get(event["call"])
        if call is None:
            return
        call.ended_us, call.finish_reason = at_us, event.get("finish_reason")
        error: Mapping[str, Any] = event.get("error") or {}
        call.error = error.get("type")
        call.requests = event.get("requests") or 0
        call.prompt_tokens, call.completion_tokens = event.get("prompt_tokens") or 0, event.get("completion_tokens") or 0
        call.cost_usd = event.get("cost_usd") or 0.0
        call.made = tuple(map(_request, event.get("made") or ()))

    def _enclosing(self, path: str) -> Attempt | None:
        """The innermost attempt in progress that `path` is a part of."""
        found = [attempt for attempt in self._open.values() if attempt.encloses(path)]
        return max(found, key=lambda attempt: len(attempt.path), default=None)


def _us(seconds: float | None) -> int:
    """Whole microseconds."""
    return round((seconds or 0.0) * 1e6)


def _request(told: Mapping[str, Any]) -> CallRequest:
    used: Mapping[str, Any] = told.get("usage") or {}
    sent_s = told.get("sent_s")
    return CallRequest(
        _us(told.get("asked_s")),
        None if sent_s is None else _us(sent_s),
        _us(told.get("ended_s")),
        told.get("error"),
        bool(told.get("is_answered")),
        used.get("prompt_tokens") or 0,
        used.get("completion_tokens") or 0,
        used.get("cost_usd") or 0.0,
    )
