"""One end of the link between a runtime and a host, as a state machine: no stream, no task and no clock. Pure.

Both ends are alike. Each may call the other, any number of calls at the same time, and every call has exactly one outcome: an
answer, an error, the word that its cancelled work has ended, or the loss of the link. Calls leave in the order in which they were
made, and at most `window` of the caller's are out. What controls (cancel, beat) needs no room and overtakes calls.
"""

from __future__ import annotations

import enum
import math
from collections import deque
from typing import Final, TypeAlias, final

import attrs

from actors.errors import InternalError
from runtime.placement.frames import MAX_BODY_BYTES, Frame, FrameBroken, FrameKind, FrameReader, written


@final
class End(enum.Enum):
    """How a call ended that was answered."""

    VALUE = "value"
    ERROR = "error"
    ENDED = "ended"
    """It was cancelled, and its work has ended."""


@final
@attrs.frozen
class Greeted:
    """The other side has said who it is."""

    incarnation: int
    body: bytes


@final
@attrs.frozen
class Called:
    """The other side wants something; to be settled under `id` with :meth:`Peer.settle`."""

    id: int
    about: int
    body: bytes


@final
@attrs.frozen
class CallCancelled:
    """The other side no longer wants the answer to `id`: the work is to end, and then to be settled."""

    id: int


@final
@attrs.frozen
class Settled:
    """A call of this side has its outcome."""

    id: int
    end: End
    body: bytes


@final
@attrs.frozen
class Noted:
    """The other side has told something."""

    about: int
    body: bytes


Happening: TypeAlias = Greeted | Called | CallCancelled | Settled | Noted

_ENDS: Final = {FrameKind.VALUE: End.VALUE, FrameKind.ERROR: End.ERROR, FrameKind.ENDED: End.ENDED}
_KIND_OF: Final = {end: kind for kind, end in _ENDS.items()}
_MAX_ID: Final = 2**63


@final
class Peer:
    """One end of a link.

    Invariant: a call of this side is in ``out`` from :meth:`call` until its one outcome; one of the other side is in `at_work`
    from its ``Called`` until :meth:`settle`.
    """

    def __init__(self, now: float, *, window: float = math.inf, max_bytes: int = MAX_BODY_BYTES) -> None:
        """An end whose stream was opened at `now`, on any clock of the caller's."""
        self.window = window
        self.heard_at = now
        """When anything was last received."""
        self.is_lost = False
        """Whether the link has ended; nothing is taken from it any more."""
        self.strays = 0
        """Frames about calls that have their outcome already; they change nothing."""
        self._max_bytes = max_bytes
        self._reader = FrameReader(max_bytes)
        self._greeted = False
        self._next = 1
        self._newest_in = 0
        self._out: dict[int, bool] = {}
        """The calls of this side by id, and whether each was cancelled."""
        self._inner: set[int] = set()
        """Those of them that need no credit: what belongs to a call of the other side, which might wait for itself, and what is
        said to actors, of which each has one message out."""
        self._at_work: set[int] = set()
        self._urgent: deque[bytes] = deque()
        self._queued: dict[int, bytes] = {}
        """Calls that no one has taken from here yet, by id. What else is said waits in between, under negative numbers."""
        self._said = 0

    # --- what this side says ----------------------------------------------------------------------------------------------

    def greet(self, incarnation: int, body: bytes = b"") -> None:
        """Say who this is; before anything else."""
        self._urgent.append(written(Frame(FrameKind.HELLO, incarnation, 0, body), self._max_bytes))

    @property
    def calls_out(self) -> int:
        """How many calls of this side have no outcome yet."""
        return len(self._out)

    @property
    def has_credit(self) -> bool:
        """Whether one more call may go out that belongs to none of the other side."""
        return not self.is_lost and len(self._out) - len(self._inner) < self.window

    def call(self, body: bytes, about: int = 0, *, is_free: bool = False) -> int:
        """Call the other side, about its call `about` if that isn't 0; the number under which the outcome comes.

        Such a call, and one that `is_free`, needs no credit.

        Raises:
            MessageTooLarge: the body is too long. InternalError: there is no credit, or the link has ended.
        """
        if self.is_lost or not (about or is_free or self.has_credit):
            raise InternalError(f"a call without credit: {len(self._out)} of {self.window:g} are out, is_lost={self.is_lost}")
        number = self._next
        data = written(Frame(FrameKind.CALL, number, about, body), self._max_bytes)
        self._next += 1
        self._out[number] = False
        if about or is_free:
            self._inner.add(number)
        self._queued[number] = data
        return number

    def cancel(self, number: int) -> Settled | None:
        """The answer to a call is no longer wanted. One that has not left yet is settled immediately: it never leaves."""
        if self._out.get(number) is not False:
            return None
        if self._queued.pop(number, None) is not None:
            del self._out[number]
            self._inner.discard(number)
            return Settled(number, End.ENDED, b"")
        self._out[number] = True
        self._urgent.append(written(Frame(FrameKind.CANCEL, number)))
        return None

    def is_at_work(self, number: int) -> bool:
        """Whether this call of the other side has no outcome yet."""
        return number in self._at_work

    def settle(self, number: int, end: End, body: bytes = b"") -> None:
        """Give a call of the other side its outcome. After the loss of the link no one hears it.

        Raises:
            MessageTooLarge: the body is too long; the call is still to be settled.
        """
        if self.is_lost:
            return
        if number not in self._at_work:
            raise InternalError(f"call {number} of the other side is settled twice, or was never made")
        data = written(Frame(_KIND_OF[end], number, 0, body), self._max_bytes)
        self._at_work.discard(number)
        self._say(data)

    def note(self, body: bytes, about: int = 0) -> None:
        """Tell something that needs no answer."""
        self._say(written(Frame(FrameKind.NOTE, 0, about, body), self._max_bytes))

    def beat(self) -> None:
        """Give a sign of life."""
        self._urgent.append(written(Frame(FrameKind.BEAT)))

    def _say(self, data: bytes) -> None:
        self._said -= 1
        self._queued[self._said] = data

    def take_outgoing(self) -> bytes:
        """All that is to be sent, and forget it: what has gathered leaves together."""
        data = b"".join([*self._urgent, *self._queued.values()])
        self._urgent.clear()
        self._queued.clear()
        return data

    # --- what the other side says -----------------------------------------------------------------------------------------

    def receive(self, data: bytes, now: float) -> list[Happening]:
        """What has happened, by bytes that came at `now`; nothing after the loss of the link.

        Raises:
            FrameBroken: the other side does not speak this protocol. The link is of no more use.
        """
        if self.is_lost:
            return []
        self.heard_at = now
        found: list[Happening] = []
        for frame in self._reader.feed(data):
            happening = self._take(frame)
            if happening is not None:
                found.append(happening)
        return found

    def _take(self, frame: Frame) -> Happening | None:
        kind, number = frame.kind, frame.id
        if not self._greeted:
            if kind is not FrameKind.HELLO:
                raise FrameBroken(f"{kind.name} came before HELLO")
            self._greeted = True
            return Greeted(number, frame.body)
        if kind in _ENDS:
            if self._out.pop(number, None) is None:
                self.strays += 1
                return None
            self._inner.discard(number)
            return Settled(number, _ENDS[kind], frame.body)
        match kind:
            case FrameKind.CALL:
                if not self._newest_in < number < _MAX_ID:
                    raise FrameBroken(f"call {number} came after call {self._newest_in}")
                self._newest_in = number
                self._at_work.add(number)
                return Called(number, frame.about, frame.body)
            case FrameKind.CANCEL if number not in self._at_work:  # its answer is on the way
                self.strays += 1
                return None
            case FrameKind.CANCEL:
                return CallCancelled(number)
            case FrameKind.NOTE:
                return Noted(frame.about, frame.body)
            case FrameKind.HELLO:
                raise FrameBroken("a second HELLO came")
            case _:
                return None  # a beat

    def silent_s(self, now: float) -> float:
        """For how long nothing has come."""
        return now - self.heard_at

    def has_left(self, number: int) -> bool:
        """Whether a call without outcome has been taken from here, to be sent."""
        return number not in self._queued

    def lose(self) -> tuple[int, ...]:
        """The link has ended: take nothing more from it. Returns the calls of this side that no answer will come for."""
        self.is_lost = True
        left, self._out = tuple(self._out), {}
        self._inner.clear()
        self._at_work.clear()
        self._urgent.clear()
        self._queued.clear()
        return left
