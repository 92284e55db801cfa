"""Two hundred callers at once, at a provider that takes ten."""

from collections import deque

import httpx
import pytest
import trio

from actors.errors import LMRateLimited
from runtime.lm.client import LMClient
from runtime.lm.limits.adaptive import FIRST_WAVE, AdaptiveLimit
from runtime.lm.limits.quota import MinuteLimit
from runtime.lm.limits.retry import Retry
from tests.runtime.lm.faking import HELLO, faking, said

CALLERS = 200


class Ten:
    """Takes ten at once and, if told so, ten in any second; turns the others away after `reject_s`."""

    def __init__(self, latency_s: float, reject_s: float, per_s: int | None) -> None:
        self.latency_s, self.reject_s, self.per_s = latency_s, reject_s, per_s
        self.in_flight = self.wasted = self.answered = 0
        self.starts: deque[float] = deque()

    async def __call__(self, request: httpx.Request) -> httpx.Response:
        now_s = trio.current_time()
        while self.starts and self.starts[0] <= now_s - 1:
            self.starts.popleft()
        if self.in_flight >= 10 or (self.per_s is not None and len(self.starts) >= self.per_s):
            self.wasted += 1
            await trio.sleep(self.reject_s)
            return httpx.Response(429)
        self.in_flight += 1
        self.starts.append(now_s)
        await trio.sleep(self.latency_s)
        self.in_flight -= 1
        self.answered += 1
        return said("hi")


async def storm(provider: Ten) -> float:
    """Seconds until all callers have their answer; none may fail."""
    async with faking(provider, {"retry": Retry()}) as (lm,), trio.open_nursery() as nursery:
        for _ in range(CALLERS):
            nursery.start_soon(lm.chat, HELLO)
    return trio.current_time()


@pytest.mark.parametrize(("latency_s", "reject_s"), [(1, 0), (1, 0.05), (2, 0.05), (0.1, 0.05)])
async def test_c14_nobody_fails_and_little_is_wasted_where_ten_go_at_once(
    latency_s: float, reject_s: float, virtual_clock: trio.abc.Clock
):
    provider = Ten(latency_s, reject_s, None)
    span_s = await storm(provider)

    assert provider.answered == CALLERS
    assert provider.wasted <= 60
    assert span_s <= 1.1 * CALLERS / 10 * latency_s + 0.1  # seconds held after the first was turned away


@pytest.mark.parametrize(("latency_s", "most_s"), [(1, 22), (0.5, 44), (0.1, 26)])
async def test_c14_nobody_fails_and_little_is_wasted_where_ten_go_in_a_second(
    latency_s: float, most_s: float, virtual_clock: trio.abc.Clock
):
    """How many may go at once says little about how many may go in a second, so that it takes longer to find out."""
    provider = Ten(latency_s, 0.05, 10)
    span_s = await storm(provider)

    assert (provider.answered, provider.wasted <= 60) == (CALLERS, True)
    assert span_s <= most_s


async def test_c14_what_refills_is_used_all_the_time(virtual_clock: trio.abc.Clock):
    provider = Ten(0, 0, None)
    async with faking(provider, {"rpm": 60}) as (lm,), trio.open_nursery() as nursery:
        for _ in range(CALLERS):
            nursery.start_soon(lm.chat, HELLO)

    assert trio.current_time() == CALLERS - 60  # sixty at once, and then one in each second
    assert provider.wasted == 0


async def test_c14_what_is_corrected_late_gives_nothing_back_that_has_refilled(virtual_clock: trio.abc.Clock):
    limit = MinuteLimit(60)
    first = await limit.take(60)
    await trio.sleep(60)
    await limit.take(60)
    limit.correct(first, 0)
    await limit.take(30)

    assert trio.current_time() == 90


async def test_c14_a_provider_that_always_turns_away_is_asked_hardly_more_than_allowed(virtual_clock: trio.abc.Clock):
    asked = 0

    async def never(request: httpx.Request) -> httpx.Response:
        nonlocal asked
        asked += 1
        await trio.sleep(1)
        return httpx.Response(429)

    async def call(lm: LMClient) -> None:
        with pytest.raises(LMRateLimited):
            await lm.chat(HELLO)

    async with faking(never, {"retry": Retry(max_attempts=3)}) as (lm,), trio.open_nursery() as nursery:
        for _ in range(20):
            nursery.start_soon(call, lm)

    assert 20 * 3 <= asked <= 20 * 4


async def test_c14_one_attempt_stays_one(virtual_clock: trio.abc.Clock):
    provider = Ten(1, 0.05, None)
    failed = 0

    async def call(lm: LMClient) -> None:
        nonlocal failed
        try:
            await lm.chat(HELLO)
        except LMRateLimited:
            failed += 1

    async with faking(provider, {"retry": Retry(max_attempts=1)}) as (lm,), trio.open_nursery() as nursery:
        for _ in range(20):
            nursery.start_soon(call, lm)

    assert (provider.answered, failed, provider.wasted) == (10, 10, 10)


async def test_c14_a_provider_that_takes_all_is_given_all_within_a_moment(virtual_clock: trio.abc.Clock):
    limit = AdaptiveLimit()
    async with trio.open_nursery() as nursery:
        for _ in range(FIRST_WAVE + 100):
            nursery.start_soon(limit.enter)

    assert limit.in_flight == FIRST_WAVE + 100
    assert trio.current_time() < 1
