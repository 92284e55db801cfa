"""HTTP/1.1 on one accepted connection, by h11. It doesn't know about language models.

Bounded in all directions: a head of more than 16 KiB is answered with 431, a body of more than ``MAX_BODY_BYTES`` with 413, and a
client that sends ahead while it waits for an answer is read no further than ``MAX_AHEAD_BYTES``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final, final

import attrs
import h11
import trio

MAX_BODY_BYTES: Final = 10 * 1024 * 1024
MAX_AHEAD_BYTES: Final = 64 * 1024
_RECEIVE_BYTES: Final = 64 * 1024
_TAIL_BYTES: Final = 8 * 1024
_DRAIN_BYTES: Final = 64 * 1024 * 1024
_DRAIN_S: Final = 1.0

CLIENT_GONE: Final = (trio.BrokenResourceError, trio.ClosedResourceError)
"""What a send or receive raises on a connection that the far side has reset."""


@final
@attrs.frozen
class ReceivedRequest:
    """One request, read to its end."""

    method: str
    path: str
    """Without the query."""
    headers: Mapping[str, str]
    """By lower-case name; of a repeated header, the last."""
    body: bytes


class RejectedRequest(Exception):
    """The bytes that came cannot be served; `status` is the status to answer with. The connection must be closed after that."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


@final
class HttpConnection:
    """The server's side of one connection. One task at a time answers; another may run :meth:`wait_gone` meanwhile."""

    def __init__(self, stream: trio.abc.Stream) -> None:
        self._stream = stream
        self._h11 = h11.Connection(h11.SERVER)
        self._buffered = bytearray()
        self._last_byte_sent = False
        self._without_body = False
        self.on_last_bytes: Callable[[], None] | None = None
        """Called once per response, see :meth:`finish`; forgotten with the next request."""

    async def next_request(self) -> ReceivedRequest | None:
        """The next request, or None when the client has closed the connection between two.

        Raises:
            RefusedRequest: what came is not HTTP, or too large.
            trio.BrokenResourceError: the client reset the connection.
        """
        head: h11.Request | None = None
        body = bytearray()
        while True:
            event = await self._next_event()
            if isinstance(event, h11.Request):
                head = event
                _reject_if_too_large(_declared_bytes(event))
            elif isinstance(event, h11.Data):
                body += event.data
                _reject_if_too_large(len(body))
            elif isinstance(event, h11.EndOfMessage) and head is not None:
                self._last_byte_sent, self.on_last_bytes = False, None
                self._without_body = head.method == b"HEAD"
                return _request(head, bytes(body))
            else:
                return None

    async def send(self, status: int, headers: Mapping[str, str], body: bytes) -> None:
        """Send a whole response in one piece."""
        if self._h11.our_state not in {h11.IDLE, h11.SEND_RESPONSE}:
            return
        self.begin(status, {**headers, "content-length": str(len(body))})
        if body and not self._without_body:
            self._data(body)
        await self.finish()

    def begin(self, status: int, headers: Mapping[str, str]) -> None:
        """Prepare the response's head; it goes out with the first piece of the body."""
        self._put(h11.Response(status_code=status, headers=list(headers.items())))

    async def send_piece(self, data: bytes) -> None:
        """Send a piece of the body and everything that waits before it."""
        self._data(data)
        await self._flush()

    async def finish(self, last: bytes = b"") -> None:
        """Send the rest of the response, `last` included.

        Just before the last bytes go out, ``on_last_bytes`` is called, and from then on the client may leave without being
        missed: it can have read them and gone, or asked again elsewhere, before this task runs again.
        """
        if last:
            self._data(last)
        self._put(h11.EndOfMessage())
        if len(self._buffered) > _TAIL_BYTES:
            head, self._buffered = self._buffered[:-_TAIL_BYTES], self._buffered[-_TAIL_BYTES:]
            await self._stream.send_all(head)
        self._last_byte_sent = True
        if self.on_last_bytes is not None:
            self.on_last_bytes()
        await self._flush()

    async def wait_gone(self) -> None:
        """Return when the client has closed or reset the connection before the last byte was handed over; else wait forever.

        What a client sends ahead meanwhile is kept for :meth:`next_request`. Safe to cancel: no byte is lost.
        """
        ahead_bytes = 0
        while ahead_bytes < MAX_AHEAD_BYTES:
            try:
                data = await self._stream.receive_some(_RECEIVE_BYTES)
            except CLIENT_GONE:
                data = b""
            if not data:
                break
            self._h11.receive_data(bytes(data))
            ahead_bytes += len(data)
        else:
            await trio.sleep_forever()
        if self._last_byte_sent:
            await trio.sleep_forever()

    def reuse(self) -> bool:
        """Make ready for the next request; False when the connection must be closed instead."""
        if self._h11.our_state is not h11.DONE or self._h11.their_state is not h11.DONE:
            return False
        self._h11.start_next_cycle()
        return True

    async def linger(self) -> None:
        """Read and forget what the client still sends, for at most a second, so it gets to read our last answer.

        Closing with unread bytes would reset the connection, and the answer would be lost with it.
        """
        left = _DRAIN_BYTES
        with trio.move_on_after(_DRAIN_S):
            try:
                if isinstance(self._stream, trio.abc.HalfCloseableStream):
                    await self._stream.send_eof()
                while left > 0 and (data := await self._stream.receive_some(_RECEIVE_BYTES)):
                    left -= len(data)
            except CLIENT_GONE:
                return

    async def _next_event(self) -> h11.Request | h11.Data | h11.EndOfMessage | None:
        while True:
            try:
                event = self._h11.next_event()
            except h11.RemoteProtocolError as error:
                raise RejectedRequest(error.error_status_hint, f"This is not HTTP/1.1: {error}.") from error
            if event is h11.NEED_DATA:
                if self._h11.they_are_waiting_for_100_continue:
                    self._put(h11.InformationalResponse(status_code=100, headers=[]))
                    await self._flush()
                self._h11.receive_data(bytes(await self._stream.receive_some(_RECEIVE_BYTES)))
            elif isinstance(event, h11.Request | h11.Data | h11.EndOfMessage):
                return event
            else:
                return None

    def _data(self, data: bytes) -> None:
        self._put(h11.Data(data=data))

    def _put(self, event: h11.InformationalResponse | h11.Response | h11.Data | h11.EndOfMessage) -> None:
        self._buffered += self._h11.send(event) or b""

    async def _flush(self) -> None:
        data, self._buffered = self._buffered, bytearray()
        await self._stream.send_all(data)


def _request(head: h11.Request, body: bytes) -> ReceivedRequest:
    headers = {name.decode("ascii"): value.decode("latin-1") for name, value in head.headers}
    path = head.target.decode("latin-1").partition("?")[0]
    return ReceivedRequest(head.method.decode("ascii"), path, headers, body)


def _declared_bytes(head: h11.Request) -> int:
    return next((int(value) for name, value in head.headers if name == b"content-length"), 0)


def _reject_if_too_large(size_bytes: int) -> None:
    if size_bytes > MAX_BODY_BYTES:
        raise RejectedRequest(413, f"The request's body has more than {MAX_BODY_BYTES} bytes.")
