"""Answers that a node streams: piece by piece in the events of the run, booked when they are whole."""

from __future__ import annotations

import trio

from actors import LM, Graph, Redelivery, Usage
from actors.lm import TextDelta
from runtime import open_runtime
from runtime.graphs.nodes.injected import NodeLM
from runtime.graphs.records.run_events import LMCalled, LMDelta, RunFinished
from runtime.testing import Answer, ScriptedLM
from tests.runtime.graphs.stage import Ask, Done

ANSWER = Answer("one two three", usage=Usage(3, 3))
HELLO = [{"role": "user", "content": "hello"}]

graph = Graph("g", input=Ask, output=Done)


@graph.node(idle_timeout_s=3, redelivery=Redelivery(max_attempts=1))
async def say(ask: Ask, lm: LM) -> Done:
    assert isinstance(lm, NodeLM)
    pieces = []
    async with lm.stream(HELLO) as stream:
        async for delta in stream:
            pieces.append(delta)
            if ask.n == len(pieces):
                break
            await trio.sleep(2)
        else:
            return Done(stream.completion.text)
    return Done("enough")


async def test_every_piece_is_an_event_and_a_sign_of_life_and_the_whole_is_booked(virtual_clock):
    async with open_runtime(lm=ScriptedLM([ANSWER])) as runtime:
        async with runtime.stream(graph, Ask()) as events:
            seen = [event async for event in events if isinstance(event, LMDelta | LMCalled | RunFinished)]

    deltas = [event.delta for event in seen if isinstance(event, LMDelta)]
    assert "".join(delta.text for delta in deltas if isinstance(delta, TextDelta)) == "one two three"
    assert [type(event) for event in seen[-2:]] == [LMCalled, RunFinished]
    assert isinstance(seen[-1], RunFinished)
    assert seen[-1].output == Done("one two three")


async def test_an_answer_that_is_left_early_is_not_booked(virtual_clock):
    async with open_runtime(lm=ScriptedLM([ANSWER])) as runtime:
        handle = await runtime.start(graph, Ask(1))
        assert await handle.result() == Done("enough")

    assert handle.spend.calls == 0
