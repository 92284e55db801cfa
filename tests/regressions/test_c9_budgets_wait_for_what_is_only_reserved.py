"""Budgets refuse what is spent, and wait for what other calls only hold."""

from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st

from actors.errors import LMBudgetExhausted
from runtime.lm.limits.budget import Budget, held_by_block, reserve, spending
from runtime.testing import run_in_virtual_time
from tests.runtime.lm.faking import HELLO, faking, said


class Pieces(httpx.AsyncByteStream):
    """A streamed answer in two pieces, one second apart."""

    async def __aiter__(self) -> AsyncIterator[bytes]:
        yield b'data: {"choices":[{"index":0,"delta":{"content":"a"}}]}\n\n'
        await trio.sleep(1)
        yield b'data: {"choices":[{"index":0,"delta":{"content":"b"},"finish_reason":"stop"}]}\n\ndata: [DONE]\n\n'


async def seven(request: httpx.Request) -> httpx.Response:
    await trio.sleep(1)
    return said("hi", tokens=7)


async def test_c9_twenty_cheap_calls_at_once_are_all_answered(virtual_clock: trio.abc.Clock):
    budget = Budget(max_tokens=10_000)
    async with faking(seven, {"budget": budget}) as (lm,), trio.open_nursery() as nursery:
        for _ in range(20):
            nursery.start_soon(lm.chat, HELLO)

    assert (budget.tokens, budget.holders, budget.reserved_tokens) == (140, 0, 0)
    assert trio.current_time() == 3  # nine find room at once, and the others as those end


async def test_c9_what_has_been_spent_is_refused_to_those_that_waited_for_it(virtual_clock: trio.abc.Clock):
    async def dear(request: httpx.Request) -> httpx.Response:
        await trio.sleep(1)
        return said("hi", tokens=119)

    budget = Budget(max_tokens=250)
    outcomes: list[str] = []

    async def call(lm: Any) -> None:
        try:
            outcomes.append((await lm.chat(HELLO, max_tokens=100)).text)
        except LMBudgetExhausted as error:
            outcomes.append(str(error).partition(" asked")[0][-10:])

    async with faking(dear, {"budget": budget}) as (lm,), trio.open_nursery() as nursery:
        for _ in range(4):
            nursery.start_soon(call, lm)

    assert sorted(outcomes) == ["119 tokens", "119 tokens", "hi", "hi"]
    assert (budget.tokens, trio.current_time()) == (238, 1)


async def test_c9_a_runs_full_budget_holds_up_no_other_run(virtual_clock: trio.abc.Clock):
    """A call that waits for its own budget does not stand in the way of others in the budget above."""
    whole, small = Budget(max_tokens=10_000), Budget(max_tokens=150)
    ended: list[tuple[str, float]] = []

    async def call(lm: Any, name: str, part: Budget) -> None:
        with spending(part):
            await lm.chat(HELLO, max_tokens=100)
        ended.append((name, trio.current_time()))

    async with faking(seven, {"budget": whole}) as (lm,), trio.open_nursery() as nursery:
        for _ in range(3):
            nursery.start_soon(call, lm, "small", small)
        await trio.sleep(0.5)
        nursery.start_soon(call, lm, "other", Budget())

    assert sorted(ended) == [("other", 1.5), ("small", 1), ("small", 2), ("small", 3)]


async def test_c9_the_line_is_in_order_of_arrival_and_a_small_call_overtakes_no_large_one(virtual_clock: trio.abc.Clock):
    budget = Budget(max_tokens=100)
    order: list[int] = []

    async def hold(number: int, tokens: int) -> None:
        await trio.sleep(number / 100)
        with await reserve((budget,), tokens, 0.0):
            order.append(number)
            await trio.sleep(1)

    async with trio.open_nursery() as nursery:
        for number, tokens in enumerate((60, 80, 10, 100, 1)):
            nursery.start_soon(hold, number, tokens)

    assert order == [0, 1, 2, 3, 4]


async def test_c9_a_call_in_the_block_of_a_stream_never_waits_for_that_stream(virtual_clock: trio.abc.Clock):
    async def two_pieces(request: httpx.Request) -> httpx.Response:
        return httpx.Response(200, headers={"content-type": "text/event-stream"}, stream=Pieces())

    budget = Budget(max_tokens=200)
    async with faking(two_pieces, {"budget": budget}) as (lm,):
        async with lm.stream(HELLO, max_tokens=100) as stream:
            with trio.fail_after(1), pytest.raises(LMBudgetExhausted, match="beside the streams that are open"):
                async with lm.stream(HELLO, max_tokens=150):
                    pass
            async for _ in stream:
                pass
            async with lm.stream(HELLO, max_tokens=100):
                pass  # the answer is whole: it holds nothing any more


async def test_c9_two_that_hold_and_ask_for_more_do_not_wait_for_each_other(virtual_clock: trio.abc.Clock):
    budget = Budget(max_tokens=100)
    refused = 0

    async def both() -> None:
        nonlocal refused
        with held_by_block(await reserve((budget,), 40, 0.0, lasts=True)):
            await trio.sleep(1)
            try:
                with await reserve((budget,), 40, 0.0):
                    pass
            except LMBudgetExhausted:
                refused += 1

    with trio.fail_after(5):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(both)
            nursery.start_soon(both)

    assert refused == 1  # and with that its own part is there for the other one
    assert (budget.holders, budget.reserved_tokens) == (0, 0)


async def test_c9_one_that_holds_something_goes_before_those_that_hold_nothing(virtual_clock: trio.abc.Clock):
    budget = Budget(max_tokens=100)
    order: list[str] = []

    async def plain(name: str, tokens: int, for_s: float) -> None:
        with await reserve((budget,), tokens, 0.0):
            order.append(name)
            await trio.sleep(for_s)

    with trio.fail_after(20):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(plain, "first", 50, 1)
            await trio.sleep(0.1)
            with held_by_block(await reserve((budget,), 40, 0.0, lasts=True)):
                token = trio.lowlevel.current_trio_token()
                token.run_sync_soon(nursery.start_soon, plain, "large", 90, 1)  # from outside: it holds nothing
                await trio.sleep(0.1)
                with await reserve((budget,), 30, 0.0):
                    order.append("inner")

    assert order == ["first", "inner", "large"]


@settings(deadline=None, max_examples=80)
@given(
    calls=st.lists(
        st.tuples(
            st.sampled_from([0.0, 0.1, 1.0]),  # when it starts
            st.integers(1, 120),  # what it asks for
            st.integers(0, 120),  # what it uses
            st.sampled_from([0.3, 1.0, 2.5, 60.0]),  # how patient it is
            st.sets(st.integers(0, 2), min_size=1),  # of which budgets
            st.booleans(),  # whether it asks for more meanwhile
        ),
        max_size=12,
    )
)
def test_c9_whatever_waits_ends_and_nothing_stays_held(calls: list[tuple[float, int, int, float, set[int], bool]]):
    async def main() -> None:
        budgets = [Budget(max_tokens=most) for most in (100, 150, 200)]

        async def one(start_s: float, asks: int, uses: int, patience_s: float, which: set[int], more: bool) -> None:
            await trio.sleep(start_s)
            own = tuple(budgets[index] for index in which)
            with trio.move_on_after(patience_s):
                try:
                    with held_by_block(await reserve(own, asks, 0.0, lasts=True)):
                        assert all(budget.tokens + budget.reserved_tokens <= budget.max_tokens for budget in own)
                        await trio.sleep(1)
                        if more:
                            with await reserve(own, uses, 0.0):
                                await trio.sleep(1)
                except LMBudgetExhausted:
                    pass

        with trio.fail_after(300):
            async with trio.open_nursery() as nursery:
                for call in calls:
                    nursery.start_soon(one, *call)
        assert [(budget.holders, budget.reserved_tokens, len(budget._line)) for budget in budgets] == [(0, 0, 0)] * 3

    run_in_virtual_time(main)
