"""Embeddings that a node asks for: booked on the run and told by its events, like any call."""

from __future__ import annotations

import pytest

from actors import LM, Graph, Redelivery
from actors.errors import RunFailed
from actors.lm import Embedder
from runtime import open_runtime
from runtime.graphs.records.run_events import LMCalled
from runtime.lm.client import LMClient
from runtime.testing import ScriptedLM
from tests.runtime.graphs.stage import Ask, Done
from tests.runtime.lm.recorder import recording

MODEL = "openai/text-embedding-3-small"
graph = Graph("g", input=Ask, output=Done)


@graph.node(redelivery=Redelivery(max_attempts=1))
async def compare(ask: Ask, lm: LM) -> Done:
    assert isinstance(lm, Embedder)
    found = await lm.embed(["Good day.", "Good night."])
    return Done(f"{len(found.vectors)} vectors")


async def test_embeddings_are_booked_on_the_run_and_are_an_event():
    with recording() as recorder:
        lm = LMClient(MODEL, api_key="s3cret", api_base=f"{recorder.url}/v1")
        async with open_runtime(lm=lm) as runtime:
            async with runtime.stream(graph, Ask()) as events:
                called = [event async for event in events if isinstance(event, LMCalled)]
            handle = await runtime.start(graph, Ask())
            assert await handle.result() == Done("2 vectors")

    assert [(event.model, event.prompt_tokens, event.completion_tokens, event.requests) for event in called] == [
        (MODEL, 1000, 0, 1)
    ]
    assert (handle.spend.calls, handle.spend.prompt_tokens) == (1, 1000)


async def test_a_model_without_embeddings_says_so():
    async with open_runtime(lm=ScriptedLM([])) as runtime:
        with pytest.raises(RunFailed) as caught:
            await runtime.run(graph, Ask())

    (failed,) = caught.value.exceptions
    assert str(failed.__cause__) == (
        f"the language model {ScriptedLM([]).model!r} makes no embeddings: a ScriptedLM has no method embed().\n"
        "  Fix: give the node an LMClient of a model that does, by its option lm."
    )
