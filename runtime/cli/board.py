"""What is known of a running graph from its events: per node what it does and has done, and the words for it. Pure.

All foreign text - of models, providers, exceptions - is made plain before a view gets it, so it cannot act on a terminal.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Final, final

import attrs

from actors.lm import TextDelta
from actors.words import repr_of, said
from runtime.cli.terminal import one_line, plain
from runtime.core.events import Event, EventsMissed
from runtime.graphs.records.run_events import (
    LMCalled,
    LMCallStarted,
    LMDelta,
    NodeCancelled,
    NodeEvent,
    NodeFellBack,
    NodeFinished,
    NodeGaveUp,
    NodeReported,
    NodeRetrying,
    NodeSlowToStop,
    NodeStarted,
    QuestionAnswered,
    QuestionAsked,
    RunFinished,
    SignalTaken,
    ToolCalled,
    ToolCallStarted,
)

MOST_SAID: Final = 2000
"""Characters that are kept of an answer on its way: its end."""


@final
@attrs.define(eq=False)
class Row:
    """One node."""

    name: str
    running: dict[str, int] = attrs.field(factory=dict[str, int])
    """Path → attempt of each message it works on."""
    to_redeliver: set[str] = attrs.field(factory=set[str])
    """The paths of messages that failed and will be delivered again."""
    slow: set[str] = attrs.field(factory=set[str])
    """The paths of messages whose time is up while it still works on them."""
    done: int = 0
    redelivered: int = 0
    fell_back: int = 0
    gave_up: int = 0
    cancelled: int = 0
    calls: int = 0
    tokens: int = 0
    error: str = ""
    """The last one, on one line."""
    report: str = ""
    """How far it says it is, on one line."""
    asks: dict[tuple[str, int], str] = attrs.field(factory=dict[tuple[str, int], str])
    """The models that it waits for, by the path and the number of the call."""
    tools: dict[str, str] = attrs.field(factory=dict[str, str])
    """The tools at work for it, by the paths of the calls."""
    changed: int = 0
    """The number of the last event; 0: none yet."""

    @property
    def urgency(self) -> int:
        """0 for what a reader must see first; grows up to 4."""
        if self.gave_up or self.slow:
            return 0
        if self.to_redeliver:
            return 1
        if self.running:
            return 2
        return 3 if self.changed else 4

    def doing(self, times: str = "×") -> str:
        """What it waits for, and how far it says it is, on one line; empty if nothing is known."""
        counts = Counter([f"asks {model}" for model in self.asks.values()] + [f"calls {tool}" for tool in self.tools.values()])
        parts = [f"{words} {times}{count}" if count > 1 else words for words, count in counts.items()]
        return ", ".join([*parts, self.report] if self.report else parts)

    def states(self, times: str = "×") -> list[tuple[str, str]]:
        """What it does and has done, most urgent first, as (style, words); the styles are those of ``Style``."""
        attempts = list(self.running.values())
        attempt = f" (attempt {attempts[0]})" if len(attempts) == 1 and attempts[0] > 1 else ""
        counts = (
            ("bad", "failed", self.gave_up),
            ("bad", "slow to stop", len(self.slow)),
            ("bad", "will be redelivered", len(self.to_redeliver)),
            ("accent", f"running{attempt}", len(self.running) - len(self.slow)),
            ("good", "done", self.done),
            ("dim", "redelivered", self.redelivered - len(self.to_redeliver)),
            ("dim", "fell back", self.fell_back),
            ("dim", "cancelled", self.cancelled),
        )
        found = [(style, f"{word} {times}{count}" if count > 1 else word) for style, word, count in counts if count > 0]
        return found or [("dim", "waiting")]


@final
class Board:
    """All nodes of one run, kept by :meth:`note`."""

    def __init__(self, graph: str, nodes: Iterable[str]) -> None:
        self.graph = graph
        self.rows = {name: Row(name) for name in nodes}
        self.messages = 0
        """How often a node was given one to work on."""
        self.calls = self.tokens = 0
        self.cost_usd: float | None = None
        """None until a call has a price."""
        self.said = ""
        """The end of the last answer that streams or has streamed."""
        self.said_by = ""
        self.missed = 0
        """Events that came too fast to be counted."""
        self.ended = ""
        """The run's status once it is over."""
        self._events = 0
        self._answer: tuple[str, int] | None = None

    def note(self, event: Event) -> str | None:
        """Take in an event; the words for it, when it is worth its own line."""
        self._events += 1
        if isinstance(event, EventsMissed):
            self.missed += event.count
            return f"{event.count} events came too fast to be shown"
        if isinstance(event, RunFinished):
            self.ended = event.status
        if not isinstance(event, NodeEvent):
            return None
        row = self.rows.setdefault(event.node, Row(event.node))
        row.changed = self._events
        words = self._node(row, event)
        return f"{event.node} {words}" if words else None

    def now(self) -> str:
        """What is at work, in words."""
        parts = [
            row.name if attempt == 1 else f"{row.name} (attempt {attempt})"
            for row in self.rows.values()
            for attempt in row.running.values()
        ]
        return f"at work: {', '.join(parts)}" if parts else "nothing is at work"

    def spent(self) -> str:
        """What the calls to language models came to; empty without any."""
        if not self.calls:
            return ""
        cost = "" if self.cost_usd is None else f", ${self.cost_usd:.4f}"
        return f"{self.calls} call{'s' if self.calls > 1 else ''}, {self.tokens:,} tokens{cost}"

    def chosen(self, most: int) -> Sequence[Row]:
        """The rows to show where there is room for `most`: the most urgent, then the latest; in the order of declaration."""
        if len(self.rows) <= most:
            return list(self.rows.values())
        kept = sorted(self.rows.values(), key=lambda row: (row.urgency, -row.changed))[: max(most, 0)]
        names = {row.name for row in kept}
        return [row for row in self.rows.values() if row.name in names]

    def _node(self, row: Row, event: NodeEvent) -> str | None:
        if isinstance(event, LMDelta):
            self._hear(event)
            return None
        if isinstance(event, LMCallStarted):
            row.asks[event.path, event.call] = one_line(event.model)
            return None
        if isinstance(event, LMCalled):
            row.asks.pop((event.path, event.call), None)
            return self._book(row, event)
        if isinstance(event, ToolCallStarted):
            row.tools[event.path] = one_line(event.tool)
            return None
        if isinstance(event, ToolCalled):
            row.tools.pop(event.path, None)
            row.report = ""
            failed = "" if event.error is None else f", which failed: {one_line(said(event.error))}"
            return f"called the tool {one_line(event.tool)} in {event.duration_s:.3f} s{failed}"
        if isinstance(event, NodeReported):
            of = "" if event.done is None else f" ({event.done:g}{'' if event.of is None else f' of {event.of:g}'})"
            row.report = f"{one_line(event.text)}{of}"
            return f"reports: {row.report}"
        if isinstance(event, QuestionAsked | QuestionAnswered | SignalTaken):
            return _heard(row, event)
        path = event.path
        if isinstance(event, NodeStarted):
            self.messages += 1
            row.to_redeliver.discard(path)
            row.running[path] = event.attempt
            return "starts" if event.attempt == 1 else f"starts again (attempt {event.attempt})"
        if isinstance(event, NodeSlowToStop):
            row.slow.add(path)
            return f"is slow to stop: its time was up {event.overdue_s:.3g} s ago, and it continues"
        if isinstance(event, NodeFinished | NodeRetrying | NodeFellBack | NodeGaveUp | NodeCancelled):
            row.running.pop(path, None)
            row.report = ""
            row.tools = {call: tool for call, tool in row.tools.items() if not call.startswith(f"{path}/")}
            row.asks = {call: model for call, model in row.asks.items() if call[0] != path}
            row.slow.discard(path)
            return self._end(row, event)
        return None

    def _end(self, row: Row, event: NodeFinished | NodeRetrying | NodeFellBack | NodeGaveUp | NodeCancelled) -> str:
        if isinstance(event, NodeFinished):
            row.done += 1
            return "finished"
        if isinstance(event, NodeCancelled):
            row.cancelled += 1
            row.to_redeliver.discard(event.path)
            return "was cancelled"
        row.error = one_line(said(event.error))
        if isinstance(event, NodeRetrying):
            row.redelivered += 1
            row.to_redeliver.add(event.path)
            return f"failed and will be tried again: {row.error}"
        row.to_redeliver.discard(event.path)
        if isinstance(event, NodeFellBack):
            row.fell_back += 1
            return f"failed and falls back: {row.error}"
        row.gave_up += 1
        return "gave up"

    def _hear(self, event: LMDelta) -> None:
        if self._answer != (event.path, event.attempt):
            self._answer, self.said, self.said_by = (event.path, event.attempt), "", event.node
        if isinstance(event.delta, TextDelta):
            # A sequence may come in two pieces, so what is kept is made plain when it is read.
            self.said = (self.said + event.delta.text)[-MOST_SAID:]

    def _book(self, row: Row, event: LMCalled) -> str:
        tokens = event.prompt_tokens + event.completion_tokens
        row.calls += 1
        row.tokens += tokens
        self.calls += 1
        self.tokens += tokens
        if event.cost_usd is not None:
            self.cost_usd = (self.cost_usd or 0.0) + event.cost_usd
        self._answer = None
        requests = f" in {event.requests} requests" if event.requests > 1 else ""
        return f"called {one_line(event.model)}{requests}: {tokens:,} tokens, {event.duration_s:.3f} s"


def last_words(board: Board, most: int) -> str:
    """The end of the last answer, on one line of at most `most` characters, safe to show."""
    text = " ".join(plain(board.said).split())
    return text if len(text) <= most else f"…{text[len(text) - most + 1 :]}"


def _heard(row: Row, event: QuestionAsked | QuestionAnswered | SignalTaken) -> str:
    """What a node has to do with people."""
    if isinstance(event, SignalTaken):
        return f"hears {one_line(event.key)}: {one_line(repr_of(event.signal))}"
    if isinstance(event, QuestionAsked):
        row.report = f"waits for {one_line(event.to or 'a person')}"
        return (
            f"asks {one_line(event.to or 'a person')} about {one_line(repr_of(event.asks))}: question {one_line(event.question)}"
        )
    row.report = ""
    if event.timed_out:
        return "had no answer in time"
    return f"was answered by {one_line(event.by or 'a person')}: {one_line(repr_of(event.answer))}"
