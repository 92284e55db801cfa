"""The OpenAI SDK, on asyncio, without retries. It is built on httpx and its stock pool."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import openai

from tests.benchmarks.lm_works import MESSAGES, MODEL, Call, LMPeer


@asynccontextmanager
async def chat(base: str) -> AsyncGenerator[Call]:
    messages: Any = MESSAGES
    async with openai.AsyncOpenAI(base_url=base, api_key="k", max_retries=0) as client:

        async def call() -> object:
            return (await client.chat.completions.create(model=MODEL, messages=messages)).choices[0].message.content

        yield call


@asynccontextmanager
async def stream(base: str) -> AsyncGenerator[Call]:
    messages: Any = MESSAGES
    async with openai.AsyncOpenAI(base_url=base, api_key="k", max_retries=0) as client:

        async def call() -> object:
            chunks = await client.chat.completions.create(model=MODEL, messages=messages, stream=True)
            return "".join([chunk.choices[0].delta.content or "" async for chunk in chunks if chunk.choices])

        yield call


PEER = LMPeer(name="OpenAI SDK", loop="asyncio", jobs={"chat": chat, "stream": stream}, widest=100, max_rounds=3)
