"""Streams that are not called streams, connections that nobody uses, and headers of the caller's own."""

from collections.abc import AsyncIterator

import httpx
import pytest
import trio

from runtime.lm.client import LMClient
from runtime.lm.http.http_messages import HttpRequest
from runtime.lm.http.keepalive import KEEP_S
from runtime.lm.http.transport import open_transport
from runtime.lm.limits.cache import MemoryCache
from tests.runtime.lm.faking import HELLO, faking, said

EVENTS = (
    b'data: {"choices":[{"index":0,"delta":{"role":"assistant","content":"Hel"}}]}\n\n'
    b'data: {"choices":[{"index":0,"delta":{"content":"lo"},"finish_reason":"stop"}]}\n\ndata: [DONE]\n\n'
)


class Cut(httpx.AsyncByteStream):
    def __init__(self, body: bytes, at: int) -> None:
        self.pieces = [body[:at], body[at:]]

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for piece in self.pieces:
            if piece:
                yield piece


async def streamed(lm: LMClient) -> list[str]:
    async with lm.stream(HELLO) as stream:
        return [getattr(piece, "text", "") async for piece in stream]


@pytest.mark.parametrize("status", [200, 201])
@pytest.mark.parametrize("kind", [None, "text/plain", "text/plain; charset=utf-8", "application/json", "text/event-stream"])
@pytest.mark.parametrize("start", [b"", b"\xef\xbb\xbf", b": hello\n\n", b"\n\n", b"event: message\n", b"id: 1\nretry: 5\n"])
async def test_c11_events_are_read_whatever_they_are_called(start: bytes, kind: str | None, status: int):
    asked = 0

    async def handle(request: httpx.Request) -> httpx.Response:
        nonlocal asked
        asked += 1
        return httpx.Response(status, headers={} if kind is None else {"content-type": kind}, stream=Cut(start + EVENTS, 3))

    async with faking(handle) as (lm,):
        assert await streamed(lm) == ["Hel", "lo"]

    assert asked == 1


@pytest.mark.parametrize("at", range(0, 30, 3))
async def test_c11_the_first_bytes_may_be_cut_anywhere(at: int):
    async def handle(request: httpx.Request) -> httpx.Response:
        return httpx.Response(200, stream=Cut(EVENTS, at))

    async with faking(handle) as (lm,):
        assert await streamed(lm) == ["Hel", "lo"]


@pytest.mark.parametrize("kind", [None, "text/plain", "application/json"])
@pytest.mark.parametrize("at", [0, 1, 5, 40])
async def test_c11_a_whole_answer_stays_one(kind: str | None, at: int):
    body = said("Hello").content

    async def handle(request: httpx.Request) -> httpx.Response:
        return httpx.Response(200, headers={} if kind is None else {"content-type": kind}, stream=Cut(body, at))

    async with faking(handle) as (lm,):
        assert await streamed(lm) == ["Hello"]


# --- connections that nobody uses -----------------------------------------------------------------------------------------


async def test_c13_idle_connections_are_closed_without_any_traffic(virtual_clock: trio.abc.Clock):
    ended = 0

    async def serve(stream: trio.SocketStream) -> None:
        nonlocal ended
        await stream.receive_some()
        await stream.send_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi")
        assert await stream.receive_some() == b""
        ended += 1

    async with trio.open_nursery() as nursery, open_transport() as transport:
        listeners = await nursery.start(trio.serve_tcp, serve, 0)
        request = HttpRequest("POST", f"http://127.0.0.1:{listeners[0].socket.getsockname()[1]}/")
        async with trio.open_nursery() as calls:
            for _ in range(20):
                calls.start_soon(transport.send, request)
        before = transport.statistics().connections
        await trio.sleep(KEEP_S + 1)
        after = transport.statistics().connections
        for _ in range(100):
            await trio.lowlevel.checkpoint()
        nursery.cancel_scope.cancel()

    assert before is not None
    assert after is not None
    assert (before.idle > 0, after.idle, ended) == (True, 0, before.idle)


async def test_c13_one_task_closes_them_and_it_ends_with_them_or_with_the_transport(virtual_clock: trio.abc.Clock):
    async def serve(stream: trio.SocketStream) -> None:
        while await stream.receive_some():
            await stream.send_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi")

    def reapers() -> int:
        root = trio.lowlevel.current_root_task()
        assert root is not None
        return sum("_reap" in task.name for nursery in root.child_nurseries for task in nursery.child_tasks)

    async with trio.open_nursery() as nursery:
        listeners = await nursery.start(trio.serve_tcp, serve, 0)
        async with open_transport() as transport:
            request = HttpRequest("POST", f"http://127.0.0.1:{listeners[0].socket.getsockname()[1]}/")
            for _ in range(3):
                await transport.send(request)
            assert reapers() == 1
            await trio.sleep(KEEP_S + 1)
            assert reapers() == 0
            await transport.send(request)
            assert reapers() == 1
        await trio.lowlevel.checkpoint()
        await trio.lowlevel.checkpoint()
        assert reapers() == 0
        nursery.cancel_scope.cancel()


# --- headers of the caller's own ------------------------------------------------------------------------------------------


async def test_c22_another_header_is_another_question_and_another_key_is_not():
    asked: list[str] = []

    async def handle(request: httpx.Request) -> httpx.Response:
        asked.append(request.headers.get("x-feature", ""))
        return said(f"with {asked[-1]}")

    headers: list[dict[str, str]] = [
        {"x-feature": "a"},
        {"x-feature": "b"},
        {"X-Feature": "a"},
        {"x-feature": "a", "Authorization": "Bearer another-key-of-somebody"},
        {"x-feature": "a", "x-api-key": "another"},
        {"x-feature": "a", "x-note": "Bearer another-key-of-somebody"},
    ]
    async with faking(handle, {"cache": MemoryCache()}) as (lm,):
        answers = [(await lm.chat(HELLO, temperature=0, extra_headers=each)).text for each in headers]
        plain = await lm.chat(HELLO, temperature=0)

    assert answers == ["with a", "with b", "with a", "with a", "with a", "with a"]
    assert (plain.text, asked) == ("with ", ["a", "b", ""])
