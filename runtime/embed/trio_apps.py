"""An ASGI application of trio code under a server of asyncio: each connection is handled in the guest, in the same thread.

So an application that works with the runtime is written once, on trio. What it waits for at the server (``receive``, ``send``)
is awaited by the server's loop. Each such wait is a task there and wakes the guest, so as few are made as can be: the first
message is asked for before the application is, one whose wait was cancelled is kept for the next call, and a response of
one piece is sent when the application has returned.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, TypeVar, final

import trio

from runtime.app import Runtime
from runtime.embed.asyncio_faces import AsyncioRuntime
from runtime.embed.disconnects import ASGIApp, Message, Receive, Scope, Send

T = TypeVar("T")


def call_on_trio(runtime: Runtime | AsyncioRuntime, app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
    """``await app(scope, receive, send)`` on trio, wherever this is awaited. Cancelled, it cancels that and waits for its end."""
    if isinstance(runtime, Runtime):
        return app(scope, receive, send)  # a stream may wait for long, and is to have nothing of this on its stack
    return _called_across(runtime, app, scope, receive, send)


async def _called_across(runtime: AsyncioRuntime, app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
    across = _Across(receive, send)
    if not any(name == b"expect" for name, _ in scope.get("headers", ())):  # asking for that body says that it is wanted
        across.ask()

    async def handled() -> None:
        await app(scope, across.receive, across.send)

    try:
        try:
            await runtime._cross(None, handled)  # pyright: ignore[reportPrivateUsage]  # a face has no such method
        except Exception:
            await across.send_held()
            raise
        await across.send_held()
    finally:
        await across.forget()


@final
class _Across:
    """What an application in the guest hears of its server, and says to it."""

    def __init__(self, receive: Receive, send: Send) -> None:
        self._loop = asyncio.get_running_loop()
        self._receive = receive
        self._send = send
        self._asked: asyncio.Task[Message] | None = None
        """The message that the server was asked for, and no one has taken."""
        self._held: list[Message] = []
        """What is still to be sent: the beginning of a response, and its body if that is one piece.

        No server sends the beginning before it has something of the body, as ASGI has it.
        """

    def ask(self) -> asyncio.Task[Message]:
        """Have the server's next message come, unless one does already."""
        if self._asked is None:
            self._asked = self._loop.create_task(_coroutine(self._receive()))
        return self._asked

    async def receive(self) -> Message:
        """The application's ``receive``. Cancelled, it leaves the message to the next call."""
        asked = self.ask()
        if not asked.done():
            done = trio.Event()
            asked.add_done_callback(lambda _: done.set())
            await done.wait()
        self._asked = None
        return asked.result()

    async def send(self, message: Message) -> None:
        """The application's ``send``."""
        if not self._held and message["type"] == "http.response.start":
            self._held = [message]
            return
        messages, self._held = [*self._held, message], []
        if len(messages) == 2 and not message.get("more_body", False):
            self._held = messages
            return
        await _awaited_by(self._loop, self._send_all, messages)

    async def _send_all(self, messages: list[Message]) -> None:
        for message in messages:
            await self._send(message)

    async def send_held(self) -> None:
        """Send what is left; called by the server's own task."""
        held, self._held = self._held, []
        await self._send_all(held)

    async def forget(self) -> None:
        """No message is wanted any more."""
        asked = self._asked
        if asked is None:
            return
        if not asked.done():
            asked.cancel()
            await asyncio.wait([asked])
        if not asked.cancelled():
            asked.exception()  # seen: asyncio complains of others


async def _coroutine(awaitable: Awaitable[T]) -> T:
    return await awaitable


async def _awaited_by(loop: asyncio.AbstractEventLoop, function: Callable[..., Coroutine[Any, Any, T]], *args: Any) -> T:
    """Await ``function(*args)`` in a task of `loop`, from trio in its thread; cancelled, cancel that and wait for its end."""
    done = trio.Event()
    task = loop.create_task(function(*args))
    task.add_done_callback(lambda _: done.set())
    try:
        await done.wait()
    except trio.Cancelled:
        task.cancel()
        with trio.CancelScope(shield=True):
            await done.wait()
        if not task.cancelled():
            task.exception()  # seen: asyncio complains of others
        raise
    return task.result()
