"""``litellm.acompletion``, on asyncio, without retries."""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")  # before the import, which would ask the network

import litellm

from tests.benchmarks.lm_works import MESSAGES, MODEL, Call, LMPeer

ask: Any = litellm.acompletion


@asynccontextmanager
async def chat(base: str) -> AsyncGenerator[Call]:
    async def call() -> object:
        reply = await ask(model=f"openai/{MODEL}", messages=MESSAGES, api_base=base, api_key="k", num_retries=0, max_retries=0)
        return reply.choices[0].message.content

    yield call


@asynccontextmanager
async def stream(base: str) -> AsyncGenerator[Call]:
    async def call() -> object:
        asked = {"model": f"openai/{MODEL}", "messages": MESSAGES, "api_base": base, "api_key": "k"}
        chunks = await ask(**asked, stream=True, num_retries=0, max_retries=0)
        return "".join([chunk.choices[0].delta.content or "" async for chunk in chunks if chunk.choices])

    yield call


PEER = LMPeer(name="litellm", loop="asyncio", jobs={"chat": chat, "stream": stream}, max_rounds=2)
