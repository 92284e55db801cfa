"""``python -m tests.benchmarks.lm_calls``: what a call to a language model costs its client, beside HTTP clients that do less.

The provider runs in a process of its own and answers after 50 ms. Per peer and width (calls at once): CPU seconds of this process
per call, and the time of a round from its start to its last answer. Peers take turns, and the median of the rounds counts.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib.util
import json
import random
import statistics
import sys
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from time import perf_counter, process_time

import attrs
import httpx
import trio

from runtime.lm.client import LMClient
from runtime.lm.httpx_clients import PooledTransport
from runtime.lm.keepalive import KeepAlivePool
from runtime.lm.translation import warm_up
from runtime.lm.transport import open_transport
from runtime.testing.process import loopback_process

MESSAGES = [{"role": "user", "content": "Hello"}]
BODY = json.dumps({"model": "m", "messages": MESSAGES}).encode()
JSON = {"content-type": "application/json"}
LATENCY_S = 0.05
WIDEST_STOCK = 100
"""The stock pool's cost is quadratic: at 1,000 it would take the machine for minutes."""
TARGET = 1.5
"""A call through our client to one of httpx over the O(1) pool."""

Call = Callable[[], Awaitable[object]]


@attrs.frozen
class Sample:
    cpu_s: float
    makespan_s: float


@asynccontextmanager
async def bare(client: httpx.AsyncClient, base: str) -> AsyncGenerator[Call]:
    async def call() -> object:
        return (await client.post(f"{base}/chat/completions", content=BODY, headers=JSON)).json()

    async with client:
        yield call


def stock(base: str) -> AbstractAsyncContextManager[Call]:
    limits = httpx.Limits(max_connections=1000, max_keepalive_connections=1000)
    return bare(httpx.AsyncClient(limits=limits, timeout=60), base)


def constant(base: str) -> AbstractAsyncContextManager[Call]:
    pool = KeepAlivePool(httpx.create_ssl_context)
    return bare(httpx.AsyncClient(transport=PooledTransport(pool), timeout=60), base)


@asynccontextmanager
async def client_of(base: str) -> AsyncGenerator[LMClient]:
    await warm_up()
    lm = LMClient("openai/m", api_key="k", api_base=base, max_connections=1000)
    async with open_transport(max_connections=1000) as transport:
        lm.bind(transport, random.Random(0))
        yield lm


@asynccontextmanager
async def ours(base: str) -> AsyncGenerator[Call]:
    async with client_of(base) as lm:
        yield lambda: lm.chat(MESSAGES)


@asynccontextmanager
async def streamed(base: str) -> AsyncGenerator[Call]:
    async with client_of(base) as lm:

        async def call() -> None:
            async with lm.stream(MESSAGES) as stream:
                async for _ in stream:
                    pass

        yield call


def on_trio(peer: Callable[[str], AbstractAsyncContextManager[Call]], base: str, width: int) -> Sample:
    async def main() -> Sample:
        async with peer(base) as call:

            async def together() -> None:
                async with trio.open_nursery() as nursery:
                    for _ in range(width):
                        nursery.start_soon(call)

            await together()  # connections are made beforehand
            cpu_s, at_s = process_time(), perf_counter()
            await together()
            return Sample((process_time() - cpu_s) / width, perf_counter() - at_s)

    return trio.run(main)


def aiohttp_calls(base: str, width: int) -> Sample:
    import aiohttp

    async def main() -> Sample:
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=1000)) as session:

            async def call() -> None:
                async with session.post(f"{base}/chat/completions", data=BODY, headers=JSON) as reply:
                    json.loads(await reply.read())

            await asyncio.gather(*(call() for _ in range(width)))
            cpu_s, at_s = process_time(), perf_counter()
            await asyncio.gather(*(call() for _ in range(width)))
            return Sample((process_time() - cpu_s) / width, perf_counter() - at_s)

    return asyncio.run(main())


def peers() -> Mapping[str, Callable[[str, int], Sample]]:
    found: dict[str, Callable[[str, int], Sample]] = {
        "httpx, O(1) pool": lambda base, width: on_trio(constant, base, width),
        "LMClient.chat": lambda base, width: on_trio(ours, base, width),
        "LMClient.stream": lambda base, width: on_trio(streamed, base, width),
        "httpx, stock pool": lambda base, width: on_trio(stock, base, width),
    }
    if importlib.util.find_spec("aiohttp") is not None:
        found["aiohttp"] = aiohttp_calls
    return found


def measure(widths: list[int], rounds: int) -> dict[tuple[str, int], Sample]:
    """The medians, by peer and width."""
    medians: dict[tuple[str, int], Sample] = {}
    with loopback_process({"m": "Good day to you."}, latency_s=LATENCY_S) as provider:
        for width in widths:
            usable = {name: run for name, run in peers().items() if width <= WIDEST_STOCK or name != "httpx, stock pool"}
            samples: dict[str, list[Sample]] = {name: [] for name in usable}
            for _ in range(rounds):
                for name, run in usable.items():
                    samples[name].append(run(provider.api_base, width))
            for name, each in samples.items():
                cpu_s = statistics.median(sample.cpu_s for sample in each)
                medians[name, width] = Sample(cpu_s, statistics.median(sample.makespan_s for sample in each))
    return medians


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.lm_calls", description="Language-model calls.")
    parser.add_argument("--widths", type=int, nargs="+", default=[1, 3, 100, 1000], help="calls at once")
    parser.add_argument("--rounds", type=int, default=5, help="how often each peer does each width (default: 5)")
    parser.add_argument("--strict", action="store_true", help="exit with status 1 when the target is missed")
    options = parser.parse_args()
    medians = measure(options.widths, options.rounds)
    missed = False
    for (name, width), sample in medians.items():
        ratio = sample.cpu_s / medians["httpx, O(1) pool", width].cpu_s
        missed = missed or (name == "LMClient.chat" and ratio > TARGET)
        cells = f"{sample.cpu_s * 1e3:8.2f} ms CPU per call  {sample.makespan_s * 1e3:8.1f} ms  {ratio:6.2f} ×"
        sys.stdout.write(f"{width:5d} at once  {name:18s} {cells}\n")
    return 1 if missed and options.strict else 0


if __name__ == "__main__":
    sys.exit(main())
