"""httpx with the pool that it comes with, on trio, as most programs use it. That pool is quadratic in its connections."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager

import httpx

from tests.benchmarks.lm_works import CONNECTIONS, Call, LMPeer
from tests.benchmarks.peers.lm.httpx_constant import chatting, streaming


def client() -> httpx.AsyncClient:
    limits = httpx.Limits(max_connections=CONNECTIONS, max_keepalive_connections=CONNECTIONS)
    return httpx.AsyncClient(limits=limits, timeout=60)


def chat(base: str) -> AbstractAsyncContextManager[Call]:
    return chatting(client(), base)


def stream(base: str) -> AbstractAsyncContextManager[Call]:
    return streaming(client(), base)


PEER = LMPeer(name="httpx, stock pool", loop="trio", jobs={"chat": chat, "stream": stream}, widest=100, max_rounds=3)
