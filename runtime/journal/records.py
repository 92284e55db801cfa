"""Records: the rows of a journal, each with its place in the order, its data as stored, and a checksum of all of it."""

from __future__ import annotations

import enum
import zlib
from hashlib import blake2s
from typing import Final, final

import attrs

MAX_RECORD_BYTES: Final = 4 * 2**20
"""Of the data of one record."""
MAX_RUN_BYTES: Final = 256 * 2**20
"""Of the data of all records of one run."""


@final
class RecordKind(enum.StrEnum):
    """What a record tells; kinds are only ever added, and the number that ``CODES`` gives one never changes."""

    STARTED = "started"
    """The run was accepted, with its input."""
    FINISHED = "finished"
    """A node returned; the data is what."""
    STOOD_IN = "stood_in"
    """A fallback returned in the node's place."""
    EMITTED = "emitted"
    """A generator yielded an item; the path is ``task#index``."""
    RETRACTED = "retracted"
    """The items of a failed attempt of a generator were taken back."""
    ENDED = "ended"
    """The node failed permanently or was cancelled, and the run went on without it."""
    ANSWER = "answer"
    """A language model's answer, and what it cost; the path is ``task#attempt:digest``."""
    ONCE = "once"
    """The result of ``run.once``; the path is ``task#attempt:name:n``."""
    SLEPT = "slept"
    """When ``run.sleep`` is to wake; the path is ``task#attempt:n``."""
    BEGAN = "began"
    """A step that may run once only is about to begin; the path is ``task#attempt``."""
    ASKED = "asked"
    """A person was asked."""
    ANSWERED = "answered"
    """The person's answer, or that there was none in time."""
    SIGNALLED = "signalled"
    """A message came into the running run; the path is its key."""
    FAILED = "failed"
    """An attempt at a node failed; the path is ``task#attempt``."""
    PARKED = "parked"
    RESUMED = "resumed"
    """Another life of the run began; the data is the worker and its epoch."""
    FORKED = "forked"
    ADOPTED = "adopted"
    OVER = "over"
    """The run has ended; the path is its status, the data the output or the errors."""
    RELEASED = "released"
    """A worker gave the run up in good order, as it was closed: what comes after isn't a sign of a crash."""
    CALLED = "called"
    """A language model is about to be asked; the path is ``task#attempt:digest``."""
    UNANSWERED = "unanswered"
    """A call of a language model ended without an answer that is recorded; the data is what it cost. Path as of the call."""
    REPEATED = "repeated"
    """It was decided that a step which had begun, and may run once only, begins again; the path is ``task#attempt``."""
    WITHDRAWN = "withdrawn"
    """A message that came into the run was taken back before anything took it; the path is its key."""
    TURN = "turn"
    """What came of a message of a conversation; the path is its number."""
    GIVEN = "given"
    """What the run in a frame began with, where no other record tells: a graph that is called as a tool."""
    RAISED = "raised"
    """What ``run.once``, or a tool, has raised; the path is that of the result which there is none of."""


CODES: Final = {kind: code for code, kind in enumerate(RecordKind, start=1)}
"""The number of each kind in a database. Append to the enumeration, never insert: stored journals hold these numbers."""
KINDS: Final = {code: kind for kind, code in CODES.items()}

PAID: Final = frozenset(
    {
        RecordKind.STARTED,
        RecordKind.ANSWER,
        RecordKind.ONCE,
        RecordKind.SLEPT,
        RecordKind.BEGAN,
        RecordKind.ANSWERED,
        RecordKind.SIGNALLED,
        RecordKind.WITHDRAWN,
        RecordKind.TURN,
        RecordKind.OVER,
    }
)
"""What ``sync="paid"`` has on the platter before anything follows from it: what was paid for, promised or answered."""


def digest_of(data: bytes | None) -> bytes:
    """Eight bytes that stand for `data` as it is stored."""
    return blake2s(b"" if data is None else data, digest_size=8).digest()


@final
@attrs.frozen(slots=True)
class Record:
    """One row of one run's journal."""

    run: str
    seq: int
    """1, 2, 3 … without gaps, in the order in which the reducer heard."""
    kind: RecordKind
    path: str
    at: float
    """The store's wall clock, in seconds since 1970-01-01 UTC."""
    data: bytes | None
    """JSON in UTF-8; or what the store's codec has sealed."""
    digest: bytes
    """:func:`digest_of` the data before it was sealed."""
    inputs: bytes
    """Digest of the digests of what the step took; empty where that means nothing."""
    crc: int
    """:meth:`checksum` when it was written."""

    @classmethod
    def of(cls, run: str, seq: int, kind: RecordKind, path: str, at: float, data: bytes | None, inputs: bytes = b"") -> Record:
        """A record of `data`, with its digest and checksum."""
        digest = digest_of(data)
        return cls(run, seq, kind, path, at, data, digest, inputs, _checksum(run, seq, kind, path, at, data, digest, inputs))

    def checksum(self) -> int:
        """The CRC-32 of every other field: another row's data, a swapped row or a flipped bit gives another one."""
        return _checksum(self.run, self.seq, self.kind, self.path, self.at, self.data, self.digest, self.inputs)

    @property
    def is_intact(self) -> bool:
        """Whether it reads as it was written."""
        return self.crc == self.checksum()


def _checksum(
    run: str, seq: int, kind: RecordKind, path: str, at: float, data: bytes | None, digest: bytes, inputs: bytes
) -> int:
    # There is one for each step. The data is not copied into one text, and ``kind.value`` would be a call.
    nothing = "True" if data is None else "False"
    head = f"{run}\n{seq}\n{kind._value_}\n{path}\n{at!r}\n{nothing}\n".encode("utf-8", "surrogatepass")
    crc = zlib.crc32(head + digest + inputs)
    return crc if data is None else zlib.crc32(data, crc)
