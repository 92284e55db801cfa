"""What brings no whole answer is booked by what was seen of it, in budgets and in a run's spending. A budget ends a stream."""

import json
from collections.abc import AsyncIterator
from typing import Any

import attrs
import httpx
import pytest
import trio

from actors import LM, Graph
from actors.errors import LMBudgetExhausted, LMRefused, LMReplyUnreadable, LMUnavailable, RunFailed
from runtime import open_runtime
from runtime.lm.client import LMClient
from runtime.lm.limits.budget import Budget, reserve
from runtime.lm.limits.retry import Retry
from runtime.testing.loopback import ModelScript, open_loopback
from tests.runtime.lm.faking import HELLO, faking, said

PROMPT = len(json.dumps({"messages": HELLO, "model": "m"}, separators=(",", ":"))) // 4
ONCE = Retry(max_attempts=1)


@attrs.frozen
class Question:
    text: str


@attrs.frozen
class Answer:
    text: str


asking = Graph("asking", input=Question, output=Answer)


@asking.node(timeout_s=5)
async def asks(question: Question, lm: LM) -> Answer:
    if question.text == "leave":
        async with lm.stream(HELLO) as stream:
            async for _ in stream:
                return Answer("enough")
    if question.text == "cancel":
        with trio.move_on_after(0.5):
            await lm.chat(HELLO)
        return Answer("late")
    return Answer((await lm.chat(HELLO)).text)


class Events(httpx.AsyncByteStream):
    """A streamed answer of so many words, one a second."""

    def __init__(self, words: int, ends: bool = True) -> None:
        self.words, self.ends, self.sent = words, ends, 0

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for number in range(self.words):
            await trio.sleep(1)
            self.sent = number + 1
            yield b"data: " + json.dumps({"choices": [{"index": 0, "delta": {"content": "word "}}]}).encode() + b"\n\n"
        if self.ends:
            yield b'data: {"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\ndata: [DONE]\n\n'


def streaming(events: Events) -> Any:
    async def handle(request: httpx.Request) -> httpx.Response:
        return httpx.Response(200, headers={"content-type": "text/event-stream"}, stream=events)

    return handle


async def read(lm: LMClient, **options: Any) -> None:
    async with lm.stream(HELLO, **options) as stream:
        async for _ in stream:
            pass


async def slow(request: httpx.Request) -> httpx.Response:
    await trio.sleep(1)
    return said("hi", tokens=100)


async def test_c10_a_cancelled_call_costs_its_prompt(virtual_clock: trio.abc.Clock):
    budget = Budget()
    async with faking(slow, {"budget": budget}) as (lm,):
        with trio.move_on_after(0.5):
            await lm.chat(HELLO)

    assert (budget.tokens, budget.estimated_tokens, budget.reserved_tokens) == (PROMPT, PROMPT, 0)


async def test_c10_what_never_went_out_costs_nothing(virtual_clock: trio.abc.Clock):
    budget = Budget()
    async with faking(slow, {"budget": budget, "max_connections": 1}) as (lm,), trio.open_nursery() as nursery:
        nursery.start_soon(lm.chat, HELLO)
        await trio.sleep(0.1)
        with trio.move_on_after(0.5):
            await lm.chat(HELLO)

    assert (budget.tokens, budget.estimated_tokens) == (100, 0)


async def test_c10_a_stream_that_is_left_costs_its_prompt_and_its_pieces(virtual_clock: trio.abc.Clock):
    budget = Budget()
    async with faking(streaming(Events(50)), {"budget": budget}) as (lm,):
        async with lm.stream(HELLO) as stream:
            for _ in range(10):
                await anext(stream)

    assert 10 <= budget.tokens - budget.tokens // 100 <= 60
    assert budget.tokens == budget.estimated_tokens


async def test_c10_a_stream_that_breaks_off_costs_what_came(virtual_clock: trio.abc.Clock):
    budget = Budget()
    async with faking(streaming(Events(8, ends=False)), {"budget": budget, "retry": ONCE}) as (lm,):
        with pytest.raises(LMReplyUnreadable):
            await read(lm)

    assert budget.estimated_tokens == budget.tokens > 8


async def test_c10_the_loser_of_a_hedge_costs_its_prompt(virtual_clock: trio.abc.Clock):
    latencies = [60.0, 1.0]

    async def handle(request: httpx.Request) -> httpx.Response:
        await trio.sleep(latencies.pop(0))
        return said("hi", tokens=100)

    budget = Budget()
    async with faking(handle, {"budget": budget, "hedge": 2}) as (lm,):
        await lm.chat(HELLO)

    assert (budget.tokens, budget.estimated_tokens) == (100 + PROMPT, PROMPT)


async def test_c10_two_answers_to_one_call_are_both_paid_for(virtual_clock: trio.abc.Clock):
    async def handle(request: httpx.Request) -> httpx.Response:
        await trio.sleep_until(4)
        return said("hi", tokens=100)

    budget = Budget()
    async with faking(handle, {"budget": budget, "hedge": 2}) as (lm,):
        await lm.chat(HELLO)

    assert budget.tokens >= 100 + PROMPT


@pytest.mark.parametrize("message", [{"content": None, "refusal": "I will not."}, {"content": {"not": "a text"}}])
async def test_c10_refusals_and_unreadable_replies_cost_what_they_say(message: dict[str, Any]):
    usage = {"prompt_tokens": 30, "completion_tokens": 5, "total_tokens": 35}
    choice = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", **message}}

    async def handle(request: httpx.Request) -> httpx.Response:
        return httpx.Response(200, json={"choices": [choice], "usage": usage})

    budget = Budget()
    async with faking(handle, {"budget": budget, "retry": ONCE}) as (lm,):
        with pytest.raises((LMRefused, LMReplyUnreadable)):
            await lm.chat(HELLO)

    assert (budget.tokens, budget.estimated_tokens) == (35, 0)


async def test_c10_what_a_provider_could_not_do_costs_nothing():
    async def handle(request: httpx.Request) -> httpx.Response:
        return httpx.Response(503)

    budget = Budget()
    async with faking(handle, {"budget": budget, "retry": ONCE}) as (lm,):
        with pytest.raises(LMUnavailable):
            await lm.chat(HELLO)

    assert budget.tokens == 0


@pytest.mark.parametrize(("text", "least"), [("cancel", PROMPT), ("leave", PROMPT)])
async def test_c10_a_run_says_what_it_has_spent_without_an_answer(text: str, least: int, virtual_clock: trio.abc.Clock):
    handle = slow if text == "cancel" else streaming(Events(50))
    async with faking(handle) as (lm,), open_runtime(lm=lm) as runtime:
        run = await runtime.start(asking, Question(text), budget=Budget())
        await run.result()

    spend = run.spend
    assert spend.estimated_tokens == spend.prompt_tokens + spend.completion_tokens >= least
    assert (spend.calls, spend.requests) == (0, 1)


async def test_c10_a_cancelled_run_has_spent_what_its_call_cost(virtual_clock: trio.abc.Clock):
    budget = Budget()
    async with faking(slow) as (lm,), open_runtime(lm=lm) as runtime:
        run = await runtime.start(asking, Question("?"), budget=budget)
        await trio.sleep(0.5)
        await run.cancel()

    assert run.spend.prompt_tokens == run.spend.estimated_tokens == budget.tokens == PROMPT


# --- a budget ends a stream ---------------------------------------------------------------------------------------------


async def test_c20_a_stream_is_cut_when_it_passes_what_is_reserved_and_left(virtual_clock: trio.abc.Clock):
    budget, events = Budget(max_tokens=200), Events(2_000)
    async with faking(streaming(events), {"budget": budget}) as (lm,):
        with pytest.raises(LMBudgetExhausted, match="does not cover the rest of the answer"):
            await read(lm, max_tokens=100)

    assert 200 <= budget.tokens <= 205
    assert 100 < events.sent <= 200
    assert (budget.holders, budget.reserved_tokens) == (0, 0)


async def test_c20_what_others_hold_is_not_left(virtual_clock: trio.abc.Clock):
    budget, events = Budget(max_tokens=400), Events(2_000)
    async with faking(streaming(events), {"budget": budget}) as (lm,):
        with await reserve((budget,), 200, 0.0):
            with pytest.raises(LMBudgetExhausted, match="200 of 400 were left"):
                await read(lm, max_tokens=100)

    assert 200 <= budget.tokens <= 205


async def test_c20_a_stream_is_cut_by_its_price_too(virtual_clock: trio.abc.Clock):
    budget = Budget(max_cost_usd=0.0001)
    async with faking(streaming(Events(2_000)), {"model": "openai/gpt-4o-mini", "budget": budget}) as (lm,):
        with pytest.raises(LMBudgetExhausted, match=r"\$0\.0001"):
            await read(lm, max_tokens=100)

    assert 0.0001 <= budget.cost_usd < 0.00011


async def test_c20_a_real_stream_is_closed_at_the_provider():
    budget = Budget(max_tokens=200)
    script = ModelScript(" ".join(["word"] * 2_000), interval_s=0.001)
    async with open_loopback({"m": script}) as server:
        async with LMClient("openai/m", api_key="k", api_base=server.api_base, budget=budget) as lm:
            with pytest.raises(LMBudgetExhausted):
                await read(lm, max_tokens=100)
            record = await server.wait_ended(1)

    assert record.cancelled_by_client
    assert 200 <= budget.tokens <= 260


async def test_c20_a_node_whose_stream_is_cut_fails_with_the_budget():
    budget = Budget(max_tokens=60)
    graph = Graph("writing", input=Question, output=Answer)

    @graph.node
    async def writes(question: Question, lm: LM) -> Answer:
        async with lm.stream(HELLO, max_tokens=20) as stream:
            async for _ in stream:
                pass
        return Answer(stream.completion.text)

    async with open_loopback({"m": " ".join(["word"] * 2_000)}) as server:
        lm = LMClient("openai/m", api_key="k", api_base=server.api_base)
        async with open_runtime(lm=lm) as runtime:
            with pytest.raises(RunFailed) as caught:
                await runtime.run(graph, Question("?"), budget=budget)

    assert isinstance(caught.value.exceptions[0].__cause__, LMBudgetExhausted)
    assert 60 <= budget.tokens <= 65
