"""What a stored run that goes on still waits for: the backoff between attempts at a message."""

from __future__ import annotations

import pytest
import trio

from actors import Run, RunFailed
from runtime import open_runtime
from tests.runtime.graphs.lives import Lives
from tests.runtime.graphs.stage import TWICE, Ask, Done, graph_of


def failing_once(begun: list[tuple[int, float]]) -> Lives:
    """A node that fails at first; the process dies a second later, in the middle of its backoff of three."""

    async def flaky(ask: Ask, run: Run) -> Done:
        begun.append((run.attempt, trio.current_time()))
        if run.attempt == 1:
            raise ConnectionError("not yet")
        return Done(ask.n)

    return Lives(graph_of(flaky, redelivery=TWICE))


async def test_an_attempt_that_a_crash_kept_from_coming_waits_out_its_backoff_anew(autojump_clock):
    begun: list[tuple[int, float]] = []
    lives = failing_once(begun)
    async with open_runtime(store=lives.store) as runtime:
        await runtime.start(lives.graph, Ask(1), run_id="it")
        await trio.sleep(1)
        lives.store.crash()
    lives.store = lives.store.beside()
    again_s = trio.current_time()

    assert await lives.last() == Done(1)

    assert [attempt for attempt, _ in begun] == [1, 2]
    assert begun[1][1] == again_s + 3


async def test_a_run_that_is_cancelled_while_it_waits_out_a_backoff_is_over_immediately(autojump_clock):
    begun: list[tuple[int, float]] = []
    lives = failing_once(begun)
    async with open_runtime(store=lives.store) as runtime:
        await runtime.start(lives.graph, Ask(1), run_id="it")
        await trio.sleep(1)
    async with open_runtime(store=lives.store.beside()) as runtime:
        handle = await runtime.start(lives.graph, Ask(1), run_id="it")
        assert handle.trace[0].status == "retrying"
        before_s = trio.current_time()

        await handle.cancel()

        assert trio.current_time() == before_s
        assert handle.status == "cancelled"
    assert len(begun) == 1


async def test_what_somebody_has_resumed_begins_again_without_a_wait(autojump_clock):
    begun: list[float] = []

    async def broken(ask: Ask) -> Done:
        begun.append(trio.current_time())
        if len(begun) < 3:
            raise ConnectionError("not yet")
        return Done(ask.n)

    lives = Lives(graph_of(broken, redelivery=TWICE))
    async with open_runtime(store=lives.store) as runtime:
        handle = await runtime.start(lives.graph, Ask(1), run_id="it")
        with pytest.raises(RunFailed):
            await handle.result()
        resumed_s = trio.current_time()

        assert await (await runtime.resume("it")).result() == Done(1)

    assert begun[2] == resumed_s
