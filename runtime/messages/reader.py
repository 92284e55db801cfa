"""Strict reading: JSON that is what a type declares becomes a value of it, and nothing else does.

JSON has types, so nothing is converted but what JSON has no form for, such as dates. The declared type is read first; then the
author's own converters and validators run, on what the type made. A language model's answer is read by ``schemas.build``, which
takes ``"3"`` for an int and shows converters what was said; both end in ``schemas.made_of``.
"""

from __future__ import annotations

import enum
import json
from collections.abc import Callable
from functools import partial
from typing import Any, Final, cast

import attrs

from actors.errors import DeclarationError, InternalError
from actors.words import MAX_SHOWN, cut, with_article
from runtime.messages import schemas
from runtime.messages.fields import MessageKind, message_kind
from runtime.messages.json_text import MAX_BYTES, MAX_DEPTH, Path, flaws, parse
from runtime.messages.kinds import Declared, JsonForm, declared, field_types, is_exactly, shape_of
from runtime.messages.problems import MAX_PROBLEMS, FieldProblem, invalid
from runtime.messages.scalars import SCALARS


def read(annotation: Any, value: object, *, at: Path = (), max_depth: int = MAX_DEPTH, is_parsed: bool = False) -> Any:
    """The value of `annotation` that the JSON `value` is: dicts by field name, lists, texts, numbers, true, false, null.

    Numbers, texts and truth values aren't taken for one another; a whole number may be given for a float. Unknown fields are
    rejected, fields with defaults may be left out.

    Args:
        annotation: a message type, or any type that its fields may have.
        value: what a JSON parser gave; :func:`runtime.messages.json_text.parse` finds duplicate names, too.
        at: where it stands in a larger document; every problem's path begins with it.
        max_depth: how many lists and objects may stand in one another.
        is_parsed: whether :func:`runtime.messages.json_text.parse` has made it, within those bounds: it has no flaws then.

    Raises:
        MessageInvalid: it is none; ``problems`` names every place that is wrong.
        DeclarationError: `annotation` holds a type that has no JSON.
    """
    found: list[FieldProblem] = []
    if not is_parsed:
        found += [attrs.evolve(flaw, path=(*at, *flaw.path)) for flaw in flaws(value, max_depth=max_depth)]
    if not found:
        try:
            read_value = _Reading().value(annotation, value, at, found)
        except RecursionError:  # max_depth is more than the stack of this caller has room for
            found.append(FieldProblem(at, "it is nested too deeply"))
        else:
            if not found:
                return read_value
    name = schemas.type_name(annotation)
    raise invalid(f"The value does not make {with_article(name)}", found)


def read_text(annotation: Any, text: str | bytes, *, max_bytes: int = MAX_BYTES, max_depth: int = MAX_DEPTH) -> Any:
    """The value of `annotation` that the JSON `text` is; see :func:`read`.

    Raises:
        MessageInvalid: it isn't JSON, it is too long, or it isn't such a value.
    """
    return read(annotation, parse(text, max_bytes=max_bytes, max_depth=max_depth), max_depth=max_depth, is_parsed=True)


class _Nothing(enum.Enum):
    """What was read where something is wrong."""

    NOTHING = 0


_NOTHING: Final = _Nothing.NOTHING
_SHOWN_MEMBERS: Final = 3
_OTHER = "expected "
"""How a problem begins that says: JSON of another type."""
_ONE_OF = "expected one of "
"""How it begins where the value of a ``Literal`` or an enum is not the one."""


@attrs.define(eq=False)
class _Reading:
    """One reading. Its methods add to `problems` what is wrong and give what they read."""

    # Each member of a union reads the same objects, and so do the unions inside: without this, a chain of n objects costs 2 ** n.
    known: dict[tuple[int, int, bool], tuple[Any, list[FieldProblem]]] = attrs.field(
        factory=dict[tuple[int, int, bool], tuple[Any, list[FieldProblem]]]
    )
    alive: list[Any] = attrs.field(factory=list[Any])
    """The annotations in `known`: an id is only of use while its object lives."""

    def value(self, annotation: Any, value: Any, path: Path, problems: list[FieldProblem], *, checked: bool = True) -> Any:
        """`value` as `annotation`; `checked` is False inside a pydantic model, which checks what is annotated itself."""
        if len(problems) >= MAX_PROBLEMS:
            return _NOTHING
        kind = declared(annotation)
        match kind.kind:
            case JsonForm.ANY:
                return value
            case JsonForm.SCALAR:
                return _scalar(kind, annotation, value, path, problems)
            case JsonForm.ENUM:
                members = cast("list[enum.Enum]", list(kind.type))
                return _chosen(members, annotation, value, path, problems)
            case JsonForm.LITERAL:
                return _chosen(kind.parts, annotation, value, path, problems)
            case JsonForm.ANNOTATED:
                return self._annotated(kind, value, path, problems, checked=checked)
            case JsonForm.UNION:
                return self._union(kind, value, path, problems, checked=checked)
            case JsonForm.LIST | JsonForm.SET | JsonForm.TUPLE:
                return self._items(kind, annotation, value, path, problems, checked=checked)
            case JsonForm.MAPPING:
                return self._mapping(kind, annotation, value, path, problems, checked=checked)
            case JsonForm.MESSAGE:
                return self._message(kind, annotation, value, path, problems)
            case JsonForm.ROOT:
                root = self.value(kind.parts[0], value, path, problems, checked=False)
                return _NOTHING if root is _NOTHING else _attempted(lambda: kind.type(root), path, problems)
            case JsonForm.FOREIGN:
                return _attempted(lambda: schemas.foreign(annotation, value), path, problems)
        raise InternalError(f"{kind.kind} is not read.")

    def _annotated(self, kind: Declared, value: Any, path: Path, problems: list[FieldProblem], *, checked: bool) -> Any:
        read_value = self.value(kind.parts[0], value, path, problems, checked=checked)
        if read_value is _NOTHING or not checked:
            return read_value
        return _attempted(lambda: schemas.checked(kind.type, read_value), path, problems)

    def _items(
        self, kind: Declared, annotation: Any, value: Any, path: Path, problems: list[FieldProblem], *, checked: bool
    ) -> Any:
        if not is_exactly(value, list):
            return _misfit(annotation, "a list", value, path, problems)
        parts = kind.parts
        if kind.kind is not JsonForm.TUPLE or (len(parts) == 2 and parts[1] is Ellipsis):
            parts = parts[:1] * len(value)
        elif len(value) != len(parts):
            return _misfit(annotation, f"{len(parts)} items", value, path, problems)
        before = len(problems)
        items = [
            self.value(part, item, (*path, index), problems, checked=checked)
            for index, (part, item) in enumerate(zip(parts, value, strict=True))
        ]
        if len(problems) > before:
            return _NOTHING
        if kind.kind is not JsonForm.SET:
            return kind.type(items)
        try:
            made = kind.type(items)
        except TypeError:
            return _add(f"expected {schemas.type_name(annotation)}: its items cannot be in a set", path, problems)
        return made if len(made) == len(items) else _add("an item is given twice", path, problems)

    def _mapping(
        self, kind: Declared, annotation: Any, value: Any, path: Path, problems: list[FieldProblem], *, checked: bool
    ) -> Any:
        if not is_exactly(value, dict):
            return _misfit(annotation, "an object", value, path, problems)
        made: dict[Any, Any] = {}
        before = len(problems)
        for name, item in value.items():
            key = self._key(kind.parts[0], name, (*path, name), problems, checked=checked)
            read_item = self.value(kind.parts[1], item, (*path, name), problems, checked=checked)
            if key is _NOTHING or read_item is _NOTHING:
                continue
            try:
                is_double = key in made
                made[key] = read_item
            except TypeError:
                return _add(f"expected {schemas.type_name(annotation)}: its names cannot be keys", path, problems)
            if is_double:
                _add("the same name is given twice", (*path, name), problems)
        return _NOTHING if len(problems) > before else made

    def _key(self, annotation: Any, name: str, path: Path, problems: list[FieldProblem], *, checked: bool) -> Any:
        """The key that `name` is: itself, or what JSON would call it in quotes, such as a number."""
        as_text: list[FieldProblem] = []
        key = self.value(annotation, name, path, as_text, checked=checked)
        if not as_text:
            return key
        try:
            scalar = json.loads(name)
        except (ValueError, RecursionError):
            scalar = name
        if type(scalar) in (int, float, bool, type(None)) and json.dumps(scalar) == name and not flaws(scalar):
            as_scalar: list[FieldProblem] = []
            key = self.value(annotation, scalar, path, as_scalar, checked=checked)
            if not as_scalar:
                return key
        return _add(f"expected a name that is {schemas.type_name(annotation)}", path, problems)

    def _message(self, kind: Declared, annotation: Any, value: Any, path: Path, problems: list[FieldProblem]) -> Any:
        owner = cast("type", kind.type)
        if not is_exactly(value, dict):
            return _misfit(annotation, "an object", value, path, problems)
        values: dict[str, Any] = value
        before = len(problems)
        checks_itself = message_kind(owner) is MessageKind.PYDANTIC
        required = shape_of(owner).required
        given: dict[str, Any] = {}
        types = field_types(kind)
        for name, field_type in types.items():
            if name in values:
                given[name] = self.value(field_type, values[name], (*path, name), problems, checked=not checks_itself)
            elif name in required:
                _add(f"missing, expected {schemas.type_name(field_type)}", (*path, name), problems)
        others = {} if len(given) == len(values) else {name: item for name, item in values.items() if name not in types}
        if others and schemas.takes_any_field(owner):
            given.update(others)
        else:
            known = ", ".join(types) or "none"
            for name in others:
                _add(f"no field of {schemas.type_name(owner)}; its fields: {known}", (*path, name), problems)
        if len(problems) == before:
            return _attempted(lambda: schemas.made_of(owner, given), path, problems)
        if checks_itself:  # it is not made, so no one has looked at the constraints of what is fit so far
            for name, part in given.items():
                if part is not _NOTHING and name in types and declared(types[name]).kind is JsonForm.ANNOTATED:
                    _attempted(partial(schemas.checked, types[name], part), (*path, name), problems)
        return _NOTHING

    def _union(self, kind: Declared, value: Any, path: Path, problems: list[FieldProblem], *, checked: bool) -> Any:
        tried = [(member, *self._tried(member, value, path, checked=checked)) for member in kind.parts]
        fitting = [(member, made) for member, made, wrong in tried if not wrong]
        if len(fitting) < 2:
            return (
                fitting[0][1]
                if fitting
                else _fits_none(kind, [(member, wrong) for member, _, wrong in tried], value, path, problems)
            )
        if is_exactly(value, dict):  # a declared message rather than a mapping that takes any names
            fitting = [each for each in fitting if _shape(each[1]) in {type(each[1])}] or fitting
        else:  # what JSON calls it rather than what borrows that: a text is a str before a date, 1 an int before a float
            fitting = [each for each in fitting if is_exactly(each[1], value.__class__)] or fitting
        if len({_shape(made) for _, made in fitting}) > 1:
            names = " and ".join(schemas.type_name(member) for member, _ in fitting)
            return _add(f"fits {names} alike: only a field that one of them has can say which", path, problems)
        return fitting[0][1]

    def _tried(self, member: Any, value: Any, path: Path, *, checked: bool) -> tuple[Any, list[FieldProblem]]:
        """What `member` of a union makes of `value`; each pair of the two is read once."""
        wrong: list[FieldProblem] = []
        if type(value) not in (dict, list):
            return self.value(member, value, path, wrong, checked=checked), wrong
        key = (id(member), id(value), checked)
        if key not in self.known:
            self.alive.append(member)
            made = self.value(member, value, path, wrong, checked=checked)
            self.known[key] = made, wrong
        return self.known[key]


def _scalar(kind: Declared, annotation: Any, value: Any, path: Path, problems: list[FieldProblem]) -> Any:
    scalar = SCALARS[kind.type]
    try:
        return scalar.read(value)
    except ValueError:
        return _misfit(annotation, scalar.expected, value, path, problems)


def _chosen(options: Any, annotation: Any, value: Any, path: Path, problems: list[FieldProblem]) -> Any:
    for option in options:
        if _same(schemas.dump(option), value):
            return option
    expected = cut(", ".join(json.dumps(schemas.dump(option), ensure_ascii=False) for option in options), MAX_SHOWN)
    return _add(f"{_ONE_OF}{expected}, got {schemas.shown(value)}", path, problems)


def _same(one: Any, other: Any) -> bool:
    """Equal as JSON is: 1 is neither true nor 1.0."""
    if type(one) is not type(other):
        return False
    return json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True) if isinstance(one, dict | list) else one == other


def _shape(made: Any) -> Any:
    """The message types in what was read: two readings that differ in them mean different things."""
    kind = made.__class__
    if kind in (list, tuple):
        return tuple(_shape(item) for item in made)
    if kind is dict:
        return tuple(_shape(item) for item in made.values())
    return kind if message_kind(kind) is not None else None


def _fits_none(
    kind: Declared, tried: list[tuple[Any, list[FieldProblem]]], value: Any, path: Path, problems: list[FieldProblem]
) -> Any:
    """Tell why no member of a union takes `value`: all that is wrong with the one that was meant, or what is wrong with each."""
    near = [(member, wrong) for member, wrong in tried if any(problem.path != path for problem in wrong)]
    near = [(member, wrong) for member, wrong in near if not any(_is_tag(problem, path) for problem in wrong)] or near
    if near and all(wrong == near[0][1] for _, wrong in near):  # of one member, or of what they have in common
        problems.extend(near[0][1][: MAX_PROBLEMS - len(problems)])
        return _NOTHING
    telling = near or [(member, wrong) for member, wrong in tried if not wrong[0].message.startswith(_OTHER)]
    why = "; ".join(
        f"{schemas.type_name(member)}: {attrs.evolve(wrong[0], path=wrong[0].path[len(path) :])}"
        for member, wrong in telling[:_SHOWN_MEMBERS]
    )
    told = f"{_OTHER}{schemas.type_name(kind.type)}, got {schemas.shown(value)}"
    return _add(f"{told} ({cut(why, MAX_SHOWN)})" if why else told, path, problems)


def _is_tag(problem: FieldProblem, path: Path) -> bool:
    """Whether a field right in the object should have had another of a few values, by which its author distinguishes types."""
    return len(problem.path) == len(path) + 1 and problem.message.startswith(_ONE_OF)


def _misfit(annotation: Any, expected: str, value: Any, path: Path, problems: list[FieldProblem]) -> Any:
    form = f" ({expected})" if expected else ""
    return _add(f"{_OTHER}{schemas.type_name(annotation)}{form}, got {schemas.shown(value)}", path, problems)


def _add(message: str, path: Path, problems: list[FieldProblem]) -> Any:
    problems.append(FieldProblem(path, message))
    return _NOTHING


def _attempted(make: Callable[[], Any], path: Path, problems: list[FieldProblem]) -> Any:
    """What `make` gives; what the author's code raises in it is a problem of the value."""
    try:
        return make()
    except DeclarationError:
        raise
    except Exception as error:  # noqa: BLE001 - validators and converters are anybody's
        for reason in schemas.reasons(error)[: MAX_PROBLEMS - len(problems)]:
            _add(reason.message, (*path, *reason.path), problems)
        return _NOTHING
