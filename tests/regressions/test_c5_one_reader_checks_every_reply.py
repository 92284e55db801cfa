"""What is checked of one kind of reply is checked of all: plain ones, others, and streams."""

import json
import logging
from typing import Any

import httpx
import pytest

from actors.errors import LMRefused
from actors.lm import Completion
from runtime.lm.client import LMClient
from runtime.lm.limits.budget import Budget
from runtime.lm.limits.cache import SqliteCache
from tests.runtime.lm.faking import HELLO, faking

KINDS = pytest.mark.parametrize("kind", ["plain", "other", "streamed"])
SURROGATE = '"a\\ud83d b"'
CALL = '[{"index": 0, "id": "c1", "type": "function", "function": {"name": "f", "arguments": "{\\"a\\": \\"\\ud83d\\"}"}}]'


def answer_of(kind: str, *, content: str = '"Hello there, friend"', usage: str = "null", more: str = "") -> httpx.Response:
    """A reply of that kind; `content`, `usage` and `more` of the message are JSON."""
    if kind == "streamed":
        chunks = [
            f'{{"id": "1", "choices": [{{"index": 0, "delta": {{"content": {content}{more}}}, "finish_reason": null}}]}}',
            '{"id": "1", "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}',
            f'{{"id": "1", "choices": [], "usage": {usage}}}',
        ]
        body = "".join(f"data: {chunk}\n\n" for chunk in chunks) + "data: [DONE]\n\n"
        return httpx.Response(200, headers={"content-type": "text/event-stream"}, text=body)
    reasoning = ', "reasoning_content": "hm"' if kind == "other" else ""
    message = f'{{"role": "assistant", "content": {content}{reasoning}{more}}}'
    body = (
        '{"id": "1", "object": "chat.completion", "created": 1, "model": "m", "choices": '
        f'[{{"index": 0, "finish_reason": "stop", "message": {message}}}], "usage": {usage}}}'
    )
    return httpx.Response(200, headers={"content-type": "application/json"}, text=body)


async def asked(lm: LMClient, kind: str) -> Completion:
    if kind != "streamed":
        return await lm.chat(HELLO)
    async with lm.stream(HELLO) as stream:
        async for _ in stream:
            pass
    return stream.completion


async def what_comes(kind: str, reply: httpx.Response, **options: Any) -> tuple[Completion, Budget]:
    budget = Budget(max_tokens=10_000)

    async def handle(request: httpx.Request) -> httpx.Response:
        return reply

    async with faking(handle, {"model": "openai/gpt-4o", "budget": budget, **options}) as (lm,):
        return await asked(lm, kind), budget


def usage(prompt: object, completion: object) -> str:
    return json.dumps({"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": 1})


@KINDS
@pytest.mark.parametrize("told", [(-1_000_000, -5), (-5, 3)])
async def test_c5_negative_usage_gives_nothing_back(kind: str, told: tuple[int, int]):
    answer, budget = await what_comes(kind, answer_of(kind, usage=usage(*told)))

    assert answer.usage.prompt_tokens == 0
    assert answer.usage.completion_tokens >= 0
    assert (budget.tokens >= 0, budget.cost_usd >= 0) == (True, True)


@KINDS
@pytest.mark.parametrize("told", [(10**18, 5), (5, 10**18), (10**18, 10**18)])
async def test_c5_absurd_usage_is_charged_by_length_with_a_warning(
    kind: str, told: tuple[int, int], caplog: pytest.LogCaptureFixture
):
    with caplog.at_level(logging.WARNING, "understudy.lm"):
        answer, budget = await what_comes(kind, answer_of(kind, usage=usage(*told)))

    assert 0 < budget.tokens < 100
    assert 0 < budget.cost_usd < 0.01
    assert answer.usage.total_tokens == 0
    assert "charged by its length" in caplog.text


@KINDS
async def test_c5_half_a_character_can_be_sent_again_and_kept(kind: str, tmp_path: Any):
    cache = SqliteCache(tmp_path / "answers", keeps_sampled=True)
    answer, _ = await what_comes(kind, answer_of(kind, content=SURROGATE), cache=cache)
    again, _ = await what_comes(kind, httpx.Response(500), cache=cache)

    assert (answer.text, again.text) == ("a\ufffd b", "a\ufffd b")
    cache.close()


@pytest.mark.parametrize("kind", ["other", "streamed"])
async def test_c5_half_a_character_in_the_arguments_of_a_tool_can_be_sent_again(kind: str):
    answer, _ = await what_comes(kind, answer_of(kind, content="null", more=f', "tool_calls": {CALL}'))

    (call,) = answer.tool_calls
    assert call.arguments.encode()
    assert json.loads(call.arguments) == {"a": "\ufffd"}


@pytest.mark.parametrize("kind", ["plain", "streamed"])
async def test_c5_a_refusal_is_a_refusal_on_every_road(kind: str):
    more = ', "refusal": "I cannot help with that."'

    with pytest.raises(LMRefused, match=r"declined to answer: I cannot help with that\."):
        await what_comes(kind, answer_of(kind, content="null", more=more))


async def test_c5_a_refusal_in_pieces_is_one():
    pieces = [
        f'{{"id": "1", "choices": [{{"index": 0, "delta": {{"refusal": "{text}"}}, "finish_reason": null}}]}}'
        for text in ("No", ", no.")
    ]
    last = '{"id": "1", "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}'
    body = "".join(f"data: {chunk}\n\n" for chunk in (*pieces, last))

    with pytest.raises(LMRefused, match=r"declined to answer: No, no\."):
        await what_comes("streamed", httpx.Response(200, headers={"content-type": "text/event-stream"}, text=body))
