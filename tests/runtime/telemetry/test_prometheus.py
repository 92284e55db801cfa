"""Metrics as Prometheus scrapes them."""

from __future__ import annotations

import json
import re
from pathlib import Path

import attrs
import pytest
import trio
from prometheus_client import CollectorRegistry, generate_latest

from actors import LM, Actor, Graph, LMUnavailable, RunFailed, Usage
from actors.errors import UsageError
from runtime import RunFinished, RunStarted, RunStatus, open_runtime
from runtime.telemetry import PrometheusMetrics
from runtime.testing import Answer, ModelScript, ScriptedLM
from runtime.testing.network import VirtualNetwork

ROOT = Path(__file__).resolve().parents[3]


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


async def test_events_that_it_does_not_count_do_it_no_harm(autojump_clock):
    """``observe`` without classes gives it all of them."""
    registry = CollectorRegistry()
    metrics = PrometheusMetrics(registry)

    async with open_runtime(lm=ScriptedLM([Answer("yes")])) as runtime:
        with runtime.observe(metrics):
            await runtime.run(graph, Ask(2))
            await runtime.stop(await runtime.spawn(Slow))
        metrics(RunStarted(run_id="by hand", graph="asking", input=Ask(0)))
        metrics(RunFinished(run_id="by hand", status=RunStatus.SUCCEEDED))

    assert value(registry, "understudy_runs_total", graph="asking", status="succeeded") == 2


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
        assert value(registry, "understudy_actors", state="running") == 2  # the node's, and the slow one
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


async def test_the_dashboard_names_metrics_and_labels_that_are_exported(autojump_clock):
    """docs/examples/grafana.json: a panel over a metric that no one exports would be empty, and no one would know why."""
    dashboard = json.loads((ROOT / "docs/examples/grafana.json").read_text(encoding="utf-8"))
    metrics = PrometheusMetrics()
    lm = ScriptedLM([Answer("yes", usage=Usage(7, 3, 0.5)), LMUnavailable("down", model="m")])
    streaming = Graph("streaming", input=Ask, output=Done)

    @streaming.node(lm="other")
    async def read(ask: Ask, lm: LM) -> Done:
        async with lm.stream([{"role": "user", "content": "x"}]) as stream:
            async for _ in stream:
                pass
        return Done("")

    network = VirtualNetwork()
    network.provider("api.openai.com", {"gpt-4o-mini": ModelScript("one two")})
    client = network.client("openai/gpt-4o-mini")
    async with client as other, open_runtime(lm=lm, lms={"other": other}, instruments=[metrics]) as runtime:
        await runtime.run(graph, Ask(0))
        with pytest.raises(RunFailed):
            await runtime.run(graph, Ask(0))
        handle = await runtime.start(graph, Ask(1_000))
        await runtime.run(streaming, Ask(0))
        text = metrics.exposition()[0].decode()
        await handle.cancel()

    exported: dict[str, set[str]] = {}
    for name, labels in re.findall(r"^(\w+)(?:\{(.*)\})? ", text, re.MULTILINE):
        exported.setdefault(name, set()).update(re.findall(r'(\w+)="', labels))
    asked = [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    asked += [each["query"]["query"] for each in dashboard["templating"]["list"] if each["type"] == "query"]
    named = {name for query in asked for name in re.findall(r"understudy_\w+", query)}
    assert named <= exported.keys()
    shown = {re.sub(r"_(bucket|sum|count|created)$", "", name) for name in exported if name.startswith("understudy_")}
    assert {re.sub(r"_bucket$", "", name) for name in named} == {name for name in shown if f"{name}_total" not in shown}
    for query in asked:
        for name, labels in re.findall(r"(understudy_\w+)\{([^}]*)\}", query):
            assert set(re.findall(r"(\w+)=", labels)) <= exported[name], query
        for kept in re.findall(r"by \(([^)]*)\)", query):
            for name in re.findall(r"understudy_\w+", query):
                assert set(kept.replace(" ", "").split(",")) <= exported[name], query


def test_the_dashboard_is_one_that_grafana_reads():
    dashboard = json.loads((ROOT / "docs/examples/grafana.json").read_text(encoding="utf-8"))

    assert len({panel["id"] for panel in dashboard["panels"]}) == len(dashboard["panels"])
    places = [panel["gridPos"] for panel in dashboard["panels"]]
    assert all(place["x"] + place["w"] <= 24 for place in places)
    taken = [(place["x"] + dx, place["y"] + dy) for place in places for dx in range(place["w"]) for dy in range(place["h"])]
    assert len(taken) == len(set(taken))
    assert {each["name"] for each in dashboard["templating"]["list"]} == {"datasource", "graph", "model"}
    assert all(panel["datasource"]["uid"] == "${datasource}" for panel in dashboard["panels"])
