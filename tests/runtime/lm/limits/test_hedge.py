import httpx
import pytest
import trio

from actors.errors import LMBadRequest, LMUnavailable
from runtime.lm.client import LMClient
from runtime.lm.limits.hedge import OnSent, first_of
from runtime.lm.limits.retry import Retry
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


async def test_a_slow_request_gets_a_second_one_beside_it_and_the_first_answer_wins(virtual_clock: trio.abc.Clock):
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


async def test_a_quick_answer_is_asked_for_once(virtual_clock: trio.abc.Clock):
    provider = Replies((1, said("quick")))
    async with faking(provider, {"hedge": 2}) as (lm,):
        await lm.chat(HELLO)

    assert provider.asked == 1


async def test_a_failure_beside_a_request_that_is_still_on_its_way_is_waited_over(virtual_clock: trio.abc.Clock):
    provider = Replies((5, said("slow but fine")), (1, httpx.Response(500)))
    async with faking(provider, {"hedge": 2}) as (lm,):
        completion = await lm.chat(HELLO)

    assert (completion.text, trio.current_time()) == ("slow but fine", 5)


async def test_hedges_count_as_requests(virtual_clock: trio.abc.Clock):
    provider = Replies(*[(5, httpx.Response(500))] * 9)
    async with faking(provider, {"hedge": 2}) as (lm,):
        with pytest.raises(LMUnavailable, match="request 3 of 3"):
            await lm.chat(HELLO)

    assert provider.asked == EXACT.max_attempts


async def test_one_attempt_means_no_hedge(virtual_clock: trio.abc.Clock):
    provider = Replies((60, said("slow")))
    async with faking(provider, {"hedge": 2, "retry": Retry(max_attempts=1)}) as (lm,):
        assert (await lm.chat(HELLO)).text == "slow"


async def test_an_error_comes_without_a_group_around_it(virtual_clock: trio.abc.Clock):
    provider = Replies((1, httpx.Response(400)))
    async with faking(provider, {"hedge": 2}) as (lm,):
        with pytest.raises(LMBadRequest):
            await lm.chat(HELLO)


async def test_cancelling_cancels_both(virtual_clock: trio.abc.Clock):
    provider = Replies((60, said("slow")), (60, said("slow")))
    async with faking(provider, {"hedge": 2}) as (lm,):
        with trio.move_on_after(10):
            await lm.chat(HELLO)

    assert sorted(provider.cancelled) == [0, 1]


async def text_of(lm: LMClient) -> str:
    async with lm.stream(HELLO) as stream:
        async for _ in stream:
            pass
    return stream.completion.text


async def test_a_stream_without_a_first_piece_gets_a_second_one_beside_it(virtual_clock: trio.abc.Clock):
    provider = Replies((60, said("slow")), (1, said("quick")))
    async with faking(provider, {"hedge": 2}) as (lm,), lm.stream(HELLO) as stream:
        pieces = [piece async for piece in stream]

    assert len(pieces) == 1
    assert (stream.completion.text, stream.completion.attempts, trio.current_time()) == ("quick", 2, 3)
    assert provider.cancelled == [0]


async def test_the_stream_that_lost_is_cancelled_at_the_provider_and_the_other_goes_on(patient_clock: trio.abc.Clock):
    script = ModelScript("one two three four", interval_s=5, failures=(Failure.slow_headers(3600),))
    async with open_loopback({"m": script}) as server:
        async with LMClient("openai/m", api_key="k", api_base=server.api_base, hedge=30, max_connections=1) as single:
            with trio.move_on_after(50):
                await text_of(single)
            assert len(server.requests) == 1
        async with LMClient("openai/m", api_key="k", api_base=server.api_base, hedge=30) as lm:
            server.script("m", script)
            assert await text_of(lm) == "one two three four"
            record = await server.wait_ended(2)
        await server.wait_idle()

    assert (record.cancelled_by_client, len(server.requests)) == (True, 3)
    assert not server.requests[2].cancelled_by_client


async def test_of_two_results_at_the_same_moment_one_is_given_up(virtual_clock: trio.abc.Clock):
    given_up: list[int] = []
    started = 0

    async def attempt(sent: OnSent) -> int:
        nonlocal started
        started += 1
        number = started
        sent()
        with trio.CancelScope(shield=True):
            await trio.sleep(3 - number)  # the first takes two seconds, the second, a second later, one
        return number

    async def discard(number: int) -> None:
        await trio.lowlevel.checkpoint()
        given_up.append(number)

    kept = await first_of(attempt, 1, lambda: True, discard)

    assert sorted([kept, *given_up]) == [1, 2]


async def test_a_result_that_comes_as_the_caller_is_cancelled_is_given_up(virtual_clock: trio.abc.Clock):
    given_up: list[str] = []

    async def attempt(sent: OnSent) -> str:
        sent()
        with trio.CancelScope(shield=True):
            await trio.sleep(1)
        return "too late"

    async def discard(result: str) -> None:
        given_up.append(result)

    with trio.move_on_after(1) as scope:
        await first_of(attempt, 5, lambda: True, discard)

    assert (scope.cancelled_caught, given_up) == (True, ["too late"])


async def test_the_hedge_counts_from_when_the_request_goes_out_not_from_when_it_queues(virtual_clock: trio.abc.Clock):
    provider = Replies((3, said("first")), (3, said("second")))
    async with faking(provider, {"hedge": 4, "max_connections": 1}) as (lm,), trio.open_nursery() as nursery:
        nursery.start_soon(lm.chat, HELLO)
        nursery.start_soon(lm.chat, HELLO)

    assert (provider.asked, trio.current_time()) == (2, 6)
