"""An instrument that is the only one is told of steps without events; what it makes of them must not depend on that."""

from __future__ import annotations

import contextlib
import logging
import random
from collections.abc import Callable
from typing import Any

import attrs
import pytest
import trio
import trio.testing
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from prometheus_client import CollectorRegistry, generate_latest

from actors import Backoff, Graph, Redelivery, RunFailed
from runtime import NodeFinished, NodeStarted, open_runtime
from runtime.core.instruments import Instrument, TellUnmade
from runtime.telemetry import LogEvents, PrometheusMetrics, Tracing
from runtime.traces import Recorder, Recording
from tests.runtime.graphs.stage import EXACT


@attrs.frozen
class Number:
    n: int


@attrs.frozen
class Text:
    text: str


@attrs.frozen
class Part:
    text: str


@attrs.frozen
class Loud:
    text: str


def graph_of_steps() -> Graph:
    """A loop whose attempts fail once each, a nested graph, and a node that gives up on what came of a number above 3."""
    inner, graph = Graph("inner", input=Part, output=Loud), Graph("steps", input=Number, output=Text, supervision=EXACT)
    tried = set[int]()

    @inner.node
    async def shout(part: Part) -> Loud:
        await trio.sleep(0.5)
        return Loud(part.text.upper())

    @graph.node(redelivery=Redelivery(max_attempts=2, backoff=Backoff(first_s=2, jitter=0)))
    async def count(number: Number) -> Number | Part:
        await trio.sleep(0.1)
        if number.n not in tried:
            tried.add(number.n)
            raise OSError(f"number {number.n}")
        return Number(number.n + 1) if number.n < 3 else Part("a" if number.n == 3 else "b")

    graph.add(inner)

    @graph.node
    async def end(loud: Loud) -> Text:
        if loud.text == "A":
            return Text(loud.text)
        raise ValueError(loud.text)

    return graph


Made = tuple[Any, Callable[[], object]]


def spans() -> Made:
    provider, exporter = TracerProvider(), InMemorySpanExporter()
    provider.add_span_processor(SimpleSpanProcessor(exporter))

    def seen() -> object:
        ended = exporter.get_finished_spans()
        names = {span.context.span_id: span.name for span in ended if span.context is not None}
        return [
            (
                span.name,
                dict(span.attributes or {}),
                (span.status.status_code, span.status.description),
                span.parent and names.get(span.parent.span_id),
                [names.get(link.context.span_id) for link in span.links],
            )
            for span in ended
        ]

    return Tracing(provider, ("genai", "openinference"), content=True), seen


def metrics() -> Made:
    registry = CollectorRegistry()
    # What events have told; the rest is read from the runtime, by instruments that it was opened with.
    told = ("understudy_runs_total", "understudy_node_failures_total", "understudy_node_duration", "understudy_run_duration")
    return PrometheusMetrics(registry), lambda: [
        line for line in generate_latest(registry).decode().splitlines() if line.startswith(told)
    ]


def record() -> Made:
    recorder = Recorder(Recording())

    def seen() -> object:
        kept = recorder.get("r")
        assert kept is not None
        return [(entry.seq, repr(entry.event), entry.weight) for entry in kept.after(-1)], kept.steps, recorder.weight_bytes

    return recorder, seen


def lines() -> Made:
    return LogEvents(), lambda: None


def anything() -> Made:
    heard: list[object] = []
    return heard.append, lambda: list(map(repr, heard))


def told(make: Callable[[], Made], message: Number, beside: int) -> object:
    """What an instrument has made of a run, with so many others beside it."""
    instrument, seen = make()
    others: list[Any] = [lambda _: None] * beside

    async def main() -> None:
        async with open_runtime(seed=1, instruments=[instrument, *others]) as runtime:
            with contextlib.suppress(RunFailed):
                await runtime.run(graph_of_steps(), message, run_id="r")

    scheduler: Any = trio._core._run
    before, scheduler._r = scheduler._r, random.Random(1)
    try:
        trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))
    finally:
        scheduler._r = before
    return seen()


@pytest.mark.parametrize("make", [spans, metrics, record, anything])
@pytest.mark.parametrize("first", [0, 9])
def test_an_instrument_makes_the_same_of_a_run_alone_and_beside_others(make: Callable[[], Made], first: int) -> None:
    alone, beside = (told(make, Number(first), others) for others in (0, 1))

    assert alone == beside


@pytest.mark.parametrize("make", [spans, metrics, record])
def test_what_comes_to_listen_in_the_middle_of_a_run_changes_nothing_for_the_first(make: Callable[[], Made]) -> None:
    instrument, seen = make()

    async def main() -> None:
        async with open_runtime(seed=1, instruments=[instrument]) as runtime:
            handle = await runtime.start(graph_of_steps(), Number(0), "r")
            for _ in range(20):
                await trio.sleep(0.15)
                with runtime.observe(lambda _: None):
                    await trio.sleep(0.25)
            await handle.result()

    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))

    assert seen() == told(make, Number(0), 0)


@pytest.mark.parametrize("make", [spans, metrics, record, lines])
def test_what_is_given_all_events_ignores_those_that_it_knows_nothing_of(
    make: Callable[[], Made], caplog: pytest.LogCaptureFixture
) -> None:
    """``runtime.observe(instrument)`` without classes."""
    caplog.set_level(logging.DEBUG, "understudy")
    instrument, seen = make()
    expected = told(make, Number(0), 0)

    async def main() -> None:
        async with open_runtime(seed=1) as runtime:
            with runtime.observe(instrument):
                await runtime.run(graph_of_steps(), Number(0), run_id="r")

    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))

    assert seen() == expected
    assert "called no more" not in caplog.text


@pytest.mark.parametrize("kind", [NodeStarted, NodeFinished])
def test_one_that_raises_without_an_event_is_dropped_and_named_like_any_other(
    kind: type, caplog: pytest.LogCaptureFixture
) -> None:
    class Broken(Instrument):
        def method_for(self, kind: type[Any]) -> Callable[[Any], object]:
            return lambda _: None

        def unmade_method_for(self, told: type[Any]) -> TellUnmade | None:
            return self.breaks if told is kind else None

        def breaks(self, run_id: str, step: object, at_s: float, output: object) -> None:
            calls.append(run_id)
            raise LookupError("no")

        def __repr__(self) -> str:
            return "Broken()"

    calls: list[str] = []

    async def main() -> None:
        async with open_runtime(seed=1, instruments=[Broken()]) as runtime:
            assert await runtime.run(graph_of_steps(), Number(0), run_id="r") == Text("A")

    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))

    assert calls == ["r"]
    assert f"Broken() was called with {kind.__name__} and raised LookupError: no" in caplog.text
