"""A pool of HTTP/1.1 connections whose every step costs the same, however many there are.

Per origin, idle connections form a stack: the one used last is used next, so a burst's surplus ages and is closed. Nothing
scans the others; only the connection that is about to be used is asked whether its server has closed it. The pool sets no limit
and no request waits in it: the transport's limiter comes before it.
"""

from __future__ import annotations

import math
import ssl
from collections import OrderedDict, deque
from collections.abc import Callable, Sequence
from typing import final

import attrs
import trio

from runtime.lm.http.http1 import BrokenWire, Head, Http1Connection

KEEP_S = 30.0
"""How long an idle connection is kept. Servers and the boxes on the way give one up after a minute or more."""

Headers = Sequence[tuple[bytes, bytes]]


@final
@attrs.frozen
class HttpOrigin:
    """Where a connection leads: only requests to the same one may share it."""

    is_encrypted: bool
    host: str
    port: int


@final
@attrs.frozen(kw_only=True)
class Patience:
    """The longest waits of one exchange, in seconds."""

    connect_s: float = math.inf
    """For the connection: name, TCP and TLS."""
    write_s: float = math.inf
    """For sending."""
    read_s: float = math.inf
    """For each piece of the reply."""


@final
@attrs.frozen
class PoolStatistics:
    """A snapshot of one pool."""

    in_use: int
    """Connections that carry a request or a reply."""
    idle: int
    """Connections that wait for a request."""
    opened: int
    """Connections ever made."""


@final
class KeepAlivePool:
    """Opens connections and keeps them for the next request.

    Args:
        certificates: makes what TLS checks servers with; called once, before the first encrypted connection.
        keep_s: seconds after which an idle connection is closed, whether or not there is any traffic.
    """

    def __init__(self, certificates: Callable[[], ssl.SSLContext], *, keep_s: float = KEEP_S) -> None:
        self._certificates = certificates
        self._tls: ssl.SSLContext | None = None
        self._keep_s = keep_s
        self._stacks: dict[HttpOrigin, deque[Http1Connection]] = {}
        # All idle connections in the order in which they became idle: the first is also the lowest on its stack.
        self._idle: OrderedDict[Http1Connection, tuple[HttpOrigin, float]] = OrderedDict()
        self._in_use: set[Http1Connection] = set()
        self._opened = 0
        self._closed = False
        self._reaper: trio.CancelScope | None = None
        """The scope of the task that closes idle connections; None while there are none."""

    def statistics(self) -> PoolStatistics:
        """How many connections there are."""
        return PoolStatistics(len(self._in_use), len(self._idle), self._opened)

    async def exchange(
        self,
        origin: HttpOrigin,
        method: bytes,
        target: bytes,
        headers: Headers,
        body: bytes,
        patience: Patience,
        on_sent: Callable[[], None] = lambda: None,
    ) -> tuple[Head, ReplyBody]:
        """Send a request and return when the head of its reply is there. The reply must be closed.

        `on_sent` is called when there is a connection, just before the request goes out.

        Raises:
            BrokenWire: there is no reply. A stale one may be sent again: the idle connections to its origin are closed.
        """
        connection = self._kept(origin) or await self._dial(origin, patience.connect_s)
        self._in_use.add(connection)
        on_sent()
        try:
            head = await connection.request(method, target, headers, body, write_s=patience.write_s, read_s=patience.read_s)
        except BaseException as error:
            self._drop(connection)
            if isinstance(error, BrokenWire) and error.is_stale:
                self._forget(origin)
            raise
        return head, ReplyBody(self, origin, connection, patience.read_s)

    def close(self) -> None:
        """Close every connection now; requests in flight fail."""
        self._closed = True
        if self._reaper is not None:
            self._reaper.cancel()
        for connection in [*self._in_use, *self._idle]:
            connection.close()
        self._in_use.clear()
        self._idle.clear()
        self._stacks.clear()

    def give_back(self, origin: HttpOrigin, connection: Http1Connection) -> None:
        """Keep `connection` for the next request, or close it when its exchange is not complete. For :class:`Reply`."""
        if self._closed or not connection.is_reusable:
            self._drop(connection)
            return
        connection.reuse()
        self._in_use.discard(connection)
        now_s = trio.current_time()
        self._stacks.setdefault(origin, deque()).append(connection)
        self._idle[connection] = (origin, now_s + self._keep_s)
        self._expire(now_s)
        if self._reaper is None:
            self._reaper = trio.CancelScope()
            # No nursery: the pool is closed by its owner, in any order, and this task waits for nothing but time.
            trio.lowlevel.spawn_system_task(self._reap, self._reaper)

    async def _reap(self, scope: trio.CancelScope) -> None:
        """Close idle connections when their time is up, as long as there are any."""
        with scope:
            while self._idle:
                _, until_s = next(iter(self._idle.values()))
                await trio.sleep_until(until_s)
                self._expire(trio.current_time())
        if self._reaper is scope:
            self._reaper = None

    def _kept(self, origin: HttpOrigin) -> Http1Connection | None:
        self._expire(trio.current_time())
        stack = self._stacks.get(origin)
        while stack:
            connection = stack.pop()
            del self._idle[connection]
            if not stack:
                del self._stacks[origin]
            if not connection.has_news:
                return connection
            connection.close()
        return None

    def _expire(self, now_s: float) -> None:
        while self._idle:
            connection, (origin, until_s) = next(iter(self._idle.items()))
            if until_s > now_s:
                return
            del self._idle[connection]
            stack = self._stacks[origin]
            stack.popleft()
            if not stack:
                del self._stacks[origin]
            connection.close()

    def _forget(self, origin: HttpOrigin) -> None:
        for connection in self._stacks.pop(origin, ()):
            del self._idle[connection]
            connection.close()

    def _drop(self, connection: Http1Connection) -> None:
        self._in_use.discard(connection)
        connection.close()

    async def _dial(self, origin: HttpOrigin, connect_s: float) -> Http1Connection:
        with trio.move_on_after(connect_s):
            try:
                connection = await self._connected(origin)
            except OSError as error:
                raise BrokenWire("ConnectError", str(error)) from error
            except trio.BrokenResourceError as error:
                raise BrokenWire("ConnectError", str(error.__cause__ or "the TLS handshake broke off")) from error
            self._opened += 1
            if self._closed:
                connection.close()
                raise BrokenWire("ConnectError", "the pool was closed meanwhile")
            return connection
        raise BrokenWire("ConnectTimeout", f"no connection within {connect_s:g} s")

    async def _connected(self, origin: HttpOrigin) -> Http1Connection:
        tcp = await trio.open_tcp_stream(origin.host, origin.port)
        if not origin.is_encrypted:
            return Http1Connection(tcp, tcp.socket)
        try:
            if self._tls is None:
                self._tls = self._certificates()
                self._tls.set_alpn_protocols(["http/1.1"])
            # Servers of HTTP say where a reply ends, and many close without TLS's good-bye.
            encrypted = trio.SSLStream(tcp, self._tls, server_hostname=origin.host, https_compatible=True)
            await encrypted.do_handshake()
        except BaseException:
            tcp.socket.close()
            raise
        return Http1Connection(encrypted, tcp.socket)


@final
class ReplyBody:
    """A reply's body on its way: pieces until None, then :meth:`close`."""

    __slots__ = ("_connection", "_origin", "_pool", "_read_s")

    def __init__(self, pool: KeepAlivePool, origin: HttpOrigin, connection: Http1Connection, read_s: float) -> None:
        self._pool = pool
        self._origin = origin
        self._connection: Http1Connection | None = connection
        self._read_s = read_s

    async def next_piece(self) -> bytes | None:
        """The next piece, or None at the end.

        Raises:
            BrokenWire: the body stops before its end, or the reply is closed.
        """
        if self._connection is None:
            raise BrokenWire("ReadError", "the reply is closed")
        return await self._connection.next_piece(read_s=self._read_s)

    def close(self) -> None:
        """Give the connection back when the body has been read to its end; else close it. Doesn't wait; twice is fine."""
        connection, self._connection = self._connection, None
        if connection is not None:
            self._pool.give_back(self._origin, connection)
