"""Keys stand in no error and no cause of one, wherever a text is cut; and an error's body is read and searched in bounds."""

import json
import logging
import traceback
from collections.abc import Iterator

import httpx
import pytest
import trio

from actors.errors import LMBadRequest, LMError, LMReplyUnreadable, LMUnavailable
from runtime.lm.client import LMClient
from runtime.lm.http.http_messages import HttpRequest
from runtime.lm.http.transport import MAX_ERROR_BYTES, open_transport
from runtime.lm.limits import redaction
from runtime.lm.limits.redaction import excerpt, redact
from runtime.lm.limits.retry import Retry
from tests.runtime.lm.faking import HELLO, faking

KEY = "zq7-4kT9_wPx2LmN8vRb3YcD5sFg6HjK"
ONCE = Retry(max_attempts=1)


def everything(error: BaseException) -> Iterator[BaseException]:
    """`error` and all that is chained to it, shown or not."""
    pending, seen = [error], set[int]()
    while pending:
        current = pending.pop()
        if id(current) not in seen:
            seen.add(id(current))
            yield current
            pending += [each for each in (current.__cause__, current.__context__) if each is not None]
            pending += getattr(current, "exceptions", ())


def leaks(error: BaseException, length: int = 6) -> list[str]:
    """Where a piece of the key can be read."""
    pieces = {KEY[start : start + length] for start in range(len(KEY) - length + 1)}
    texts = ["".join(traceback.format_exception(error))]
    for each in everything(error):
        texts += [str(each), repr(each), repr(each.args), repr(vars(each))]
    return [text for text in texts for piece in pieces if piece in text]


async def failed(handle: object, *, streams: bool = False, key: str = KEY) -> LMError:
    async def read(lm: LMClient) -> None:
        if not streams:
            await lm.chat(HELLO)
            return
        async with lm.stream(HELLO) as stream:
            async for _ in stream:
                pass

    async with faking(handle, {"api_key": key, "retry": ONCE}) as (lm,):  # type: ignore[arg-type]
        with pytest.raises(LMError) as caught:
            await read(lm)
    return caught.value


@pytest.mark.parametrize("streams", [False, True])
@pytest.mark.parametrize("status", [200, 201, 302, 400, 401, 500])
@pytest.mark.parametrize("before", [0, 340, 370, 380, 399, 65_520])
async def test_c7_no_piece_of_a_key_is_left_wherever_the_text_is_cut(before: int, status: int, streams: bool):
    body = "x " * (before // 2) + f"key {KEY}, said the server to {KEY}"

    async def handle(request: httpx.Request) -> httpx.Response:
        return httpx.Response(status, text=body, headers={"location": f"http://elsewhere/{KEY}"})

    assert leaks(await failed(handle, streams=streams)) == []


@pytest.mark.parametrize(
    "body",
    [
        json.dumps({"choices": [{"message": KEY}]}),
        json.dumps({"choices": KEY, "note": KEY}),
        json.dumps({"error": {"message": f"Bearer {KEY}", "code": KEY}}),
        '{"choices": [' + KEY,
    ],
)
@pytest.mark.parametrize("streams", [False, True])
async def test_c7_no_key_stands_in_the_cause_of_an_unreadable_answer(body: str, streams: bool):
    async def handle(request: httpx.Request) -> httpx.Response:
        if streams:
            return httpx.Response(200, headers={"content-type": "text/event-stream"}, text=f"data: {body}\n\n")
        return httpx.Response(200, text=body, headers={"content-type": "application/json"})

    assert leaks(await failed(handle, streams=streams)) == []


async def test_c7_the_end_of_a_broken_stream_is_shown_without_a_key():
    pieces = [f"{KEY}"[:10], f"{KEY}"[10:], " " + "y" * 60]
    events = "".join(f"data: {json.dumps({'choices': [{'index': 0, 'delta': {'content': piece}}]})}\n\n" for piece in pieces)

    async def handle(request: httpx.Request) -> httpx.Response:
        return httpx.Response(200, headers={"content-type": "text/event-stream"}, text=events)

    assert leaks(await failed(handle, streams=True)) == []


async def test_c7_a_header_that_cannot_be_sent_is_not_quoted():
    async with open_transport() as transport:
        listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
        port = listeners[0].socket.getsockname()[1]
        with pytest.raises(LMBadRequest) as caught:
            await transport.send(HttpRequest("POST", f"http://127.0.0.1:{port}/", {"authorization": f"Bearer {KEY}\n"}))
        await listeners[0].aclose()

    assert leaks(caught.value) == []


async def test_c7_a_key_of_a_few_letters_is_not_cut_out_of_words(caplog: pytest.LogCaptureFixture):
    caplog.set_level(logging.WARNING, "understudy.lm")

    async def handle(request: httpx.Request) -> httpx.Response:
        return httpx.Response(400, json={"error": {"message": "too many tokens, ask for less"}})

    async with faking(handle, {"api_key": "k"}) as (lm,):
        for _ in range(2):
            with pytest.raises(LMBadRequest, match="too many tokens, ask for less"):
                await lm.chat(HELLO)

    assert [record.getMessage().partition(":")[0] for record in caplog.records] == [
        "the key for 'openai/m' has fewer than 8 characters"
    ]


@pytest.mark.parametrize("secret", ['quo"ted\\key', "with/slash+and=", "with space%2F", "ümläutkey"])
def test_c7_a_key_is_found_in_json_and_in_addresses_too(secret: str):
    for text in (json.dumps({"said": secret}), str(httpx.URL("http://host/", params={"key": secret})), repr(secret)[1:-1]):
        assert redact(text, (secret,)).count("[redacted]") == 1


def test_c7_what_is_cut_is_searched_before():
    assert excerpt("x" * 390 + KEY, (KEY,)) == "x" * 390 + "[redacted]"


# --- in bounds ----------------------------------------------------------------------------------------------------------


class Endless(httpx.AsyncByteStream):
    """An error that does not stop talking."""

    def __init__(self, piece: bytes, pieces: int) -> None:
        self.piece, self.pieces, self.sent = piece, pieces, 0

    async def __aiter__(self):
        while self.sent < self.pieces:
            self.sent += 1
            yield self.piece

    async def aclose(self) -> None:
        self.pieces = 0


@pytest.mark.parametrize("streams", [False, True])
@pytest.mark.parametrize("piece", [b"sk-" * 5_000, b"Bearer " * 2_000, b'{"error":"' * 1_500, b" " * 15_000])
async def test_a5_no_more_than_64_kb_of_an_error_is_read(piece: bytes, streams: bool):
    body = Endless(piece, 4_000)  # 60 MB

    async def handle(request: httpx.Request) -> httpx.Response:
        return httpx.Response(500, stream=body)

    error = await failed(handle, streams=streams)

    assert type(error) is LMUnavailable
    assert body.sent * len(piece) <= MAX_ERROR_BYTES + len(piece)
    assert len(str(error)) < 1_000


@pytest.mark.parametrize("body", [b"Bearer " * 2_000_000, b'{"choices": "' + b"sk-ab " * 2_000_000])
async def test_a5_an_unreadable_answer_is_searched_in_bounds(body: bytes, monkeypatch: pytest.MonkeyPatch):
    searched: list[int] = []
    keys = redaction.KEYS

    class Counting:
        def sub(self, other: str, text: str) -> str:
            searched.append(len(text))
            return keys.sub(other, text)

    monkeypatch.setattr(redaction, "KEYS", Counting())

    async def handle(request: httpx.Request) -> httpx.Response:
        return httpx.Response(200, content=body)

    error = await failed(handle)

    assert type(error) is LMReplyUnreadable
    assert searched
    assert max(searched) <= redaction.MAX_SEARCHED_CHARS
    assert all(len(str(each)) < 2_000 for each in everything(error))


async def test_a5_the_connection_of_a_long_error_is_closed_and_others_go_on():
    async def serve(stream: trio.SocketStream) -> None:
        try:
            await stream.receive_some()
            await stream.send_all(b"HTTP/1.1 500 No\r\ncontent-length: 60000000\r\n\r\n")
            for _ in range(1000):
                await stream.send_all(b"x" * 60_000)
        except trio.BrokenResourceError:
            closed.set()

    closed = trio.Event()
    async with trio.open_nursery() as nursery, open_transport() as transport:
        listeners = await nursery.start(trio.serve_tcp, serve, 0)
        port = listeners[0].socket.getsockname()[1]
        with trio.fail_after(10):
            reply = await transport.send(HttpRequest("POST", f"http://127.0.0.1:{port}/"))
            await closed.wait()
        nursery.cancel_scope.cancel()

    assert (reply.status, len(reply.body)) == (500, MAX_ERROR_BYTES)
