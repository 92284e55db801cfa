"""The stream under a link. What is said leaves together, just before the event loop waits, and no task takes a turn for it.

A socket is used by its descriptor. Any other stream (TLS, memory) has a task that sends.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Generator
from typing import Final, final

import trio

from runtime.core.services import Doorbell


@final
class _BeforeWaiting(trio.abc.Instrument):
    """Lets the pipes of one loop send what has gathered, in each of its turns."""

    def __init__(self) -> None:
        self.full: dict[Pipe, None] = {}
        self.users = 0

    def before_io_wait(self, timeout: float) -> None:
        """See ``trio.abc.Instrument``."""
        if self.full:
            full, self.full = self.full, {}
            for pipe in full:
                pipe.flush()


_BEFORE_WAITING: Final[trio.lowlevel.RunVar[_BeforeWaiting | None]] = trio.lowlevel.RunVar("understudy_pipes", None)


@final
class Pipe:
    """Sends and receives bytes over a stream, which it does not close, while it is :meth:`opened`. One task receives."""

    def __init__(self, stream: trio.abc.Stream, take: Callable[[], bytes]) -> None:
        """`take` gives what has gathered to be sent, and forgets it."""
        self._stream = stream
        self._take = take
        self._socket = stream.socket if isinstance(stream, trio.SocketStream) and os.name == "posix" else None
        self._bell = Doorbell()
        """Wakes the task that sends: of a socket, what there was no room for."""
        self._left = b""
        """What a socket had no room for."""
        self._is_sending = False
        self._before_waiting: _BeforeWaiting | None = None
        self._token: trio.lowlevel.TrioToken | None = None

    @contextlib.contextmanager
    def opened(self) -> Generator[None]:
        """Things may be sent in the block."""
        if self._socket is None:
            yield
            return
        found = _BEFORE_WAITING.get()
        if found is None:
            found = _BeforeWaiting()
            _BEFORE_WAITING.set(found)
            trio.lowlevel.add_instrument(found)
        found.users += 1
        self._before_waiting, self._token = found, trio.lowlevel.current_trio_token()
        try:
            yield
        finally:
            self._before_waiting = None
            found.full.pop(self, None)
            found.users -= 1
            if not found.users:
                _BEFORE_WAITING.set(None)
                trio.lowlevel.remove_instrument(found)

    def ring(self) -> None:
        """There is something to send."""
        if self._before_waiting is None:
            self._bell.ring()
        else:
            self._before_waiting.full[self] = None

    def flush(self) -> None:
        """Send what has gathered, as far as there is room; outside of any task."""
        if self._is_sending or self._left:
            if self._is_sending:  # and is not waiting for the bell
                self._bell.ring()
            return  # the task that sends takes this, too
        assert self._socket is not None, "it was opened"
        assert self._token is not None, "it was opened"
        data = self._take()
        try:
            sent = os.write(self._socket.fileno(), data) if data else 0
        except BlockingIOError:
            sent = 0
        except OSError:  # it is closed, or the other side is gone: who receives finds out
            return
        self._left = data[sent:]
        if self._left:
            self._token.run_sync_soon(self._bell.ring)  # the loop has decided already for how long it waits

    async def send(self) -> None:
        """Send what :meth:`flush` does not, for ever.

        Raises:
            trio.BrokenResourceError, trio.ClosedResourceError: the stream is of no more use.
        """
        while True:
            await self._bell.wait()
            left, self._left, self._is_sending = self._left, b"", True
            data = left + self._take()
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
