"""A small client for the tests of the loopback provider."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import httpx

from runtime.testing import LoopbackProvider

OPENAI = "/v1/chat/completions"
ANTHROPIC = "/v1/messages"


def asking(model: str, **options: Any) -> dict[str, Any]:
    """The body of a chat request."""
    return {"model": model, "messages": [{"role": "user", "content": "two words"}], **options}


@asynccontextmanager
async def connected(provider: LoopbackProvider) -> AsyncGenerator[httpx.AsyncClient, None]:
    """A client without time limits: those are the test's."""
    async with httpx.AsyncClient(base_url=provider.url, timeout=None, trust_env=False) as client:
        yield client


def events(text: str) -> list[Any]:
    """The data of server-sent events, parsed; ``[DONE]`` as it is."""
    data = [line.removeprefix("data: ") for line in text.splitlines() if line.startswith("data: ")]
    return [each if each == "[DONE]" else json.loads(each) for each in data]
