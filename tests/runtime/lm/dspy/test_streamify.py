"""DSPy's streams on trio, and the fields of a predict node while they come."""

# mypy: disable-error-code="empty-body"

from __future__ import annotations

from typing import Any

import attrs
import dspy
import pytest
import trio

from actors import Graph
from actors.errors import LMReplyUnreadable, LMUnavailable, UsageError
from runtime import open_runtime
from runtime.graphs.records.run_events import FieldDelta, RunFinished
from runtime.lm.client import LMClient
from runtime.lm.dspy.bridge import fill
from runtime.lm.dspy.streamify import open_prediction_stream
from runtime.lm.dspy.trio_lm import trio_lm
from runtime.testing import ModelScript, ScriptedLM, field_answer, open_loopback

QA: Any = "question -> answer"
ANSWER = {"answer": "one two three"}
LOOK = {"next_thought": "t", "next_tool_name": "weather", "next_tool_args": {"city": "Oslo"}}
FINISH = {"next_thought": "t", "next_tool_name": "finish", "next_tool_args": {}}


async def weather(city: str) -> str:
    """The weather."""
    await trio.lowlevel.checkpoint()
    return f"sunny in {city}"


def listener() -> Any:
    return dspy.streaming.StreamListener("answer")


async def test_a_listener_gets_its_field_piece_by_piece_and_the_prediction_comes_last():
    lm = ScriptedLM([ANSWER])

    async with open_prediction_stream(lm, QA, {"question": "?"}, listeners=[listener()]) as stream:
        with pytest.raises(UsageError, match=r"^the prediction is not there yet\."):
            _ = stream.prediction
        chunks = [piece.chunk async for piece in stream]

    assert "".join(chunks) == "one two three"
    assert len(chunks) > 2
    assert stream.prediction.answer == "one two three"


async def test_without_listeners_the_chunks_come_as_they_are():
    async with open_prediction_stream(ScriptedLM([ANSWER]), QA, {"question": "?"}) as stream:
        chunks = [piece async for piece in stream]

    texts = [chunk.choices[0].delta.content for chunk in chunks]
    assert "".join(text for text in texts if text) == field_answer(**ANSWER)
    assert chunks[-1].choices[0].finish_reason == "stop"


@pytest.mark.parametrize("module", ["native", "threaded"])
async def test_status_messages_come_from_both_kinds_of_modules(module: str):
    agent: Any = dspy.ReAct(QA, tools=[weather])
    status = dspy.streaming.StatusMessageProvider()
    if module == "threaded":

        def look(city: str) -> str:
            """The weather."""
            return f"sunny in {city}"

        agent = dspy.BestOfN(
            dspy.ReAct(QA, tools=[dspy.Tool(look, name="weather")]), N=1, reward_fn=lambda inputs, made: 1.0, threshold=1.0
        )
    lm = ScriptedLM([LOOK, FINISH, {"reasoning": "r", **ANSWER}])

    async with open_prediction_stream(lm, agent, {"question": "?"}, status=status) as stream:
        told = [piece.message async for piece in stream if isinstance(piece, dspy.streaming.StatusMessage)]

    assert told == ["Calling tool weather...", "Tool calling finished! Querying the LLM with tool calling results..."]


async def test_a_failure_ends_the_stream_bare():
    async with open_prediction_stream(ScriptedLM([LMUnavailable("gone")]), QA, {"question": "?"}) as stream:
        with pytest.raises(LMUnavailable, match=r"^gone$"):
            await anext(stream)


async def test_an_answer_that_cannot_be_read_ends_the_stream():
    async with open_prediction_stream(ScriptedLM(["no"]), QA, {"question": "?"}, listeners=[listener()]) as stream:
        with pytest.raises(LMReplyUnreadable):
            _ = [piece async for piece in stream]


async def test_the_blocks_own_error_comes_out_bare():
    async def leave() -> None:
        async with open_prediction_stream(ScriptedLM([ANSWER]), QA, {"question": "?"}) as stream:
            await anext(stream)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await leave()


async def test_leaving_early_closes_the_request_at_the_provider():
    script = ModelScript(field_answer(answer="one two three four five six"), interval_s=5)
    async with open_loopback({"m": script}) as provider:
        async with LMClient("openai/m", api_key="k", api_base=f"{provider.url}/v1") as lm:
            async with open_prediction_stream(lm, QA, {"question": "?"}) as stream:
                await anext(stream)
            with trio.fail_after(10):
                while provider.in_flight:  # noqa: ASYNC110 - the server's own tasks notice
                    await trio.sleep(0.01)

    assert [request.cancelled_by_client for request in provider.requests] == [True]


@pytest.mark.parametrize("is_async", [True, False])
async def test_dspys_own_streamify_runs_on_trio(is_async: bool):
    with dspy.context(lm=trio_lm(ScriptedLM([ANSWER])), trace=[]):
        program: Any = dspy.streamify(dspy.Predict(QA), stream_listeners=[listener()], is_async_program=is_async)
        pieces = [piece async for piece in program(question="?")]

    assert "".join(piece.chunk for piece in pieces[:-1]) == "one two three"
    assert pieces[-1].answer == "one two three"


async def test_with_the_json_adapter_listeners_work_too():
    with dspy.context(adapter=dspy.JSONAdapter()):
        lm = ScriptedLM(['{"answer": "one two three"}'])
        async with open_prediction_stream(lm, QA, {"question": "?"}, listeners=[listener()]) as stream:
            chunks = [piece.chunk async for piece in stream]

    assert "".join(chunks).strip('" ') == "one two three"


# --- predict nodes ----------------------------------------------------------------------------------------------------


@attrs.frozen
class Ask:
    text: str


@attrs.frozen
class Story:
    title: str
    words: list[str]


def telling(*, stream: bool, module: str = "Predict") -> Graph:
    graph = Graph("telling", input=Ask, output=Story)

    @graph.predict(stream=stream, module=module)
    async def tell(ask: Ask) -> Story:
        """Tell it."""
        ...

    return graph


async def events(graph: Graph, lm: ScriptedLM) -> list[Any]:
    async with open_runtime(lm=lm) as runtime, runtime.stream(graph, Ask("?")) as seen:
        return [event async for event in seen if isinstance(event, FieldDelta | RunFinished)]


def fields(seen: list[Any]) -> dict[tuple[int, str], str]:
    told: dict[tuple[int, str], str] = {}
    for event in seen:
        if isinstance(event, FieldDelta):
            told[event.answer, event.field] = told.get((event.answer, event.field), "") + event.text
    return told


STORY = {"title": "On trio and time", "words": ["a", "b"]}


async def test_the_fields_of_a_predict_node_are_events_while_they_come():
    seen = await events(telling(stream=True), ScriptedLM([STORY]))

    assert fields(seen) == {(1, "title"): "On trio and time", (1, "words"): '["a", "b"]'}
    assert len(seen) > 3
    assert seen[-1].output == Story("On trio and time", ["a", "b"])
    assert {event.node for event in seen[:-1]} == {"tell"}


async def test_the_reasoning_comes_first():
    seen = await events(telling(stream=True, module="ChainOfThought"), ScriptedLM([{"reasoning": "Because.", **STORY}]))

    assert list(fields(seen)) == [(1, "reasoning"), (1, "title"), (1, "words")]


async def test_an_answer_that_does_not_fit_is_followed_by_one_of_the_next_number():
    seen = await events(telling(stream=True), ScriptedLM([{"title": "Bad", "words": "none"}, STORY]))

    assert fields(seen) == {
        (1, "title"): "Bad",
        (1, "words"): "none",
        (2, "title"): "On trio and time",
        (2, "words"): '["a", "b"]',
    }


async def test_a_node_that_does_not_ask_for_it_does_not_stream():
    assert len(await events(telling(stream=False), ScriptedLM([STORY]))) == 1


async def test_a_model_that_cannot_stream_answers_whole():
    class Whole:
        model = "whole"

        def __init__(self) -> None:
            self.chat = ScriptedLM([STORY]).chat

    told: list[str] = []
    made = await fill(
        Whole(), instruction="", inputs={"ask": Ask("?")}, output=Story, on_field=lambda field, text, answer: told.append(field)
    )

    assert made == Story("On trio and time", ["a", "b"])
    assert told == []
