import httpx
import pytest
import trio

from actors.errors import LMBadRequest, LMUnavailable
from runtime.lm.client import LMClient
from runtime.lm.retry import Retry
from runtime.testing.loopback import Failure, ModelScript, open_loopback
from tests.runtime.lm.faking import EXACT, HELLO, faking, said


class Replies:
    """One (latency in seconds, reply) per request, in order."""

    def __init__(self, *replies: tuple[float, httpx.Response]) -> None:
        self.replies = list(replies)
        self.asked = 0
        self.cancelled: list[int] = []

    async def __call__(self, request: httpx.Request) -> httpx.Response:
        number = self.asked
        self.asked += 1
        latency_s, reply = self.replies[number]
        try:
            await trio.sleep(latency_s)
        except trio.Cancelled:
            self.cancelled.append(number)
            raise
        return reply


async def test_a_slow_request_gets_a_second_one_beside_it_and_the_first_answer_wins(autojump_clock: trio.abc.Clock):
    provider = Replies((60, said("slow")), (1, said("quick")))
    async with faking(provider, {"hedge": 2}) as (lm,):
        completion = await lm.chat(HELLO)

    assert (completion.text, completion.attempts, trio.current_time()) == ("quick", 2, 3)
    assert provider.cancelled == [0]


async def test_the_loser_is_cancelled_at_the_provider(patient_clock: trio.abc.Clock):
    async with open_loopback({"m": ModelScript("hi", failures=(Failure.slow_headers(3600),))}) as server:
        async with LMClient("openai/m", api_key="k", api_base=server.api_base, hedge=2) as lm:
            await lm.chat(HELLO)
            record = await server.wait_ended(1)

    assert (record.cancelled_by_client, len(server.requests)) == (True, 2)


async def test_a_quick_answer_is_asked_for_once(autojump_clock: trio.abc.Clock):
    provider = Replies((1, said("quick")))
    async with faking(provider, {"hedge": 2}) as (lm,):
        await lm.chat(HELLO)

    assert provider.asked == 1


async def test_a_failure_beside_a_request_that_is_still_on_its_way_is_waited_over(autojump_clock: trio.abc.Clock):
    provider = Replies((5, said("slow but fine")), (1, httpx.Response(500)))
    async with faking(provider, {"hedge": 2}) as (lm,):
        completion = await lm.chat(HELLO)

    assert (completion.text, trio.current_time()) == ("slow but fine", 5)


async def test_hedges_count_as_requests(autojump_clock: trio.abc.Clock):
    provider = Replies(*[(5, httpx.Response(500))] * 9)
    async with faking(provider, {"hedge": 2}) as (lm,):
        with pytest.raises(LMUnavailable, match="request 3 of 3"):
            await lm.chat(HELLO)

    assert provider.asked == EXACT.max_attempts


async def test_one_attempt_means_no_hedge(autojump_clock: trio.abc.Clock):
    provider = Replies((60, said("slow")))
    async with faking(provider, {"hedge": 2, "retry": Retry(max_attempts=1)}) as (lm,):
        assert (await lm.chat(HELLO)).text == "slow"


async def test_an_error_comes_without_a_group_around_it(autojump_clock: trio.abc.Clock):
    provider = Replies((1, httpx.Response(400)))
    async with faking(provider, {"hedge": 2}) as (lm,):
        with pytest.raises(LMBadRequest):
            await lm.chat(HELLO)


async def test_cancelling_cancels_both(autojump_clock: trio.abc.Clock):
    provider = Replies((60, said("slow")), (60, said("slow")))
    async with faking(provider, {"hedge": 2}) as (lm,):
        with trio.move_on_after(10):
            await lm.chat(HELLO)

    assert sorted(provider.cancelled) == [0, 1]
