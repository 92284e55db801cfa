"""What observers cost: a step of a graph and an ask between actors, with each of them."""

from __future__ import annotations

import gc
from collections.abc import Callable, Mapping, Sequence
from time import process_time
from typing import Any, Final, final

import attrs
import trio
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF
from prometheus_client import CollectorRegistry

from actors import Actor, Graph
from runtime import NodeFinished, NodeStarted, open_runtime
from runtime.core.instruments import Instrument, TellUnmade
from runtime.graphs.records.run_record import Step
from runtime.telemetry import PrometheusMetrics, Tracing, genai
from runtime.traces import Recorder, Recording

STEPS: Final = 40
"""Of one run."""


@attrs.frozen
class Number:
    left: int


@attrs.frozen
class Done:
    left: int


chain = Graph("chain", input=Number, output=Done)


@chain.node
async def step(number: Number) -> Number | Done:
    return Number(number.left - 1) if number.left > 1 else Done(0)


class Echo(Actor):
    async def receive(self, message: Number) -> Number:
        return message


class _Nowhere(SpanExporter):
    """Takes spans as fast as a network never would."""

    def export(self, spans: Sequence[Any]) -> SpanExportResult:
        return SpanExportResult.SUCCESS


def _sampled_out() -> Any:
    return Tracing(TracerProvider(sampler=ALWAYS_OFF))


def _batching() -> TracerProvider:
    provider = TracerProvider()
    provider.add_span_processor(BatchSpanProcessor(_Nowhere()))
    return provider


def _batched() -> Any:
    return Tracing(_batching())


@final
class _SpansAlone(Instrument):
    """A span of the SDK for each attempt, and nothing else: what no way of making spans can be cheaper than."""

    kinds = (NodeStarted, NodeFinished)

    def __init__(self) -> None:
        self._tracer = _batching().get_tracer("alone")
        self._within = trace.set_span_in_context(self._tracer.start_span("run"))
        self._spans: dict[str, Any] = {}

    def method_for(self, kind: type[Any]) -> Callable[[Any], object]:
        return _ignore

    def unmade_method_for(self, kind: type[Any]) -> TellUnmade:
        return self._begin if kind is NodeStarted else self._end

    def _begin(self, run_id: str, step: Step, at_s: float, _: object) -> None:
        fields: dict[str, Any] = {
            genai.RUN_ID: run_id,
            genai.NODE: step.node,
            genai.PATH: step.path,
            genai.ATTEMPT: step.attempt,
            genai.WAITED_S: at_s - step.delivered_at_s,
        }
        self._spans[step.path] = self._tracer.start_span(step.node, context=self._within, attributes=fields)

    def _end(self, run_id: str, step: Step, at_s: float, _: object) -> None:
        self._spans.pop(step.path).end()


def _ignore(_: object) -> None:
    pass


SINKS: Final[Mapping[str, Callable[[], Sequence[Any]]]] = {
    "nothing": list,
    "sink": lambda: [_ignore],
    "recorder": lambda: [Recorder(Recording())],
    "sampled out": lambda: [_sampled_out()],
    "SDK and batch": lambda: [_batched()],
    "SDK alone": lambda: [_SpansAlone()],
    "Prometheus": lambda: [PrometheusMetrics(CollectorRegistry())],
}
"""By name, what makes the instruments."""


def span_cost_us(spans: int, *, fields: bool) -> float:
    """CPU of one span of the SDK into a batch, in µs, in a loop of its own: with the attributes of a step, or with none."""
    tracer = _batching().get_tracer("loop")
    within = trace.set_span_in_context(tracer.start_span("run"))
    about: dict[str, Any] = {
        genai.RUN_ID: "a" * 22,
        genai.NODE: "step",
        genai.PATH: "step/0",
        genai.ATTEMPT: 1,
        genai.WAITED_S: 0.0,
    }
    gc.collect()
    before_s = process_time()
    for _ in range(spans):
        tracer.start_span("step", context=within, attributes=dict(about) if fields else None).end()
    return (process_time() - before_s) / spans * 1e6


def step_cost_us(made: Callable[[], Sequence[Any]], runs: int) -> float:
    """CPU of one step, in µs, of so many runs."""

    async def main() -> float:
        async with open_runtime(instruments=made(), graphs=[chain]) as runtime:
            await runtime.run(chain, Number(STEPS))
            gc.collect()
            before_s = process_time()
            for _ in range(runs):
                await runtime.run(chain, Number(STEPS))
            return (process_time() - before_s) / (runs * STEPS) * 1e6

    return trio.run(main)


def ask_cost_us(made: Callable[[], Sequence[Any]], asks: int) -> float:
    """CPU of one ask, in µs."""

    async def main() -> float:
        async with open_runtime(instruments=made()) as runtime:
            echo = await runtime.spawn(Echo)
            await echo.ask(Number(1))
            gc.collect()
            before_s = process_time()
            for _ in range(asks):
                await echo.ask(Number(1))
            return (process_time() - before_s) / asks * 1e6

    return trio.run(main)
