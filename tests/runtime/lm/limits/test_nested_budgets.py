"""Budgets of calls, clients, runs and runtimes, one inside the other: all or nothing, and nothing of it is ever lost."""

import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import attrs
import httpx
import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st

from actors import LM, Graph
from actors.errors import LMBudgetExhausted, LMError, NodeFailed, RunFailed, UsageError
from runtime import Runtime, open_runtime
from runtime.lm.client import LMClient
from runtime.lm.http.transport import open_transport
from runtime.lm.limits.budget import Budget, spending
from runtime.lm.limits.retry import Retry
from runtime.testing import run_in_virtual_time
from tests.runtime.lm.faking import HELLO, faking, said


@attrs.frozen
class Question:
    text: str


@attrs.frozen
class Answer:
    text: str


graph = Graph("answering", input=Question, output=Answer)


@graph.node
async def asks(question: Question, lm: LM) -> Answer:
    return Answer((await lm.chat(HELLO, max_tokens=80)).text)


async def provider(request: httpx.Request) -> httpx.Response:
    await trio.sleep(1)
    return said("hi", tokens=10)


def held(budget: Budget) -> tuple[int, float, int]:
    return budget.reserved_tokens, budget.reserved_usd, budget.holders


@asynccontextmanager
async def opened(whole: Budget | None = None, client: Budget | None = None) -> AsyncIterator[Runtime]:
    async with faking(provider, {"budget": client}) as (lm,), open_runtime(lm=lm, budget=whole, seed=1) as runtime:
        yield runtime


async def test_a_run_is_charged_to_its_own_budget_the_runtimes_and_the_clients(virtual_clock: trio.abc.Clock):
    whole, run, client = Budget(), Budget(), Budget()
    async with opened(whole, client) as runtime:
        await runtime.run(graph, Question("?"), budget=run)
        await runtime.run(graph, Question("?"))

    assert (whole.tokens, run.tokens, client.tokens) == (20, 10, 20)
    assert [held(each) for each in (whole, run, client)] == [(0, 0.0, 0)] * 3


async def test_a_run_without_room_fails_before_anything_is_sent(virtual_clock: trio.abc.Clock):
    whole, run = Budget(), Budget(max_tokens=50)
    async with opened(whole) as runtime:
        handle = await runtime.start(graph, Question("?"), budget=run)
        with pytest.raises(RunFailed) as caught:
            await handle.result()
        assert handle.spend.requests == 0
        assert (await runtime.run(graph, Question("?"))).text == "hi"

    (leaf,) = caught.value.exceptions
    assert isinstance(leaf, NodeFailed)
    assert isinstance(leaf.__cause__, LMBudgetExhausted)
    assert (run.tokens, held(run), held(whole)) == (0, (0, 0.0, 0), (0, 0.0, 0))


async def test_a_started_and_a_streamed_run_have_budgets_too_and_the_block_is_not_part_of_the_run(virtual_clock: trio.abc.Clock):
    started, streamed = Budget(), Budget()
    async with opened() as runtime:
        handle = await runtime.start(graph, Question("?"), budget=started)
        async with runtime.stream(graph, Question("?"), budget=streamed) as events:
            await runtime.lm.chat(HELLO)
            async for _ in events:
                pass
        await handle.result()

    assert (started.tokens, streamed.tokens, handle.spend.prompt_tokens + handle.spend.completion_tokens) == (10, 10, 10)


async def test_what_a_run_has_used_counts_retries_fallbacks_and_calls_that_failed(virtual_clock: trio.abc.Clock):
    asked: list[bytes] = []

    async def seldom(request: httpx.Request) -> httpx.Response:
        asked.append(request.content)
        return said("hi", tokens=10) if len(asked) in {4, 6} else httpx.Response(503)

    second: dict[str, Any] = {"model": "openai/second"}
    async with faking(seldom, second) as (fallback,):
        first = {"model": "openai/first", "fallbacks": [fallback], "retry": Retry(max_attempts=3)}
        async with faking(seldom, first) as (lm,), open_runtime(lm=lm, seed=1) as runtime:
            failed = await runtime.start(graph, Question("?"))
            with pytest.raises(RunFailed):
                await failed.result()
            once = await runtime.start(graph, Question("?"))
            await once.result()
            twice = await runtime.start(graph, Question("?"))
            await twice.result()

    assert [(each.spend.calls, each.spend.requests) for each in (failed, once, twice)] == [(0, 3), (1, 1), (1, 2)]
    assert len(asked) == 6


async def test_what_a_block_may_spend_covers_the_runs_that_start_in_it(virtual_clock: trio.abc.Clock):
    async with opened() as runtime:
        with spending(Budget()) as part:
            await runtime.run(graph, Question("?"))
        await runtime.run(graph, Question("?"))

    assert part.tokens == 10


async def test_a_run_that_a_node_starts_is_charged_to_the_run_of_the_node(virtual_clock: trio.abc.Clock):
    outer = Graph("outer", input=Question, output=Answer)
    opened_runtimes: list[Runtime] = []

    @outer.node
    async def delegates(question: Question) -> Answer:
        answer: Answer = await opened_runtimes[0].run(graph, question)
        return answer

    budget = Budget()
    async with opened() as runtime:
        opened_runtimes.append(runtime)
        await runtime.run(outer, Question("?"), budget=budget)

    assert budget.tokens == 10


async def test_the_runtimes_budget_covers_calls_outside_of_runs_and_through_fallbacks(virtual_clock: trio.abc.Clock):
    async def half_down(request: httpx.Request) -> httpx.Response:
        return httpx.Response(503) if b'"first"' in request.content else said("hi", tokens=10)

    whole = Budget()
    retry = Retry(max_attempts=2)
    second = LMClient("openai/second", api_key="k", api_base="http://provider/v1", retry=retry)
    first = LMClient("openai/first", api_key="k", api_base="http://provider/v1", retry=retry, fallbacks=[second])
    async with open_transport(connect=lambda: httpx.MockTransport(half_down)) as transport:
        first.bind(transport, random.Random(0), whole)
        completion = await first.chat(HELLO)

    assert (completion.attempts, whole.tokens, held(whole)) == (2, 10, (0, 0.0, 0))


async def test_a_hedged_call_and_an_abandoned_stream_leave_nothing_held(virtual_clock: trio.abc.Clock):
    budget = Budget(max_tokens=3_000)
    async with faking(provider, {"budget": budget, "hedge": 0.5}) as (lm,):
        await lm.chat(HELLO)
        async with lm.stream(HELLO):
            pass
        with trio.move_on_after(0.7):
            await lm.chat(HELLO)
        with trio.move_on_after(0.7):
            async with lm.stream(HELLO):
                pytest.fail("no answer yet")

    assert held(budget) == (0, 0.0, 0)
    assert budget.tokens - budget.estimated_tokens == 20


async def test_what_is_settled_is_held_no_longer_while_the_block_goes_on(virtual_clock: trio.abc.Clock):
    budget = Budget(max_tokens=150)
    async with faking(provider, {"budget": budget}) as (lm,), lm.stream(HELLO, max_tokens=80) as stream:
        async for _ in stream:
            pass
        assert held(budget) == (0, 0.0, 0)
        await lm.chat(HELLO, max_tokens=80)

    assert budget.tokens == 20


async def test_what_is_no_budget_is_refused():
    words = r"^budget=5: expected a Budget or None\.\n  Fix: budget=Budget\(max_tokens=50_000\), for example\.$"
    wrong: Any = 5
    with pytest.raises(UsageError, match=words):
        async with open_runtime(budget=wrong):
            pass
    async with opened() as runtime:
        for call in (runtime.run, runtime.start):
            with pytest.raises(UsageError, match=words):
                await call(graph, Question("?"), budget=wrong)


# --- under concurrency ------------------------------------------------------------------------------------------------


@attrs.frozen
class Plan:
    """One call among others."""

    start_s: float
    latency_s: float
    patience_s: float
    fails: int
    streams: bool
    max_tokens: int
    inner_tokens: int


plans = st.builds(
    Plan,
    start_s=st.sampled_from([0, 0, 1, 2]),
    latency_s=st.sampled_from([0.5, 1, 3]),
    patience_s=st.sampled_from([0.0, 0.6, 1, 2, 60]),
    fails=st.integers(0, 3),
    streams=st.booleans(),
    max_tokens=st.integers(1, 120),
    inner_tokens=st.integers(1, 200),
)


class Watch:
    """A provider that never bills more than a call may come to, and looks at the budgets whenever it is asked."""

    def __init__(self, outer: Budget, fails: dict[int, int]) -> None:
        self.outer = outer
        self.fails = fails
        self.inner: list[Budget] = []

    async def __call__(self, request: httpx.Request) -> httpx.Response:
        plan: dict[str, Any] = httpx.Response(200, content=request.content).json()
        self.check()
        await trio.sleep(plan["latency_s"])
        self.check()
        number = plan["number"]
        left = self.fails[number]
        self.fails[number] -= 1
        return httpx.Response(503) if left > 0 else said("hi", tokens=1 + plan["max_tokens"])

    def check(self) -> None:
        for budget in (self.outer, *self.inner):
            # What is used without an answer is charged beside what is held for the next request of the call.
            assert budget.tokens + budget.reserved_tokens - budget.estimated_tokens <= budget.max_tokens
            assert budget.reserved_tokens >= 0
            assert budget.holders >= 0


async def crowd(calls: list[Plan], limit: int, hedge: float | None) -> None:
    watch = Watch(Budget(max_tokens=limit), {number: plan.fails for number, plan in enumerate(calls)})
    answered: list[int] = []

    async def one(lm: LMClient, number: int, plan: Plan) -> None:
        await trio.sleep(plan.start_s)
        options: dict[str, Any] = {
            "max_tokens": plan.max_tokens,
            "extra_body": {"latency_s": plan.latency_s, "number": number},
        }
        own = Budget(max_tokens=plan.inner_tokens)
        watch.inner.append(own)
        with trio.move_on_after(plan.patience_s), spending(own):
            try:
                if plan.streams:
                    async with lm.stream(HELLO, **options) as stream:
                        async for _ in stream:
                            pass
                else:
                    await lm.chat(HELLO, **options)
                answered.append(1 + plan.max_tokens)
            except LMError:
                pass

    async with faking(watch, {"budget": watch.outer, "hedge": hedge, "retry": Retry(max_attempts=3)}) as (lm,):
        async with trio.open_nursery() as nursery:
            for number, plan in enumerate(calls):
                nursery.start_soon(one, lm, number, plan)

    assert [held(budget) for budget in (watch.outer, *watch.inner)] == [(0, 0.0, 0)] * (1 + len(calls))
    assert watch.outer.tokens == sum(budget.tokens for budget in watch.inner)
    assert watch.outer.tokens - watch.outer.estimated_tokens == sum(answered) <= limit


@settings(deadline=None, max_examples=60)
@given(calls=st.lists(plans, min_size=1, max_size=8), limit=st.integers(50, 500), hedge=st.sampled_from([None, 0.7]))
def test_no_crowd_of_calls_overspends_or_leaves_anything_held(calls: list[Plan], limit: int, hedge: float | None):
    run_in_virtual_time(crowd, calls, limit, hedge)
