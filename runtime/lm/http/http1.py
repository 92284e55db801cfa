"""One HTTP/1.1 connection of a client, by h11 over a trio stream. It doesn't know about pools, httpx or language models.

One exchange at a time: :meth:`Http1Connection.request`, then :meth:`Http1Connection.next_piece` until it returns None. After that
the connection :attr:`Http1Connection.is_reusable`, or it is to be closed. Closing is immediate and never waits, so a
cancelled call closes its socket before anything else happens.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NoReturn, final

import attrs
import h11
import trio

MAX_HEAD_BYTES = 100 * 1024
MAX_INTERIM_REPLIES = 100
"""Of status 1xx before the reply itself; no read would ever wait too long for one that sends them without end."""
_RECEIVE_BYTES = 64 * 1024

WireFault = Literal[
    "ConnectError",
    "ConnectTimeout",
    "LocalProtocolError",
    "ReadError",
    "ReadTimeout",
    "RemoteProtocolError",
    "WriteError",
    "WriteTimeout",
]
"""What broke, in httpx's words."""

_BROKEN = (trio.BrokenResourceError, trio.ClosedResourceError)


@final
class BrokenWire(Exception):
    """The connection is of no more use and must be closed."""

    def __init__(self, fault: WireFault, message: str, *, is_stale: bool = False) -> None:
        super().__init__(message)
        self.fault: WireFault = fault
        self.is_stale = is_stale
        """The connection had served before, and it was closed before one byte of a reply came: most likely the server had
        given it up while it was idle, and never saw the request."""


@final
@attrs.frozen
class Head:
    """The beginning of a reply."""

    status: int
    headers: Sequence[tuple[bytes, bytes]]


@final
class Http1Connection:
    """One open connection.

    Args:
        stream: the bytes, encrypted or not.
        socket: the socket below `stream`; this object closes it.
    """

    __slots__ = ("_h11", "_heard", "_socket", "_stream", "served")

    def __init__(self, stream: trio.abc.Stream, socket: trio.socket.SocketType) -> None:
        self._stream = stream
        self._socket = socket
        self._h11 = h11.Connection(h11.CLIENT, max_incomplete_event_size=MAX_HEAD_BYTES)
        self._heard = False
        self.served = 0
        """How many replies it has brought to their end."""

    @property
    def has_news(self) -> bool:
        """Whether something has come on the idle connection: its end, or bytes that were not asked for. Either spoils it."""
        return self._socket.is_readable()

    @property
    def is_reusable(self) -> bool:
        """Whether the exchange is complete and the server keeps the connection open."""
        return self._h11.our_state is h11.DONE and self._h11.their_state is h11.DONE and not self._h11.trailing_data[0]

    def reuse(self) -> None:
        """Make ready for the next request."""
        self._h11.start_next_cycle()
        self._heard = False
        self.served += 1

    def close(self) -> None:
        """Close the socket now, from any state and more than once; a task that waits on it gets a BrokenWire."""
        self._socket.close()

    async def request(
        self, method: bytes, target: bytes, headers: Sequence[tuple[bytes, bytes]], body: bytes, *, write_s: float, read_s: float
    ) -> Head:
        """Send a whole request and wait for the head of its reply.

        Args:
            method: such as ``b"POST"``.
            target: path and query.
            headers: in order, ``Host`` and the body's length among them.
            body: may be empty.
            write_s: the longest that sending may take.
            read_s: the longest wait for a byte of the reply.

        Raises:
            BrokenWire: there is no reply.
        """
        data = self._encoded(method, target, headers, body)
        if data is None:  # raised out here: h11's words quote the header, and the header may be the key
            raise BrokenWire("LocalProtocolError", "the request has a header or an address that HTTP cannot carry")
        await self._send(data, write_s)
        for _ in range(MAX_INTERIM_REPLIES + 1):
            event = await self._next_event(read_s)
            if isinstance(event, h11.Response):
                return Head(event.status_code, event.headers.raw_items())
            if not isinstance(event, h11.InformationalResponse):
                self._fail("RemoteProtocolError", "the reply does not begin with a status line", None)
        self._fail("RemoteProtocolError", f"more than {MAX_INTERIM_REPLIES} interim replies came, and no reply", None)

    def _encoded(self, method: bytes, target: bytes, headers: Sequence[tuple[bytes, bytes]], body: bytes) -> bytes | None:
        """The bytes of a request; None when there are none for it."""
        try:
            data = self._h11.send(h11.Request(method=method, target=target, headers=list(headers))) or b""
            if body:
                data += self._h11.send(h11.Data(data=body)) or b""
            return data + (self._h11.send(h11.EndOfMessage()) or b"")
        except h11.LocalProtocolError:
            return None

    async def next_piece(self, *, read_s: float) -> bytes | None:
        """The next piece of the reply's body, or None at its end.

        Raises:
            BrokenWire: the body stops before its end, or nothing came for `read_s` seconds.
        """
        event = await self._next_event(read_s)
        return bytes(event.data) if isinstance(event, h11.Data) else None

    async def _send(self, data: bytes, write_s: float) -> None:
        with trio.move_on_after(write_s) as scope:
            try:
                await self._stream.send_all(data)
            except _BROKEN as error:
                # A server that rejects a large body answers and closes before it has read all of it: the answer counts.
                await self._receive(error)
        if scope.cancelled_caught:
            raise BrokenWire("WriteTimeout", f"the request could not be sent within {write_s:g} s")

    async def _next_event(self, read_s: float) -> h11.Event:
        while True:
            try:
                event = self._h11.next_event()
            except h11.RemoteProtocolError as error:
                self._fail("RemoteProtocolError", str(error), error)
            if event is h11.NEED_DATA:
                with trio.move_on_after(read_s) as scope:
                    await self._receive(None)
                if scope.cancelled_caught:
                    raise BrokenWire("ReadTimeout", f"nothing came for {read_s:g} s")
            elif isinstance(event, h11.Event):
                return event
            else:
                self._fail("RemoteProtocolError", "the server ended the exchange in the middle", None)

    async def _receive(self, write_error: Exception | None) -> None:
        try:
            data = await self._stream.receive_some(_RECEIVE_BYTES)
        except _BROKEN as error:
            cause = write_error or error
            self._fail("WriteError" if write_error else "ReadError", str(cause) or "the connection broke", cause)
        if not data and not self._heard:
            self._fail("RemoteProtocolError", "the server closed the connection without a reply", write_error)
        self._heard = True
        self._h11.receive_data(bytes(data))

    def _fail(self, fault: WireFault, message: str, cause: Exception | None) -> NoReturn:
        raise BrokenWire(fault, message, is_stale=self.served > 0 and not self._heard) from cause
