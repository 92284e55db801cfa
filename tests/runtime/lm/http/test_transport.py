import inspect
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest
import trio

from actors.errors import (
    DeclarationError,
    LMBadRequest,
    LMReplyUnreadable,
    LMTimeout,
    LMUnavailable,
    UnderstudyError,
    UsageError,
)
from runtime.lm.http.http_errors import FOREIGN_ERRORS
from runtime.lm.http.http_messages import HttpReply, HttpRequest
from runtime.lm.http.transport import HttpTransport, open_transport
from runtime.testing.loopback import Failure, LoopbackProvider, ModelScript, open_loopback

BODY = b'{"model": "m", "messages": [{"role": "user", "content": "hi"}]}'


def post(provider: LoopbackProvider) -> HttpRequest:
    return HttpRequest("POST", f"{provider.api_base}/chat/completions", {"content-type": "application/json"}, BODY)


@asynccontextmanager
async def serving(script: ModelScript | str, **options: Any) -> AsyncIterator[tuple[LoopbackProvider, HttpTransport]]:
    async with open_loopback({"m": script}, unused="ok") as provider, open_transport(**options) as transport:
        yield provider, transport


async def test_a_request_goes_out_and_the_whole_reply_comes_back():
    async with serving("hello") as (provider, transport):
        reply = await transport.send(post(provider))

    assert reply.status == 200
    assert reply.headers["content-type"] == "application/json"
    assert b'"hello"' in reply.body
    assert len(provider.requests) == 1


async def test_a_status_is_a_reply_and_not_an_error():
    async with serving(ModelScript("hello", failures=(Failure.status(503),))) as (provider, transport):
        reply = await transport.send(post(provider))

    assert reply.status == 503


async def test_cancelling_closes_the_connection_and_the_provider_sees_it(patient_clock: trio.abc.Clock):
    async with serving(ModelScript("late", latency_s=3600)) as (provider, transport):
        with trio.move_on_after(1) as scope:
            await transport.send(post(provider))
        record = await provider.wait_ended(1)

        assert scope.cancelled_caught
        assert record.cancelled_by_client
        assert transport.statistics().in_flight == 0


async def test_no_more_requests_are_in_flight_than_there_are_connections(patient_clock: trio.abc.Clock):
    async with serving(ModelScript("hello", latency_s=1), max_connections=3) as (provider, transport):
        async with trio.open_nursery() as nursery:
            for _ in range(10):
                nursery.start_soon(transport.send, post(provider))

    assert provider.max_in_flight == 3
    assert trio.current_time() == pytest.approx(4, abs=0.01)


async def test_a_stream_gives_the_headers_before_the_body(patient_clock: trio.abc.Clock):
    script = ModelScript("hello", failures=(Failure.slow_body(piece_bytes=32, interval_s=5),))
    async with serving(script) as (provider, transport), transport.stream(post(provider)) as reply:
        at_headers_s = trio.current_time()
        chunks = [chunk async for chunk in reply.chunks]

        assert reply.status == 200
        assert trio.current_time() > at_headers_s
        assert len(chunks) > 2
        assert b'"hello"' in b"".join(chunks)


async def test_leaving_a_stream_early_closes_the_connection(patient_clock: trio.abc.Clock):
    script = ModelScript("hello", failures=(Failure.slow_body(interval_s=100),))
    async with serving(script) as (provider, transport):
        async with transport.stream(post(provider)) as reply:
            async for _ in reply.chunks:
                break
        record = await provider.wait_ended(1)

        assert record.cancelled_by_client
        assert transport.statistics().in_flight == 0


async def test_a_reply_above_the_limit_is_refused():
    async with serving("x" * 10_000, max_reply_bytes=5_000) as (provider, transport):
        with pytest.raises(
            LMReplyUnreadable, match=r"^the reply from http://127\.0\.0\.1:\d+/v1/chat/completions is larger than 5000 bytes"
        ):
            await transport.send(post(provider))

        assert transport.statistics().in_flight == 0


@pytest.mark.parametrize("failure", [Failure.disconnect(), Failure.disconnect_mid_body()])
async def test_a_connection_that_breaks_is_unavailable_with_its_cause(failure: Failure):
    async with serving(ModelScript("hello", failures=(failure,))) as (provider, transport):
        with pytest.raises(
            LMUnavailable, match=r"^no reply from http://127\.0\.0\.1:\d+/v1/chat/completions: RemoteProtocolError"
        ) as caught:
            await transport.send(post(provider))

    assert isinstance(caught.value.__cause__, httpx.RemoteProtocolError)


async def test_nobody_listening_is_said_plainly():
    async with open_transport() as transport:
        with pytest.raises(LMUnavailable, match=r"nothing listens there: check api_base and that the server runs\.$"):
            await transport.send(HttpRequest("GET", "http://127.0.0.1:1/"))


@pytest.mark.parametrize("url", ["ftp://host/", "http://", "no address"])
async def test_an_address_that_is_none_is_a_bad_request(url: str):
    async with open_transport() as transport:
        with pytest.raises(LMBadRequest):
            await transport.send(HttpRequest("GET", url))


async def test_a_header_that_cannot_be_sent_does_not_show_its_value():
    async with serving("hello") as (provider, transport):
        with pytest.raises(LMBadRequest) as caught:
            await transport.send(HttpRequest("GET", provider.url, {"authorization": "Bearer s3cret\n"}))

    assert "s3cret" not in str(caught.value)


async def test_redirects_are_not_followed():
    def redirect(request: httpx.Request) -> httpx.Response:
        assert request.url.host == "first"
        return httpx.Response(307, headers={"location": "http://second/"})

    async with open_transport(connect=lambda: httpx.MockTransport(redirect)) as transport:
        reply = await transport.send(HttpRequest("POST", "http://first/", body=b"x"))

    assert (reply.status, reply.headers["location"]) == (307, "http://second/")


async def test_cookies_are_not_kept():
    seen: list[str | None] = []

    def handle(request: httpx.Request) -> httpx.Response:
        seen.append(request.headers.get("cookie"))
        return httpx.Response(200, headers={"set-cookie": "id=1; Path=/"})

    async with open_transport(connect=lambda: httpx.MockTransport(handle)) as transport:
        await transport.send(HttpRequest("POST", "http://first/"))
        await transport.send(HttpRequest("POST", "http://first/"))

    assert seen == [None, None]


class Wedged(httpx.AsyncBaseTransport):
    """The first pool is wedged; the ones after it work."""

    made = 0
    closed = 0

    def __init__(self) -> None:
        type(self).made += 1
        self.number = type(self).made

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        if self.number == 1:
            raise httpx.PoolTimeout("wedged", request=request)
        return httpx.Response(200)

    async def aclose(self) -> None:
        type(self).closed += 1


async def test_a_wedged_pool_is_replaced_and_the_request_goes_out_on_the_new_one():
    Wedged.made = Wedged.closed = 0
    async with open_transport(connect=Wedged) as transport:
        replies = [await transport.send(HttpRequest("POST", "http://provider/")) for _ in range(2)]

        assert [reply.status for reply in replies] == [200, 200]
        assert transport.statistics().rebuilds == 1
        assert (Wedged.made, Wedged.closed) == (2, 1)


async def test_a_pool_that_is_wedged_again_is_unavailable():
    def wedged(request: httpx.Request) -> httpx.Response:
        raise httpx.PoolTimeout("wedged", request=request)

    async with open_transport(connect=lambda: httpx.MockTransport(wedged)) as transport:
        with pytest.raises(LMUnavailable, match="PoolTimeout: wedged"):
            await transport.send(HttpRequest("POST", "http://provider/"))

        assert transport.statistics().in_flight == 0


async def test_a_closed_transport_says_so():
    async with open_transport() as transport:
        pass

    assert transport.closed
    with pytest.raises(UsageError, match=r"^this HTTP transport is closed\.\n  Fix: "):
        await transport.send(HttpRequest("GET", "http://127.0.0.1:1/"))


@pytest.mark.parametrize("options", [{"max_connections": 0}, {"max_connections": True}, {"max_reply_bytes": -1}])
async def test_limits_are_whole_numbers_from_one(options: dict[str, Any]):
    with pytest.raises(DeclarationError, match="expected a whole number >= 1"):
        async with open_transport(**options):
            pass


def test_reprs_show_neither_keys_nor_bodies():
    request = HttpRequest("POST", "https://u:s3cret@host:8443/v1?key=s3cret", {"authorization": "s3cret"}, b"s3cret")
    reply = HttpReply(200, {"set-cookie": "s3cret"}, b"s3cret")

    assert repr(request) == "HttpRequest(POST https://host:8443/v1, 1 headers, 6 bytes)"
    assert repr(reply) == "HttpReply(200, 1 headers, 6 bytes)"


def test_every_error_class_of_httpx_is_mapped():
    """A new release of httpx that brings a new error class fails here, not at a user's."""
    theirs = {name for name, item in vars(httpx).items() if inspect.isclass(item) and issubclass(item, Exception)}

    assert theirs == set(FOREIGN_ERRORS)


@pytest.mark.parametrize(
    ("error", "ours"),
    [
        (httpx.ReadTimeout("slow"), LMTimeout),
        (httpx.ConnectTimeout("slow"), LMTimeout),
        (httpx.DecodingError("gzip"), LMReplyUnreadable),
    ],
)
async def test_errors_of_httpx_become_ours(error: Exception, ours: type[UnderstudyError]):
    def fail(request: httpx.Request) -> httpx.Response:
        raise error

    async with open_transport(connect=lambda: httpx.MockTransport(fail)) as transport:
        with pytest.raises(ours) as caught:
            await transport.send(HttpRequest("POST", "http://provider/"))

    assert caught.value.__cause__ is error


async def test_the_cause_below_decides_the_advice():
    def fail(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("no") from ssl.SSLCertVerificationError("self-signed certificate")

    async with open_transport(connect=lambda: httpx.MockTransport(fail)) as transport:
        with pytest.raises(LMUnavailable, match=r"Fix: the certificate is not trusted: check api_base, or set SSL_CERT_FILE"):
            await transport.send(HttpRequest("POST", "https://provider/"))


async def test_an_error_that_is_not_of_httpx_passes_through():
    def fail(request: httpx.Request) -> httpx.Response:
        raise ZeroDivisionError

    async with open_transport(connect=lambda: httpx.MockTransport(fail)) as transport:
        with pytest.raises(ZeroDivisionError):
            await transport.send(HttpRequest("POST", "http://provider/"))

        assert transport.statistics().in_flight == 0
