"""Vertex AI: the access token, made once for all calls, renewed in time, and never in the way of a cancellation."""

import importlib
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio

from actors.errors import DeclarationError, LMAuthFailed, LMUnavailable
from actors.restarts import Backoff
from runtime.lm.client import LMClient
from runtime.lm.limits.retry import Retry
from runtime.lm.providers.translation import Translator
from runtime.lm.providers.vertex import check_google_auth, project_of
from tests.runtime.lm.google import service_account
from tests.runtime.lm.recorder import Recorder, recording

pytestmark = pytest.mark.filterwarnings("ignore")  # google-auth's, about versions of Python

HELLO = [{"role": "user", "content": "Hello"}]
MODEL = "vertex_ai/gemini-2.5-flash"
AT_ONCE = Retry(max_attempts=3, backoff=Backoff(first_s=0.001, cap_s=0.001, jitter=0))


@pytest.fixture(autouse=True)
def _no_credentials_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (
        "GOOGLE_APPLICATION_CREDENTIALS",
        "GOOGLE_CLOUD_PROJECT",
        "VERTEXAI_CREDENTIALS",
        "VERTEXAI_LOCATION",
        "VERTEXAI_PROJECT",
    ):
        monkeypatch.delenv(name, raising=False)


@asynccontextmanager
async def asking(**more: Any) -> AsyncIterator[tuple[Recorder, LMClient]]:
    with recording() as recorder:
        options = {"vertex_credentials": service_account(recorder.url)}
        arguments = {"api_base": recorder.url, "retry": AT_ONCE, "provider_options": options, **more}
        async with LMClient(MODEL, **arguments) as lm:
            yield recorder, lm


async def test_one_token_serves_all_calls():
    async with asking() as (recorder, lm):
        async with trio.open_nursery() as nursery:
            for _ in range(5):
                nursery.start_soon(lm.chat, HELLO)
        await lm.chat(HELLO)

    assert [seen.path for seen in recorder.others] == ["/token"]
    assert [seen.headers["authorization"] for seen in recorder.seen] == ["Bearer ya29.s3cret-token"] * 6
    place = "/v1/projects/my-project/locations/us-central1/publishers/google/models/gemini-2.5-flash:generateContent"
    assert {seen.path for seen in recorder.seen} == {place}


async def test_a_token_that_has_ended_is_renewed(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("runtime.lm.providers.vertex.USABLE_S", 0.0)
    credentials: Any = importlib.import_module("google.auth.credentials").Credentials
    async with asking() as (recorder, lm):
        await lm.chat(HELLO)
        await lm.chat(HELLO)
        assert len(recorder.others) == 1  # google-auth says that it is still good
        monkeypatch.setattr(credentials, "expired", True)
        await lm.chat(HELLO)

    assert len(recorder.others) == 2


async def test_credentials_in_a_file_that_the_environment_names_are_found(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    with recording() as recorder:
        file = tmp_path / "key.json"
        file.write_text(service_account(recorder.url, project="their-project"))
        monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(file))
        monkeypatch.setenv("VERTEXAI_LOCATION", "europe-west4")
        async with LMClient(MODEL, api_base=recorder.url) as lm:
            await lm.chat(HELLO)

    assert "/projects/their-project/locations/europe-west4/" in recorder.seen[0].path
    assert len(recorder.others) == 1


def test_the_project_is_found_in_json_that_has_no_slash_for_longer_than_a_name_may_be(tmp_path: Path):
    fields = {"private_key": "A" * 2000, "project_id": "mine"}
    (tmp_path / "key.json").write_text(json.dumps(fields))

    for given in (json.dumps(fields), "\n " + json.dumps(fields), str(tmp_path / "key.json"), fields):
        assert project_of("vertex_ai/m", {"vertex_credentials": given}) == "mine"


async def test_a_token_of_ones_own_is_sent_as_it_is():
    with recording() as recorder:
        options = {"vertex_project": "p"}
        async with LMClient(MODEL, api_key="s3cret-own", api_base=recorder.url, provider_options=options) as lm:
            await lm.chat(HELLO)

    assert recorder.seen[0].headers["authorization"] == "Bearer s3cret-own"
    assert recorder.others == []


async def test_a_token_service_that_is_down_is_asked_as_often_as_the_client_may():
    async with asking() as (recorder, lm):
        recorder.failures += [(503, {}, b"{}")] * 9
        with pytest.raises(LMUnavailable, match=r"request 3 of 3: the token service answered HTTP 503\.\n  Fix: "):
            await lm.chat(HELLO)

    assert (len(recorder.others), recorder.seen) == (3, [])


async def test_credentials_that_are_refused_are_an_error_of_the_table():
    async with asking() as (recorder, lm):
        recorder.failures.append((400, {}, json.dumps({"error": "invalid_grant", "error_description": "No."}).encode()))
        with pytest.raises(LMAuthFailed, match=r"Google gives no access token \(RefreshError: .*invalid_grant") as caught:
            await lm.chat(HELLO)

    assert caught.value.attempt == 1
    assert recorder.seen == []
    assert "PRIVATE KEY" not in str(caught.value)


async def test_a_cancelled_call_does_not_wait_for_its_token():
    """The token service never answers; were its request not cancelled with the call, this test would not end."""
    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    url = f"http://127.0.0.1:{listeners[0].socket.getsockname()[1]}"
    asked, gone, ended = trio.Event(), trio.Event(), trio.Event()

    async def never_answer(stream: trio.SocketStream) -> None:
        while await stream.receive_some():
            asked.set()
        gone.set()

    async def call(lm: LMClient, scope: trio.CancelScope) -> None:
        with scope:
            await lm.chat(HELLO)
        ended.set()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.serve_listeners, never_answer, listeners)
        async with LMClient(MODEL, provider_options={"vertex_credentials": service_account(url)}) as lm:
            scope = trio.CancelScope()
            nursery.start_soon(call, lm, scope)
            await asked.wait()
            scope.cancel()
            await gone.wait()
            await ended.wait()
        nursery.cancel_scope.cancel()

    assert scope.cancelled_caught


def test_without_a_project_the_error_says_where_to_name_one():
    options = {"vertex_credentials": service_account("http://127.0.0.1:9", project=None)}
    with pytest.raises(DeclarationError) as caught:
        Translator(MODEL, provider_options=options).route()

    assert str(caught.value) == (
        f"LMClient({MODEL!r}): no project of Google Cloud is named, and the credentials name none.\n"
        "  Fix: set VERTEXAI_PROJECT, or pass LMClient(..., provider_options={'vertex_project': …})."
    )


def not_there(name: str) -> None:
    raise ModuleNotFoundError(name)


@pytest.mark.parametrize("find", [lambda name: None, not_there])
def test_without_google_auth_the_error_says_what_to_install(find: Any):
    with pytest.raises(DeclarationError) as caught:
        check_google_auth(MODEL, find)

    assert str(caught.value).endswith("  Fix: pip install 'understudy[vertex]', or pass your own token as api_key.")


def test_models_of_other_makers_are_left_to_litellm():
    options = {"vertex_project": "p"}

    assert Translator("vertex_ai/claude-sonnet-4-5", provider_options=options).route().is_threaded
    assert not Translator(MODEL, api_key="t", provider_options=options).route().is_threaded
