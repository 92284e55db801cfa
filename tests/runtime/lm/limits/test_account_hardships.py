"""Provider accounts under cancellation, absurd replies and clocks far in the future: nothing is lost, nothing waits for ever."""

import math
from typing import Any

import httpx
import pytest
import trio
import trio.testing
from hypothesis import given, settings
from hypothesis import strategies as st

from actors.errors import LMError, LMRateLimited, LMUnavailable
from runtime.lm.client import LMClient
from runtime.lm.limits.account import BREAK_AFTER, COOL_OFF_S, LONGEST_PAUSE_S, Account
from runtime.lm.limits.retry import Retry
from runtime.testing import run_in_virtual_time
from runtime.testing.loopback import Failure, ModelScript, open_loopback
from tests.runtime.lm.faking import HELLO, faking, said

ONCE = Retry(max_attempts=1)


def quiet(account: Account) -> bool:
    statistics = account.statistics()
    return (statistics.in_flight, statistics.waiting) == (0, 0)


async def test_what_is_cancelled_before_it_was_sent_takes_nothing_from_the_minute(virtual_clock: trio.abc.Clock):
    account = Account("provider")
    account.declare(rpm=2, tpm=100)
    with await account.admit(90, math.inf):
        pass
    for _ in range(5):
        with trio.move_on_after(1):
            await account.admit(50, math.inf)
    with await account.admit(10, math.inf):
        at_s = trio.current_time()

    assert at_s == 5
    assert quiet(account)


async def test_what_the_breaker_or_a_pause_refuses_takes_nothing_from_the_minute(virtual_clock: trio.abc.Clock):
    account = Account("provider")
    account.declare(rpm=BREAK_AFTER + 1, tpm=None)
    for _ in range(BREAK_AFTER):
        with pytest.raises(LMUnavailable, match="broken"), await account.admit(1, math.inf):
            raise LMUnavailable("broken")
    for _ in range(10):
        with pytest.raises(LMUnavailable, match="counts as down"):
            await account.admit(1, math.inf)
    await trio.sleep(COOL_OFF_S)
    with await account.admit(1, math.inf):
        at_s = trio.current_time()

    assert at_s == COOL_OFF_S


async def test_a_probe_that_is_cancelled_leaves_the_next_call_to_try(virtual_clock: trio.abc.Clock):
    account = Account("provider")
    for _ in range(BREAK_AFTER):
        with pytest.raises(LMUnavailable), await account.admit(1, math.inf):
            raise LMUnavailable("broken")
    await trio.sleep(COOL_OFF_S)
    with trio.move_on_after(1), await account.admit(1, math.inf):
        await trio.sleep_forever()
    with await account.admit(1, math.inf):
        pass

    assert not account.statistics().is_broken


@pytest.mark.parametrize("asked", ["1e300", "999999999999", "31536000"])
async def test_an_absurd_wait_ends_its_call_but_does_not_shut_the_account_for_ever(asked: str, virtual_clock: trio.abc.Clock):
    replies = [httpx.Response(429, headers={"retry-after": asked}), said("hi")]

    async def handle(request: httpx.Request) -> httpx.Response:
        return replies.pop(0)

    async with faking(handle) as (lm,):
        with pytest.raises(LMRateLimited) as caught:
            await lm.chat(HELLO)
        await trio.sleep(LONGEST_PAUSE_S)
        assert (await lm.chat(HELLO)).text == "hi"

    assert caught.value.retry_after_s == float(asked)


@pytest.mark.parametrize("asked", ["-1", "nan", "inf", "1e999", "soon", "", "Fri, 31 Dec 9999 23:59:59 GMT", "0x10"])
async def test_a_wait_that_is_none_is_not_waited(asked: str, virtual_clock: trio.abc.Clock):
    replies = [httpx.Response(429, headers=[(b"retry-after", asked.encode())]), said("hi")]

    async def handle(request: httpx.Request) -> httpx.Response:
        return replies.pop(0)

    async with faking(handle) as (lm,):
        assert (await lm.chat(HELLO)).text == "hi"

    assert trio.current_time() <= 3


@pytest.mark.parametrize("now_s", [1e6, 1e9, 1e12, 1e15])
async def test_limits_and_pauses_hold_at_any_time_of_the_clock(now_s: float, virtual_clock: trio.testing.MockClock):
    virtual_clock.jump(now_s)
    at_s: list[float] = []
    replies = [httpx.Response(429, headers={"retry-after": "8"})]

    async def handle(request: httpx.Request) -> httpx.Response:
        at_s.append(trio.current_time() - now_s)
        return replies.pop(0) if replies else said("hi")

    async with faking(handle, {"rpm": 3}) as (lm,):
        with trio.fail_after(1000):
            for _ in range(3):
                await lm.chat(HELLO)

    assert at_s == [0, 8, 8, 20]


async def test_streams_that_break_off_count_as_failures_and_not_as_answers():
    failures = (Failure.disconnect_mid_body(),) * BREAK_AFTER
    async with open_loopback({"m": ModelScript("one two three four five six", failures=failures)}) as server:
        async with LMClient("openai/m", api_key="k", api_base=server.api_base, retry=ONCE) as lm:
            for _ in range(BREAK_AFTER):
                with pytest.raises(LMUnavailable):
                    async with lm.stream(HELLO) as stream:
                        [_ async for _ in stream]
            with pytest.raises(LMUnavailable, match=f"has failed {BREAK_AFTER} times in a row"):
                await lm.chat(HELLO)


async def test_an_error_of_the_callers_own_in_a_streams_block_teaches_the_account_nothing(virtual_clock: trio.abc.Clock):
    async def handle(request: httpx.Request) -> httpx.Response:
        return said("hi")

    async with faking(handle) as (lm,):
        for _ in range(BREAK_AFTER):
            with pytest.raises(LMUnavailable, match="of another model"):
                async with lm.stream(HELLO):
                    raise LMUnavailable("of another model")
        link = lm._requester.link
        assert link is not None
        assert link.account is not None
        assert (link.account.statistics().failures_in_a_row, quiet(link.account)) == (0, True)


# --- at every checkpoint ------------------------------------------------------------------------------------------------


@settings(deadline=None, max_examples=80)
@given(
    calls=st.lists(
        st.tuples(st.sampled_from([0.0, 0.5, 30, 61, 200]), st.sampled_from(["ok", "429", "503", "wait"]), st.integers(1, 60)),
        min_size=1,
        max_size=12,
    ),
    rpm=st.sampled_from([None, 1, 3]),
    tpm=st.sampled_from([None, 50, 100]),
)
def test_whatever_is_cancelled_wherever_it_waits_nothing_stays_behind(
    calls: list[tuple[float, str, int]], rpm: int | None, tpm: int | None
):
    async def one(account: Account, patience_s: float, fate: str, tokens: int) -> None:
        with trio.move_on_after(patience_s):
            try:
                with await account.admit(tokens, 100) as ticket:
                    await trio.sleep(1)
                    fail(fate)
                    ticket.used(tokens // 2)
            except LMError:
                pass

    async def main() -> None:
        account = Account("provider")
        account.declare(rpm, tpm)
        async with trio.open_nursery() as nursery:
            for patience_s, fate, tokens in calls:
                nursery.start_soon(one, account, patience_s, fate, tokens)
        assert quiet(account)
        await trio.sleep(LONGEST_PAUSE_S)
        with trio.fail_after(0.001):
            with await account.admit(50, 0):
                assert account.statistics().in_flight == 1
        assert quiet(account)

    run_in_virtual_time(main)


def fail(fate: str) -> None:
    """What a provider may answer."""
    replies: dict[str, Any] = {"429": LMRateLimited("busy"), "503": LMUnavailable("down"), "wait": LMRateLimited("busy")}
    if fate == "wait":
        replies[fate].retry_after_s = 20.0
    if fate in replies:
        raise replies[fate]
