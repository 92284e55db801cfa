"""Two models on one key: what one of them asks for or suffers is none of the other's."""

import json
from typing import Any

import httpx
import pytest
import trio

from actors.errors import LMError, LMRateLimited, LMUnavailable
from runtime.lm.limits.account import BREAK_AFTER, PROBE_S
from runtime.lm.limits.retry import Retry
from tests.runtime.lm.faking import HELLO, faking, model_of, said

ONCE = Retry(max_attempts=1)
BIG, SMALL = {"model": "openai/big"}, {"model": "openai/small"}


class Provider:
    """Answers each model with its own replies, and then with a text."""

    def __init__(self, **replies: list[httpx.Response]) -> None:
        self.replies = replies
        self.asked: list[tuple[str, float]] = []

    async def __call__(self, request: httpx.Request) -> httpx.Response:
        model = model_of(request)
        self.asked.append((model, trio.current_time()))
        left = self.replies.get(model)
        return left.pop(0) if left else said(f"by {model}")


def wait(status: int, seconds: float) -> httpx.Response:
    return httpx.Response(status, headers={"retry-after": f"{seconds:g}"})


async def test_c2_a_fallback_on_the_same_key_is_asked_at_once(virtual_clock: trio.abc.Clock):
    provider = Provider(big=[wait(429, 300)])
    async with faking(provider, SMALL) as (small,), faking(provider, {**BIG, "fallbacks": [small]}) as (big,):
        first = await big.chat(HELLO)
        second = await big.chat(HELLO)

    assert (first.text, second.text, trio.current_time()) == ("by small", "by small", 0)
    assert provider.asked == [("big", 0), ("small", 0), ("small", 0)]


async def test_c2_a_fallback_is_asked_instead_of_a_pause_that_could_be_waited_out(virtual_clock: trio.abc.Clock):
    provider = Provider(big=[wait(429, 30)])
    async with faking(provider, SMALL) as (small,), faking(provider, {**BIG, "fallbacks": [small]}) as (big,):
        answer = await big.chat(HELLO)

    assert (answer.text, trio.current_time()) == ("by small", 0)


async def test_c2_a_short_pause_is_waited_out_although_there_is_a_fallback(virtual_clock: trio.abc.Clock):
    provider = Provider(big=[wait(429, 2)])
    async with faking(provider, SMALL) as (small,), faking(provider, {**BIG, "fallbacks": [small]}) as (big,):
        answer = await big.chat(HELLO)

    assert (answer.text, trio.current_time()) == ("by big", 2)


async def test_c2_a_pause_is_waited_out_after_all_when_no_fallback_can_answer(virtual_clock: trio.abc.Clock):
    provider = Provider(big=[wait(429, 30)], small=[httpx.Response(401)])
    async with faking(provider, SMALL) as (small,), faking(provider, {**BIG, "fallbacks": [small]}) as (big,):
        answer = await big.chat(HELLO)

    assert (answer.text, answer.attempts, trio.current_time()) == ("by big", 3, 30)


async def test_c2_a_model_that_is_down_fails_no_call_of_a_healthy_one(virtual_clock: trio.abc.Clock):
    provider = Provider(big=[httpx.Response(500)] * BREAK_AFTER)
    async with faking(provider, {**BIG, "retry": ONCE}, SMALL) as (big, small):
        for _ in range(BREAK_AFTER):
            with pytest.raises(LMUnavailable, match="HTTP 500"):
                await big.chat(HELLO)
        with pytest.raises(LMUnavailable, match="counts as down"):
            await big.chat(HELLO)
        assert (await small.chat(HELLO)).text == "by small"


@pytest.mark.parametrize("status", [400, 404, 408, 500, 502])
async def test_c2_only_429_503_and_529_ask_for_patience_on_behalf_of_others(status: int, virtual_clock: trio.abc.Clock):
    provider = Provider(big=[wait(status, 3000)])
    async with faking(provider, {**BIG, "retry": ONCE}) as (big,):
        with pytest.raises(LMError, match=f"HTTP {status}"):
            await big.chat(HELLO)
        assert (await big.chat(HELLO)).text == "by big"

    assert trio.current_time() == 0


@pytest.mark.parametrize("status", [429, 503, 529])
async def test_c2_other_calls_wait_for_the_end_of_a_pause(status: int, virtual_clock: trio.abc.Clock):
    provider = Provider(big=[wait(status, 20)])
    async with faking(provider, {**BIG, "retry": ONCE}) as (big,):
        with pytest.raises((LMRateLimited, LMUnavailable)):
            await big.chat(HELLO)
        await big.chat(HELLO)

    assert [at_s for _, at_s in provider.asked] == [0, 20]


async def test_c2_a_long_pause_is_tried_once_a_minute_and_ends_with_the_first_answer(virtual_clock: trio.abc.Clock):
    provider = Provider(big=[wait(429, 3000), wait(429, 3000)])
    refused = 0
    async with faking(provider, {**BIG, "retry": ONCE}) as (big,):
        for _ in range(26):
            try:
                await big.chat(HELLO)
            except LMRateLimited:
                refused += 1
            await trio.sleep(PROBE_S / 10)

    assert [round(at_s) for _, at_s in provider.asked[:4]] == [0, 60, 120, 126]
    assert refused == 20


async def test_c2_those_that_wait_go_on_when_the_pause_ends_early(virtual_clock: trio.abc.Clock):
    provider = Provider(big=[wait(429, 3000)])
    patient = Retry(max_attempts=2, max_retry_after_s=4000)
    async with faking(provider, {**BIG, "retry": ONCE}, {**BIG, "retry": patient}) as (hasty, big):
        with pytest.raises(LMRateLimited):
            await hasty.chat(HELLO)
        async with trio.open_nursery() as nursery:
            for _ in range(5):
                nursery.start_soon(big.chat, HELLO)

    assert [at_s for _, at_s in provider.asked] == [0, 60, 60, 60, 60, 60]


async def test_c2_what_the_user_says_of_an_account_holds_for_all_its_models(virtual_clock: trio.abc.Clock):
    provider = Provider()
    limited: dict[str, Any] = {**BIG, "rpm": 1}
    async with faking(provider, limited, SMALL) as (big, small):
        await big.chat(HELLO)
        await small.chat(HELLO)

    assert json.dumps(provider.asked) == '[["big", 0.0], ["small", 60.0]]'
