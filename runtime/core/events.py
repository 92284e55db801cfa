"""What happened, as typed values on one bounded stream; nothing is made unless somebody listens.

Facts only (past tense). Logs, metrics, inspectors and tests read this stream; they never reach into the runtime.
"""

from __future__ import annotations

import contextlib
import logging
import weakref
from collections import deque
from collections.abc import Callable
from functools import partial
from types import CodeType, TracebackType
from typing import Any, Generic, Protocol, Self, cast, final

import attrs
import trio

from actors.actor import StopReason
from actors.groups import is_fatal, leaves_of
from actors.typevars import TypeVar
from actors.words import repr_of, said
from runtime.core.instruments import FoundLater, TellUnmade, Unmade, method_of, telling_unmade, unmade_method_of

_LOG = logging.getLogger("understudy.events")

DEFAULT_BUFFER = 1024
"""Events that a subscriber may lag behind before it loses the oldest."""


@attrs.frozen(kw_only=True)
class Event:
    """Base of all events (``AnyEvent`` lists them). `at_s` is the runtime's clock (``trio.current_time()``) in seconds."""

    at_s: float = attrs.field(factory=trio.current_time)


@attrs.frozen(kw_only=True)
class ActorEvent(Event):
    """Something happened to one actor or supervisor."""

    address: str
    incarnation: int


@final
@attrs.frozen(kw_only=True)
class ActorStarted(ActorEvent):
    """An incarnation has entered its lifespan and takes messages."""


@final
@attrs.frozen(kw_only=True)
class ActorCrashed(ActorEvent):
    """An incarnation ended with an error, or never started (`while_starting`)."""

    error: BaseException = attrs.field(repr=repr_of)
    while_starting: bool = False


@final
@attrs.frozen(kw_only=True)
class ActorRestarting(ActorEvent):
    """The next incarnation will start after `delay_s` seconds."""

    delay_s: float
    restarts: int
    """Restarts of this actor so far, this one included."""


@final
@attrs.frozen(kw_only=True)
class ActorEnded(ActorEvent):
    """The actor is permanently gone."""

    reason: StopReason
    error: BaseException | None = attrs.field(default=None, repr=repr_of)


@final
@attrs.frozen(kw_only=True)
class ActorUnresponsive(ActorEvent):
    """The actor was cancelled and still runs; `stack` shows where. Its supervisor goes on waiting for it."""

    stack: str


@final
@attrs.frozen(kw_only=True)
class LoopBlocked(Event):
    """One step of a task has held the event loop, so nothing else could run meanwhile (``open_runtime(watchdog_s=…)``)."""

    address: str | None
    """The actor or supervisor whose handler, lifespan or task it was; None for the host's own code."""
    task: str
    """The name of the trio task."""
    held_s: float
    """For how long, in seconds of real time."""
    stack: str
    """Where it was, seen while it held the loop, innermost last; empty if it was too short to be seen."""


@final
@attrs.frozen(kw_only=True)
class SupervisorParked(ActorEvent):
    """The restart budget is spent; the next attempt comes after `delay_s` seconds."""

    delay_s: float
    error: BaseException | None = attrs.field(repr=repr_of)


@final
@attrs.frozen(kw_only=True)
class MessageDeadLettered(Event):
    """No actor handled a message; the letter names its recipient and the reason."""

    letter: Any


@final
@attrs.frozen(kw_only=True)
class MessageRedelivering(ActorEvent):
    """A message that crashed its actor will be delivered again after `delay_s` seconds, as attempt number `attempt`."""

    attempt: int
    delay_s: float
    error: BaseException = attrs.field(repr=repr_of)


@final
@attrs.frozen(kw_only=True)
class InstrumentFailed(Event):
    """An instrument, or the `keep` of a subscription, raised; it was dropped and is called no more. Logged as well, once."""

    instrument: str
    """Its name, and where it is written."""
    event: str
    """The class of the event that it was called with."""
    error: BaseException = attrs.field(repr=repr_of)


@final
@attrs.frozen(kw_only=True)
class EventsMissed(Event):
    """The subscriber was too slow and lost the `count` oldest events before this one."""

    count: int


E = TypeVar("E", covariant=True, bound=Event, default=Event)


@final
class EventStream(Generic[E]):
    """One subscription: an async iterator, and an async context manager that ends it.

    Holds at most `buffer` events; a slow reader loses the oldest and is told so by :class:`EventsMissed`.
    """

    def __init__(self, bus: EventBus, keep: Callable[[Any], bool] | None, buffer: int) -> None:
        self._bus = bus
        self._keep = keep
        self._buffer: deque[Any] = deque(maxlen=buffer)
        self._missed = 0
        self._arrival = trio.Event()
        self._closed = False
        self.reject_wait: Callable[[], None] | None = None
        """Raises when the wait for the next event would never end; asked before each such wait, and again after `wake`."""

    @property
    def keep(self) -> Callable[[Any], bool] | None:
        """Which events are wanted; None for all."""
        return self._keep

    def offer(self, event: Event) -> None:
        """Take `event` if it is wanted; never blocks. Raises what `keep` raises."""
        if self._keep is None or self._keep(event):
            self.take(event)

    def take(self, event: Event) -> None:
        """Take `event`, wanted or not; never blocks."""
        if len(self._buffer) == self._buffer.maxlen:
            self._missed += 1
        self._buffer.append(event)
        self._arrival.set()

    def close(self) -> None:
        """End the subscription; the iterator ends after what it still holds."""
        self._closed = True
        self._bus.forget(self)
        self._arrival.set()

    def wake(self) -> None:
        """Have a reader that waits ask once more whether it may."""
        self._arrival.set()

    def take_nowait(self) -> E | None:
        """The next event, or None when nothing waits."""
        if self._missed:
            missed, self._missed = self._missed, 0
            return cast("E", EventsMissed(count=missed))  # one of what every stream may give
        return self._buffer.popleft() if self._buffer else None

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> E:
        await trio.lowlevel.checkpoint()
        while (event := self.take_nowait()) is None:
            if self._closed:
                raise StopAsyncIteration
            if self.reject_wait is not None:
                self.reject_wait()
            if self._arrival.is_set():
                self._arrival = trio.Event()
            await self._arrival.wait()
        return event

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()


Tell = Callable[[Event], None]
Tellers = FoundLater[type[Event], Tell | None]
UnmadeTellers = FoundLater[Unmade, TellUnmade | None]


class Audience(Protocol):
    """Whom something that happens is told."""

    @property
    def listening(self) -> bool:
        """Whether anybody listens to anything: while it is False, making an event is not worth it."""
        ...

    @property
    def tellers(self) -> Tellers:
        """By class of events, what tells those who listen to them, and never raises; None if there are none."""
        ...

    @property
    def unmade(self) -> UnmadeTellers:
        """The same for events that need not be made, by what they are."""
        ...

    def wants(self, kind: type[Event]) -> bool:
        """Whether anybody listens to events of the class `kind`."""
        ...

    def publish(self, event: Event) -> None:
        """Tell them. Never raises."""
        ...


@final
@attrs.define(eq=False)
class _Sink:
    """A function that is called with events: of all classes, or of `kinds` and those derived from them."""

    call: Callable[[Any], object]
    kinds: tuple[type[Event], ...] = (Event,)


_Calls = tuple[tuple[_Sink, Callable[[Any], object]], ...]
"""Sinks, and what of each takes the events of one class."""


@final
class EventBus:
    """Where the runtime reports what happened, an :class:`Audience`."""

    def __init__(self) -> None:
        # Weak, so a stream its owner forgot costs nothing once it is collected.
        self._order: list[weakref.ref[EventStream[Any]]] = []
        self._sinks: tuple[_Sink, ...] = ()
        self.listening = False
        """Whether making an event is worth it. An attribute, since each step of a graph asks several times."""
        self.tellers = Tellers(self._find)
        """As found since the sinks and streams last changed."""
        self.unmade = UnmadeTellers(self._find_unmade)
        """The same for events that need not be made."""
        self.on_interrupt: Callable[[BaseException], None] | None = None
        """Called with what must not be survived and came out of a sink: the code that publishes could do nothing about it."""

    def wants(self, kind: type[Event]) -> bool:
        """Whether a sink or a stream takes events of the class `kind`."""
        return self.listening and self.tellers[kind] is not None

    @trio.lowlevel.enable_ki_protection  # see _tell_all
    def _find(self, kind: type[Event]) -> Tell | None:
        sinks = self._sinks_for(kind)
        if self._order or len(sinks) > 1:
            return partial(self._tell_all, sinks)
        return self._guarded(*sinks[0]) if sinks else None

    @trio.lowlevel.enable_ki_protection
    def _find_unmade(self, what: Unmade) -> TellUnmade | None:
        sinks = self._sinks_for(what.kind)
        if self._order or len(sinks) > 1:
            return what.telling(partial(self._tell_all, sinks), reraise)
        if not sinks:
            return None
        sink, call = sinks[0]
        unmade = unmade_method_of(sink.call, what.kind)
        failed = partial(self._dropped, sink, what.kind)
        return what.telling(call, failed) if unmade is None else telling_unmade(unmade, failed)

    def _sinks_for(self, kind: type[Event]) -> _Calls:
        return tuple((sink, method_of(sink.call, kind)) for sink in self._sinks if issubclass(kind, sink.kinds))

    def _guarded(self, sink: _Sink, call: Callable[[Any], object]) -> Tell:
        """:meth:`_tell_all` for the only one who listens, as it mostly is."""

        @trio.lowlevel.enable_ki_protection
        def tell(event: Event) -> None:
            try:
                call(event)
            except BaseException as error:  # noqa: BLE001 - see publish
                self._dropped(sink, type(event), error)

        return tell

    def _dropped(self, sink: _Sink, kind: type[Event], error: BaseException) -> None:
        """`sink` has raised `error`: tell the others, and call it no more."""
        self._remove(sink)
        self.publish(self._failure(sink.call, kind, error))

    def _changed(self) -> None:
        self.listening = bool(self._order or self._sinks)
        self.tellers.clear()
        self.unmade.clear()

    def add_sink(self, sink: Callable[[Any], object], kinds: tuple[type[Event], ...] = (Event,)) -> Callable[[], None]:
        """Call `sink` with every event of `kinds` from now on; returns what ends that.

        It must not block; one that raises is dropped (`InstrumentFailed`).
        """
        added = _Sink(sink, kinds)
        self._sinks = (*self._sinks, added)
        self._changed()
        return lambda: self._remove(added)

    def _remove(self, sink: _Sink) -> None:
        self._sinks = tuple(known for known in self._sinks if known is not sink)
        self._changed()

    def subscribe(self, keep: Callable[[Any], bool] | None = None, buffer: int = DEFAULT_BUFFER) -> EventStream[Any]:
        """A stream of the events from now on for which `keep` is true (all, without it)."""
        stream: EventStream[Any] = EventStream(self, keep, buffer)
        self._order.append(weakref.ref(stream, self._drop))
        self._changed()
        return stream

    def forget(self, stream: EventStream[Any]) -> None:
        """End the subscription of `stream`."""
        self._order = [known for known in self._order if known() is not stream]
        self._changed()

    def _drop(self, dead: weakref.ref[EventStream[Any]]) -> None:
        self._order = [known for known in self._order if known is not dead]
        self._changed()

    def publish(self, event: Event) -> None:
        """Give `event` to every sink and subscriber, in the order in which they came. Never raises.

        The code that publishes is in the middle of something, such as the end of an actor, of which others must still hear.
        """
        tell = self.tellers[type(event)]
        if tell is not None:
            tell(event)

    @trio.lowlevel.enable_ki_protection  # else Ctrl-C would pass for a failure of the instrument in which it happens to come
    def _tell_all(self, sinks: _Calls, event: Event) -> None:
        failed: list[InstrumentFailed] | None = None
        for sink, call in sinks:
            try:
                call(event)
            except BaseException as error:  # noqa: BLE001 - see publish
                self._remove(sink)
                failed = [*(failed or ()), self._failure(sink.call, type(event), error)]
        for known in tuple(self._order):
            stream = known()
            if stream is None:
                continue
            try:
                stream.offer(event)
            except BaseException as error:  # noqa: BLE001 - see publish
                failure = self._failure(stream.keep, type(event), error)
                stream.take(failure)  # its reader learns why nothing more comes
                stream.close()
                failed = [*(failed or ()), failure]
        for failure in failed or ():
            self.publish(failure)

    def _failure(self, sink: object, kind: type[Event], error: BaseException) -> InstrumentFailed:
        failure = InstrumentFailed(instrument=_named(sink), event=kind.__name__, error=error)
        if self.on_interrupt is not None and any(map(is_fatal, leaves_of(error))):
            self.on_interrupt(error)
        with contextlib.suppress(Exception):  # a filter of the host's loggers may raise, and the event says the same
            _LOG.error(
                "%s was called with %s and raised %s\n  Fix: an instrument must not raise; this one is called no more.",
                failure.instrument,
                failure.event,
                said(error),
            )
        return failure

    def close(self) -> None:
        """End all subscriptions."""
        for known in tuple(self._order):
            stream = known()
            if stream is not None:
                stream.close()


def reraise(error: BaseException) -> None:
    """Raise what was raised by something that never does."""
    raise error


def _named(function: object) -> str:
    """The name of a function and where it is written; of another callable, its ``repr``."""
    try:
        code = getattr(getattr(function, "__func__", function), "__code__", None)
    except Exception:  # noqa: BLE001 - its own __getattr__
        code = None
    if not isinstance(code, CodeType):
        return repr_of(function)
    return f"{code.co_qualname} ({code.co_filename}:{code.co_firstlineno})"
