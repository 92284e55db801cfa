"""Replies that hold a text and nothing else are read to what LiteLLM reads them to; of any other it is said that they are not."""

import json
from typing import Any

import pytest

from runtime.lm.http.http_messages import HttpReply
from runtime.lm.providers import replies
from runtime.lm.providers.plain import plain_answer
from runtime.lm.providers.translation import Translator

USAGE = {"prompt_tokens": 1000, "completion_tokens": 20, "total_tokens": 1020}
DETAILS = {
    "prompt_tokens_details": {"cached_tokens": 800, "audio_tokens": 0},
    "completion_tokens_details": {"reasoning_tokens": 5, "audio_tokens": None},
}
PLAIN: dict[str, dict[str, Any]] = {
    "short": {},
    "as OpenAI sends it": {
        "message": {"refusal": None, "annotations": []},
        "choice": {"logprobs": None},
        "usage": DETAILS,
        "reply": {"service_tier": "default", "system_fingerprint": "fp_1"},
    },
    "served with priority": {"reply": {"service_tier": "priority"}, "usage": DETAILS},
    "as vLLM sends it": {
        "message": {"reasoning_content": None, "tool_calls": [], "audio": None, "function_call": None},
        "choice": {"stop_reason": None, "token_ids": None},
        "usage": {"prompt_tokens_details": None},
        "reply": {"prompt_logprobs": None, "kv_transfer_params": None, "error": None},
    },
    "cut off": {"choice": {"finish_reason": "length"}},
    "Grüße": {"message": {"content": "Grüße 🙂\n\n[[ ## text ## ]]"}},
}
OTHERS: dict[str, dict[str, Any]] = {
    "reasoning in tags": {"message": {"content": "<think>hm</think>Hi"}},
    "reasoning": {"message": {"reasoning_content": "hm"}},
    "a tool call": {"message": {"tool_calls": [{"id": "1", "type": "function", "function": {"name": "f", "arguments": "{}"}}]}},
    "a refusal": {"message": {"content": "Hi", "refusal": "no"}},
    "another reason": {"choice": {"finish_reason": "eos"}},
    "no reason": {"choice": {"finish_reason": None}},
    "log probabilities": {"choice": {"logprobs": {"content": []}}},
    "parts": {"message": {"content": [{"type": "text", "text": "Hi"}]}},
    "another role": {"message": {"role": None}},
    "a cost": {"usage": {"cost": 0.5}},
    "tokens as text": {"usage": {"prompt_tokens": "7"}},
    "details as a number": {"usage": {"prompt_tokens_details": 7}},
    "no model": {"reply": {"model": None}},
    "no usage": {"reply": {"usage": None}},
    "two answers": {"reply": {"choices": [{}, {}]}},
    "no answers": {"reply": {"choices": None}},
    "a field of its own": {"reply": {"citations": ["x"]}},
    "a tier that is no text": {"reply": {"service_tier": 1}},
}


def body(
    message: dict[str, Any] | None = None,
    choice: dict[str, Any] | None = None,
    usage: dict[str, Any] | None = None,
    reply: dict[str, Any] | None = None,
) -> bytes:
    first = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "Hi", **(message or {})}}
    whole = {"id": "1", "object": "chat.completion", "created": 1, "model": "gpt-4o-mini-2024-07-18"}
    return json.dumps(
        {**whole, "choices": [{**first, **(choice or {})}], "usage": {**USAGE, **(usage or {})}, **(reply or {})}
    ).encode()


@pytest.mark.parametrize("case", PLAIN)
@pytest.mark.parametrize(
    "model",
    [
        "openai/gpt-4o-mini",
        "openai/gpt-5-mini",
        "openai/my-own-model",
        "deepseek/deepseek-chat",
        "hosted_vllm/q",
        "cerebras/llama3.1-8b",
    ],
)
def test_a_plain_answer_equals_litellms(model: str, case: str, monkeypatch: pytest.MonkeyPatch):
    translator = Translator(model, api_key="k", api_base="http://127.0.0.1:9/v1")
    exchange = translator.request([{"role": "user", "content": "Hello"}], {})
    reply = HttpReply(200, {"content-type": "application/json"}, body(**PLAIN[case]))
    assert plain_answer(reply.body) is not None

    ours = translator.completion(exchange, reply)

    monkeypatch.setattr(replies, "plain_answer", lambda body: None)  # pyright: ignore[reportUnknownLambdaType, reportUnknownArgumentType]
    assert ours == translator.completion(exchange, reply)


@pytest.mark.parametrize("case", OTHERS)
def test_any_other_reply_is_left_to_litellm(case: str):
    assert plain_answer(body(**OTHERS[case])) is None


@pytest.mark.parametrize("other", [b"", b"{", b"[]", b"null", b'"text"', b"\xff\xfe", b'{"choices": {}}'])
def test_what_is_no_reply_is_left_to_litellm(other: bytes):
    assert plain_answer(other) is None


def test_a_provider_whose_replies_litellm_reads_differently_is_left_to_it(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(replies, "plain_answer", pytest.fail)
    translator = Translator("groq/llama-3.3-70b-versatile", api_key="k", api_base="http://127.0.0.1:9/v1")
    exchange = translator.request([{"role": "user", "content": "Hello"}], {})

    assert (
        translator.completion(
            exchange, HttpReply(200, {"content-type": "application/json"}, body(reply={"service_tier": "on_demand"}))
        ).text
        == "Hi"
    )
