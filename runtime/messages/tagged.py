"""JSON in which every message says its class where the declared type does not: in unions, ``Any``, and for subclasses.

It follows the declared types as ``writer`` and ``reader`` do, with the same plain types, and is what a store falls back on: it
gives back what it was given, where ``reader`` gives what JSON from outside means.
"""

from __future__ import annotations

import enum
import json
from collections.abc import Collection, Iterable, Sequence
from typing import Any, Final, cast, final, get_origin

from actors.errors import DeclarationError
from actors.words import kind_of, words_of
from runtime.messages import schemas
from runtime.messages.fields import fields_of, message_kind
from runtime.messages.json_text import Path
from runtime.messages.kinds import Declared, JsonForm, declared, field_types, is_exactly
from runtime.messages.problems import FieldProblem
from runtime.messages.references import address_in, is_ref, is_ref_type, read_ref, write_ref
from runtime.messages.scalars import SCALARS
from runtime.messages.tags import Types
from runtime.messages.upcasts import can_be_older, older_forms

TUPLE: Final = "builtins:tuple"
"""What says that a list in JSON was a tuple, where the declared type leaves that open."""


class TooDeep(Exception):
    """Nested more deeply than is stored."""


@final
class TaggedWriting:
    """One value on its way to JSON. What is wrong with it is added to `problems`."""

    def __init__(self, types: Types) -> None:
        self._types = types
        self.problems: list[FieldProblem] = []

    def message(self, kind: Any, value: Any, path: Path, depth: int) -> Any:
        """The fields of a message, which is exactly of the class of `kind`, a class or a generic with its arguments."""
        if depth <= 0:
            raise TooDeep
        form = declared(kind)
        if form.kind is JsonForm.ROOT:
            return {"root": self.value(form.parts[0], value.root, (*path, "root"), depth - 1)}
        attributes = {field.name: field.attribute for field in fields_of(form.type)}
        written: dict[str, Any] = {}
        for name, field_type in field_types(form).items():
            try:
                held = getattr(value, attributes[name])
            except AttributeError:
                self._add("it has no value", (*path, name))
                continue
            written[name] = self.value(field_type, held, (*path, name), depth - 1)
        if schemas.takes_any_field(form.type):
            for name, item in cast("dict[str, Any]", value.__pydantic_extra__ or {}).items():
                written[name] = self.value(Any, item, (*path, name), depth - 1)
        return written

    def value(self, annotation: Any, value: Any, path: Path, depth: int) -> Any:
        """A value in the place of `annotation`."""
        if depth <= 0 and not isinstance(value, str | int | float | None):
            raise TooDeep
        kind = declared(annotation)
        match kind.kind:
            case JsonForm.SCALAR:
                return self._scalar(kind, annotation, value, path)
            case JsonForm.ENUM | JsonForm.LITERAL:
                options: Iterable[Any] = cast("list[enum.Enum]", list(kind.type)) if kind.kind is JsonForm.ENUM else kind.parts
                if any(option is value or (type(option) is type(value) and option == value) for option in options):
                    return _of_member(value) if isinstance(value, enum.Enum) else value
                return self._misfit(annotation, value, path)
            case JsonForm.ANNOTATED:
                return self.value(kind.parts[0], value, path, depth)
            case JsonForm.UNION:
                return self._union(kind, value, path, depth)
            case JsonForm.MESSAGE | JsonForm.ROOT:
                return self._nested(kind, annotation, value, path, depth)
            case JsonForm.ANY:
                return self._any(annotation, value, path, depth)
            case JsonForm.LIST | JsonForm.SET | JsonForm.TUPLE:
                return self._items(kind, annotation, value, path, depth)
            case JsonForm.MAPPING:
                return self._mapping(kind, annotation, value, path, depth)
            case JsonForm.FOREIGN if is_ref_type(annotation) and is_ref(value):
                return self._attempted(lambda: write_ref(value), path)
            case JsonForm.FOREIGN:
                return self._attempted(lambda: schemas.foreign_json(annotation, value), path)

    def _nested(self, kind: Declared, annotation: Any, value: Any, path: Path, depth: int) -> Any:
        if type(value) is kind.type:
            return self.message(annotation, value, path, depth)
        return (
            self._named(annotation, value, path, depth) if isinstance(value, kind.type) else self._misfit(annotation, value, path)
        )

    def _named(self, annotation: Any, value: Any, path: Path, depth: int) -> Any:
        """A message that says its class."""
        tag = self._types.tag_of(value.__class__) if message_kind(value.__class__) is not None else None
        return {tag: self.message(value.__class__, value, path, depth - 1)} if tag else self._misfit(annotation, value, path)

    def _union(self, kind: Declared, value: Any, path: Path, depth: int) -> Any:
        if message_kind(value.__class__) is not None:
            own = [
                p
                for p in kind.parts
                if declared(p).kind in (JsonForm.MESSAGE, JsonForm.ROOT) and isinstance(value, declared(p).type)
            ]
            exact = [p for p in own if declared(p).type is type(value) and declared(p).parts]
            if exact:  # its arguments say what it holds
                tag = self._types.tag_of(value.__class__)
                return {tag: self.message(exact[0], value, path, depth - 1)} if tag else self._misfit(kind.type, value, path)
            if own or any(declared(part).kind is JsonForm.ANY for part in kind.parts):
                return self._named(kind.type, value, path, depth)
        fitting: list[int] = []
        for index, part in enumerate(kind.parts):
            trial = TaggedWriting(self._types)
            trial.value(part, value, path, depth)
            if not trial.problems:
                fitting.append(index)
        exact_first = sorted(fitting, key=lambda index: declared(kind.parts[index]).type is not type(value))
        if not exact_first:
            return self._misfit(kind.type, value, path)
        index = exact_first[0]
        written = self.value(kind.parts[index], value, path, depth)
        return written if written is None else [index, written]

    def _any(self, annotation: Any, value: Any, path: Path, depth: int) -> Any:
        if value is None or type(value) in (bool, int, str, float):
            return self._scalar(declared(type(value)), annotation, value, path)
        if is_exactly(value, list):
            return [self.value(Any, item, (*path, at), depth - 1) for at, item in enumerate(value)]
        if is_exactly(value, dict):
            return self._mapping(Declared(JsonForm.MAPPING, dict, (str, Any)), annotation, value, path, depth)
        if is_exactly(value, tuple):
            return {TUPLE: [self.value(Any, item, (*path, at), depth - 1) for at, item in enumerate(value)]}
        if is_ref(value):
            return self._attempted(lambda: write_ref(value), path)
        return self._named(annotation, value, path, depth)

    def _items(self, kind: Declared, annotation: Any, value: Any, path: Path, depth: int) -> Any:
        if is_exactly(value, tuple) and _takes_tuples(annotation):
            return {TUPLE: [self.value(kind.parts[0], item, (*path, at), depth - 1) for at, item in enumerate(value)]}
        if not is_exactly(value, kind.type):
            return self._misfit(annotation, value, path)
        items: list[Any] = list(value)
        parts = _parts_of(kind, len(items))
        if parts is None:
            return self._misfit(annotation, value, path)
        before = len(self.problems)
        written = [
            self.value(part, item, (*path, at), depth - 1) for at, (part, item) in enumerate(zip(parts, items, strict=True))
        ]
        return sorted(written, key=json.dumps) if kind.kind is JsonForm.SET and len(self.problems) == before else written

    def _mapping(self, kind: Declared, annotation: Any, value: Any, path: Path, depth: int) -> Any:
        """An object, or a list of pairs if a key isn't text."""
        if not is_exactly(value, dict):
            return self._misfit(annotation, value, path)
        key_type, item_type = kind.parts
        written: list[Any] = []
        for key, item in cast("dict[Any, Any]", value).items():
            name = self.value(key_type, key, path, depth - 1)
            written.append([name, self.value(item_type, item, (*path, str(name)), depth - 1)])
        return dict(written) if key_type is str and not self.problems else written

    def _scalar(self, kind: Declared, annotation: Any, value: Any, path: Path) -> Any:
        if kind.type is float and type(value) is int:
            value = self._attempted(lambda: float(value), path)
        if type(value) is not kind.type:
            return self._misfit(annotation, value, path)
        return self._attempted(lambda: SCALARS[kind.type].write(value), path)

    def _attempted(self, make: Any, path: Path) -> Any:
        try:
            return make()
        except DeclarationError as error:
            self._add(words_of(error).partition("\n")[0], path)
        except Exception as error:  # noqa: BLE001 - a foreign type's own code, or pydantic's
            self._add(words_of(error) or type(error).__name__, path)
        return None

    def _misfit(self, annotation: Any, value: Any, path: Path) -> Any:
        self._add(f"expected {schemas.type_name(annotation)}, got a value of {kind_of(value)}", path)

    def _add(self, message: str, path: Path) -> None:
        self.problems.append(FieldProblem(path, message))


@final
class TaggedReading:
    """One value on its way back. What is wrong with it is added to `problems`."""

    def __init__(self, types: Types) -> None:
        self._types = types
        self.problems: list[FieldProblem] = []

    def message(self, kind: Any, value: Any, path: Path) -> Any:
        """A message of the class of `kind`, of its fields, or of those that it had in an earlier form."""
        before = len(self.problems)
        made = self._message(kind, value, path)
        if len(self.problems) == before or not can_be_older(kind) or not isinstance(value, dict):
            return made
        found = self.problems[before:]
        for way, fields in older_forms(kind, cast("dict[str, Any]", value)):
            del self.problems[before:]
            try:
                now = fields()
            except Exception as error:  # noqa: BLE001 - the author's own code
                found.append(FieldProblem(path, f"the upcast {way} raised {words_of(error) or type(error).__name__}"))
                continue
            made = self._message(kind, now, path)
            if len(self.problems) == before:
                return made
        self.problems[before:] = found
        return None

    def _message(self, kind: Any, value: Any, path: Path) -> Any:
        form = declared(kind)
        if type(value) is not dict and not isinstance(value, dict):
            return self._misfit(kind, value, path)
        values = cast("dict[str, Any]", value)
        before = len(self.problems)
        if form.kind is JsonForm.ROOT:
            root = self.value(form.parts[0], values.get("root"), (*path, "root"))
            return self._attempted(lambda: form.type(root), path) if len(self.problems) == before else None
        types, given = field_types(form), dict[str, Any]()
        required = {field.name for field in fields_of(form.type) if field.required}
        for name, field_type in types.items():
            if name in values:
                given[name] = self.value(field_type, values[name], (*path, name))
            elif name in required:
                self._add(f"missing, expected {schemas.type_name(field_type)}", (*path, name))
        for name, item in values.items():
            if name not in types and schemas.takes_any_field(form.type):
                given[name] = self.value(Any, item, (*path, name))
            elif name not in types:
                self._add(f"no field of {schemas.type_name(form.type)}; its fields: {', '.join(types) or 'none'}", (*path, name))
        return self._attempted(lambda: schemas.made_of(form.type, given), path) if len(self.problems) == before else None

    def value(self, annotation: Any, value: Any, path: Path) -> Any:
        """A value in the place of `annotation`."""
        kind = declared(annotation)
        match kind.kind:
            case JsonForm.SCALAR:
                try:
                    return SCALARS[kind.type].read(value)
                except ValueError:
                    return self._misfit(annotation, value, path)
            case JsonForm.ENUM:
                for member in cast("list[enum.Enum]", list(kind.type)):
                    if type(own := _of_member(member)) is type(value) and own == value:
                        return member
                return self._misfit(annotation, value, path)
            case JsonForm.LITERAL:
                for option in kind.parts:
                    held: object = _of_member(option) if isinstance(option, enum.Enum) else option
                    if type(held) is type(value) and held == value:
                        return option
                return self._misfit(annotation, value, path)
            case JsonForm.ANNOTATED:
                return self.value(kind.parts[0], value, path)
            case JsonForm.UNION:
                return self._union(kind, annotation, value, path)
            case JsonForm.MESSAGE | JsonForm.ROOT:
                named = self._named(value)
                if named is not None and issubclass(named[0], kind.type):
                    return self.message(named[0], named[1], path)
                return self.message(annotation, value, path)
            case JsonForm.ANY:
                return self._any(value, path)
            case JsonForm.LIST | JsonForm.SET | JsonForm.TUPLE:
                return self._items(kind, annotation, value, path)
            case JsonForm.MAPPING:
                return self._mapping(kind, annotation, value, path)
            case JsonForm.FOREIGN if is_ref_type(annotation):
                return self._attempted(lambda: read_ref(value), path)
            case JsonForm.FOREIGN:
                return self._attempted(lambda: schemas.foreign(annotation, value), path)

    def _named(self, value: Any) -> tuple[type, Any] | None:
        """The class that a message says it is of, and its fields; None if it says none."""
        if not isinstance(value, dict) or len(cast("dict[str, Any]", value)) != 1:
            return None
        [(tag, fields)] = cast("dict[str, Any]", value).items()
        kind = self._types.find(tag)
        return None if kind is None else (kind, fields)

    def _union(self, kind: Declared, annotation: Any, value: Any, path: Path) -> Any:
        if value is None and any(declared(part) == declared(None) or declared(part).kind is JsonForm.ANY for part in kind.parts):
            return None
        named = self._named(value)
        if named is not None:
            for part in kind.parts:
                form = declared(part)
                if form.kind is JsonForm.ANY:
                    return self.message(*named, path)
                if form.kind in (JsonForm.MESSAGE, JsonForm.ROOT) and issubclass(named[0], form.type):
                    return self.message(part if named[0] is form.type else named[0], named[1], path)
        numbered: Any = value
        is_numbered = is_exactly(value, list) and len(numbered) == 2 and type(numbered[0]) is int
        if is_numbered and 0 <= numbered[0] < len(kind.parts):
            trial = TaggedReading(self._types)
            made = trial.value(kind.parts[numbered[0]], numbered[1], path)
            if not trial.problems:
                return made
        for part in kind.parts:  # as msgspec has it: the value alone
            trial = TaggedReading(self._types)
            made = trial.value(part, value, path)
            if not trial.problems:
                return made
        return self._misfit(annotation, value, path)

    def _any(self, value: Any, path: Path) -> Any:
        named = self._named(value)
        if named is not None:
            return self.message(*named, path)
        if address_in(value) is not None:
            return self._attempted(lambda: read_ref(value), path)
        if is_exactly(value, list):
            return [self._any(item, (*path, at)) for at, item in enumerate(value)]
        inside = _in_tuple(value)
        if inside is not None:
            return tuple(self._any(item, (*path, at)) for at, item in enumerate(inside))
        if isinstance(value, dict):
            return {name: self._any(item, (*path, name)) for name, item in cast("dict[str, Any]", value).items()}
        return value

    def _items(self, kind: Declared, annotation: Any, value: Any, path: Path) -> Any:
        inside = _in_tuple(value)
        if inside is not None and _takes_tuples(annotation):
            return tuple(self.value(kind.parts[0], item, (*path, at)) for at, item in enumerate(inside))
        parts = _parts_of(kind, len(value)) if is_exactly(value, list) else None
        if parts is None:
            return self._misfit(annotation, value, path)
        before = len(self.problems)
        items = [self.value(part, item, (*path, at)) for at, (part, item) in enumerate(zip(parts, value, strict=True))]
        return self._attempted(lambda: kind.type(items), path) if len(self.problems) == before else None

    def _mapping(self, kind: Declared, annotation: Any, value: Any, path: Path) -> Any:
        pairs: Any = list(cast("dict[str, Any]", value).items()) if isinstance(value, dict) else value
        if not is_exactly(pairs, list):
            return self._misfit(annotation, value, path)
        made: dict[Any, Any] = {}
        for pair in pairs:
            if not isinstance(pair, list | tuple) or len(cast("list[Any]", pair)) != 2:
                return self._misfit(annotation, value, path)
            before = len(self.problems)
            key = self.value(kind.parts[0], pair[0], path)
            item = self.value(kind.parts[1], pair[1], (*path, str(cast("object", pair[0]))))
            if len(self.problems) == before:
                try:
                    made[key] = item
                except TypeError:
                    return self._misfit(annotation, value, path)
        return made

    def _attempted(self, make: Any, path: Path) -> Any:
        try:
            return make()
        except DeclarationError as error:
            self._add(words_of(error).partition("\n")[0], path)
        except Exception as error:  # noqa: BLE001 - validators and converters are anybody's
            for reason in schemas.reasons(error):
                self._add(reason.message, (*path, *reason.path))
        return None

    def _misfit(self, annotation: Any, value: Any, path: Path) -> Any:
        self._add(f"expected {schemas.type_name(annotation)}, got {schemas.shown(value)}", path)

    def _add(self, message: str, path: Path) -> None:
        self.problems.append(FieldProblem(path, message))


def _takes_tuples(annotation: Any) -> bool:
    """Whether a tuple stands where a list could: its declared type is one that both are."""
    return (get_origin(annotation) or annotation) in (Sequence, Collection)


def _in_tuple(value: Any) -> list[Any] | None:
    """What was in a tuple that was written where a list could stand; None if `value` is something else."""
    if not isinstance(value, dict) or len(cast("dict[str, Any]", value)) != 1:
        return None
    inside = cast("dict[str, Any]", value).get(TUPLE)
    return cast("list[Any]", inside) if is_exactly(inside, list) else None


def _of_member(member: enum.Enum) -> object:
    """What JSON has of a member of an enum: its value if all have plain ones, else its name."""
    return member.value if all(type(each.value) in (str, int) for each in type(member)) else member.name


def _parts_of(kind: Declared, count: int) -> tuple[Any, ...] | None:
    parts = kind.parts
    if kind.kind is not JsonForm.TUPLE or (len(parts) == 2 and parts[1] is Ellipsis):
        return parts[:1] * count
    return parts if len(parts) == count else None
