"""What the faces for asyncio have in common, and the one that is not generated: a stream of events."""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from types import TracebackType
from typing import Any, ClassVar, Generic, Self, TypeVar, cast, final

from actors.errors import UsageError
from actors.lm import Completion, Delta, LMStream
from runtime.embed.asyncio_host import AsyncioHost
from runtime.embed.crossing import HeldStream
from runtime.events import Event

M = TypeVar("M")
N = TypeVar("N")
T = TypeVar("T")


class AsyncioFace(Generic[N]):
    """A thing of the runtime for coroutines of asyncio: what is awaited crosses to trio, everything else is called as it is.

    `timeout` is in seconds; when they are over, the work is cancelled, and ``TimeoutError`` is raised once it has stopped. So it
    is with the task's own cancellation: it cancels the work and waits for its end.
    """

    faces: ClassVar[dict[type, type[AsyncioFace[Any]]]] = {}

    def __init__(self, host: AsyncioHost, native: N) -> None:
        self._host = host
        self._native = native

    def __init_subclass__(cls, of: type) -> None:
        AsyncioFace.faces[of] = cls

    async def _cross(self, timeout: float | None, function: Callable[..., Awaitable[T]], /, *args: Any, **kwargs: Any) -> T:
        return await self._host.cross(f"{function.__name__}()", timeout, function, *map(_native, args), **kwargs)

    def _call(self, function: Callable[..., T], /, *args: Any, **kwargs: Any) -> T:
        return self._host.call_now(f"{function.__name__}()", function, *map(_native, args), **kwargs)

    def _stream(
        self,
        kind: Callable[[AsyncioHost, HeldStream], T],
        timeout: float | None,
        function: Callable[..., Any],
        /,
        *args: Any,
        **kwargs: Any,
    ) -> T:
        opens = partial(function, *map(_native, args), **kwargs)
        return kind(self._host, HeldStream(f"{function.__name__}()", opens, timeout))

    def _face(self, native: object) -> Any:
        if isinstance(native, Mapping):
            return {name: self._face(value) for name, value in cast("Mapping[str, object]", native).items()}
        for kind, face in AsyncioFace.faces.items():
            if isinstance(native, kind):
                return face(self._host, native)
        return native

    @property
    def native(self) -> N:
        """The trio-native object, for functions that run under trio."""
        return self._native

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and self._native == cast("AsyncioFace[object]", other).native

    def __hash__(self) -> int:
        return hash(self._native)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._native!r})"


def _native(argument: object) -> Any:
    return cast("AsyncioFace[object]", argument).native if isinstance(argument, AsyncioFace) else argument


class AsyncioStream(Generic[T]):
    """A stream of the runtime for ``async with`` and ``async for``. Leaving the block ends it; its run, too."""

    def __init__(self, host: AsyncioHost, stream: HeldStream) -> None:
        self._host = host
        self._stream = stream
        self._taken: deque[T] = deque()
        self._is_open = False

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
        if not self._is_open:
            raise UsageError(
                f"{self._stream.what} is iterated outside of its block.\n"
                f"  Mend: async with runtime.{self._stream.what[:-1]}...) as events: async for event in events."
            )
        if not self._taken:
            self._taken.extend(await self._host.cross(self._stream.what, None, self._stream.take))
        if not self._taken:
            raise StopAsyncIteration
        return self._taken.popleft()


@final
class AsyncioEventStream(AsyncioStream[Event]):
    """Events of a run, or of the runtime."""


@final
class AsyncioLMStream(AsyncioStream[Delta]):
    """An answer of a language model, piece by piece."""

    @property
    def completion(self) -> Completion:
        """See ``LMStream.completion``."""
        if self._stream.native is None:
            raise UsageError("the answer has not begun.\n  Mend: read completion when all pieces have come.")
        return cast("LMStream", self._stream.native).completion
