"""What one odd server or header must not cost: three requests, ten seconds, or a good answer."""

import json
from collections.abc import Mapping
from typing import Any

import attrs
import httpx
import pytest
import trio

from actors.errors import LMReplyUnreadable, LMTimeout, LMUnavailable, UsageError
from runtime.lm.backends.typed import DSPyBackend
from runtime.lm.client import LMClient
from runtime.lm.limits.retry import Retry, retry_after_s
from runtime.testing import ScriptedLM
from tests.runtime.lm.faking import EXACT, HELLO, faking, model_of, said

PAGE = "<!DOCTYPE html><html><head><title>Sign in</title></head><body><form>Name, password</form></body></html>"


class Counting:
    def __init__(self, reply: httpx.Response) -> None:
        self.reply, self.asked = reply, 0

    async def __call__(self, request: httpx.Request) -> httpx.Response:
        if model_of(request) == "second":
            return said("second best")
        self.asked += 1
        return self.reply


async def read(lm: LMClient) -> str:
    async with lm.stream(HELLO) as stream:
        async for _ in stream:
            pass
    return stream.completion.text


@pytest.mark.parametrize("status", [501, 505])
async def test_c17_what_a_server_cannot_do_is_asked_once_and_a_fallback_is_asked(status: int):
    provider = Counting(httpx.Response(status))
    second: dict[str, Any] = {"model": "openai/second"}
    async with faking(provider, second) as (fallback,), faking(provider, {}, {"fallbacks": [fallback]}) as (lm, other):
        with pytest.raises(LMUnavailable, match=f"HTTP {status}"):
            await lm.chat(HELLO)
        assert provider.asked == 1
        assert (await other.chat(HELLO)).text == "second best"


@pytest.mark.parametrize("kind", ["text/html; charset=utf-8", "text/plain", None])
async def test_c17_a_login_page_costs_one_request(kind: str | None):
    provider = Counting(httpx.Response(200, content=PAGE.encode(), headers={} if kind is None else {"content-type": kind}))
    async with faking(provider) as (lm,):
        with pytest.raises(LMReplyUnreadable, match="check that api_base"):
            await lm.chat(HELLO)
        assert provider.asked == 1
        with pytest.raises(LMReplyUnreadable, match="check that api_base"):
            await read(lm)
        assert provider.asked == 2


@pytest.mark.parametrize("words", ["1_0", "١٠", "+5", "5s", "0x10", "1e", "", "-1", "nan", "inf", "1 0"])
def test_c17_only_numbers_are_numbers(words: str):
    assert retry_after_s({"retry-after": words}) is None
    assert retry_after_s({"retry-after-ms": words}) is None


@pytest.mark.parametrize(("words", "seconds"), [("10", 10), (" 7 ", 7), ("1.5", 1.5), ("0", 0), ("2.", 2), ("1e3", 1000)])
def test_c17_numbers_stay_numbers(words: str, seconds: float):
    assert retry_after_s({"retry-after": words}) == seconds


async def test_c17_underscores_are_not_waited_for(virtual_clock: trio.abc.Clock):
    replies = [httpx.Response(429, headers={"retry-after": "1_0"}), said("hi")]

    async def handle(request: httpx.Request) -> httpx.Response:
        return replies.pop(0)

    async with faking(handle) as (lm,):
        await lm.chat(HELLO)

    assert trio.current_time() == EXACT.backoff.first_s


USAGE = {"prompt_tokens": 9, "completion_tokens": 1, "total_tokens": 10}
PARTS = [{"type": "text", "text": "Hel"}, {"type": "text", "text": "lo"}]


def reply(usage: Mapping[str, Any], content: Any) -> dict[str, Any]:
    choice = {"index": 0, "message": {"role": "assistant", "content": content}, "finish_reason": "stop"}
    return {"id": "1", "object": "chat.completion", "created": 1, "model": "m", "choices": [choice], "usage": usage}


MODELS = ("openai/m", "groq/m", "mistral/m", "deepseek/m", "together_ai/m", "fireworks_ai/m", "openrouter/x/m")
FRACTIONS = {"prompt_tokens": 8.5, "completion_tokens": 0.5, "total_tokens": 9.0}


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize(
    ("usage", "content"),
    [
        (USAGE, "Hello"),
        ({"prompt_tokens": 9.0, "completion_tokens": 1.0, "total_tokens": 10.0}, "Hello"),
        ({**FRACTIONS, "prompt_tokens_details": {"cached_tokens": 1.5}}, "Hello"),
        (USAGE, PARTS),
        (USAGE, [{"type": "output_text", "text": "Hello"}]),
    ],
)
async def test_c17_a_good_answer_in_an_odd_form_is_an_answer(model: str, usage: Mapping[str, Any], content: Any):
    async def handle(request: httpx.Request) -> httpx.Response:
        return httpx.Response(200, json=reply(usage, content))

    async with faking(handle, {"model": model}) as (lm,):
        answer = await lm.chat(HELLO)

    assert (answer.text, answer.attempts) == ("Hello", 1)
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens) == (9, 1)


@pytest.mark.parametrize("model", ["openai/m", "groq/m", "mistral/m"])
async def test_c17_the_same_in_a_stream(model: str):
    chunks: list[dict[str, Any]] = [
        {"choices": [{"index": 0, "delta": {"role": "assistant", "content": PARTS[:1]}}]},
        {"choices": [{"index": 0, "delta": {"content": "lo"}, "finish_reason": "stop"}]},
        {"choices": [], "usage": FRACTIONS},
    ]
    base = {"id": "1", "object": "chat.completion.chunk", "created": 1, "model": "m"}
    body = "".join(f"data: {json.dumps({**base, **chunk})}\n\n" for chunk in chunks) + "data: [DONE]\n\n"

    async def handle(request: httpx.Request) -> httpx.Response:
        return httpx.Response(200, headers={"content-type": "text/event-stream"}, text=body)

    async with faking(handle, {"model": model}) as (lm,), lm.stream(HELLO) as stream:
        async for _ in stream:
            pass

    assert stream.completion.text == "Hello"
    assert (stream.completion.usage.prompt_tokens, stream.completion.usage.completion_tokens) == (9, 1)


# --- what is resolved is checked ------------------------------------------------------------------------------------------


@attrs.frozen
class Part:
    size: int


@attrs.frozen
class Whole:
    count: int
    part: Part
    words: list[str]


@pytest.mark.parametrize(
    ("resolved", "name"),
    [({"count": "many"}, "count"), ({"count": "5"}, "count"), ({"part": {"size": 1}}, "part"), ({"words": ["a", 2]}, "words")],
)
async def test_c17_what_is_resolved_must_be_of_its_fields_type(resolved: dict[str, object], name: str):
    lm = ScriptedLM([])
    with pytest.raises(UsageError, match=f"Whole.{name} cannot be what was resolved: .*got "):
        await DSPyBackend(lm).fill(Whole, resolved, "Fill it.")

    assert lm.calls == []


async def test_c17_what_fits_is_kept_as_it_is():
    part = Part(1)
    whole = await DSPyBackend(ScriptedLM([{"words": ["a"]}])).fill(Whole, {"count": 5, "part": part}, "Fill it.")

    assert whole == Whole(5, part, ["a"])
    assert whole.part is part


# --- a proxy on the way ---------------------------------------------------------------------------------------------------


async def test_c17_a_dead_proxy_is_named(monkeypatch: pytest.MonkeyPatch):
    for name in ("HTTP_PROXY", "http_proxy", "NO_PROXY", "no_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HTTP_PROXY", "http://user:word-of-the-proxy@127.0.0.1:9")
    async with LMClient("openai/m", api_key="k", api_base="http://provider.example/v1", retry=Retry(max_attempts=1)) as lm:
        with pytest.raises((LMUnavailable, LMTimeout)) as caught:
            await lm.chat(HELLO)

    words = str(caught.value)
    assert "no reply from the proxy http://127.0.0.1:9, on the way to http://provider.example/v1" in words
    assert "HTTP_PROXY" in words.partition("Fix: ")[2]
    assert "word-of-the-proxy" not in words
