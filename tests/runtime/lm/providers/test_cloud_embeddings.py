"""Embeddings of clouds, which LiteLLM asks for in a thread: signed or with a token, read, priced, and by the error table."""

import json
from typing import Any

import pytest

from actors.errors import LMAuthFailed, LMRateLimited
from runtime.lm.client import LMClient
from runtime.lm.limits.budget import Budget
from runtime.lm.limits.retry import Retry
from tests.runtime.lm.google import service_account
from tests.runtime.lm.recorder import recording

pytestmark = pytest.mark.filterwarnings("ignore")  # of the libraries below

TOKEN = {"access_token": "ya29.s3cret-token", "expires_in": 3600, "token_type": "Bearer"}
CLOUDS: dict[str, tuple[str, dict[str, str], Any, str, str]] = {
    "bedrock": (
        "bedrock/amazon.titan-embed-text-v2:0",
        {"aws_access_key_id": "a", "aws_secret_access_key": "s3cret-aws", "aws_region_name": "eu-central-1"},
        {"embedding": [0.5, 0.25], "inputTextTokenCount": 3},
        "/model/amazon.titan-embed-text-v2%3A0/invoke",
        "AWS4-HMAC-SHA256 Credential=a/",
    ),
    "vertex_ai": (
        "vertex_ai/text-embedding-004",
        {"vertex_project": "p", "vertex_location": "us-central1"},
        {"predictions": [{"embeddings": {"values": [0.5, 0.25], "statistics": {"token_count": 3}}}]},
        "/v1/projects/p/locations/us-central1/publishers/google/models/text-embedding-004:predict",
        "Bearer ya29.s3cret-token",
    ),
}


@pytest.mark.parametrize("name", CLOUDS)
async def test_they_are_asked_for_read_and_charged(name: str):
    model, options, reply, path, authorization = CLOUDS[name]
    budget = Budget()
    with recording() as recorder:
        given = {**options, **({"vertex_credentials": service_account(recorder.url)} if name == "vertex_ai" else {})}
        async with LMClient(model, api_base=recorder.url, provider_options=given, retry=Retry(1), budget=budget) as lm:
            replies = [TOKEN, reply] if name == "vertex_ai" else [reply]
            recorder.failures += [(200, {}, json.dumps(each).encode()) for each in replies]
            embeddings = await lm.embed(["a"])
            recorder.failures.append((429, {"retry-after": "1"}, b'{"message": "slow down", "error": {"message": "slow"}}'))
            with pytest.raises((LMRateLimited, LMAuthFailed)) as caught:
                await lm.embed(["a"])

    assert embeddings.vectors == ((0.5, 0.25),)
    assert (embeddings.usage.prompt_tokens, embeddings.attempts, budget.tokens, budget.holders) == (3, 1, 3, 0)
    assert [(seen.path, seen.headers["authorization"].startswith(authorization)) for seen in recorder.seen] == [(path, True)] * 2
    assert type(caught.value) is LMRateLimited
    assert "s3cret" not in f"{caught.value} {lm!r} {embeddings!r}"
