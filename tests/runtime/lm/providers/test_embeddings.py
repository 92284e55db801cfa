"""``lm.embed`` against ``litellm.aembedding``: the same request on the wire, the same vectors, usage and price."""

import asyncio
import importlib
import json
from typing import Any

import pytest
import trio

from actors.errors import (
    LMAuthFailed,
    LMBadRequest,
    LMBudgetExhausted,
    LMError,
    LMRateLimited,
    LMReplyUnreadable,
    LMUnavailable,
    UsageError,
)
from actors.lm import LM, Embedder, Embeddings
from actors.restarts import Backoff
from runtime.lm.client import LMClient
from runtime.lm.limits.budget import Budget
from runtime.lm.limits.retry import Retry
from tests.runtime.lm.providers.test_differential import COMPARED_HEADERS
from tests.runtime.lm.recorder import Recorder, Seen, recording

pytestmark = pytest.mark.filterwarnings("ignore")  # of litellm and asyncio, which are only the yardstick here

TEXTS = ["Good day.", "Grüße!"]
AT_ONCE = Retry(max_attempts=3, backoff=Backoff(first_s=0.001, cap_s=0.001, jitter=0))
MODELS = {
    "openai/text-embedding-3-small": "/v1",
    "openai/my-own-model": "/v1",
    "azure/text-embedding-3-small": "",
    "mistral/mistral-embed": "/v1",
    "cohere/embed-english-v3.0": "/v1/embed",
    "gemini/text-embedding-004": "/v1beta",
    "ollama/nomic-embed-text": "",
    "hosted_vllm/bge": "/v1",
    "openrouter/openai/text-embedding-3-small": "/v1",
    "together_ai/BAAI/bge-base-en-v1.5": "/v1",
    "fireworks_ai/nomic-ai/nomic-embed-text-v1.5": "/v1",
    "databricks/bge-large-en": "/v1",
}
LOST = {"fireworks_ai": {"x-own"}, "mistral": {"x-own"}, "ollama": {"content-type", "x-own"}}
"""What LiteLLM does not send, although it should: headers of one's own, and word that JSON is JSON."""
KEYLESS = {"ollama/nomic-embed-text"}


def theirs(recorder: Recorder, model: str, texts: list[str], options: dict[str, Any]) -> tuple[Seen, Any]:
    litellm: Any = importlib.import_module("litellm")
    litellm.disable_aiohttp_transport = True
    key = None if model in KEYLESS else "s3cret"
    reply = asyncio.run(
        litellm.aembedding(model=model, input=texts, api_base=recorder.url + MODELS[model], api_key=key, max_retries=0, **options)
    )
    return recorder.seen[-1], reply


def ours(recorder: Recorder, model: str, texts: list[str], options: dict[str, Any]) -> tuple[Seen, Embeddings]:
    key = None if model in KEYLESS else "s3cret"

    async def call() -> Embeddings:
        async with LMClient(model, api_key=key, api_base=recorder.url + MODELS[model], retry=Retry(max_attempts=1)) as lm:
            return await lm.embed(texts, **options)

    found = trio.run(call)
    return recorder.seen[-1], found


@pytest.mark.parametrize("options", [{}, {"dimensions": 2}, {"extra_headers": {"x-own": "1"}}], ids=repr)
@pytest.mark.parametrize("model", MODELS)
def test_the_request_and_the_vectors_equal_litellms(model: str, options: dict[str, Any]):
    with recording() as recorder:
        try:
            expected, reply = theirs(recorder, model, TEXTS, options)
        except Exception as error:
            if "UnsupportedParamsError" not in repr(error):
                raise
            with pytest.raises(LMBadRequest, match="UnsupportedParamsError"):
                ours(recorder, model, TEXTS, options)
            return
        sent, found = ours(recorder, model, TEXTS, options)

    assert (sent.method, sent.path, sent.body) == (expected.method, expected.path, expected.body)
    left_out = {"accept"} | LOST.get(model.partition("/")[0], set())
    assert {name: sent.headers.get(name) for name in COMPARED_HEADERS if name not in left_out} == {
        name: expected.headers.get(name) for name in COMPARED_HEADERS if name not in left_out
    }
    assert found.vectors == ((0.0, 0.5), (1.0, 0.5))
    assert [list(vector) for vector in found.vectors] == [row["embedding"] for row in reply.data]
    assert (found.usage.prompt_tokens, found.usage.completion_tokens) == (reply.usage.prompt_tokens, 0)
    assert (found.model, found.attempts) == (model, 1)
    if model not in KEYLESS | {"hosted_vllm/bge"}:
        assert found.usage.cost_usd == (reply._hidden_params["response_cost"] or None)


def test_base64_is_read_as_numbers():
    with recording() as recorder:
        row = {"object": "embedding", "index": 0, "embedding": "AACAPwAAAEA="}
        reply = {"data": [row], "model": "m", "usage": {"prompt_tokens": 1, "total_tokens": 1}}
        recorder.failures.append((200, {}, json.dumps(reply).encode()))
        _, found = ours(recorder, "azure/text-embedding-3-small", ["x"], {})

    assert found.vectors == ((1.0, 2.0),)


def test_vectors_come_in_the_order_of_the_texts():
    with recording() as recorder:
        rows = [{"object": "embedding", "index": index, "embedding": [float(index)]} for index in (1, 0)]
        recorder.failures.append((200, {}, json.dumps({"data": rows, "model": "m"}).encode()))
        _, found = ours(recorder, "openai/my-own-model", TEXTS, {})

    assert found.vectors == ((0.0,), (1.0,))


def embedding(recorder: Recorder, **options: Any) -> LMClient:
    options = {"retry": AT_ONCE, "api_base": f"{recorder.url}/v1", "api_key": "s3cret-key", **options}
    return LMClient("openai/text-embedding-3-small", **options)


@pytest.mark.parametrize(
    ("status", "kind", "count"),
    [(429, LMRateLimited, 3), (500, LMUnavailable, 3), (401, LMAuthFailed, 1), (400, LMBadRequest, 1)],
)
async def test_failures_are_retried_like_any_calls(status: int, kind: type[LMError], count: int):
    with recording() as recorder:
        recorder.failures += [(status, {}, b'{"error": {"message": "no, s3cret-key"}}')] * 3
        async with embedding(recorder) as lm:
            with pytest.raises(kind) as caught:
                await lm.embed(TEXTS)

    assert len(recorder.seen) == caught.value.attempt == count
    assert "s3cret" not in str(caught.value)


async def test_one_that_succeeds_at_last_says_how_many_requests_it_took():
    with recording() as recorder:
        recorder.failures.append((503, {}, b""))
        async with embedding(recorder) as lm:
            found = await lm.embed(TEXTS)

    assert (found.attempts, len(found.vectors)) == (2, 2)
    assert repr(found).startswith("Embeddings(vectors=<2 vectors>, model='openai/text-embedding-3-small', ")


async def test_too_few_vectors_are_no_answer():
    with recording() as recorder:
        recorder.failures.append((200, {}, b'{"data": [], "model": "m"}'))
        async with embedding(recorder, retry=Retry(max_attempts=1)) as lm:
            with pytest.raises(LMReplyUnreadable, match=r"carries no embeddings that can be read \(ValueError\)"):
                await lm.embed(TEXTS)


async def test_a_budget_is_charged_and_may_refuse():
    budget = Budget(max_tokens=1010)
    with recording() as recorder:
        async with embedding(recorder, budget=budget) as lm:
            await lm.embed(TEXTS)
            with pytest.raises(LMBudgetExhausted):
                await lm.embed(["a longer text " * 20])

    assert (budget.tokens, budget.reserved_tokens, len(recorder.seen)) == (1000, 0, 1)


async def test_fallbacks_are_not_asked_because_their_vectors_mean_something_else():
    with recording() as recorder:
        recorder.failures += [(500, {}, b"")] * 3
        other = LMClient("openai/other", api_key="k", api_base=f"{recorder.url}/v1")
        async with embedding(recorder, fallbacks=[other]) as lm:
            with pytest.raises(LMUnavailable):
                await lm.embed(TEXTS)

    assert {seen.body["model"] for seen in recorder.seen} == {"text-embedding-3-small"}


@pytest.mark.parametrize(
    ("texts", "what"),
    [
        ("Hello", "expected a list of texts, got a str"),
        ([], "expected a list of texts, got an empty list"),
        ([""], "text 0 is empty, and no model takes that"),
        (["x", 1], "text 1 is a int, and no model takes that"),
    ],
)
async def test_what_is_no_text_is_refused(texts: Any, what: str):
    with recording() as recorder:
        async with embedding(recorder) as lm:
            with pytest.raises(UsageError) as caught:
                await lm.embed(texts)

    assert str(caught.value) == f"embed(): {what}.\n  Fix: pass a list such as ['Hello', 'Good day']."
    assert recorder.seen == []


def test_a_client_is_both_a_language_model_and_an_embedder():
    client = LMClient("openai/text-embedding-3-small")

    assert isinstance(client, Embedder)
    assert isinstance(client, LM)
