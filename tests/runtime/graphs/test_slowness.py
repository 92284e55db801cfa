"""A node that goes on after its time is up is named while it does."""

from __future__ import annotations

from typing import Any

import trio

from actors import Redelivery, Run
from runtime import NodeSlowToStop, open_runtime
from runtime.graphs.runs.slowness import SLOW_AFTER_S
from tests.runtime.graphs.stage import Ask, Done, graph_of


async def events_of(graph: Any) -> list[Any]:
    async with open_runtime() as runtime, runtime.stream(graph, Ask()) as events:
        return [event async for event in events]


def stubborn(ignores_s: float):
    async def work(ask: Ask) -> Done:
        with trio.CancelScope(shield=True):
            await trio.sleep(5 + ignores_s)
        return Done()

    return work


async def test_a_node_that_ignores_its_timeout_is_named_once_before_its_error_comes(virtual_clock):
    seen = await events_of(graph_of(stubborn(2), timeout_s=5, redelivery=Redelivery()))

    (slow,) = [event for event in seen if isinstance(event, NodeSlowToStop)]
    assert (slow.node, slow.attempt, slow.at_s, slow.overdue_s) == ("work", 1, 5 + SLOW_AFTER_S, SLOW_AFTER_S)
    assert "await trio.sleep(5 + ignores_s)" in slow.stack
    assert [(type(event).__name__, event.at_s) for event in seen[-2:]] == [("NodeGaveUp", 7.0), ("RunFinished", 7.0)]


async def test_clean_up_of_some_milliseconds_is_not_slow(virtual_clock):
    seen = await events_of(graph_of(stubborn(SLOW_AFTER_S / 2), timeout_s=5, redelivery=Redelivery()))

    assert not [event for event in seen if isinstance(event, NodeSlowToStop)]


async def test_signs_of_life_move_the_moment(virtual_clock):
    async def work(ask: Ask, run: Run) -> Done:
        for _ in range(3):
            await trio.sleep(4)
            run.heartbeat()
        with trio.CancelScope(shield=True):
            await trio.sleep(10)
        return Done()

    seen = await events_of(graph_of(work, idle_timeout_s=5, redelivery=Redelivery()))

    assert [event.at_s for event in seen if isinstance(event, NodeSlowToStop)] == [12 + 5 + SLOW_AFTER_S]
