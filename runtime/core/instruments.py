"""Instruments that have a method for each class of events: the bus calls that, without a look at the class of each event."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, Generic, TypeAlias, TypeVar, cast, final

import attrs
import trio

TellUnmade: TypeAlias = Callable[[str, Any, float, Any], object]
"""Takes what an :class:`Unmade` event would be made of: the run's id, the step, the time in seconds, and the output."""
Failed: TypeAlias = Callable[[BaseException], None]


class Instrument(ABC):
    """Base of instruments whose calls are counted in the costs of a step. Any other callable is an instrument, too."""

    @abstractmethod
    def method_for(self, kind: type[Any]) -> Callable[[Any], object]:
        """What is called with the events of exactly the class `kind`. Asked again whenever the listeners have changed."""

    def unmade_method_for(self, kind: type[Any]) -> TellUnmade | None:
        """What does as ``method_for(kind)`` without an event, if that can be: then none is made for it alone.

        Whether it or the other is called may change from one event to the next. The step changes afterwards: it must be read.
        """
        return None

    def __call__(self, event: Any) -> None:
        """Take one event, as its method does."""
        self.method_for(cast("type[object]", type(event)))(event)


def method_of(sink: Callable[[Any], object], kind: type[Any]) -> Callable[[Any], object]:
    """What of `sink` takes events of the class `kind`. Never raises: what `sink` raises when it is asked comes with the event."""
    if not isinstance(sink, Instrument):
        return sink
    try:
        return sink.method_for(kind)
    except BaseException as error:  # noqa: BLE001 - see EventBus.publish
        return _raising(error)


def unmade_method_of(sink: Callable[[Any], object], kind: type[Any]) -> TellUnmade | None:
    """What does without the event, if there is that. Never raises, as :func:`method_of`."""
    if not isinstance(sink, Instrument):
        return None
    try:
        return sink.unmade_method_for(kind)
    except BaseException as error:  # noqa: BLE001 - see EventBus.publish
        return _raising(error)


def _raising(error: BaseException) -> Callable[..., object]:
    def fail(*_: object) -> None:
        raise error

    return fail


@final
@attrs.frozen(eq=False)
class Unmade:
    """An event of nearly every step, which is made only if there is a listener who wants it as such."""

    kind: type[Any]
    telling: Callable[[Callable[[Any], object], Failed], TellUnmade]
    """Returns what makes one, and calls the first function with it, and the second one with what that raises."""


def telling_unmade(call: TellUnmade, failed: Failed) -> TellUnmade:
    """What calls `call`, and `failed` with what that raises."""

    @trio.lowlevel.enable_ki_protection  # see EventBus._tell_all
    def tell(run_id: str, step: Any, at_s: float, output: Any) -> None:
        try:
            call(run_id, step, at_s, output)
        except BaseException as error:  # noqa: BLE001 - see EventBus.publish
            failed(error)

    return tell


K = TypeVar("K")
V = TypeVar("V")


@final
class FoundLater(dict[K, V], Generic[K, V]):
    """A dict whose values are found when they are first looked up; no function, since each step of a graph looks in twice."""

    def __init__(self, find: Callable[[K], V]) -> None:
        super().__init__()
        self._find = find

    def __missing__(self, key: K) -> V:
        found = self[key] = self._find(key)
        return found
