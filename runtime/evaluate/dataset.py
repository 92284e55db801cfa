"""Rows to evaluate a graph on: what it is given, typed by its input, and what is known of a right answer."""

from __future__ import annotations

import csv
import hashlib
import json
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Self, cast, final, overload

import attrs

from actors.errors import DeclarationError
from actors.graphs.graph import Graph
from actors.words import repr_of
from runtime.messages.fields import fields_of
from runtime.messages.json_text import parse
from runtime.messages.problems import MessageInvalid, lines_of
from runtime.messages.reader import read
from runtime.messages.writer import write_text

OWN = frozenset({"id", "input", "input_type", "slice", "labels"})
"""Fields of a row that mean something to the data set itself, where there is a field ``input``."""


def _digest(row: Example) -> str:  # once and not when it is asked for: it is, several times for each run
    message: object = row.input
    return hashlib.sha256(write_text(type(message), message).encode()).hexdigest()[:8]


def _labels_digest(row: Example) -> str:
    try:
        text = json.dumps(row.labels, sort_keys=True, default=lambda value: type(value).__qualname__)
    except (TypeError, ValueError, RecursionError):
        return ""
    return hashlib.sha256(text.encode()).hexdigest()[:8]


@final
@attrs.frozen
class Example:
    """One row. Its labels, and then the fields of its input, are attributes: ``example.answer``, ``example.question``."""

    id: str
    input: Any
    """A message of the graph's input type."""
    labels: Mapping[str, Any] = attrs.field(factory=dict[str, Any])
    """What else the row holds, such as the right answer."""
    slice: str | None = None
    """The group that a report shows it in."""
    digest: str = attrs.field(init=False, repr=False, eq=False, default=attrs.Factory(_digest, takes_self=True))
    """8 hexadecimal digits of the input: the same row has the same."""
    labels_digest: str = attrs.field(init=False, repr=False, eq=False, default=attrs.Factory(_labels_digest, takes_self=True))
    """8 hexadecimal digits of the labels, by which metrics may have judged; empty for labels that JSON cannot hold."""

    def __getattr__(self, name: str) -> Any:
        labels = cast("Mapping[str, Any]", object.__getattribute__(self, "labels"))
        if name in labels:
            return labels[name]
        if not name.startswith("_"):
            message = object.__getattribute__(self, "input")
            if hasattr(message, name):
                return getattr(message, name)
        raise AttributeError(f"example {self.id!r} has no label or field {name!r}; it has {', '.join(labels) or 'no label'}")


@final
@attrs.frozen
class BadRow:
    """A row that is no example, and why."""

    place: str
    """Where it stands: the file and the line, or the index."""
    why: str

    def __str__(self) -> str:
        return f"{self.place}: {self.why}"


@final
@attrs.frozen
class Dataset(Sequence[Example]):
    """Examples for one graph, in their order, and the rows that are none."""

    examples: tuple[Example, ...]
    bad: tuple[BadRow, ...] = ()
    """Rows that don't make an input. They are named in every report, and no run is made of them."""

    @classmethod
    def load(cls, path: str | Path, graph: Graph[Any, Any]) -> Self:
        """The rows of a file of JSON Lines, of one JSON list, or of CSV (by its ending ``.csv``), for the input of `graph`.

        A row is ``{"input": {…}}`` with the fields of the input, and with ``"id"``, ``"slice"`` and ``"labels": {…}`` if it has
        them; other fields are labels too. Without a field ``"input"``, the fields of the input's type are taken out of the row
        itself, and the rest are labels. In CSV, a cell is a text or, for a field that isn't, JSON.

        Raises:
            DeclarationError: the file cannot be read, or no row of it is an example.
        """
        try:
            text = Path(path).read_text(encoding="utf-8-sig")
        except (OSError, UnicodeDecodeError) as error:
            why = error.strerror or str(error) if isinstance(error, OSError) else "it isn't text in UTF-8"
            raise DeclarationError(
                f"data set {str(path)!r} cannot be read: {why}.\n"
                "  Fix: name a file of JSON Lines, of CSV (.csv) or of one JSON list, in UTF-8."
            ) from error
        if str(path).endswith(".csv"):
            most = csv.field_size_limit(max(len(text), csv.field_size_limit()))  # else a cell may have 128 KiB
            try:
                rows = [(f"{path}, line {line}", row) for line, row in _table(text)]
            except csv.Error as error:
                raise DeclarationError(
                    f"data set {str(path)!r} isn't CSV: {error}.\n"
                    "  Fix: name each column once, close each quotation mark, and double those in a cell."
                ) from error
            finally:
                csv.field_size_limit(most)
            return cls._of(rows, graph, str(path), is_text=True)
        if text.lstrip().startswith("["):
            try:
                listed = cast("list[Any]", parse(text, max_bytes=sys.maxsize))
            except MessageInvalid as error:
                why = "; ".join(lines_of(error.problems))
                raise DeclarationError(f"data set {str(path)!r} isn't JSON: {why}.\n  Fix: one row a line.") from error
            return cls._of(((f"{path}, row {at}", row) for at, row in enumerate(listed, 1)), graph, str(path))
        lines = ((f"{path}, line {at}", line) for at, line in enumerate(text.split("\n"), 1) if line.strip())
        return cls._of(lines, graph, str(path))

    @classmethod
    def of(cls, rows: Iterable[Any], graph: Graph[Any, Any]) -> Self:
        """Rows of a program: messages of the input type, mappings as in :meth:`load`, or ``dspy.Example`` objects.

        A ``Dataset`` or ``IterableDataset`` of Hugging Face's library is given as it is, a ``DatasetDict`` by one of its splits.

        Raises:
            DeclarationError: no row is an example, or `rows` are none.
        """
        given: Any = rows
        if isinstance(given, Mapping) and given:
            names = list(cast("Mapping[str, Any]", given))
            raise DeclarationError(
                f"Dataset.of({type(rows).__name__}): expected rows, got {', '.join(map(repr, names[:5]))}.\n"
                f"  Fix: pass one of its parts, such as rows[{names[0]!r}]; a single row stands in a list."
            )
        if isinstance(given, str | bytes) or not isinstance(given, Iterable):
            raise DeclarationError(
                f"Dataset.of({repr_of(rows)}): expected rows.\n"
                "  Fix: pass a list of messages or mappings; Dataset.load(path, graph) reads a file."
            )
        return cls._of(((f"row {at}", row) for at, row in enumerate(rows, 1)), graph, "rows")

    @classmethod
    def _of(cls, rows: Iterable[tuple[str, Any]], graph: Graph[Any, Any], name: str, *, is_text: bool = False) -> Self:
        examples: dict[str, Example] = {}
        bad: list[BadRow] = []
        for at, (place, row) in enumerate(rows, 1):
            try:
                example = _example(row, graph.input_types, f"{at}", is_text=is_text)
                if example.id in examples:
                    raise ValueError(f"its id {example.id!r} is that of an earlier row")
                examples[example.id] = example
            except MessageInvalid as error:
                why = "; ".join(lines_of(error.problems))
                bad.append(BadRow(place, why + (_names_in(row) if ": missing" in why else "")))
            except (ValueError, TypeError, RecursionError) as error:
                bad.append(BadRow(place, str(error)))
        if not examples:
            kinds = " or ".join(kind.__name__ for kind in graph.input_types)
            first = f"; {bad[0]}" if bad else ""
            raise DeclarationError(
                f"{name!r} holds no row for graph {graph.name!r}, which takes {kinds}{first}.\n"
                f'  Fix: write rows, one a line, as {{"input": {{…}}, "expected": …}}, with the fields of {kinds}.'
            )
        return cls(tuple(examples.values()), tuple(bad))

    def __len__(self) -> int:
        return len(self.examples)

    @overload
    def __getitem__(self, at: int) -> Example: ...
    @overload
    def __getitem__(self, at: slice) -> Sequence[Example]: ...
    def __getitem__(self, at: int | slice) -> Example | Sequence[Example]:
        return self.examples[at]

    def __iter__(self) -> Iterator[Example]:
        return iter(self.examples)


@final
class TextCell(str):
    """A cell of CSV that is a label. It is a text; only what it is compared with can tell whether a number was meant."""

    __slots__ = ()


def _table(text: str) -> Iterator[tuple[int, Any]]:
    """The rows of CSV by the line on which they end; a row that doesn't fit the first line is a text that says so."""
    reader = csv.reader(text.splitlines(keepends=True), strict=True)
    names = next(reader, list[str]())
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise csv.Error(f"its first line names {twice!r} twice")
    for cells in reader:
        if len(cells) == len(names):
            yield reader.line_num, dict(zip(names, cells, strict=True))
        elif cells:
            yield reader.line_num, ValueError(f"it has {len(cells)} cells, and the first line names {len(names)}")


def _names_in(row: object) -> str:
    """What a row has, where that isn't what it should have."""
    given: Any = json.loads(row) if isinstance(row, str) else row
    names = list(cast("Mapping[str, Any]", given)) if isinstance(given, Mapping) else []
    return f"; the row has {', '.join(map(repr, names[:10]))}" if names and "input" not in names else ""


def _example(row: Any, types: Sequence[type], number: str, *, is_text: bool) -> Example:
    if isinstance(row, Exception):
        raise row
    if isinstance(row, str):
        try:
            row = parse(row, max_bytes=sys.maxsize)
        except MessageInvalid as error:
            raise ValueError(f"it isn't JSON: {'; '.join(lines_of(error.problems))}") from error
    if type(row) in types:
        return Example(number, row)
    if not isinstance(row, Mapping) and hasattr(row, "toDict"):  # a dspy.Example
        row = row.toDict()
    if not isinstance(row, Mapping):
        raise TypeError(f"expected an object, got a {type(row).__name__}")
    fields = dict(cast("Mapping[str, Any]", row))
    if isinstance(fields.get("input"), Mapping):
        inner = fields.get("labels")
        if inner is not None and not isinstance(inner, Mapping):
            raise TypeError(f"labels: expected an object, got a {type(inner).__name__}")
        given_labels = cast("Mapping[str, Any]", inner or {})
        labels = {**given_labels, **{name: value for name, value in fields.items() if name not in OWN}}
        message = _message(fields["input"], types, fields.get("input_type"))
        return Example(_text(fields.get("id")) or number, message, labels, _text(fields.get("slice")))
    own = {field.name for kind in types for field in fields_of(kind) if field.init}
    given = {name: value for name, value in fields.items() if name in own}
    if is_text:
        given = _from_text(given, types)
    labels = {name: value for name, value in fields.items() if name not in own and name not in {"id", "slice"}}
    if is_text:
        labels = {name: TextCell(value) for name, value in labels.items()}
    identity = number if "id" in own else _text(fields.get("id")) or number
    return Example(identity, _message(given, types, None), labels, None if "slice" in own else _text(fields.get("slice")))


def _text(value: object) -> str | None:
    return None if value is None or value == "" else str(value)


def _from_text(given: Mapping[str, Any], types: Sequence[type]) -> dict[str, Any]:
    """Cells of CSV: texts for fields that take texts, JSON for the others."""
    texts = {field.name for kind in types for field in fields_of(kind) if field.type in {str, str | None}}
    values: dict[str, Any] = {}
    for name, cell in given.items():
        try:
            values[name] = cell if name in texts else json.loads(cell)
        except ValueError as error:
            raise ValueError(f"{name}: {cell!r} isn't JSON") from error
    return values


def _message(values: Any, types: Sequence[type], chosen: object) -> Any:
    candidates = [kind for kind in types if chosen in (None, kind.__name__)]
    if not candidates:
        raise ValueError(f"input_type: {repr_of(chosen)} isn't one of {', '.join(kind.__name__ for kind in types)}")
    failed: MessageInvalid | None = None
    for kind in candidates:
        try:
            return read(kind, values)
        except MessageInvalid as error:
            failed = failed or error
    assert failed is not None, "there is a candidate, and none could be read"
    raise failed
