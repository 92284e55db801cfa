import importlib
from typing import Any

import httpx
import pytest
import trio

from actors.errors import DeclarationError, LMBudgetExhausted, LMUnavailable
from runtime.lm.limits.budget import Budget, spending
from tests.runtime.lm.faking import HELLO, faking, said

PRICED = {"model": "openai/gpt-4o-mini"}


async def answer(request: httpx.Request) -> httpx.Response:
    await trio.sleep(1)
    return said("hi", tokens=10)


async def fail(request: httpx.Request) -> httpx.Response:
    return httpx.Response(500)


def rest(budget: Budget) -> tuple[int, float]:
    return budget.reserved_tokens, budget.reserved_usd


async def test_a_call_is_charged_what_it_used(virtual_clock: trio.abc.Clock):
    litellm: Any = importlib.import_module("litellm")
    budget = Budget(max_tokens=5_000, max_cost_usd=1)
    async with faking(answer, {**PRICED, "budget": budget}) as (lm,):
        await lm.chat(HELLO)

    prompt_usd, completion_usd = litellm.cost_per_token(model="gpt-4o-mini", prompt_tokens=9, completion_tokens=1)
    assert budget.tokens == 10
    assert budget.cost_usd == pytest.approx(prompt_usd + completion_usd)
    assert rest(budget) == (0, 0.0)


async def test_a_call_that_could_cost_more_than_is_left_is_not_sent(virtual_clock: trio.abc.Clock):
    budget = Budget(max_tokens=100)
    async with faking(answer, {"budget": budget}) as (lm,):
        with pytest.raises(LMBudgetExhausted) as caught:
            await lm.chat(HELLO, max_tokens=100)

    assert str(caught.value) == (
        "the budget does not cover the call: 119 tokens asked, 100 of 100 left; nothing was sent.\n"
        "  Fix: ask for less (max_tokens), or raise the Budget."
    )
    assert trio.current_time() == 0
    assert rest(budget) == (0, 0.0)


async def test_calls_at_the_same_time_cannot_spend_the_same_money(virtual_clock: trio.abc.Clock):
    """There is room for two; the others wait until those have said what they really cost."""
    budget = Budget(max_cost_usd=0.0011)
    at_s: list[float] = []

    async def call(lm: Any) -> None:
        await lm.chat(HELLO, max_tokens=800)
        at_s.append(trio.current_time())

    async with faking(answer, {**PRICED, "budget": budget}) as (lm,), trio.open_nursery() as nursery:
        for _ in range(5):
            nursery.start_soon(call, lm)

    assert at_s == [1, 1, 2, 2, 3]
    assert rest(budget) == (0, 0.0)


async def test_what_was_reserved_is_given_back_on_failure_and_on_cancellation(virtual_clock: trio.abc.Clock):
    budget = Budget(max_tokens=5_000)
    async with faking(fail, {"budget": budget}) as (lm,):
        with pytest.raises(LMUnavailable):
            await lm.chat(HELLO)
    async with faking(answer, {"budget": budget}) as (lm,):
        with trio.move_on_after(0.5):
            await lm.chat(HELLO)
        with trio.move_on_after(0.5):
            async with lm.stream(HELLO):
                pytest.fail("no answer yet")

    assert rest(budget) == (0, 0.0)
    assert budget.tokens == budget.estimated_tokens > 0  # the prompts of the two that were cancelled


async def test_a_block_of_work_has_a_budget_of_its_own_beside_the_clients(virtual_clock: trio.abc.Clock):
    whole, part = Budget(), Budget()
    async with faking(answer, {"budget": whole}) as (lm,):
        with spending(part):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(lm.chat, HELLO)
        await lm.chat(HELLO)

    assert (part.tokens, whole.tokens) == (10, 20)


async def test_a_budget_that_is_named_twice_is_charged_once(virtual_clock: trio.abc.Clock):
    budget = Budget()
    async with faking(answer, {"budget": budget}) as (lm,):
        with spending(budget):
            await lm.chat(HELLO)

    assert budget.tokens == 10


async def test_a_stream_is_charged_when_it_is_whole(virtual_clock: trio.abc.Clock):
    budget = Budget()
    async with faking(answer, {"budget": budget}) as (lm,), lm.stream(HELLO) as stream:
        async for _ in stream:
            pass

    assert (budget.tokens, rest(budget)) == (10, (0, 0.0))


@pytest.mark.parametrize("limits", [{"max_tokens": 0}, {"max_cost_usd": -1}, {"max_tokens": "5"}])
def test_limits_are_positive_numbers(limits: dict[str, Any]):
    with pytest.raises(DeclarationError, match=r"^Budget\("):
        Budget(**limits)


def test_what_was_reserved_in_fractions_is_given_back_to_the_last_of_them():
    """A sum of fractions, less the same fractions, isn't 0; the rest would stay reserved and keep the last call waiting."""
    budget = Budget(max_cost_usd=1)
    parts = (0.1, 0.2)
    for usd in parts:
        budget.hold(1, usd, lasts=False)

    for usd in parts:
        budget.give_back(1, usd, lasts=False)

    assert rest(budget) == (0, 0.0)
