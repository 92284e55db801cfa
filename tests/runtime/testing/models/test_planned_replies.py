"""Every scripted failure as a client sees it."""

from __future__ import annotations

import json

import httpx
import pytest
import trio.testing

from runtime.testing import Failure, ModelScript, open_loopback
from tests.runtime.testing.client import ANTHROPIC, OPENAI, asking, connected, events


def failing(*failures: Failure) -> dict[str, ModelScript]:
    return {"small": ModelScript("alpha beta gamma", latency_s=1.0, failures=failures)}


async def test_the_first_requests_fail_in_order_and_the_next_succeeds(virtual_clock: trio.testing.MockClock) -> None:
    models = failing(Failure.status(429, retry_after_s=2.0), Failure.status(500, message="On fire.", after_s=None))

    async with open_loopback(models) as provider, connected(provider) as client:
        limited, broken, fine = [await client.post(OPENAI, json=asking("small")) for _ in range(3)]

    assert (limited.status_code, limited.headers["retry-after"]) == (429, "2")
    assert limited.json()["error"]["type"] == "rate_limit_error"
    assert (broken.status_code, broken.json()["error"]["message"]) == (500, "On fire.")
    assert fine.status_code == 200
    seen = [(record.failure, record.status, record.ended_s) for record in provider.requests]
    assert seen == [("status", 429, 0.0), ("status", 500, 1.0), (None, 200, 2.0)]


async def test_an_anthropic_client_gets_anthropics_error() -> None:
    async with open_loopback(failing(Failure.status(529))) as provider, connected(provider) as client:
        reply = await client.post(ANTHROPIC, json=asking("small"))

    error = {"type": "overloaded_error", "message": "Scripted failure 529."}
    assert reply.json() == {"type": "error", "error": error}


@pytest.mark.parametrize("stream", [False, True])
async def test_a_disconnect_comes_before_any_byte(stream: bool) -> None:
    async with open_loopback(failing(Failure.disconnect())) as provider, connected(provider) as client:
        with pytest.raises(httpx.RemoteProtocolError, match=r"^Server disconnected without sending a response\.$"):
            await client.post(OPENAI, json=asking("small", stream=stream))
        record = await provider.wait_ended(1)

    assert (record.status, record.first_byte_s, record.cancelled_by_client) == (None, None, False)


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("path", [OPENAI, ANTHROPIC])
async def test_a_disconnect_in_mid_body_leaves_half_an_answer(
    virtual_clock: trio.testing.MockClock, path: str, stream: bool
) -> None:
    async with open_loopback(failing(Failure.disconnect_mid_body())) as provider, connected(provider) as client:
        with pytest.raises(httpx.RemoteProtocolError, match=r"^peer closed connection without sending complete message body"):
            await client.post(path, json=asking("small", stream=stream))
        record = await provider.wait_ended(1)

    assert (record.status, record.first_byte_s, record.cancelled_by_client) == (200, 1.0, False)


@pytest.mark.parametrize("stream", [False, True])
async def test_garbage_is_html_with_status_200(virtual_clock: trio.testing.MockClock, stream: bool) -> None:
    async with open_loopback(failing(Failure.garbage())) as provider, connected(provider) as client:
        reply = await client.post(OPENAI, json=asking("small", stream=stream))

    assert (reply.status_code, reply.headers["content-type"]) == (200, "text/html")
    with pytest.raises(ValueError):
        json.loads(reply.content)


async def test_truncated_json_is_a_whole_response_with_half_a_body(virtual_clock: trio.testing.MockClock) -> None:
    async with open_loopback(failing(Failure.truncated_json())) as provider, connected(provider) as client:
        cut, whole = [await client.post(OPENAI, json=asking("small")) for _ in range(2)]

    assert (cut.status_code, len(cut.content)) == (200, len(whole.content) // 2)
    assert whole.content.startswith(cut.content[:60].replace(b"000001", b"000002"))


@pytest.mark.parametrize("path", [OPENAI, ANTHROPIC])
async def test_truncated_json_in_a_stream_is_a_cut_event(virtual_clock: trio.testing.MockClock, path: str) -> None:
    async with open_loopback(failing(Failure.truncated_json())) as provider, connected(provider) as client:
        reply = await client.post(path, json=asking("small", stream=True))

    first, cut = reply.text.strip().split("\n\n")
    assert len(events(first)) == 1
    with pytest.raises(json.JSONDecodeError):
        events(cut)


async def test_slow_headers_take_the_place_of_the_latency(virtual_clock: trio.testing.MockClock) -> None:
    async with open_loopback(failing(Failure.slow_headers(30.0))) as provider, connected(provider) as client:
        reply = await client.post(OPENAI, json=asking("small"))

    assert reply.status_code == 200
    assert [(record.first_byte_s, record.ended_s) for record in provider.requests] == [(30.0, 30.0)]


@pytest.mark.parametrize("stream", [False, True])
async def test_a_slow_body_trickles(virtual_clock: trio.testing.MockClock, stream: bool) -> None:
    models = failing(Failure.slow_body(piece_bytes=100, interval_s=2.0))

    async with open_loopback(models) as provider, connected(provider) as client:
        reply = await client.post(OPENAI, json=asking("small", stream=stream))

    pieces = -(-len(reply.content) // 100)
    assert pieces > 2
    assert [(record.first_byte_s, record.ended_s) for record in provider.requests] == [(1.0, 1.0 + 2.0 * (pieces - 1))]
    assert reply.text.endswith("data: [DONE]\n\n" if stream else "}")


async def test_failures_use_up_no_answer() -> None:
    script = ModelScript(["one"], failures=[Failure.status(503), Failure.truncated_json(), Failure.garbage()])

    async with open_loopback({"small": script}) as provider, connected(provider) as client:
        replies = [await client.post(OPENAI, json=asking("small")) for _ in range(4)]

    assert replies[-1].json()["choices"][0]["message"]["content"] == "one"
