"""What the faces for threads have in common, and the one that is not generated: a stream of events."""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from types import TracebackType
from typing import Any, ClassVar, Generic, Self, TypeVar, cast, final

from actors.errors import UsageError
from actors.lm import Completion, Delta, LMStream
from runtime.embed.crossing import HeldStream
from runtime.embed.portal_host import PortalHost
from runtime.events import Event

M = TypeVar("M")
N = TypeVar("N")
T = TypeVar("T")


class PortalFace(Generic[N]):
    """A thing of the runtime for threads: a method posts its work to the runtime's thread and waits for it.

    `timeout` is in seconds; when they are over, the work is cancelled, and ``TimeoutError`` is raised once it has stopped. So it
    is with an exception that a signal handler raises while the thread waits, ``KeyboardInterrupt`` above all.
    """

    faces: ClassVar[dict[type, type[PortalFace[Any]]]] = {}

    def __init__(self, host: PortalHost, native: N) -> None:
        self._host = host
        self._native = native

    def __init_subclass__(cls, of: type) -> None:
        PortalFace.faces[of] = cls

    def _cross(self, timeout: float | None, function: Callable[..., Awaitable[T]], /, *args: Any, **kwargs: Any) -> T:
        return self._host.cross(f"{function.__name__}()", timeout, function, *map(_native, args), **kwargs)

    def _call(self, function: Callable[..., T], /, *args: Any, **kwargs: Any) -> T:
        return self._host.call_now(f"{function.__name__}()", function, *map(_native, args), **kwargs)

    def _stream(
        self,
        kind: Callable[[PortalHost, HeldStream], T],
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
        for kind, face in PortalFace.faces.items():
            if isinstance(native, kind):
                return face(self._host, native)
        return native

    @property
    def native(self) -> N:
        """The trio-native object, for functions that run under trio."""
        return self._native

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and self._native == cast("PortalFace[object]", other).native

    def __hash__(self) -> int:
        return hash(self._native)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._native!r})"


def _native(argument: object) -> Any:
    return cast("PortalFace[object]", argument).native if isinstance(argument, PortalFace) else argument


class PortalStream(Generic[T]):
    """A stream of the runtime for ``with`` and ``for``. Leaving the block ends it; its run, too."""

    def __init__(self, host: PortalHost, stream: HeldStream) -> None:
        self._host = host
        self._stream = stream
        self._taken: deque[T] = deque()
        self._is_open = False

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
        if not self._is_open:
            raise UsageError(
                f"{self._stream.what} is iterated outside of its block.\n"
                f"  Mend: with runtime.{self._stream.what[:-1]}...) as events: for event in events."
            )
        if not self._taken:
            self._taken.extend(self._host.cross(self._stream.what, None, self._stream.take))
        if not self._taken:
            raise StopIteration
        return self._taken.popleft()


@final
class PortalEventStream(PortalStream[Event]):
    """Events of a run, or of the runtime."""


@final
class PortalLMStream(PortalStream[Delta]):
    """An answer of a language model, piece by piece."""

    @property
    def completion(self) -> Completion:
        """See ``LMStream.completion``."""
        if self._stream.native is None:
            raise UsageError("the answer has not begun.\n  Mend: read completion when all pieces have come.")
        return cast("LMStream", self._stream.native).completion
