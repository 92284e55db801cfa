"""httpx's requests and replies over our own pool, or over its stock pool where only that can do the work.

httpx's stock pool looks at all of its connections for each request, which costs the square of their number. Plain HTTP/1.1, with
and without TLS, goes over :class:`runtime.lm.http.keepalive.KeepAlivePool` instead. Proxies and HTTP/2 keep the stock pool.
"""

from __future__ import annotations

import functools
import importlib.util
import logging
import ssl
from collections.abc import Callable, Mapping
from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import Self, final
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import httpx

from actors.errors import DeclarationError
from runtime.lm.http.http1 import BrokenWire
from runtime.lm.http.keepalive import HttpOrigin, KeepAlivePool, Patience, PoolStatistics, ReplyBody

BYTES_TIMEOUT_S = 900.0
"""Between two reads or writes. A reasoning model may be silent for minutes."""
POOL_TIMEOUT_S = 5.0
"""The limiter leaves a connection free for every request, so waiting for one at all means that the pool is wedged."""


class StaleConnection(httpx.RemoteProtocolError):
    """A kept connection was closed before one byte of a reply came: the server had most likely given it up beforehand."""


@final
class _OnePiece:
    """Iterates over one piece of bytes."""

    def __init__(self, piece: bytes) -> None:
        self._pieces = [piece]

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        if not self._pieces:
            raise StopAsyncIteration
        return self._pieces.pop()


@final
class RequestBody(httpx.AsyncByteStream):
    """A request's body. httpx's own is a generator, which a cancelled request leaves to the garbage collector."""

    def __init__(self, body: bytes) -> None:
        self.body = body

    def __aiter__(self) -> _OnePiece:
        return _OnePiece(self.body)


@final
class _ReplyBody(httpx.AsyncByteStream):
    def __init__(self, reply: ReplyBody) -> None:
        self._reply = reply

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        try:
            piece = await self._reply.next_piece()
        except BrokenWire as error:
            raise _as_httpx(error) from error
        if piece is None:
            raise StopAsyncIteration
        return piece

    async def aclose(self) -> None:
        self._reply.close()


@final
class PooledTransport(httpx.AsyncBaseTransport):
    """``KeepAlivePool`` as an httpx transport."""

    def __init__(self, pool: KeepAlivePool) -> None:
        self.pool = pool

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send `request`, whose stream is a :class:`RequestBody`, over a connection of the pool."""
        url = request.url
        if url.scheme not in {"http", "https"}:
            raise httpx.UnsupportedProtocol(f"the scheme {url.scheme!r} is neither http nor https")
        if not url.host:
            raise httpx.UnsupportedProtocol("the address names no host")
        is_encrypted = url.scheme == "https"
        origin = HttpOrigin(is_encrypted, url.raw_host.decode("ascii"), url.port or (443 if is_encrypted else 80))
        body = request.stream.body if isinstance(request.stream, RequestBody) else await request.aread()
        given: Mapping[str, float | None] = request.extensions.get("timeout", {})
        waits = {f"{phase}_s": seconds for phase, seconds in given.items() if seconds is not None and phase != "pool"}
        try:
            head, reply = await self.pool.exchange(
                origin,
                request.method.encode("ascii"),
                url.raw_path,
                request.headers.raw,
                body,
                Patience(**waits),
                request.extensions.get("on_sent", _ignored),
            )
        except BrokenWire as error:
            raise _as_httpx(error) from error
        return httpx.Response(head.status, headers=list(head.headers), stream=_ReplyBody(reply))

    async def aclose(self) -> None:
        """Close every connection now."""
        self.pool.close()


def _ignored() -> None:
    pass


@functools.lru_cache(maxsize=256)
def _address(url: str) -> httpx.URL:
    return httpx.URL(url)


@functools.cache
def _usual_headers() -> list[tuple[str, str]]:
    """What httpx sends on its own; the encodings depend on the libraries that are installed."""
    client = httpx.AsyncClient(transport=PooledTransport(KeepAlivePool(httpx.create_ssl_context)))
    return [(name, value) for name, value in client.headers.items() if name != "user-agent"]


@final
class HttpxPool:
    """Sends requests over one httpx transport, or over a client where the environment's proxies have a say.

    An ``AsyncClient`` costs a quarter of a call (cookies, redirects, merging of settings) and logs each URL, which holds the key
    with some providers; so it is in the way only where its routing is needed.
    """

    def __init__(self, way: httpx.AsyncBaseTransport | httpx.AsyncClient) -> None:
        self._way = way
        self._send = way.handle_async_request if isinstance(way, httpx.AsyncBaseTransport) else self._send_by_client
        self._defaults = [*_usual_headers(), ("user-agent", "understudy")]
        self.closes_immediately = isinstance(way, PooledTransport)
        """Whether closing a reply never waits."""

    async def send(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str],
        body: bytes,
        connect_s: float,
        on_sent: Callable[[], None] = lambda: None,
    ) -> httpx.Response:
        """Send one request and return when the head of its reply is there; the caller closes it.

        `on_sent` is called when its connection is there; over a transport that does not say so, beforehand.
        """
        address = _address(url)
        given = {name.lower() for name in headers}
        fields = [
            ("host", address.netloc.decode("ascii")),
            *(each for each in self._defaults if each[0] not in given),
            *headers.items(),
        ]
        if body or method not in {"GET", "HEAD"}:
            fields.append(("content-length", str(len(body))))
        waits = {"connect": connect_s, "read": BYTES_TIMEOUT_S, "write": BYTES_TIMEOUT_S, "pool": POOL_TIMEOUT_S}
        if not self.closes_immediately:
            on_sent()
        extensions = {"timeout": waits, "on_sent": on_sent}
        return await self._send(httpx.Request(method, address, headers=fields, stream=RequestBody(body), extensions=extensions))

    def proxy_of(self, url: str) -> str | None:
        """The proxy by which a request to `url` travels, without a name and password; None for none."""
        if not isinstance(self._way, httpx.AsyncClient):
            return None
        parts = urlsplit(url)
        proxies = getproxies()
        found = proxies.get(parts.scheme) or proxies.get("all")
        if not found or proxy_bypass(parts.netloc.rpartition("@")[2]):
            return None
        proxy = urlsplit(found if "://" in found else f"http://{found}")
        return f"{proxy.scheme}://{proxy.netloc.rpartition('@')[2]}"

    def statistics(self) -> PoolStatistics | None:
        """Those of our own pool; None over any other transport."""
        return self._way.pool.statistics() if isinstance(self._way, PooledTransport) else None

    async def _send_by_client(self, request: httpx.Request) -> httpx.Response:
        assert isinstance(self._way, httpx.AsyncClient), "chosen by __init__"
        return await self._way.send(request, stream=True, follow_redirects=False)

    async def aclose(self) -> None:
        """Close every connection."""
        await self._way.aclose()


def _as_httpx(error: BrokenWire) -> httpx.RequestError:
    kind: type[httpx.RequestError] = StaleConnection if error.is_stale else getattr(httpx, error.fault)
    return kind(str(error))


def pool_maker(
    max_connections: int, connect: Callable[[], httpx.AsyncBaseTransport] | None, *, http2: bool
) -> Callable[[], HttpxPool]:
    """What makes a transport's pool, and another one when it has to be replaced.

    Args:
        max_connections: for the stock pool; ours has no limit itself.
        connect: makes the httpx transport to use instead of any pool.
        http2: offer HTTP/2 to servers, over the stock pool.

    Raises:
        DeclarationError: HTTP/2 is wanted and the library for it is not installed.
    """
    if http2 and importlib.util.find_spec("h2") is None:
        raise DeclarationError("open_transport(http2=True) needs the package h2.\n  Fix: pip install 'httpx[http2]'.")
    if http2:
        logging.getLogger("hpack.hpack").addFilter(_is_no_header)
    certificates = functools.cache(httpx.create_ssl_context)  # takes tens of milliseconds: once per transport, not per pool

    def make() -> HttpxPool:
        if connect is not None:
            return HttpxPool(connect())
        if http2 or _is_proxied():
            return HttpxPool(_stock_client(certificates(), max_connections, http2=http2))
        return HttpxPool(PooledTransport(KeepAlivePool(certificates)))

    return make


def _is_no_header(record: logging.LogRecord) -> bool:
    """HTTP/2's compression logs every header with its value when it is told to debug, keys among them."""
    return record.levelno > logging.DEBUG


def _stock_client(certificates: ssl.SSLContext, max_connections: int, *, http2: bool) -> httpx.AsyncClient:
    return httpx.AsyncClient(
        verify=certificates,
        limits=httpx.Limits(max_connections=max_connections, max_keepalive_connections=max_connections),
        http2=http2,
        follow_redirects=False,
        # No cookies: the client is shared by all accounts, and a provider's cookie would tie them together.
        cookies=CookieJar(DefaultCookiePolicy(allowed_domains=())),
    )


def _is_proxied() -> bool:
    """Whether the environment names a proxy, by the same rule as httpx."""
    proxies = getproxies()
    hosts = {host.strip() for host in proxies.get("no", "").split(",")}
    return "*" not in hosts and any(proxies.get(scheme) for scheme in ("http", "https", "all"))
