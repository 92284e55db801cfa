"""The connections of our own server: those of hypercorn's trio worker, with a shorter way out for what is small.

Hypercorn puts a lock, a cancel scope and a checkpoint around each write. For an event, which the system takes immediately in
nearly all cases, that is half of what the write costs. The loop around the connections is ours as well: the worker's has no
place where another kind of connection could be named, and its lifespan is none of ours.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, Final, cast, final

import trio
from hypercorn.app_wrappers import ASGIWrapper
from hypercorn.config import Config
from hypercorn.events import Closed, Event, RawData
from hypercorn.protocol.h11 import H11Protocol
from hypercorn.trio.task_group import TaskGroup
from hypercorn.trio.tcp_server import TCPServer
from hypercorn.trio.worker_context import WorkerContext
from hypercorn.typing import ConnectionState

SMALL_BYTES: Final = 16_384
"""What is longer takes the ordinary way."""
IN_A_ROW: Final = 16
"""After so many short ways the next write is ordinary, with its checkpoint: an application may write without ever waiting."""
MOST_WAITING: Final = 10
"""So many pieces of a body, of at most 64 KiB, wait for the application that reads them."""
_IS_POSIX: Final = os.name == "posix"
"""Elsewhere the number of a socket is not that of a file."""


@final
class Arrivals:
    """What one request brings to its application: some pieces of the body wait for it, and the client's departure never does.

    Hypercorn's queue has one bound for both. An application that answers without having read a body that fills it waited for
    room to be told of its own end, and its connection was there for as long as the server.
    """

    def __init__(self) -> None:
        self._messages: deque[Any] = deque()
        self._is_left = False
        self._news = trio.lowlevel.ParkingLot()

    async def put(self, message: Any) -> None:
        """Keep it for the application."""
        if message["type"] == "http.disconnect":
            self._is_left = True
        while len(self._messages) >= MOST_WAITING and not self._is_left:
            await self._news.park()
        if not self._is_left or message["type"] == "http.disconnect":  # or else no one asks for it any more
            self._messages.append(message)
        self._news.unpark_all()

    async def receive(self) -> Any:
        """The next one. The departure comes as often as it is asked for."""
        await trio.lowlevel.checkpoint()
        while not self._messages:
            await self._news.park()
        if self._messages[0]["type"] == "http.disconnect":
            return self._messages[0]
        self._news.unpark_all()
        return self._messages.popleft()


@final
class Tasks(TaskGroup):
    """Those of one connection."""

    async def spawn_app(self, app: Any, config: Config, scope: Any, send: Any) -> Any:
        """Call `app` in a task; gives what it is told with."""
        arrivals = Arrivals()

        def called(scope: Any, _: Any, *others: Any) -> Any:  # no coroutine: it would wait on the stack of every stream
            return app(scope, arrivals.receive, *others)

        await super().spawn_app(cast("Any", called), config, scope, send)
        return arrivals.put


@final
class Protocol(H11Protocol):
    """HTTP/1.1, and nothing that a request may ask to go over to.

    A proxy that passes an upgrade to HTTP/2 or to a web socket on sees none of what comes behind it; and hypercorn gives a
    connection that has begun so no time after which it is idle.
    """

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.reading = trio.CancelScope()
        """Around what reads. Behind a second request that waits for its turn, nothing else would ever wake it."""

    async def handle(self, event: Event) -> None:
        """What comes from the client, or that nothing will."""
        await super().handle(event)
        if isinstance(event, Closed):
            self.reading.cancel()

    async def _maybe_recycle(self) -> None:
        if self.reading.cancel_called:  # what a client that has gone has asked for besides is answered to no one
            await self._close_stream()
        else:
            await super()._maybe_recycle()

    async def _check_protocol(self, event: Any) -> None:
        """Answer it here, no matter what it asks for."""

    async def _create_stream(self, request: Any) -> None:
        if any(name == b"upgrade" for name, _ in request.headers):
            kept = [each for each in request.headers if each[0] != b"upgrade"]
            request = type(request)(method=request.method, headers=kept, target=request.target, http_version=request.http_version)
        await super()._create_stream(request)


@final
class ServerConnection(TCPServer):
    """One connection. It is among the `opened` ones while it is served."""

    _in_a_row = 0

    def __init__(self, opened: set[ServerConnection], *args: Any) -> None:
        super().__init__(*args)
        self._opened = opened

    async def run(self) -> None:
        """Serve it."""
        self._opened.add(self)
        try:
            socket: Any = self.stream.socket
            client, server = socket.getpeername()[:2], socket.getsockname()[:2]  # the others are of version 6 alone
            async with Tasks() as tasks:
                self._task_group = tasks
                told = (client, server, self.protocol_send)
                protocol = Protocol(self.app, self.config, self.context, tasks, ConnectionState(self.state), False, *told)
                self.protocol = cast("Any", protocol)
                await protocol.initiate()
                await cast("Any", self.idle_task).restart(tasks, self._idle_timeout)
                with protocol.reading:
                    await self._read_data()
        except OSError:  # the client has gone before it was asked who it is
            pass
        finally:
            try:
                await self._close()
            finally:
                self._opened.discard(self)

    def cut(self) -> None:
        """Close its socket, no matter what waits for the client."""
        self.stream.socket.close()

    async def protocol_send(self, event: Event) -> None:
        """Send what the protocol says."""
        if (
            isinstance(event, RawData)
            and self._in_a_row < IN_A_ROW
            and len(event.data) <= SMALL_BYTES
            and not self.send_lock.locked()  # of a write that waits for the client: this one comes after it
            and _IS_POSIX
        ):
            try:
                sent = os.write(self.stream.socket.fileno(), event.data)
            except OSError:  # no room, or no client: the ordinary way waits, or tells the protocol
                sent = 0
            if sent == len(event.data):
                self._in_a_row += 1
                return
            self._in_a_row = 0
            with trio.CancelScope(shield=sent > 0):  # a part has gone: nothing else may come before the rest
                await super().protocol_send(RawData(event.data[sent:]))
            return
        self._in_a_row = 0
        await super().protocol_send(event)


async def serve_connections(
    app: Callable[..., Awaitable[None]],
    config: Config,
    listener: trio.SocketListener,
    stop: trio.Event,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve `app`, without a lifespan, until `stop`; those who are connected then have ``config.graceful_timeout`` seconds.

    Then, or when this is cancelled, their sockets are closed: hypercorn shields its writes, which would wait for a client that
    takes nothing for as long as it stays.
    """
    opened: set[ServerConnection] = set()
    context = WorkerContext(None)
    asgi: Any = ASGIWrapper(cast("Any", app))
    made: Any = partial(ServerConnection, opened, asgi, config, context, ConnectionState({}))
    with trio.CancelScope() as serving:
        async with trio.open_nursery() as closing:
            closing.start_soon(_cut_when_cancelled, opened)
            async with trio.open_nursery() as connections:
                async with trio.open_nursery() as accepting:
                    accepting.start_soon(partial(trio.serve_listeners, made, [listener], handler_nursery=connections))
                    task_status.started()
                    await stop.wait()
                    accepting.cancel_scope.cancel()
                await context.terminated.set()
                serving.deadline = trio.current_time() + config.graceful_timeout
            closing.cancel_scope.cancel()


async def _cut_when_cancelled(opened: set[ServerConnection]) -> None:
    try:
        await trio.sleep_forever()
    finally:
        for connection in list(opened):
            connection.cut()
