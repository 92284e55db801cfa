"""A key of which each event of a stream holds a few letters is in no file, in the form of any provider."""

from __future__ import annotations

import base64
import json
import random
import re
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import pytest
from trio.testing import MockClock

from runtime.lm.limits.redaction import redact
from runtime.record import Cassettes
from runtime.record.redacting import Redaction
from runtime.testing.network import Exchange, VirtualNetwork
from tests.runtime.lm import replies
from tests.runtime.record.test_providers import (
    AWS,
    BASE,
    CANARY,
    MODELS,
    SHAPES,
    answered,
    options_of,
    read,
    the_file,
)

pytestmark = pytest.mark.filterwarnings("ignore")  # of the libraries that sign

SECRET = f"{CANARY}/key+of-the-account"
SECRETS = (SECRET,)


def secret_of(name: str) -> str:
    """A key that the client has, of each provider."""
    return {"bedrock": AWS["aws_secret_access_key"], "vertex_ai": "ya29.s3cret-token"}.get(name, f"{CANARY}-key-of-the-account")


def spelled(text: str) -> str:
    """All that a recording says in texts, one after the other, by the names of their fields."""
    said: dict[str, str] = {}

    def visit(value: Any, name: str = "") -> None:
        if isinstance(value, dict):
            for key, each in value.items():
                visit(each, key)
        elif isinstance(value, list):
            for each in value:
                visit(each, name)
        elif isinstance(value, str):
            said[name] = said.get(name, "") + value
            if name == "text" and "{" in value:  # a body of which no piece is JSON by itself
                for found in re.finditer(r'"(\w+)": ?"((?:[^"\\]|\\.)*)"', value):
                    said[found[1]] = said.get(found[1], "") + json.loads(f'"{found[2]}"')

    visit(json.loads(text))
    return "\n".join(said.values())


@SHAPES
@pytest.mark.parametrize("cut", [37, 10_000])
async def test_a_key_that_a_stream_spells_is_in_no_file_and_the_replay_goes_on(
    name: str, cut: int, tmp_path: Path, virtual_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    secret = secret_of(name)
    monkeypatch.setattr(replies, "halves", list)
    monkeypatch.setattr(replies, "text_of", lambda kind: f"It is {secret}, größer.")

    def host(request: httpx.Request) -> Exchange:
        kind, body = replies.answer_to(request.url.raw_path.decode(), read(request.content), "text")
        return Exchange.reply(body, headers={"content-type": kind}).slowly(cut, 0.5)

    async with VirtualNetwork({"*": host}).client(MODELS[name], record=tmp_path, **options_of(name, BASE, with_keys=True)) as lm:
        live, came = await answered(lm, stream=True)
    async with VirtualNetwork().client(
        MODELS[name], record=Cassettes(tmp_path, mode="none"), **options_of(name, BASE, with_keys=False)
    ) as lm:
        again, back = await answered(lm, stream=True)

    assert live.text == f"It is {secret}, größer."
    assert again.text == "It is [redacted], größer."
    assert back[-1] == came[-1], "what comes after the key comes when it came"
    assert CANARY not in spelled(the_file(tmp_path)).lower()
    assert "s3cret" not in spelled(the_file(tmp_path))


def chunk(index: int, **delta: Any) -> bytes:
    return f"data: {json.dumps({'choices': [{'delta': delta, 'index': index}]})}\n\n".encode()


def contents(pieces: tuple[bytes, ...], index: int) -> str:
    """What the choice of this index says."""
    choices = [json.loads(piece[6:])["choices"][0] for piece in pieces]
    return "".join(choice["delta"].get("content", "") for choice in choices if choice["index"] == index)


def test_answers_that_come_by_turns_are_read_one_by_one() -> None:
    said = [f"A {SECRET}.", f"B {SECRET}!"]
    pieces = [chunk(index, content=letter) for letters in zip(*said, strict=True) for index, letter in enumerate(letters)]

    kept = Redaction().pieces(pieces, SECRETS)

    assert [contents(kept, index) for index in (0, 1)] == ["A [redacted].", "B [redacted]!"]
    assert len(kept) == len(pieces)
    assert all(kept)


def test_a_key_across_two_answers_of_one_event_is_found() -> None:
    document = {"candidates": [{"parts": [{"text": SECRET[:9]}, {"text": SECRET[9:]}]}, {"parts": [{"text": "no"}]}]}

    [first, second] = Redaction().pieces([json.dumps(document).encode(), b"\n"], SECRETS)

    assert json.loads(first)["candidates"][0]["parts"] == [{"text": "[redacted]"}, {"text": ""}]
    assert second == b"\n"


def test_letters_that_are_escaped_are_letters() -> None:
    pieces = [chunk(0, content="").replace(b'""', f'"\\u{ord(letter):04x}"'.encode()) for letter in f"<{SECRET}>"]

    kept = Redaction().pieces(pieces, SECRETS)

    assert contents(kept, 0) == "<[redacted]>"
    assert kept[0] == pieces[0]
    assert kept[-1] == pieces[-1]


def test_a_field_whose_json_comes_in_pieces_loses_what_it_says() -> None:
    arguments = json.dumps({"user": "ada", "password": 'hun"ter2', "then": "go"})
    pieces = [
        f"data: {json.dumps({'index': 1, 'delta': {'partial_json': arguments[at : at + 3]}})}\n\n".encode()
        for at in range(0, len(arguments), 3)
    ]

    kept = Redaction().pieces(pieces, ())

    joined = "".join(json.loads(piece[6:])["delta"]["partial_json"] for piece in kept)
    assert json.loads(joined) == {"user": "ada", "password": "[redacted]", "then": "go"}


def test_what_looks_like_a_key_is_found_in_one_field_of_one_answer_only() -> None:
    kept = Redaction().pieces([chunk(0, content="my sk-"), chunk(0, content="abc12345."), chunk(1, content="x")], ())
    apart = [chunk(0, content="my sk-"), chunk(1, content="abc12345.")]

    assert contents(kept, 0) == "my [redacted]."
    assert Redaction().pieces(apart, ()) == tuple(apart)


def test_a_stream_without_a_key_stays_as_it_is_to_the_byte() -> None:
    chance = random.Random(7)
    letters = 'abc"\\{}[]:,\n\r ü😀c4nary/'
    for _ in range(60):
        texts = ["".join(chance.choices(letters, k=chance.randrange(9))) for _ in range(8)]
        body = b"".join(chunk(chance.randrange(2), content=text) for text in texts)
        body += "".join(chance.choices(letters, k=30)).encode() * chance.randrange(2)
        cuts = sorted(chance.choices(range(len(body) + 1), k=4))
        pieces = [body[start:end] for start, end in zip([0, *cuts], [*cuts, len(body)], strict=True)]

        assert b"".join(Redaction().pieces(pieces, SECRETS)) == body


@pytest.mark.parametrize(
    "body", ['"' * 4_000, '"' + '\\"' * 2_000, '"a":' * 1_000, '"index":1,' * 1_000, "\n" * 4_000, '{"a":"' * 900]
)
def test_a_body_that_is_no_json_is_left_alone(body: str) -> None:
    assert b"".join(Redaction().pieces([body.encode(), b"x"], SECRETS)) == f"{body}x".encode()


@pytest.mark.parametrize("before", ["", "a", "ab", "Basic of some: "])
def test_a_key_in_base64_or_in_an_address_is_a_key(before: str) -> None:
    written = [base64.b64encode(f"{before}{SECRET}:more".encode()).decode()]
    written += [written[0].replace("+", "-").replace("/", "_"), quote(SECRET, safe="").lower()]
    for text in written:
        left = redact(f"<{text}>", SECRETS)

        assert "[redacted]" in left
        assert len(left) < len(text) - 15, "what is around it stays"
    assert redact("c4nary and more", SECRETS) == "c4nary and more"
