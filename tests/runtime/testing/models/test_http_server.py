"""HTTP by hand: what no well-behaved client sends."""

from __future__ import annotations

import json
import re

import pytest
import trio
import trio.testing

from runtime.testing import open_loopback
from runtime.testing.models.http_server import MAX_BODY_BYTES
from tests.runtime.testing.client import OPENAI, asking

BODY = json.dumps(asking("small")).encode()
HEAD = b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n"
REQUEST = HEAD % len(BODY) + BODY


async def exchange(url: str, *pieces: bytes, ends: bool = True) -> bytes:
    """Send `pieces`, close our half if asked, and read until the server closes."""
    stream = await trio.open_tcp_stream("127.0.0.1", int(url.rpartition(":")[2]))
    answer = bytearray()
    async with stream:
        for piece in pieces:
            await stream.send_all(piece)
        if ends:
            await stream.send_eof()
        async for data in stream:
            answer += data
    return bytes(answer)


def statuses(answer: bytes) -> list[int]:
    return [int(status) for status in re.findall(rb"HTTP/1\.1 (\d+)", answer)]


async def test_requests_sent_ahead_are_answered_in_order(virtual_clock: trio.testing.MockClock) -> None:
    last = REQUEST.replace(b"host: x", b"host: x\r\nconnection: close")

    async with open_loopback({"small": ["one", "two"]}, latency_s=1.0) as provider:
        answer = await exchange(provider.url, REQUEST + last, ends=False)

    assert statuses(answer) == [200, 200]
    assert answer.index(b'"one"') < answer.index(b'"two"')
    assert [record.ended_s for record in provider.requests] == [1.0, 2.0]


async def test_a_connection_is_kept_for_the_next_request() -> None:
    async with open_loopback({"small": "yes"}) as provider:
        stream = await trio.open_tcp_stream("127.0.0.1", int(provider.url.rpartition(":")[2]))
        async with stream:
            for _ in range(3):
                await stream.send_all(REQUEST)
                assert statuses(bytes(await stream.receive_some(65536))) == [200]


async def test_a_request_may_come_byte_by_byte_and_in_chunks() -> None:
    head = b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nconnection: close\r\ntransfer-encoding: chunked\r\n\r\n"
    raw = head + b"%x\r\n" % len(BODY) + BODY + b"\r\n0\r\n\r\n"

    async with open_loopback({"small": "yes"}) as provider:
        answer = await exchange(provider.url, *(bytes([byte]) for byte in raw), ends=False)

    assert statuses(answer) == [200]


async def test_a_client_that_asks_first_is_told_to_continue() -> None:
    head = (HEAD % len(BODY)).replace(b"host: x", b"host: x\r\nconnection: close\r\nexpect: 100-continue")

    async with open_loopback({"small": "yes"}) as provider:
        answer = await exchange(provider.url, head, BODY, ends=False)

    assert statuses(answer)[-1] == 200


@pytest.mark.parametrize(
    "pieces",
    [
        pytest.param((HEAD % (MAX_BODY_BYTES + 1),), id="declared"),
        pytest.param((HEAD % (MAX_BODY_BYTES + 1), b"x" * (MAX_BODY_BYTES + 1)), id="declared and sent"),
        pytest.param(
            (
                b"POST /v1/messages HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n",
                b"%x\r\n" % (MAX_BODY_BYTES + 1),
                b"x" * (MAX_BODY_BYTES + 1),
            ),
            id="sent",
        ),
    ],
)
async def test_a_body_beyond_the_limit_is_refused(pieces: tuple[bytes, ...]) -> None:
    async with open_loopback({"small": "yes"}, unused="ok") as provider:
        answer = await exchange(provider.url, *pieces)

    assert statuses(answer) == [413]
    assert b"The request's body has more than 10485760 bytes." in answer
    assert provider.requests == []


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03 not http \r\n\r\n", [400]),
        (b"GET / HTTP/1.1\r\n\r\n", [400]),
        (b"GET / HTTP/1.1\r\nhost: x\r\nx: " + b"y" * 100_000, [431]),
        (b"POST /v1/messages HTTP/1.1\r\nhost: x\r\ncontent-length: -1\r\n\r\n", [400]),
        (b"POST /v1/messages HTTP/1.1\r\nhost: x\r\ncontent-length: 10\r\n\r\nshort", [400]),
        (b"HEAD /nothing HTTP/1.1\r\nhost: x\r\n\r\n", [404]),
        (b"CONNECT x:1 HTTP/1.1\r\nhost: x\r\n\r\n", [404]),
        (b"GET /v1/models HTTP/1.0\r\n\r\n", [200]),
        (b"", []),
    ],
)
async def test_no_bytes_end_the_server(raw: bytes, expected: list[int]) -> None:
    async with open_loopback({"small": "yes"}) as provider:
        answer = await exchange(provider.url, raw)
        after = await exchange(provider.url, REQUEST.replace(b"host: x", b"host: x\r\nconnection: close"), ends=False)

    assert statuses(answer) == expected
    assert statuses(after) == [200]


async def test_a_client_that_sends_ahead_without_end_is_read_no_further(virtual_clock: trio.testing.MockClock) -> None:
    async with open_loopback({"small": "yes"}, latency_s=5.0) as provider:
        with trio.move_on_after(2.0) as scope:
            await exchange(provider.url, REQUEST, b"x" * 50_000_000)

    assert scope.cancelled_caught
    assert provider.requests[0].path == OPENAI


async def test_a_client_that_asks_one_by_one_on_new_connections_is_never_seen_twice_at_once() -> None:
    """A request has ended before its client can read the answer's last byte, so what the client does next comes after it."""
    last = REQUEST.replace(b"host: x", b"host: x\r\nconnection: close")

    async with open_loopback({"small": "long " * 100_000}) as provider:
        for _ in range(50):
            await exchange(provider.url, last, ends=False)

    assert (len(provider.requests), provider.max_in_flight) == (50, 1)
