"""``runtime.observe``: instruments for a runtime that is open already, and events that nobody asks for are not made."""

import contextlib
from collections.abc import Callable
from typing import Any

import pytest
import trio

from actors import LM, Graph, LMUnavailable, Run, Usage
from actors.errors import DeclarationError, RuntimeDraining
from runtime import (
    Event,
    InstrumentFailed,
    LMCalled,
    LMCallStarted,
    LMDelta,
    NodeEvent,
    NodeFinished,
    NodeReported,
    NodeStarted,
    RunFailed,
    RunFinished,
    open_runtime,
)
from runtime.graphs.records import step_events
from runtime.testing import Answer, ScriptedLM
from tests.runtime.graphs.stage import Ask, Done, Part, graph_of


async def first(ask: Ask) -> Part:
    await trio.sleep(2)
    return Part(ask.n)


async def second(part: Part) -> Done:
    return Done(str(part.n))


GRAPH = graph_of(first, second)


async def test_a_sink_hears_of_what_it_names_while_its_block_lasts_and_of_nothing_else(autojump_clock):
    heard: list[Event] = []

    async with open_runtime() as runtime:
        with runtime.observe(heard.append, [NodeFinished]):
            await runtime.run(GRAPH, Ask(1))
        await runtime.run(GRAPH, Ask(2))

    assert [(type(event).__name__, getattr(event, "node", None)) for event in heard] == [
        ("NodeFinished", "first"),
        ("NodeFinished", "second"),
    ]


async def test_a_base_class_stands_for_all_that_derive_from_it(autojump_clock):
    heard: list[Any] = []

    async with open_runtime() as runtime:
        with runtime.observe(heard.append, [NodeEvent]):
            await runtime.run(GRAPH, Ask(1))

    assert [type(event).__name__ for event in heard] == ["NodeStarted", "NodeFinished"] * 2


async def test_a_run_under_way_is_observed_from_then_on(autojump_clock):
    heard: list[Any] = []

    async with open_runtime() as runtime:
        handle = await runtime.start(GRAPH, Ask(1))
        await trio.sleep(1)
        with runtime.observe(heard.append):
            await handle.result()

    assert [type(event).__name__ for event in heard if isinstance(event, NodeEvent | RunFinished)] == [
        "NodeFinished",
        "NodeStarted",
        "NodeFinished",
        "RunFinished",
    ]


async def test_an_event_that_nobody_wants_is_not_made(autojump_clock, monkeypatch):
    made: list[str] = []
    heard: list[Any] = []
    for name in ("_OpenStarted", "_OpenFinished", "_OpenRunStarted", "_OpenRunFinished"):
        monkeypatch.setattr(step_events, name, _noting(getattr(step_events, name), made))

    async with open_runtime() as runtime:
        with runtime.observe(heard.append, [RunFinished]):
            await runtime.run(GRAPH, Ask(1))

    assert made == ["OpenRunFinished"]
    assert [type(event) for event in heard] == [RunFinished]


def _noting(kind: Callable[[], Any], made: list[str]) -> Callable[[], Any]:
    def make() -> Any:
        event = kind()
        made.append(type(event).__name__)
        return event

    return make


async def test_a_sink_that_raises_is_dropped_and_the_run_goes_on(autojump_clock, caplog):
    heard: list[Any] = []

    def broken(event: Event) -> None:
        raise ValueError("no")

    async with open_runtime() as runtime:
        with runtime.observe(heard.append, [InstrumentFailed]), runtime.observe(broken, [NodeStarted]):
            assert await runtime.run(GRAPH, Ask(1)) == Done("1")

    assert [event.event for event in heard] == ["NodeStarted"]
    assert caplog.text.count("raised ValueError") == 1


@pytest.mark.parametrize(
    ("sink", "kinds", "complaint"),
    [
        (3, None, r"observe\(3\): a sink is a function"),
        (print, [int], "isn't a class of events"),
        (print, NodeStarted(at_s=0.0, run_id="a", node="b", path="c", attempt=1), "isn't a class of events"),
    ],
)
async def test_what_cannot_be_observed_is_rejected_with_the_line_to_write(sink, kinds, complaint):
    async with open_runtime() as runtime:
        with pytest.raises(DeclarationError, match=complaint):
            with runtime.observe(sink, kinds):
                pass


async def test_a_started_event_says_how_long_the_message_waited(autojump_clock):
    graph = Graph("narrow", input=Ask, output=Done)
    waited: list[float] = []

    @graph.node(concurrency=1)
    async def only(ask: Ask) -> Done:
        await trio.sleep(3)
        return Done("x")

    async with open_runtime() as runtime:
        with runtime.observe(lambda event: waited.append(event.waited_s), [NodeStarted]):
            async with trio.open_nursery() as nursery:
                for n in range(3):
                    nursery.start_soon(runtime.run, graph, Ask(n))

    assert waited == [0, 3, 6]


chat = Graph("chat", input=Ask, output=Done)


@chat.node
async def ask_it(ask: Ask, lm: LM) -> Done:
    if ask.n == 2:
        async with lm.stream([{"role": "user", "content": "hello"}]) as answer:
            async for _ in answer:
                pass
        return Done(answer.completion.text)
    with trio.move_on_after(1):
        return Done((await lm.chat([{"role": "user", "content": "hello"}])).text)
    return Done("too late")


async def calls_of(lm: LM, n: int) -> list[Any]:
    seen: list[Any] = []
    async with open_runtime(lm=lm) as runtime:
        with runtime.observe(seen.append, [LMCallStarted, LMCalled, LMDelta, RunFinished]):
            with contextlib.suppress(RunFailed):
                await runtime.run(chat, Ask(n))
    return seen


async def test_each_call_that_starts_has_one_end_with_its_number_and_what_it_used(autojump_clock):
    started, called, over = await calls_of(ScriptedLM([Answer("hi", usage=Usage(5, 2, 0.25, 1, 1))]), 1)

    assert (started.call, started.operation) == (called.call, "chat") == (1, "chat")
    assert (called.prompt_tokens, called.completion_tokens, called.cached_tokens, called.reasoning_tokens) == (5, 2, 1, 1)
    assert (called.error, called.finish_reason, called.first_token_s, called.from_cache) == (None, "stop", None, False)
    assert over.spend.cost_usd == 0.25


async def test_a_streamed_call_says_when_its_first_piece_came(autojump_clock):
    seen = await calls_of(ScriptedLM([Answer("one two three", latency_s=0.5)]), 2)

    called = next(event for event in seen if isinstance(event, LMCalled))
    assert called.first_token_s is not None
    assert 0 < called.first_token_s <= called.duration_s


async def test_a_call_that_fails_ends_with_its_error(autojump_clock):
    seen = await calls_of(ScriptedLM([LMUnavailable("down", model="m")]), 1)

    ends = [event for event in seen if isinstance(event, LMCalled)]
    assert ends
    assert all(isinstance(event.error, LMUnavailable) for event in ends)
    assert len(ends) == sum(isinstance(event, LMCallStarted) for event in seen)


async def test_a_call_that_is_cancelled_ends_without_an_answer_or_an_error(autojump_clock):
    started, called, _ = await calls_of(ScriptedLM([Answer("hi", latency_s=5)]), 1)

    assert (called.call, called.error, called.finish_reason, called.duration_s) == (started.call, None, None, 1)


async def test_a_draining_runtime_rejects_runs_with_an_error_of_its_own(autojump_clock):
    async with open_runtime() as runtime:
        await runtime.drain(0)
        with pytest.raises(RuntimeDraining) as caught:
            await runtime.run(GRAPH, Ask(1))

    assert caught.value.retryable is True


async def test_what_a_node_reports_makes_no_event_when_nobody_listens(monkeypatch: pytest.MonkeyPatch):
    made: list[str] = []

    make = NodeReported.__init__

    def counted(event: NodeReported, **fields: Any) -> None:
        made.append(fields["text"])
        make(event, **fields)

    monkeypatch.setattr(NodeReported, "__init__", counted)
    graph = Graph("reporting", input=Ask, output=Done)

    @graph.node
    async def work(ask: Ask, run: Run) -> Done:
        run.report(f"page {ask.n}", done=ask.n)
        return Done("")

    async with open_runtime() as runtime:
        await runtime.run(graph, Ask(1))
        with runtime.observe(lambda _: None, [NodeFinished]):
            await runtime.run(graph, Ask(2))
        assert made == []
        with runtime.observe(lambda _: None, [NodeReported]):
            await runtime.run(graph, Ask(3))
    assert made == ["page 3"]
