"""Pieces of one field that a reader has fallen behind by go to it as one piece. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Final

import attrs

from actors.lm import TextDelta
from runtime.core.events import Event
from runtime.graphs.records.run_events import FieldDelta, LMDelta
from runtime.traces.kept_run import KeptEvent

JOINED_S: Final = 0.05
"""Pieces that came within so many seconds are joined."""


def joined(entries: Iterable[KeptEvent]) -> Iterator[KeptEvent]:
    """`entries`, where pieces of one field that follow one another are one piece, under the number of the last of them.

    What was read back from a store goes out as it was sent. Only neighbours are joined, so a reader which comes back after any
    number has lost nothing. The pieces of a node's field and of the answer that it is read from alternate: a reader who wants
    them joined asks for one of the kinds.
    """
    waiting: list[KeptEvent] = []
    for entry in entries:
        if waiting and not _go_together(waiting[0], entry):
            yield _as_one(waiting)
            waiting = []
        waiting.append(entry)
    if waiting:
        yield _as_one(waiting)


def _go_together(before: KeptEvent, after: KeptEvent) -> bool:
    first, other = before.event, after.event
    if before.is_read_back or after.is_read_back or other.at_s - first.at_s > JOINED_S:
        return False
    match first, other:
        case FieldDelta(), FieldDelta():
            same = first.field == other.field and first.answer == other.answer
        case LMDelta(delta=TextDelta()), LMDelta(delta=TextDelta()):
            same = True
        case _:
            return False
    return same and first.path == other.path and first.attempt == other.attempt


def _as_one(entries: Sequence[KeptEvent]) -> KeptEvent:
    if len(entries) == 1:
        return entries[0]
    last = entries[-1]
    text = "".join(_text(each.event) for each in entries)
    match last.event:
        case LMDelta() as event:
            return KeptEvent(last.seq, attrs.evolve(event, delta=TextDelta(text)), last.weight)
        case FieldDelta() as event:
            return KeptEvent(last.seq, attrs.evolve(event, text=text), last.weight)
        case event:
            raise AssertionError(f"{type(event).__name__} is never joined")


def _text(event: Event) -> str:
    match event:
        case FieldDelta():
            return event.text
        case LMDelta(delta=TextDelta(text)):
            return text
        case _:
            raise AssertionError(f"{type(event).__name__} is never joined")
