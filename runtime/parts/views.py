"""What a runtime shows: events, figures, its tree."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Generator, Iterable
from datetime import datetime
from typing import Any

from actors.actor import ActorRef
from actors.errors import DeclarationError
from actors.words import repr_of
from runtime.core.actor_cell import ActorCell
from runtime.core.dead_letters import DeadLetters
from runtime.core.events import DEFAULT_BUFFER, Event, EventStream
from runtime.core.inspection import Look, RuntimeStatistics, TreeNode, cell_at, look_at, statistics_of, tree_of
from runtime.graphs.records.run_events import AnyEvent
from runtime.lm.statistics import ModelStatistics
from runtime.parts.part import RuntimeParts


class RuntimeViews(RuntimeParts):
    """Looks at what happens, and at what there is."""

    def events(self, keep: Callable[[AnyEvent], bool] | None = None, *, buffer: int = DEFAULT_BUFFER) -> EventStream[AnyEvent]:
        """Subscribe to what happens from now on (only what `keep` accepts): ``async with runtime.events() as events``.

        The stream holds at most `buffer` events; a slow reader loses the oldest and finds ``EventsMissed`` instead.
        """
        return self._services.events.subscribe(keep, buffer)

    def observe(
        self, sink: Callable[[Any], object], kinds: Iterable[type[Event]] | None = None
    ) -> contextlib.AbstractContextManager[None]:
        """Call `sink` with every event of the classes `kinds`, and those derived from them, while the block lasts; None: of all.

        An instrument for a runtime that is open already: runs in progress are observed too. Events that no one asks for are not
        made. The sink is called in the middle of what happens, so it must not block or call the runtime; what it raises is logged
        once, published as ``InstrumentFailed``, and it is called no more.

        Raises:
            DeclarationError: `sink` cannot be called, or one of `kinds` isn't a class of events.
        """
        return self._observed(*_checked_sink(sink, kinds))

    @contextlib.contextmanager
    def _observed(self, sink: Callable[[Any], object], kinds: tuple[type[Event], ...]) -> Generator[None]:
        remove = self._services.events.add_sink(sink, kinds)
        try:
            yield
        finally:
            remove()

    def wall_time(self, at_s: float) -> datetime:
        """When the runtime's clock showed `at_s` seconds, in UTC: what an event's ``at_s`` is for people.

        The wall clock was read once, when the runtime was opened, so times of events never go backwards. In virtual time
        seconds are counted from 1970.
        """
        return self._services.wall_clock.of(at_s)

    def close_event_streams(self) -> None:
        """End every subscription that :meth:`events` made; their iterators end after what they hold.

        What a shut-down calls before it waits for responses that are made of events, which would never end.
        """
        self._services.events.close()

    @property
    def dead_letters(self) -> DeadLetters:
        """The newest messages that reached no one; iterable, newest last."""
        return self._services.dead_letters

    def statistics(self) -> RuntimeStatistics:
        """One look at every actor. The figures of each are made when they are read: see ``RuntimeStatistics``."""
        return statistics_of(self._services)

    def inspect(self, ref: ActorRef[Any]) -> Any:
        """What the actor's own ``describe()`` says of its state now, also while it handles a message; nothing is sent to it.

        None while it does not run, and for an actor that has no ``describe``.

        Raises:
            UsageError: `ref` is none of an actor of this runtime. ActorFailed: its ``describe()`` raised; the actor goes on.
        """
        cell = self._mailed(ref)
        return cell.describe() if isinstance(cell, ActorCell) else None

    def tree(self) -> TreeNode:
        """The supervision tree as it is now; ``print(runtime.tree())`` draws it."""
        return tree_of(self._root)

    def look(self, address: str = "", *, skip: int = 0, limit: int = 0) -> Look | None:
        """The actor or supervisor of that address as it is now ("" for the root); None when there is none.

        With `limit`, also so many of those directly below it, after the first `skip`: what a page of a very large tree shows
        without a walk through all of it.
        """
        cell = cell_at(self._root, address)
        return None if cell is None else look_at(cell, skip, limit)

    def model_statistics(self) -> tuple[ModelStatistics, ...]:
        """One look at every language model of this runtime: its limits, what is on its way, and whether its provider is down."""
        return self._models.statistics()


def _checked_sink(sink: Any, kinds: Any) -> tuple[Callable[[Any], object], tuple[type[Event], ...]]:
    if not callable(sink):
        raise DeclarationError(
            f"observe({repr_of(sink)}): a sink is a function of one event.\n  Fix: runtime.observe(lambda event: print(event))."
        )
    return sink, checked_kinds(kinds, "observe(kinds={})")


def checked_kinds(kinds: Any, where: str) -> tuple[type[Event], ...]:
    """The classes of events that were asked for in `where`, which has ``{}`` for them; all of them for None."""
    try:
        wanted: tuple[Any, ...] = (Event,) if kinds is None else tuple(kinds)
    except TypeError:
        wanted = (kinds,)
    for kind in wanted:
        if not _is_event_class(kind):
            raise DeclarationError(
                f"{where.format(repr_of(kinds))}: {repr_of(kind)} isn't a class of events.\n"
                "  Fix: a list of classes such as [RunFinished, NodeGaveUp]; leave kinds out for all."
            )
    return wanted


def _is_event_class(kind: object) -> bool:
    return isinstance(kind, type) and issubclass(kind, Event)
