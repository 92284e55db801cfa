"""One block on an asyncio loop in which a runtime is open: how it is entered, and how it is left, however it ends."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Callable
from functools import partial, wraps
from typing import Any, ParamSpec

from runtime.app import Runtime
from runtime.embed.asyncio_faces import AsyncioRuntime
from runtime.embed.asyncio_host import AsyncioHost, Guest, guest_of_this_loop
from runtime.embed.crossing import HostSession, OpenRuntime

P = ParamSpec("P")


def for_asyncio(
    opens: Callable[P, contextlib.AbstractAsyncContextManager[Runtime]],
) -> Callable[P, contextlib.AbstractAsyncContextManager[AsyncioRuntime]]:
    """`opens` for asyncio: the same parameters, by construction."""

    @wraps(opens)
    @contextlib.asynccontextmanager
    async def opened(*args: P.args, **kwargs: P.kwargs) -> AsyncGenerator[AsyncioRuntime]:
        visit = _Visit(partial(opens, *args, **kwargs))
        try:
            yield await visit.enter()
        except BaseException as error:
            await visit.leave(error)
            raise
        else:
            await visit.leave(None)

    return opened


class _Visit:
    """One `async with` block of an asyncio task around one runtime."""

    def __init__(self, opens: OpenRuntime) -> None:
        self._session = HostSession(opens, self._wake, self._ended)
        self._change = asyncio.Event()
        self._guest: Guest | None = None
        self._body: asyncio.Task[Any] | None = None
        self._is_interrupted = False

    def _wake(self) -> None:
        self._change.set()

    def _ended(self) -> None:
        self._change.set()
        if self._body is not None:  # the runtime gave up on its own: the block must not continue without it
            self._is_interrupted = True
            self._body.cancel()

    async def enter(self) -> AsyncioRuntime:
        """Open the runtime; cancelled, it leaves nothing behind."""
        self._guest = await guest_of_this_loop()
        await self._guest.admit(self._session)
        await self._change.wait()
        if self._session.runtime is None or self._session.is_over:
            raise self._session.error or self._session.closed("open_runtime_asyncio()")
        self._body = asyncio.current_task()
        return AsyncioRuntime(AsyncioHost(self._guest, self._session), self._session.runtime)

    async def leave(self, error: BaseException | None) -> None:
        """Close the runtime and wait for its end, however often this task is cancelled meanwhile."""
        body, self._body = self._body, None
        cancelled = None
        if self._guest is not None:
            cancelled = await self._close(self._guest, error)
        if self._session.error is not None and self._session.error is not error:
            if self._is_interrupted and body is not None:
                body.uncancel()
            raise self._session.error
        if cancelled is not None:
            raise cancelled

    async def _close(self, guest: Guest, error: BaseException | None) -> asyncio.CancelledError | None:
        closing = asyncio.ensure_future(self._finish(guest, error))
        cancelled: asyncio.CancelledError | None = None
        while not closing.done():
            try:
                await asyncio.shield(closing)
            except asyncio.CancelledError as again:
                cancelled = again
                self._session.close(abrupt=True)
        closing.result()
        return cancelled

    async def _finish(self, guest: Guest, error: BaseException | None) -> None:
        if not self._session.has_begun:
            self._session.end()
        self._session.close(abrupt=error is not None)
        while not self._session.is_over:
            self._change.clear()
            await self._change.wait()
        await guest.dismiss(self._session)
