"""No key, AWS secret or Google token in anything that is shown: of every provider, when a call succeeds and when it fails."""

import json
import logging
import traceback
from typing import Any

import pytest

from actors.errors import LMBadRequest
from runtime.lm.client import LMClient
from runtime.lm.limits.retry import Retry
from tests.runtime.lm.google import service_account
from tests.runtime.lm.providers.test_differential import MESSAGES
from tests.runtime.lm.providers.test_provider_matrix import PROVIDERS
from tests.runtime.lm.recorder import Recorder, recording

pytestmark = pytest.mark.filterwarnings("ignore")  # of the libraries below

SECRETS = ("s3cret", "PRIVATE KEY")
EXTRA: dict[str, dict[str, Any]] = {
    "bedrock": {"aws_session_token": "s3cret-session"},
}
SENT = {"bedrock": "s3cret and s3cret-session", "vertex_ai": "ya29.s3cret-token"}
MODELS = {**{name: provider.model for name, provider in PROVIDERS.items()}, "databricks": "m"}


def client_of(name: str, recorder: Recorder) -> LMClient:
    provider = PROVIDERS.get(name)
    options = {**(provider.options if provider else {}), **EXTRA.get(name, {})}
    if name == "vertex_ai":
        options["vertex_credentials"] = service_account(recorder.url)
    key = "s3cret-key" if name not in {"bedrock", "vertex_ai"} else None
    base = recorder.url + (provider.base if provider else "/v1")
    return LMClient(f"{name}/{MODELS[name]}", api_key=key, api_base=base, retry=Retry(1), provider_options=options)


def shown(lm: LMClient) -> list[object]:
    """What of a client, inside and out, may end up in a message."""
    translator = lm._translator
    route = translator.route()
    exchange = translator.request(MESSAGES, {})
    link = lm._requester.link
    return [lm, lm._requester, lm._settings, translator, route, route.sign_in, route.authority, exchange, exchange.threaded, link]


@pytest.mark.parametrize("name", MODELS)
async def test_no_secret_is_shown(name: str, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]):
    caplog.set_level(logging.DEBUG)
    echo = {"message": f"Wrong: {SENT.get(name, 's3cret-key')}", "code": 400}
    with recording() as recorder:
        async with client_of(name, recorder) as lm:
            completion = await lm.chat(MESSAGES)
            recorder.failures.append((400, {}, json.dumps({"error": echo, "message": echo["message"]}).encode()))
            with pytest.raises(LMBadRequest) as caught:
                await lm.chat(MESSAGES)
            texts = [repr(thing) for thing in [*shown(lm), completion, caught.value]]

    texts += [str(caught.value), *traceback.format_exception_only(caught.value)]
    logged = [record.getMessage() for record in caplog.records]
    printed = capfd.readouterr()
    for text in [*texts, *logged, printed.out, printed.err]:
        assert not any(secret in text for secret in SECRETS), text[:300]
