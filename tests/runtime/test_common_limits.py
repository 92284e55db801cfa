"""Limits and budgets that are declared once and hold for all processes with the same store."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import pytest
import trio

from actors import LMBudgetExhausted, UsageError
from actors.lm import Usage
from runtime import Runtime, open_runtime
from runtime.graphs.common_limits import CommonLimits
from runtime.journal.allowances import NO_LIMIT, Amount
from runtime.journal.memory import MemoryStore
from runtime.lm import Budget, LMClient
from runtime.lm.limits.budget import reserve
from runtime.lm.limits.drawn import Drawn
from runtime.lm.limits.sliced import SlicedLimit
from runtime.testing import open_loopback
from runtime.testing.models.provider import LoopbackProvider
from runtime.testing.stores.samples import opened

HELLO = [{"role": "user", "content": "Hello"}]


@asynccontextmanager
async def owners(
    store: MemoryStore, count: int, provider: LoopbackProvider, budget: Callable[[], Budget | None] = lambda: None, **limits: Any
) -> AsyncIterator[list[Runtime]]:
    async with AsyncExitStack() as stack:
        yield [
            await stack.enter_async_context(
                open_runtime(
                    lm=LMClient("openai/m", api_key="key-of-a-test", api_base=provider.api_base, deadline_s=1e9, **limits),
                    store=store.beside(),
                    seed=number,
                    budget=budget(),
                )
            )
            for number in range(count)
        ]


async def test_a_rate_limit_declared_once_holds_over_five_owners(autojump_clock: Any) -> None:
    """A minute's worth immediately, then so many each minute, all owners together, none left unused; one of them needs little."""
    rate, minutes, store = 200, 3, MemoryStore()
    sent_s: list[float] = []

    async def use(limit: SlicedLimit, pause_s: float) -> None:
        while True:
            await limit.take(1)
            sent_s.append(trio.current_time())
            await trio.sleep(pause_s)

    with trio.move_on_after(60 * minutes - 0.001):
        async with trio.open_nursery() as nursery, opened(lambda: store):
            for number in range(5):
                common = CommonLimits(store.beside())
                nursery.start_soon(common.run)
                limit = SlicedLimit(rate, "requests of it", common)
                for _ in range(3):
                    nursery.start_soon(use, limit, 20 if number == 4 else 0.01)

    by_minute = Counter(int(each // 60) for each in sent_s)
    assert len(sent_s) == pytest.approx(rate * (minutes + 1), rel=0.05)
    assert max(by_minute[minute] for minute in range(1, minutes)) <= rate * 1.05
    assert min(by_minute[minute] for minute in range(1, minutes)) >= rate * 0.95


async def test_clients_of_several_runtimes_share_the_limit_of_their_account(autojump_clock: Any) -> None:
    async with open_loopback({"*": "yes"}) as provider, owners(MemoryStore(), 3, provider, rpm=20) as runtimes:
        async with trio.open_nursery() as nursery:
            for number in range(24):
                nursery.start_soon(runtimes[number % 3].lm.chat, HELLO)

        late = [request.arrived_s for request in provider.requests if request.arrived_s > 0.5]
        assert trio.current_time() == pytest.approx(12, abs=0.5)
        assert late == [pytest.approx(3 * n, abs=0.5) for n in (1, 2, 3, 4)]


async def test_an_owner_gives_back_what_it_has_taken_and_not_used(autojump_clock: Any) -> None:
    """By slices of 1, 2, 4 and 8 it has taken 15 of 600 a minute, and used 11; after two seconds the rest is the others'."""
    store = MemoryStore()
    async with opened(lambda: store), trio.open_nursery() as nursery:
        common = CommonLimits(store)
        nursery.start_soon(common.run)
        await SlicedLimit(600, "requests of it", common).take(500)
        limit = SlicedLimit(600, "requests of it", common)
        for _ in range(11):
            await limit.take(1)
        assert await owed(store) == [pytest.approx(51.5)]

        await trio.sleep(5)

        assert await owed(store) == [pytest.approx(51.5 - 5 - 0.4)]
        nursery.cancel_scope.cancel()


async def test_what_an_owner_took_and_died_with_counts_as_used(autojump_clock: Any) -> None:
    store = MemoryStore()
    dying = store.beside()
    async with open_loopback({"*": "yes"}) as provider:
        async with open_runtime(
            lm=LMClient("openai/m", api_key="key-of-a-test", api_base=provider.api_base, rpm=600), store=dying
        ) as runtime:
            for _ in range(4):  # by slices of 1, 2 and 4
                await runtime.lm.chat(HELLO)
            assert await owed(store) == [pytest.approx(0.7, abs=0.05)]
            dying.cut_off()
        assert await owed(store) == [pytest.approx(0.7, abs=0.05)]
        async with open_runtime(
            lm=LMClient("openai/m", api_key="key-of-a-test", api_base=provider.api_base, rpm=600), store=store
        ) as runtime:
            for _ in range(4):
                await runtime.lm.chat(HELLO)
        assert await owed(store) == [pytest.approx(1.1, abs=0.05)]


async def owed(store: MemoryStore) -> list[float]:
    """For how many seconds something is owed under each name."""
    return [await store.owe(name, 0.0) for name in store._data.allowances._until_s]


# --- budgets --------------------------------------------------------------------------------------------------------------


def month() -> Budget:
    return Budget(max_tokens=2_000, shared_as="november")


async def test_a_budget_declared_once_holds_over_five_owners(autojump_clock: Any) -> None:
    """Of which one dies in the middle: what it had drawn is spent."""
    store, made = MemoryStore(), Counter[int]()

    async def use(number: int, common: CommonLimits) -> None:
        budget = month()
        try:
            while number or made[0] < 100:
                with await reserve((budget,), 12, 0.0, common=common) as reservation:
                    await trio.sleep(0.01)
                    reservation.settle(Usage(prompt_tokens=4, completion_tokens=4))
                made[number] += 8
        except LMBudgetExhausted as error:
            assert "of 2000 left; nothing was sent" in str(error)  # noqa: PT017 - and not of the one that dies

    async with opened(lambda: store):
        commons = [CommonLimits(store.beside()) for _ in range(5)]
        async with trio.open_nursery() as nursery:
            for number, common in enumerate(commons):
                if number:
                    nursery.start_soon(common.run)
                nursery.start_soon(use, number, common)
            await trio.sleep(60)
            assert len(nursery.child_tasks) == 4, "those that give back; no one has anything left to spend"
            nursery.cancel_scope.cancel()
        for common in commons[1:]:
            await common.close()
        _, spent = await store.spend("budget november", Amount(), NO_LIMIT)

    assert 0.95 * 2_000 <= made.total() <= 2_000
    assert min(made.values()) >= 100
    assert made.total() <= spent.tokens <= made.total() + 0.01 * 2_000


async def test_a_shared_budget_goes_on_where_it_was_in_the_next_process(autojump_clock: Any) -> None:
    store = MemoryStore()
    async with open_loopback({"*": "yes"}) as provider:
        used: list[int] = []
        for _ in range(3):
            async with owners(store, 1, provider, month) as [runtime]:
                used.append((await runtime.lm.chat(HELLO)).usage.total_tokens)
    _, spent = await store.spend("budget november", Amount(), NO_LIMIT)
    assert spent.tokens == sum(used) > 0


async def test_a_shared_budget_without_a_store_is_rejected(autojump_clock: Any) -> None:
    lm = LMClient("openai/m", api_key="key-of-a-test", api_base="http://127.0.0.1:1")
    async with open_runtime(lm=lm, budget=month()) as runtime:
        with pytest.raises(UsageError) as caught:
            await runtime.lm.chat(HELLO)
    assert str(caught.value) == (
        "Budget(shared_as='november') is shared through the store of its runtime, and nothing counts it.\n"
        "  Fix: open_runtime(store=…) with one of understudy's stores, and make a Budget for each runtime."
    )


@pytest.mark.parametrize("name", ["", " ", "x" * 201, "a\nb", 5])
def test_the_name_of_a_shared_budget_is_a_name(name: Any) -> None:
    with pytest.raises(UsageError, match=r"^Budget\(shared_as=.*\): expected a name of up to 200 printable characters, or None"):
        Budget(max_tokens=1, shared_as=name)


class Slow:
    """A store that has counted a while before it tells."""

    def __init__(self) -> None:
        self.tokens = 0.0

    async def owe(self, name: str, seconds: float) -> float:
        raise NotImplementedError

    async def spend(self, name: str, amount: Amount, most: Amount) -> tuple[bool, Amount]:
        self.tokens += amount.tokens
        await trio.sleep(1)
        return True, Amount(self.tokens)


async def test_a_call_that_is_cancelled_while_it_draws_on_a_shared_budget_loses_nothing_of_it(autojump_clock: Any) -> None:
    """What the store has counted is this process's, who gives it back or uses it; else each cancelled call would cost a part."""
    store = Slow()
    drawn = Drawn("budget november", 1_000.0, math.inf, CommonLimits(store))
    with trio.move_on_after(0.5):
        await drawn.cover(100.0, 0.0)
    assert drawn.tokens == store.tokens == 100.0

    await trio.sleep(60)
    with trio.move_on_after(0.5):
        await drawn.settle(0.0, 0.0, is_last=False)
    assert drawn.tokens == store.tokens == 0.0
