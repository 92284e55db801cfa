"""A client over a provider that is one function, for tests in exact virtual time."""

import json
import random
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import httpx

from actors.restarts import Backoff
from runtime.lm.client import LMClient
from runtime.lm.http.transport import open_transport
from runtime.lm.limits.retry import Retry

HELLO = [{"role": "user", "content": "Hello"}]
EXACT = Retry(max_attempts=3, backoff=Backoff(first_s=0.5, cap_s=30.0, jitter=0))
Handle = Callable[[httpx.Request], Coroutine[None, None, httpx.Response]]


def said(text: str, tokens: int = 10) -> httpx.Response:
    usage = {"prompt_tokens": tokens - 1, "completion_tokens": 1, "total_tokens": tokens}
    message = {"role": "assistant", "content": text}
    return httpx.Response(200, json={"choices": [{"message": message, "finish_reason": "stop"}], "usage": usage})


def model_of(request: httpx.Request) -> str:
    name: str = json.loads(request.content)["model"]
    return name


@asynccontextmanager
async def faking(handle: Handle, *declarations: dict[str, Any]) -> AsyncIterator[list[LMClient]]:
    """Clients on one transport; each has a key and an address unless its declaration says otherwise."""
    async with AsyncExitStack() as stack:
        transport = await stack.enter_async_context(open_transport(connect=lambda: httpx.MockTransport(handle)))
        clients: list[LMClient] = []
        for declaration in declarations or ({},):
            usual = {"model": "openai/m", "api_key": "k", "api_base": "http://provider/v1", "retry": EXACT}
            client = LMClient(**{**usual, **declaration})
            client.bind(transport, random.Random(0))
            clients.append(client)
        yield clients
