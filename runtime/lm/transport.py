"""Bytes to a provider and back: one HTTP client under one limiter.

The only module that knows httpx. It knows nothing of models, keys or retries: one :meth:`HttpTransport.send` is one request on
the wire. Why a limiter stands before the pool: httpcore leaks a pool slot for good when a request is cancelled while it waits
for a connection, so no request may ever wait there. Each request borrows a token of a ``trio.CapacityLimiter`` first, and there
are as many tokens as connections. Should the pool wedge all the same, the first request that cannot get a connection replaces
the client and goes out again on the new one; nothing had been sent.

Deadlines are the caller's cancel scopes. Cancelling closes the connection, which is how the provider learns of it. httpx's own
timeouts are a second line, wider than any sensible deadline.
"""

from __future__ import annotations

import functools
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Self, cast, final
from urllib.parse import urlsplit

import attrs
import trio

from actors.checks import refuse
from actors.errors import LMReplyUnreadable, LMUnavailable, UnderstudyError, UsageError
from runtime.lm.http_errors import is_a_foreign, ours_for

if TYPE_CHECKING:
    import ssl

    import httpx

Connect = Callable[[], "httpx.AsyncBaseTransport"]

CONNECT_TIMEOUT_S = 60.0
BYTES_TIMEOUT_S = 900.0
"""Between two reads or writes. A reasoning model may be silent for minutes."""
POOL_TIMEOUT_S = 5.0
"""The limiter leaves a connection free for every request, so waiting for one at all means that the pool is wedged."""
CLOSE_TIMEOUT_S = 2.0
MAX_REPLY_BYTES = 64 * 1024 * 1024


def _place(url: str) -> str:
    """Scheme, host and path of `url`: its query and user part may hold a key."""
    parts = urlsplit(url)
    port = f":{parts.port}" if parts.port else ""
    return f"{parts.scheme}://{parts.hostname}{port}{parts.path}"


@final
@attrs.frozen(repr=False)
class HttpRequest:
    """One request. Its repr shows neither header values, query nor body."""

    method: str
    url: str
    headers: Mapping[str, str] = attrs.field(factory=dict[str, str])
    body: bytes = b""

    @property
    def place(self) -> str:
        """Scheme, host and path: what may be shown of the URL."""
        return _place(self.url)

    def __repr__(self) -> str:
        return f"HttpRequest({self.method} {self.place}, {len(self.headers)} headers, {len(self.body)} bytes)"


@final
@attrs.frozen(repr=False)
class HttpReply:
    """One whole reply; header names are lower-case. Its repr shows neither header values nor body."""

    status: int
    headers: Mapping[str, str] = attrs.field(factory=dict[str, str])
    body: bytes = b""

    def as_httpx(self) -> httpx.Response:
        """The same reply as an ``httpx.Response``, for libraries that read those."""
        import httpx  # noqa: PLC0415 - 0.1 s, and most imports of the runtime make no call

        hidden = {"content-encoding", "content-length", "transfer-encoding"}  # the body is decoded and whole already
        headers = {name: value for name, value in self.headers.items() if name not in hidden}
        return httpx.Response(self.status, headers=headers, content=self.body, request=httpx.Request("POST", "http://provider"))

    def __repr__(self) -> str:
        return f"HttpReply({self.status}, {len(self.headers)} headers, {len(self.body)} bytes)"


@final
@attrs.frozen(repr=False, eq=False)
class HttpStream:
    """A reply whose body is still on its way: `chunks` yields it, decoded, as it comes."""

    status: int
    headers: Mapping[str, str]
    chunks: AsyncGenerator[bytes, None]

    def __repr__(self) -> str:
        return f"HttpStream({self.status}, {len(self.headers)} headers)"


@final
@attrs.frozen
class TransportStatistics:
    """A snapshot of one transport."""

    max_connections: int
    in_flight: int
    """Requests that hold a token of the limiter."""
    waiting: int
    """Requests that wait for a token."""
    rebuilds: int
    """How often a wedged pool has been replaced."""


class _Pool:
    """One httpx client, and how many requests are on it: a replaced one is closed when the last has left."""

    def __init__(self, client: httpx.AsyncClient) -> None:
        self.client = client
        self.in_flight = 0


@final
class HttpTransport:
    """Sends requests. Made by :func:`open_transport`, not by hand."""

    def __init__(self, make_client: Callable[[], httpx.AsyncClient], max_connections: int, max_reply_bytes: int) -> None:
        self._make_client = make_client
        self._max_reply_bytes = max_reply_bytes
        self._limiter = trio.CapacityLimiter(max_connections)
        self._pool = _Pool(make_client())
        self._rebuilds = 0
        self._closed = False

    def __repr__(self) -> str:
        return f"HttpTransport({'closed' if self._closed else self.statistics()!r})"

    @property
    def closed(self) -> bool:
        """True once its :func:`open_transport` block has ended."""
        return self._closed

    def statistics(self) -> TransportStatistics:
        """How many requests are in flight and waiting."""
        limits = self._limiter.statistics()
        return TransportStatistics(
            max_connections=int(limits.total_tokens),
            in_flight=limits.borrowed_tokens,
            waiting=limits.tasks_waiting,
            rebuilds=self._rebuilds,
        )

    async def send(self, request: HttpRequest) -> HttpReply:
        """Send `request` once and read the whole reply, whatever its status.

        Cancelling it closes the connection.

        Raises:
            LMUnavailable: the way to the provider is broken.
            LMTimeout: one of the wide timeouts of the HTTP client has passed.
            LMReplyUnreadable: the body is larger than ``max_reply_bytes`` or its encoding is broken.
            LMBadRequest: the URL or a header cannot be sent.
        """
        body = bytearray()
        async with self.stream(request) as reply:
            async for chunk in reply.chunks:
                body += chunk
        return HttpReply(reply.status, reply.headers, bytes(body))

    @asynccontextmanager
    async def stream(self, request: HttpRequest) -> AsyncGenerator[HttpStream, None]:
        """Send `request` once; the block starts when the reply's headers are there. Raises what :meth:`send` raises.

        Leaving the block before the last chunk closes the connection.
        """
        if self._closed:
            raise UsageError(
                "this HTTP transport is closed.\n  Mend: send requests inside its 'async with open_transport()' block."
            )
        borrower = object()  # not the task: one task may hold a stream and send another request meanwhile
        await self._limiter.acquire_on_behalf_of(borrower)
        try:
            if self._closed:
                raise LMUnavailable(
                    f"the HTTP transport was closed while the request to {request.place} waited for a connection.\n"
                    "  Mend: call again on an open transport."
                )
            pool, response = await self._open(request)
            # httpx types this async generator as an iterator.
            raw = cast("AsyncGenerator[bytes, None]", response.aiter_bytes())
            chunks = self._chunks(request, raw)
            try:
                yield HttpStream(response.status_code, {k.lower(): v for k, v in response.headers.items()}, chunks)
            finally:
                await self._close_response(pool, response, raw, chunks)
        finally:
            self._limiter.release_on_behalf_of(borrower)

    async def _open(self, request: HttpRequest) -> tuple[_Pool, httpx.Response]:
        pool = self._pool
        try:
            return await self._open_on(pool, request)
        except Exception as error:
            if not is_a_foreign(error, "PoolTimeout"):
                raise ours_for(error, request.place) from error
        if pool is self._pool:
            self._pool = _Pool(self._make_client())
            self._rebuilds += 1
        await self._leave(pool)
        try:
            return await self._open_on(self._pool, request)
        except Exception as error:
            raise ours_for(error, request.place) from error

    async def _open_on(self, pool: _Pool, request: HttpRequest) -> tuple[_Pool, httpx.Response]:
        built = pool.client.build_request(request.method, request.url, headers=dict(request.headers), content=request.body)
        built.stream = _body_class()(request.body)
        pool.in_flight += 1
        try:
            return pool, await pool.client.send(built, stream=True, follow_redirects=False)
        except BaseException:
            pool.in_flight -= 1
            raise

    async def _chunks(self, request: HttpRequest, raw: AsyncGenerator[bytes, None]) -> AsyncGenerator[bytes, None]:
        size_bytes = 0
        try:
            async for chunk in raw:
                size_bytes += len(chunk)
                if size_bytes > self._max_reply_bytes:
                    raise _too_large(request, self._max_reply_bytes)
                yield chunk
        except Exception as error:
            if isinstance(error, UnderstudyError):
                raise
            raise ours_for(error, request.place) from error

    async def _close_response(
        self, pool: _Pool, response: httpx.Response, raw: AsyncGenerator[bytes, None], chunks: AsyncGenerator[bytes, None]
    ) -> None:
        with trio.move_on_after(CLOSE_TIMEOUT_S, shield=True):
            await chunks.aclose()
            try:
                await response.aclose()
                # The body of a reply left early hangs in half a dozen nested generators of httpx, which nobody closes. On a
                # closed connection they all run to their end at once.
                async for _ in raw:
                    pass
            except Exception as error:
                if not is_a_foreign(error, "HTTPError") and not is_a_foreign(error, "StreamError"):
                    raise
                # The reply has been read or given up: that its connection closes badly concerns nobody.
        pool.in_flight -= 1
        await self._leave(pool)

    async def _leave(self, pool: _Pool) -> None:
        """Close `pool` when it has been replaced and nobody is on it any more."""
        if pool is not self._pool and pool.in_flight == 0:
            await _close_client(pool.client)

    async def aclose(self) -> None:
        """Close every idle connection; requests in flight fail. :func:`open_transport` calls it."""
        self._closed = True
        await _close_client(self._pool.client)


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


@functools.cache
def _body_class() -> Callable[[bytes], httpx.AsyncByteStream]:
    import httpx  # noqa: PLC0415 - 0.1 s, and most imports of the runtime make no call

    class Body(httpx.AsyncByteStream):
        """A request's body. httpx's own is a generator, which a cancelled request leaves to the garbage collector."""

        def __init__(self, body: bytes) -> None:
            self._body = body

        def __aiter__(self) -> _OnePiece:
            return _OnePiece(self._body)

    return Body


async def _close_client(client: httpx.AsyncClient) -> None:
    with trio.move_on_after(CLOSE_TIMEOUT_S, shield=True):
        await client.aclose()


@asynccontextmanager
async def open_transport(
    *,
    max_connections: int = 100,
    max_reply_bytes: int = MAX_REPLY_BYTES,
    connect: Connect | None = None,
) -> AsyncGenerator[HttpTransport, None]:
    """Open a transport for the length of the block.

    Proxies and certificates come from the environment (``HTTPS_PROXY``, ``NO_PROXY``, ``SSL_CERT_FILE``), as httpx reads them.

    Args:
        max_connections: the most requests in flight; the rest wait in order.
        max_reply_bytes: the largest body, decoded, that is read; a larger one is an error.
        connect: makes another httpx transport than the one over TCP, for example an in-memory one in tests. Called again
            when the pool is replaced.
    """
    for name, value in (("max_connections", max_connections), ("max_reply_bytes", max_reply_bytes)):
        if isinstance(value, bool) or value < 1:
            raise refuse(HttpTransport, name, value, "a whole number >= 1")
    transport = HttpTransport(_client_maker(max_connections, connect), max_connections, max_reply_bytes)
    try:
        yield transport
    finally:
        await transport.aclose()


def _client_maker(max_connections: int, connect: Connect | None) -> Callable[[], httpx.AsyncClient]:
    from http.cookiejar import CookieJar, DefaultCookiePolicy  # noqa: PLC0415 - brings urllib.request in

    import httpx  # noqa: PLC0415 - 0.1 s, and most imports of the runtime make no call

    certificates: ssl.SSLContext | None = None

    def make() -> httpx.AsyncClient:
        nonlocal certificates
        if certificates is None:
            certificates = httpx.create_ssl_context()  # takes tens of milliseconds: once per transport, not per pool
        return httpx.AsyncClient(
            verify=certificates,
            transport=connect() if connect is not None else None,
            trust_env=connect is None,
            limits=httpx.Limits(max_connections=max_connections, max_keepalive_connections=max_connections),
            timeout=httpx.Timeout(BYTES_TIMEOUT_S, connect=CONNECT_TIMEOUT_S, pool=POOL_TIMEOUT_S),
            follow_redirects=False,
            headers={"user-agent": "understudy"},
            # No cookies: the client is shared by all accounts, and a provider's cookie would tie them together.
            cookies=CookieJar(DefaultCookiePolicy(allowed_domains=())),
        )

    return make


def _too_large(request: HttpRequest, limit_bytes: int) -> LMReplyUnreadable:
    error = LMReplyUnreadable(
        f"the reply from {request.place} is larger than {limit_bytes} bytes.\n"
        "  Mend: ask for less (max_tokens), or open the transport with a larger max_reply_bytes."
    )
    error.retryable = False
    return error
