"""Who waits for a run, and for whom the run waits: its part of the graph of waits.

A handler that waits for the end of a run lends it the places that it holds itself; one whose wait could never end gets an error.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from typing import Final, final

import trio

from actors.errors import AskCycle
from runtime.core.actor_cell import ActorCell
from runtime.core.cell import Cell
from runtime.core.duty import on_duty
from runtime.core.envelope import Envelope, OneShot, Wrapper
from runtime.core.events import EventStream
from runtime.core.hand import Hand
from runtime.core.refs import Ask
from runtime.core.waits import Waiter, no_end, resolve, ring, waiting
from runtime.core.worker_threads import thread_not_counted
from runtime.graphs.reducer.state import RunState
from runtime.graphs.runs.ending import RunEnding
from runtime.graphs.runs.node_places import NodePlace, Place, Places
from runtime.graphs.runs.turns import Turns

_NOBODY: Final = nullcontext()
"""Waits as no handler does."""


class RunMessage(Wrapper):
    """A message of some run, as the graph of waits sees it."""

    __slots__ = ()

    @property
    @abstractmethod
    def waits(self) -> RunWaits:
        """The waits of its run."""

    @property
    @abstractmethod
    def node(self) -> str:
        """The node that it is for."""


@final
class RunWaits:
    """The waits of one run. Holds no reference to the run itself, which is freed with the last one to it."""

    def __init__(
        self,
        state: RunState,
        envelopes: Mapping[str, Envelope],
        places: Places,
        ending: RunEnding,
        outer: RunWaits | None,
    ) -> None:
        """Those of a run that has not begun; `envelopes` are its messages by path, `outer` the waits of the run around it."""
        self.state = state
        self.over = trio.Event()
        """Set when nothing of the run is left."""
        self.is_awaited = False
        """Whether its end was ever awaited: a run that never was is reported when the runtime closes."""
        self.when_awaited: Callable[[], object] | None = None
        """Called when somebody hears of its end after all."""
        self.turns: Turns | None = None
        """Where it takes its turn; set when its graph has turns."""
        self._envelopes = envelopes
        self._places = places
        self._ending = ending
        self._outer = outer
        self._slots: dict[OneShot, Cell] = {}
        """The handlers that wait for its end, each with the slot in which it does."""
        self._readers: dict[EventStream, Cell] = {}
        """Streams of its events, each with the handler that reads it."""
        self._waiters = 0

    # --- who waits for it -------------------------------------------------------------------------------------------------

    def mark_awaited(self) -> None:
        """Somebody waits for its end, or looks at it."""
        self.is_awaited = True
        call, self.when_awaited = self.when_awaited, None
        if call is not None:
            call()

    def awaited(self) -> AbstractContextManager[Cell | None]:
        """While the caller waits for this run; enters as the cell whose handler the caller is, or None.

        Raises:
            AskCycle: the run is over only when that handler has ended.
        """
        self.mark_awaited()
        cell = None if self.over.is_set() else on_duty()
        return _NOBODY if cell is None else self._awaited_by(cell)

    @contextmanager
    def _awaited_by(self, cell: Cell) -> Generator[Cell]:
        """While the handler of `cell` waits for this run: the places that this holds are the run's too."""
        message = message_of(cell)
        waits = message.waits if message is not None else None
        while waits is not None:
            if waits is self:
                raise own_result(cell, self)
            waits = waits._outer
        self._places.lend(places_held_by(cell), self._envelopes.values())
        self._waiters += 1
        try:
            with thread_not_counted(), waiting(cell, cell.asking, self):
                yield cell
        finally:
            self._waiters -= 1
            if not self._waiters:
                self._places.lent = frozenset()

    @contextmanager
    def started_by(self, cell: Cell) -> Generator[None]:
        """While the handler of `cell` starts this run: it waits neither for a turn nor for room where it holds a place itself."""
        self._places.spared = places_held_by(cell)
        try:
            with thread_not_counted(), waiting(cell, cell.asking, self):
                yield
        finally:
            self._places.spared = frozenset()

    async def wait_over(self, cell: Cell | None) -> None:
        """Wait for the end within ``awaited()``, as the handler of `cell` if that is not None.

        Raises:
            AskCycle: the run is over only when that handler has ended, as it may turn out later.
        """
        if cell is None:
            await self.over.wait()
            return
        slot = OneShot()
        self._slots[slot] = cell
        try:
            self.look_around()
            if self.over.is_set():
                slot.succeed(None)
            await slot.wait()
        finally:
            del self._slots[slot]

    @contextmanager
    def read_by(self, cell: Cell, events: EventStream) -> Generator[None]:
        """While the handler of `cell` has `events` of this run open: it waits for none that cannot come.

        Raises:
            AskCycle: so it is already.
        """
        self.reject_ring(cell)
        events.reject_wait = partial(self.reject_ring, cell)
        self._readers[events] = cell
        try:
            yield
        finally:
            del self._readers[events]
            events.reject_wait = None

    def reject_ring(self, cell: Cell) -> None:
        """Raise ``AskCycle`` if the handler of `cell`, which waits for this run, does so for ever."""
        stuck = resolve(self)
        if cell in stuck:
            raise no_end(ring(cell, self, stuck))

    def look_around(self) -> None:
        """Something that could go on has ended: if a caller waits for this run, check whether what is left still can."""
        if not self._waiters and (self.turns is None or not self.turns.are_awaited):
            return
        stuck = resolve(self)
        for slot, cell in self._slots.items() if stuck else ():
            if cell in stuck:
                slot.fail(no_end(ring(cell, self, stuck)))
                return
        for events, cell in self._readers.items() if stuck else ():
            if cell in stuck:
                events.wake()  # it may be about to leave, so it sees for itself

    def end(self) -> None:
        """The run is over: end every wait for it."""
        self.over.set()
        for slot in self._slots:
            slot.succeed(None)

    # --- for whom it waits ------------------------------------------------------------------------------------------------

    @property
    def label(self) -> str:
        """How a ring shows it."""
        return f"run {self.state.run_id!r}"

    @property
    def needs_all(self) -> bool:
        """One message that can go on may bring the output."""
        return False

    def awaits(self) -> Sequence[Waiter]:
        """The cells at work on its messages, and the places for which others wait, if each of those waits for something."""
        if self._ending.is_decided or self.over.is_set():
            return ()
        if self.turns is not None and self.turns.is_awaited_by(self):
            return (self.turns,)
        found: dict[Waiter, None] = {}
        for envelope in self._envelopes.values():
            holder = envelope.holder
            other: Cell | NodePlace
            if isinstance(holder, Hand):
                other = holder.cell
            else:
                other = self._places.pool_of(envelope)
                if not self._places.is_behind(envelope):
                    return ()
            if other not in found and not other.awaits():
                return ()
            found[other] = None
        return list(found)

    def make_way(self) -> bool:
        """If its messages, or the run itself, wait for a place, let them have one beyond the limit."""
        if self.let_in():
            return True
        pools = {self._places.pool_of(each) for each in self._envelopes.values() if self._places.is_behind(each)}
        self._places.lend(pools, self._envelopes.values())
        return bool(pools)

    async def take_turn(self, turns: Turns) -> None:
        """Wait until one of `turns` is the run's, unless who waits for the run, or starts it, has one."""
        self.turns = turns
        if not self._places.may_skip(turns):
            await turns.take(self)

    def let_in(self) -> bool:
        """Begin without a turn; whether it was waiting for one."""
        return self.turns is not None and self.turns.let_in(self)

    def held_at(self, node: str) -> frozenset[Place]:
        """The places that a message of this run at `node` holds, with those of its callers that wait for the run."""
        places: list[Place] = [self._places.pool(node), *([] if self.turns is None else [self.turns])]
        return self._places.lent.union(places)


def message_of(cell: Cell) -> RunMessage | None:
    """The message of a run that `cell`, an instance of a node, is handling."""
    envelope = cell.hand.envelope if isinstance(cell, ActorCell) else None
    return envelope.message if envelope is not None and isinstance(envelope.message, RunMessage) else None


def places_held_by(cell: Cell) -> frozenset[Place]:
    """The places that the handler of `cell` holds, and those of its callers: by an ask, or for the run it works for."""
    seen: set[Cell] = set()
    while isinstance(cell, ActorCell) and cell not in seen:
        seen.add(cell)
        message = message_of(cell)
        if message is not None:
            return message.waits.held_at(message.node)
        slot = cell.hand.envelope.slot if cell.hand.envelope is not None else None
        asker = slot.caller if isinstance(slot, Ask) else None
        if asker is None:
            break
        cell = asker
    return frozenset()


def own_result(cell: Cell, waits: RunWaits) -> AskCycle:
    """The error for a node that waits for the end of the run that it is a part of."""
    cycle = [cell.label, waits.label, cell.label]
    return AskCycle(
        f"{cell.address!r} waits for the end of {waits.label}, of which it is a part: {' -> '.join(cycle)}.\n"
        "  Fix: return what the run is to go on with; or let a task outside of the run wait for its result.",
        cycle=cycle,
    )
