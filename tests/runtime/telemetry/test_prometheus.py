"""Metrics as Prometheus scrapes them."""

from __future__ import annotations

import attrs
import pytest
import trio
from prometheus_client import CollectorRegistry, generate_latest

from actors import LM, Actor, Graph, LMUnavailable, RunFailed, Usage
from actors.errors import UsageError
from runtime import open_runtime
from runtime.telemetry import PrometheusMetrics
from runtime.testing import Answer, ScriptedLM


@attrs.frozen
class Ask:
    n: int


@attrs.frozen
class Done:
    text: str


graph = Graph("asking", input=Ask, output=Done)


@graph.node
async def ask_it(ask: Ask, lm: LM) -> Done:
    await trio.sleep(ask.n)
    return Done((await lm.chat([{"role": "user", "content": "x"}])).text)


class Slow(Actor):
    async def receive(self, message: object) -> None:
        await trio.sleep(100)


def value(registry: CollectorRegistry, name: str, **labels: str) -> float | None:
    return registry.get_sample_value(name, labels)


async def test_runs_calls_and_actors_are_counted(autojump_clock):
    registry = CollectorRegistry()
    lm = ScriptedLM([Answer("yes", usage=Usage(7, 3, 0.5)), LMUnavailable("down", model="m")])

    async with open_runtime(lm=lm, instruments=[PrometheusMetrics(registry)]) as runtime:
        await runtime.run(graph, Ask(2))
        with pytest.raises(RunFailed):
            await runtime.run(graph, Ask(0))
        slow = await runtime.spawn(Slow)
        for _ in range(4):
            await slow.tell("x")
        handle = await runtime.start(graph, Ask(50))
        await trio.sleep(1)

        assert value(registry, "understudy_runs_total", graph="asking", status="succeeded") == 1
        assert value(registry, "understudy_runs_total", graph="asking", status="failed") == 1
        assert value(registry, "understudy_runs_running", graph="asking", status="running") == 1
        assert value(registry, "understudy_run_duration_seconds_sum", graph="asking", status="succeeded") == 2
        assert value(registry, "understudy_node_duration_seconds_count", graph="asking", node="ask_it") == 2
        assert value(registry, "understudy_node_failures_total", graph="asking", node="ask_it") == 1
        assert value(registry, "understudy_lm_calls_total", model=lm.model, outcome="answered") == 1
        assert value(registry, "understudy_lm_tokens_total", model=lm.model, direction="input") == 7
        assert value(registry, "understudy_lm_cost_usd_total", model=lm.model) == 0.5
        assert value(registry, "understudy_mailbox_messages") == 3
        assert (value(registry, "understudy_actors") or 0) >= 2
        await handle.cancel()

    text = generate_latest(registry).decode()
    assert "asking-1" not in text
    assert 'status="cancelled"' in text


async def test_nothing_is_kept_of_runs_that_are_over(autojump_clock):
    metrics = PrometheusMetrics(CollectorRegistry())

    async with open_runtime(lm=ScriptedLM([Answer("yes")] * 20), instruments=[metrics]) as runtime:
        for _ in range(20):
            await runtime.run(graph, Ask(0))

        assert metrics._runs == {}


async def test_metrics_of_one_runtime_are_not_given_to_a_second_one():
    metrics = PrometheusMetrics(CollectorRegistry())

    async with open_runtime(instruments=[metrics]):
        with pytest.raises(UsageError, match="belongs to one runtime"):
            async with open_runtime(instruments=[metrics]):
                pass
