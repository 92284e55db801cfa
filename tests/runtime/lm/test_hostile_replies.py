"""Replies that no provider should send: an error of the table or an answer, never another exception, and nothing left behind."""

import json
import logging
from typing import Any

import httpx
import pytest
import trio

from actors.errors import LMBadRequest, LMError, LMReplyUnreadable, LMUnavailable, UsageError
from actors.lm import TextDelta
from runtime.lm.client import LMClient
from runtime.lm.limits.budget import Budget
from runtime.lm.limits.retry import Retry
from tests.runtime.lm.faking import HELLO, faking

ONCE = Retry(max_attempts=1)
JSON, EVENTS = "application/json", "text/event-stream"
STOP = b'{"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}'
DONE = b"[DONE]"


def deep(levels: int) -> bytes:
    return b"[" * levels + b"]" * levels


def events(*datas: bytes) -> bytes:
    return b"".join(b"data: " + data + b"\n\n" for data in datas)


def piece(delta: bytes) -> bytes:
    return b'{"choices":[{"index":0,"delta":' + delta + b"}]}"


def whole(content: bytes = b'"hi"', reason: bytes = b'"stop"', more: bytes = b"") -> bytes:
    return (
        b'{"choices":[{"message":{"role":"assistant","content":' + content + b'},"finish_reason":' + reason + b"}]" + more + b"}"
    )


def usage(prompt: int, completion: int) -> bytes:
    told = {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}
    return b',"usage":' + json.dumps(told).encode()


async def what_comes(body: bytes, kind: str = JSON, status: int = 200, **options: Any) -> Any:
    """The completion, or the error; the client is as it was before."""

    async def handle(request: httpx.Request) -> httpx.Response:
        return httpx.Response(status, content=body, headers={"content-type": kind})

    budget = Budget()
    async with faking(handle, {"retry": ONCE, "budget": budget, **options}) as (lm,):
        result = await asked(lm, kind)
        link = lm._requester.link
        assert link is not None
        assert link.account is not None
        assert (budget.holders, link.limiter.borrowed_tokens, link.account.statistics().in_flight) == (0, 0, 0)
        assert link.transport.statistics().in_flight == 0
    return result, budget


async def asked(lm: LMClient, kind: str) -> Any:
    try:
        if kind == JSON:
            return await lm.chat(HELLO)
        async with lm.stream(HELLO) as stream:
            async for _ in stream:
                pass
        return stream.completion
    except LMError as error:
        return error


@pytest.mark.parametrize("levels", [450, 900, 990, 100_000])
@pytest.mark.parametrize("status", [200, 400, 500])
@pytest.mark.parametrize("form", [b"%s", b'{"error":%s}', b'{"error":{"message":%s}}', b'{"error":{"message":"x","code":%s}}'])
async def test_json_without_bottom_is_an_error_of_the_table(form: bytes, status: int, levels: int):
    error, _ = await what_comes(form % deep(levels), status=status)

    assert type(error) in (
        {LMReplyUnreadable, LMUnavailable} if status == 200 else {LMBadRequest if status == 400 else LMUnavailable}
    )


@pytest.mark.parametrize(
    "datas",
    [
        [b'{"error":' + deep(100_000) + b"}"],
        [deep(100_000)],
        [piece(b'{"content":5}'), STOP, DONE],
        [piece(b'{"content":[{"type":"image","text":"a"}]}'), STOP, DONE],
        [piece(b'{"reasoning_content":{"a":1}}'), STOP, DONE],
        [piece(b'{"tool_calls":[{"index":0}]}'), STOP, DONE],
        [piece(b'{"content":"a"}'), STOP, b'{"choices":[],"usage":{"prompt_tokens":"many","completion_tokens":3}}', DONE],
        [piece(b"null"), STOP, DONE],
        [b"null"],
        [b"1"],
    ],
)
async def test_an_event_of_another_shape_cannot_be_read(datas: list[bytes]):
    error, budget = await what_comes(events(*datas), EVENTS)

    assert type(error) is LMReplyUnreadable
    assert budget.tokens == budget.estimated_tokens  # of the pieces that had come


@pytest.mark.parametrize("kind", [JSON, EVENTS])
async def test_what_a_provider_says_it_gives_back_is_nothing(kind: str):
    told = usage(-500, -400)
    stream = events(piece(b'{"content":"hi"}'), STOP, b'{"choices":[]' + told + b"}", DONE)
    answer, budget = await what_comes(whole(more=told) if kind == JSON else stream, kind, model="openai/gpt-4o")

    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens, answer.usage.cost_usd) == (0, 0, 0.0)
    assert (budget.tokens >= 0, budget.cost_usd >= 0) == (True, True)


@pytest.mark.parametrize("kind", [JSON, EVENTS])
async def test_an_answer_whose_usage_nobody_tells_is_charged_by_its_length(kind: str):
    text = b'"' + b"word " * 400 + b'"'
    body = whole(text) if kind == JSON else events(piece(b'{"content":' + text + b"}"), STOP, DONE)
    answer, budget = await what_comes(body, kind, model="openai/gpt-4o")

    assert answer.usage.total_tokens == 0
    assert 500 < budget.tokens < 560  # 2,000 characters, and those of the request
    assert budget.cost_usd == pytest.approx(500 * 10e-6, rel=0.05)


async def test_one_usage_that_has_no_price_does_not_make_the_next_answers_cost_nothing(monkeypatch: pytest.MonkeyPatch):
    async def handle(request: httpx.Request) -> httpx.Response:
        return httpx.Response(200, content=whole(more=usage(1000, 10)))

    async with faking(handle, {"model": "openai/gpt-4o"}) as (lm,):
        with monkeypatch.context() as patch:
            patch.setattr("litellm.completion_cost", lambda *args, **kwargs: 1 / 0)
            assert (await lm.chat(HELLO)).usage.cost_usd is None
        assert (await lm.chat(HELLO)).usage.cost_usd == pytest.approx(0.0026)


async def test_a_character_that_two_pieces_share_is_one():
    first, second = piece(b'{"content":"a\\ud83d"}'), piece(b'{"content":"\\ude00b"}')

    async def handle(request: httpx.Request) -> httpx.Response:
        return httpx.Response(200, content=events(first, second, STOP, DONE), headers={"content-type": EVENTS})

    async with faking(handle) as (lm,), lm.stream(HELLO) as stream:
        pieces = [delta async for delta in stream]

    assert pieces == [TextDelta("a"), TextDelta("😀b")]
    assert stream.completion.text == "a😀b"


@pytest.mark.parametrize(
    ("body", "kind"),
    [(whole(b'"a\\ud83d"'), JSON), (events(piece(b'{"content":"a\\ud83d"}'), piece(b'{"content":"!"}'), STOP), EVENTS)],
)
async def test_half_a_character_never_reaches_the_caller(body: bytes, kind: str):
    answer, _ = await what_comes(body, kind)

    assert answer.text.startswith("a\ufffd")
    assert answer.text.encode()


async def test_a_reason_that_nobody_knows_moves_no_cursor_in_the_log(caplog: pytest.LogCaptureFixture):
    caplog.set_level(logging.DEBUG)
    answer, _ = await what_comes(whole(reason=b'"\\u001b]0;title\\u0007"'))

    assert answer.finish_reason == "stop"
    assert not any(char in record.getMessage() for record in caplog.records for char in "\x1b\x07")


# --- options that come from a run's input ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "option",
    [
        "aws_bedrock_runtime_endpoint",
        "aws_sts_endpoint",
        "aws_web_identity_token",
        "azure_endpoint",
        "callbacks",
        "endpoint",
        "host",
        "http_proxy",
        "oci_key_file",
        "project_url",
        "sagemaker_base_url",
        "use_litellm_proxy",
        "vertex_credentials",
    ],
)
@pytest.mark.parametrize("model", ["openai/m", "bedrock/anthropic.claude-3-7-sonnet-20250219-v1:0", "databricks/m"])
async def test_an_option_of_a_call_sends_it_nowhere_else(model: str, option: str):
    async def handle(request: httpx.Request) -> httpx.Response:
        raise AssertionError("nothing is sent")

    keys = {"aws_access_key_id": "a", "aws_secret_access_key": "s", "aws_region_name": "eu-central-1"}
    more = {"api_key": None, "provider_options": keys} if model.startswith("bedrock") else {}
    async with faking(handle, {"model": model, **more}) as (lm,):
        with pytest.raises(UsageError):
            await lm.embed(["a"], **{option: "http://evil.example"})
        with pytest.raises(UsageError) as caught:
            await lm.chat(HELLO, **{option: "http://evil.example"})

    assert str(caught.value) == (
        f"a call does not take the option {option!r}: the client decides where requests go and as whom.\n"
        "  Fix: LMClient(..., api_base=…, provider_options={…}); or send it to the provider in extra_body={…}."
    )


@pytest.mark.parametrize("headers", [{"x": "é"}, {"x": "\ud83d"}, {"\ud83d": "x"}])
async def test_a_header_that_http_cannot_carry_is_a_bad_request(headers: dict[str, str]):
    async def handle(request: httpx.Request) -> httpx.Response:
        raise AssertionError("nothing is sent")

    async with faking(handle) as (lm,):
        with pytest.raises(LMBadRequest, match=r"^'openai/m'|^the header '.*' has characters that HTTP cannot carry\."):
            await lm.chat(HELLO, extra_headers=headers)


# --- many at once -----------------------------------------------------------------------------------------------------------


async def test_a_thousand_calls_at_once_spend_what_there_is_and_not_more(virtual_clock: trio.abc.Clock):
    sent, ends = 0, {"answered": 0, "refused": 0}

    async def handle(request: httpx.Request) -> httpx.Response:
        nonlocal sent
        sent += 1
        await trio.sleep(1)
        return httpx.Response(200, content=whole(more=usage(15, 80)))

    async def one(lm: LMClient) -> None:
        try:
            await lm.chat(HELLO, max_tokens=80)
            ends["answered"] += 1
        except LMError:
            ends["refused"] += 1

    budget = Budget(max_tokens=20_000)
    async with faking(handle, {"budget": budget, "max_connections": 50}) as (lm,):
        async with trio.open_nursery() as nursery:
            for _ in range(1000):
                nursery.start_soon(one, lm)

    assert ends["answered"] + ends["refused"] == 1000
    assert sent == ends["answered"] > 150
    assert budget.tokens == 95 * sent <= 20_000
    assert (budget.holders, budget.reserved_tokens) == (0, 0)
