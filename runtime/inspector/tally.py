"""What the recorded events of runs add up to: figures of nodes, of edges and of models.

Counted when somebody looks, and each event once: a service that no one looks at pays nothing for it. What the recorder has
forgotten by then is not counted.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable, Sequence
from typing import Any, Final, cast, final

import attrs
import trio

from runtime.core.events import Event
from runtime.graphs.records.run_events import (
    LMCalled,
    LMCallStarted,
    NodeCancelled,
    NodeEmitted,
    NodeFellBack,
    NodeFinished,
    NodeGaveUp,
    NodeRetrying,
    NodeStarted,
    RunFinished,
    RunResumed,
    RunStarted,
)
from runtime.traces.kept_run import RunRecord
from runtime.traces.recorder import RunRecords

SLICE: Final = 500
"""Events that are counted before other tasks get their turn: about a millisecond."""
LATEST: Final = 200
"""Of how many durations the quantiles are."""


@final
@attrs.define(eq=False)
class Durations:
    """How long something took: all of it, and the latest."""

    count: int = 0
    total_s: float = 0.0
    longest_s: float = 0.0
    latest: deque[float] = attrs.field(factory=lambda: deque[float](maxlen=LATEST))

    def add(self, duration_s: float) -> None:
        """One more."""
        self.count += 1
        self.total_s += duration_s
        self.longest_s = max(self.longest_s, duration_s)
        self.latest.append(duration_s)

    def told(self) -> dict[str, Any]:
        """The mean of all, and the median and the 95th percentile of the latest, in seconds."""
        if not self.count:
            return {"count": 0}
        ordered = sorted(self.latest)
        return {
            "count": self.count,
            "mean_s": round(self.total_s / self.count, 6),
            "median_s": round(ordered[len(ordered) // 2], 6),
            "p95_s": round(ordered[min(len(ordered) - 1, int(len(ordered) * 0.95))], 6),
            "longest_s": round(self.longest_s, 6),
        }


@final
@attrs.define(eq=False)
class NodeFigures:
    """What one node of one graph has done."""

    started: int = 0
    finished: int = 0
    retried: int = 0
    failed: int = 0
    """Messages that it gave up, or left to its fallback."""
    cancelled: int = 0
    running: int = 0
    """Attempts that have begun and not ended."""
    durations: Durations = attrs.field(factory=Durations)
    waited: Durations = attrs.field(factory=Durations)
    made: Counter[str] = attrs.field(factory=Counter[str])
    """How many messages it has made, by the name of their type."""

    def told(self) -> dict[str, Any]:
        """As JSON."""
        return {
            "started": self.started,
            "finished": self.finished,
            "retried": self.retried,
            "failed": self.failed,
            "cancelled": self.cancelled,
            "running": self.running,
            "took": self.durations.told(),
            "waited": self.waited.told(),
            "made": dict(self.made),
        }


@final
@attrs.define(eq=False)
class ModelFigures:
    """What calls of one model came to."""

    calls: int = 0
    in_flight: int = 0
    failed: int = 0
    from_cache: int = 0
    requests: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int = 0
    cost_usd: float = 0.0
    durations: Durations = attrs.field(factory=Durations)
    first_token: Durations = attrs.field(factory=Durations)
    last_error: str | None = None
    """The class of the last failure."""

    def told(self) -> dict[str, Any]:
        """As JSON."""
        plain = ("calls", "in_flight", "failed", "from_cache", "requests", "prompt_tokens", "completion_tokens", "cached_tokens")
        return {
            **{name: getattr(self, name) for name in plain},
            "cost_usd": round(self.cost_usd, 8),
            "took": self.durations.told(),
            "first_token": self.first_token.told(),
            "last_error": self.last_error,
        }


@final
@attrs.define(eq=False)
class _Progress:
    """How far the events of one run have been counted, and what of it is open."""

    record: RunRecord
    counted: int = 0
    """How many of those that this process has heard of; what was before them can still come, and change their numbers."""
    began: dict[tuple[str, int], tuple[str, float]] = attrs.field(factory=dict[tuple[str, int], tuple[str, float]])
    """Attempts in progress: node, and when it began, by path and attempt."""
    calls: dict[int, str] = attrs.field(factory=dict[int, str])
    """Calls of models in progress: the model, by the number of the call."""


@final
class Tally:
    """Figures from the events of `records`."""

    def __init__(self, records: RunRecords) -> None:
        self._records = records
        self._progress: dict[str, _Progress] = {}
        self.nodes: dict[tuple[str, str], NodeFigures] = {}
        """By graph and node."""
        self.models: dict[str, ModelFigures] = {}
        self.inputs: Counter[tuple[str, str]] = Counter()
        """Runs begun, by graph and by the name of the input's type."""

    async def catch_up(self) -> None:
        """Count what has come since the last time; lets other tasks in between. A checkpoint."""
        await trio.lowlevel.checkpoint()
        kept = {record.id: record for record in self._records.newest_first()}
        for run_id in [run_id for run_id in self._progress if run_id not in kept]:
            self._close(self._progress.pop(run_id))
        counted = 0
        for record in kept.values():
            progress = self._progress.get(record.id)
            if progress is None or progress.record is not record:  # another run has its id now
                progress = self._progress[record.id] = _Progress(record)
            next_seq = record.first_here + progress.counted
            for entry in record.after(next_seq - 1) if record.next_seq > next_seq else ():
                progress.counted = entry.seq + 1 - record.first_here
                self._count(record.graph, progress, entry.event)
                counted += 1
                if not counted % SLICE:
                    await trio.lowlevel.checkpoint()

    def _node(self, graph: str, node: str) -> NodeFigures:
        found = self.nodes.get((graph, node))
        if found is None:
            found = self.nodes[graph, node] = NodeFigures()
        return found

    def _model(self, model: str) -> ModelFigures:
        found = self.models.get(model)
        if found is None:
            found = self.models[model] = ModelFigures()
        return found

    def _count(self, graph: str, progress: _Progress, event: Event) -> None:
        match event:
            case RunStarted() | RunResumed():
                for name in _types_of([getattr(event, "input", None)]):
                    self.inputs[graph, name] += 1
            case NodeStarted():
                figures = self._node(graph, event.node)
                figures.started += 1
                figures.running += 1
                figures.waited.add(event.waited_s)
                progress.began[event.path, event.attempt] = (event.node, event.at_s)
            case NodeFinished() | NodeRetrying() | NodeFellBack() | NodeGaveUp() | NodeCancelled():
                self._count_end(graph, progress, event)
            case NodeEmitted():
                self._node(graph, event.node).made.update(_types_of([event.output]))
            case LMCallStarted():
                self._model(event.model).in_flight += 1
                progress.calls[event.call] = event.model
            case LMCalled():
                self._count_call(progress, event)
            case RunFinished():
                self._close(progress, graph)
            case _:
                pass

    def _count_end(
        self, graph: str, progress: _Progress, event: NodeFinished | NodeRetrying | NodeFellBack | NodeGaveUp | NodeCancelled
    ) -> None:
        figures = self._node(graph, event.node)
        began = progress.began.pop((event.path, event.attempt), None)
        if began is not None:
            figures.running -= 1
            figures.durations.add(event.at_s - began[1])
        match event:
            case NodeFinished():
                figures.finished += 1
                many: Any = event.output
                figures.made.update(_types_of(cast("list[object]", many) if isinstance(many, list | tuple) else [many]))
            case NodeRetrying():
                figures.retried += 1
            case NodeCancelled():
                figures.cancelled += 1
            case _:
                figures.failed += 1

    def _count_call(self, progress: _Progress, event: LMCalled) -> None:
        figures = self._model(event.model)
        if progress.calls.pop(event.call, None) is not None:
            figures.in_flight -= 1
        figures.calls += 1
        figures.from_cache += event.from_cache
        figures.requests += event.requests
        figures.prompt_tokens += event.prompt_tokens
        figures.completion_tokens += event.completion_tokens
        figures.cached_tokens += event.cached_tokens
        figures.cost_usd += event.cost_usd or 0.0
        figures.durations.add(event.duration_s)
        if event.first_token_s is not None:
            figures.first_token.add(event.first_token_s)
        if event.error is not None:
            figures.failed += 1
            figures.last_error = type(event.error).__name__

    def _close(self, progress: _Progress, graph: str | None = None) -> None:
        """Nothing of the run is in progress any more."""
        for node, _ in progress.began.values():
            self._node(graph or progress.record.graph, node).running -= 1
        for model in progress.calls.values():
            self._model(model).in_flight -= 1
        progress.began.clear()
        progress.calls.clear()


def _types_of(messages: Sequence[object] | Iterable[object]) -> list[str]:
    return [type(message).__name__ for message in messages if message is not None]
