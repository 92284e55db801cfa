"""The journal of one run, or of a run inside it: what its reducer was told, in that order.

A *frame* is the work of one attempt at one message by a separate run: of a nested graph, or of a node that others depend on.
Its records stand in the journal of the outermost run, each with the frame before its path.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final, cast, final

import attrs

from actors.errors import UnderstudyError
from runtime.graphs.records.digests import Digests
from runtime.graphs.records.recorded_errors import told_of_error
from runtime.graphs.records.rehearsing import Rehearsal
from runtime.graphs.reducer.branches import Delivery
from runtime.journal.log import LogEntry, RunLog, nothing
from runtime.journal.records import Record, RecordKind, digest_of
from runtime.journal.store import StoredQuestion
from runtime.messages.codec import MessageCodec
from runtime.messages.shapes import as_object

FRAME_END: Final = "\n"
"""Between a frame and the path in it; no name can have it."""


@final
@attrs.define(eq=False)
class Bought:
    """What a node has bought or done once for one message, as it is recorded."""

    answers: dict[str, deque[bytes]] = attrs.field(factory=dict[str, deque[bytes]])
    """Those of earlier lives that no one has asked for again, by ``attempt:digest``."""
    done: dict[str, bytes] = attrs.field(factory=dict[str, bytes])
    """What ``run.once`` has returned, by ``name:n``."""
    slept: dict[str, bytes] = attrs.field(factory=dict[str, bytes])
    """When ``run.sleep`` wakes, by ``attempt:n``."""
    has_begun: bool = False
    """Whether a step that may run once only has begun, in this life."""

    def add(self, record: Record, rest: str) -> None:
        """Take in one more record, whose path ends with `rest`."""
        data = record.data
        if data is None:  # it is not kept any more
            return
        if record.kind is RecordKind.ANSWER:
            self.answers.setdefault(rest, deque()).append(data)
        elif record.kind is RecordKind.ONCE:
            self.done[rest.partition(":")[2]] = data
        elif record.kind is RecordKind.SLEPT:
            self.slept[rest] = data

    def forget(self, rest: str) -> None:
        """It was decided that what the record of a path ending with `rest` tells is as if it had not been."""
        self.done.pop(rest.partition(":")[2], None)


def bought_in(records: Iterable[Record]) -> dict[str, Bought]:
    """What `records`, all of one run or one frame, say was bought, by the path of the message.

    What failed permanently, and begins again because somebody has the run resumed, asks again: the answers are as good as failed
    attempts. What it has done once stays done.
    """
    found: dict[str, Bought] = {}
    failed: set[str] = set()
    for record in records:
        path, _, rest = record.path.rpartition(FRAME_END)[2].rpartition("#")
        if record.kind in (RecordKind.ANSWER, RecordKind.ONCE, RecordKind.SLEPT):
            found.setdefault(path, Bought()).add(record, rest)
        elif record.kind is RecordKind.REPEATED and path in found:
            found[path].forget(rest)
        elif gave_up(record):
            failed.add(path)
        elif is_by_hand(record):
            for each in failed & found.keys():
                found[each] = Bought(done=found[each].done)
            failed.clear()
    return found


@final
class Journal:
    """What one reducer was told, on its way to the log of its run."""

    def __init__(
        self,
        log: RunLog,
        codec: MessageCodec,
        frames: dict[str, list[Record]] | None = None,
        frame: str = "",
        known: Iterable[Record] = (),
        *,
        is_demand: bool = False,
        digests: Digests | None = None,
        rehearsal: Rehearsal | None = None,
    ) -> None:
        """The journal of the run of `log`, or of its `frame`, of which `known` are the records of earlier lives.

        `frames` are records of earlier lives that none has asked for.
        """
        self.rehearsal = rehearsal
        """What stands in for the world outside, in a run that is run again."""
        self.log = log
        self.codec = codec
        self._frames: dict[str, list[Record]] = {} if frames is None else frames
        self._frame = frame
        self.digests = Digests() if digests is None else digests
        """Of what its messages are stored as."""
        self._bought = bought_in(known)
        self.is_demand = is_demand
        """Whether it is of a node that others depend on, whose result need not be storable: it is computed again."""

    def encode(self, value: object) -> bytes | None:
        """`value` as it is stored; None if it is not, of a node that others depend on.

        Raises:
            NotStorable: it isn't a message that gives an equal one.
        """
        if not self.is_demand:
            return self.codec.encode(value)
        try:
            return self.codec.encode(value)
        except UnderstudyError:
            return None

    def append(
        self,
        kind: RecordKind,
        path: str,
        data: bytes | None = None,
        then: Callable[[], Any] | None = None,
        inputs: bytes = b"",
        *,
        is_paid: bool = False,
        question: StoredQuestion | None = None,
        answered: str | None = None,
    ) -> LogEntry:
        """Write down what the reducer was told; `then` happens in the order of the records. See ``RunLog.append``.

        `question` is listed in the store with the record, the question of the id `answered` is struck out with it.
        """
        call = nothing if then is None else then
        place = self.whole(path) if self._frame else path
        return self.log.append(kind, place, data, call, inputs, is_paid=is_paid, question=question, answered=answered)

    def note(self, message: object, data: bytes) -> None:
        """`message` is stored as `data`: what is made of it says so."""
        if type(message) is list:
            note_parts(self.digests, self.codec, cast("list[object]", message), data)
        else:
            self.digests.note(message, digest_of(data))

    def inputs_of(self, delivery: Delivery) -> bytes:
        """What the result of `delivery` is made of, for its record."""
        return self.digests.of_inputs(delivery, self.codec.encode)

    async def tell(
        self,
        kind: RecordKind,
        path: str,
        data: bytes | None,
        then: Callable[[], Any],
        inputs: bytes = b"",
        *,
        is_paid: bool = False,
    ) -> Any:
        """Write down what the reducer was told; return what `then` returns when that is written, None if it never will be.

        Without `data` there is nothing to write, and `then` happens now. Not a checkpoint if the record is written immediately:
        a step is none without a store either, and one would cost more than the record.
        """
        if data is None:
            return then()
        entry = self.append(kind, path, data, then, inputs, is_paid=is_paid)
        try:
            return await entry.wait() if entry.result is None else entry.result.unwrap()
        except UnderstudyError:
            if self.log.error is None:  # a listener's own
                raise
            return None  # the run has ended with the log

    def whole(self, path: str) -> str:
        """The path of a record, with the frame before it."""
        return f"{self._frame}{FRAME_END}{path}" if self._frame else path

    def failed(self, path: str, attempt: int, error: BaseException, what: str = "") -> None:
        """Write down that an attempt failed; no one waits for that. `what` tells what came of it."""
        told = {**told_of_error(error), "then": what}
        self.append(RecordKind.FAILED, f"{path}#{attempt}", json.dumps(told).encode())

    def bought(self, path: str) -> Bought:
        """What was bought for the message of that path, in this life and before."""
        return self._bought.setdefault(path, Bought())

    def put_away(self, path: str) -> None:
        """The message of that path is done with: what was bought for it is not asked for any more."""
        self._bought.pop(path, None)

    def inside(self, path: str, attempt: str, codec: MessageCodec) -> tuple[Journal, Sequence[Record]]:
        """The journal of the run that is the work of an attempt at `path`, or a part of it, and what an earlier life has left.

        `attempt` tells which; see ``frame_of``.
        """
        return self._opened(f"{path}#{attempt}", codec, is_demand=False)

    def on_demand(self, name: str) -> tuple[Journal, Sequence[Record]]:
        """The journal of the run of the node `name`, which others depend on."""
        return self._opened(f"?{name}", self.codec, is_demand=True)

    def _opened(self, frame: str, codec: MessageCodec, *, is_demand: bool) -> tuple[Journal, Sequence[Record]]:
        whole = f"{self._frame}{FRAME_END}{frame}" if self._frame else frame
        known: Sequence[Record] = self._frames.pop(whole, ())
        if is_demand:  # computed again after it has failed: what that bought is not to be answered with again
            ends = [at for at, record in enumerate(known, 1) if gave_up(record)]
            known = known[ends[-1] :] if ends else known
        frames, digests = self._frames, self.digests
        inside = Journal(self.log, codec, frames, whole, known, is_demand=is_demand, digests=digests, rehearsal=self.rehearsal)
        return inside, known


def note_parts(digests: Digests, codec: MessageCodec, message: object, data: bytes) -> None:
    """Note what `message` is stored as; of a list, what each of its items is."""
    if type(message) is list:
        for item, part in zip(cast("list[object]", message), codec.parts(data), strict=True):
            digests.note(item, digest_of(part))
    else:
        digests.note(message, digest_of(data))


def by_frame(records: Sequence[Record]) -> tuple[list[Record], dict[str, list[Record]]]:
    """The records of the run itself, and those of each frame, in order; that it was over and resumed is in all of them."""
    own: list[Record] = []
    frames: dict[str, list[Record]] = {}
    for record in records:
        if record.kind is RecordKind.OVER or is_by_hand(record):
            for known in frames.values():
                known.append(record)
        frame, end, _ = record.path.rpartition(FRAME_END)
        (frames.setdefault(frame, []) if end else own).append(record)
    return own, frames


def is_by_hand(record: Record) -> bool:
    """Whether it says that somebody had the run resumed."""
    return record.kind is RecordKind.RESUMED and "heard" in details_of(record)


def gave_up(record: Record) -> bool:
    """Whether it says that a node gave up on a message."""
    return record.kind is RecordKind.FAILED and details_of(record).get("then") == "gave up"


def details_of(record: Record) -> Mapping[str, Any]:
    """What a record tells that isn't a message: an error, a worker, a cost."""
    found: Any = json.loads(record.data or b"{}")
    return as_object(found)
