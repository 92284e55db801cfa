"""What a thing of the runtime looks like from outside trio, whichever host it is: a face before the native object.

Hosts differ in how they wait; the rest is here. The faces themselves are generated.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, ClassVar, Generic, ParamSpec, Protocol, TypeVar, cast

from actors.errors import UsageError
from actors.lm import Completion, LMStream
from runtime.embed.crossing import HeldStream

P = ParamSpec("P")
T = TypeVar("T")
N = TypeVar("N")


class WayAcross(Protocol):
    """A way across to trio, as far as all are alike."""

    def call_now(self, what: str, function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """Call a sync function of the runtime."""
        ...


H = TypeVar("H", bound=WayAcross)


class OuterFace(Generic[H, N]):
    """A thing of the runtime for the code of one host. Two are equal when they are before the same thing."""

    faces: ClassVar[dict[type, type[Any]]]
    """The faces of one host by what they are before; each host's own base class begins it."""

    def __init__(self, host: H, native: N) -> None:
        self._host = host
        self._native = native

    def __init_subclass__(cls, of: type | None = None) -> None:
        super().__init_subclass__()
        if of is None:
            cls.faces = {}
        else:
            cls.faces[of] = cls

    def _call(self, function: Callable[..., T], /, *args: Any, **kwargs: Any) -> T:
        return self._host.call_now(f"{function.__name__}()", function, *map(native, args), **kwargs)

    def _stream(
        self,
        kind: Callable[[H, HeldStream], Any],
        timeout: float | None,
        function: Callable[..., Any],
        /,
        *args: Any,
        **kwargs: Any,
    ) -> Any:
        opens = partial(function, *map(native, args), **kwargs)
        return kind(self._host, HeldStream(f"{function.__name__}()", opens, timeout))

    def _face(self, result: object) -> Any:
        if isinstance(result, Mapping):
            return {name: self._face(value) for name, value in cast("Mapping[str, object]", result).items()}
        for kind, face in self.faces.items():
            if isinstance(result, kind):
                return face(self._host, result)
        return result

    @property
    def native(self) -> N:
        """The trio-native object, for functions that run under trio."""
        return self._native

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and self._native == native(other)

    def __hash__(self) -> int:
        return hash(self._native)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._native!r})"


def native(argument: object) -> Any:
    """What is behind `argument`, if it is a face; else `argument`."""
    return cast("OuterFace[Any, object]", argument).native if isinstance(argument, OuterFace) else argument


class Stream(Generic[H, T]):
    """A stream of the runtime, held open by a task of trio; fetched in handfuls."""

    def __init__(self, host: H, stream: HeldStream) -> None:
        self._host = host
        self._stream = stream
        self._taken: deque[T] = deque()
        self._is_open = False

    def _reject_when_closed(self, form: str) -> None:
        if not self._is_open:
            raise UsageError(
                f"{self._stream.what} is iterated outside of its block.\n"
                f"  Fix: {form.format(f'runtime.{self._stream.what[:-1]}...) as events')}."
            )


class Answering:
    """What the stream of a language model's answer has besides."""

    _stream: HeldStream

    @property
    def completion(self) -> Completion:
        """See ``LMStream.completion``."""
        if self._stream.native is None:
            raise UsageError("the answer has not begun.\n  Fix: read completion when all pieces have come.")
        return cast("LMStream", self._stream.native).completion
