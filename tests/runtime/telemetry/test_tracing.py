"""Spans of runs: what hangs below what, how each ends, and that runs at the same time never share a parent."""

# mypy: disable-error-code="empty-body"

from __future__ import annotations

from typing import Any

import attrs
import pytest
import trio
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from actors import LM, Graph, LMUnavailable, Redelivery, RunFailed, Usage
from actors.errors import DeclarationError
from runtime import open_runtime
from runtime.journal.memory import MemoryStore
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


class Spans:
    """A provider that keeps what has ended."""

    def __init__(self) -> None:
        self.provider = TracerProvider()
        self._exporter = InMemorySpanExporter()
        self.provider.add_span_processor(SimpleSpanProcessor(self._exporter))
        self.tracer = self.provider.get_tracer("author")

    @property
    def ended(self) -> list[ReadableSpan]:
        return list(self._exporter.get_finished_spans())

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
