"""What the environment says about the way to a provider, with real proxies and servers: proxies, certificates, HTTP/2; and what
may never leave: keys."""

import gzip
import logging
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest
import trio

from actors.errors import LMAuthFailed, LMBadRequest, LMError, LMReplyUnreadable, LMUnavailable
from runtime import open_runtime
from runtime.lm.client import LMClient
from runtime.lm.http.http_messages import HttpRequest
from runtime.lm.http.transport import open_transport
from runtime.lm.limits.retry import Retry
from runtime.testing.loopback import Failure, ModelScript, open_loopback
from tests.runtime.lm.faking import HELLO
from tests.runtime.lm.wires import OK, encrypted, encrypted_http2, hear, made_certificate, proxy, talking

KEY = "sk-s3cret-key-of-the-test"
PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY")


@pytest.fixture(autouse=True)
def _no_proxies_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in PROXIES:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


@pytest.fixture
def certificate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "public.pem"))
    return made_certificate(tmp_path)


# --- proxies ----------------------------------------------------------------------------------------------------------


async def test_encrypted_requests_go_through_a_tunnel_of_the_proxy(certificate: Path, monkeypatch: pytest.MonkeyPatch):
    async with encrypted(certificate) as url, proxy() as (address, heads):
        monkeypatch.setenv("HTTPS_PROXY", address)
        async with open_transport() as transport:
            replies = [await transport.send(HttpRequest("GET", url, {"authorization": KEY})) for _ in range(2)]

    assert [reply.body for reply in replies] == [b"hi", b"hi"]
    assert [head.split(b"\r\n")[0] for head in heads] == [f"CONNECT {urlsplit(url).netloc} HTTP/1.1".encode()]
    assert KEY.encode() not in heads[0]


async def test_hosts_that_need_no_proxy_are_reached_without_it(certificate: Path, monkeypatch: pytest.MonkeyPatch):
    async with encrypted(certificate) as url, proxy() as (address, heads):
        monkeypatch.setenv("HTTPS_PROXY", address)
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        async with open_transport() as transport:
            reply = await transport.send(HttpRequest("GET", url))

    assert (reply.body, heads) == (b"hi", [])


async def test_a_call_through_a_proxy_is_answered_and_cancelled_like_any_other(monkeypatch: pytest.MonkeyPatch):
    async with (
        open_loopback({"quick": "Good day.", "slow": ModelScript("late", latency_s=3600)}) as provider,
        proxy() as (address, heads),
    ):
        monkeypatch.setenv("HTTP_PROXY", address)
        async with LMClient("openai/quick", api_key=KEY, api_base=provider.api_base) as lm:
            completion = await lm.chat(HELLO)
        async with LMClient("openai/slow", api_key=KEY, api_base=provider.api_base) as lm, trio.open_nursery() as nursery:
            nursery.start_soon(lm.chat, HELLO)
            await provider.wait_request(2)
            nursery.cancel_scope.cancel()
        record = await provider.wait_ended(2)

    assert completion.text == "Good day."
    assert record.cancelled_by_client
    assert [head.split(b" ")[1].decode() for head in heads] == [f"{provider.api_base}/chat/completions"] * 2


async def test_a_proxy_that_is_not_there_does_not_show_its_password(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("HTTP_PROXY", "http://user:s3cret-word@127.0.0.1:1")
    async with open_transport() as transport:
        with pytest.raises(LMUnavailable) as caught:
            await transport.send(HttpRequest("POST", "http://provider.example/v1"))

    assert "s3cret" not in f"{caught.value!r} {caught.value} {caught.value.__cause__!r} {transport!r}"


async def test_a_proxy_that_wants_a_password_says_so_as_an_error_of_authorisation(monkeypatch: pytest.MonkeyPatch):
    async def rejected(stream: trio.SocketStream, _number: int) -> None:
        await hear(stream)
        await stream.send_all(b"HTTP/1.1 407 Proxy Authentication Required\r\ncontent-length: 0\r\n\r\n")

    async with talking(rejected) as url:
        monkeypatch.setenv("HTTP_PROXY", url.removesuffix("/v1"))
        async with LMClient("openai/m", api_key=KEY, api_base="http://provider.example/v1") as lm:
            with pytest.raises(LMAuthFailed, match="HTTP 407"):
                await lm.chat(HELLO)


# --- certificates -------------------------------------------------------------------------------------------------------


async def test_certificates_come_from_a_folder_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    made = made_certificate(tmp_path)
    folder = tmp_path / "trusted"
    folder.mkdir()
    (folder / "public.pem").write_bytes((tmp_path / "public.pem").read_bytes())
    await trio.run_process(["openssl", "rehash", str(folder)], capture_stdout=True)
    monkeypatch.delenv("SSL_CERT_FILE", raising=False)
    monkeypatch.setenv("SSL_CERT_DIR", str(folder))
    async with encrypted(made) as url, open_transport() as transport:
        reply = await transport.send(HttpRequest("GET", url))

    assert reply.body == b"hi"


# --- HTTP/2 -------------------------------------------------------------------------------------------------------------


async def test_many_requests_share_one_connection_of_http2(certificate: Path):
    replies: list[bytes] = []

    async with encrypted_http2(certificate) as (url, heard), open_transport(http2=True) as transport:

        async def ask() -> None:
            replies.append((await transport.send(HttpRequest("POST", url, {"authorization": KEY}, b"x"))).body)

        await ask()
        async with trio.open_nursery() as nursery:
            for _ in range(5):
                nursery.start_soon(ask)

    assert replies == [b"hi"] * 6
    assert [(head[":method"], head["authorization"]) for head in heard] == [("POST", KEY)] * 6


# --- redirects, sizes -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("is_proxied", [False, True])
async def test_a_redirect_to_another_host_takes_the_key_nowhere(is_proxied: bool, monkeypatch: pytest.MonkeyPatch):
    visits: list[bytes] = []

    async def elsewhere(stream: trio.SocketStream, _number: int) -> None:
        visits.append(await hear(stream))
        await stream.send_all(OK)

    async with talking(elsewhere) as other:

        async def away(stream: trio.SocketStream, _number: int) -> None:
            await hear(stream)
            await stream.send_all(f"HTTP/1.1 307 Away\r\nlocation: {other}?key=s3cret\r\ncontent-length: 0\r\n\r\n".encode())

        async with talking(away) as url:
            if is_proxied:
                monkeypatch.setenv("HTTP_PROXY", url.removesuffix("/v1"))
            async with LMClient("openai/m", api_key=KEY, api_base=url) as lm:
                with pytest.raises(LMBadRequest, match="which is not followed because the key would go with it") as caught:
                    await lm.chat(HELLO)

    assert visits == []
    assert caught.value.attempt == 1
    assert "s3cret" not in str(caught.value)


async def test_a_body_that_grows_when_it_is_decoded_is_refused_at_its_decoded_size():
    packed = gzip.compress(b"0" * 5_000_000)

    async def grow(stream: trio.SocketStream, _number: int) -> None:
        await hear(stream)
        head = f"HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: {len(packed)}\r\n\r\n"
        await stream.send_all(head.encode() + packed)

    async with talking(grow) as url, open_transport(max_reply_bytes=1_000_000) as transport:
        with pytest.raises(LMReplyUnreadable, match="larger than 1000000 bytes"):
            await transport.send(HttpRequest("POST", url, body=b"x"))


# --- keys ---------------------------------------------------------------------------------------------------------------


def shown(error: BaseException | None) -> str:
    """Everything that a traceback shows of `error` and its causes, without the code."""
    words = ""
    while error is not None:
        words += f"{error!r} {error} {getattr(error, '__notes__', '')} {error.args!r} "
        error = error.__cause__ or error.__context__
    return words


FAULTS = [
    Failure.status(401, message=f"Incorrect API key provided: {KEY}."),
    Failure.status(400, message=f"bad header Authorization: Bearer {KEY}"),
    Failure.status(429, message=f"slow down, {KEY}"),
    Failure.garbage(),
    Failure.disconnect_mid_body(),
]


@pytest.mark.parametrize("failure", FAULTS, ids=["401", "400", "429", "garbage", "disconnect"])
@pytest.mark.parametrize("is_proxied", [False, True])
async def test_no_error_event_repr_or_log_shows_a_key(
    failure: Failure, is_proxied: bool, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
):
    caplog.set_level(logging.DEBUG)
    events: list[object] = []
    script = ModelScript("hi", failures=(failure,) * 2)
    async with open_loopback({"m": script}) as provider, proxy() as (address, heads):
        if is_proxied:
            monkeypatch.setenv("HTTP_PROXY", address)
        client = LMClient("openai/m", api_key=KEY, api_base=provider.api_base, retry=Retry(max_attempts=1))
        async with open_runtime(lm=client, instruments=[events.append]) as runtime:
            with pytest.raises(LMError) as caught:
                await runtime.lm.chat(HELLO)
            with pytest.raises(LMError) as streamed:
                async with runtime.lm.stream(HELLO) as stream:
                    [_ async for _ in stream]
            await runtime.lm.chat(HELLO)
            words = f"{client!r} {runtime!r} {runtime.tree()!r} {runtime.statistics()!r} {events!r}"

    assert len(provider.requests) == 3
    assert all(KEY.encode() in head for head in heads)
    assert bool(heads) is is_proxied
    for text in (shown(caught.value), shown(streamed.value), words, caplog.text, repr(client._requester.link)):
        assert "s3cret" not in text


async def test_http2_logs_no_key(certificate: Path, caplog: pytest.LogCaptureFixture):
    caplog.set_level(logging.DEBUG)
    async with encrypted_http2(certificate) as (url, heard), open_transport(http2=True) as transport:
        await transport.send(HttpRequest("POST", url, {"x-api-key": KEY}, b"x"))

    assert heard[0]["x-api-key"] == KEY
    assert "s3cret" not in caplog.text


def test_a_url_with_a_key_is_shown_without_it():
    request = HttpRequest("POST", f"https://user:{KEY}@host/v1/chat?key={KEY}", {"x-api-key": KEY}, KEY.encode())

    assert "s3cret" not in f"{request!r} {request.place}"
    assert httpx.URL(request.url).password == KEY
