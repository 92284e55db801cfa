"""Spans as they arrive at a collector over OTLP, and collectors that hang or are gone."""

# mypy: disable-error-code="empty-body"

from __future__ import annotations

import math
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import attrs
import pytest
import trio
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor

from actors import LM, Graph, Redelivery, Usage
from runtime import open_runtime
from runtime.telemetry import Tracing
from runtime.testing import Answer, ScriptedLM


@attrs.frozen
class Question:
    n: int


@attrs.frozen
class Half:
    n: int


@attrs.frozen
class Result:
    text: str


@attrs.frozen
class Received:
    """A span as the collector has read it."""

    name: str
    id: bytes
    parent: bytes
    trace: bytes
    began_ns: int
    ended_ns: int
    fields: dict[str, Any]


class Collector:
    """A server that takes OTLP over HTTP, or takes it and does not answer until it is let go."""

    def __init__(self, *, hangs: bool = False) -> None:
        self.spans: list[Received] = []
        self.asked = threading.Event()
        """Set when something has arrived."""
        self.let_go = threading.Event()
        """Lets requests that hang go."""
        collector = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                collector.asked.set()
                if hangs:
                    collector.let_go.wait(60)
                assert (self.path, self.headers["Content-Type"]) == ("/v1/traces", "application/x-protobuf")
                collector.read(body)
                self.send_response(200)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *args: Any) -> None:
                """Say nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True)
        self._thread.start()
        self.endpoint = f"http://127.0.0.1:{self._server.server_address[1]}/v1/traces"

    def read(self, body: bytes) -> None:
        request = ExportTraceServiceRequest.FromString(body)
        for resource in request.resource_spans:
            for scope in resource.scope_spans:
                self.spans += [self._received(span) for span in scope.spans]

    @staticmethod
    def _received(span: Any) -> Received:
        fields = {each.key: getattr(each.value, each.value.WhichOneof("value")) for each in span.attributes}
        began, ended = span.start_time_unix_nano, span.end_time_unix_nano
        return Received(span.name, span.span_id, span.parent_span_id, span.trace_id, began, ended, fields)

    def close(self) -> None:
        self.let_go.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


@pytest.fixture
def collector() -> Iterator[Collector]:
    found = Collector()
    yield found
    found.close()


def sending_to(endpoint: str, timeout_s: float = 10.0) -> TracerProvider:
    provider = TracerProvider(resource=Resource({"service.name": "test"}), shutdown_on_exit=False)
    exporter = OTLPSpanExporter(endpoint=endpoint, timeout=timeout_s)
    provider.add_span_processor(BatchSpanProcessor(exporter, schedule_delay_millis=5))
    return provider


def nested() -> Graph[Question, Result]:
    inner = Graph("inner", input=Question, output=Half)
    outer = Graph("outer", input=Question, output=Result)
    tries: dict[int, int] = {}

    @inner.node(redelivery=Redelivery(max_attempts=2))
    async def deep(question: Question) -> Half:
        tries[question.n] = tries.get(question.n, 0) + 1
        await trio.sleep(0.001)
        if tries[question.n] == 1:
            raise OSError("once")
        return Half(question.n)

    outer.add(inner)

    @outer.node
    async def ask(half: Half, lm: LM) -> Result:
        return Result((await lm.chat([{"role": "user", "content": str(half.n)}])).text)

    return outer


async def test_what_arrives_is_the_trace_of_each_run_span_by_span(collector: Collector) -> None:
    provider = sending_to(collector.endpoint)
    tracing = Tracing(provider)
    lm = ScriptedLM(lambda request: Answer("yes", usage=Usage(7, 3)))
    graph, handles = nested(), []
    async with open_runtime(lm=lm, instruments=[tracing]) as runtime:
        handles = [await runtime.start(graph, Question(n)) for n in range(4)]
        for handle in handles:
            await handle.result()
        traces = {handle.id: list(handle.trace) for handle in handles}

    assert await tracing.flush(math.inf)
    provider.shutdown()
    by_id = {span.id: span for span in collector.spans}
    for run, steps in traces.items():
        own = [span for span in collector.spans if span.fields.get("understudy.run.id") == run]
        [root] = [span for span in own if span.name.startswith("invoke_workflow")]
        attempts = [span for span in own if "understudy.attempt" in span.fields]
        last = {span.fields["understudy.path"]: span for span in attempts}
        assert len({span.trace for span in own}) == 1
        assert len(attempts) == sum(step.attempt for step in steps)
        assert last.keys() == {step.path for step in steps}
        for step in steps:
            span = last[step.path]
            assert (span.name, span.fields["understudy.attempt"]) == (step.node, step.attempt)
            above = by_id[span.parent]
            assert above.fields["understudy.run.id"] == run
            assert above.fields.get("understudy.node") == ("inner" if step.node == "deep" else None)
            assert above.began_ns <= span.began_ns <= span.ended_ns <= above.ended_ns
        [call] = [span for span in own if span.name.startswith("chat ")]
        assert by_id[call.parent].name == "ask"
        assert (call.fields["gen_ai.usage.input_tokens"], root.fields["gen_ai.usage.output_tokens"]) == (7, 3)


async def test_a_collector_that_hangs_costs_a_run_nothing(caplog: pytest.LogCaptureFixture) -> None:
    collector = Collector(hangs=True)
    provider = sending_to(collector.endpoint, timeout_s=30)  # it hangs until the end of the test
    tracing = Tracing(provider)
    graph = nested()
    async with open_runtime(lm=ScriptedLM(lambda request: "yes"), instruments=[tracing]) as runtime:
        assert await runtime.run(graph, Question(0)) == Result("yes")
        await trio.to_thread.run_sync(collector.asked.wait, 30)
        assert collector.asked.is_set()  # it has the first spans, and does not answer: from here on the exporter's thread waits
        for n in range(1, 5):
            assert await runtime.run(graph, Question(n)) == Result("yes")

    assert not await tracing.flush(0.01)
    assert collector.spans == []
    collector.let_go.set()  # it answers now, and gets the rest
    await trio.to_thread.run_sync(provider.shutdown)
    collector.close()
    assert len([span for span in collector.spans if span.name.startswith("invoke_workflow")]) == 5


async def test_a_collector_that_is_gone_costs_a_run_nothing(caplog: pytest.LogCaptureFixture) -> None:
    collector = Collector()
    collector.close()
    provider = sending_to(collector.endpoint, timeout_s=0.2)
    async with open_runtime(lm=ScriptedLM(lambda request: "yes"), instruments=[Tracing(provider)]) as runtime:
        for n in range(3):
            assert await runtime.run(nested(), Question(n)) == Result("yes")

    await trio.to_thread.run_sync(provider.shutdown)
    assert any("opentelemetry" in record.name for record in caplog.records)
