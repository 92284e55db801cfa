"""The contract of a language model below DSPy: ``TrioLM`` and the engines keep it alike."""

from __future__ import annotations

import json
from typing import Any

import attrs
import dspy
import pytest
import trio
from dspy.lm15 import Config, ContextLengthError, FunctionTool, Message, Request, TextPart

from actors.errors import LMBudgetExhausted, LMContextTooLong, LMUnavailable, UsageError
from actors.lm import Completion, ToolCall, Usage
from runtime.lm import AsyncTrioEngine, TrioEngine, run_dspy, trio_lm
from runtime.testing import ScriptedLM

CALL = ToolCall("c1", "weather", '{"city": "Ulm"}')
WHOLE = Completion(
    text="Rain.",
    model="scripted",
    finish_reason="stop",
    usage=Usage(prompt_tokens=3, completion_tokens=2),
    reasoning="Look outside.",
    tool_calls=(CALL,),
)


@attrs.frozen
class Answer:
    """What all of them give, in one shape."""

    text: str | None
    reasoning: str | None
    tools: list[tuple[str, str]]
    tokens: int | None


def of_openai(response: Any) -> Answer:
    message = response.choices[0].message
    calls = [(call["function"]["name"], call["function"]["arguments"]) for call in message.tool_calls]
    return Answer(message.content, message.reasoning_content, calls, response.usage["total_tokens"])


def of_response(response: Any) -> Answer:
    calls = [(call.name, json.dumps(call.input)) for call in response.tool_calls]
    said = {kind: "".join(part.text for part in response.message.parts if part.type == kind) for kind in ("text", "thinking")}
    return Answer(said["text"] or None, said["thinking"] or None, calls, response.usage.total_tokens)


def request() -> Any:
    tool = FunctionTool(name="weather", parameters={"type": "object", "properties": {"city": {"type": "string"}}})
    message = Message(role="user", parts=(TextPart("Weather?"),))
    return Request(model="scripted", messages=(message,), tools=(tool,), config=Config(temperature=0.5, top_k=5))


async def by_aforward(lm: Any) -> Answer:
    return of_openai(await trio_lm(lm).aforward(messages=[{"role": "user", "content": "Weather?"}]))


async def by_forward(lm: Any) -> Answer:
    bridge = trio_lm(lm)
    return of_openai(await trio.to_thread.run_sync(lambda: bridge.forward(messages=[{"role": "user", "content": "Weather?"}])))


async def by_engine(lm: Any) -> Answer:
    engine = TrioEngine(lm)
    return of_response(await trio.to_thread.run_sync(engine.complete, request()))


async def by_async_engine(lm: Any) -> Answer:
    return of_response(await AsyncTrioEngine(lm).complete(request()))


WAYS = [by_aforward, by_forward, by_engine, by_async_engine]


@pytest.mark.parametrize("way", WAYS)
async def test_c16_the_whole_answer_comes_through(way: Any) -> None:
    answer = await way(ScriptedLM([WHOLE]))

    assert answer.text == "Rain."
    assert answer.reasoning == "Look outside."
    assert answer.tools == [("weather", '{"city": "Ulm"}')]
    assert answer.tokens == 5


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("error", [LMUnavailable("down"), LMBudgetExhausted("spent")])
async def test_c16_what_fails_is_the_clients_own_error(way: Any, error: Exception) -> None:
    with pytest.raises(type(error)) as caught:
        await way(ScriptedLM([error]))

    assert caught.value is error


@pytest.mark.parametrize("way", WAYS)
async def test_c16_a_prompt_that_is_too_long_is_dspys_error(way: Any) -> None:
    with pytest.raises((dspy.ContextWindowExceededError, ContextLengthError)) as caught:
        await way(ScriptedLM([LMContextTooLong("long")]))

    assert isinstance(caught.value.__cause__, LMContextTooLong)


@pytest.mark.parametrize("way", WAYS)
async def test_c16_cancelling_ends_the_call(way: Any, autojump_clock: trio.testing.MockClock) -> None:
    lm = ScriptedLM(lambda call: "late", latency_s=60)

    with trio.move_on_after(1) as scope:
        await way(lm)

    assert scope.cancelled_caught
    assert lm.in_flight == 0


async def test_c16_what_is_asked_for_reaches_the_language_model() -> None:
    lm = ScriptedLM(["a"])

    await by_async_engine(lm)

    [call] = lm.calls
    assert call.messages[0]["content"] == "Weather?"
    assert (call.options["temperature"], call.options["top_k"]) == (0.5, 5)
    assert call.options["tools"][0]["function"]["name"] == "weather"


@pytest.mark.parametrize("threads", [1, 2])
async def test_c16_dspys_own_language_model_works_over_an_engine(threads: int) -> None:
    lm = ScriptedLM([{"answer": "4"}] * 2)
    module, example = dspy.Predict("question -> answer"), dspy.Example(question="?").with_inputs("question")

    def work() -> list[str]:
        with dspy.context(lm=dspy.LM("openai/m", engine=TrioEngine(lm), cache=False, num_retries=0)):
            parallel = dspy.Parallel(num_threads=threads, disable_progress_bar=True)
            return [each.answer for each in parallel([(module, example)] * 2)]

    assert await run_dspy(lm, work) == ["4", "4"]


async def test_c16_an_engine_on_trios_own_thread_is_refused() -> None:
    with pytest.raises(UsageError, match=r"was called synchronously on trio's own thread"):
        TrioEngine(ScriptedLM(["a"], unused="ok")).complete(request())


def test_c16_an_engine_says_what_its_model_can_do() -> None:
    lm: Any = ScriptedLM(["a"], unused="ok")
    lm.supports_function_calling = True

    assert TrioEngine(lm).supports_function_calling
    assert dspy.LM("openai/m", engine=TrioEngine(lm)).supports_function_calling
    assert not AsyncTrioEngine(lm).supports_response_schema
