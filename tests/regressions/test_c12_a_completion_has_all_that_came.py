"""A completion has what the provider sent, whole and streamed, and signed reasoning goes back unchanged in a tool loop."""

import json
from typing import Any

import httpx
import pytest

from actors.errors import LMBadRequest
from actors.lm import Completion
from runtime.lm.limits.cache import SqliteCache
from runtime.lm.providers.translation import Translator
from tests.runtime.lm.faking import HELLO, faking

USAGE = {
    "prompt_tokens": 1000,
    "completion_tokens": 100,
    "total_tokens": 1100,
    "prompt_tokens_details": {"cached_tokens": 800},
    "completion_tokens_details": {"reasoning_tokens": 60},
}
LOGPROBS = {"content": [{"token": "Hi", "logprob": -0.1, "bytes": [72, 105], "top_logprobs": []}]}
BLOCKS = [
    {"type": "thinking", "thinking": "Let me see.", "signature": "c2lnbmVk"},
    {"type": "redacted_thinking", "data": "c2VjcmV0"},
]
TOOL = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object", "properties": {}}}}


def openai(**message: Any) -> dict[str, Any]:
    choice = {
        "index": 0,
        "finish_reason": "stop",
        "logprobs": LOGPROBS,
        "message": {"role": "assistant", "content": "Hi", **message},
    }
    return {"id": "chatcmpl-7", "object": "chat.completion", "created": 1, "model": "gpt-4o", "choices": [choice], "usage": USAGE}


def anthropic() -> dict[str, Any]:
    content = [*BLOCKS, {"type": "tool_use", "id": "c1", "name": "weather", "input": {}}]
    usage = {"input_tokens": 1000, "output_tokens": 100, "cache_read_input_tokens": 800}
    base = {"id": "msg_7", "type": "message", "role": "assistant", "model": "claude"}
    return {**base, "stop_reason": "tool_use", "content": content, "usage": usage}


def anthropic_events() -> str:
    start = {
        "id": "msg_7",
        "type": "message",
        "role": "assistant",
        "model": "claude",
        "content": [],
        "usage": {"input_tokens": 10, "output_tokens": 1},
    }
    pieces: list[dict[str, Any]] = [
        {"type": "message_start", "message": start},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "thinking", "thinking": "", "signature": ""}},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "thinking_delta", "thinking": "Let me "}},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "thinking_delta", "thinking": "see."}},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "signature_delta", "signature": "c2lnbmVk"}},
        {"type": "content_block_stop", "index": 0},
        {"type": "content_block_start", "index": 1, "content_block": BLOCKS[1]},
        {"type": "content_block_stop", "index": 1},
        {
            "type": "content_block_start",
            "index": 2,
            "content_block": {"type": "tool_use", "id": "c1", "name": "weather", "input": {}},
        },
        {"type": "content_block_delta", "index": 2, "delta": {"type": "input_json_delta", "partial_json": "{}"}},
        {"type": "content_block_stop", "index": 2},
        {"type": "message_delta", "delta": {"stop_reason": "tool_use"}, "usage": {"output_tokens": 100}},
        {"type": "message_stop"},
    ]
    return "".join(f"event: {piece['type']}\ndata: {json.dumps(piece)}\n\n" for piece in pieces)


async def answer_to(reply: httpx.Response, model: str = "openai/gpt-4o", *, stream: bool = False, **more: Any) -> Completion:
    async def handle(request: httpx.Request) -> httpx.Response:
        return reply

    base = "http://provider" if model.startswith("anthropic") else "http://provider/v1"
    async with faking(handle, {"model": model, "api_base": base, **more}) as (lm,):
        if not stream:
            return await lm.chat(HELLO, max_tokens=5)
        async with lm.stream(HELLO, max_tokens=5) as answer:
            async for _ in answer:
                pass
        return answer.completion


async def test_c12_what_openai_sends_is_there():
    annotations = [{"type": "url_citation", "url_citation": {"url": "u", "title": "t", "start_index": 0, "end_index": 1}}]
    audio = {"id": "audio_1", "data": "aGk=", "expires_at": 1, "transcript": "Hi"}
    sent = openai(annotations=annotations, audio=audio)
    answer = await answer_to(httpx.Response(200, json=sent))

    assert (answer.id, answer.raw) == ("chatcmpl-7", sent)
    assert (answer.usage.cached_tokens, answer.usage.reasoning_tokens) == (800, 60)
    assert answer.logprobs is not None
    assert answer.logprobs["content"][0]["logprob"] == -0.1
    assert answer.audio is not None
    assert answer.audio["transcript"] == "Hi"
    assert [each["url_citation"]["url"] for each in answer.citations] == ["u"]


async def test_c12_a_plain_reply_has_its_name_and_details_too():
    sent = openai()
    del sent["choices"][0]["logprobs"]
    answer = await answer_to(httpx.Response(200, json=sent))

    assert (answer.id, answer.raw) == ("chatcmpl-7", sent)
    assert (answer.usage.cached_tokens, answer.usage.reasoning_tokens) == (800, 60)


async def test_c12_a_streams_probabilities_and_details_are_there():
    chunks: list[dict[str, Any]] = [
        {"id": "chatcmpl-7", "choices": [{"index": 0, "delta": {"content": "Hi"}, "logprobs": LOGPROBS, "finish_reason": None}]},
        {"id": "chatcmpl-7", "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]},
        {"id": "chatcmpl-7", "choices": [], "usage": USAGE},
    ]
    body = "".join(f"data: {json.dumps(chunk)}\n\n" for chunk in chunks)
    answer = await answer_to(httpx.Response(200, headers={"content-type": "text/event-stream"}, text=body), stream=True)

    assert answer.id == "chatcmpl-7"
    assert answer.logprobs is not None
    assert [each["logprob"] for each in answer.logprobs["content"]] == [-0.1]
    assert (answer.usage.cached_tokens, answer.usage.reasoning_tokens) == (800, 60)


@pytest.mark.parametrize("stream", [False, True])
async def test_c12_signed_reasoning_goes_back_unchanged_in_a_tool_loop(stream: bool):
    headers = {"content-type": "text/event-stream"} if stream else {}
    reply = httpx.Response(200, headers=headers, text=anthropic_events()) if stream else httpx.Response(200, json=anthropic())
    answer = await answer_to(reply, "anthropic/claude-sonnet-4-5", stream=stream)
    result = {"role": "tool", "tool_call_id": "c1", "content": "4 degrees"}
    options = {"tools": [TOOL], "thinking": {"type": "enabled", "budget_tokens": 1024}, "max_tokens": 2048}
    request = Translator("anthropic/claude-sonnet-4-5", api_key="k").request([*HELLO, answer.message(), result], options)

    assert [dict(block) for block in answer.thinking] == BLOCKS
    sent = next(message for message in request.data["messages"] if message["role"] == "assistant")
    assert [block for block in sent["content"] if "thinking" in block["type"]] == BLOCKS
    assert [block["id"] for block in sent["content"] if block["type"] == "tool_use"] == ["c1"]


async def test_c12_geminis_signatures_of_thoughts_go_back_with_their_calls():
    part = {"functionCall": {"name": "weather", "args": {}}, "thoughtSignature": "c2lnbmVk"}
    candidate = {"index": 0, "content": {"role": "model", "parts": [part]}, "finishReason": "STOP"}
    usage = {"promptTokenCount": 10, "candidatesTokenCount": 1, "totalTokenCount": 11}
    body = {"responseId": "r7", "modelVersion": "g", "candidates": [candidate], "usageMetadata": usage}
    for stream in (False, True):
        if stream:
            reply = httpx.Response(200, headers={"content-type": "text/event-stream"}, text=f"data: {json.dumps(body)}\n\n")
        else:
            reply = httpx.Response(200, json=body)
        answer = await answer_to(reply, "gemini/gemini-2.5-flash", stream=stream)
        call = answer.tool_calls[0].id
        result = {"role": "tool", "tool_call_id": call, "content": "4 degrees"}
        request = Translator("gemini/gemini-2.5-flash", api_key="k").request(
            [*HELLO, answer.message(), result], {"tools": [TOOL]}
        )

        assert answer.id == "r7"
        assert '"c2lnbmVk"' in request.request.body.decode()


async def test_c12_a_kept_answer_still_has_it_all(tmp_path: Any):
    cache = SqliteCache(tmp_path / "answers", keeps_sampled=True)
    first = await answer_to(httpx.Response(200, json=anthropic()), "anthropic/claude-sonnet-4-5", cache=cache)
    again = await answer_to(httpx.Response(500), "anthropic/claude-sonnet-4-5", cache=cache)
    cache.close()

    assert (again.thinking, again.tool_calls, again.raw, again.id) == (first.thinking, first.tool_calls, first.raw, "msg_7")


@pytest.mark.parametrize("model", ["openai/gpt-4o", "anthropic/claude-sonnet-4-5", "openrouter/openai/gpt-4o"])
def test_c12_metadata_is_sent_to_those_who_take_it(model: str):
    request = Translator(model, api_key="k").request(HELLO, {"metadata": {"user_id": "u"}})

    assert json.loads(request.request.body)["metadata"] == {"user_id": "u"}


def test_c12_metadata_that_a_provider_does_not_take_is_refused_as_any_option():
    translator = Translator("gemini/gemini-2.5-flash", api_key="k")

    with pytest.raises(LMBadRequest, match="metadata"):
        translator.request(HELLO, {"metadata": {"user_id": "u"}})
    assert b"metadata" not in translator.request(HELLO, {"metadata": {"user_id": "u"}, "drop_params": True}).request.body
