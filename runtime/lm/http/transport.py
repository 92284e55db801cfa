"""Bytes to a provider and back: one HTTP client under one limiter.

It doesn't know about models, keys or retries: one :meth:`HttpTransport.send` is one request on the wire. The one exception is a
kept connection that the server had closed unseen: not one byte of a reply came, and the request goes out once more on a new
connection if its owner lets it.

Each request borrows a token of a ``trio.CapacityLimiter`` first, and there are as many tokens as connections. Our own pool needs
no more than that; httpcore's, which proxies and HTTP/2 use, leaks a slot permanently when a request is cancelled while it waits
for a connection, so no request may ever wait there. Should that pool wedge all the same, the first request that cannot get a
connection replaces it and goes out again on the new one; nothing had been sent.

Deadlines are the caller's cancel scopes. Cancelling closes the connection, which is how the provider learns of it. httpx's own
timeouts are a second line, wider than any sensible deadline.
"""

from __future__ import annotations

import functools
import math
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Hashable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import TYPE_CHECKING, NoReturn, Self, TypeVar, cast, final

import attrs
import trio

from actors.argument_checks import check_count
from actors.errors import LMReplyUnreadable, LMUnavailable, UsageError
from runtime.lm.http.http_errors import QUOTING, is_a_foreign, ours_for
from runtime.lm.http.http_messages import HttpReply, HttpRequest, HttpStream
from runtime.lm.http.keepalive import PoolStatistics
from runtime.lm.limits.redaction import raise_alone

if TYPE_CHECKING:
    from types import TracebackType

    import httpx

    from runtime.lm.http.httpx_clients import HttpxPool

T = TypeVar("T")
Connect = Callable[[], "httpx.AsyncBaseTransport"]

CLOSE_TIMEOUT_S = 2.0
PIECES_AFTER_CLOSE = 8
MAX_REPLY_BYTES = 64 * 1024 * 1024
MAX_ERROR_BYTES = 64 * 1024
"""How much is read of the body of a reply that isn't a success; then its connection is closed."""


def _always() -> bool:
    return True


def _ignored() -> None:
    pass


def _lower(headers: Sequence[tuple[bytes, bytes]]) -> dict[str, str]:
    """By lower-case name; the values of a repeated header are joined, as HTTP allows."""
    lower: dict[str, str] = {}
    for raw_name, raw_value in headers:
        name, value = raw_name.decode("ascii", "replace").lower(), raw_value.decode("utf-8", "replace")
        lower[name] = f"{lower[name]}, {value}" if name in lower else value
    return lower


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
    connections: PoolStatistics | None
    """Those of our own pool; None where proxies, HTTP/2 or ``connect`` decide how the bytes travel."""


class _Pool:
    """One httpx pool, and how many requests are on it: a replaced one is closed when the last has left."""

    def __init__(self, httpx_pool: HttpxPool) -> None:
        self.httpx_pool = httpx_pool
        self.in_flight = 0


@final
class HttpTransport:
    """Sends requests. Made by :func:`open_transport`, not by hand."""

    def __init__(
        self,
        make_pool: Callable[[], HttpxPool],
        max_connections: int,
        max_reply_bytes: int,
    ) -> None:
        self._make_pool = make_pool
        self._max_reply_bytes = max_reply_bytes
        self._limiter = trio.CapacityLimiter(max_connections)
        self._pool = _Pool(make_pool())
        self._rebuilds = 0
        self._closed = False
        self._shared: dict[Hashable, object] = {}

    def __repr__(self) -> str:
        return f"HttpTransport({'closed' if self._closed else self.statistics()!r})"

    @property
    def closed(self) -> bool:
        """True once its :func:`open_transport` block has ended."""
        return self._closed

    def shared(self, key: Hashable, make: Callable[[], T]) -> T:
        """One object for all who ask with the same `key`, made by the first of them: what goes with a way to a provider."""
        if key not in self._shared:
            self._shared[key] = make()
        return cast("T", self._shared[key])

    def statistics(self) -> TransportStatistics:
        """How many requests are in flight and waiting."""
        limits = self._limiter.statistics()
        return TransportStatistics(
            max_connections=int(limits.total_tokens),
            in_flight=limits.borrowed_tokens,
            waiting=limits.tasks_waiting,
            rebuilds=self._rebuilds,
            connections=self._pool.httpx_pool.statistics(),
        )

    async def send(
        self, request: HttpRequest, *, may_resend: Callable[[], bool] = _always, on_sent: Callable[[], None] = _ignored
    ) -> HttpReply:
        """Send `request` once and read the whole reply; at most ``MAX_ERROR_BYTES`` of one that isn't a success.

        Cancelling it closes the connection.

        Args:
            request: what to send.
            may_resend: asked when a kept connection turns out to have been closed before one byte of a reply came.
            on_sent: called when the request is about to go out over a connection that is there.

        Raises:
            LMUnavailable: the way to the provider is broken.
            LMTimeout: one of the wide timeouts of the HTTP client has passed.
            LMReplyUnreadable: the body is larger than ``max_reply_bytes`` or its encoding is broken.
            LMBadRequest: the URL or a header cannot be sent.
        """
        async with self.stream(request, may_resend=may_resend, on_sent=on_sent) as reply:
            return await whole_reply(reply)

    def stream(
        self, request: HttpRequest, *, may_resend: Callable[[], bool] = _always, on_sent: Callable[[], None] = _ignored
    ) -> AbstractAsyncContextManager[HttpStream]:
        """Send `request` once; the block starts when the reply's headers are there. Raises what :meth:`send` raises.

        Leaving the block before the last chunk closes the connection.
        """
        return _Flight(functools.partial(self._begin, request, may_resend, on_sent), self._end)

    async def _begin(
        self, request: HttpRequest, may_resend: Callable[[], bool], on_sent: Callable[[], None], flight: _Flight
    ) -> tuple[_Pool, httpx.Response, Mapping[str, str], _Chunks]:
        """Wait for a token, which `flight` holds then, and for the head of the reply."""
        if self._closed:
            raise UsageError(
                "this HTTP transport is closed.\n  Fix: send requests inside its 'async with open_transport()' block."
            )
        try:
            self._limiter.acquire_on_behalf_of_nowait(flight)  # spares a turn of the scheduler where no request waits
        except trio.WouldBlock:
            await self._limiter.acquire_on_behalf_of(flight)
        try:
            if self._closed:
                raise LMUnavailable(
                    f"the HTTP transport was closed while the request to {request.place} waited for a connection.\n"
                    "  Fix: call again on an open transport."
                )
            pool, response = await self._open(request, may_resend, on_sent)
            headers = _lower(response.headers.raw)
            is_plain = headers.get("content-encoding", "identity") == "identity"  # decoding costs three generators
            stream = cast("httpx.AsyncByteStream", response.stream)  # a transport that is asynchronous has no other
            raw = aiter(stream) if is_plain else response.aiter_bytes()
            return pool, response, headers, _Chunks(raw, request.place, self._max_reply_bytes)
        except BaseException:
            self._limiter.release_on_behalf_of(flight)
            raise

    async def _end(self, flight: _Flight, pool: _Pool, response: httpx.Response, chunks: _Chunks) -> None:
        """Give the connection and the token back."""
        try:
            if chunks.has_ended and pool.httpx_pool.closes_immediately:
                await response.aclose()
            else:
                with trio.move_on_after(CLOSE_TIMEOUT_S, shield=True):
                    await _abandon(response, chunks)
            pool.in_flight -= 1
            await self._leave(pool)
        finally:
            self._limiter.release_on_behalf_of(flight)

    async def _open(
        self, request: HttpRequest, may_resend: Callable[[], bool], on_sent: Callable[[], None]
    ) -> tuple[_Pool, httpx.Response]:
        pool = self._pool
        try:
            return await self._open_on(pool, request, on_sent)
        except Exception as error:  # noqa: BLE001 - raised again, without keys
            is_wedged = is_a_foreign(error, "PoolTimeout")
            if not is_wedged and not (type(error).__name__ == "StaleConnection" and may_resend()):
                self._explain(error, request, pool)
        if is_wedged and pool is self._pool:
            self._pool = _Pool(self._make_pool())
            self._rebuilds += 1
        await self._leave(pool)
        try:
            return await self._open_on(self._pool, request, on_sent)
        except Exception as error:  # noqa: BLE001 - raised again, without keys
            self._explain(error, request, self._pool)

    def _explain(self, error: Exception, request: HttpRequest, pool: _Pool) -> NoReturn:
        """Raise our error for `error`, or `error` itself if it is not httpx's."""
        ours = ours_for(error, request.place, pool.httpx_pool.proxy_of(request.url))
        if ours is error:
            raise error
        if type(error).__name__ in QUOTING:
            raise_alone(ours, RuntimeError(type(error).__name__), ())
        raise ours from error

    async def _open_on(self, pool: _Pool, request: HttpRequest, on_sent: Callable[[], None]) -> tuple[_Pool, httpx.Response]:
        pool.in_flight += 1
        try:
            send = pool.httpx_pool.send
            return pool, await send(request.method, request.url, request.headers, request.body, request.connect_s, on_sent)
        except BaseException:
            pool.in_flight -= 1
            raise

    async def _leave(self, pool: _Pool) -> None:
        """Close `pool` when it has been replaced and no request uses it any more."""
        if pool is not self._pool and pool.in_flight == 0:
            await _close(pool.httpx_pool)

    async def aclose(self) -> None:
        """Close every idle connection; requests in flight fail. :func:`open_transport` calls it."""
        self._closed = True
        await _close(self._pool.httpx_pool)


@final
class _Chunks:
    """A reply's body as it comes, decoded. No generator: those cost a call more than all the rest of this module."""

    __slots__ = ("_max_bytes", "_place", "_size_bytes", "has_ended", "raw")

    def __init__(self, raw: AsyncIterator[bytes], place: str, max_bytes: int) -> None:
        self.raw = raw
        self.has_ended = False
        self._place = place
        self._max_bytes = max_bytes
        self._size_bytes = 0

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        if self.has_ended:
            raise StopAsyncIteration  # and not another look at the connection, which would wait for what never comes
        try:
            chunk = await self.raw.__anext__()
        except StopAsyncIteration:
            self.has_ended = True
            raise
        except Exception as error:
            raise ours_for(error, self._place) from error
        self._size_bytes += len(chunk)
        if self._size_bytes > self._max_bytes:
            raise _too_large(self._place, self._max_bytes)
        return chunk


@final
class _Flight(AbstractAsyncContextManager[HttpStream, None]):
    """One request on its way. It holds the token, not the task: one task may hold a stream and send another request meanwhile."""

    def __init__(
        self,
        begin: Callable[[_Flight], Awaitable[tuple[_Pool, httpx.Response, Mapping[str, str], _Chunks]]],
        end: Callable[[_Flight, _Pool, httpx.Response, _Chunks], Awaitable[None]],
    ) -> None:
        self._begin = begin
        self._end = end
        self._reply: tuple[_Pool, httpx.Response, _Chunks] | None = None

    async def __aenter__(self) -> HttpStream:
        pool, response, headers, chunks = await self._begin(self)
        self._reply = pool, response, chunks
        return HttpStream(response.status_code, headers, chunks)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        assert self._reply is not None, "entered first"
        await self._end(self, *self._reply)


async def whole_reply(reply: HttpStream) -> HttpReply:
    """Read `reply` to its end; of one that isn't a success, as much as an error has to say."""
    most = math.inf if 200 <= reply.status < 300 else MAX_ERROR_BYTES
    body = bytearray()
    async for chunk in reply.chunks:
        body += chunk if len(body) + len(chunk) <= most else chunk[: int(most) - len(body)]
        if len(body) >= most:
            break
    return HttpReply(reply.status, reply.headers, bytes(body))


async def _abandon(response: httpx.Response, chunks: _Chunks) -> None:
    try:
        await response.aclose()
        if not chunks.has_ended:
            # The body of a reply left early hangs in half a dozen nested generators of httpx, which are never closed. On a closed
            # connection they all run to their end immediately. Another kind of transport may have no end.
            for _ in range(PIECES_AFTER_CLOSE):
                await anext(chunks.raw)
    except StopAsyncIteration:
        pass
    except Exception as error:
        if not is_a_foreign(error, "HTTPError") and not is_a_foreign(error, "StreamError"):
            raise
        # The reply has been read or given up: an error while its connection closes doesn't matter.


async def _close(pool: HttpxPool) -> None:
    with trio.move_on_after(CLOSE_TIMEOUT_S, shield=True):
        await pool.aclose()


@asynccontextmanager
async def open_transport(
    *,
    max_connections: int = 100,
    max_reply_bytes: int = MAX_REPLY_BYTES,
    connect: Connect | None = None,
    http2: bool = False,
) -> AsyncGenerator[HttpTransport, None]:
    """Open a transport for the length of the block.

    Proxies and certificates come from the environment (``HTTPS_PROXY``, ``NO_PROXY``, ``SSL_CERT_FILE``), as httpx reads them.

    Args:
        max_connections: the most requests in flight; the rest wait in order.
        max_reply_bytes: the largest body, decoded, that is read; a larger one is an error.
        connect: makes another httpx transport than the one over TCP, for example an in-memory one in tests. Called again
            when the pool is replaced.
        http2: offer HTTP/2 to servers that speak it; needs ``httpx[http2]``.

    Raises:
        DeclarationError: an argument is wrong.
    """
    for name, value in (("max_connections", max_connections), ("max_reply_bytes", max_reply_bytes)):
        check_count(HttpTransport, name, value)
    from runtime.lm.http import httpx_clients  # noqa: PLC0415 - loads httpx: 0.1 s, and most imports make no call

    make_pool = httpx_clients.pool_maker(max_connections, connect, http2=http2)
    transport = HttpTransport(make_pool, max_connections, max_reply_bytes)
    try:
        yield transport
    finally:
        await transport.aclose()


def _too_large(place: str, limit_bytes: int) -> LMReplyUnreadable:
    error = LMReplyUnreadable(
        f"the reply from {place} is larger than {limit_bytes} bytes.\n"
        "  Fix: ask for less (max_tokens), or open the transport with a larger max_reply_bytes."
    )
    error.retryable = False
    return error
