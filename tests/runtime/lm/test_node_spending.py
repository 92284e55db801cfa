"""What a run is told to have used by streams and embeddings that fail."""

import attrs
import pytest

from actors import LM, Graph, Redelivery
from actors.errors import LMReplyUnreadable, RunFailed
from actors.lm import Embedder
from actors.restarts import Backoff
from runtime import open_runtime
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
