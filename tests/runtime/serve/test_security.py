"""Who may do what from where, on the wire: shapes of requests that servers read in different ways, and what pages may send."""

from __future__ import annotations

import json
import logging
from collections.abc import AsyncIterator
from typing import Any

import pytest
import trio
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from runtime.core.origin import Origin, current_origin, origin_of
from runtime.serve import AGUIFace, MCPFace, OpenAIFace, Service
from runtime.telemetry import LogEvents, Tracing
from tests.patience import PATIENCE_S
from tests.runtime.serve.cast import Keys, answers, serving
from tests.runtime.serve.listening import SERVERS, listening

START = "/v1/graphs/answers/runs"
OURS = "https://ours.example"

# --- shapes of requests -----------------------------------------------------------------------------------------------

SMUGGLED = json.dumps({"input": {"text": "a"}, "run_id": "smuggled"}).encode()
HIDDEN = b"POST %s HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s" % (
    START.encode(),
    len(SMUGGLED),
    SMUGGLED,
)


def shape(headers: bytes, body: bytes, line: bytes = b"POST /v1/graphs/answers/runs HTTP/1.1") -> bytes:
    return line + b"\r\nHost: localhost\r\nContent-Type: application/json\r\n" + headers + b"\r\n\r\n" + body


SHAPES = {
    "both lengths": shape(b"Content-Length: 3\r\nTransfer-Encoding: chunked", b"0\r\n\r\n" + HIDDEN),
    "both lengths, the other way": shape(
        b"Transfer-Encoding: chunked\r\nContent-Length: %d" % len(HIDDEN), b"0\r\n\r\n" + HIDDEN
    ),
    "two lengths": shape(b"Content-Length: 0\r\nContent-Length: %d" % len(HIDDEN), HIDDEN),
    "a list of lengths": shape(b"Content-Length: 0, %d" % len(HIDDEN), HIDDEN),
    "a signed length": shape(b"Content-Length: +0", HIDDEN),
    "a negative length": shape(b"Content-Length: -1", HIDDEN),
    "a length in hexadecimal": shape(b"Content-Length: 0x0", HIDDEN),
    "an encoding twice": shape(b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity", b"0\r\n\r\n" + HIDDEN),
    "an unknown encoding": shape(b"Transfer-Encoding: xchunked", HIDDEN),
    "an encoding with a space": shape(b"Transfer-Encoding : chunked", b"0\r\n\r\n" + HIDDEN),
    "an encoding in a folded line": shape(b"X: y\r\n Transfer-Encoding: chunked", b"0\r\n\r\n" + HIDDEN),
    "a chunk that is too long": shape(b"Transfer-Encoding: chunked", b"fffffffffffffffff0\r\n" + HIDDEN),
    "a chunk without a number": shape(b"Transfer-Encoding: chunked", b"zz\r\n" + HIDDEN),
    "no host": b"POST /v1/graphs/answers/runs HTTP/1.1\r\nContent-Length: 0\r\n\r\n",
    "two hosts": shape(b"Host: evil.example\r\nContent-Length: 0", b""),
    "a zero in a header": shape(b"X: a\x00b\r\nContent-Length: 0", b""),
    "a line end in a header": shape(b"X: a\rb\r\nContent-Length: 0", b""),
    "a space before the colon": shape(b"Content-Length : 0", HIDDEN),
    "headers without an end": b"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + b"a" * 200_000,
    "no request": b"\x16\x03\x01\x00\xa5\x01\x00\x00\xa1\x03\x03" * 20,
}


UPGRADES = {
    "to HTTP/2": b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n"
    b"HTTP2-Settings: AAMAAABkAAQAoAAAAAIAAAAA\r\n\r\n",
    "to HTTP/2 without settings": b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n",
    "to a web socket": b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n",
}


@pytest.mark.parametrize("name", UPGRADES)
async def test_a_request_is_answered_in_its_own_protocol(name: str) -> None:
    """A proxy that passes an upgrade on sees none of the requests behind it."""
    async with listening("hypercorn", Service([answers()])) as address:
        assert await statuses(int(address.rpartition(":")[2]), UPGRADES[name]) == [200]


async def test_who_begins_with_another_protocol_is_hung_up_on() -> None:
    async with listening("hypercorn", Service([answers()])) as address:
        with trio.fail_after(PATIENCE_S):
            async with await trio.open_tcp_stream("127.0.0.1", int(address.rpartition(":")[2])) as stream:
                await stream.send_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
                assert b"".join([part async for part in stream]).startswith(b"HTTP/1.1 4")


@pytest.fixture(params=SERVERS)
async def address(request: pytest.FixtureRequest) -> AsyncIterator[str]:
    async with listening(request.param, Service([answers()])) as address:
        yield address


async def statuses(port: int, message: bytes) -> list[int]:
    """Of all answers to `message`, until the server closes or has nothing to say for a while."""
    received = b""
    async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
        try:
            await stream.send_all(message)
            with trio.move_on_after(0.3):
                while part := await stream.receive_some():
                    received += part
        except trio.BrokenResourceError:
            pass  # closed with something unread: as good a refusal as any
    return [int(part.split(b" ", 1)[0]) for part in received.split(b"HTTP/1.1 ")[1:]]


@pytest.mark.slow
async def test_a_request_that_servers_read_in_different_ways_hides_no_other(address: str) -> None:
    """Behind a proxy that reads it in another way, the hidden one would be somebody else's."""
    port = int(address.rpartition(":")[2])
    found: dict[str, list[int]] = {}

    async def send(name: str, message: bytes) -> None:
        found[name] = await statuses(port, message)

    with trio.fail_after(PATIENCE_S):
        async with trio.open_nursery() as nursery:
            for name, message in SHAPES.items():
                nursery.start_soon(send, name, message)
        whole = b"GET /v1/runs HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
        async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
            await stream.send_all(whole)
            listed = b"".join([part async for part in stream])

    assert {name: codes for name, codes in found.items() if any(not 400 <= code < 500 and code != 501 for code in codes)} == {}
    assert b'{"runs":[]}' in listed


# --- pages ------------------------------------------------------------------------------------------------------------


def preflight(method: str = "POST", headers: str = "authorization,content-type,x-stainless-lang", **more: str) -> dict[str, str]:
    return {
        "origin": OURS,
        "access-control-request-method": method,
        "access-control-request-headers": headers,
        "authorization": "",
        **more,
    }


async def test_a_page_that_is_named_may_ask_first_on_every_route_without_a_key() -> None:
    faces: list[Any] = [OpenAIFace(), MCPFace(), AGUIFace()]
    async with serving(auth=Keys().auth, cors=[OURS], faces=faces) as client:
        for path in (START, "/v1/runs", "/v1/chat/completions", "/v1/responses", "/mcp", "/agui/answers"):
            reply = await client.call("OPTIONS", path, headers=preflight())
            assert (reply.status, reply.headers["access-control-allow-origin"]) == (200, OURS)
            assert "x-stainless-lang" in reply.headers["access-control-allow-headers"]
            assert "DELETE" in reply.headers["access-control-allow-methods"]
            assert "access-control-allow-credentials" not in reply.headers
            assert "Origin" in reply.headers["vary"]

        evil = await client.call("OPTIONS", START, headers=preflight(origin="https://evil.example"))
        assert "access-control-allow-origin" not in evil.headers
        assert evil.status == 400
        assert (await client.call("OPTIONS", START, headers=preflight(host="evil.example"))).problem == "unknown-host"
        assert (await client.call("OPTIONS", START, headers=preflight("PUT"))).status == 400


async def test_a_page_that_is_named_can_read_refusals() -> None:
    keys = Keys()
    async with serving(auth=keys.auth, cors=[OURS], faces=[OpenAIFace()]) as client:
        ann = client.of(keys.ann)
        for reply in (
            await client.get("/v1/runs", headers={"origin": OURS}),
            await ann.get("/v1/runs/none", headers={"origin": OURS}),
            await ann.post(START, {"input": 3}, headers={"origin": OURS}),
            await ann.post("/v1/chat/completions", {}, headers={"origin": OURS}),
        ):
            assert 400 <= reply.status < 500
            assert reply.headers["access-control-allow-origin"] == OURS
            assert "X-Run-Id" in reply.headers["access-control-expose-headers"]


async def test_nobody_gets_a_cookie_and_nobody_is_let_in_by_one() -> None:
    keys = Keys()
    faces: list[Any] = [OpenAIFace(), MCPFace(), AGUIFace()]
    async with serving(auth=keys.auth, faces=faces) as client:
        ann = client.of(keys.ann)
        replies = [await ann.get(path) for path in ("/v1/runs", "/inspector/", "/openapi.json", "/v1/models", "/mcp", "/none")]
        replies.append(await ann.start("a"))
        assert not any("set-cookie" in reply.headers for reply in replies)
        assert (await client.get("/v1/runs", headers={"cookie": f"authorization=Bearer {keys.ann}"})).status == 401


# --- what leaves the process ------------------------------------------------------------------------------------------


async def test_what_runs_hold_reaches_neither_logs_nor_spans(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    async with serving(instruments=[LogEvents(), Tracing(provider)]) as client:
        assert (await client.start("the secret text")).json()["output"] == {"text": "THE SECRET TEXT"}

    spans = "".join(span.to_json() for span in exporter.get_finished_spans())
    assert "answers" in spans
    assert "secret" not in spans.lower()
    assert "answers" in caplog.text
    assert "secret" not in caplog.text.lower()


PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
TRACE, SPAN = 0x0AF7651916CD43DD8448EB211C80319C, 0xB7AD6B7169203331


@pytest.mark.parametrize(
    ("header", "origin"),
    [
        (PARENT, Origin(TRACE, SPAN, True)),
        (PARENT[:-1] + "0", Origin(TRACE, SPAN, False)),
        ("cc" + PARENT[2:] + "-more", Origin(TRACE, SPAN, True)),
        (PARENT + "-more", None),
        ("ff" + PARENT[2:], None),
        (PARENT.upper(), None),
        (PARENT.replace("b7ad6b7169203331", "0" * 16), None),
        (PARENT.replace("0af7651916cd43dd8448eb211c80319c", "0" * 32), None),
        (PARENT[:-3], None),
        ("", None),
        ("00-é", None),
    ],
)
def test_a_parent_elsewhere_is_read_as_the_standard_has_it(header: str, origin: Origin | None) -> None:
    assert origin_of(header) == origin


def test_a_long_state_is_dropped_and_the_parent_kept() -> None:
    assert origin_of(PARENT, "a=1") == Origin(TRACE, SPAN, True, "a=1")
    assert origin_of(PARENT, "a=" + "1" * 600) == Origin(TRACE, SPAN, True)


async def test_a_run_hangs_below_the_callers_span() -> None:
    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    async with serving(instruments=[Tracing(provider)]) as client:
        hostile = [",,=;\t=", "=", "A=1,a=1,a=2", "a=" + "\x7f" * 9, ",".join(f"k{n}=v" for n in range(40)), "k@@v=1"]
        for headers in (
            {"traceparent": PARENT, "tracestate": "a=1"},
            {"traceparent": "rubbish"},
            {},
            *({"traceparent": PARENT, "tracestate": state} for state in hostile),
        ):
            await client.post(START, {"input": {"text": "a"}}, headers={**headers, "prefer": "wait=9"})
            assert current_origin() is None

    runs = [span for span in exporter.get_finished_spans() if span.name == "invoke_workflow answers"]
    assert runs[0].parent is not None
    assert (runs[0].parent.trace_id, runs[0].parent.span_id, runs[0].parent.is_remote) == (TRACE, SPAN, True)
    assert runs[0].parent.trace_state.get("a") == "1"
    assert [run.parent for run in runs[1:3]] == [None, None]
    assert [run.parent is not None and run.parent.trace_id for run in runs[3:]] == [TRACE] * len(hostile), "and is not dropped"
