"""What a run is told to have used by streams and embeddings that fail."""

import attrs
import pytest
import trio

from actors import LM, Graph, Redelivery, Run
from actors.errors import LMReplyUnreadable, RunFailed
from actors.lm import Embedder
from actors.restarts import Backoff
from actors.store_errors import RunLost
from runtime import open_runtime
from runtime.journal.memory import MemoryStore
from runtime.lm.client import LMClient
from runtime.lm.limits.retry import Retry
from runtime.testing.loopback import Failure, ModelScript, open_loopback
from tests.runtime.lm.faking import HELLO


@attrs.frozen
class Question:
    text: str


@attrs.frozen
class Answer:
    text: str


class Reading(LMReplyUnreadable):
    """What a node raises on its own account while it reads a stream."""


reading = Graph("reading", input=Question, output=Answer)


@reading.node(redelivery=Redelivery(max_attempts=1))
async def read(question: Question, lm: LM) -> Answer:
    if question.text == "embed":
        assert isinstance(lm, Embedder)
        await lm.embed(["a"])
    async with lm.stream(HELLO) as stream:
        async for _ in stream:
            if question.text == "own":
                raise Reading("not what I wanted", attempt=7)
    return Answer("whole")


@pytest.mark.parametrize(
    ("text", "failures", "requests"),
    [
        ("begin", (Failure.status(503),) * 2, 2),
        ("middle", (Failure.disconnect_mid_body(),), 1),
        ("late", (Failure.status(503), Failure.disconnect_mid_body()), 2),
        ("own", (), 1),
        ("embed", (), 2),
    ],
)
async def test_a_stream_or_an_embedding_that_fails_is_booked_with_its_requests(
    text: str, failures: tuple[Failure, ...], requests: int
):
    retry = Retry(max_attempts=2, backoff=Backoff(first_s=0.001, cap_s=0.001))
    async with open_loopback({"m": ModelScript("one two three four five six", failures=failures)}, unused="ok") as server:
        server.route("POST", "/v1/embeddings", lambda request: {})
        lm = LMClient("openai/m", api_key="k", api_base=server.api_base, retry=retry)
        async with open_runtime(lm=lm) as runtime:
            handle = await runtime.start(reading, Question(text))
            with pytest.raises(RunFailed):
                await handle.result()

    assert (handle.spend.calls, handle.spend.requests) == (0, requests)


@attrs.frozen
class Told:
    texts: tuple[str, ...]


async def test_what_retries_hedges_and_fallbacks_cost_is_that_of_all_lives_of_a_durable_run():
    """And the next life asks for nothing that was answered."""
    retry = Retry(max_attempts=4, backoff=Backoff(first_s=0.001, cap_s=0.001))
    store = MemoryStore()
    buying = Graph("buying", input=Question, output=Told)

    @buying.node
    async def buy(question: Question, lm: LM, run: Run) -> Told:
        texts = [(await lm.chat([{"role": "user", "content": f"question {n}"}])).text for n in range(2)]
        if not run.is_resumed:
            store.crash()
            await trio.sleep_forever()
        return Told(tuple(texts))

    first = ModelScript("unused", failures=(Failure.status(503),) * 8)
    second = ModelScript(lambda request: request.messages[-1]["content"])
    async with open_loopback({"first": first, "second": second}, unused="ok") as server:
        other = LMClient("openai/second", api_key="key-of-a-test", api_base=server.api_base, retry=retry, hedge=5)
        lm = LMClient("openai/first", api_key="key-of-a-test", api_base=server.api_base, retry=retry, fallbacks=[other])
        async with open_runtime(lm=lm, store=store) as runtime:
            handle = await runtime.start(buying, Question(""), run_id="it")
            with pytest.raises(RunLost):
                await handle.result()
            spent = handle.spend
        asked = len(server.requests)
        async with open_runtime(lm=lm, store=store.beside()) as runtime:
            handle = await runtime.start(buying, Question(""), run_id="it")
            assert await handle.result() == Told(("question 0", "question 1"))

    assert len(server.requests) == asked
    assert spent.requests == asked
    assert handle.spend == spent
