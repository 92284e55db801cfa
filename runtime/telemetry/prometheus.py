"""Metrics for Prometheus: counts and gauges are read when it scrapes, durations are histograms fed by events."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from itertools import accumulate
from types import MethodType
from typing import TYPE_CHECKING, Any, Final, final

import attrs
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric

from actors.errors import UsageError
from runtime.core.events import Event
from runtime.core.instruments import Instrument, TellUnmade
from runtime.graphs.records.run_events import (
    LMCalled,
    NodeEvent,
    NodeFellBack,
    NodeFinished,
    NodeGaveUp,
    NodeRetrying,
    NodeStarted,
    RunFinished,
    RunStarted,
)
from runtime.graphs.records.run_record import Step

if TYPE_CHECKING:
    from runtime.app import Runtime

_RUN_S: Final = (0.1, 0.3, 1, 3, 10, 30, 100, 300, 1000)
_CALL_S: Final = (0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 60)


@final
@attrs.define(eq=False)
class _Run:
    """A run in progress."""

    graph: str
    since_s: float
    seconds: dict[str, list[float]]
    """By node, what is noted of its graph's attempts."""
    started: dict[str, float] = attrs.field(factory=dict[str, float])
    """When the latest attempt at each message began, by path."""


@final
class _Seconds:
    """Durations as they are noted; a histogram when it is scraped.

    Prometheus' own histogram takes a lock for each bucket that a duration falls into. These are noted in the one thread of trio.
    """

    def __init__(self, name: str, text: str, labels: tuple[str, ...], bounds: tuple[float, ...]) -> None:
        self._name, self._text, self._labels = name, text, labels
        self._bounds = bounds
        self._noted: dict[tuple[str, ...], list[float]] = {}
        """By the values of the labels: how many lie between two bounds, how many above all of them, and the sum."""

    def noted(self, labels: tuple[str, ...]) -> list[float]:
        """What is noted under these values of the labels."""
        noted = self._noted.get(labels)
        if noted is None:
            noted = self._noted[labels] = [0] * (len(self._bounds) + 2)
        return noted

    def note(self, labels: tuple[str, ...], seconds: float) -> None:
        """Count one duration."""
        noted = self.noted(labels)
        noted[bisect_left(self._bounds, seconds)] += 1
        noted[-1] += seconds

    def family(self) -> HistogramMetricFamily:
        """The durations so far."""
        family = HistogramMetricFamily(self._name, self._text, labels=self._labels)
        bounds = [*(repr(float(bound)) for bound in self._bounds), "+Inf"]
        for labels, (*counts, total) in list(self._noted.items()):
            family.add_metric(labels, list(zip(bounds, accumulate(counts), strict=True)), total)
        return family


@final
class PrometheusMetrics(Instrument):
    """An instrument and a collector: ``open_runtime(instruments=[PrometheusMetrics(registry)])``.

    Actors, mailboxes, restarts, dead letters and runs in progress are read from the runtime when `registry` is scraped, so they
    cost nothing in between; runs that ended, durations and calls of language models come from events. Labels are graphs, nodes,
    models and statuses, never ids of runs.

    Args:
        registry: where the metrics are registered: ``prometheus_client.REGISTRY``, or one for each runtime; None makes one.
    """

    def __init__(self, registry: CollectorRegistry | None = None) -> None:
        registry = CollectorRegistry() if registry is None else registry
        self.kinds: tuple[type[Event], ...] = tuple(_ABOUT)
        """The classes of events that it is called with."""
        self._runtime: Runtime | None = None
        self._runs: dict[str, _Run] = {}
        """Those in progress, by id."""
        self._seconds: dict[str, dict[str, list[float]]] = {}
        """By graph and node, what is noted of attempts; the same lists as in ``_node_s``, without a tuple to find them by."""
        self._ended: Counter[tuple[str, str]] = Counter()
        self._failed: Counter[tuple[str, str]] = Counter()
        self._calls: Counter[tuple[str, str]] = Counter()
        self._tokens: Counter[tuple[str, str]] = Counter()
        self._cost: dict[str, float] = {}
        self._run_s = _Seconds("understudy_run_duration_seconds", "How long runs took.", ("graph", "status"), _RUN_S)
        self._node_s = _Seconds("understudy_node_duration_seconds", "How long attempts took.", ("graph", "node"), _RUN_S)
        self._call_s = _Seconds("understudy_lm_call_duration_seconds", "How long calls took.", ("model",), _CALL_S)
        self._first_s = _Seconds("understudy_lm_first_token_seconds", "Until the first piece.", ("model",), _CALL_S)
        registry.register(self)
        self._registry = registry

    def exposition(self) -> tuple[bytes, str]:
        """All metrics of the registry as they are now, in the form that Prometheus reads, and its media type."""
        return generate_latest(self._registry), CONTENT_TYPE_LATEST

    def opened(self, runtime: Runtime) -> None:
        """Read the figures of `runtime` from now on.

        Raises:
            UsageError: it has a runtime already.
        """
        if self._runtime is not None:
            raise UsageError(
                "PrometheusMetrics belongs to one runtime, and was given a second one.\n"
                "  Fix: make one for each, each with its own CollectorRegistry()."
            )
        self._runtime = runtime

    def method_for(self, kind: type[Event]) -> Callable[[Any], None]:
        """See :class:`Instrument`."""
        return MethodType(_ABOUT.get(kind, PrometheusMetrics.ignore), self)

    def unmade_method_for(self, kind: type[Event]) -> TellUnmade | None:
        """See :class:`Instrument`."""
        return self._attempt_begins if kind is NodeStarted else self._attempt_ends_well if kind is NodeFinished else None

    def ignore(self, event: Event) -> None:
        """Count nothing."""

    def begin_run(self, event: RunStarted) -> None:
        """A run was accepted."""
        seconds = self._seconds.get(event.graph)
        if seconds is None:
            seconds = self._seconds[event.graph] = {}
        self._runs[event.run_id] = _Run(event.graph, event.at_s, seconds)

    def end_run(self, event: RunFinished[Any]) -> None:
        """A run has ended."""
        run = self._runs.pop(event.run_id, None)
        if run is not None:  # else it began before this was there
            self._ended[run.graph, str(event.status)] += 1
            self._run_s.note((run.graph, str(event.status)), event.at_s - run.since_s)

    def begin_attempt(self, event: NodeStarted) -> None:
        """A node begins to work on a message."""
        run = self._runs.get(event.run_id)
        if run is not None:
            run.started[event.path] = event.at_s

    def end_attempt(self, event: NodeEvent) -> None:
        """The attempt has ended, well or not."""
        run = self._runs.get(event.run_id)
        if run is None:
            return
        self._note_attempt(run, event.node, event.path, event.at_s)
        if type(event) is not NodeFinished:
            self._failed[run.graph, event.node] += 1

    def _attempt_begins(self, run_id: str, step: Step, at_s: float, _: object) -> None:
        run = self._runs.get(run_id)
        if run is not None:
            run.started[step.path] = at_s

    def _attempt_ends_well(self, run_id: str, step: Step, at_s: float, _: object) -> None:
        run = self._runs.get(run_id)
        if run is not None:
            self._note_attempt(run, step.node, step.path, at_s)

    def _note_attempt(self, run: _Run, node: str, path: str, at_s: float) -> None:
        since_s = run.started.pop(path, None)
        if since_s is None:
            return
        noted = run.seconds.get(node)
        if noted is None:
            noted = run.seconds[node] = self._node_s.noted((run.graph, node))
        seconds = at_s - since_s
        noted[bisect_left(_RUN_S, seconds)] += 1
        noted[-1] += seconds

    def end_call(self, event: LMCalled) -> None:
        """A call of a language model has ended."""
        outcome = "answered" if event.finish_reason is not None else "failed" if event.error is not None else "other"
        self._calls[event.model, outcome] += 1
        self._tokens[event.model, "input"] += event.prompt_tokens
        self._tokens[event.model, "output"] += event.completion_tokens
        self._cost[event.model] = self._cost.get(event.model, 0.0) + (event.cost_usd or 0.0)
        self._call_s.note((event.model,), event.duration_s)
        if event.first_token_s is not None:
            self._first_s.note((event.model,), event.first_token_s)

    def collect(self) -> Iterator[Metric]:
        """The counts and gauges as they are now; called when Prometheus scrapes."""
        yield _counted("understudy_runs", "Runs that ended.", ("graph", "status"), self._ended)
        yield _counted("understudy_node_failures", "Attempts that failed.", ("graph", "node"), self._failed)
        yield _counted("understudy_lm_calls", "Calls of language models.", ("model", "outcome"), self._calls)
        yield _counted("understudy_lm_tokens", "Tokens used.", ("model", "direction"), self._tokens)
        cost = CounterMetricFamily("understudy_lm_cost_usd", "What the calls cost, where a price is known.", labels=["model"])
        for model, usd in list(self._cost.items()):  # a scrape may come from another thread
            cost.add_metric([model], usd)
        yield cost
        for seconds in (self._run_s, self._node_s, self._call_s, self._first_s):
            yield seconds.family()
        if self._runtime is not None:
            yield from _of_runtime(self._runtime)


_ABOUT: Final[Mapping[type[Event], Callable[[PrometheusMetrics, Any], None]]] = {
    RunStarted: PrometheusMetrics.begin_run,
    RunFinished: PrometheusMetrics.end_run,
    NodeStarted: PrometheusMetrics.begin_attempt,
    **dict.fromkeys((NodeFinished, NodeRetrying, NodeFellBack, NodeGaveUp), PrometheusMetrics.end_attempt),
    LMCalled: PrometheusMetrics.end_call,
}


def _of_runtime(runtime: Runtime) -> Iterator[Metric]:
    statistics = runtime.statistics()
    in_progress: Counter[tuple[str, str]] = Counter((run.graph, str(run.status)) for run in runtime.runs().values())
    running = GaugeMetricFamily("understudy_runs_running", "Runs in progress.", labels=["graph", "status"])
    for labels, count in in_progress.items():
        running.add_metric(list(labels), count)
    yield running
    waiting = handled = failed = restarts = 0
    states: Counter[str] = Counter()
    for some in statistics.slices():
        for actor in some.values():
            states[str(actor.state)] += 1
            waiting += actor.mailbox.depth
            handled += actor.handled
            failed += actor.failed
            restarts += actor.restarts
    actors = GaugeMetricFamily("understudy_actors", "Actors there are.", labels=["state"])
    for state, count in states.items():
        actors.add_metric([state], count)
    yield actors
    yield GaugeMetricFamily("understudy_mailbox_messages", "Messages that wait in mailboxes.", value=waiting)
    yield GaugeMetricFamily("understudy_handled_messages", "Messages handled by the actors there are.", value=handled)
    yield GaugeMetricFamily("understudy_failed_deliveries", "Deliveries that crashed the actors there are.", value=failed)
    yield GaugeMetricFamily("understudy_restarts", "Restarts of the actors there are.", value=restarts)
    yield CounterMetricFamily("understudy_dead_letters", "Messages that reached no actor.", value=statistics.dead_letters)
    flying: Counter[str] = Counter()
    in_flight = GaugeMetricFamily("understudy_lm_requests_in_flight", "Requests to language models in flight.", labels=["model"])
    for model in runtime.model_statistics():
        if model.is_client:
            flying[model.model] += model.in_flight
    for name, count in flying.items():
        in_flight.add_metric([name], count)
    yield in_flight


def _counted(name: str, text: str, labels: tuple[str, str], counts: Counter[tuple[str, str]]) -> CounterMetricFamily:
    family = CounterMetricFamily(name, text, labels=list(labels))
    for values, count in list(counts.items()):
        family.add_metric(list(values), count)
    return family
