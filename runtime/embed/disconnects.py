"""ASGI middleware that cancels the handling of a request whose client has gone. On asyncio and on trio; knows no framework.

Servers report the departure as a message that an application may read, and most never do: without this, a request goes on, and
its language-model calls are paid for, after nobody waits for them.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, final

import trio

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
ASGIApp = Callable[[Any, Any, Any], Awaitable[None]]
"""Any framework's: each has types of its own for what is the same."""


@final
class CancelOnDisconnect:
    """``app.add_middleware(CancelOnDisconnect)``: when the client leaves before the response is complete, cancel its request.

    The handler sees an ordinary cancellation, and its runs are cancelled with it. What an application does after its response
    (background tasks) is left alone. Streams and web sockets keep their own messages; only ``http`` requests are watched.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
        elif trio.lowlevel.in_trio_task():
            await _on_trio(self._app, scope, receive, send)
        else:
            await _on_asyncio(self._app, scope, receive, send)


class _Inbox:
    """What the server sent, one message ahead of the application, so that a large body still flows no faster than it is read."""

    def __init__(self, send: Send) -> None:
        self.is_answered = False
        self.is_left = False
        self.messages: deque[Message] = deque()
        self._send = send

    async def send(self, message: Message) -> None:
        """The application's ``send``."""
        if message["type"] == "http.response.body" and not message.get("more_body", False):
            self.is_answered = True
        await self._send(message)

    def put(self, message: Message) -> None:
        """Keep a message for the application."""
        self.is_left = message["type"] == "http.disconnect"
        self.messages.append(message)

    def is_abandoned(self) -> bool:
        """Whether the client has gone before the response was complete."""
        return self.is_left and not self.is_answered

    def take(self) -> Message | None:
        """The next message; the last one is repeated, as servers do."""
        if not self.messages:
            return None
        return self.messages[0] if self.messages[0]["type"] == "http.disconnect" else self.messages.popleft()


async def _on_asyncio(app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
    inbox = _Inbox(send)
    news = asyncio.Condition()

    async def next_message() -> Message:
        async with news:
            while (message := inbox.take()) is None:
                await news.wait()
            news.notify_all()
            return message

    async def watch() -> None:
        try:
            while not inbox.is_left:
                message = await receive()
                async with news:
                    inbox.put(message)
                    news.notify_all()
                    while inbox.messages and not inbox.is_left:
                        await news.wait()
        finally:
            if not inbox.is_answered:
                handling.cancel()

    handling = asyncio.ensure_future(app(scope, next_message, inbox.send))
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
    if not (handling.cancelled() and inbox.is_abandoned()):
        handling.result()


async def _on_trio(app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
    inbox = _Inbox(send)
    news = trio.Condition()
    failure: list[Exception] = []

    async def next_message() -> Message:
        async with news:
            while (message := inbox.take()) is None:
                await news.wait()
            news.notify_all()
            return message

    async def watch(handling: trio.CancelScope) -> None:
        while not inbox.is_left:
            message = await receive()
            async with news:
                inbox.put(message)
                if inbox.is_abandoned():
                    handling.cancel()
                news.notify_all()
                while inbox.messages and not inbox.is_left:
                    await news.wait()

    async with trio.open_nursery() as nursery:
        with trio.CancelScope() as handling:
            nursery.start_soon(watch, handling)
            try:
                await app(scope, next_message, inbox.send)
            except Exception as error:  # noqa: BLE001 - raised below, outside of the nursery, which would wrap it
                failure.append(error)
        nursery.cancel_scope.cancel()
    if failure:
        raise failure[0]
