"""What is said into a running run: signals that no node takes, and merged messages of a conversation. Agents take them.

Each is taken once, in the order in which they came, and can be withdrawn until then.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any, Final, final

import attrs

from runtime.journal.records import Record, RecordKind

HEARD: Final = "(heard)"
"""Begins the names under which it is written down what an agent has taken; no tool is called so."""


@final
@attrs.define(eq=False)
class Note:
    """One message that was said into a run."""

    key: str
    message: Any
    is_open: bool = True
    """Whether it is as durable as its run, so an agent may take it."""
    taken_by: tuple[str, str] | None = None
    """The path and the attempt of the agent that has it."""


@final
class Inbox:
    """What was said into one run, in the order in which it came."""

    def __init__(self) -> None:
        self._notes: dict[str, Note] = {}

    def put(self, key: str, message: Any, *, is_open: bool = True) -> Note:
        """Note a message."""
        note = self._notes[key] = Note(key, message, is_open)
        return note

    def withdraw(self, key: str) -> bool:
        """Forget a message; whether it was still to be had."""
        note = self._notes.get(key)
        if note is None or note.taken_by is not None:
            return False
        del self._notes[key]
        return True

    def begin_again(self, path: str, attempt: str) -> None:
        """An attempt begins: what earlier attempts at `path` have taken is to be had again."""
        for note in self._notes.values():
            if note.taken_by is not None and note.taken_by[0] == path and note.taken_by[1] != attempt:
                note.taken_by = None

    @property
    def has_news(self) -> bool:
        """Whether there is anything to take."""
        return any(note.is_open and note.taken_by is None for note in self._notes.values())

    def take(self, path: str, attempt: str) -> list[Note]:
        """Everything that no one has taken; it is the attempt's now."""
        found = [note for note in self._notes.values() if note.is_open and note.taken_by is None]
        for note in found:
            note.taken_by = path, attempt
        return found

    def recall(self, record: Record) -> None:
        """An agent had taken something in an earlier life, as `record` says; other records say nothing of that."""
        place, mark, _ = record.path.partition(f":{HEARD} ")
        if record.kind is not RecordKind.ONCE or not mark or record.data is None:
            return
        path, _, attempt = place.rpartition("#")
        for key, _ in pairs_in(json.loads(json.loads(record.data)) if record.data.startswith(b'"') else ()):
            if key in self._notes:
                self._notes[key].taken_by = path, attempt


def pairs_in(found: Iterable[Any]) -> Iterable[tuple[str, str]]:
    """Keys, with messages as they are stored."""
    return ((str(key), str(data)) for key, data in found)
