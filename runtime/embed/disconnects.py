"""ASGI middleware that cancels the handling of a request whose client has gone. On asyncio and on trio; knows no framework.

Servers report the departure as a message that an application may read, and most never do: without this, a request continues, and
its language-model calls are paid for, after no client waits for them.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, MutableMapping
from functools import partial
from typing import Any, Final, final

import trio

from runtime.core.foreign_errors import failure_in

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
ASGIApp = Callable[[Any, Any, Any], Awaitable[None]]
"""Any framework's: each has its own types for what is the same."""


@final
class CancelOnDisconnect:
    """``app.add_middleware(CancelOnDisconnect)``: when the client leaves before the response is complete, cancel its request.

    The handler sees an ordinary cancellation, and its runs are cancelled with it. What an application does after its response
    (background tasks) is left alone. Streams and web sockets keep their own messages; only ``http`` requests are watched.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app
        """What is wrapped, by the name that middleware has for it."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
        elif trio.lowlevel.in_trio_task():
            await cancelled_with_its_client(self.app, scope, receive, send)
        else:
            await _on_asyncio(self.app, scope, receive, send)


_AHEAD_BYTES: Final = 65_536
"""How much of a body is read ahead of the application. A client's departure is behind what it sent, and most handlers never read
that; beyond this bound a large body flows no faster than it is read, and a client that leaves is noticed when it is."""


class _Inbox:
    """What the server sent, ahead of the application. No clock and no task: both libraries wait around it."""

    def __init__(self, send: Send) -> None:
        self.is_answered = False
        self.is_left = False
        self.readers = 0
        """Calls of the application's ``receive`` that wait."""
        self.error: Exception | None = None
        """What the server's ``receive`` raised, which the application is told when it reads."""
        self._messages: deque[Message] = deque()
        self._ahead_bytes = 0
        self._send = send

    async def send(self, message: Message) -> None:
        """The application's ``send``."""
        if message["type"] == "http.response.body" and not message.get("more_body", False):
            self.is_answered = True
        await self._send(message)

    def put(self, message: Message) -> None:
        """Keep a message for the application."""
        self.is_left = message["type"] == "http.disconnect"
        self._messages.append(message)
        self._ahead_bytes += len(message.get("body", b""))

    def is_full(self) -> bool:
        """Whether the server must wait until the application reads."""
        return self._ahead_bytes >= _AHEAD_BYTES

    def is_abandoned(self) -> bool:
        """Whether the client has gone before the response was complete."""
        return self.is_left and not self.is_answered

    def take(self) -> Message | None:
        """The next message; the last one is repeated, as servers do.

        Raises:
            Exception: what the server's ``receive`` raised, once the messages before it have been taken.
        """
        if not self._messages:
            if self.error is not None:
                raise self.error
            return None
        if self._messages[0]["type"] == "http.disconnect":
            return self._messages[0]
        message = self._messages.popleft()
        self._ahead_bytes -= len(message.get("body", b""))
        return message


async def _next_message(inbox: _Inbox, news: asyncio.Condition | trio.Condition) -> Message:
    """The application's next message; both conditions wait and notify by the same names."""
    async with news:
        inbox.readers += 1
        try:
            while (message := inbox.take()) is None:
                await news.wait()
        finally:
            inbox.readers -= 1
        news.notify_all()
        return message


async def _on_asyncio(app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
    inbox = _Inbox(send)
    news = asyncio.Condition()

    async def watch() -> None:
        while not inbox.is_left and inbox.error is None:
            try:
                message = await receive()
            except Exception as error:  # noqa: BLE001 - the application's, if it reads; else raised below
                inbox.error = error
            else:
                inbox.put(message)
            async with news:
                news.notify_all()
                while inbox.is_full() and not inbox.is_left:
                    await news.wait()
        if _ends_handling(inbox):
            handling.cancel()

    handling = asyncio.ensure_future(app(scope, partial(_next_message, inbox, news), inbox.send))
    watching = asyncio.ensure_future(watch())
    try:
        await asyncio.wait([handling])
    except asyncio.CancelledError:
        handling.cancel()
        await asyncio.wait([handling])
        raise
    finally:
        watching.cancel()
        await asyncio.wait([watching])
    if not watching.cancelled():
        watching.result()
    if not handling.cancelled():
        handling.result()
    elif inbox.error is not None:
        raise inbox.error
    elif not inbox.is_abandoned():
        handling.result()  # it cancelled itself


async def cancelled_with_its_client(app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> bool:
    """On trio, ``await app(scope, receive, send)``, and cancel it when the client leaves; returns whether the client has left."""
    inbox = _Inbox(send)
    news = trio.Condition()
    failure: list[BaseException] = []

    async def watch(handling: trio.CancelScope) -> None:
        while not inbox.is_left and inbox.error is None:
            try:
                message = await receive()
            except Exception as error:  # noqa: BLE001 - the application's, if it reads; else raised below
                inbox.error = error
            else:
                inbox.put(message)
            if _ends_handling(inbox):
                handling.cancel()
            async with news:
                news.notify_all()
                while inbox.is_full() and not inbox.is_left:
                    await news.wait()

    # Everything is raised bare, after the nursery: servers and frameworks look for their own exceptions, not for groups of them.
    async with trio.open_nursery() as nursery:
        with trio.CancelScope() as handling:
            nursery.start_soon(watch, handling)
            try:
                await app(scope, partial(_next_message, inbox, news), inbox.send)
            except BaseException as error:
                failed = failure_in(error)
                if failed is None:
                    raise
                failure.append(failed)
        nursery.cancel_scope.cancel()
    if failure:
        raise failure[0]
    if handling.cancelled_caught and inbox.error is not None:
        raise inbox.error
    return inbox.is_left


def _ends_handling(inbox: _Inbox) -> bool:
    """Whether no client waits for the response any more, or the connection failed and the application would not hear of it."""
    return inbox.is_abandoned() or (inbox.error is not None and not inbox.readers and not inbox.is_answered)
