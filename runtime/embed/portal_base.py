"""What the faces for threads have in common, and the one that is not generated: a stream of events."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Any, Self, final

from actors.lm import Delta
from actors.typevars import TypeVar
from runtime.core.events import Event
from runtime.embed.face import Answering, OuterFace, Stream, native
from runtime.embed.portal_host import PortalHost

E = TypeVar("E", bound=Event, default=Event)
In = TypeVar("In", default=Any)
M = TypeVar("M", default=Any)
Out = TypeVar("Out", default=Any)
N = TypeVar("N", default=Any)
T = TypeVar("T", default=Any)


class PortalFace(OuterFace[PortalHost, N]):
    """A thing of the runtime for threads: a method posts its work to the runtime's thread and waits for it.

    `timeout` is in seconds; when they are over, the work is cancelled, and ``TimeoutError`` is raised once it has stopped. So it
    is with an exception that a signal handler raises while the thread waits, ``KeyboardInterrupt`` above all.
    """

    def _cross(self, timeout: float | None, function: Callable[..., Awaitable[T]], /, *args: Any, **kwargs: Any) -> T:
        return self._host.cross(f"{function.__name__}()", timeout, function, *map(native, args), **kwargs)


class PortalStream(Stream[PortalHost, T]):
    """A stream of the runtime for ``with`` and ``for``. Leaving the block ends it; its run, too."""

    def __enter__(self) -> Self:
        self._host.cross(self._stream.what, None, self._host.hold, self._stream)
        self._is_open = True
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._is_open = False
        if not self._host.is_over:  # with the runtime, the stream has ended as well
            self._host.cross(self._stream.what, None, self._stream.release)

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> T:
        self._reject_when_closed("with {}: for event in events")
        if not self._taken:
            self._taken.extend(self._host.cross(self._stream.what, None, self._stream.take))
        if not self._taken:
            raise StopIteration
        return self._taken.popleft()


@final
class PortalEventStream(PortalStream[E]):
    """Events of a run, or of the runtime."""


@final
class PortalLMStream(Answering, PortalStream[Delta]):
    """An answer of a language model, piece by piece."""
