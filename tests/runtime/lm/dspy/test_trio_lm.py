"""DSPy's view of our language model, held against that of its own."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import dspy
import pytest
import trio
from dspy.utils.callback import BaseCallback

from actors.errors import LMRateLimited
from runtime.lm.client import LMClient
from runtime.lm.dspy.trio_lm import trio_lm
from runtime.lm.limits.cache import MemoryCache
from runtime.testing import LoopbackHandle, ScriptedLM, field_answer, loopback_process

QA: Any = "question -> answer"
OURS_ALONE = {"timestamp", "uuid", "response", "cost_details", "response_model"}
"""What differs between any two calls, and what `dspy.LM` says of prices and of the provider's own name for the model."""


class Log(BaseCallback):  # type: ignore[misc]
    """What callbacks are told of language models."""

    def __init__(self) -> None:
        self.told: list[Any] = []

    def on_lm_start(self, call_id: str, instance: Any, inputs: dict[str, Any]) -> None:
        self.told.append(inputs)

    def on_lm_end(self, call_id: str, outputs: Any, exception: BaseException | None = None) -> None:
        self.told.append((outputs, exception))


@pytest.fixture(scope="module")
def provider() -> Iterator[LoopbackHandle]:
    with loopback_process({"m": field_answer(answer="4")}) as running:
        yield running


def plain(entries: list[Any]) -> list[dict[str, Any]]:
    return [
        {
            name: {key: each for key, each in value.items() if each is not None} if name == "usage" else value
            for name, value in entry.items()
            if name not in OURS_ALONE
        }
        for entry in entries
    ]


async def ask(lm: Any, log: Log) -> dict[str, Any]:
    with dspy.context(lm=lm, callbacks=[log], trace=[]), dspy.track_usage() as usage:
        await dspy.Predict(QA, max_tokens=9).acall(question="?")
    return {
        model: {key: each for key, each in spent.items() if each is not None} for model, spent in usage.get_total_tokens().items()
    }


@pytest.mark.slow
def test_history_usage_and_callbacks_are_those_of_dspys_own(provider: LoopbackHandle):
    base = f"{provider.url}/v1"
    theirs = dspy.LM("openai/m", api_base=base, api_key="k", cache=False, temperature=0.5)
    their_log, our_log = Log(), Log()

    async def on_trio() -> tuple[Any, dict[str, Any]]:
        async with LMClient("openai/m", api_key="k", api_base=base) as client:
            ours = trio_lm(client).copy(temperature=0.5)
            return ours, await ask(ours, our_log)

    their_usage = asyncio.run(ask(theirs, their_log))
    ours, our_usage = trio.run(on_trio)

    assert our_usage == their_usage
    assert plain(ours.history) == plain(theirs.history)
    assert set(ours.history[0]) == set(theirs.history[0]) - {"cost_details"}
    assert our_log.told == their_log.told


async def test_a_failure_is_told_to_callbacks_and_stands_in_no_history():
    log, failure = Log(), LMRateLimited("slow down")
    bridge = trio_lm(ScriptedLM([failure]))

    with pytest.raises(LMRateLimited):
        await ask(bridge, log)

    assert log.told[1] == (None, failure)
    assert bridge.history == []


async def test_a_copy_has_a_history_and_options_of_its_own_and_the_same_client():
    bridge = trio_lm(ScriptedLM([{"answer": "4"}]))
    other = bridge.copy(temperature=1.0, rollout_id=2)

    await ask(other, Log())

    assert (len(other.history), bridge.history, other.lm is bridge.lm) == (1, [], True)
    assert bridge.kwargs.get("temperature") is None
    assert bridge.lm.calls[0].options == {"temperature": 1.0, "max_tokens": 9}


# --- the cache --------------------------------------------------------------------------------------------------------


async def answers(provider: LoopbackHandle, *options: dict[str, Any]) -> tuple[int, list[int], Any]:
    """How many requests were made for a call with each of `options`, and the tokens that each was charged."""
    await trio.to_thread.run_sync(provider.clear)
    client = LMClient("openai/m", api_key="k", api_base=f"{provider.url}/v1", cache=MemoryCache(keeps_sampled=True))
    charged: list[int] = []
    async with client:
        bridge = trio_lm(client)
        for each in options:
            with dspy.context(lm=bridge, trace=[]), dspy.track_usage() as usage:
                await dspy.Predict(QA, **each).acall(question="?")
            charged.append(sum(spent["total_tokens"] for spent in usage.get_total_tokens().values()))
    return len((await trio.to_thread.run_sync(provider.snapshot)).requests), charged, bridge


async def test_a_kept_answer_is_in_the_history_and_charged_to_nobody(provider: LoopbackHandle):
    requests, charged, bridge = await answers(provider, {}, {})

    assert requests == 1
    assert charged[0] > 0
    assert charged[1] == 0
    assert [entry["outputs"] for entry in bridge.history] == [[field_answer(answer="4")]] * 2
    assert [entry["usage"]["total_tokens"] for entry in bridge.history] == charged


@pytest.mark.parametrize(
    ("options", "requests"),
    [
        ([{"temperature": 1.0, "rollout_id": 1}, {"temperature": 1.0, "rollout_id": 2}], 2),
        ([{"temperature": 1.0, "rollout_id": 1}, {"temperature": 1.0, "rollout_id": 1}], 1),
        ([{}, {"cache": False}, {}], 2),
        ([{"cache": False}, {}], 2),
    ],
)
async def test_rollouts_and_calls_past_the_cache_are_what_they_are_for_dspys_own(
    options: list[dict[str, Any]], requests: int, provider: LoopbackHandle
):
    assert (await answers(provider, *options))[0] == requests


async def test_the_attempts_of_best_of_n_do_not_get_the_first_ones_kept_answer(provider: LoopbackHandle):
    await trio.to_thread.run_sync(provider.clear)
    client = LMClient("openai/m", api_key="k", api_base=f"{provider.url}/v1", cache=MemoryCache(keeps_sampled=True))

    async with client:
        best = dspy.BestOfN(dspy.Predict(QA), N=3, reward_fn=lambda inputs, prediction: 0.0, threshold=1.0)
        await client.predict(best, question="?")

    assert len((await trio.to_thread.run_sync(provider.snapshot)).requests) == 3
