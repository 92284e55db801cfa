"""The stream under a link. A socket is used by its descriptor, so what is to leave immediately needs no turn of another task.

Any other stream (TLS, memory) is used as it is.
"""

from __future__ import annotations

import os
from typing import final

import trio


@final
class Pipe:
    """Sends and receives bytes over a stream, which it does not close. One task receives, one sends; any may :meth:`send_now`."""

    def __init__(self, stream: trio.abc.Stream) -> None:
        self._stream = stream
        self._socket = stream.socket if isinstance(stream, trio.SocketStream) and os.name == "posix" else None
        self._left = b""
        """What :meth:`send_now` could not send, and :meth:`send` is to send first."""
        self._is_sending = False

    @property
    def is_free(self) -> bool:
        """Whether nothing is in progress, and something may be sent now."""
        return self._socket is not None and not self._is_sending and not self._left

    def send_now(self, data: bytes) -> bool:
        """Send as much of `data` as there is room for, while :attr:`is_free`; False: :meth:`send` is to send the rest."""
        assert self._socket is not None, "it is free"
        try:
            sent = os.write(self._socket.fileno(), data) if data else 0
        except BlockingIOError:
            sent = 0
        except OSError:  # it is closed, or the other side is gone: who receives finds out
            return True
        self._left = data[sent:]
        return not self._left

    async def send(self, data: bytes) -> None:
        """Send what is left, and `data`.

        Raises:
            trio.BrokenResourceError, trio.ClosedResourceError: the stream is of no more use.
        """
        data, self._left, self._is_sending = self._left + data, b"", True
        try:
            if data:
                await self._stream.send_all(data)
        finally:
            self._is_sending = False

    async def receive(self, size: int) -> bytes:
        """Wait for bytes, `size` at most; none: the stream has ended. Always a checkpoint.

        Raises:
            trio.BrokenResourceError, trio.ClosedResourceError: the stream is of no more use.
        """
        if self._socket is None:
            return bytes(await self._stream.receive_some(size))
        while True:
            await trio.lowlevel.wait_readable(self._socket)
            try:
                return os.read(self._socket.fileno(), size)
            except BlockingIOError:
                continue
            except OSError as error:
                raise trio.BrokenResourceError(str(error)) from error
