"""A run as its events: which, in what order, and that the last one always comes."""

from typing import Any

import pytest
import trio

from actors import LM, Graph, RunFailed
from actors.errors import UsageError
from runtime import EventsMissed, open_runtime
from runtime.core.events import EventBus
from runtime.graphs.records import run_events
from runtime.testing import ScriptedLM
from tests.runtime.graphs.stage import TWICE, Ask, Done, Part, graph_of


async def first(ask: Ask) -> Part:
    await trio.sleep(1)
    return Part(ask.n)


async def second(part: Part) -> Done:
    if part.n:
        raise ValueError("bug")
    await trio.sleep(1)
    return Done()


@pytest.fixture
def graph() -> Graph:
    return graph_of(first, second)


def told(event: Any) -> tuple[Any, ...]:
    return (type(event).__name__, getattr(event, "node", None), event.at_s)


async def test_a_run_tells_what_happens_in_order_and_then_ends(graph, virtual_clock):
    async with open_runtime() as runtime, runtime.stream(graph, Ask()) as events:
        seen: list[Any] = [event async for event in events]

    assert [told(event) for event in seen] == [
        ("RunStarted", None, 0.0),
        ("NodeStarted", "first", 0.0),
        ("NodeFinished", "first", 1.0),
        ("NodeStarted", "second", 1.0),
        ("NodeFinished", "second", 2.0),
        ("RunFinished", None, 2.0),
    ]
    assert (seen[0].graph, seen[0].input, seen[-1].status, seen[-1].output) == ("g", Ask(), "succeeded", Done())
    assert {event.run_id for event in seen} == {"g-1"}


async def test_events_come_as_they_happen(graph, virtual_clock):
    async with open_runtime() as runtime, runtime.stream(graph, Ask()) as events:
        async for event in events:
            assert event.at_s == trio.current_time()


async def test_a_failed_run_ends_its_stream_with_the_error(graph, virtual_clock):
    async with open_runtime() as runtime, runtime.stream(graph, Ask(1)) as events:
        seen: list[Any] = [event async for event in events]

    *_, gave_up, end = seen
    assert (told(gave_up), type(gave_up.error)) == (("NodeGaveUp", "second", 1.0), ValueError)
    assert (end.status, end.output, type(end.error)) == ("failed", None, RunFailed)
    assert [type(event).__name__ for event in seen].count("RunFinished") == 1


async def test_a_retry_is_told_before_the_attempt_that_follows(virtual_clock):
    seen: list[int] = []

    async def work(ask: Ask) -> Done:
        seen.append(1)
        if len(seen) == 1:
            raise OSError("rain")
        return Done()

    async with open_runtime() as runtime, runtime.stream(graph_of(work, redelivery=TWICE), Ask()) as events:
        happened = [(type(event).__name__, getattr(event, "attempt", None), event.at_s) async for event in events]

    assert happened[1:-1] == [
        ("NodeStarted", 1, 0.0),
        ("NodeRetrying", 1, 0.0),
        ("NodeStarted", 2, 3.0),
        ("NodeFinished", 2, 3.0),
    ]


async def test_a_run_cancelled_from_outside_ends_its_stream_too(graph, virtual_clock):
    async with open_runtime() as runtime:
        deployment = await runtime.deploy(graph)
        async with runtime.stream(graph, Ask()) as events, trio.open_nursery() as nursery:
            await trio.sleep(0.5)
            nursery.start_soon(deployment.stop)
            seen = [told(event)[0] async for event in events]

    assert seen == ["RunStarted", "NodeStarted", "NodeCancelled", "RunFinished"]


async def test_a_slow_reader_is_told_what_it_missed_and_still_gets_the_end(graph, virtual_clock):
    async with open_runtime() as runtime, runtime.stream(graph, Ask(), buffer=2) as events:
        await trio.sleep(5)
        seen: list[Any] = [event async for event in events]

    assert [told(event)[0] for event in seen] == ["EventsMissed", "NodeFinished", "RunFinished"]
    assert isinstance(seen[0], EventsMissed)
    assert seen[0].count == 4


@pytest.mark.parametrize("buffer", [0, -1, 1.5, True])
async def test_a_buffer_for_no_event_is_refused(buffer, graph, virtual_clock):
    async with open_runtime() as runtime:
        with pytest.raises(UsageError, match=r"^buffer=.*: expected a whole number >= 1\.\n  Fix: leave it out for 1024\.$"):
            async with runtime.stream(graph, Ask(), buffer=buffer):
                pass


async def test_a_wrong_input_is_refused_by_the_stream_itself(graph, virtual_clock):
    async with open_runtime() as runtime:
        with pytest.raises(Exception, match="takes Ask as its input"):
            async with runtime.stream(graph, "x"):
                pass


async def test_whoever_listens_to_the_runtime_before_the_run_hears_its_events_too(graph, virtual_clock):
    async with open_runtime() as runtime, runtime.events(lambda event: hasattr(event, "run_id")) as all_events:
        async with runtime.stream(graph, Ask()) as events:
            own = [event async for event in events]
        await runtime.run(graph, Ask())

        heard: list[Any] = []
        while (event := all_events.take_nowait()) is not None:
            heard.append(event)

    assert heard[: len(own)] == own
    assert [event.run_id for event in heard] == ["g-1"] * 6 + ["g-2"] * 6


async def test_no_event_is_made_when_nobody_listens(graph, virtual_clock, monkeypatch):
    def rejected(*_: Any) -> None:
        raise AssertionError("somebody made an event")

    monkeypatch.setattr(EventBus, "publish", rejected)
    async with open_runtime() as runtime:
        assert await runtime.run(graph, Ask()) == Done()


async def test_a_call_to_a_model_is_told_with_what_it_cost(virtual_clock):
    async def work(ask: Ask, lm: LM) -> Done:
        return Done((await lm.chat([{"role": "user", "content": "one two three"}])).text)

    lm = ScriptedLM(["four five"], latency_s=2.0)
    async with open_runtime(lm=lm) as runtime, runtime.stream(graph_of(work), Ask()) as events:
        (called,) = [event async for event in events if isinstance(event, run_events.LMCalled)]

    assert (called.node, called.path, called.model, called.at_s, called.duration_s) == ("work", "g/work/0", "scripted", 2.0, 2.0)
    assert (called.prompt_tokens, called.completion_tokens, called.requests, called.cost_usd) == (3, 2, 1, None)


async def test_a_listener_that_raises_does_not_keep_a_run_from_ending(graph, virtual_clock):
    def listen(event: Any) -> None:
        if isinstance(event, run_events.RunFinished):
            raise KeyError("listener")

    async with open_runtime(instruments=[listen]) as runtime:
        with trio.fail_after(10):
            await runtime.run(graph, Ask())
