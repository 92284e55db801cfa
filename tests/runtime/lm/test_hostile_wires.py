"""Servers that drip, never end or break HTTP: each call ends in time, by an error of the table, and holds nothing afterwards."""

import re
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import trio
import trio.testing

from actors.errors import LMError, LMReplyUnreadable, LMTimeout, LMUnavailable
from runtime.lm.client import LMClient
from runtime.lm.limits.budget import Budget
from runtime.lm.limits.retry import Retry
from tests.runtime.lm.faking import HELLO
from tests.runtime.lm.wires import talking

STREAM = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
PIECE = b'data: {"choices":[{"index":0,"delta":{"content":"a"}}]}\n\n'


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


async def drip(stream: trio.SocketStream, first: bytes, drops: bytes, every_s: float) -> None:
    await stream.send_all(first)
    while True:
        await trio.sleep(every_s)
        await stream.send_all(drops)


async def pings(stream: trio.SocketStream) -> None:
    await drip(stream, STREAM, chunk(b": ping\n\n"), 1)


async def pieces(stream: trio.SocketStream) -> None:
    await drip(stream, STREAM, chunk(PIECE), 1)


async def slow_event(stream: trio.SocketStream) -> None:
    await drip(stream, STREAM + chunk(PIECE + b"data: "), chunk(b"x"), 5)


async def slow_head(stream: trio.SocketStream) -> None:
    await drip(stream, b"HTTP/1.1 200 OK\r\nx: ", b"a", 5)


async def interim(stream: trio.SocketStream) -> None:
    await drip(stream, b"", b"HTTP/1.1 103 Early Hints\r\n\r\n", 0.001)


async def no_end_said(stream: trio.SocketStream) -> None:
    await stream.send_all(STREAM + chunk(PIECE) + b"0\r\n\r\n")


async def no_chunk(stream: trio.SocketStream) -> None:
    await stream.send_all(STREAM + chunk(PIECE) + b"zz\r\n")


async def more_than_can_come(stream: trio.SocketStream) -> None:
    await drip(stream, b"HTTP/1.1 200 OK\r\ncontent-length: 999999999999999\r\n\r\n", b"", 60)


async def another_protocol(stream: trio.SocketStream) -> None:
    await drip(stream, b"HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n", b"", 60)


@pytest.mark.parametrize("is_streamed", [False, True])
@pytest.mark.parametrize(
    ("talk", "kinds", "within_s"),
    [
        (pings, (LMTimeout, LMTimeout), (60, 20)),
        (pieces, (LMTimeout, LMTimeout), (60, 60)),
        (slow_event, (LMTimeout, LMTimeout), (60, 20)),
        (slow_head, (LMTimeout, LMTimeout), (60, 20)),
        (interim, (LMUnavailable, LMUnavailable), (1, 1)),
        (no_end_said, (LMReplyUnreadable, LMReplyUnreadable), (0, 0)),
        (no_chunk, (LMUnavailable, LMUnavailable), (0, 0)),
        (more_than_can_come, (LMTimeout, LMTimeout), (60, 20)),
        (another_protocol, (LMUnavailable, LMUnavailable), (0, 0)),
    ],
)
async def test_a_call_ends(
    talk: Callable[[trio.SocketStream], Awaitable[None]],
    kinds: tuple[type[LMError], ...],
    within_s: tuple[float, ...],
    is_streamed: bool,
    patient_clock: trio.testing.MockClock,
):
    async def serve(stream: trio.SocketStream, _number: int) -> None:
        await whole_request(stream)
        await talk(stream)

    waits: dict[str, Any] = {"deadline_s": 60, "first_token_s": 20, "between_tokens_s": 20}
    budget = Budget()
    async with talking(serve) as url:
        async with LMClient("openai/m", api_key="k", api_base=url, retry=Retry(1), budget=budget, **waits) as lm:
            with pytest.raises(LMError) as caught:
                await ask(lm, is_streamed)
            took_s = trio.current_time()
            link = lm._requester.link
            assert link is not None
            assert link.account is not None
            seen = link.transport.statistics()
            assert seen.connections is not None
            assert (seen.in_flight, seen.connections.in_use, link.limiter.borrowed_tokens) == (0, 0, 0)
            assert (link.account.statistics().in_flight, budget.holders) == (0, 0)
            assert budget.tokens == budget.estimated_tokens  # of what was given up, by what was seen of it

    assert type(caught.value) is kinds[is_streamed]
    assert took_s <= within_s[is_streamed] + 0.001


async def ask(lm: LMClient, is_streamed: bool) -> None:
    if not is_streamed:
        await lm.chat(HELLO)
        return
    async with lm.stream(HELLO) as stream:
        async for _ in stream:
            pass


async def whole_request(stream: trio.SocketStream) -> None:
    data = b""
    while (head := data.partition(b"\r\n\r\n"))[1] == b"" or len(head[2]) < int(re.findall(rb"content-length: (\d+)", data)[0]):
        data += await stream.receive_some()
