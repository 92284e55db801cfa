"""Writing: a value becomes the JSON from which ``runtime.messages.reader`` makes an equal one.

Unlike ``schemas.dump``, which shows any value in a prompt, this follows the declared type, and rejects what would come back as
something else: a subclass in the place of its base, NaN, half of a surrogate pair.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from typing import Any, cast

from actors.errors import DeclarationError, InternalError
from actors.words import kind_of, words_of
from runtime.messages import schemas
from runtime.messages.fields import message_kind
from runtime.messages.json_text import MAX_DEPTH, Path, flaws
from runtime.messages.kinds import Declared, JsonForm, declared, field_types, is_exactly, shape_of
from runtime.messages.problems import MAX_PROBLEMS, FieldProblem, invalid
from runtime.messages.scalars import SCALARS


def write(annotation: Any, value: object, *, max_depth: int = MAX_DEPTH) -> Any:
    """`value`, which is one of `annotation`, as JSON: dicts by field name, lists, texts, numbers, true, false, null.

    A message has the fields that its constructor takes; what the class computes is left out. Sets are sorted.

    Raises:
        MessageInvalid: it is none of that type, or cannot be told in JSON; ``problems`` names every place.
        DeclarationError: `annotation` holds a type that has no JSON.
    """
    problems: list[FieldProblem] = []
    written = _write(annotation, value, (), problems, max_depth)
    if problems:
        raise invalid(f"This value of {schemas.type_name(annotation)} cannot be written as JSON", problems)
    return written


def write_text(annotation: Any, value: object, *, max_depth: int = MAX_DEPTH) -> str:
    """`value` as JSON text in ASCII without spaces, the same for equal values; see :func:`write`."""
    return json.dumps(write(annotation, value, max_depth=max_depth), separators=(",", ":"), allow_nan=False)


def _write(annotation: Any, value: Any, path: Path, problems: list[FieldProblem], depth: int) -> Any:
    """`value` as JSON; `depth` is how many more lists and objects may stand in one another here."""
    if len(problems) >= MAX_PROBLEMS:
        return None
    kind = declared(annotation)
    match kind.kind:
        case JsonForm.ANY:
            problems.extend(FieldProblem((*path, *flaw.path), flaw.message) for flaw in flaws(value, max_depth=depth))
            return value
        case JsonForm.SCALAR:
            return _scalar(kind, annotation, value, path, problems)
        case JsonForm.ENUM | JsonForm.LITERAL:
            options: Iterable[Any] = kind.type if kind.kind is JsonForm.ENUM else kind.parts
            if any(option is value or (type(option) is type(value) and option == value) for option in options):
                return schemas.dump(value)
            return _misfit(annotation, value, path, problems)
        case JsonForm.ANNOTATED | JsonForm.ROOT:
            if kind.kind is JsonForm.ROOT:
                if type(value) is not kind.type:
                    return _misfit(annotation, value, path, problems)
                value = value.root
            return _write(kind.parts[0], value, path, problems, depth)
        case JsonForm.UNION:
            return _union(kind, value, path, problems, depth)
        case JsonForm.FOREIGN:
            return _foreign(annotation, value, path, problems)
        case _:
            pass
    if depth == 0:
        problems.append(FieldProblem(path, "nested too deeply"))
        return None
    match kind.kind:
        case JsonForm.MESSAGE:
            return _message(kind, annotation, value, path, problems, depth - 1)
        case JsonForm.MAPPING:
            return _mapping(kind, annotation, value, path, problems, depth - 1)
        case JsonForm.LIST | JsonForm.SET | JsonForm.TUPLE:
            return _items(kind, annotation, value, path, problems, depth - 1)
    raise InternalError(f"{kind.kind} is not written.")


def _scalar(kind: Declared, annotation: Any, value: Any, path: Path, problems: list[FieldProblem]) -> Any:
    if kind.type is float and type(value) is int:
        value = _attempted(lambda: float(value), path, problems)
    if value is None and problems:
        return None
    if type(value) is not kind.type:
        return _misfit(annotation, value, path, problems)
    try:
        return SCALARS[kind.type].write(value)
    except Exception as error:  # noqa: BLE001 - as below
        return _failed(error, path, problems)


def _union(kind: Declared, value: Any, path: Path, problems: list[FieldProblem], depth: int) -> Any:
    exact = sorted(kind.parts, key=lambda member: declared(member).type is not type(value))
    tried: list[list[FieldProblem]] = []
    for member in exact:
        wrong: list[FieldProblem] = []
        written = _write(member, value, path, wrong, depth)
        if not wrong:
            return written
        tried.append(wrong)
    deep = [wrong for wrong in tried if any(problem.path != path for problem in wrong)]
    if len(deep) == 1:
        problems.extend(deep[0])
        return None
    return _misfit(kind.type, value, path, problems)


def _items(kind: Declared, annotation: Any, value: Any, path: Path, problems: list[FieldProblem], depth: int) -> Any:
    if not is_exactly(value, kind.type):
        return _misfit(annotation, value, path, problems)
    items: list[Any] = list(value)
    parts = kind.parts
    if kind.kind is not JsonForm.TUPLE or (len(parts) == 2 and parts[1] is Ellipsis):
        parts = parts[:1] * len(items)
    elif len(parts) != len(items):
        return _misfit(annotation, value, path, problems)
    before = len(problems)
    written = [
        _write(part, item, (*path, index), problems, depth) for index, (part, item) in enumerate(zip(parts, items, strict=True))
    ]
    return sorted(written, key=json.dumps) if kind.kind is JsonForm.SET and len(problems) == before else written


def _mapping(kind: Declared, annotation: Any, value: Any, path: Path, problems: list[FieldProblem], depth: int) -> Any:
    if not is_exactly(value, dict):
        return _misfit(annotation, value, path, problems)
    written: dict[str, Any] = {}
    for key, item in value.items():
        before = len(problems)
        name = _write(kind.parts[0], key, path, problems, depth)
        if len(problems) > before:
            continue
        if isinstance(name, list | dict):
            problems.append(FieldProblem(path, "a name in JSON is a text, and a list or an object makes none"))
            continue
        text = name if isinstance(name, str) else json.dumps(name)
        if text in written:
            problems.append(FieldProblem((*path, text), "two keys have this name in JSON"))
        written[text] = _write(kind.parts[1], item, (*path, text), problems, depth)
    return written


def _message(kind: Declared, annotation: Any, value: Any, path: Path, problems: list[FieldProblem], depth: int) -> Any:
    if type(value) is not kind.type and type(value) is not annotation:
        return _misfit(annotation, value, path, problems)
    attributes = shape_of(kind.type).attributes
    written: dict[str, Any] = {}
    for name, field_type in field_types(kind).items():
        if not hasattr(value, attributes[name]):
            problems.append(FieldProblem((*path, name), "it has no value"))
            continue
        written[name] = _write(field_type, getattr(value, attributes[name]), (*path, name), problems, depth)
    if schemas.takes_any_field(kind.type):
        for name, item in cast("Mapping[str, Any]", value.__pydantic_extra__ or {}).items():
            written[name] = _write(Any, item, (*path, name), problems, depth)
    return written


def _foreign(annotation: Any, value: Any, path: Path, problems: list[FieldProblem]) -> Any:
    before = len(problems)
    written = _attempted(lambda: schemas.foreign_json(annotation, value), path, problems)
    problems.extend(FieldProblem((*path, *flaw.path), flaw.message) for flaw in flaws(written))
    if len(problems) == before:  # pydantic hides a secret, for one, and says nothing
        again = _attempted(lambda: schemas.foreign(annotation, written) == value, path, problems)
        if len(problems) == before and not again:
            problems.append(FieldProblem(path, f"what JSON has of {schemas.type_name(annotation)} comes back as something else"))
    return written


def _attempted(make: Callable[[], Any], path: Path, problems: list[FieldProblem]) -> Any:
    try:
        return make()
    except DeclarationError:
        raise
    except Exception as error:  # noqa: BLE001 - a foreign type's own code, or pydantic's
        return _failed(error, path, problems)


def _failed(error: Exception, path: Path, problems: list[FieldProblem]) -> None:
    problems.append(FieldProblem(path, words_of(error) or type(error).__name__))


def _misfit(annotation: Any, value: Any, path: Path, problems: list[FieldProblem]) -> Any:
    what = schemas.shown(value) if message_kind(value.__class__) is None else f"a value of {kind_of(value)}"
    problems.append(FieldProblem(path, f"expected {schemas.type_name(annotation)}, got {what}"))
