"""The record of a run as what stands in for the world outside: answers, results of tools and faults at their times, in order."""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping
from typing import Any, Final, final

import attrs
import trio
import trio.testing

from actors.errors import UsageError
from actors.graphs.annotations import Many
from actors.graphs.node import NodeSpec
from actors.lm import LM, Completion, Embeddings
from runtime.graphs.adopting import effective
from runtime.graphs.records.history import History
from runtime.graphs.records.journaling import FRAME_END, details_of
from runtime.graphs.records.recorded_answers import decode_answer
from runtime.graphs.records.recorded_errors import error_of
from runtime.graphs.records.rehearsing import CaseDiverged
from runtime.journal.records import Record, RecordKind
from runtime.messages.codec import MessageCodec

STRAY_S: Final = 5.0
"""How long what ends waits for what ended before it, in virtual time: in a graph that was changed that may never come."""
SOON_S: Final = 0.05
"""How soon after a message comes to a node its first record tells when its work began."""
_TURNS: Final = frozenset(
    {
        RecordKind.ANSWER,
        RecordKind.EMITTED,
        RecordKind.FAILED,
        RecordKind.FINISHED,
        RecordKind.ONCE,
        RecordKind.RAISED,
        RecordKind.STOOD_IN,
        RecordKind.UNANSWERED,
    }
)
"""What ends in the order of the record."""
STRETCH: Final = (0.25, 4.0)
"""By how much a call may take longer or shorter than it did, where what might have happened is explored."""


@final
@attrs.define(eq=False)
class PastCall:
    """A call of a language model in the record."""

    place: str
    began_s: float
    """In seconds after the run began, like all times here."""
    ended_s: float | None = None
    """None: nothing is known of its end, so it was cut short."""
    end: Record | None = None


@final
@attrs.frozen
class _Due:
    """A recorded call that is made again."""

    past: PastCall
    recorded: Recorded

    @property
    def place(self) -> str:
        return self.past.place

    async def come(self) -> Completion | Embeddings:
        past = self.past
        if past.end is None or past.ended_s is None:
            await trio.sleep_forever()  # until it is cut short again
        await self.recorded.turn(past.end, past.ended_s - past.began_s)
        if past.end.kind is RecordKind.ANSWER:
            return decode_answer(past.end.data or b"{}")
        raise error_of(details_of(past.end)["error"])


@final
class Recorded:
    """What a record knows; a ``Rehearsal``.

    Args:
        history: of the run.
        taken: nodes that do not run: what they made, or failed with, is out of the record, too.
        chance: None runs it as it was. Otherwise calls take longer or shorter by chance, and nothing waits for its turn.
    """

    def __init__(self, history: History, taken: Collection[str] = (), chance: random.Random | None = None) -> None:
        self.diverged: list[str] = []
        """What was asked for and is not in the record."""
        self._taken = frozenset(taken)
        self._chance = chance
        self._origin_s = trio.current_time()
        records = effective(history.records)[0]
        self._began_at = records[0].at
        self._calls = self._read_calls(records)
        self._once: dict[str, deque[Record]] = {}
        """What was done once, by its place; and without the number of the attempt, for a later one."""
        self._made: dict[str, Record] = {}
        """What steps made, items of generators, and failed attempts, by their paths."""
        self._begins: dict[str, Record] = {}
        """The first that is known of each attempt (``task#attempt``), or of a message (``task``) that was worked on once."""
        for record in records:
            self._read(record)
            self._begins.setdefault(_attempt_of(record), record)
        self._left = [record.seq for record in records if _has_turn(record)]
        """What has not ended again yet, in the order of the record."""
        self._moved = trio.Event()

    # --- reading ----------------------------------------------------------------------------------------------------------

    def _read_calls(self, records: Iterable[Record]) -> dict[str, deque[PastCall]]:
        calls: dict[str, deque[PastCall]] = {}
        for record in records:
            if record.kind is RecordKind.CALLED:
                calls.setdefault(record.path, deque()).append(PastCall(record.path, self.at_s(record)))
            elif record.kind in (RecordKind.ANSWER, RecordKind.UNANSWERED):
                known = next((call for call in calls.get(record.path, ()) if call.ended_s is None), None)
                if known is not None and (record.kind is RecordKind.ANSWER or "error" in details_of(record)):
                    known.ended_s, known.end = self.at_s(record), record
                elif known is not None and record.data is not None:
                    known.ended_s = self.at_s(record)  # cut short
            elif record.kind is RecordKind.RESUMED:  # what was in flight when its process ended was asked for again
                for place, known_calls in calls.items():
                    calls[place] = deque(call for call in known_calls if call.ended_s is not None)
        return calls

    def _read(self, record: Record) -> None:
        match record.kind:
            case RecordKind.ONCE | RecordKind.RAISED:
                self._once.setdefault(record.path, deque()).append(record)
                self._once.setdefault(_without_attempt(record.path), deque()).append(record)
            case RecordKind.FINISHED | RecordKind.STOOD_IN | RecordKind.EMITTED | RecordKind.FAILED:
                self._made.setdefault(record.path, record)
            case _:
                pass

    def at_s(self, record: Record) -> float:
        """When that was, in seconds after the run began."""
        return max(0.0, record.at - self._began_at)

    # --- time -------------------------------------------------------------------------------------------------------------

    async def until(self, at_s: float, duration_s: float) -> None:
        """Wait until `at_s`, when what took `duration_s` had ended; where it is explored, for about that duration."""
        if self._chance is None:
            await trio.sleep_until(self._origin_s + at_s)
        else:
            await trio.sleep(duration_s * self._chance.uniform(*STRETCH))

    async def turn(self, record: Record, duration_s: float = 0.0) -> None:
        """Return at the time of `record`, when everything that ended before it has ended again, and all has come of it."""
        await self.until(self.at_s(record), duration_s)
        if self._chance is not None or record.seq not in self._left:
            return
        with trio.move_on_after(STRAY_S):
            while self._left[0] < record.seq:
                await self._moved.wait()
        await trio.testing.wait_all_tasks_blocked()  # what the last of them has set going has come as far as it can
        self._left = [seq for seq in self._left if seq > record.seq]  # what has not come by now is waited for no more
        self._moved.set()
        self._moved = trio.Event()

    async def _begin(self, place: str, number: int) -> None:
        """Return when what ended before the attempt began has ended again.

        A beginning is not recorded. What is first known of the attempt tells it, if that comes soon: for a body that waits for
        nothing it is the same moment, and two such bodies run in the order in which they ran.
        """
        first = self._begins.get(f"{place}#{number}") or self._begins.get(place)
        if first is None or self._chance is not None:
            return
        at_s = self.at_s(first)
        if at_s - (trio.current_time() - self._origin_s) > SOON_S:
            return
        await trio.sleep_until(self._origin_s + at_s)
        with trio.move_on_after(STRAY_S):
            while self._left and self._left[0] < first.seq:
                await self._moved.wait()

    async def _turn_of(self, ended: str) -> None:
        record = self._made.get(ended)
        if record is not None:
            await self.turn(record)

    # --- what stands in ---------------------------------------------------------------------------------------------------

    def call(self, place: str, digest: str) -> _Due:
        """See ``Rehearsal.call``."""
        known = self._calls.get(f"{place}:{digest}")
        if not known and self._chance is not None:  # another order has other questions: what this step was answered will do
            known = next((calls for path, calls in self._calls.items() if path.startswith(f"{place}:") and calls), None)
        if not known and not self._has_ended(place):
            return _Due(PastCall(place, 0.0), self)  # the end of the run came before this call; so it does now
        if not known:
            others = sum(len(calls) for path, calls in self._calls.items() if path.startswith(f"{place}:"))
            raise self._not_known(
                f"{_shown(place)} asks its language model what isn't in the record, which has {others} other calls of it"
            )
        return _Due(known.popleft(), self)

    def _has_ended(self, attempt: str) -> bool:
        """Whether an attempt (``task#attempt``) has an end in the record."""
        path = attempt.rpartition("#")[0]
        return attempt in self._made or path in self._made

    async def once(self, place: str) -> bytes | None:
        """See ``Rehearsal.once``."""
        known = self._once.get(place) or self._once.get(_without_attempt(place))
        if not known and not self._has_ended(place.rpartition("#")[0] + "#" + place.rpartition("#")[2].partition(":")[0]):
            await trio.sleep_forever()
        if not known:
            raise self._not_known(f"{_shown(place)} does something that isn't in the record")
        record = known.popleft() if len(known) > 1 else known[0]
        await self.turn(record)
        if record.kind is RecordKind.RAISED:
            raise error_of(details_of(record))
        return record.data

    def _not_known(self, what: str) -> CaseDiverged:
        self.diverged.append(what)
        return CaseDiverged(
            f"{what}.\n"
            "  Fix: undo what changed the request (a prompt, a type, an option, a model); pass the lm= or the predictors= "
            "that the run had; or record the run again."
        )

    async def attempt(self, place: str, number: int, spec: NodeSpec, perform: Callable[[], Awaitable[Any]]) -> Any:
        """See ``Rehearsal.attempt``."""
        if spec.name in self._taken:
            return await self._taken_from(place, number, spec)
        await self._begin(place, number)
        try:
            made = await perform()
        except Exception:
            await self._turn_of(f"{place}#{number}")
            raise
        await self._turn_of(place)
        return made

    async def _taken_from(self, place: str, number: int, spec: NodeSpec) -> Any:
        if spec.fan_out is Many.STREAM:
            raise UsageError(f"taken={spec.name!r}: a generator makes its items itself.\n  Fix: leave it out of taken=.")
        failed, made = self._made.get(f"{place}#{number}"), self._made.get(place)
        if failed is not None:
            await self.turn(failed)
            raise error_of(details_of(failed))
        if made is None:
            raise self._not_known(f"{_shown(place)} is to be taken from the record, which has no result of it")
        await self.turn(made)
        return MessageCodec(spec.outputs).decode(made.data or b"null")

    async def emitted(self, place: str, index: int) -> None:
        """See ``Rehearsal.emitted``."""
        await self._turn_of(f"{place}#{index}")

    def lm(self, place: str, spec: NodeSpec) -> LM | None:
        """See ``Rehearsal.lm``."""
        return None

    def instruction(self, place: str, spec: NodeSpec) -> str:
        """See ``Rehearsal.instruction``."""
        return spec.instruction


def models_of(history: History) -> Mapping[str, str]:
    """The model that each node has called, by the node's name; of several, the first."""
    found: dict[str, str] = {}
    for record in history.records:
        if record.kind is RecordKind.CALLED and record.data:
            node = _node_of(record.path)
            found.setdefault(node, str(details_of(record).get("model", "")))
    return found


def _attempt_of(record: Record) -> str:
    """The attempt that a record is about; of one that does not say which, the message."""
    path, sharp, rest = record.path.rpartition("#")
    if not sharp or record.kind in (RecordKind.EMITTED, RecordKind.ASKED, RecordKind.ANSWERED):
        return path or record.path
    return f"{path}#{rest.partition(':')[0]}"


def _has_turn(record: Record) -> bool:
    return record.kind in _TURNS and (record.kind is not RecordKind.UNANSWERED or "error" in details_of(record))


def _node_of(path: str) -> str:
    parts = path.rpartition(FRAME_END)[2].partition("#")[0].split("/")
    return parts[-2].partition("@")[0] if len(parts) > 1 else parts[0].removeprefix("?")


def _without_attempt(place: str) -> str:
    path, _, rest = place.rpartition("#")
    return f"{path}#:{rest.partition(':')[2]}"


def _shown(place: str) -> str:
    return place.replace(FRAME_END, " > ")
