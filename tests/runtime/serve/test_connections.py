"""Writes of our own server's connections, which take a shorter way than hypercorn's while the client keeps up."""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import Any

import pytest
import trio
import trio.testing
from hypercorn.config import Config

from runtime.serve.connections import IN_A_ROW, SMALL_BYTES, serve_connections
from tests.patience import PATIENCE_S

REQUEST = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"
FLOOD = b"x" * 4_000_000
"""More than the system takes for a client that reads nothing."""


@contextlib.asynccontextmanager
async def serving(app: Callable[..., Awaitable[None]], grace_s: float = 0.1) -> AsyncGenerator[tuple[int, trio.Event]]:
    """Its port and what stops it."""
    bound = trio.socket.socket()
    await bound.bind(("127.0.0.1", 0))
    bound.listen(10)
    config, stop = Config(), trio.Event()
    config.accesslog = config.errorlog = None
    config.graceful_timeout = grace_s
    with trio.fail_after(PATIENCE_S):
        async with trio.open_nursery() as nursery:
            await nursery.start(serve_connections, app, config, trio.SocketListener(bound), stop)
            yield bound.getsockname()[1], stop
            stop.set()


async def begin(send: Any, length: int | None = None) -> None:
    headers = [] if length is None else [(b"content-length", b"%d" % length)]
    await send({"type": "http.response.start", "status": 200, "headers": headers})


async def test_a_slow_client_gets_every_byte_in_order_however_long_the_pieces_are() -> None:
    pieces = [bytes([number % 256]) * (number * 997 % (2 * SMALL_BYTES) + 1) for number in range(80)]

    async def app(_: Any, __: Any, send: Any) -> None:
        await begin(send, sum(map(len, pieces)))
        for piece in pieces:
            await send({"type": "http.response.body", "body": piece, "more_body": True})
        await send({"type": "http.response.body", "body": b""})

    received = bytearray()
    async with serving(app) as (port, _):
        client = trio.socket.socket()
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)  # so the server's buffer is full again and again
        await client.connect(("127.0.0.1", port))
        async with trio.SocketStream(client) as stream:
            await stream.send_all(REQUEST)
            while b"\r\n\r\n" not in received or len(received.partition(b"\r\n\r\n")[2]) < sum(map(len, pieces)):
                received += await stream.receive_some(7_001)
                await trio.lowlevel.checkpoint()

    assert received.partition(b"\r\n\r\n")[2] == b"".join(pieces)


async def test_a_piece_of_which_a_part_has_gone_is_sent_to_its_end_also_when_that_is_cancelled(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pieces = [bytes([number]) * 1_000 for number in range(5)]
    write = os.write
    monkeypatch.setattr(os, "write", lambda fd, data: write(fd, data if len(data) < 1_000 else data[:300]))

    async def app(_: Any, __: Any, send: Any) -> None:
        await begin(send, sum(map(len, pieces)))
        for piece in pieces:
            with trio.CancelScope() as cancelled:
                cancelled.cancel()
                await send({"type": "http.response.body", "body": piece, "more_body": True})

    received = b""
    async with serving(app) as (port, _), await trio.open_tcp_stream("127.0.0.1", port) as stream:
        await stream.send_all(REQUEST)
        async for part in stream:
            received += part

    assert received.partition(b"\r\n\r\n")[2] == b"".join(pieces)


async def test_an_application_that_writes_without_waiting_lets_others_run() -> None:
    turns = 0
    seen: list[int] = []

    async def app(_: Any, __: Any, send: Any) -> None:
        await begin(send)
        for _ in range(3 * IN_A_ROW):
            await send({"type": "http.response.body", "body": b"x", "more_body": True})
            seen.append(turns)

    async def take_turns() -> None:
        nonlocal turns
        while True:
            turns += 1
            await trio.lowlevel.checkpoint()

    async with serving(app) as (port, stop), trio.open_nursery() as nursery:
        nursery.start_soon(take_turns)
        async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
            await stream.send_all(REQUEST)
            async for _ in stream:
                if len(seen) == 3 * IN_A_ROW:
                    break
        nursery.cancel_scope.cancel()
        stop.set()

    assert len(set(seen)) >= 3


@pytest.mark.parametrize("more", [b"", b"\r\n", REQUEST], ids=["nothing", "a line end", "a request"])
async def test_an_application_hears_of_a_client_that_has_gone_and_its_connection_ends(more: bytes) -> None:
    left = trio.Event()

    async def app(_: Any, receive: Any, send: Any) -> None:
        await begin(send)
        async with trio.open_nursery() as nursery:

            async def write() -> None:
                while True:
                    await send({"type": "http.response.body", "body": b"x" * 100, "more_body": True})
                    await trio.lowlevel.checkpoint()

            nursery.start_soon(write)
            while (await receive())["type"] != "http.disconnect":
                pass
            nursery.cancel_scope.cancel()
        left.set()

    async with serving(app, grace_s=3_600) as (port, _):
        async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
            await stream.send_all(REQUEST + more)
            await stream.receive_some()
        await left.wait()


async def test_a_body_that_no_one_reads_does_not_hold_its_connection() -> None:
    full, told = trio.Event(), trio.Event()

    async def app(_: Any, receive: Any, send: Any) -> None:
        await full.wait()
        await begin(send, 1)
        await send({"type": "http.response.body", "body": b"x"})
        while (await receive())["type"] != "http.disconnect":
            pass
        assert (await receive())["type"] == "http.disconnect"
        told.set()

    async with serving(app) as (port, _), await trio.open_tcp_stream("127.0.0.1", port) as stream:
        await stream.send_all(b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n" % (2 * len(FLOOD)))
        with trio.move_on_after(0.2):  # as long as the server takes it
            await stream.send_all(FLOOD)
        full.set()
        with contextlib.suppress(trio.BrokenResourceError):  # closed with something unread
            async for _ in stream:
                pass
        await told.wait()


async def test_a_body_is_read_as_it_comes_however_long_it_is() -> None:
    async def app(_: Any, receive: Any, send: Any) -> None:
        total, is_whole = 0, False
        while not is_whole:
            message = await receive()
            total += len(message["body"])
            is_whole = not message["more_body"]
        await begin(send)
        await send({"type": "http.response.body", "body": b"%d" % total})

    async with serving(app) as (port, stop), await trio.open_tcp_stream("127.0.0.1", port) as stream:
        received = b""
        await stream.send_all(b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n%s" % (len(FLOOD), FLOOD))
        while b"4000000" not in received:
            received += await stream.receive_some()
        stop.set()


@pytest.mark.parametrize("is_quick", [True, False])
async def test_when_it_stops_those_who_are_connected_have_some_time(is_quick: bool) -> None:
    async def app(_: Any, __: Any, send: Any) -> None:
        await begin(send, 1)
        if not is_quick:
            await trio.sleep_forever()
        await send({"type": "http.response.body", "body": b"x"})

    async with serving(app) as (port, stop), await trio.open_tcp_stream("127.0.0.1", port) as stream:
        await stream.send_all(REQUEST)
        received = bytes(await stream.receive_some())
        stop.set()
        async for part in stream:
            received += part

    assert received.endswith(b"\r\n\r\nx") is is_quick


@contextlib.asynccontextmanager
async def stalled(port: int) -> AsyncGenerator[None]:
    """A client that asks and takes nothing."""
    client = trio.socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
    await client.connect(("127.0.0.1", port))
    async with trio.SocketStream(client) as stream:
        await stream.send_all(REQUEST)
        yield


async def test_what_a_client_that_has_gone_had_asked_for_besides_is_not_done() -> None:
    begun = trio.Event()
    calls = 0

    async def app(_: Any, __: Any, send: Any) -> None:
        nonlocal calls
        calls += 1
        await begin(send, len(FLOOD))
        begun.set()
        await send({"type": "http.response.body", "body": FLOOD})

    async with serving(app) as (port, stop):
        client = trio.socket.socket()
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
        await client.connect(("127.0.0.1", port))
        await client.send(REQUEST * 50)
        await begun.wait()
        await trio.testing.wait_all_tasks_blocked()
        client.close()
        await trio.testing.wait_all_tasks_blocked(0.05)
        stop.set()

    assert calls < 3


@pytest.mark.parametrize("is_stopped", [True, False], ids=["stopped", "cancelled"])
async def test_a_client_that_takes_nothing_does_not_keep_the_server_from_ending(is_stopped: bool) -> None:
    begun, ended = trio.Event(), trio.Event()
    bound = trio.socket.socket()
    await bound.bind(("127.0.0.1", 0))
    bound.listen(10)
    config, stop, scope = Config(), trio.Event(), trio.CancelScope()
    config.accesslog = config.errorlog = None
    config.graceful_timeout = 0.1

    async def app(_: Any, __: Any, send: Any) -> None:
        await begin(send)
        begun.set()
        await send({"type": "http.response.body", "body": FLOOD, "more_body": True})

    async def serve() -> None:
        with scope:
            await serve_connections(app, config, trio.SocketListener(bound), stop)
        ended.set()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(serve)
        async with stalled(bound.getsockname()[1]):
            await begun.wait()
            await trio.testing.wait_all_tasks_blocked()
            if is_stopped:
                stop.set()
            else:
                scope.cancel()
            with trio.fail_after(PATIENCE_S):  # the client stays for as long as the server does
                await ended.wait()
