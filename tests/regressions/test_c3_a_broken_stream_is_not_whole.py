"""A stream that breaks off is whole only when the provider itself has said why the answer ended: cut after each of its chunks."""

import json
import random
import struct
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from actors.errors import LMReplyUnreadable
from actors.lm import Completion
from runtime.lm.client import LMClient
from runtime.lm.http.transport import open_transport
from runtime.lm.limits.retry import Retry
from tests.runtime.lm.providers.test_provider_matrix import PROVIDERS
from tests.runtime.lm.replies import answer_to, gemini

HELLO = [{"role": "user", "content": "Hello"}]
ENDS = (b'"finish_reason": "', b'"stop_reason": "', b'"finishReason"', b'"stopReason"', b'"done": true')
"""How the providers of these tests say why an answer ended."""


def chunks_of(kind: str, body: bytes) -> list[bytes]:
    """The events of a stream, each with all of its bytes."""
    if kind == "text/event-stream":
        return [event + b"\n\n" for event in body.split(b"\n\n") if event]
    if kind == "application/x-ndjson":
        return body.splitlines(keepends=True)
    return list(aws_messages(body))


def aws_messages(body: bytes) -> Iterator[bytes]:
    while body:
        (size,) = struct.unpack_from("!I", body)
        yield body[:size]
        body = body[size:]


async def streamed(name: str, kind: str, keep: int | None) -> tuple[Completion, list[bytes]]:
    """The answer in the first `keep` chunks of a stream, all without a number, and the chunks."""
    provider = PROVIDERS[name]
    sent: list[bytes] = []

    def handle(request: httpx.Request) -> httpx.Response:
        content_type, body = answer_to(request.url.raw_path.decode(), json.loads(request.content), kind)
        sent[:] = chunks_of(content_type, body)
        return httpx.Response(200, headers={"content-type": content_type}, content=b"".join(sent[:keep]))

    more = {"vertex_project": "p"} if name == "vertex_ai" else {}
    lm = LMClient(
        f"{name}/{provider.model}",
        api_key="a-token" if name == "vertex_ai" else provider.key,
        api_base=f"http://provider{provider.base}",
        retry=Retry(max_attempts=1),
        provider_options={**provider.options, **more},
    )
    async with open_transport(connect=lambda: httpx.MockTransport(handle)) as transport:
        lm.bind(transport, random.Random(0))
        return await read_to_its_end(lm), sent


async def read_to_its_end(lm: LMClient) -> Completion:
    async with lm.stream(HELLO) as stream:
        async for _ in stream:
            pass
    return stream.completion


@pytest.mark.parametrize("kind", ["text", "tools", "reasoning"])
@pytest.mark.parametrize("name", PROVIDERS)
async def test_c3_a_stream_cut_after_any_chunk_is_whole_only_with_the_providers_own_reason(name: str, kind: str):
    if kind == "reasoning" and name in {"cohere_chat", "ollama"}:
        kind = "text"
    whole, chunks = await streamed(name, kind, None)

    assert any(any(end in chunk for end in ENDS) for chunk in chunks)
    for keep in range(len(chunks)):
        if any(end in chunk for chunk in chunks[:keep] for end in ENDS):
            answer, _ = await streamed(name, kind, keep)
            assert (answer.text, answer.tool_calls, answer.finish_reason) == (whole.text, whole.tool_calls, whole.finish_reason)
        else:
            with pytest.raises(LMReplyUnreadable):
                await streamed(name, kind, keep)


@pytest.mark.parametrize("reason", ["error", "network_error", "ERROR"])
async def test_c3_a_provider_that_says_it_failed_has_given_no_answer(reason: str):
    choice = {"index": 0, "delta": {"content": "half an ans"}, "finish_reason": None}
    last = {"index": 0, "delta": {}, "finish_reason": reason}
    body = b"".join(b"data: " + json.dumps({"id": "1", "choices": [each]}).encode() + b"\n\n" for each in (choice, last))

    def handle(request: httpx.Request) -> httpx.Response:
        return httpx.Response(200, headers={"content-type": "text/event-stream"}, content=body)

    lm = LMClient("openai/m", api_key="a-long-key", api_base="http://provider/v1", retry=Retry(max_attempts=1))
    async with open_transport(connect=lambda: httpx.MockTransport(handle)) as transport:
        lm.bind(transport, random.Random(0))
        with pytest.raises(LMReplyUnreadable):
            await read_to_its_end(lm)


def test_c3_the_recorded_gemini_stream_has_one_reason_only():
    _, chunks = gemini("text", {})

    reasons: list[Any] = [chunk["candidates"][0].get("finishReason") for chunk in chunks]
    assert reasons == [None, "STOP"]
