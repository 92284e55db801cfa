"""Fallbacks, and attempts that must give signs of life."""

# mypy: disable-error-code="empty-body"
# pyright: reportReturnType=false

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated

import dspy  # noqa: F401 - loading it takes a thread, for which virtual time does not wait
import pytest
import trio

from actors import LM, Dep, Graph, LMUnavailable, NodeFailed, NodeTimedOut, Redelivery, Run, RunFailed
from runtime import open_runtime
from runtime.graphs.records.run_events import NodeFellBack
from runtime.testing import ScriptedLM
from tests.runtime.graphs.stage import EXACT, TWICE, Ask, Done, Part, graph_of

ONCE = Redelivery(max_attempts=1)


async def fails(ask: Ask) -> Done:
    raise ConnectionError("down")


async def test_a_fallback_gets_the_input_and_the_error_when_all_attempts_are_used_up(virtual_clock):
    seen: list[object] = []

    async def instead(ask: Ask, error: Exception, run: Run) -> Done:
        seen.append((ask, type(error), run.attempt, trio.current_time()))
        return Done("instead")

    graph = graph_of(fails, redelivery=TWICE, fallback=instead)
    async with open_runtime() as runtime:
        async with runtime.stream(graph, Ask(1)) as events:
            fell = [event async for event in events if isinstance(event, NodeFellBack)]
        handle = await runtime.start(graph, Ask(1))
        assert await handle.result() == Done("instead")

    assert seen[0] == (Ask(1), ConnectionError, 2, 3)
    assert [(event.node, event.attempt) for event in fell] == [("fails", 2)]
    assert [(step.attempt, step.status) for step in handle.trace] == [(2, "done")]


async def test_a_fallback_is_not_asked_while_attempts_are_left(virtual_clock):
    async def once(ask: Ask, run: Run) -> Done:
        if run.attempt == 1:
            raise ConnectionError("hiccup")
        return Done("itself")

    def instead() -> Done:
        return Done("instead")

    async with open_runtime() as runtime:
        assert await runtime.run(graph_of(once, redelivery=TWICE, fallback=instead), Ask()) == Done("itself")


async def test_a_fallback_that_fails_fails_the_run_once_and_knows_the_first_error(virtual_clock):
    called = []

    async def worse(ask: Ask, error: Exception) -> Done:
        called.append(error)
        raise OSError("worse") from error

    async with open_runtime() as runtime:
        with pytest.raises(RunFailed) as caught:
            await runtime.run(graph_of(fails, redelivery=ONCE, fallback=worse), Ask())

    (leaf,) = caught.value.exceptions
    assert isinstance(leaf.__cause__, OSError)
    assert isinstance(leaf.__cause__.__cause__, ConnectionError)
    assert len(called) == 1


async def test_nodes_without_a_fallback_still_fail_the_run(virtual_clock):
    async def instead() -> Part:
        return Part()

    async def begin(ask: Ask) -> Part:
        raise ConnectionError("down")

    graph = Graph("g", input=Ask, output=Done, supervision=EXACT)
    graph.node(redelivery=ONCE, fallback=instead)(begin)

    @graph.node(redelivery=ONCE)
    async def end(part: Part) -> Done:
        raise ConnectionError("down too")

    async with open_runtime() as runtime:
        with pytest.raises(RunFailed, match="failed at 'end'"):
            await runtime.run(graph, Ask())


async def test_a_language_model_that_is_out_of_reach_is_fallen_back_from(virtual_clock):
    async def instead(ask: Ask, error: LMUnavailable) -> Done:
        return Done(type(error).__name__)

    graph = Graph("g", input=Ask, output=Done)

    @graph.predict(fallback=instead)
    async def fill(ask: Ask) -> Done:
        """Fill it."""
        ...

    async with open_runtime(lm=ScriptedLM(lambda messages: LMUnavailable("down", spent=True))) as runtime:
        assert await runtime.run(graph, Ask()) == Done("LMUnavailable")


async def test_a_run_that_is_cancelled_does_not_fall_back(virtual_clock):
    called = []

    async def instead() -> Done:
        called.append(1)
        return Done()

    async def slow(ask: Ask) -> Done:
        await trio.sleep(10)
        return Done()

    async with open_runtime() as runtime:
        handle = await runtime.start(graph_of(slow, fallback=instead), Ask())
        await trio.sleep(1)
        await handle.cancel()

    assert called == []


async def test_an_attempt_without_a_sign_of_life_is_ended(virtual_clock):
    async def silent(ask: Ask, run: Run) -> Done:
        for _ in range(3):
            await trio.sleep(4)
            run.heartbeat()
        await trio.sleep(6)
        return Done()

    async with open_runtime() as runtime:
        with pytest.raises(RunFailed) as caught:
            await runtime.run(graph_of(silent, idle_timeout_s=5, redelivery=ONCE), Ask())
        assert trio.current_time() == 17

    (leaf,) = caught.value.exceptions
    assert isinstance(leaf, NodeFailed)
    assert isinstance(leaf.__cause__, NodeTimedOut)
    assert str(leaf.__cause__) == (
        "node 'silent' gave no sign of life for idle_timeout_s=5.\n"
        "  Fix: call run.heartbeat() while it works, or find what it waits for: "
        f"{__file__}:{silent.__code__.co_firstlineno}."
    )


async def test_an_answer_of_a_language_model_is_a_sign_of_life(virtual_clock):
    async def chat(ask: Ask, lm: LM) -> Done:
        for _ in range(3):
            await lm.chat([{"role": "user", "content": "go on"}])
        return Done(trio.current_time())

    async with open_runtime(lm=ScriptedLM(lambda messages: "ok", latency_s=4)) as runtime:
        assert await runtime.run(graph_of(chat, idle_timeout_s=5), Ask()) == Done(12)


async def test_heartbeats_do_not_extend_the_time_limit(virtual_clock):
    async def busy(ask: Ask, run: Run) -> Done:
        while True:
            await trio.sleep(1)
            run.heartbeat()

    async with open_runtime() as runtime:
        with pytest.raises(RunFailed) as caught:
            await runtime.run(graph_of(busy, timeout_s=10, idle_timeout_s=5, redelivery=ONCE), Ask())
        assert trio.current_time() == 10

    assert "did not finish within timeout_s=10" in str(caught.value.exceptions[0])


async def test_a_heartbeat_after_the_attempt_has_no_effect_and_one_from_a_thread_has():
    kept = []

    def beats(ask: Ask, run: Run) -> Done:
        run.heartbeat()
        kept.append(run)
        return Done("beaten")

    async with open_runtime() as runtime:
        assert await runtime.run(graph_of(beats, idle_timeout_s=5), Ask()) == Done("beaten")
        kept[0].heartbeat()


async def test_a_fallback_has_dependencies_and_a_language_model_of_its_own(virtual_clock):
    @asynccontextmanager
    async def shelf() -> AsyncIterator[str]:
        yield "shelf"

    async def instead(ask: Ask, lm: LM, place: Annotated[str, Dep(shelf)]) -> Done:
        answer = await lm.chat([{"role": "user", "content": place}])
        return Done(f"{answer.text} from the {place}")

    async with open_runtime(lm=ScriptedLM(["taken"])) as runtime:
        assert await runtime.run(graph_of(fails, redelivery=ONCE, fallback=instead), Ask()) == Done("taken from the shelf")
