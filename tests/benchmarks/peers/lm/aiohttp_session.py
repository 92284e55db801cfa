"""aiohttp, on asyncio."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import aiohttp

from tests.benchmarks.lm_works import BODY, CONNECTIONS, HEADERS, STREAM_BODY, Call, LMPeer, chunk_text


@asynccontextmanager
async def session(base: str, body: bytes) -> AsyncGenerator[Call]:
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=CONNECTIONS)) as opened:

        async def call() -> object:
            async with opened.post(f"{base}/chat/completions", data=body, headers=HEADERS) as reply:
                if body is BODY:
                    return json.loads(await reply.read())
                return "".join([chunk_text(line.decode().strip()) async for line in reply.content])

        yield call


PEER = LMPeer(
    name="aiohttp",
    loop="asyncio",
    jobs={"chat": lambda base: session(base, BODY), "stream": lambda base: session(base, STREAM_BODY)},
)
