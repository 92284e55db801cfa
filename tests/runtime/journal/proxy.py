"""A network between a store and its server that swallows or breaks what goes through it."""

from __future__ import annotations

import contextlib

import trio


class Proxy:
    """Forwards to a port of this machine; see :meth:`run`."""

    def __init__(self, target: int) -> None:
        self.port = 0
        self._target = target
        self._asking, self._answering = trio.Event(), trio.Event()
        self.heal()
        self._pairs: list[tuple[trio.SocketStream, trio.SocketStream]] = []

    @classmethod
    async def run(cls, target: int, *, task_status: trio.TaskStatus[Proxy]) -> None:
        """Forward to port `target` until cancelled."""
        proxy = cls(target)
        async with trio.open_nursery() as nursery:
            [listener] = await trio.open_tcp_listeners(0, host="127.0.0.1")
            nursery.start_soon(trio.serve_listeners, proxy._serve, [listener])
            proxy.port = listener.socket.getsockname()[1]
            task_status.started(proxy)

    def drop(self, *, answers_only: bool = False) -> None:
        """Let nothing through, without a word to either side; with `answers_only` the server still hears what it is told."""
        self._answering = trio.Event()
        if not answers_only:
            self._asking = trio.Event()

    def heal(self) -> None:
        """Let through what comes, and what was held back."""
        self._asking.set()
        self._answering.set()

    def reset(self, *, answers_only: bool = False) -> None:
        """Break all connections. With `answers_only` the server has heard what it was told, and its answer is lost."""
        for near, far in self._pairs:
            for stream in (near,) if answers_only else (far, near):
                with contextlib.suppress(OSError):  # closed by its other side
                    stream.socket.shutdown(trio.socket.SHUT_RDWR)
        self._pairs.clear()

    async def _serve(self, near: trio.SocketStream) -> None:
        far = await trio.open_tcp_stream("127.0.0.1", self._target)
        self._pairs.append((near, far))
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._forward, near, far, nursery.cancel_scope, True)
                nursery.start_soon(self._forward, far, near, nursery.cancel_scope, False)
        finally:
            with trio.CancelScope(shield=True, deadline=trio.current_time() + 1):
                await near.aclose()
                await far.aclose()

    async def _forward(self, source: trio.SocketStream, sink: trio.SocketStream, end: trio.CancelScope, is_asking: bool) -> None:
        try:
            while data := await source.receive_some():
                await (self._asking if is_asking else self._answering).wait()
                await sink.send_all(data)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass
        end.cancel()
