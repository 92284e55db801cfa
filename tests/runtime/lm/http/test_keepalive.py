"""The connections below the client, against servers that do exactly what the test says."""

from pathlib import Path

import pytest
import trio
import trio.testing

from actors.errors import LMBadRequest, LMReplyUnreadable, LMTimeout, LMUnavailable
from runtime.lm.http.http1 import BrokenWire, Http1Connection
from runtime.lm.http.http_messages import HttpRequest
from runtime.lm.http.httpx_clients import StaleConnection
from runtime.lm.http.keepalive import KEEP_S, PoolStatistics
from runtime.lm.http.transport import HttpTransport, open_transport
from tests.runtime.lm.wires import OK, encrypted, hear, made_certificate, talking


async def polite(stream: trio.SocketStream, _number: int) -> None:
    while True:
        await hear(stream)
        await stream.send_all(OK)


def post(url: str) -> HttpRequest:
    return HttpRequest("POST", url, body=b"x")


def connections_of(transport: HttpTransport) -> PoolStatistics:
    statistics = transport.statistics().connections
    assert statistics is not None
    return statistics


async def test_one_connection_serves_calls_one_after_another():
    async with talking(polite) as url, open_transport() as transport:
        replies = [await transport.send(post(url)) for _ in range(5)]

        assert [reply.body for reply in replies] == [b"hi"] * 5
        assert connections_of(transport) == PoolStatistics(in_use=0, idle=1, opened=1)


async def test_the_connection_used_last_is_used_next_and_a_bursts_surplus_ages(virtual_clock: trio.abc.Clock):
    gate = trio.Event()

    async def together(stream: trio.SocketStream, number: int) -> None:
        await hear(stream)
        if number == 3:
            gate.set()
        await gate.wait()
        await stream.send_all(OK)
        await polite(stream, number)

    async with talking(together) as url, open_transport() as transport:
        async with trio.open_nursery() as nursery:
            for _ in range(3):
                nursery.start_soon(transport.send, post(url))
        assert connections_of(transport) == PoolStatistics(in_use=0, idle=3, opened=3)
        await trio.sleep(KEEP_S / 2)
        await transport.send(post(url))
        await trio.sleep(KEEP_S / 2)
        await transport.send(post(url))

        assert connections_of(transport) == PoolStatistics(in_use=0, idle=1, opened=3)


async def test_a_connection_that_the_server_has_closed_is_not_used_again():
    gone = trio.Event()

    async def once(stream: trio.SocketStream, _number: int) -> None:
        await hear(stream)
        await stream.send_all(OK)
        await stream.aclose()
        gone.set()

    async with talking(once) as url, open_transport() as transport:
        await transport.send(post(url))
        await gone.wait()
        await transport.send(post(url), may_resend=lambda: pytest.fail("nothing was sent on the closed connection"))

        assert connections_of(transport).opened == 2


async def hang_up_on_the_second(stream: trio.SocketStream, number: int) -> None:
    """As a server does whose patience ends while the request is on its way."""
    await hear(stream)
    await stream.send_all(OK)
    await hear(stream)
    if number == 1:
        await stream.aclose()
    else:
        await stream.send_all(OK)


async def test_a_request_that_met_a_stale_connection_goes_out_once_more():
    asked: list[bool] = []

    def may_resend() -> bool:
        asked.append(True)
        return True

    async with talking(hang_up_on_the_second) as url, open_transport() as transport:
        await transport.send(post(url))
        reply = await transport.send(post(url), may_resend=may_resend)

        assert (reply.status, asked, connections_of(transport).opened) == (200, [True], 2)


async def test_a_request_that_may_not_go_out_again_fails():
    async with talking(hang_up_on_the_second) as url, open_transport() as transport:
        await transport.send(post(url))
        with pytest.raises(LMUnavailable, match="StaleConnection: the server closed the connection without a reply") as caught:
            await transport.send(post(url), may_resend=lambda: False)

        assert isinstance(caught.value.__cause__, StaleConnection)


@pytest.mark.parametrize("said", [b"", b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhalf"])
async def test_a_reply_that_has_begun_and_a_new_connection_are_never_asked_again(said: bytes):
    """The server may have done the work, and been paid for it."""

    async def half(stream: trio.SocketStream, number: int) -> None:
        await hear(stream)
        if said:
            await stream.send_all(OK)
            await hear(stream)
            await stream.send_all(said)
        await stream.aclose()

    async with talking(half) as url, open_transport() as transport:
        if said:
            await transport.send(post(url))
        with pytest.raises(LMUnavailable, match="RemoteProtocolError"):
            await transport.send(post(url), may_resend=lambda: pytest.fail("asked to send again"))

        assert connections_of(transport) == PoolStatistics(in_use=0, idle=0, opened=1)


async def test_cancelling_closes_the_socket_at_once():
    ended = trio.Event()

    async def silent(stream: trio.SocketStream, _number: int) -> None:
        await hear(stream)
        assert await stream.receive_some() == b""
        ended.set()

    async with talking(silent) as url, open_transport() as transport:
        with trio.move_on_after(0.02):
            await transport.send(post(url))
        with trio.fail_after(1):
            await ended.wait()

        assert connections_of(transport) == PoolStatistics(in_use=0, idle=0, opened=1)


async def test_an_answer_that_comes_before_the_whole_request_was_taken_counts():
    async def rejected(stream: trio.SocketStream, _number: int) -> None:
        await stream.receive_some(100)
        await stream.send_all(b"HTTP/1.1 413 Too Large\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
        await stream.send_eof()
        while await stream.receive_some():
            pass

    async with talking(rejected) as url, open_transport() as transport:
        reply = await transport.send(HttpRequest("POST", url, body=b"x" * 1_000_000))

        assert reply.status == 413
        assert connections_of(transport).idle == 0


async def test_a_connection_that_the_server_wants_closed_is_closed():
    async def close(stream: trio.SocketStream, _number: int) -> None:
        await hear(stream)
        await stream.send_all(b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\nhi")

    async with talking(close) as url, open_transport() as transport:
        await transport.send(post(url))

        assert connections_of(transport) == PoolStatistics(in_use=0, idle=0, opened=1)


async def test_a_head_without_end_is_not_read_without_end():
    async def babble(stream: trio.SocketStream, _number: int) -> None:
        await hear(stream)
        await stream.send_all(b"HTTP/1.1 200 OK\r\n")
        while True:
            await stream.send_all(b"x-babble: " + b"y" * 1000 + b"\r\n")

    async with talking(babble) as url, open_transport() as transport:
        with pytest.raises(LMUnavailable, match="RemoteProtocolError"):
            await transport.send(post(url))


async def test_a_body_without_end_is_not_read_without_end():
    async def babble(stream: trio.SocketStream, _number: int) -> None:
        await hear(stream)
        await stream.send_all(b"HTTP/1.1 200 OK\r\n\r\n")
        while True:
            await stream.send_all(b"y" * 1000)

    async with talking(babble) as url, open_transport(max_reply_bytes=50_000) as transport:
        with pytest.raises(LMReplyUnreadable, match="larger than 50000 bytes"):
            await transport.send(post(url))

        assert connections_of(transport).in_use == 0


async def test_a_connection_that_does_not_come_about_ends_after_its_time(
    virtual_clock: trio.abc.Clock, monkeypatch: pytest.MonkeyPatch
):
    async def never(host: str, port: int) -> None:
        await trio.sleep_forever()

    monkeypatch.setattr(trio, "open_tcp_stream", never)
    async with open_transport() as transport:
        with pytest.raises(LMTimeout, match=r"ConnectTimeout: no connection within 2\.5 s"):
            await transport.send(HttpRequest("POST", "http://far.example/", connect_s=2.5))

        assert trio.current_time() == 2.5


async def test_a_header_that_cannot_be_sent_is_told_before_anything_is():
    ours, _ = trio.testing.memory_stream_pair()
    connection = Http1Connection(ours, trio.socket.socket())

    with pytest.raises(BrokenWire) as caught:
        await connection.request(b"POST", b"/", [(b"host", b"x"), (b"key", b"a\nb")], b"", write_s=1, read_s=1)

    assert (caught.value.fault, caught.value.is_stale) == ("LocalProtocolError", False)
    connection.close()


# --- TLS, proxies, HTTP/2 ---------------------------------------------------------------------------------------------


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    return made_certificate(tmp_path)


async def test_certificates_come_from_the_environment(certificate: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate.parent / "public.pem"))
    async with encrypted(certificate) as url, open_transport() as transport:
        replies = [await transport.send(HttpRequest("GET", url)) for _ in range(2)]

        assert [reply.body for reply in replies] == [b"hi", b"hi"]
        assert connections_of(transport) == PoolStatistics(in_use=0, idle=1, opened=1)


async def test_a_certificate_that_nobody_vouches_for_is_refused(certificate: Path):
    async with encrypted(certificate) as url, open_transport() as transport:
        with pytest.raises(LMUnavailable, match=r"Fix: the certificate is not trusted: check api_base, or set SSL_CERT_FILE"):
            await transport.send(HttpRequest("GET", url))

        assert connections_of(transport) == PoolStatistics(in_use=0, idle=0, opened=0)


async def test_encryption_asked_of_a_server_that_has_none_is_said_plainly():
    async def plain(stream: trio.SocketStream, _number: int) -> None:
        await stream.receive_some()
        await stream.send_all(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    async with talking(plain) as url, open_transport() as transport:
        with pytest.raises(LMUnavailable, match="the TLS handshake failed"):
            await transport.send(post(url.replace("http://", "https://")))


async def test_a_proxy_of_the_environment_is_used(monkeypatch: pytest.MonkeyPatch):
    heard: list[bytes] = []

    async def proxy(stream: trio.SocketStream, _number: int) -> None:
        heard.append((await hear(stream)).partition(b"\r\n")[0])
        await stream.send_all(OK)

    async with talking(proxy) as url:
        monkeypatch.setenv("HTTP_PROXY", url.removesuffix("/v1"))
        async with open_transport() as transport:
            await transport.send(post("http://provider.example/v1"))
            assert transport.statistics().connections is None
        monkeypatch.setenv("NO_PROXY", "*")
        async with open_transport() as transport:
            assert transport.statistics().connections is not None

    assert heard == [b"POST http://provider.example/v1 HTTP/1.1"]


async def test_http2_is_offered_on_request_and_a_server_without_it_is_served_all_the_same():
    async with talking(polite) as url, open_transport(http2=True) as transport:
        reply = await transport.send(post(url))

        assert (reply.body, transport.statistics().connections) == (b"hi", None)


async def test_an_address_with_a_scheme_of_its_own_is_refused():
    async with open_transport() as transport:
        with pytest.raises(LMBadRequest, match="the scheme 'ftp' is neither http nor https"):
            await transport.send(HttpRequest("GET", "ftp://host/"))
