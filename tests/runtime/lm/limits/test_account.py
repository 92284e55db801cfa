import math
from typing import Any

import httpx
import pytest
import trio

from actors.errors import LMBadRequest, LMError, LMRateLimited, LMUnavailable
from runtime.lm.client import LMClient
from runtime.lm.limits.account import BREAK_AFTER, COOL_OFF_S, Account
from runtime.lm.limits.quota import MinuteLimit
from runtime.lm.limits.retry import Retry
from tests.runtime.lm.faking import EXACT, HELLO, faking, model_of, said

ONCE = Retry(max_attempts=1)


class Provider:
    """Writes down when it is asked; fails as told, else answers after `latency_s`."""

    def __init__(self, *failures: httpx.Response, latency_s: float = 0.0) -> None:
        self.failures = list(failures)
        self.latency_s = latency_s
        self.at_s: list[float] = []
        self.in_flight = self.max_in_flight = 0

    async def __call__(self, request: httpx.Request) -> httpx.Response:
        self.at_s.append(trio.current_time())
        self.in_flight += 1
        self.max_in_flight = max(self.max_in_flight, self.in_flight)
        try:
            await trio.sleep(self.latency_s)
        finally:
            self.in_flight -= 1
        return self.failures.pop(0) if self.failures else said("hi")


def busy(retry_after_s: float | None = None) -> httpx.Response:
    return httpx.Response(429, headers={} if retry_after_s is None else {"retry-after": f"{retry_after_s:g}"})


async def call_all(clients: list[LMClient], times: int = 1) -> None:
    async with trio.open_nursery() as nursery:
        for client in clients:
            for _ in range(times):
                nursery.start_soon(client.chat, HELLO)


async def test_after_a_minutes_worth_requests_go_out_as_they_refill(virtual_clock: trio.abc.Clock):
    provider = Provider()
    async with faking(provider, {"rpm": 3}) as clients:
        await call_all(clients, times=7)

    assert provider.at_s == [0, 0, 0, 20, 40, 60, 80]


async def test_tokens_are_estimated_before_a_call_and_corrected_after_it(virtual_clock: trio.abc.Clock):
    """1,024 tokens of answer are expected of a call that says nothing; it used ten."""
    provider = Provider(latency_s=1)
    async with faking(provider, {"tpm": 1500}) as (lm,):
        await call_all([lm], times=2)
        await lm.chat(HELLO, max_tokens=1400)

    assert provider.at_s == [0, 1, 2]


async def test_a_call_above_the_whole_limit_waits_until_nothing_is_owed(virtual_clock: trio.abc.Clock):
    limit = MinuteLimit(100)

    await limit.take(60)
    await limit.take(500)

    assert trio.current_time() == 36


async def test_clients_of_one_account_share_its_limits_and_others_do_not(virtual_clock: trio.abc.Clock):
    provider = Provider()
    same, other = {"model": "openai/other", "rpm": 100}, {"api_key": "another"}
    async with faking(provider, {"rpm": 1}, same, other) as (first, second, third):
        await first.chat(HELLO)
        await third.chat(HELLO)
        assert trio.current_time() == 0
        await second.chat(HELLO)

    assert provider.at_s == [0, 0, 60]


async def test_a_retry_after_holds_back_every_call_on_the_account_and_none_fails(virtual_clock: trio.abc.Clock):
    provider = Provider(busy(7))
    async with faking(provider, {}, {}) as (first, second):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(first.chat, HELLO)
            await trio.sleep(1)
            nursery.start_soon(second.chat, HELLO)

    assert provider.at_s == [0, 7, 7]


async def test_a_longer_pause_than_anybody_wants_to_wait_out_fails_unsent(virtual_clock: trio.abc.Clock):
    provider = Provider(busy(3600))
    async with faking(provider) as (lm,):
        with pytest.raises(LMRateLimited):
            await lm.chat(HELLO)
        with pytest.raises(LMRateLimited) as caught:
            await lm.chat(HELLO)

    assert len(provider.at_s) == 1
    assert str(caught.value) == (
        "'openai/m', request 0 of 3: provider has asked for patience, for 3600 s more; nothing was sent.\n"
        "  Fix: wait, raise Retry(max_retry_after_s=…), or name fallbacks."
    )


async def test_after_429_the_limit_is_what_was_not_turned_away_and_success_lets_it_grow(virtual_clock: trio.abc.Clock):
    provider = Provider(*[busy()] * 5, latency_s=1)
    async with faking(provider) as (lm,):
        await call_all([lm], times=8)
        assert provider.max_in_flight == 8
        provider.max_in_flight = 0
        await call_all([lm], times=8)
        assert 3 <= provider.max_in_flight <= 5
        await call_all([lm], times=60)
        provider.max_in_flight = 0
        await call_all([lm], times=8)

    assert provider.max_in_flight == 8


async def test_after_a_wave_without_one_success_half_of_it_is_found_again_quickly(virtual_clock: trio.abc.Clock):
    provider = Provider(*[busy()] * 8, latency_s=1)
    async with faking(provider) as (lm,):
        await call_all([lm], times=8)
        provider.max_in_flight = 0
        await call_all([lm], times=8)

    assert provider.max_in_flight >= 4


async def test_a_provider_that_is_down_is_left_alone_for_a_while_and_then_tried_by_one_call(virtual_clock: trio.abc.Clock):
    provider = Provider(*[httpx.Response(500)] * (BREAK_AFTER + 1))
    async with faking(provider, {"retry": ONCE}) as (lm,):
        for _ in range(BREAK_AFTER):
            with pytest.raises(LMUnavailable, match="HTTP 500"):
                await lm.chat(HELLO)
        with pytest.raises(LMUnavailable, match="provider has failed 20 times in a row and counts as down; nothing was sent"):
            await lm.chat(HELLO)
        await trio.sleep(COOL_OFF_S)
        with pytest.raises(LMUnavailable, match="HTTP 500"):
            await lm.chat(HELLO)
        with pytest.raises(LMUnavailable, match="21 times in a row"):
            await lm.chat(HELLO)
        assert len(provider.at_s) == BREAK_AFTER + 1
        await trio.sleep(COOL_OFF_S)
        await lm.chat(HELLO)
        await lm.chat(HELLO)


async def test_a_provider_that_rejects_a_request_is_not_down(virtual_clock: trio.abc.Clock):
    failures = [httpx.Response(500)] * (BREAK_AFTER - 1)
    async with faking(Provider(*failures, httpx.Response(400), *failures, httpx.Response(200)), {"retry": ONCE}) as (lm,):
        for _ in failures:
            with pytest.raises(LMUnavailable, match="HTTP 500"):
                await lm.chat(HELLO)
        with pytest.raises(LMBadRequest):
            await lm.chat(HELLO)
        for _ in failures:  # not in a row with those before the 400
            with pytest.raises(LMUnavailable, match="HTTP 500"):
                await lm.chat(HELLO)


async def test_only_one_call_tries_a_provider_that_was_down(virtual_clock: trio.abc.Clock):
    provider = Provider(*[httpx.Response(500)] * BREAK_AFTER)
    outcomes: list[str] = []

    async def call(lm: LMClient) -> None:
        try:
            outcomes.append((await lm.chat(HELLO)).text)
        except LMError as error:
            outcomes.append(type(error).__name__)

    async with faking(provider, {"retry": ONCE}) as (lm,):
        for _ in range(BREAK_AFTER):
            await call(lm)
        await trio.sleep(COOL_OFF_S)
        provider.latency_s, outcomes[:] = 1, []
        async with trio.open_nursery() as nursery:
            for _ in range(3):
                nursery.start_soon(call, lm)

    assert sorted(outcomes) == ["LMUnavailable", "LMUnavailable", "hi"]


async def test_a_cancelled_call_leaves_nothing_behind(virtual_clock: trio.abc.Clock):
    account = Account("provider")
    with trio.move_on_after(1):
        with await account.admit(5, max_pause_s=60):
            assert account.statistics().in_flight == 1
            await trio.sleep_forever()

    statistics = account.statistics()
    assert (statistics.in_flight, statistics.waiting, statistics.limit, statistics.is_broken) == (0, 0, math.inf, False)


@pytest.mark.parametrize("failure", [httpx.Response(503), busy(), busy(3600)])
async def test_a_fallback_answers_when_the_model_cannot(failure: httpx.Response, virtual_clock: trio.abc.Clock):
    async def handle(request: httpx.Request) -> httpx.Response:
        return (
            said("second best") if model_of(request) == "second" else httpx.Response(failure.status_code, headers=failure.headers)
        )

    second: dict[str, Any] = {"model": "openai/second", "api_key": "another", "api_base": "http://elsewhere/v1"}
    async with faking(handle, second) as (fallback,), faking(handle, {"fallbacks": [fallback]}) as (lm,):
        completion = await lm.chat(HELLO)

    assert (completion.text, completion.model) == ("second best", "openai/second")
    assert completion.attempts == (2 if "3600" in failure.headers.values() else EXACT.max_attempts)


async def test_the_models_own_error_is_raised_when_no_fallback_answers(virtual_clock: trio.abc.Clock):
    async def handle(request: httpx.Request) -> httpx.Response:
        return httpx.Response(503 if model_of(request) == "m" else 401)

    fallback = LMClient("openai/second", api_key="k", api_base="http://provider/v1")
    async with faking(handle, {"fallbacks": [fallback]}) as (lm,):
        with pytest.raises(LMUnavailable, match="'openai/m', request 2 of 2") as caught:
            await lm.chat(HELLO)
        assert fallback.is_open

    assert caught.value.__notes__[0].startswith("fallback: 'openai/second', request 1 of 1: HTTP 401")


async def test_a_wrong_request_is_not_sent_to_others_too(virtual_clock: trio.abc.Clock):
    async def handle(request: httpx.Request) -> httpx.Response:
        assert model_of(request) == "m"
        return httpx.Response(400)

    fallback = LMClient("openai/second", api_key="k", api_base="http://provider/v1")
    async with faking(handle, {"fallbacks": [fallback]}) as (lm,):
        with pytest.raises(LMError, match="HTTP 400"):
            await lm.chat(HELLO)
