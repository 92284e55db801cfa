"""The extraction study: what a graph of three concurrent extractors promises, by its row."""

# mypy: disable-error-code="empty-body"
# pyright: reportReturnType=false

from __future__ import annotations

import contextvars
import threading
from collections.abc import Sequence
from typing import Any

import attrs
import dspy
import pytest
import trio

from actors import LM, Graph, LMUnavailable, Redelivery, RunFailed
from runtime import LoopBlocked, open_runtime
from runtime.cli.timeline import Measured, join
from runtime.core.watchdog import Watchdog
from runtime.embed.portal import open_runtime_portal
from runtime.graphs.records.run_events import LMCalled
from runtime.lm import LMClient, Retry
from runtime.lm.providers.translation import warm_up
from runtime.testing import Failure, ModelScript, ScriptedLM, open_loopback
from tests.runtime.graphs.stage import EXACT, leaves

trio.run(warm_up)  # loading it takes a thread, for which virtual time does not wait

LATENCY_S = {"time": 0.726, "other": 1.125, "vector": 1.153}
"""Seconds per extractor, as the log of the study has them."""
LONGEST_S = max(LATENCY_S.values())
ONCE = Redelivery(max_attempts=1)
WHO: contextvars.ContextVar[str] = contextvars.ContextVar("WHO", default="nobody")


@attrs.frozen
class Intent:
    text: str
    only: Sequence[str] = tuple(LATENCY_S)


@attrs.frozen
class Time:
    found: str


@attrs.frozen
class Other:
    found: str


@attrs.frozen
class Vector:
    found: str


@attrs.frozen
class Merged:
    found: Sequence[Any]


INTENT = Intent("ideas from last week")
MERGED = Merged(["time", "other", "vector"])


def extraction(module: str = "Predict", **options: Any) -> Graph:
    """Three extractors, each with a language model of its own, and their merge."""
    graph = Graph("extraction", input=Intent, output=Merged, supervision=EXACT)

    @graph.predict(lm="time", module=module, **options)
    async def time(intent: Intent) -> Time:
        """Extract time."""
        ...

    @graph.predict(lm="other", module=module, **options)
    async def other(intent: Intent) -> Other:
        """Extract other."""
        ...

    @graph.predict(lm="vector", module=module, **options)
    async def vector(intent: Intent) -> Vector:
        """Extract vector."""
        ...

    merging(graph)
    return graph


def merging(graph: Graph) -> None:
    @graph.node
    async def merge(time: Time, other: Other, vector: Vector) -> Merged:
        return Merged([time.found, other.found, vector.found])


def scripted(name: str) -> ScriptedLM:
    return ScriptedLM(lambda messages: {"found": name}, model=name, latency_s=LATENCY_S[name])


def all_scripted() -> dict[str, LM]:
    return {name: scripted(name) for name in LATENCY_S}


def model_scripts(**scripts: ModelScript) -> dict[str, ModelScript]:
    usual = {name: ModelScript({"found": name}, latency_s=latency_s) for name, latency_s in LATENCY_S.items()}
    return {**usual, **scripts}


def clients(api_base: str, **options: Any) -> dict[str, LMClient]:
    return {name: LMClient(f"openai/{name}", api_key="key", api_base=api_base, **options) for name in LATENCY_S}


async def test_b01_three_requests_overlap_at_the_server(virtual_clock):
    async with open_loopback(model_scripts()) as server, open_runtime(lms=clients(server.api_base)) as runtime:
        assert await runtime.run(extraction(), INTENT) == MERGED

    assert server.max_in_flight == 3
    assert len(server.requests) == 3
    assert len({request.arrived_s for request in server.requests}) == 1


async def test_b02_a_warm_run_takes_no_longer_than_its_longest_call(virtual_clock):
    async with open_loopback(model_scripts()) as server, open_runtime(lms=clients(server.api_base)) as runtime:
        graph = extraction()
        await runtime.run(graph, INTENT)
        began_s = trio.current_time()
        await runtime.run(graph, INTENT)

        assert trio.current_time() - began_s == pytest.approx(LONGEST_S, rel=1e-9)


def blocking(hold: Any) -> Graph:
    """Extractors that call a synchronous client within an ``async def``."""
    graph = Graph("extraction", input=Intent, output=Merged)

    @graph.node
    async def time(intent: Intent) -> Time:
        hold(LATENCY_S["time"])
        return Time("time")

    @graph.node
    async def other(intent: Intent) -> Other:
        hold(LATENCY_S["other"])
        return Other("other")

    @graph.node
    async def vector(intent: Intent) -> Vector:
        await trio.sleep(LATENCY_S["vector"])
        return Vector("vector")

    merging(graph)
    return graph


async def test_b03_synchronous_calls_in_asynchronous_nodes_are_reported_by_node(virtual_clock):
    now_s = 0.0
    held: dict[str | None, float] = {}

    def hold(seconds: float) -> None:
        nonlocal now_s
        now_s += seconds  # stands for time.sleep(seconds)

    def listen(event: Any) -> None:
        if isinstance(event, LoopBlocked):
            held[event.address] = event.held_s

    async with open_runtime(instruments=[listen]) as runtime:
        with Watchdog(runtime._services, 0.25, now=lambda: now_s):  # pyright: ignore[reportPrivateUsage]
            assert await runtime.run(blocking(hold), INTENT) == MERGED

    assert held == pytest.approx({"extraction/time": 0.726, "extraction/other": 1.125})


class Synchronous(dspy.Module):  # type: ignore[misc]  # dspy has no types
    """A module without ``aforward``, which goes on only when it is called three times at once."""

    def __init__(self) -> None:
        super().__init__()
        self.predict = dspy.Predict("text -> found")
        self.together = threading.Barrier(3, timeout=10)
        self.seen: list[tuple[bool, str]] = []

    def forward(self, text: str) -> Any:
        self.together.wait()
        self.seen.append((threading.current_thread() is threading.main_thread(), WHO.get()))
        return self.predict(text=text)


@pytest.mark.not_explored("its threads wait for one another; explored ones run one after the other")
async def test_b04_synchronous_modules_work_in_threads_at_once_with_the_context_of_their_node():
    module = Synchronous()
    graph = Graph("extraction", input=Intent, output=Merged)

    def extracts(kind: Any) -> Any:
        async def extract(intent: Intent, lm: LM) -> Any:
            WHO.set(kind.__name__)
            return kind((await lm.predict(module, text=intent.text)).found)

        extract.__annotations__["return"] = kind
        return extract

    for kind in (Time, Other, Vector):
        graph.node(name=kind.__name__)(extracts(kind))
    merging(graph)
    async with open_runtime(lm=ScriptedLM(lambda messages: {"found": "x"})) as runtime:
        assert await runtime.run(graph, INTENT) == Merged(["x", "x", "x"])

    assert sorted(module.seen) == [(False, "Other"), (False, "Time"), (False, "Vector")]


def test_b05_asynchronous_nodes_are_run_properly_for_a_caller_that_is_not_asynchronous():
    with open_runtime_portal(lms={name: ScriptedLM([{"found": name}]) for name in LATENCY_S}) as runtime:
        assert runtime.run(extraction(), INTENT, timeout=30) == MERGED


async def test_b06_one_that_fails_for_good_cancels_its_siblings_at_the_server(virtual_clock):
    scripts = model_scripts(time=ModelScript({"found": "?"}, latency_s=0.726, failures=Failure.status(500, after_s=0.5)))
    async with open_loopback(scripts) as server:
        lms = clients(server.api_base, retry=Retry(max_attempts=1))
        async with open_runtime(lms=lms) as runtime:
            with pytest.raises(RunFailed, match="failed at 'time'") as caught:
                await runtime.run(extraction(redelivery=ONCE), INTENT)
        await server.wait_idle()

    assert [type(leaf.__cause__) for leaf in leaves(caught.value)] == [LMUnavailable]
    assert {request.model: request.cancelled_by_client for request in server.requests} == {
        "time": False,
        "other": True,
        "vector": True,
    }


async def test_b06_of_several_that_fail_at_once_all_errors_are_reported(virtual_clock):
    graph, outage = Graph("extraction", input=Intent, output=Merged), trio.Event()

    def extracts(name: str, kind: Any) -> Any:
        async def extract(intent: Intent) -> Any:
            await outage.wait()
            raise LMUnavailable(f"{name} is down", spent=True)

        extract.__annotations__["return"] = kind
        return extract

    for name, kind in (("time", Time), ("other", Other), ("vector", Vector)):
        graph.node(name=name)(extracts(name, kind))
    merging(graph)
    async with open_runtime() as runtime:
        handle = await runtime.start(graph, INTENT)
        await trio.sleep(1)
        outage.set()
        with pytest.raises(RunFailed) as caught:
            await handle.result()

    told = sorted((leaf.node, str(leaf.__cause__)) for leaf in leaves(caught.value))
    assert told == [(name, f"{name} is down") for name in ("other", "time", "vector")]


async def nothing(intent: Intent) -> Time:
    return Time("nothing")


async def test_b06_with_a_fallback_its_siblings_are_kept(virtual_clock):
    graph = Graph("extraction", input=Intent, output=Merged)

    @graph.predict(lm="time", fallback=nothing)
    async def time(intent: Intent) -> Time:
        """Fill it."""
        ...

    @graph.predict(lm="other")
    async def other(intent: Intent) -> Other:
        """Fill it."""
        ...

    @graph.predict(lm="vector")
    async def vector(intent: Intent) -> Vector:
        """Fill it."""
        ...

    merging(graph)
    lms = {**all_scripted(), "time": ScriptedLM([LMUnavailable("down", spent=True)])}
    async with open_runtime(lms=lms) as runtime:
        assert await runtime.run(graph, INTENT) == Merged(["nothing", "other", "vector"])
        assert trio.current_time() == LONGEST_S


async def test_b07_the_merge_runs_exactly_once_after_all_three(virtual_clock):
    async with open_runtime(lms=all_scripted()) as runtime:
        handle = await runtime.start(extraction(), INTENT)
        await handle.result()

    (merge,) = [step for step in handle.trace if step.node == "merge"]
    ended = sorted(step.ended_at_s for step in handle.trace if step.node != "merge" and step.ended_at_s is not None)
    assert (ended, merge.started_at_s) == (sorted(LATENCY_S.values()), LONGEST_S)


def conditional() -> tuple[Graph, list[int]]:
    """Which of the three work is said by the intent; the second value grows when the merge fires."""
    graph, merges = Graph("extraction", input=Intent, output=Merged), list[int]()

    def extracts(name: str, kind: Any) -> Any:
        async def extract(intent: Intent, lm: LM) -> Any:
            return kind((await lm.predict("text -> found", text=name)).found) if name in intent.only else None

        extract.__annotations__["return"] = kind | None
        return extract

    for name, kind in (("time", Time), ("other", Other), ("vector", Vector)):
        graph.node(name=name, lm=name)(extracts(name, kind))

    @graph.node
    async def merge(intent: Intent, time: Time | None, other: Other | None, vector: Vector | None) -> Merged:
        merges.append(1)
        return Merged([found.found for found in (time, other, vector) if found is not None])

    return graph, merges


@pytest.mark.parametrize("only", [[], ["time"], ["time", "vector"], ["time", "other", "vector"]])
async def test_b08_of_none_one_two_or_three_branches_the_merge_fires_once(only, virtual_clock):
    graph, merges = conditional()
    async with open_runtime(lms=all_scripted()) as runtime:
        assert await runtime.run(graph, Intent("?", only)) == Merged(only)
        assert trio.current_time() == max((LATENCY_S[name] for name in only), default=0)

    assert merges == [1]


async def test_b09_each_branch_has_the_model_that_it_names(virtual_clock):
    async with open_loopback(model_scripts()) as server, open_runtime(lms=clients(server.api_base)) as runtime:
        await runtime.run(extraction(), INTENT)

    asked = {
        request.model: next(name for name in LATENCY_S if f"Extract {name}" in str(request.body)) for request in server.requests
    }
    assert asked == {"time": "time", "other": "other", "vector": "vector"}


async def test_b10_the_timeline_of_a_run_is_exported_with_what_the_server_saw(virtual_clock):
    async with open_loopback(model_scripts()) as server, open_runtime(lms=clients(server.api_base)) as runtime:
        began_s = trio.current_time()
        handle = await runtime.start(extraction(), INTENT)
        await handle.result()
        nodes = {step.node: (step.started_at_s, step.ended_at_s) for step in handle.trace if step.node != "merge"}
        measured = Measured(began_s, trio.current_time(), nodes, "")  # type: ignore[arg-type]  # all have begun and ended
        exported = join(measured, server.requests).to_json()

    assert exported["most_in_flight"] == 3
    assert exported["makespan_s"] == pytest.approx(LONGEST_S)
    assert {node["name"]: node["replied_s"] for node in exported["nodes"]} == pytest.approx(LATENCY_S)


async def test_b10_the_events_of_a_run_say_how_long_each_call_took(virtual_clock):
    async with open_runtime(lms=all_scripted()) as runtime, runtime.stream(extraction(), INTENT) as events:
        calls = {event.node: event.duration_s async for event in events if isinstance(event, LMCalled)}

    assert calls == LATENCY_S
