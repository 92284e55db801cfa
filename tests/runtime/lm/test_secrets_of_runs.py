"""No key in anything that a run leaves behind: its events, its failures, dead letters, the tree, and logs down to DEBUG."""

import logging
import traceback

import attrs
import pytest
import trio

from actors import LM, Graph, Redelivery
from actors.errors import RunFailed
from actors.lm import Embedder
from actors.restarts import Backoff
from runtime import open_runtime
from runtime.core.events import EventStream
from runtime.lm.client import LMClient
from runtime.lm.limits.retry import Retry
from runtime.testing.loopback import Failure, ModelScript, open_loopback
from tests.runtime.lm.faking import HELLO

KEY = "s3cret-key-of-the-account"


@attrs.frozen
class Question:
    how: str


@attrs.frozen
class Answer:
    text: str


graph = Graph("asking", input=Question, output=Answer)


@graph.node(redelivery=Redelivery(max_attempts=2))
async def ask(question: Question, lm: LM) -> Answer:
    if question.how == "embed":
        assert isinstance(lm, Embedder)
        await lm.embed(["a"])
    if question.how == "stream":
        async with lm.stream(HELLO) as stream:
            async for _ in stream:
                pass
        return Answer(stream.completion.text)
    if question.how == "predict":
        return Answer((await lm.predict("question -> answer", question="?")).answer)
    return Answer((await lm.chat(HELLO)).text)


FAILURES = (
    Failure.status(401, message=f"Incorrect API key provided: {KEY}."),
    Failure.status(400, message=f"bad header Authorization: Bearer {KEY}"),
    Failure.status(503, message=f"down, {KEY}"),
    Failure.garbage(),
    Failure.disconnect_mid_body(),
)


@pytest.mark.parametrize("failure", FAILURES, ids=["401", "400", "503", "garbage", "disconnect"])
@pytest.mark.parametrize("how", ["chat", "stream", "embed", "predict"])
async def test_nothing_that_a_run_leaves_shows_the_key(how: str, failure: Failure, caplog: pytest.LogCaptureFixture):
    caplog.set_level(logging.DEBUG)
    seen: list[object] = []
    retry = Retry(max_attempts=2, backoff=Backoff(first_s=0.001, cap_s=0.001))
    async with open_loopback({"m": ModelScript("hi", failures=(failure,) * 4)}, unused="ok") as provider:
        provider.route("POST", "/v1/embeddings", lambda request: {"error": {"message": f"{KEY}", "code": 400}})
        lm = LMClient("openai/m", api_key=KEY, api_base=provider.api_base, retry=retry)
        async with open_runtime(lm=lm, instruments=[seen.append]) as runtime, trio.open_nursery() as nursery:
            nursery.start_soon(keep, runtime.events(), seen)
            async with runtime.stream(graph, Question(how)) as events:
                seen += [event async for event in events]
            handle = await runtime.start(graph, Question(how))
            with pytest.raises(RunFailed) as caught:
                await handle.result()
            words = f"{seen!r} {runtime!r} {runtime.tree()!r} {runtime.statistics()!r} {list(runtime.dead_letters)!r} {handle!r}"
            nursery.cancel_scope.cancel()

    assert len(seen) > 5
    told = "".join(traceback.format_exception(caught.value))
    for text in (words, told, caplog.text, *(record.getMessage() for record in caplog.records)):
        assert "s3cret" not in text


async def keep(events: EventStream, seen: list[object]) -> None:
    async with events:
        async for event in events:
            seen.append(event)  # noqa: PERF401 - at once: the task is cancelled in the end
