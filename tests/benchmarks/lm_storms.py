"""Crowds of callers at a provider that takes a few, in virtual time: how long until all are answered, and what was in vain."""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Iterator

import attrs
import httpx
import trio

from actors.errors import LMError
from runtime.lm import LMClient
from runtime.lm.http.transport import open_transport
from runtime.lm.providers import import_litellm
from runtime.testing import run_in_virtual_time
from tests.benchmarks.measuring import judged

CALLERS = 200
AT_ONCE, PER_S, LATENCY_S, REFUSE_S = 10, 10, 1.0, 0.05
"""What the provider takes at once and in any second, how long an answer takes it, and how long a refusal."""
RPM = 60
MAX_WASTED, MAX_SPAN = 60, 1.1
"""The most requests turned away, and at most so many times the time that the provider's limits allow."""


@attrs.frozen
class Storm:
    """What became of one crowd."""

    span_s: float
    ideal_s: float
    wasted: int
    failed: int


@attrs.define
class _Provider:
    at_once: float
    per_s: float
    in_flight: int = 0
    wasted: int = 0
    starts: deque[float] = attrs.field(factory=deque[float])

    async def __call__(self, request: httpx.Request) -> httpx.Response:
        now_s = trio.current_time()
        while self.starts and self.starts[0] <= now_s - 1:
            self.starts.popleft()
        if self.in_flight >= self.at_once or len(self.starts) >= self.per_s:
            self.wasted += 1
            await trio.sleep(REFUSE_S)
            return httpx.Response(429)
        self.in_flight += 1
        self.starts.append(now_s)
        await trio.sleep(LATENCY_S)
        self.in_flight -= 1
        message = {"role": "assistant", "content": "Hello"}
        usage = {"prompt_tokens": 9, "completion_tokens": 1, "total_tokens": 10}
        return httpx.Response(200, json={"choices": [{"message": message, "finish_reason": "stop"}], "usage": usage})


def storm(callers: int = CALLERS, *, rpm: int | None = None) -> Storm:
    """A crowd at a provider that takes ten; or, with `rpm`, at one that takes all, by a client that is told its limit."""
    provider = _Provider(AT_ONCE, PER_S) if rpm is None else _Provider(float("inf"), float("inf"))
    failed, span_s = 0, 0.0

    async def call(lm: LMClient) -> None:
        nonlocal failed
        try:
            await lm.chat([{"role": "user", "content": "Hello"}])
        except LMError:
            failed += 1

    async def main() -> None:
        nonlocal span_s
        lm = LMClient("openai/m", api_key="key-of-the-storm", api_base="http://provider/v1", rpm=rpm)
        async with open_transport(connect=lambda: httpx.MockTransport(provider)) as transport:
            lm.bind(transport, random.Random(0))
            async with trio.open_nursery() as nursery:
                for _ in range(callers):
                    nursery.start_soon(call, lm)
        span_s = trio.current_time()

    import_litellm.load()  # in a thread it would take no time of the virtual clock
    run_in_virtual_time(main)
    ideal_s = callers / PER_S * LATENCY_S if rpm is None else max(0, callers - rpm) * 60 / rpm + LATENCY_S
    return Storm(span_s, ideal_s, provider.wasted, failed)


def verdicts() -> Iterator[str]:
    """One line for each crowd."""
    for name, found in ((f"{AT_ONCE} at once, {PER_S} in a second", storm()), (f"rpm={RPM}", storm(rpm=RPM))):
        words = f"{CALLERS} callers, {name}: {found.span_s:.1f} s, {found.wasted} turned away, {found.failed} failed"
        is_met = found.span_s <= MAX_SPAN * found.ideal_s and found.wasted <= MAX_WASTED and not found.failed
        yield judged(f"{words}; at most {MAX_SPAN:g} × {found.ideal_s:g} s, {MAX_WASTED} and 0", is_met)
