"""A run that was started and never awaited does not end with its block without a word."""

from __future__ import annotations

import logging

import attrs
import pytest
import trio

from actors import Actor, Graph, Redelivery, RunCancelled, RunFailed
from runtime import Event, RunAbandoned, RunFinished, Runtime, open_runtime
from runtime.embed.portal import open_runtime_portal

NEVER = r"^run 'bills' of graph 'slow' was never awaited, and was cancelled when its runtime was closed\."


@attrs.frozen
class In:
    v: int


@attrs.frozen
class Out:
    v: int


def slow():
    graph = Graph("slow", input=In, output=Out)

    @graph.node
    async def node(given: In) -> Out:
        await trio.sleep(given.v)
        return Out(given.v)

    return graph


async def test_a8_a_run_that_nobody_awaited_is_an_event_a_warning_and_a_log_record(autojump_clock, caplog):
    told: list[Event] = []

    with pytest.warns(ResourceWarning, match=NEVER) as warned:
        async with open_runtime(instruments=[told.append]) as runtime:
            await runtime.start(slow(), In(60), "bills")

    [abandoned] = [event for event in told if isinstance(event, RunAbandoned)]
    assert (abandoned.run_id, abandoned.graph) == ("bills", "slow")
    [finished] = [event for event in told if isinstance(event, RunFinished)]
    assert finished.status == "cancelled"
    assert [warning.filename for warning in warned] == [__file__]
    assert [(record.name, record.levelno) for record in caplog.records] == [("understudy.runs", logging.WARNING)]


async def test_a8_each_abandoned_run_is_named(autojump_clock):
    graph = slow()

    with pytest.warns(ResourceWarning) as warned:  # noqa: PT031 - it comes from the end of the block
        async with open_runtime() as runtime:
            for number in range(3):
                await runtime.start(graph, In(60), f"run {number}")

    assert [str(each.message).partition(" of ")[0] for each in warned] == ["run 'run 0'", "run 'run 1'", "run 'run 2'"]


async def test_a8_nothing_is_said_of_runs_that_were_awaited_cancelled_drained_or_are_over(autojump_clock):
    graph = slow()

    async with open_runtime() as runtime:
        handle = await runtime.start(graph, In(60))
        with trio.move_on_after(1):
            await handle.result()
        with trio.move_on_after(0):
            await (await runtime.start(graph, In(60))).cancel()
        await runtime.start(graph, In(1))
        await trio.sleep(2)
        await runtime.start(graph, In(60))
        await runtime.drain(1)


async def test_a8_nothing_is_said_of_a_run_that_an_actor_waits_for(autojump_clock, recwarn):
    told: list[Event] = []

    class Clerk(Actor):
        def __init__(self, runtime: Runtime) -> None:
            self._runtime = runtime

        async def receive(self, message: In) -> None:
            await self._runtime.run(slow(), message)

    async with open_runtime(instruments=[told.append]) as runtime:
        clerk = await runtime.spawn(Clerk, runtime)
        await clerk.tell(In(60))
        await trio.sleep(1)
        assert len(runtime.runs()) == 1

    assert [event for event in told if isinstance(event, RunAbandoned)] == []
    assert [warning for warning in recwarn if warning.category is ResourceWarning] == []


async def test_a8_an_error_of_the_block_is_word_enough(autojump_clock):
    with pytest.raises(LookupError):  # noqa: PT012 - it comes out of the end of the block
        async with open_runtime() as runtime:
            await runtime.start(slow(), In(60))
            raise LookupError


async def test_a8_a_warning_made_an_error_comes_when_all_has_ended(autojump_clock):
    with pytest.raises(ResourceWarning, match=NEVER):
        async with open_runtime() as runtime:
            handle = await runtime.start(slow(), In(60), "bills")

    with pytest.raises(RunCancelled):
        await handle.result()


def test_a8_a_host_of_threads_hears_of_it_too(caplog):
    with pytest.warns(ResourceWarning, match=NEVER):
        with open_runtime_portal() as runtime:
            runtime.start(slow(), In(60), "bills")


# --- that failed ---------------------------------------------------------------------------------------------------------


def failing():
    graph = Graph("failing", input=In, output=Out)

    @graph.node(redelivery=Redelivery(max_attempts=1))
    async def node(given: In) -> Out:
        raise LookupError(f"no {given.v}")

    return graph


async def test_a8_a_run_that_had_failed_and_that_nobody_awaited_is_named(autojump_clock, caplog):
    told: list[Event] = []

    with pytest.warns(ResourceWarning) as warned:  # noqa: PT031 - it comes from the end of the block
        async with open_runtime(instruments=[told.append]) as runtime:
            await runtime.start(failing(), In(7), "bills")
            await trio.sleep(1)

    [warning] = warned
    raised = failing.__code__.co_firstlineno + 5
    assert str(warning.message) == (
        "run 'bills' of graph 'failing' failed and was never awaited: "
        "NodeFailed: node 'node' gave up after attempt 1: LookupError: no 7\n"
        f"  at {__file__}:{raised} in node\n"
        "  Fix: await handle.result() of each run that is started, and catch its error."
    )
    assert warning.filename == __file__
    assert [event.run_id for event in told if isinstance(event, RunAbandoned)] == ["bills"]
    assert ("understudy.runs", logging.WARNING) in [(record.name, record.levelno) for record in caplog.records]


async def test_a8_nothing_is_said_of_a_failed_run_whose_status_somebody_has_read(autojump_clock):
    async with open_runtime() as runtime:
        handle = await runtime.start(failing(), In(7))
        await trio.sleep(1)

        assert handle.status == "failed"


@pytest.mark.parametrize("when", ["before", "after"])
async def test_a8_nothing_is_said_of_a_failed_run_that_somebody_awaited(when, autojump_clock):
    async with open_runtime() as runtime:
        handle = await runtime.start(failing(), In(7))
        if when == "after":
            await trio.sleep(1)
        with pytest.raises(RunFailed):
            await handle.result()
        with pytest.raises(RunFailed):
            await runtime.run(failing(), In(7))
        async with runtime.stream(failing(), In(7)) as events:
            _ = [event async for event in events]


async def test_a8_of_very_many_failed_runs_the_first_are_named(autojump_clock):
    graph = failing()

    with pytest.warns(ResourceWarning) as warned:  # noqa: PT031 - it comes from the end of the block
        async with open_runtime() as runtime:
            handles = [await runtime.start(graph, In(number)) for number in range(105)]
            await trio.sleep(1)
            with pytest.raises(RunFailed):
                await handles[-1].result()

    assert len(warned) == 101
    assert str(warned[-1].message).startswith("4 further runs failed and were never awaited.")
