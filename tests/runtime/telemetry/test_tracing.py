"""Spans of runs: what hangs below what, how each ends, and that runs at the same time never share a parent."""

# mypy: disable-error-code="empty-body"

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import attrs
import httpx
import pytest
import trio
from opentelemetry import propagate, trace
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ParentBased

from actors import LM, Graph, LMUnavailable, Redelivery, RunFailed, Usage
from actors.errors import DeclarationError
from runtime import open_runtime
from runtime.journal.memory import MemoryStore
from runtime.telemetry import GenAIMetrics, Tracing
from runtime.testing import Answer, ScriptedLM
from runtime.testing.network import Exchange, VirtualNetwork


@attrs.frozen
class Question:
    n: int


@attrs.frozen
class Half:
    n: int


@attrs.frozen
class Result:
    text: str


class Spans:
    """A provider that keeps what has ended."""

    def __init__(self) -> None:
        self.provider = TracerProvider()
        self.exporter = InMemorySpanExporter()
        self.provider.add_span_processor(SimpleSpanProcessor(self.exporter))
        self.tracer = self.provider.get_tracer("author")

    @property
    def ended(self) -> list[ReadableSpan]:
        return list(self.exporter.get_finished_spans())

    def named(self, name: str) -> list[ReadableSpan]:
        return [span for span in self.ended if span.name == name]

    def one(self, name: str) -> ReadableSpan:
        [span] = self.named(name)
        return span


def below(span: ReadableSpan, above: ReadableSpan) -> bool:
    return span.parent is not None and above.context is not None and span.parent.span_id == above.context.span_id


def fields(span: ReadableSpan) -> dict[str, Any]:
    return dict(span.attributes or {})


@pytest.fixture
def spans() -> Spans:
    return Spans()


def asking(spans: Spans) -> Graph[Question, Result]:
    graph = Graph("asking", input=Question, output=Result)

    @graph.node
    async def prepare(question: Question) -> Half:
        with spans.tracer.start_as_current_span("the author's"):
            await trio.sleep(1)
        return Half(question.n)

    @graph.node
    async def ask(half: Half, lm: LM) -> Result:
        return Result((await lm.chat([{"role": "user", "content": str(half.n)}])).text)

    return graph


async def test_a_call_hangs_below_its_node_the_node_below_its_run_and_the_run_below_its_caller(spans, autojump_clock):
    lm = ScriptedLM([Answer("yes", usage=Usage(7, 3, 0.5, cached_tokens=2))])

    async with open_runtime(lm=lm, instruments=[Tracing(spans.provider)]) as runtime:
        with spans.tracer.start_as_current_span("request"):
            await runtime.run(asking(spans), Question(1))

    run, call = spans.one("invoke_workflow asking"), spans.one(f"chat {lm.model}")
    assert below(run, spans.one("request"))
    assert below(spans.one("prepare"), run)
    assert below(spans.one("ask"), run)
    assert below(spans.one("the author's"), spans.one("prepare"))
    assert below(call, spans.one("ask"))
    assert fields(call)["gen_ai.usage.input_tokens"] == 7
    assert fields(call)["gen_ai.usage.cache_read.input_tokens"] == 2
    assert fields(call)["gen_ai.response.finish_reasons"] == ("stop",)
    assert fields(run)["understudy.cost_usd"] == 0.5
    assert (fields(run)["gen_ai.agent.name"], fields(run)["gen_ai.workflow.name"]) == ("asking", "asking")


async def test_nothing_that_users_have_written_is_in_a_span_unless_it_is_asked_for(spans, autojump_clock):
    secret = Graph("secret", input=Result, output=Half)

    @secret.node
    async def swallow(result: Result) -> Half:
        return Half(len(result.text))

    async with open_runtime(instruments=[Tracing(spans.provider, ("genai", "openinference"))]) as runtime:
        await runtime.run(secret, Result("canary"))
    assert not any("canary" in span.to_json() for span in spans.ended)
    assert fields(spans.one("swallow"))["openinference.span.kind"] == "CHAIN"

    async with open_runtime(instruments=[Tracing(spans.provider, content=True)]) as runtime:
        await runtime.run(secret, Result("canary"))
    assert any("canary" in span.to_json() for span in spans.ended)


async def test_an_attempt_after_a_failure_is_a_span_of_its_own_linked_to_the_failed_one(spans, autojump_clock):
    graph = Graph("flaky", input=Question, output=Result)
    attempts: list[int] = []

    @graph.node(redelivery=Redelivery(max_attempts=2))
    async def once_more(question: Question) -> Result:
        attempts.append(question.n)
        if len(attempts) == 1:
            raise OSError("not yet")
        return Result("now")

    async with open_runtime(instruments=[Tracing(spans.provider)]) as runtime:
        await runtime.run(graph, Question(1))

    first, second = spans.named("once_more")
    assert (fields(first)["error.type"], first.status.is_ok) == ("OSError", False)
    assert [link.context.span_id for link in second.links] == [first.context.span_id]
    assert (fields(first)["understudy.attempt"], fields(second)["understudy.attempt"]) == (1, 2)
    assert second.status.is_ok or second.status.is_unset


async def test_a_run_that_fails_is_an_error_and_leaves_no_span_open(spans, autojump_clock):
    graph = Graph("broken", input=Question, output=Result)

    @graph.node
    async def breaks(question: Question, lm: LM) -> Result:
        return Result((await lm.chat([{"role": "user", "content": "x"}])).text)

    tracing = Tracing(spans.provider)
    async with open_runtime(lm=ScriptedLM([LMUnavailable("down", model="m")]), instruments=[tracing]) as runtime:
        with pytest.raises(RunFailed):
            await runtime.run(graph, Question(1))

    assert fields(spans.one("invoke_workflow broken"))["error.type"] == "RunFailed"
    assert fields(spans.one("breaks"))["error.type"] == "LMUnavailable"
    assert [span.name for span in spans.ended if span.name.startswith("chat")] != []
    assert tracing._runs == {}


async def test_the_nodes_of_a_nested_graph_hang_below_the_node_that_it_stands_for(spans, autojump_clock):
    inner = Graph("inner", input=Question, output=Half)

    @inner.node
    async def deep(question: Question) -> Half:
        return Half(question.n)

    outer = Graph("outer", input=Question, output=Result)
    outer.add(inner)

    @outer.node
    async def last(half: Half) -> Result:
        return Result(str(half.n))

    async with open_runtime(instruments=[Tracing(spans.provider)]) as runtime:
        await runtime.run(outer, Question(1))

    assert below(spans.one("deep"), spans.one("inner"))
    assert below(spans.one("inner"), spans.one("invoke_workflow outer"))


@pytest.mark.parametrize("durable", [False, True])
async def test_runs_at_the_same_time_never_share_a_parent(spans, autojump_clock, durable):
    graph = Graph("many", input=Question, output=Result)

    @graph.node(concurrency=3)
    async def first(question: Question) -> Half:
        with spans.tracer.start_as_current_span(f"own {question.n}"):
            await trio.sleep(question.n % 3)
        return Half(question.n)

    @graph.node(concurrency=2)
    async def second(half: Half) -> Result:
        await trio.sleep(half.n % 2)
        with spans.tracer.start_as_current_span(f"late {half.n}"):
            return Result(str(half.n))

    store = MemoryStore() if durable else None
    async with open_runtime(instruments=[Tracing(spans.provider)], store=store) as runtime:
        async with trio.open_nursery() as nursery:
            for n in range(12):
                nursery.start_soon(run_below, spans, runtime, graph, n, durable)

    by_id = {span.context.span_id: span for span in spans.ended}
    for n in range(12):
        for name, node in ((f"own {n}", "first"), (f"late {n}", "second")):
            attempt = by_id[spans.one(name).parent.span_id]
            run = by_id[attempt.parent.span_id]
            assert (attempt.name, run.name) == (node, "invoke_workflow many")
            assert by_id[run.parent.span_id].name == f"request {n}"


async def run_below(spans: Spans, runtime: Any, graph: Any, n: int, durable: bool) -> None:
    with spans.tracer.start_as_current_span(f"request {n}"):
        handle = await runtime.start(graph, Question(n), f"run-{n}" if durable else None)
        await handle.result()


async def test_a_span_ends_with_the_message_that_it_is_of(spans, autojump_clock):
    graph = Graph("clean", input=Question, output=Result)
    current: list[Any] = []

    @graph.node(concurrency=1)
    async def only(question: Question) -> Result:
        current.append(trace.get_current_span().get_span_context().span_id)
        return Result("x")

    async with open_runtime(instruments=[Tracing(spans.provider)]) as runtime:
        for n in range(3):
            await runtime.run(graph, Question(n))

    assert current == [span.context.span_id for span in spans.named("only")]


async def test_a_run_that_is_not_sampled_makes_no_spans_and_neither_does_what_it_asks_others_for(spans, autojump_clock):
    provider = TracerProvider(sampler=ParentBased(ALWAYS_OFF))
    provider.add_span_processor(SimpleSpanProcessor(spans.exporter))
    spans.tracer = provider.get_tracer("author")
    seen = list[trace.SpanContext]()
    graph = Graph("asking", input=Question, output=Result)

    @graph.node
    async def ask(question: Question, lm: LM) -> Result:
        with spans.tracer.start_as_current_span("the author's"):
            seen.append(trace.get_current_span().get_span_context())
            return Result((await lm.chat([{"role": "user", "content": "x"}])).text)

    lm = ScriptedLM([Answer("yes"), Answer("yes")])
    async with open_runtime(lm=lm, instruments=[Tracing(provider)]) as runtime:
        await runtime.run(graph, Question(1))
        await runtime.run(graph, Question(2))

    assert spans.ended == []
    assert not any(context.trace_flags.sampled for context in seen)
    assert len({context.trace_id for context in seen}) == 2  # each in the trace of its run
    assert trace.get_current_span() is trace.INVALID_SPAN


def test_an_unknown_convention_is_rejected():
    with pytest.raises(DeclarationError, match="conventions"):
        Tracing(conventions="openinference")


async def test_a_call_of_a_tool_hangs_below_the_attempt_whose_model_called_it(spans, autojump_clock):
    graph = Graph("tooled", input=Question, output=Result)

    async def double(n: int) -> int:
        """Twice a number.

        Args:
            n: which.
        """
        await trio.sleep(2)
        return 2 * n

    @graph.predict(tools=[double])
    async def work(question: Question) -> Result:
        """Double it."""
        ...

    call = {"id": "1", "type": "function", "function": {"name": "double", "arguments": '{"n": 4}'}}
    lm = ScriptedLM([{"role": "assistant", "content": None, "tool_calls": [call]}, {"text": "8"}])
    async with open_runtime(lm=lm, instruments=[Tracing(spans.provider)]) as runtime:
        assert await runtime.run(graph, Question(4)) == Result("8")

    assert below(spans.one("execute_tool double"), spans.one("work"))
    assert fields(spans.one("execute_tool double"))["gen_ai.tool.name"] == "double"
    assert len(spans.named(f"chat {lm.model}")) == 2


async def test_what_is_done_with_the_items_of_a_generator_hangs_below_the_run_and_not_below_the_generator(spans, autojump_clock):
    graph = Graph("items", input=Question, output=Result)

    @graph.node
    async def make(question: Question) -> AsyncIterator[Half]:
        yield Half(1)
        await trio.sleep(5)

    @graph.node
    async def take(half: Half) -> Result:
        await trio.sleep(1)
        return Result(str(half.n))

    async with open_runtime(instruments=[Tracing(spans.provider)]) as runtime:
        await runtime.run(graph, Question(1))

    assert below(spans.one("take"), spans.one("invoke_workflow items"))


async def test_requests_and_worker_threads_of_a_node_hang_below_its_attempt(spans, autojump_clock):
    graph = Graph("outward", input=Question, output=Result)
    network = VirtualNetwork({"api.test": [Exchange.reply("hello")]})

    class Instrumented(httpx.AsyncBaseTransport):
        """As OpenTelemetry's instrumentation of httpx does it: a span, and its context in the request's head."""

        async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
            with spans.tracer.start_as_current_span("GET", kind=trace.SpanKind.CLIENT):
                propagate.inject(request.headers)
                return await network.transport().handle_async_request(request)

    @graph.node
    def counting(question: Question) -> Half:
        with spans.tracer.start_as_current_span("in the thread"):
            return Half(question.n)

    @graph.node
    async def asking(half: Half) -> Result:
        async with httpx.AsyncClient(transport=Instrumented()) as client:
            return Result((await client.get("http://api.test/")).text)

    async with open_runtime(instruments=[Tracing(spans.provider)]) as runtime:
        await runtime.run(graph, Question(1))

    assert below(spans.one("in the thread"), spans.one("counting"))
    assert below(spans.one("GET"), spans.one("asking"))
    [sent] = network.requests
    run = spans.one("invoke_workflow outward")
    assert run.context is not None
    assert sent.headers["traceparent"].split("-")[1] == f"{run.context.trace_id:032x}"


async def test_what_an_earlier_process_has_done_makes_no_spans(spans, autojump_clock):
    graph = Graph("lives", input=Question, output=Result)
    begun = trio.Event()
    lives: list[int] = []

    @graph.node
    async def first(question: Question) -> Half:
        return Half(question.n)

    @graph.node
    async def second(half: Half) -> Result:
        lives.append(half.n)
        if len(lives) == 1:
            begun.set()
            await trio.sleep_forever()
        return Result("done")

    store = MemoryStore()
    before = Spans()
    with trio.CancelScope() as life:
        async with open_runtime(instruments=[Tracing(before.provider)], store=store) as runtime:
            await runtime.start(graph, Question(1), "r")
            await begun.wait()
            life.cancel()
    async with open_runtime(instruments=[Tracing(spans.provider)], store=store, graphs=[graph]) as runtime:
        handle = await runtime.handle("r")
        assert await handle.result() == Result("done")

    assert [span.name for span in before.ended if span.name == "first"] == ["first"]
    assert [span.name for span in spans.ended] == ["second", "invoke_workflow lives"]
    assert below(spans.one("second"), spans.one("invoke_workflow lives"))


async def test_openinference_gets_sessions_users_and_messages_and_genai_both_old_and_new_names(spans, autojump_clock):
    tracing = Tracing(spans.provider, ("genai", "openinference"), content=True)
    lm = ScriptedLM([Answer("yes", usage=Usage(7, 3))])

    async with open_runtime(lm=lm, instruments=[tracing], show_prompts=True) as runtime:
        await runtime.run(asking(spans), Question(4), labels={"session": "s-1", "user": "anna", "other": "x"})

    run, call = fields(spans.one("invoke_workflow asking")), fields(spans.one(f"chat {lm.model}"))
    assert (run["session.id"], run["user.id"]) == ("s-1", "anna")
    assert (run["input.value"], run["input.mime_type"]) == ('{"n": 4}', "application/json")
    assert run["output.value"] == '{"text": "yes"}'
    assert call["openinference.span.kind"] == "LLM"
    assert (call["llm.token_count.prompt"], call["llm.token_count.completion"], call["llm.token_count.total"]) == (7, 3, 10)
    assert (call["llm.input_messages.0.message.role"], call["llm.input_messages.0.message.content"]) == ("user", "4")
    assert call["llm.output_messages.0.message.content"] == "yes"
    assert json.loads(call["gen_ai.input.messages"]) == [{"role": "user", "parts": [{"type": "text", "content": "4"}]}]
    [said] = json.loads(call["gen_ai.output.messages"])
    assert said == {"role": "assistant", "parts": [{"type": "text", "content": "yes"}], "finish_reason": "stop"}


async def test_calls_are_measured_by_the_names_of_the_conventions(autojump_clock):
    reader = InMemoryMetricReader()
    provider = MeterProvider([reader], shutdown_on_exit=False)
    graph = Graph("measured", input=Question, output=Result)

    @graph.node(redelivery=Redelivery(max_attempts=1))
    async def ask(question: Question, lm: LM) -> Result:
        return Result((await lm.chat([{"role": "user", "content": "x"}])).text)

    lm = ScriptedLM([Answer("yes", latency_s=2, usage=Usage(7, 3)), LMUnavailable("down", model="m")])
    async with open_runtime(lm=lm, instruments=[GenAIMetrics(provider)]) as runtime:
        await runtime.run(graph, Question(1))
        with pytest.raises(RunFailed):
            await runtime.run(graph, Question(2))

    data: Any = reader.get_metrics_data()
    points = {
        (metric.name, *sorted(dict(point.attributes).items())): point.sum
        for resource in data.resource_metrics
        for scope in resource.scope_metrics
        for metric in scope.metrics
        for point in metric.data.data_points
    }
    common = (("gen_ai.operation.name", "chat"), ("gen_ai.request.model", "scripted"))
    assert points == {
        ("gen_ai.client.token.usage", *common, ("gen_ai.token.type", "input")): 7,
        ("gen_ai.client.token.usage", *common, ("gen_ai.token.type", "output")): 3,
        ("gen_ai.client.operation.duration", *common): 2.0,
        ("gen_ai.client.operation.duration", ("error.type", "LMUnavailable"), *common): 0.0,
    }
