"""An ASGI application of trio code under a server of asyncio: each connection is handled in the guest, in the same thread.

So an application that works with the runtime is written once, on trio. What it waits for at the server (``receive``, ``send``)
is awaited by the server's loop, and cancelled there when the handling is.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

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
    loop = asyncio.get_running_loop()
    missed: deque[asyncio.Task[Message]] = deque()
    """Receptions that ended although they were cancelled: a server says only once that the client has left."""

    async def receive_there() -> Message:
        if missed:
            await trio.lowlevel.checkpoint()
            return missed.popleft().result()
        task = loop.create_task(_awaited(receive))
        try:
            return await _result_of(task)
        except trio.Cancelled:
            if not task.cancelled():
                missed.append(task)
            raise

    async def send_there(message: Message) -> None:
        await _result_of(loop.create_task(_awaited(send, message)))

    async def handled() -> None:
        await app(scope, receive_there, send_there)

    await runtime._cross(None, handled)  # pyright: ignore[reportPrivateUsage]  # a face has no such method


async def _awaited(function: Callable[..., Awaitable[T]], *args: Any) -> T:
    return await function(*args)


async def _result_of(task: asyncio.Task[T]) -> T:
    """Await a task of a loop, from trio in its thread; cancelled, cancel that and wait for its end."""
    done = trio.Event()
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
