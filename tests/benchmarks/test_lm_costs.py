"""What a call of a language model costs, counted and not timed: scopes, tasks, steps of tasks and functions.

The provider is in the same process, on the virtual network, and counts with the client: it is the same in every call.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from typing import Any

import attrs
import trio.testing
from trio.testing import MockClock

from runtime.lm.client import LMClient
from runtime.testing.network import Exchange, VirtualNetwork
from tests.benchmarks.test_costs import counted, made  # noqa: F401 - a fixture
from tests.effort import counted_calls

ASK = [{"role": "user", "content": "Name a star."}]
CALLS = 20


@attrs.frozen
class Cost:
    """Of one call or piece."""

    scopes: float
    tasks: float
    steps: float
    functions: float


def provider(pieces: int) -> VirtualNetwork:
    """Answers every request: with a whole answer if that has no pieces."""
    base = {"id": "x", "created": 1, "model": "m"}
    usage = {"prompt_tokens": 9, "completion_tokens": 3, "total_tokens": 12}
    whole = {"index": 0, "message": {"role": "assistant", "content": "Vega"}, "finish_reason": "stop"}
    parts = [{**base, "choices": [{"index": 0, "delta": {"content": "a"}, "finish_reason": None}]} for _ in range(pieces)]
    parts.append({**base, "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
    events = [f"data: {json.dumps(part)}\n\n".encode() for part in parts]
    reply = Exchange.reply({**base, "object": "chat.completion", "choices": [whole], "usage": usage})
    return VirtualNetwork({"api.openai.com": Exchange.stream(*events, b"data: [DONE]\n\n") if pieces else reply})


async def cost(made: Counter[str], pieces: int) -> Cost:  # noqa: F811
    """What each call of the client costs, after some that have loaded what all of them need."""
    async with provider(pieces).client("openai/gpt-4o-mini") as lm:
        call: Callable[[], Any] = (lambda: read(lm)) if pieces else (lambda: lm.chat(ASK))
        for _ in range(3):
            await call()
        await trio.testing.wait_all_tasks_blocked()
        made.clear()
        with counted() as steps, counted_calls() as calls:
            for _ in range(CALLS):
                await call()
    found = (made["CancelScope"], steps.spawned, sum(steps.taken.values()), calls.count)
    return Cost(*(each / CALLS for each in found))


async def read(lm: LMClient) -> None:
    async with lm.stream(ASK) as answer:
        async for _ in answer:
            pass


async def test_a_call_makes_no_more_scopes_tasks_and_calls_than_it_did(made: Counter[str], autojump_clock: MockClock) -> None:  # noqa: F811
    """7 scopes, no task, 6 steps and 1,775 functions were seen."""
    found = await cost(made, 0)

    assert found.scopes < 8
    assert found.tasks == 0
    assert found.steps < 7
    assert found.functions < 1_950


async def test_a_piece_of_a_stream_makes_no_more_scopes_tasks_and_calls_than_it_did(
    made: Counter[str],  # noqa: F811
    autojump_clock: MockClock,
) -> None:
    """2 scopes, of which one is the virtual network's, no task, 1 step and 295 functions were seen."""
    few, many = await cost(made, 10), await cost(made, 60)

    assert (many.scopes - few.scopes) / 50 < 2.1
    assert many.tasks == few.tasks == 0
    assert (many.steps - few.steps) / 50 < 1.1
    assert (many.functions - few.functions) / 50 < 325
