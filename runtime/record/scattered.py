"""Keys that stand in the texts of a stream, a few letters in each event: found where the texts of one field are joined.

Pure functions over the text of a body: server-sent events, a document a line, or the payloads of Amazon's messages. JSON isn't
parsed but read from string to string, so a body that was cut off, or that isn't quite JSON, is searched as well, in a time that
grows with its length. ``redacting.py`` has what to look for.
"""

from __future__ import annotations

import itertools
import json
import re
from bisect import bisect_right
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from typing import final

import attrs

from runtime.lm.limits.redaction import REDACTED

Span = tuple[int, int]
Searched = Callable[[str], Iterable[Span]]
"""What must not be kept of a text: from, and up to but without."""

# A string and, if it names a field, the string that is its value. One that doesn't end takes the rest, so nothing is read twice.
_STRING = r'"([^"\\]*(?:\\.[^"\\]*)*)(?:"|\\?\Z)'
_STRINGS = re.compile(rf"{_STRING}(?:(\s*:\s*){_STRING})?", re.DOTALL)
_INDEX = re.compile(r'"(\w*index)"\s*:\s*(\d{1,9})\b', re.IGNORECASE)
"""Which of several answers, blocks or tools a piece belongs to: ``index``, ``output_index``, ``contentBlockIndex``."""
_UNITS = re.compile(r"\\u[0-9a-fA-F]{4}|\\.|[^\\]|\\", re.DOTALL)


@final
@attrs.frozen
class _Piece:
    """The text of one string."""

    start: int
    """Where it begins in the body."""
    raw: str
    field: str
    line: int
    nth: int
    """Which of the texts of this field on its line."""

    def units(self) -> tuple[str, Sequence[int]]:
        """What the string says, and where each of its characters, and their end, stand in `raw`."""
        if "\\" not in self.raw:
            return self.raw, range(len(self.raw) + 1)
        found = _UNITS.findall(self.raw)
        return "".join(map(_said, found)), list(itertools.accumulate(map(len, found), initial=0))


def _said(unit: str) -> str:
    """One character, for one character or escape."""
    if len(unit) == 1:
        return unit
    try:
        said = json.loads(f'"{unit}"')
    except ValueError:
        return unit[1]
    return said if isinstance(said, str) and len(said) == 1 else unit[1]


def scattered(body: str, keys: Searched, all_else: Searched) -> list[tuple[Span, str]]:
    """What to put in which places of `body`, in order: what stands for a key where it begins, and nothing in the pieces after.

    The pieces themselves stay, and so do the events: a replay has them at their times.

    Args:
        body: the text of a body, each document on a line.
        keys: finds what is certainly secret. It is given the texts of a field of all events, and those of one index.
        all_else: finds what only looks like a key, and named fields; given the texts of one field with one index.
    """
    lines = list(itertools.accumulate((len(line) for line in body.split("\n")), lambda at, size: at + size + 1, initial=0))
    index = _index_of_lines(body, lines)
    pieces = list(_pieces(body, lines))
    hits: dict[int, tuple[int, bool]] = {}
    seen: set[tuple[int, ...]] = set()

    def by_index(piece: _Piece) -> Hashable:
        return piece.field, index.get(piece.line)

    def by_place(piece: _Piece) -> Hashable:
        return piece.field, piece.nth, index.get(piece.line)

    groupings: tuple[tuple[Callable[[_Piece], Hashable], Sequence[Searched]], ...] = (
        (by_place, (keys, all_else)),
        (by_index, (keys,)),
        (lambda piece: piece.field, (keys,)),
    )
    for grouping, searches in groupings:
        for group in _groups(pieces, grouping):
            which = tuple(piece.start for piece in group)
            if which not in seen:
                seen.add(which)
                _search(group, searches, hits)
    return list(_edits(hits))


def _index_of_lines(body: str, lines: Sequence[int]) -> dict[int, int]:
    """A number for each line that names an index, the same for the same ones: a line may name thousands."""
    named: dict[int, list[str]] = {}
    for found in _INDEX.finditer(body):
        named.setdefault(bisect_right(lines, found.start()), []).append(found[2])
    numbers: dict[tuple[str, ...], int] = {}
    return {line: numbers.setdefault(tuple(each), len(numbers)) for line, each in named.items()}


def _pieces(body: str, lines: Sequence[int]) -> Iterator[_Piece]:
    counts: dict[tuple[int, str], int] = {}
    for found in _STRINGS.finditer(body):
        at = 1 if found[2] is None else 3
        field = "" if found[2] is None else found[1]
        line = bisect_right(lines, found.start())
        nth = counts[line, field] = counts.get((line, field), 0) + 1
        yield _Piece(found.start(at), found[at], field, line, nth)


def _groups(pieces: Iterable[_Piece], grouping: Callable[[_Piece], Hashable]) -> Iterator[list[_Piece]]:
    """The texts that may be one text in pieces: not those that say the same each time, such as the name of the model."""
    groups: dict[Hashable, list[_Piece]] = {}
    for piece in pieces:
        groups.setdefault(grouping(piece), []).append(piece)
    for group in groups.values():
        if "\\" in group[0].raw or any(piece.raw != group[0].raw for piece in group):
            yield group


def _search(group: Sequence[_Piece], searches: Iterable[Searched], hits: dict[int, tuple[int, bool]]) -> None:
    """Note each character to be taken out: where it stands, where it ends, and whether a find begins there."""
    read = [piece.units() for piece in group]
    joined = "".join(text for text, _ in read)
    ends = list(itertools.accumulate(len(text) for text, _ in read))
    for search in searches:
        for start, end in search(joined):
            if joined[start:end] == REDACTED:
                continue
            nth = bisect_right(ends, start)
            for at in range(start, end):
                while at >= ends[nth]:
                    nth += 1
                units = read[nth][1]
                local = at - ends[nth] + len(units) - 1
                where = group[nth].start + units[local]
                # Finds may overlap: one that begins within another is not shown.
                is_first = at == start and hits.get(where, (0, True))[1]
                hits[where] = group[nth].start + units[local + 1], is_first


def _edits(hits: dict[int, tuple[int, bool]]) -> Iterator[tuple[Span, str]]:
    """One for each stretch of characters that are next to each other."""
    start, end, is_first = -1, -1, False
    for where in sorted(hits):
        until, begins = hits[where]
        if where != end:
            if end >= 0:
                yield (start, end), REDACTED if is_first else ""
            start, is_first = where, False
        end, is_first = until, is_first or begins
    if end >= 0:
        yield (start, end), REDACTED if is_first else ""
