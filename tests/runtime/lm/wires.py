"""Servers that do exactly what a test says, with and without TLS."""

import shutil
import ssl
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import h2.config
import h2.connection
import h2.events
import pytest
import trio

OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi"
Talk = Callable[[trio.SocketStream, int], Awaitable[None]]
"""What a server does with its connection number n (from 1)."""


@asynccontextmanager
async def talking(talk: Talk) -> AsyncIterator[str]:
    connections = 0

    async def serve(stream: trio.SocketStream) -> None:
        nonlocal connections
        connections += 1
        with suppress(trio.BrokenResourceError):
            await talk(stream, connections)

    async with trio.open_nursery() as nursery:
        listeners = await nursery.start(trio.serve_tcp, serve, 0)
        yield f"http://127.0.0.1:{listeners[0].socket.getsockname()[1]}/v1"
        nursery.cancel_scope.cancel()


async def hear(stream: trio.SocketStream) -> bytes:
    """One request, whose body is a single byte."""
    data = b""
    while b"\r\n\r\n" not in data or data.endswith(b"\r\n\r\n"):
        piece = await stream.receive_some()
        if not piece:
            raise trio.BrokenResourceError
        data += piece
    return data


def made_certificate(folder: Path) -> Path:
    """A certificate for 127.0.0.1 and its key; only ``public.pem`` beside it vouches for it."""
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed")
    made = folder / "certificate.pem"
    options = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-subj", "/CN=loopback", "-days", "2"]
    files = ["-keyout", str(made), "-out", str(folder / "public.pem"), "-addext", "subjectAltName=IP:127.0.0.1"]
    subprocess.run(["openssl", "req", "-x509", *options, *files], check=True, capture_output=True)
    made.write_text(made.read_text() + (folder / "public.pem").read_text())
    return made


@asynccontextmanager
async def encrypted(certificate: Path) -> AsyncIterator[str]:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate)

    async def serve(stream: trio.SSLStream[trio.SocketStream]) -> None:
        with suppress(trio.BrokenResourceError):
            while await stream.receive_some():
                await stream.send_all(OK)

    async with trio.open_nursery() as nursery:
        listeners = await nursery.start(trio.serve_ssl_over_tcp, serve, 0, context)
        yield f"https://127.0.0.1:{listeners[0].transport_listener.socket.getsockname()[1]}/v1"
        nursery.cancel_scope.cancel()


@asynccontextmanager
async def proxy() -> AsyncIterator[tuple[str, list[bytes]]]:
    """A proxy that opens tunnels (CONNECT) and passes plain requests on, and the heads of the requests that it was sent."""
    heads: list[bytes] = []

    async def pump(source: trio.SocketStream, sink: trio.SocketStream, place: bytes | None = None) -> None:
        with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            async for data in source:
                if place is not None and b" http://" in data:
                    heads.append(bytes(data))
                await sink.send_all(data if place is None else data.replace(b" http://" + place, b" ", 1))
        await sink.aclose()

    async def tunnel(stream: trio.SocketStream, _number: int) -> None:
        head = bytes(await stream.receive_some())
        heads.append(head)
        is_tunnel = head.startswith(b"CONNECT ")
        place = head.split()[1].removeprefix(b"http://").split(b"/")[0]
        host, port = place.decode().split(":")
        async with await trio.open_tcp_stream(host, int(port)) as far, trio.open_nursery() as nursery:
            if is_tunnel:
                await stream.send_all(b"HTTP/1.1 200 Connection established\r\n\r\n")
            else:
                await far.send_all(head.replace(b" http://" + place, b" ", 1))
            nursery.start_soon(pump, stream, far, None if is_tunnel else place)
            nursery.start_soon(pump, far, stream)

    async with talking(tunnel) as url:
        yield url.removesuffix("/v1"), heads


@asynccontextmanager
async def encrypted_http2(certificate: Path) -> AsyncIterator[tuple[str, list[dict[str, str]]]]:
    """A server that speaks HTTP/2 and nothing else, and the headers of the requests that it was sent; each is answered ``hi``."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate)
    context.set_alpn_protocols(["h2"])
    heard: list[dict[str, str]] = []

    async def serve(stream: trio.SSLStream[trio.SocketStream]) -> None:
        connection = h2.connection.H2Connection(h2.config.H2Configuration(client_side=False, header_encoding="utf-8"))
        connection.initiate_connection()
        with suppress(trio.BrokenResourceError):
            await stream.send_all(connection.data_to_send())
            while data := await stream.receive_some():
                for event in connection.receive_data(data):
                    if isinstance(event, h2.events.RequestReceived):
                        heard.append({str(name): str(value) for name, value in event.headers})
                    elif isinstance(event, h2.events.StreamEnded):
                        connection.send_headers(event.stream_id, [(":status", "200"), ("content-length", "2")])
                        connection.send_data(event.stream_id, b"hi", end_stream=True)
                await stream.send_all(connection.data_to_send())

    async with trio.open_nursery() as nursery:
        listeners = await nursery.start(trio.serve_ssl_over_tcp, serve, 0, context)
        yield f"https://127.0.0.1:{listeners[0].transport_listener.socket.getsockname()[1]}/v1", heard
        nursery.cancel_scope.cancel()
