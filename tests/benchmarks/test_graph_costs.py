"""What a step of a graph costs, counted and not timed: steps of tasks, objects that are made, and instances."""

from __future__ import annotations

import contextvars
from collections import Counter
from collections.abc import Sequence
from typing import Any

import pytest
import trio
import trio.testing

from actors import Graph
from runtime import Runtime, open_runtime
from runtime.core.envelope import Envelope
from runtime.graphs.nodes.delivery import DeliveryAttempt
from runtime.graphs.reducer.branches import Branch, Delivery, Value
from runtime.graphs.runs.pulse import Pulse
from runtime.graphs.runs.run import ActiveRun
from runtime.journal import MemoryStore, Store
from tests.benchmarks.peers.ours_graph import Ping, Sum, Width, circle, row, wide
from tests.benchmarks.service_sinks import SINKS
from tests.benchmarks.test_costs import counted, counting
from tests.effort import counted_calls

STEPS = 100


@pytest.fixture
async def made(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How many objects of a run were made, by class, and how many of trio's costlier ones."""
    counts = Counter[str]()
    ours: tuple[type[Any], ...] = (DeliveryAttempt, Envelope, Pulse, Branch, Delivery, Value)
    for kind in (*ours, trio.CancelScope, trio.Event, type(trio.open_nursery())):
        monkeypatch.setattr(kind, "__init__", counting(counts, kind))
    return counts


async def ready(runtime: Runtime, graph: Graph, message: object, run_id: str | None = None) -> None:
    """What runs before it is counted, so that instances and routes are there."""
    await runtime.run(graph, message, run_id=run_id)
    await trio.testing.wait_all_tasks_blocked()


async def test_a_step_of_a_graph_is_one_step_of_one_task() -> None:
    graph = circle(STEPS)
    async with open_runtime(seed=1) as runtime:
        await ready(runtime, graph, Ping(1))
        with counted() as steps:
            assert await runtime.run(graph, Ping(1)) == Sum(STEPS)

    assert sum(steps.taken.values()) == STEPS + 1  # and one of the task that waits for the output
    assert steps.spawned == 0


async def test_a_step_of_a_graph_makes_one_task_and_one_envelope_and_no_scope(made: Counter[str]) -> None:
    graph = circle(STEPS)
    async with open_runtime(seed=1) as runtime:
        await ready(runtime, graph, Ping(1))
        made.clear()
        await runtime.run(graph, Ping(1))
        counts = made.copy()

    assert counts == {"Delivery": STEPS, "Envelope": STEPS, "Branch": 1, "Event": 1}  # the last two for the run


async def test_a_step_of_a_graph_calls_no_more_functions_than_it_did() -> None:
    """80 were seen, 56 of them Python's. Without context variables: those of its caller a run carries with each step."""
    assert await calls_of_steps(None, None) / STEPS < 90


async def test_a_step_of_a_run_that_is_not_stored_costs_the_same_where_others_are() -> None:
    assert await calls_of_steps(MemoryStore(), None) <= 1.05 * await calls_of_steps(None, None)


async def test_a_step_that_is_recorded_calls_no_more_functions_than_it_did() -> None:
    """215 were seen."""
    assert await calls_of_steps(MemoryStore(), "run") / STEPS < 240


async def test_a_step_that_is_recorded_immediately_is_one_step_of_one_task_too() -> None:
    graph = circle(STEPS)
    async with open_runtime(seed=1, store=MemoryStore()) as runtime:
        await ready(runtime, graph, Ping(1), "first")
        with counted() as steps:
            await runtime.run(graph, Ping(1), run_id="run")

    assert sum(steps.taken.values()) < STEPS + 20  # 178 were seen before


@pytest.mark.parametrize(("observer", "most"), [("sink", 5), ("recorder", 14), ("Prometheus", 12), ("sampled out", 22)])
async def test_a_step_that_is_observed_calls_no_more_functions_than_it_did(observer: str, most: int) -> None:
    """4, 13, 10 and 20 were seen, beside those that a step calls anyway."""
    more = await calls_of_steps(None, None, SINKS[observer]()) - await calls_of_steps(None, None)

    assert more / STEPS < most


async def calls_of_steps(store: Store | None, run_id: str | None, instruments: Sequence[Any] = ()) -> int:
    """Functions that a run of so many steps calls."""
    trio.lowlevel.current_task().context = contextvars.Context()  # what an earlier test's library has set stays behind
    await trio.lowlevel.checkpoint()
    graph = circle(STEPS)
    async with open_runtime(seed=1, store=store, instruments=instruments) as runtime:
        await ready(runtime, graph, Ping(1), None if run_id is None else "first")
        with counted_calls() as calls:
            await runtime.run(graph, Ping(1), run_id=run_id)
    return calls.count


async def test_a_run_has_no_more_attributes_than_python_keeps_in_instances() -> None:
    """Those of a class are kept in its instances up to the thirtieth; more, and each instance has a dict of 1 KB of its own."""
    graph = circle(STEPS)
    async with open_runtime(seed=1) as runtime:
        await runtime.start(graph, Ping(1), "run")
        run = runtime._engine._active.by_id["run"]
        assert isinstance(run, ActiveRun)
        assert len(vars(run)) <= 25
        await run.result()


async def test_many_runs_at_once_are_drained_by_few_instances_in_few_steps() -> None:
    """Nodes that do not wait keep one instance busy; a step of a task for every message would be 500."""
    graph, first = row(5)
    async with open_runtime(seed=1) as runtime:
        await ready(runtime, graph, first)
        with counted() as steps:
            async with trio.open_nursery() as nursery:
                for _ in range(STEPS):
                    nursery.start_soon(runtime.run, graph, first)
        (deployed,) = runtime.tree().children

    assert sum(steps.taken.values()) < 4.5 * STEPS
    assert len(deployed.children) <= 5 * 8  # up to 64 each, if each message that finds none idle had one started


@pytest.mark.parametrize("width", [3, 100])
async def test_a_fan_out_has_an_instance_for_each_branch_that_waits_and_none_besides(
    width: int, virtual_clock: trio.testing.MockClock
) -> None:
    graph = wide(width)
    async with open_runtime(seed=1) as runtime:
        await runtime.run(graph, Width(width))
        began = trio.current_time()
        await runtime.run(graph, Width(width))
        took_s = trio.current_time() - began
        (deployed,) = runtime.tree().children

    assert took_s == pytest.approx(0.05)
    assert len([node for node in deployed.children if "/nap" in node.address]) == width
