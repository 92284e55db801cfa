"""Recordings of what each provider says in its own form, whole and in pieces, and no key of any of them in a file."""

from __future__ import annotations

import contextlib
import json
import re
from pathlib import Path
from typing import Any

import httpx
import pytest
import trio
from trio.testing import MockClock

from actors.errors import LMBadRequest
from actors.lm import Completion, TextDelta
from runtime.lm.client import LMClient
from runtime.lm.limits.retry import Retry
from runtime.record import Cassettes, RecordingMissing
from runtime.testing.network import Exchange, VirtualNetwork
from tests.runtime.lm.google import service_account
from tests.runtime.lm.recorder import recording
from tests.runtime.lm.replies import answer_to, aws_message

pytestmark = pytest.mark.filterwarnings("ignore")  # of the libraries that sign

ASK = [{"role": "user", "content": "Name a star."}]
BASE = "https://provider.test"
CANARY = "c4nary"
AWS = {"aws_access_key_id": f"AKIA{CANARY.upper() * 3}", "aws_secret_access_key": f"{CANARY}/secret+0123456789"}
AWS["aws_session_token"] = f"{CANARY}//session==token0123456789"
BEDROCK = "bedrock/anthropic.claude-3-7-sonnet-20250219-v1:0"
MODELS = {
    "openai": "openai/gpt-4o-mini",
    "azure": "azure/gpt-4o-mini",
    "anthropic": "anthropic/claude-sonnet-4-5",
    "gemini": "gemini/gemini-2.5-flash",
    "vertex_ai": "vertex_ai/gemini-2.5-flash",
    "bedrock": BEDROCK,
    "cohere_chat": "cohere_chat/command-a-03-2025",
    "ollama_chat": "ollama_chat/llama3",
}
BASES = {"openai": "/v1", "gemini": "/v1beta", "cohere_chat": "/v2/chat"}
OPEN: dict[str, dict[str, str]] = {
    "bedrock": {"aws_region_name": "eu-central-1"},
    "vertex_ai": {"vertex_location": "europe-west1", "vertex_project": "my-project"},
}
"""What is needed to make a request, and is no secret."""
SHAPES = pytest.mark.parametrize("name", MODELS)
STREAMED = pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])


def options_of(name: str, base: str, *, with_keys: bool) -> dict[str, Any]:
    """The client's, with canaries for keys or without any key."""
    given: dict[str, Any] = {"api_base": base + BASES.get(name, ""), "api_key": None, "retry": Retry(max_attempts=1)}
    options: dict[str, Any] = dict(OPEN.get(name, {}))
    if with_keys and name == "bedrock":
        options |= AWS
    elif with_keys and name == "vertex_ai":
        options["vertex_credentials"] = service_account(base)
    elif with_keys:
        given["api_key"] = f"{CANARY}-key-of-the-account"
    return {**given, "provider_options": options}


def host(request: httpx.Request) -> Exchange:
    """Answers in the form of whoever is asked; streams in pieces of 37 bytes, one each half second."""
    kind, body = answer_to(request.url.raw_path.decode(), read(request.content), "text")
    whole = Exchange.reply(body, headers={"content-type": kind}, latency_s=0.25)
    return whole.slowly(37, 0.5) if re.search("stream|ndjson", kind) else whole


def read(raw: bytes) -> Any:
    try:
        return json.loads(raw)
    except ValueError:
        return {}


async def answered(lm: LMClient, *, stream: bool) -> tuple[Completion, list[tuple[float, str]]]:
    """The answer, and its texts with the seconds after which they came."""
    began, came = trio.current_time(), list[tuple[float, str]]()
    if not stream:
        completion = await lm.chat(ASK, max_tokens=50)
        return completion, [(round(trio.current_time() - began, 6), completion.text)]
    async with lm.stream(ASK, max_tokens=50) as answer:
        async for piece in answer:
            if isinstance(piece, TextDelta):
                came.append((round(trio.current_time() - began, 6), piece.text))
    return answer.completion, came


def the_file(folder: Path) -> str:
    [path] = folder.iterdir()
    return path.read_text(encoding="utf-8")


def edit(folder: Path, old: str, new: str) -> None:
    [path] = folder.iterdir()
    path.write_text(path.read_text(encoding="utf-8").replace(old, new), encoding="utf-8")


@SHAPES
@STREAMED
async def test_each_form_is_replayed_without_a_key_at_the_same_times(
    name: str, stream: bool, tmp_path: Path, virtual_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    for variable in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE", "ANTHROPIC_API_KEY", "GEMINI_API_KEY"):
        monkeypatch.delenv(variable, raising=False)
    network = VirtualNetwork({"*": host})
    async with network.client(MODELS[name], record=tmp_path, **options_of(name, BASE, with_keys=True)) as lm:
        live = await answered(lm, stream=stream)

    nowhere = VirtualNetwork()
    replay = Cassettes(tmp_path, mode="none")
    async with nowhere.client(MODELS[name], record=replay, **options_of(name, BASE, with_keys=False)) as lm:
        again = await answered(lm, stream=stream)

    assert again == live
    assert "".join(text for _, text in live[1]) == "Hello!"
    assert (len({at for at, _ in live[1]}) > 1) == stream
    assert nowhere.requests == []
    assert CANARY not in the_file(tmp_path).lower()
    assert "base64" not in the_file(tmp_path), "what a person reviews is text"


@SHAPES
async def test_a_miss_names_the_field_in_each_form(name: str, tmp_path: Path, virtual_clock: MockClock) -> None:
    network = VirtualNetwork({"*": host})
    async with network.client(MODELS[name], record=tmp_path, **options_of(name, BASE, with_keys=True)) as lm:
        await answered(lm, stream=False)

    replay = Cassettes(tmp_path, mode="none")
    async with VirtualNetwork().client(MODELS[name], record=replay, **options_of(name, BASE, with_keys=False)) as lm:
        with pytest.raises(RecordingMissing) as missing:
            await lm.chat([{"role": "user", "content": "Name a planet."}], max_tokens=50)

    field = {"gemini": "/contents/0/parts/0/text", "vertex_ai": "/contents/0/parts/0/text"}.get(name, "/messages/0/content")
    assert re.search(rf'{field}(/0/text)?: recorded "Name a star\.", asked "Name a planet\."', str(missing.value))


def echo(headers: dict[str, str], path: str) -> bytes:
    """An error that repeats all that it was sent, as proxies and Amazon's services do."""
    said = f"Wrong: {path} {json.dumps(headers)} " + " ".join(f"{name}={value}" for name, value in headers.items())
    return json.dumps({"error": {"message": said, "code": 400}, "message": said}).encode()


@SHAPES
@STREAMED
async def test_no_key_is_in_a_file_even_if_the_provider_repeats_what_it_was_sent(name: str, stream: bool, tmp_path: Path) -> None:
    with recording() as provider:
        options = options_of(name, provider.url, with_keys=True)
        async with LMClient(MODELS[name], record=tmp_path, **options) as lm:
            await answered(lm, stream=stream)
            seen = provider.seen[-1]
            provider.failures.append((400, {"x-echo": json.dumps(seen.headers)}, echo(seen.headers, seen.path)))
            with pytest.raises(LMBadRequest):
                await answered(lm, stream=stream)
        sent = json.dumps(seen.headers)

    text = the_file(tmp_path)
    assert len(json.loads(text)["replies"]) == 2
    assert "[redacted]" in text
    assert (CANARY in sent) == (name != "vertex_ai")
    for secret in (CANARY, "ya29.", "s3cret", "PRIVATE KEY", *re.findall(r"Signature=(\w+)", sent)):
        assert secret not in text
    assert CANARY.upper() not in text


async def test_a_key_in_an_address_is_in_no_file(tmp_path: Path, virtual_clock: MockClock) -> None:
    network = VirtualNetwork({"*": lambda request: Exchange.reply(echo({}, str(request.url)), status=400)})
    base = f"https://provider.test/v1?key={CANARY}-key-0123&api-version=2&sig={CANARY}%2Bsig"
    async with network.client("openai/m", api_base=base, record=tmp_path, retry=Retry(max_attempts=1)) as lm:
        with contextlib.suppress(LMBadRequest):
            await lm.chat(ASK)

    assert CANARY in network.requests[0].url
    assert CANARY not in the_file(tmp_path)
    assert "api-version=2" in the_file(tmp_path)


@pytest.mark.parametrize("kind", ["application/json", "text/event-stream"])
@pytest.mark.parametrize("cut", [1, 5, 13])
async def test_a_key_that_the_network_cuts_is_found(cut: int, kind: str, tmp_path: Path, virtual_clock: MockClock) -> None:
    """In a reply whose pieces come one after the other, with letters of two bytes before the key."""
    body = f"größer: {CANARY}-key-of-the-account, and more".encode()
    reply = Exchange.reply(body, status=400, headers={"content-type": kind}).slowly(cut, 1.0)
    network = VirtualNetwork({"*": reply})
    async with network.client("openai/m", api_key=f"{CANARY}-key-of-the-account", record=tmp_path) as lm:
        with pytest.raises(LMBadRequest):
            await lm.chat(ASK)

    [answer] = json.loads(the_file(tmp_path))["replies"]
    assert "".join(piece["text"] for piece in answer["pieces"]) == "größer: [redacted], and more"
    assert answer["pieces"][-1]["at_s"] == pytest.approx((len(body) - 1) // cut)


async def test_a_stream_of_amazons_can_be_read_and_edited_and_loses_keys_with_its_checksums_right(
    tmp_path: Path, virtual_clock: MockClock
) -> None:
    said = [f"The key is {AWS['aws_secret_access_key']}", ", größer."]
    deltas = [{"delta": {"text": text}, "contentBlockIndex": 0} for text in said]
    parts: list[tuple[dict[str, Any], str]] = [
        ({"role": "assistant"}, "messageStart"),
        *((delta, "contentBlockDelta") for delta in deltas),
    ]
    parts.append(({"stopReason": "end_turn"}, "messageStop"))
    body = b"".join(aws_message(payload, event_type=kind, message_type="event") for payload, kind in parts)
    reply = Exchange.reply(body, headers={"content-type": "application/vnd.amazon.eventstream"}).slowly(64, 1.0)
    options = options_of("bedrock", BASE, with_keys=True)
    async with VirtualNetwork({"*": reply}).client(BEDROCK, record=tmp_path, **options) as lm:
        live, _ = await answered(lm, stream=True)

    text = the_file(tmp_path)
    edit(tmp_path, "größer", "kleiner")
    async with VirtualNetwork().client(BEDROCK, record=tmp_path, **options) as lm:
        again, _ = await answered(lm, stream=True)

    assert live.text == "".join(said)
    assert again.text == "The key is [redacted], kleiner."
    first = json.loads(text)["replies"][0]["pieces"][0]["messages"][0]
    assert first["headers"] == {":event-type": "messageStart", ":message-type": "event"}
    assert CANARY not in text
