import math
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import pairwise
from typing import Any

import httpx
import pytest
import trio

from actors.errors import LMAuthFailed, LMError, LMRateLimited, LMReplyUnreadable, LMTimeout, LMUnavailable, UsageError
from actors.lm import Completion, Delta, LMStream, ReasoningDelta, TextDelta, ToolCall, ToolCallDelta
from actors.restarts import Backoff
from runtime.lm.client import LMClient
from runtime.lm.http.transport import open_transport
from runtime.lm.limits.retry import Retry
from runtime.testing.loopback import Failure, LoopbackProvider, ModelScript, open_loopback

HELLO = [{"role": "user", "content": "Hello"}]
EXACT = Retry(max_attempts=3, backoff=Backoff(first_s=0.5, cap_s=30.0, jitter=0))
CALL = ToolCall("call_1", "weather", '{"city": "Ulm"}')
PROVIDERS = pytest.mark.parametrize("provider", ["openai", "anthropic", "hosted_vllm"])


@asynccontextmanager
async def serving(
    script: ModelScript | str, *, provider: str = "openai", **options: Any
) -> AsyncIterator[tuple[LoopbackProvider, LMClient]]:
    async with open_loopback({"m": script}) as server:
        base = server.url if provider == "anthropic" else server.api_base
        async with LMClient(f"{provider}/m", api_key="s3cret-key", api_base=base, **{"retry": EXACT, **options}) as lm:
            yield server, lm


@asynccontextmanager
async def saying(*events: str, status: int = 200, kind: str = "text/event-stream") -> AsyncIterator[LMClient]:
    """A client of a server that sends exactly `events`."""
    body = "".join(f"data: {event}\n\n" for event in events).encode()

    def handle(request: httpx.Request) -> httpx.Response:
        return httpx.Response(status, headers={"content-type": kind}, content=body)

    lm = LMClient("openai/m", api_key="s3cret-key", api_base="http://provider/v1", retry=Retry(max_attempts=1))
    async with open_transport(connect=lambda: httpx.MockTransport(handle)) as transport:
        lm.bind(transport, random.Random(0))
        yield lm


async def collect(stream: LMStream) -> list[Delta]:
    return [delta async for delta in stream]


@PROVIDERS
async def test_an_answer_comes_in_pieces_that_make_up_the_whole(provider: str):
    async with serving("Good day to you.", provider=provider) as (server, lm):
        async with lm.stream(HELLO, max_tokens=50) as stream:
            deltas = await collect(stream)
        whole = await lm.chat(HELLO, max_tokens=50)

    assert deltas == [TextDelta("Good"), TextDelta(" day"), TextDelta(" to"), TextDelta(" you.")]
    assert stream.completion == whole
    assert server.requests[0].body["stream"] is True


@PROVIDERS
async def test_tool_calls_and_reasoning_come_in_pieces_too(provider: str):
    answer = Completion("", "m", finish_reason="tool_calls", tool_calls=(CALL,), reasoning="Let me see.")
    async with serving(ModelScript(answer), provider=provider) as (_, lm):
        async with lm.stream(HELLO, max_tokens=50) as stream:
            deltas = await collect(stream)

    assert "".join(delta.text for delta in deltas if isinstance(delta, ReasoningDelta)) == "Let me see."
    calls = [delta for delta in deltas if isinstance(delta, ToolCallDelta)]
    assert (calls[0].index, calls[0].id, calls[0].name) == (0, "call_1", "weather")
    assert "".join(call.arguments for call in calls) == '{"city": "Ulm"}'
    assert stream.completion.tool_calls == (CALL,)
    assert stream.completion.finish_reason == "tool_calls"
    assert stream.completion.reasoning == "Let me see."


@PROVIDERS
async def test_pieces_arrive_as_they_are_sent(provider: str, patient_clock: trio.abc.Clock):
    script = ModelScript("one two three", latency_s=3, interval_s=2)
    async with serving(script, provider=provider) as (_, lm), lm.stream(HELLO, max_tokens=50) as stream:
        at_s = [trio.current_time() async for delta in stream if isinstance(delta, TextDelta)]

    assert [later - earlier for earlier, later in pairwise(at_s)] == pytest.approx([2.0, 2.0], abs=1e-6)


async def test_a_stream_read_to_its_end_leaves_its_connection_for_the_next_call():
    async with serving("hello there") as (server, lm):
        for _ in range(3):
            async with lm.stream(HELLO) as stream:
                await collect(stream)
        await lm.chat(HELLO)
        assert lm._requester.link is not None
        connections = lm._requester.link.transport.statistics().connections

    assert connections is not None
    assert (connections.opened, connections.idle, len(server.requests)) == (1, 1, 4)


@pytest.mark.parametrize("ways", ["leave", "cancel"])
async def test_a_stream_left_early_is_closed_at_the_provider(ways: str, patient_clock: trio.abc.Clock):
    async with serving(ModelScript("one two three", interval_s=0.4)) as (server, lm):
        with trio.move_on_after(0.6) as scope:
            async with lm.stream(HELLO) as stream:
                async for _ in stream:
                    if ways == "leave":
                        break
        record = await server.wait_ended(1)

    assert record.cancelled_by_client
    assert scope.cancelled_caught == (ways == "cancel")


async def test_a_call_within_a_stream_takes_a_place_of_its_own():
    async with serving("hello there", max_connections=2) as (_, lm), lm.stream(HELLO) as stream:
        async for _ in stream:
            await lm.chat(HELLO)


async def test_the_completion_is_not_there_before_the_last_piece():
    async with serving("hello there") as (_, lm), lm.stream(HELLO) as stream:
        await anext(stream)

        with pytest.raises(UsageError) as caught:
            _ = stream.completion

    assert str(caught.value) == (
        "the answer is not complete: 'completion' was read before the last piece had come.\n"
        "  Fix: read the stream to its end first, with 'async for delta in stream'."
    )


# --- what fails -------------------------------------------------------------------------------------------------------

BEFORE: list[tuple[Failure, type[LMError], int]] = [
    (Failure.status(429), LMRateLimited, 3),
    (Failure.status(500), LMUnavailable, 3),
    (Failure.status(401), LMAuthFailed, 1),
    (Failure.disconnect(), LMUnavailable, 3),
    (Failure.garbage(), LMReplyUnreadable, 3),
]


@PROVIDERS
@pytest.mark.parametrize(("failure", "kind", "count"), BEFORE)
async def test_until_the_first_piece_a_request_is_made_again_as_often_as_allowed(
    failure: Failure, kind: type[LMError], count: int, provider: str, patient_clock: trio.abc.Clock
):
    async with serving(ModelScript("never", failures=failure), provider=provider) as (server, lm):
        with pytest.raises(kind) as caught:
            async with lm.stream(HELLO, max_tokens=50):
                pytest.fail("there is no answer")

    assert len(server.requests) == count
    assert (caught.value.attempt, caught.value.spent) == (count, count > 1)
    assert str(caught.value).startswith(f"'{provider}/m', request {count} of 3: ")
    assert "s3cret" not in str(caught.value)


async def test_a_stream_that_begins_at_last_says_how_many_requests_it_took(patient_clock: trio.abc.Clock):
    async with serving(ModelScript("at last", failures=(Failure.status(500),))) as (_, lm), lm.stream(HELLO) as stream:
        await collect(stream)

    assert (stream.completion.text, stream.completion.attempts) == ("at last", 2)


@PROVIDERS
@pytest.mark.parametrize(
    ("failure", "kind"), [(Failure.disconnect_mid_body(), LMUnavailable), (Failure.truncated_json(), LMReplyUnreadable)]
)
async def test_after_the_first_piece_nothing_is_asked_again(failure: Failure, kind: type[LMError], provider: str):
    async with serving(ModelScript("a b c d e f g h", failures=(failure,)), provider=provider, retry=Retry(1)) as (server, lm):
        with pytest.raises(kind):
            async with lm.stream(HELLO, max_tokens=50) as stream:
                await collect(stream)

    assert len(server.requests) == 1


def chunk(text: str, finish: str | None = None) -> str:
    finish_reason = f'"{finish}"' if finish else "null"
    delta = f'{{"content": "{text}"}}'
    return f'{{"id": "1", "choices": [{{"index": 0, "delta": {delta}, "finish_reason": {finish_reason}}}]}}'


async def test_a_stream_without_an_end_is_not_taken_for_an_answer():
    async with saying(chunk("half")) as lm:
        with pytest.raises(LMReplyUnreadable) as caught:
            async with lm.stream(HELLO) as stream:
                await collect(stream)

    assert str(caught.value) == (
        "'openai/m', request 1 of 1: the stream from http://provider/v1/chat/completions cannot be read: "
        "the stream ended before the answer did: 'half'.\n"
        "  Fix: check that api_base is the address of a model provider."
    )


@pytest.mark.parametrize("last", [(chunk("", "stop"),), ("[DONE]",), (chunk("", "stop"), "[DONE]")])
async def test_either_word_of_the_end_is_enough(last: tuple[str, ...]):
    async with saying(chunk("whole"), *last) as lm, lm.stream(HELLO) as stream:
        await collect(stream)

    assert (stream.completion.text, stream.completion.finish_reason) == ("whole", "stop")


async def test_an_error_within_a_stream_is_of_the_error_table():
    said = '{"error": {"message": "Too many for s3cret-key.", "type": "overloaded_error"}}'
    async with saying(chunk("half"), said) as lm:
        with pytest.raises(LMRateLimited, match=r"Too many for \[redacted\]"):
            async with lm.stream(HELLO) as stream:
                await collect(stream)


async def test_a_provider_that_does_not_stream_is_taken_at_its_word():
    whole = '{"choices": [{"message": {"role": "assistant", "content": "all at once"}, "finish_reason": "stop"}]}'

    def handle(request: httpx.Request) -> httpx.Response:
        return httpx.Response(200, headers={"content-type": "application/json"}, content=whole)

    lm = LMClient("openai/m", api_key="k", api_base="http://provider/v1")
    async with open_transport(connect=lambda: httpx.MockTransport(handle)) as transport:
        lm.bind(transport, random.Random(0))
        async with lm.stream(HELLO) as stream:
            assert await collect(stream) == [TextDelta("all at once")]

    assert stream.completion.text == "all at once"


# --- deadlines --------------------------------------------------------------------------------------------------------


async def test_the_wait_for_the_first_piece_has_its_own_deadline(patient_clock: trio.abc.Clock):
    script = ModelScript("late", failures=(Failure.slow_headers(3600),))
    async with serving(script, first_token_s=4, retry=Retry(max_attempts=1)) as (server, lm):
        with pytest.raises(LMTimeout) as caught:
            async with lm.stream(HELLO):
                pytest.fail("there is no answer")
        record = await server.wait_ended(1)

    assert record.cancelled_by_client
    assert trio.current_time() == pytest.approx(4, abs=0.01)
    assert str(caught.value) == (
        "'openai/m', request 1 of 1: no piece of an answer within 4 s.\n"
        "  Fix: try again later, ask for less (max_tokens), or set LMClient(..., first_token_s=…)."
    )


async def test_the_wait_for_a_further_piece_has_its_own_deadline(patient_clock: trio.abc.Clock):
    async with serving(ModelScript("one two", interval_s=20), between_tokens_s=7) as (server, lm):
        with pytest.raises(LMTimeout, match=r"no further piece of the answer within 7 s\."):
            async with lm.stream(HELLO) as stream:
                await collect(stream)
        record = await server.wait_ended(1)

    assert record.cancelled_by_client
    assert len(server.requests) == 1


@pytest.mark.parametrize(("latency_s", "words"), [(0, "the answer did not end within 10 s"), (3600, "no answer within 10 s")])
async def test_the_whole_answer_has_its_deadline(latency_s: float, words: str, patient_clock: trio.abc.Clock):
    async with serving(ModelScript("1 2 3 4 5 6 7 8", latency_s=latency_s, interval_s=2), deadline_s=10) as (_, lm):
        with pytest.raises(LMTimeout, match=words):
            async with lm.stream(HELLO) as stream:
                await collect(stream)

    assert trio.current_time() == pytest.approx(10, abs=0.01)


async def test_no_deadline_reaches_into_the_callers_block(patient_clock: trio.abc.Clock):
    async with serving("one two", deadline_s=10, between_tokens_s=5) as (_, lm), lm.stream(HELLO) as stream:
        await anext(stream)
        await trio.sleep(8)
        await collect(stream)

    assert stream.completion.text == "one two"


@pytest.mark.parametrize("name", ["connect_s", "first_token_s", "between_tokens_s"])
@pytest.mark.parametrize("value", [0, -1, math.nan, True, "1"])
def test_deadlines_are_positive_numbers(name: str, value: Any):
    with pytest.raises(Exception, match=rf"LMClient\({name}="):
        LMClient("openai/m", **{name: value})
