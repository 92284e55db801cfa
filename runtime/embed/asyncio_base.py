"""What the faces for asyncio have in common, and the one that is not generated: a stream of events."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Any, Self, final

from actors.lm import Delta
from actors.typevars import TypeVar
from runtime.core.events import Event
from runtime.embed.asyncio_host import AsyncioHost
from runtime.embed.face import Answering, OuterFace, Stream, native

E = TypeVar("E", bound=Event, default=Event)
In = TypeVar("In", default=Any)
M = TypeVar("M", default=Any)
Out = TypeVar("Out", default=Any)
N = TypeVar("N", default=Any)
T = TypeVar("T", default=Any)


class AsyncioFace(OuterFace[AsyncioHost, N]):
    """A thing of the runtime for coroutines of asyncio: what is awaited crosses to trio, everything else is called as it is.

    `timeout` is in seconds; when they are over, the work is cancelled, and ``TimeoutError`` is raised once it has stopped. So it
    is with the task's own cancellation: it cancels the work and waits for its end.
    """

    async def _cross(self, timeout: float | None, function: Callable[..., Awaitable[T]], /, *args: Any, **kwargs: Any) -> T:
        return await self._host.cross(f"{function.__name__}()", timeout, function, *map(native, args), **kwargs)


class AsyncioStream(Stream[AsyncioHost, T]):
    """A stream of the runtime for ``async with`` and ``async for``. Leaving the block ends it; its run, too."""

    async def __aenter__(self) -> Self:
        await self._host.cross(self._stream.what, None, self._host.hold, self._stream)
        self._is_open = True
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._is_open = False
        if not self._host.is_over:  # with the runtime, the stream has ended as well
            await self._host.cross(self._stream.what, None, self._stream.release)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> T:
        self._reject_when_closed("async with {}: async for event in events")
        if not self._taken:
            self._taken.extend(await self._host.cross(self._stream.what, None, self._stream.take))
        if not self._taken:
            raise StopAsyncIteration
        return self._taken.popleft()


@final
class AsyncioEventStream(AsyncioStream[E]):
    """Events of a run, or of the runtime."""


@final
class AsyncioLMStream(Answering, AsyncioStream[Delta]):
    """An answer of a language model, piece by piece."""
