"""h11 over a trio stream, and nothing else: connections are kept, and that is all."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

import h11
import trio

from tests.benchmarks.lm_works import BODY, HEADERS, STREAM_BODY, Call, LMPeer, chunk_text


class Connection:
    def __init__(self, stream: trio.SocketStream) -> None:
        self.stream = stream
        self.http = h11.Connection(h11.CLIENT)

    async def exchange(self, host: str, body: bytes) -> bytes:
        headers = [("host", host), ("content-length", str(len(body))), *HEADERS.items()]
        data = self.http.send(h11.Request(method="POST", target="/v1/chat/completions", headers=headers)) or b""
        data += self.http.send(h11.Data(data=body)) or b""
        self.http.send(h11.EndOfMessage())
        await self.stream.send_all(data)
        pieces: list[bytes] = []
        while True:
            event = self.http.next_event()
            if event is h11.NEED_DATA:
                self.http.receive_data(await self.stream.receive_some())
            elif isinstance(event, h11.Data):
                pieces.append(bytes(event.data))
            elif isinstance(event, h11.EndOfMessage):
                self.http.start_next_cycle()
                return b"".join(pieces)


@asynccontextmanager
async def connections(base: str, body: bytes) -> AsyncGenerator[Call]:
    place = urlsplit(base)
    host, port = place.hostname or "", place.port or 0
    idle: list[Connection] = []

    async def call() -> object:
        connection = idle.pop() if idle else Connection(await trio.open_tcp_stream(host, port))
        reply = await connection.exchange(place.netloc, body)
        idle.append(connection)
        if body is BODY:
            return json.loads(reply)
        return "".join(chunk_text(line) for line in reply.decode().splitlines())

    yield call
    for connection in idle:
        await connection.stream.aclose()


PEER = LMPeer(
    name="h11",
    loop="trio",
    jobs={"chat": lambda base: connections(base, BODY), "stream": lambda base: connections(base, STREAM_BODY)},
)
