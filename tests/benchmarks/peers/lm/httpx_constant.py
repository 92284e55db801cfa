"""httpx's client over a pool whose every step costs the same, on trio: what the targets are measured against."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import httpx

from runtime.lm.http.httpx_clients import PooledTransport
from runtime.lm.http.keepalive import KeepAlivePool
from tests.benchmarks.lm_works import BODY, HEADERS, STREAM_BODY, Call, LMPeer, chunk_text


@asynccontextmanager
async def chatting(client: httpx.AsyncClient, base: str) -> AsyncGenerator[Call]:
    async def call() -> object:
        return (await client.post(f"{base}/chat/completions", content=BODY, headers=HEADERS)).json()

    async with client:
        yield call


@asynccontextmanager
async def streaming(client: httpx.AsyncClient, base: str) -> AsyncGenerator[Call]:
    async def call() -> object:
        async with client.stream("POST", f"{base}/chat/completions", content=STREAM_BODY, headers=HEADERS) as reply:
            return "".join([chunk_text(line) async for line in reply.aiter_lines()])

    async with client:
        yield call


def client() -> httpx.AsyncClient:
    return httpx.AsyncClient(transport=PooledTransport(KeepAlivePool(httpx.create_ssl_context)), timeout=60)


def chat(base: str) -> AbstractAsyncContextManager[Call]:
    return chatting(client(), base)


def stream(base: str) -> AbstractAsyncContextManager[Call]:
    return streaming(client(), base)


PEER = LMPeer(name="httpx, O(1) pool", loop="trio", jobs={"chat": chat, "stream": stream})
