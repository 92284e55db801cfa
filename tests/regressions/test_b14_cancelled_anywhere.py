"""Generators that hold scopes and nurseries, cancelled after any number of steps of the loop: nothing is left, nothing breaks."""

from __future__ import annotations

import contextlib
import random
from collections.abc import AsyncIterator
from typing import Any

import pytest
import trio

from actors import Backoff, Graph, MailboxSpec, Redelivery, Run, RunFailed
from runtime import open_runtime
from tests.runtime.graphs.stage import EXACT, Ask, Done, Other, Part, living


def tangled(rng: random.Random, log: list[str], *, repeatable: bool) -> Graph:
    graph = Graph("g", input=Ask, output=Done, supervision=EXACT)
    again = Redelivery(max_attempts=3, backoff=Backoff(first_s=0.5, jitter=0))
    fails_at = rng.choice([None, 1, 3, 7])

    @graph.node(repeatable=repeatable, redelivery=again, timeout_s=rng.choice([None, 3]))
    async def yields(ask: Ask, run: Run) -> AsyncIterator[Part]:
        log.append("begun")
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(trio.sleep_forever)
                for n in range(6):
                    with trio.move_on_after(0.7):
                        yield Part(2 * n)
                        await trio.sleep(0.3)
                        yield Part(2 * n + 1)
                    if run.attempt < 3 and n == fails_at:
                        raise ConnectionError("lost")
                nursery.cancel_scope.cancel()
        finally:
            log.append("ended")

    @graph.node(concurrency=1, mailbox=MailboxSpec(capacity=1))
    async def works(part: Part) -> Other:
        await trio.sleep(0.5)
        return Other(part.n)

    @graph.node
    async def ends(others: list[Other]) -> Done:
        return Done([other.n for other in others])

    return graph


async def nothing_left(runtime: Any, log: list[str], alive: int) -> None:
    assert log.count("begun") == log.count("ended")
    assert living() <= alive + 2  # an instance more of each node of several
    assert not runtime.runs()


@pytest.mark.parametrize("seed", range(5))
async def test_b14_a_run_that_is_cancelled_anywhere_leaves_no_task_of_its_generator(seed, virtual_clock):
    rng, log = random.Random(seed), list[str]()
    async with open_runtime() as runtime:
        graph = tangled(rng, log, repeatable=seed % 2 == 0)
        await runtime.deploy(graph)
        alive = living()
        for steps in range(0, 60, 7):
            with trio.move_on_after(rng.choice([0.1, 0.7, 1.4, 5])):
                with trio.CancelScope() as scope:
                    async with trio.open_nursery() as nursery:

                        async def run(scope: trio.CancelScope = scope) -> None:
                            try:
                                done = await runtime.run(graph, Ask())
                            except RunFailed:
                                pass
                            else:
                                assert done.n == sorted(set(done.n))
                            scope.cancel()

                        nursery.start_soon(run)
                        for _ in range(steps):
                            await trio.lowlevel.checkpoint()
                        if steps % 2:
                            scope.cancel()
            await trio.sleep(6)
            await nothing_left(runtime, log, alive)


@pytest.mark.parametrize("seed", range(5))
async def test_b14_what_it_makes_is_in_order_and_whole_when_nobody_cancels_it(seed, virtual_clock):
    rng, log = random.Random(seed), list[str]()
    async with open_runtime() as runtime:
        graph = tangled(rng, log, repeatable=False)
        done: Done | None = None
        with contextlib.suppress(RunFailed):  # it failed when items had been taken, or took too long
            done = await runtime.run(graph, Ask())
        if done is not None:
            assert done.n == sorted(set(done.n))
            assert set(range(0, 12, 2)) <= set(done.n)
        await trio.sleep(6)
        assert log.count("begun") == log.count("ended")
