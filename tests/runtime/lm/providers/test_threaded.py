"""Providers that only LiteLLM itself can call: one call of it in a thread for each attempt, and everything else as ever."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio

from actors.errors import LMAuthFailed, LMBadRequest, LMContextTooLong, LMError, LMRateLimited, LMTimeout, LMUnavailable
from actors.lm import TextDelta
from actors.restarts import Backoff
from runtime.lm.client import LMClient
from runtime.lm.limits.budget import Budget
from runtime.lm.limits.retry import Retry
from runtime.testing.loopback import Failure, LoopbackProvider, ModelScript, open_loopback
from tests.runtime.lm.recorder import recording

pytestmark = pytest.mark.filterwarnings("ignore")  # LiteLLM's own, in its thread

HELLO = [{"role": "user", "content": "Hello"}]
AT_ONCE = Retry(max_attempts=3, backoff=Backoff(first_s=0.001, cap_s=0.001, jitter=0))


@asynccontextmanager
async def serving(script: ModelScript | str, **options: Any) -> AsyncIterator[tuple[LoopbackProvider, LMClient]]:
    async with open_loopback({"m": script}) as server:
        options = {"retry": AT_ONCE, "api_key": "s3cret-key", **options}
        async with LMClient("databricks/m", api_base=server.api_base, **options) as lm:
            yield server, lm


async def test_a_provider_outside_the_set_is_called_by_litellm_and_says_so():
    async with serving("Good day.") as (server, lm):
        completion = await lm.chat(HELLO, max_tokens=5)

    assert (completion.text, completion.model, completion.attempts) == ("Good day.", "databricks/m", 1)
    assert not completion.is_cancellable
    assert [(record.path, record.body["max_tokens"]) for record in server.requests] == [("/v1/chat/completions", 5)]
    assert server.requests[0].headers["authorization"] == "[redacted]"


async def test_the_answer_of_a_provider_of_the_set_can_be_cancelled():
    async with open_loopback({"m": "Good day."}) as server, LMClient("openai/m", api_key="k", api_base=server.api_base) as lm:
        assert (await lm.chat(HELLO)).is_cancellable


async def test_its_stream_is_the_whole_answer_in_one_piece():
    async with serving("Good day to you.") as (server, lm), lm.stream(HELLO) as stream:
        assert [delta async for delta in stream] == [TextDelta("Good day to you.")]

    assert not stream.completion.is_cancellable
    assert server.requests[0].body.get("stream") in {None, False}


@pytest.mark.parametrize(
    ("failure", "kind", "count"),
    [
        (Failure.status(429), LMRateLimited, 3),
        (Failure.status(500), LMUnavailable, 3),
        (Failure.status(503), LMUnavailable, 3),
        (Failure.status(401), LMAuthFailed, 1),
        (Failure.status(400), LMBadRequest, 1),
        (Failure.disconnect(), LMUnavailable, 3),
    ],
    ids=repr,
)
async def test_each_attempt_is_one_request_and_fails_with_an_error_of_the_table(
    failure: Failure, kind: type[LMError], count: int
):
    async with serving(ModelScript("never", failures=failure)) as (server, lm):
        with pytest.raises(kind) as caught:
            await lm.chat(HELLO)

    assert type(caught.value) is kind
    assert len(server.requests) == caught.value.attempt == count
    assert str(caught.value).startswith(f"'databricks/m', request {count} of 3: ")
    assert "s3cret" not in repr(caught.value)


async def test_a_prompt_that_does_not_fit_is_told_from_other_wrong_requests():
    said = {"error": {"message": "This model's maximum context length is 8192 tokens.", "code": "context_length_exceeded"}}
    with recording() as recorder:
        recorder.failures.append((400, {}, json.dumps(said).encode()))
        async with LMClient("databricks/m", api_key="k", api_base=f"{recorder.url}/v1") as lm:
            with pytest.raises(LMContextTooLong):
                await lm.chat(HELLO)


async def test_retry_after_is_obeyed_in_a_thread_too():
    async with serving(
        ModelScript("at last", failures=(Failure.status(429, retry_after_s=0.05),)), retry=Retry(max_attempts=2)
    ) as (server, lm):
        started_s = trio.current_time()
        completion = await lm.chat(HELLO)

    assert (completion.text, completion.attempts, len(server.requests)) == ("at last", 2, 2)
    assert trio.current_time() - started_s >= 0.05


async def test_a_cancelled_call_ends_when_its_thread_has():
    """The deadline is LiteLLM's timeout too, so the thread does not outlast it by much, and nothing goes on unseen."""
    async with serving(ModelScript("late", failures=Failure.slow_headers(3600))) as (server, lm):
        with trio.move_on_after(0.3) as scope:
            await lm.chat(HELLO)
        record = await server.wait_ended(1)

    assert scope.cancelled_caught
    assert record.cancelled_by_client
    assert len(server.requests) == 1


async def test_the_clients_own_deadline_holds():
    async with serving(ModelScript("late", failures=Failure.slow_headers(3600)), deadline_s=0.3) as (server, lm):
        with pytest.raises(LMTimeout, match=r"^'databricks/m': no answer within 0\.3 s"):
            await lm.chat(HELLO)
        await server.wait_idle()


async def test_no_more_threads_run_than_the_client_may_have_requests():
    async with serving(ModelScript("Good day.", latency_s=0.02), max_connections=2) as (server, lm):
        async with trio.open_nursery() as nursery:
            for _ in range(6):
                nursery.start_soon(lm.chat, HELLO)

    assert len(server.requests) == 6
    assert server.max_in_flight == 2


async def test_a_budget_holds_for_it():
    budget = Budget(max_tokens=10_000)
    async with serving("Good day.", budget=budget) as (_, lm):
        completion = await lm.chat(HELLO)

    assert budget.tokens == completion.usage.total_tokens > 0
    assert budget.reserved_tokens == 0


async def test_a_missing_key_is_named_before_a_thread_is_started(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("REPLICATE_API_KEY", raising=False)
    with pytest.raises(
        LMAuthFailed, match=r"needs a key, and there is none\.\n  Fix: set the environment variable REPLICATE_API_KEY"
    ):
        async with LMClient("replicate/meta/llama-2-70b-chat"):
            pytest.fail("it is not open")
