"""Carries a :class:`~runtime.placement.protocol.Peer` over a trio stream: reads, writes, beats, and lets tasks call.

A call belongs to the task that made it. What the other side asks back while it works on the call (a person's answer, room for an
item) is done in that task's own nursery, so it has its context, its cancel scope and its end.
"""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable
from typing import Final, TypeAlias, final

import attrs
import trio

from actors.errors import InternalError
from actors.groups import bare, leaves_of
from actors.placement_errors import HostLost, MessageTooLarge
from runtime.core.foreign_errors import failure_in
from runtime.core.services import Doorbell
from runtime.placement.frames import FrameBroken
from runtime.placement.pipe import Pipe
from runtime.placement.portable_errors import failure_data, failure_of
from runtime.placement.protocol import CallCancelled, Called, End, Greeted, Happening, Noted, Peer, Settled

FENCE_AT: Final = 0.6
"""The part of ``dead_after_s`` after which a host that hears nothing ends on its own, before another takes its work."""
BEATS_IN: Final = 5
"""How many signs of life are given in the time after which their absence counts."""
READ_BYTES: Final = 64 * 1024
"""How much is read from a stream at most, before other tasks get their turn."""

Serve: TypeAlias = Callable[[int, bytes], Awaitable[bytes]]
"""Works on a call of the other side, given its number there and its body; what it raises is the call's error."""
Answer: TypeAlias = Callable[[int, bytes], Awaitable[bytes]]
"""The same for what the other side asks while it works on a call of this side."""
Take: TypeAlias = Callable[[int, bytes], Callable[[], None] | None]
"""Begins on a call of the other side without a task, and settles it when it is done; returns what withdraws it. None: it takes a
task. What it raises is the call's error."""
Hear: TypeAlias = Callable[[bytes], None]
"""Takes what the other side tells while it works on a call of this side."""


Lose: TypeAlias = Callable[[str, float], HostLost]
"""Makes the error of a lost link, given in words what was seen, and for how many seconds nothing was heard."""


class _Broken(Exception):
    """The link is of no more use; its text tells why."""

    def __init__(self, how: str, silent_s: float = 0.0) -> None:
        super().__init__(how)
        self.how = how
        self.silent_s = silent_s


@final
@attrs.define(eq=False)
class _Waiting:
    """A call of this side that has no outcome yet."""

    hear: Hear | None
    bell: Doorbell = attrs.field(factory=Doorbell)
    asked: list[Called] = attrs.field(factory=list[Called])
    """What the other side asks back and no task works on yet."""
    outcome: Settled | HostLost | None = None
    is_unsent: bool = False
    """Whether the link was lost before any of it had left."""

    def is_over(self) -> bool:
        """Whether it has its outcome."""
        return self.outcome is not None


@final
class Link:
    """One end of a link, while :meth:`run` runs."""

    def __init__(self, stream: trio.abc.Stream, peer: Peer, name: str, lose: Lose) -> None:
        """A link over `stream`, which it does not close; `name` is what errors call the other side."""
        self.peer = peer
        self.name = name
        self.lose = lose
        """Makes the error with which its calls fail when it is lost."""
        self.greeted = trio.Event()
        self.greeting: Greeted | None = None
        """Who the other side says it is."""
        self.overstayed: Callable[[], None] | None = None
        """Told when the other side has not ended a cancelled call in time: it is to be killed."""
        self.take: Take | None = None
        """Takes the calls of the other side that need no task here."""
        self.hear: Hear | None = None
        """Takes what the other side tells that belongs to no call."""
        self.on_loss: Callable[[HostLost], None] | None = None
        """Told the instant the link has ended."""
        self.cancel_grace_s = 5.0
        self.is_closing = False
        """Whether its end is wanted: then :meth:`run` returns, and does not raise."""
        self.lost: HostLost | None = None
        """What calls fail with since the link has ended."""
        self._over = trio.Event()
        self._pipe = Pipe(stream, peer.take_outgoing)
        self._room = trio.lowlevel.ParkingLot()
        self._waiting: dict[int, _Waiting] = {}
        self._scopes: dict[int, trio.CancelScope] = {}
        """Of the calls of the other side that a task works on here."""
        self._withdrawals: dict[int, Callable[[], None]] = {}
        """Of those that no task works on."""

    # --- calls of this side -----------------------------------------------------------------------------------------------

    async def call(
        self, body: bytes, *, about: int = 0, is_free: bool = False, answer: Answer | None = None, hear: Hear | None = None
    ) -> bytes:
        """What the other side answers. Cancelled, its work there has ended when this raises, or the other side is killed.

        Raises:
            HostLost: the link has ended; its ``was_sent`` is False if nothing of this call had left. MessageTooLarge: nothing was
                sent. And what the other side raised.
        """
        self._check_lost()
        while not (about or is_free or self.peer.has_credit):
            await self._room.park()
            self._check_lost()
        try:
            number = self.peer.call(body, about, is_free=is_free)
        except MessageTooLarge:
            self._room.unpark()  # who waits behind this one has its place
            raise
        waiting = self._waiting[number] = _Waiting(hear)
        self._pipe.ring()
        try:
            outcome = await self._outcome(waiting, answer)
        except BaseException:
            await self._see_out(number, waiting)
            raise
        finally:
            del self._waiting[number]
            self._room.unpark()
            self._decline(waiting)
        if isinstance(outcome, HostLost):
            raise self._unsent(outcome) if waiting.is_unsent else bare(outcome)
        if outcome.end is End.VALUE:
            return outcome.body
        if outcome.end is End.ERROR:
            raise failure_of(outcome.body, self.name)
        raise InternalError(f"{self.name} has cancelled a call that is still wanted")

    async def _outcome(self, waiting: _Waiting, answer: Answer | None) -> Settled | HostLost:
        while not waiting.is_over() and not waiting.asked:
            await waiting.bell.wait()
        if not waiting.is_over():  # hardly ever
            async with trio.open_nursery() as nursery:
                while not waiting.is_over():
                    while waiting.asked:
                        nursery.start_soon(self._answer, waiting.asked.pop(0), answer)
                    await waiting.bell.wait()
                nursery.cancel_scope.cancel()  # it no longer waits for what it has asked
        assert waiting.outcome is not None, "it is over"
        return waiting.outcome

    async def _answer(self, asked: Called, answer: Answer | None) -> None:
        await self._work(asked, answer or self._answers_nothing)

    async def _answers_nothing(self, number: int, body: bytes) -> bytes:
        raise InternalError(f"{self.name} asks something of a call that answers nothing")

    async def _see_out(self, number: int, waiting: _Waiting) -> None:
        """The answer to a call is no longer wanted: wait until its work over there has ended."""
        settled = self.peer.cancel(number)
        if settled is not None or waiting.outcome is not None:
            return
        self._pipe.ring()
        with trio.CancelScope(shield=True):
            with trio.move_on_after(self.cancel_grace_s):
                await self._until_settled(waiting)
                return
            if self.overstayed is not None:
                self.overstayed()
                await self._until_settled(waiting)

    async def _until_settled(self, waiting: _Waiting) -> None:
        while waiting.outcome is None:
            self._decline(waiting)
            await waiting.bell.wait()

    def _decline(self, waiting: _Waiting) -> None:
        """Do nothing of what is still asked: by work that has not heard of its end yet, or just before it ended."""
        while waiting.asked:
            self.settle(waiting.asked.pop(0).id, End.ENDED)

    def _check_lost(self) -> None:
        if self.lost is not None:
            raise self._unsent(self.lost)

    @staticmethod
    def _unsent(error: HostLost) -> HostLost:
        """The loss, for a call of which nothing had left."""
        made = HostLost(
            str(error), place=error.place, host=error.host, how=error.how, silent_s=error.silent_s, incarnation=error.incarnation
        )
        made.was_sent = False
        return made

    def note(self, body: bytes, about: int = 0) -> None:
        """Tell the other side something; never waits."""
        if not self.peer.is_lost:
            self.peer.note(body, about)
            self._pipe.ring()

    # --- calls of the other side ------------------------------------------------------------------------------------------

    async def _work(self, called: Called, serve: Serve) -> None:
        with trio.CancelScope() as scope:
            self._scopes[called.id] = scope
            try:
                end, body = End.VALUE, await serve(called.id, called.body)
            except BaseException as error:
                failure = failure_in(error)
                if failure is None:
                    self.settle(called.id, End.ENDED)
                    raise
                end, body = End.ERROR, failure_data(failure)
            finally:
                del self._scopes[called.id]
            self.settle(called.id, end, body)

    def _begin(self, called: Called, nursery: trio.Nursery, serve: Serve) -> None:
        """Work on a call of the other side."""
        if self.take is not None:
            try:
                withdraw = self.take(called.id, called.body)
            except Exception as error:  # noqa: BLE001 - the other side is told
                self.settle(called.id, End.ERROR, failure_data(error))
                return
            if withdraw is not None:
                if self.peer.is_at_work(called.id):
                    self._withdrawals[called.id] = withdraw
                return
        nursery.start_soon(self._work, called, serve)

    def settle(self, number: int, end: End, body: bytes = b"") -> None:
        """Give a call of the other side its outcome."""
        self._withdrawals.pop(number, None)
        try:
            self.peer.settle(number, end, body)
        except MessageTooLarge as error:
            self.peer.settle(number, End.ERROR, failure_data(error))
        self._pipe.ring()

    # --- the link itself --------------------------------------------------------------------------------------------------

    async def run(self, serve: Serve | None = None, *, beat_s: float, silent_after_s: float) -> None:
        """Carry until it is cancelled or the link ends, and settle all calls then; `serve` works on those of the other side.

        Raises:
            HostLost: the link has ended without being closed.
        """
        broken = _Broken("its link was closed")
        try:
            with self._pipe.opened():
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._write)
                    nursery.start_soon(self._beat, beat_s)
                    nursery.start_soon(self._listen, silent_after_s)
                    nursery.start_soon(self._until_over)
                    await self._read(nursery, serve)
        except BaseExceptionGroup as group:
            matched, rest = group.split(_Broken)
            if matched is None or (rest is not None and failure_in(rest) is not None):
                raise
            broken = next(each for each in leaves_of(matched) if isinstance(each, _Broken))
            self.end(self.lose(broken.how, broken.silent_s))
            if rest is not None:
                raise rest from None
        finally:
            self.end(self.lose(broken.how, broken.silent_s))
        if not self.is_closing and self.lost is not None:
            raise bare(self.lost)

    def end(self, error: HostLost) -> None:
        """Settle all calls with `error`, unless that was done; nothing more is taken from the link, and :meth:`run` returns."""
        if self.lost is not None:
            return
        self.lost = error
        self._over.set()
        unsent = [waiting for number, waiting in self._waiting.items() if not self.peer.has_left(number)]
        self.peer.lose()
        for waiting in unsent:
            waiting.is_unsent = True
        for waiting in self._waiting.values():
            waiting.outcome = waiting.outcome or error
            waiting.bell.ring()
        self._room.unpark_all()
        if self.on_loss is not None:
            self.on_loss(error)

    async def _read(self, nursery: trio.Nursery, serve: Serve | None) -> None:
        while True:
            try:
                data = await self._pipe.receive(READ_BYTES)
                happenings = self.peer.receive(data, trio.current_time())
            except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
                raise _Broken("its link broke") from error
            except FrameBroken as error:
                raise _Broken(f"it does not speak this protocol: {error}") from error
            if not data:
                raise _Broken("its link ended")
            for happening in happenings:
                self._take(happening, nursery, serve)

    def _take(self, happening: Happening, nursery: trio.Nursery, serve: Serve | None) -> None:
        match happening:
            case Settled(id=number):
                waiting = self._waiting.get(number)
                if waiting is not None:
                    waiting.outcome = waiting.outcome or happening
                    waiting.bell.ring()
            case Called(id=number, about=0) if serve is not None:
                self._begin(happening, nursery, serve)
            case Called(id=number, about=about):
                waiting = self._waiting.get(about)
                if waiting is None or waiting.outcome is not None:
                    self.settle(number, End.ENDED)
                else:
                    waiting.asked.append(happening)
                    waiting.bell.ring()
            case CallCancelled(id=number):
                scope = self._scopes.get(number)
                if scope is not None:
                    scope.cancel()
                elif number in self._withdrawals:
                    self._withdrawals[number]()
                else:  # it had not begun
                    self._withdraw(number)
            case Noted(about=0, body=body):
                if self.hear is not None:
                    self.hear(body)
            case Noted(about=about, body=body):
                waiting = self._waiting.get(about)
                if waiting is not None and waiting.hear is not None:
                    waiting.hear(body)
            case Greeted():
                self.greeting = happening
                self.greeted.set()

    def _withdraw(self, number: int) -> None:
        for waiting in self._waiting.values():
            for asked in waiting.asked:
                if asked.id == number:
                    waiting.asked.remove(asked)
                    self.settle(number, End.ENDED)
                    return

    async def _write(self) -> None:
        with contextlib.suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            await self._pipe.send()  # the reader finds out, and what it finds is the better reason

    async def _beat(self, beat_s: float) -> None:
        while True:
            self.peer.beat()
            self._pipe.ring()
            await trio.sleep(beat_s)

    async def _until_over(self) -> None:
        """Others may know of its end first."""
        await self._over.wait()
        raise _Broken("its link was closed")

    async def _listen(self, silent_after_s: float) -> None:
        """Wait until nothing has come for so long.

        What came while this loop was held is not read yet, and proves the other side alive. So a look that comes late counts as
        no more than one that comes in time, and several in a row must find nothing.
        """
        await self.greeted.wait()  # a process that still imports says nothing
        every_s = silent_after_s / BEATS_IN
        heard_at, looked_at, silent_s = self.peer.heard_at, trio.current_time(), 0.0
        while True:
            now = trio.current_time()
            if self.peer.heard_at > heard_at:
                heard_at, silent_s = self.peer.heard_at, min(now - self.peer.heard_at, every_s)
            else:
                silent_s += min(now - looked_at, every_s)
            looked_at = now
            if silent_s >= silent_after_s:
                whole_s = self.peer.silent_s(now)
                raise _Broken(f"nothing was heard of it for {silent_after_s:g} s", whole_s)
            await trio.sleep(min(every_s, silent_after_s - silent_s))
