"""An answer that stops in the middle is no value, unless the author says so."""

import json
import pickle
from collections.abc import Mapping, Sequence
from typing import Any

import attrs
import dspy  # here, not in a test: an import in a thread would let the virtual clock jump
import httpx
import pytest
import trio

from actors import Graph
from actors.errors import DeclarationError, LMTruncated
from actors.lm import ChatMessage, Completion, ToolCall, Usage
from runtime import LMCalled, RunFinished, open_runtime
from runtime.lm.backends.pydantic_ai import PydanticAIBackend
from runtime.lm.backends.typed import DSPyBackend
from runtime.lm.client import LMClient
from runtime.lm.dspy.bridge import fill, run_signature
from runtime.lm.providers.reasons import known_reason, told_reason
from runtime.testing.models.answers import Answer
from runtime.testing.models.scripted_lm import ScriptedLM
from tests.runtime.lm.faking import faking

CUT = '[[ ## tags ## ]]\n["red", "green", "bl'
WHOLE = '[[ ## tags ## ]]\n["red", "green", "blue"]\n\n[[ ## completed ## ]]'


@attrs.frozen
class Text:
    text: str


@attrs.frozen
class Tags:
    tags: list[str]


class Script:
    model = "fake/scripted"

    def __init__(self, *answers: Completion) -> None:
        self.answers = list(answers)
        self.asked: list[Mapping[str, Any]] = []

    async def chat(self, messages: Sequence[ChatMessage], /, **options: Any) -> Completion:
        await trio.lowlevel.checkpoint()
        self.asked.append(options)
        return self.answers.pop(0)


def cut(text: str = CUT, tokens: int = 100) -> Completion:
    return Completion(text, "fake/scripted", "length", Usage(10, tokens))


def whole() -> Completion:
    return Completion(WHOLE, "fake/scripted")


async def filled(lm: Any, **more: Any) -> Any:
    return await fill(lm, instruction="", inputs={"text": Text("x")}, output=Tags, **more)


async def test_c1_a_cut_answer_is_an_error_that_says_so():
    lm = Script(cut())

    with pytest.raises(LMTruncated) as caught:
        await filled(lm)

    assert str(caught.value) == (
        "the answer of 'fake/scripted' stops in the middle after 100 tokens (finish reason 'length'): "
        '…\'[[ ## tags ## ]]\\n["red", "green", "bl\'\n'
        "  Fix: raise max_tokens or ask for less reasoning; truncated='widen' asks again with more room, "
        "truncated='accept' takes what there is."
    )
    assert (caught.value.retryable, caught.value.completion, len(lm.asked)) == (False, cut(), 1)
    assert pickle.loads(pickle.dumps(caught.value)).completion == cut()


async def test_c1_the_author_may_accept_it():
    made = await filled(Script(cut()), truncated="accept")

    assert made.tags[:2] == ["red", "green"]


async def test_c1_or_have_it_asked_again_with_more_room():
    lm = Script(cut(tokens=300), whole())

    made = await filled(lm, truncated="widen")

    assert made == Tags(["red", "green", "blue"])
    assert lm.asked == [{}, {"max_tokens": 600}]


async def test_c1_wider_and_wider_until_the_attempts_are_used_up():
    lm = Script(cut(tokens=300), cut(tokens=600), cut(tokens=1200))

    with pytest.raises(LMTruncated):
        await filled(lm, truncated="widen", parse_attempts=3)

    assert lm.asked == [{}, {"max_tokens": 600}, {"max_tokens": 1200}]


async def test_c1_reasoning_that_took_all_the_room_is_asked_for_less():
    lm = Script(cut("", tokens=500), Completion("[[ ## answer ## ]]\n4", "m"))
    module = dspy.Predict("question -> answer", reasoning_effort="high", max_completion_tokens=500)

    await run_signature(lm, module, {"question": "2 + 2?"}, parse_attempts=2, truncated="widen")

    assert lm.asked[1] == {"reasoning_effort": "medium", "max_completion_tokens": 1000}


@pytest.mark.parametrize("which", ["make", "decide", "choose_type", "fill"])
async def test_c1_the_four_coroutines_give_no_cut_value(which: str):
    backend = DSPyBackend(Script(cut("[[ ## choice ## ]]\nText" if which in {"decide", "choose_type"} else CUT)))

    @attrs.frozen
    class Source:
        def __call__(self) -> Text | Tags: ...  # type: ignore[empty-body]

    calls: dict[str, Any] = {
        "make": lambda: backend.make(Text("x"), Tags),
        "decide": lambda: backend.decide(Source()),
        "choose_type": lambda: backend.choose_type([Text, Tags], Text("x")),
        "fill": lambda: backend.fill(Tags, {}, "Fill it."),
    }
    Source.__call__.__annotations__["return"] = Text | Tags
    with pytest.raises(LMTruncated):
        await calls[which]()


async def test_c1_pydantic_ais_agents_give_no_cut_value():
    call = ToolCall("1", "final_result", '{"tags": ["red", "gr')
    lm = Script(Completion("", "fake/scripted", "length", tool_calls=(call,)))

    with pytest.raises(LMTruncated):
        await PydanticAIBackend(lm).make(Text("x"), Tags)


def graph_of(**options: Any) -> Graph:
    graph = Graph("tags", input=Text, output=Tags)

    async def tag(text: Text) -> Tags: ...  # type: ignore[empty-body]

    tag.__doc__ = "Tag the text."
    graph.predict(name="tag", **options)(tag)
    return graph


@pytest.mark.parametrize("stream", [False, True])
async def test_c1_a_node_fails_and_its_event_says_why(stream: bool, autojump_clock: trio.abc.Clock):
    lm = ScriptedLM([Answer(CUT, finish_reason="length")])

    async with open_runtime(lm=lm) as runtime, runtime.stream(graph_of(stream=stream), Text("x")) as events:
        seen = [event async for event in events]

    assert [event.finish_reason for event in seen if isinstance(event, LMCalled)] == ["length"]
    assert isinstance(seen[-1], RunFinished)
    assert seen[-1].status == "failed"
    assert "stops in the middle" in repr(seen[-1].error)
    assert len(lm.calls) == 1


async def test_c1_a_node_may_accept_it(autojump_clock: trio.abc.Clock):
    async with open_runtime(lm=ScriptedLM([Answer(CUT, finish_reason="length")])) as runtime:
        made = await runtime.run(graph_of(truncated="accept"), Text("x"))

    assert made.tags[:2] == ["red", "green"]


def test_c1_another_word_is_refused():
    with pytest.raises(DeclarationError, match="truncated"):
        graph_of(truncated="ignore")
    with pytest.raises(DeclarationError, match="truncated"):
        LMClient("openai/m", truncated="ignore")


def reply(reason: str) -> httpx.Response:
    message = {"role": "assistant", "content": CUT}
    return httpx.Response(200, json={"choices": [{"message": message, "finish_reason": reason}], "usage": {}})


@pytest.mark.parametrize("truncated", ["error", "accept"])
async def test_c1_a_client_says_it_for_what_is_read_out_of_its_answers(truncated: str):
    async def handle(request: httpx.Request) -> httpx.Response:
        return reply("length")

    async with faking(handle, {"truncated": truncated}) as (lm,):
        assert (await lm.chat([{"role": "user", "content": "Hello"}])).is_truncated
        if truncated == "error":
            with pytest.raises(LMTruncated):
                await lm.predict("question -> tags: list[str]", question="?")
        else:
            assert (await lm.predict("question -> tags: list[str]", question="?")).tags[:2] == ["red", "green"]


SPELLINGS = {
    "OpenAI": {"choices": [{"finish_reason": "length"}]},
    "Mistral": {"choices": [{"finish_reason": "model_length"}]},
    "an older server": {"choices": [{"finish_reason": "max_tokens"}]},
    "OpenAI's responses": {"status": "incomplete", "incomplete_details": {"reason": "max_output_tokens"}},
    "Anthropic": {"stop_reason": "max_tokens"},
    "Anthropic, the window": {"stop_reason": "model_context_window_exceeded"},
    "Anthropic, streamed": {"type": "message_delta", "delta": {"stop_reason": "max_tokens"}},
    "Gemini": {"candidates": [{"finishReason": "MAX_TOKENS"}]},
    "Bedrock": {"stopReason": "max_tokens"},
    "Cohere": {"finish_reason": "MAX_TOKENS"},
    "Cohere, streamed": {"type": "message-end", "delta": {"finish_reason": "MAX_TOKENS"}},
    "Ollama": {"done": True, "done_reason": "length"},
}


@pytest.mark.parametrize("who", SPELLINGS)
def test_c1_every_providers_word_for_it_is_length(who: str):
    assert known_reason(told_reason(SPELLINGS[who]), "stop") == "length"


@pytest.mark.parametrize("reason", ["length", "model_length", "max_tokens", "MAX_TOKENS"])
@pytest.mark.parametrize("stream", [False, True])
async def test_c1_a_reply_with_any_of_them_is_cut(reason: str, stream: bool):
    piece = {"id": "1", "choices": [{"index": 0, "delta": {"content": "a"}, "finish_reason": None}]}
    last = {"id": "1", "choices": [{"index": 0, "delta": {}, "finish_reason": reason}]}

    async def handle(request: httpx.Request) -> httpx.Response:
        if not stream:
            return reply(reason)
        body = "".join(f"data: {json.dumps(chunk)}\n\n" for chunk in (piece, last))
        return httpx.Response(200, headers={"content-type": "text/event-stream"}, text=body)

    async with faking(handle) as (lm,):
        messages = [{"role": "user", "content": "Hello"}]
        if stream:
            async with lm.stream(messages) as answer:
                async for _ in answer:
                    pass
            assert answer.completion.is_truncated
        else:
            assert (await lm.chat(messages)).is_truncated
