"""Calls of models are recorded into readable files and replayed from them: the same bytes at the same virtual times."""

from __future__ import annotations

import contextlib
import json
import re
from pathlib import Path
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from actors.errors import DeclarationError, LMBadRequest, LMRateLimited, LMUnavailable, UsageError
from actors.lm import TextDelta
from runtime import open_runtime
from runtime.lm.client import LMClient
from runtime.lm.limits.retry import Retry
from runtime.record import Cassettes, RecordingMissing, RecordingUnreadable
from runtime.record.cassettes import DEFAULT_MODE
from runtime.testing.network import Exchange, VirtualNetwork
from tests.runtime.testing.sessions import session

CANARY = "sk-canary-0123456789abcdef"
ASK = [{"role": "user", "content": "Name a star."}]


def answering(text: str, model: str = "gpt-4o-mini", **more: Any) -> dict[str, Any]:
    """A chat completion in OpenAI's form."""
    choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
    usage = {"prompt_tokens": 9, "completion_tokens": 3, "total_tokens": 12}
    return {"id": "x", "object": "chat.completion", "created": 1, "model": model, "choices": [choice], "usage": usage, **more}


def in_pieces(*texts: str) -> Exchange:
    """A streamed answer, a second apart."""
    base = {"id": "x", "object": "chat.completion.chunk", "created": 1, "model": "gpt-4o-mini"}
    parts = [{**base, "choices": [{"index": 0, "delta": {"content": text}, "finish_reason": None}]} for text in texts]
    parts.append({**base, "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
    events = [f"data: {json.dumps(part)}\n\n".encode() for part in parts]
    return Exchange.stream(*events, b"data: [DONE]\n\n", interval_s=1.0, latency_s=0.5)


def network(*replies: Exchange) -> VirtualNetwork:
    return VirtualNetwork({"api.openai.com": list(replies)})


async def replayed(folder: Path, mode: str = "none", messages: Any = ASK, **options: Any) -> Any:
    """The answer from the recordings, on a network without any host."""
    async with VirtualNetwork().client("openai/gpt-4o-mini", record=Cassettes(folder, mode=mode), **options) as lm:
        return await lm.chat(messages)


async def recorded(folder: Path, *replies: Exchange, mode: str | None = None, times: int = 1, **options: Any) -> list[Any]:
    async with network(*replies).client("openai/gpt-4o-mini", record=Cassettes(folder, mode=mode), **options) as lm:
        return [await lm.chat(ASK) for _ in range(times)]


def the_file(folder: Path) -> Path:
    [path] = folder.iterdir()
    return path


async def test_a_call_is_replayed_with_the_same_answer_at_the_same_time(tmp_path: Path, autojump_clock: MockClock) -> None:
    [first] = await recorded(tmp_path, Exchange.reply(answering("Vega"), latency_s=1.25))

    began = trio.current_time()
    second = await replayed(tmp_path)

    assert (second.text, second.usage) == (first.text, first.usage) == ("Vega", first.usage)
    assert trio.current_time() - began == 1.25


async def test_a_stream_is_replayed_piece_by_piece(tmp_path: Path, autojump_clock: MockClock) -> None:
    async def pieces(lm: LMClient) -> list[tuple[float, str]]:
        began = trio.current_time()
        async with lm.stream(ASK) as answer:
            return [(trio.current_time() - began, piece.text) async for piece in answer if isinstance(piece, TextDelta)]

    async with network(in_pieces("Ve", "ga")).client("openai/gpt-4o-mini", record=tmp_path) as lm:
        live = await pieces(lm)
    async with VirtualNetwork().client("openai/gpt-4o-mini", record=tmp_path) as lm:
        again = await pieces(lm)

    assert again == live
    assert [text for _, text in live if text] == ["Ve", "ga"]
    assert [at for at, text in live if text] == [0.5, 1.5]


async def test_a_replay_needs_no_key(tmp_path: Path, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch) -> None:
    await recorded(tmp_path, Exchange.reply(answering("Vega")))
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)

    async with LMClient("openai/gpt-4o-mini", record=Cassettes(tmp_path, mode="none")) as lm:
        answer = await lm.chat(ASK)

    assert answer.text == "Vega"


async def test_the_same_request_gets_its_replies_in_order(tmp_path: Path, autojump_clock: MockClock) -> None:
    await recorded(tmp_path, Exchange.reply(answering("Vega")), Exchange.reply(answering("Deneb")), times=2)

    async with VirtualNetwork().client("openai/gpt-4o-mini", record=tmp_path) as lm:
        texts = [(await lm.chat(ASK)).text, (await lm.chat(ASK)).text]
        with pytest.raises(RecordingMissing, match=r"is asked 3 times, and .* holds 2 replies"):
            await lm.chat(ASK)

    assert texts == ["Vega", "Deneb"]


async def test_replies_stand_in_the_order_of_their_requests(tmp_path: Path, autojump_clock: MockClock) -> None:
    slow, quick = Exchange.reply(answering("slow"), latency_s=5), Exchange.reply(answering("quick"), latency_s=1)
    async with network(slow, quick).client("openai/gpt-4o-mini", record=tmp_path) as lm, trio.open_nursery() as nursery:
        nursery.start_soon(lm.chat, ASK)
        await trio.sleep(0.1)
        nursery.start_soon(lm.chat, ASK)

    document = json.loads(the_file(tmp_path).read_text())

    assert [reply["end_s"] for reply in document["replies"]] == [5, 1]


async def test_failures_and_retries_are_replayed(tmp_path: Path, autojump_clock: MockClock) -> None:
    replies = (Exchange.too_many(2), Exchange.reply(answering("x")).cut(), Exchange.reply(answering("Vega")))
    [live] = await recorded(tmp_path, *replies, retry=Retry(max_attempts=3))

    again = await replayed(tmp_path, retry=Retry(max_attempts=3))
    with pytest.raises(LMRateLimited) as limited:
        await replayed(tmp_path, retry=Retry(max_attempts=1))

    assert (again.text, again.attempts) == (live.text, live.attempts) == ("Vega", 3)
    assert limited.value.retry_after_s == 2


async def test_a_network_that_was_down_is_down_again(tmp_path: Path, autojump_clock: MockClock) -> None:
    with pytest.raises(LMUnavailable) as live:
        await recorded(tmp_path, Exchange.dns_failure(), retry=Retry(max_attempts=1))

    with pytest.raises(LMUnavailable) as again:
        await replayed(tmp_path, retry=Retry(max_attempts=1))

    assert str(again.value) == str(live.value)


async def test_a_client_that_left_leaves_again(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with network(Exchange.never()).client("openai/gpt-4o-mini", record=tmp_path) as lm:
        with trio.move_on_after(3):
            await lm.chat(ASK)

    async with VirtualNetwork().client("openai/gpt-4o-mini", record=tmp_path) as lm:
        with trio.move_on_after(3) as scope:
            await lm.chat(ASK)
        with pytest.raises(RecordingMissing, match="is asked 2 times"):
            await lm.chat(ASK)
    with pytest.raises(RecordingMissing, match=r"its client left after 3 s; nothing came after that"):
        await replayed(tmp_path)

    assert scope.cancelled_caught


async def test_a_miss_names_what_differs_from_the_nearest(tmp_path: Path, autojump_clock: MockClock) -> None:
    await recorded(tmp_path, Exchange.reply(answering("Vega")))

    with pytest.raises(RecordingMissing) as missing:
        await replayed(tmp_path, messages=[{"role": "user", "content": "Name a planet."}])

    text = str(missing.value)
    assert '/messages/0/content: recorded "Name a star.", asked "Name a planet."' in text
    assert "the nearest of 1" in text
    assert "--understudy-record=new" in text


async def test_a_miss_makes_one_request_and_no_second_attempt(tmp_path: Path, autojump_clock: MockClock) -> None:
    empty = VirtualNetwork({"*": Exchange.reply(answering("never"))})
    async with empty.client("openai/gpt-4o-mini", record=Cassettes(tmp_path, mode="none"), fallbacks=[]) as lm:
        with pytest.raises(RecordingMissing, match="which holds none"):
            await lm.chat(ASK)

    assert empty.requests == []


@pytest.mark.parametrize(("mode", "texts"), [("once", None), ("new", ["Vega", "Deneb"]), ("all", ["Deneb", "Altair"])])
async def test_what_each_mode_does_with_one_call_too_many(
    mode: str, texts: list[str] | None, tmp_path: Path, autojump_clock: MockClock
) -> None:
    await recorded(tmp_path, Exchange.reply(answering("Vega")))
    later = [Exchange.reply(answering("Deneb")), Exchange.reply(answering("Altair"))]

    if texts is None:
        with pytest.raises(RecordingMissing):
            await recorded(tmp_path, *later, mode=mode, times=2)
        assert (await replayed(tmp_path)).text == "Vega"
    else:
        answers = await recorded(tmp_path, *later, mode=mode, times=2)
        assert [answer.text for answer in answers] == texts
        assert len(json.loads(the_file(tmp_path).read_text())["replies"]) == 2


@pytest.mark.parametrize("where", ["key", "message", "reply", "error", "header"])
async def test_no_key_is_ever_written(where: str, tmp_path: Path, autojump_clock: MockClock) -> None:
    said = f"the key is {CANARY}"
    replies = {
        "reply": Exchange.reply(answering(said)),
        "error": Exchange.reply({"error": {"message": said, "type": "x"}}, status=400),
        "header": Exchange.reply(answering("Vega"), headers={"set-cookie": CANARY, "openai-organization": CANARY}),
    }
    messages = [{"role": "user", "content": said if where == "message" else "Name a star."}]
    host = network(replies.get(where, Exchange.reply(answering("Vega"))))
    async with host.client("openai/gpt-4o-mini", api_key=CANARY, record=tmp_path, retry=Retry(max_attempts=1)) as lm:
        with pytest.raises(LMBadRequest) if where == "error" else contextlib.nullcontext():
            await lm.chat(messages)

    text = the_file(tmp_path).read_text()
    assert CANARY not in text
    assert json.loads(text)["replies"]


async def test_fields_that_the_user_names_are_redacted(tmp_path: Path, autojump_clock: MockClock) -> None:
    cassettes = Cassettes(tmp_path, redact=["user", re.compile(r"\bDE\d{20}\b")])
    messages = [{"role": "user", "content": "my account is DE12345678901234567890"}]
    async with network(Exchange.reply(answering("Vega"))).client("openai/gpt-4o-mini", record=cassettes) as lm:
        await lm.chat(messages, user="ann@example.org")

    text = the_file(tmp_path).read_text()
    again = Cassettes(tmp_path, mode="none", redact=["user", re.compile(r"\bDE\d{20}\b")])
    async with VirtualNetwork().client("openai/gpt-4o-mini", record=again) as lm:
        answer = await lm.chat(messages, user="bob@example.org")

    assert "ann@example.org" not in text
    assert "DE123" not in text
    assert answer.text == "Vega"


async def test_the_file_can_be_reviewed(tmp_path: Path, autojump_clock: MockClock) -> None:
    await recorded(tmp_path, Exchange.reply(answering("Wega, größer")))

    text = the_file(tmp_path).read_text(encoding="utf-8")
    document = json.loads(text)

    assert re.fullmatch(r"gpt-4o-mini-[0-9a-f]{16}\.json", the_file(tmp_path).name)
    assert document["request"]["body"]["messages"] == ASK
    [piece] = document["replies"][0]["pieces"]
    [style] = set(piece) - {"at_s"}
    assert piece[style]["choices"][0]["message"]["content"] == "Wega, größer"
    assert text.endswith("}\n")


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "it isn't JSON"),
        ("[]", "no field 'understudy_recording'"),
        ('{"understudy_recording": 2}', "its format is 2, and this release reads 1"),
        ('{"understudy_recording": 1}', "KeyError: 'request'"),
    ],
)
def test_a_damaged_file_is_named(text: str, why: str, tmp_path: Path) -> None:
    (tmp_path / "gpt-x.json").write_text(text)

    with pytest.raises(RecordingUnreadable, match=re.escape(why)) as unreadable:
        Cassettes(tmp_path).recordings()

    assert "gpt-x.json" in str(unreadable.value)


def test_wrong_arguments_are_rejected(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    wrong: list[tuple[Any, dict[str, Any], str]] = [
        ("", {}, "expected a folder"),
        (3, {}, "expected a folder"),
        (file, {}, "that is a file"),
        (tmp_path, {"mode": "often"}, "there is no such mode"),
        (tmp_path, {"redact": [3]}, "expected the name of a field"),
    ]
    for folder, options, words in wrong:
        with pytest.raises(DeclarationError, match=words):
            Cassettes(folder, **options)


def test_the_mode_comes_from_the_command_line(tmp_path: Path) -> None:
    source = """
        from runtime.record import Cassettes
        def test_mode(tmp_path):
            assert Cassettes(tmp_path).mode == "none"
            assert Cassettes(tmp_path, mode="new").mode == "new"
        """

    assert "1 passed" in session(tmp_path, source, "--understudy-record=none")
    wrong = session(tmp_path, source, "--understudy-record=often")
    assert wrong.startswith("ERROR: --understudy-record=often: expected one of none, once, new, all."), wrong
    assert DEFAULT_MODE.get() == "once"


async def test_a_provider_that_litellm_calls_itself_cannot_be_recorded(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with VirtualNetwork().client("sagemaker_chat/x", record=tmp_path) as lm:
        with pytest.raises(UsageError, match="so they can't be recorded"):
            await lm.chat(ASK)


async def test_a_whole_runtime_is_replayed_without_a_key(
    tmp_path: Path, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    await recorded(tmp_path, Exchange.reply(answering("Vega")))
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    runtime_options: dict[str, Any] = {"record": Cassettes(tmp_path, mode="none")}

    async with open_runtime(lm="openai/gpt-4o-mini", lms={"same": "openai/gpt-4o-mini"}, **runtime_options) as runtime:
        answer = await runtime.lm.chat(ASK)
        with pytest.raises(RecordingMissing, match="is asked 2 times"):
            await runtime.lms["same"].chat(ASK)
    async with open_runtime(lm="openai/gpt-4o-mini", **runtime_options) as runtime:
        again = await runtime.lm.chat(ASK)

    assert answer.text == again.text == "Vega"


async def test_fields_in_the_arguments_of_a_tool_are_redacted(tmp_path: Path, autojump_clock: MockClock) -> None:
    arguments = json.dumps({"user": "ann", "password": 'hunt"er2', "n": 1})
    call = {"id": "1", "type": "function", "function": {"name": "log_in", "arguments": arguments}}
    message = {"role": "assistant", "content": None, "tool_calls": [call]}
    reply = answering("") | {"choices": [{"index": 0, "message": message, "finish_reason": "tool_calls"}]}

    await recorded(tmp_path, Exchange.reply(reply))
    again = await replayed(tmp_path)

    assert "hunt" not in the_file(tmp_path).read_text()
    assert json.loads(again.tool_calls[0].arguments) == {"user": "ann", "password": "[redacted]", "n": 1}


async def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path, autojump_clock: MockClock) -> None:
    (tmp_path / "file").touch()
    folder = tmp_path / "file" / "below"

    with pytest.raises(UsageError, match=r"the recording .*below.* cannot be written: Not a directory"):
        await recorded(folder, Exchange.reply(answering("Vega")))
    async with network(Exchange.never()).client("openai/gpt-4o-mini", record=folder) as lm:
        with trio.move_on_after(1) as scope:
            await lm.chat(ASK)

    assert scope.cancelled_caught, "and a cancellation stays one"


async def test_a_recording_that_is_no_text_is_named(tmp_path: Path, autojump_clock: MockClock) -> None:
    await recorded(tmp_path, Exchange.reply(answering("Vega")))
    the_file(tmp_path).write_bytes(b"\xff\xfe")

    with pytest.raises(RecordingUnreadable, match="can't be read as a recording"):
        await replayed(tmp_path)
