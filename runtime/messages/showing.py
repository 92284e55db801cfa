"""Types, values and problems as people and models are shown them: names of types, shortened values, JSON for prompts, reasons."""

from __future__ import annotations

import base64
import enum
import functools
import types
import typing
from collections.abc import Collection, Mapping
from typing import Any, cast

from actors.words import repr_of, words_of
from runtime.messages.fields import MessageField, fields_of, message_kind
from runtime.messages.problems import FieldProblem

SHOWN_CHARACTERS = 120
"""How much of a value an error message shows."""


def shorten(value: object, limit: int = SHOWN_CHARACTERS) -> str:
    """``repr(value)``, its middle cut out when it is longer than `limit` characters."""
    shown = value if isinstance(value, str) and len(value) > 10 * limit else repr_of(value, 10 * limit)
    if len(shown) <= limit:
        return shown
    half = (limit - 3) // 2
    return f"{shown[:half]}…{shown[-half:]}"


def type_name(annotation: object) -> str:
    """`annotation` as its author wrote it, without module names."""
    if annotation is None or annotation is type(None):
        return "None"
    if annotation is Ellipsis:
        return "..."
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is None:
        return annotation.__name__ if isinstance(annotation, type) else str(annotation).removeprefix("typing.")
    if origin is typing.Annotated:
        return type_name(arguments[0])
    if origin in (typing.Union, types.UnionType):
        return " | ".join(type_name(argument) for argument in arguments)
    if origin is typing.Literal:
        return f"Literal[{', '.join(repr(argument) for argument in arguments)}]"
    return f"{getattr(origin, '__name__', origin)}[{', '.join(type_name(argument) for argument in arguments)}]"


def allows_none(annotation: object) -> bool:
    """Whether None is a value of `annotation`."""
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Annotated:
        return allows_none(arguments[0])
    if origin in (typing.Union, types.UnionType):
        return any(allows_none(argument) for argument in arguments)
    if origin is typing.Literal:
        return None in arguments
    return annotation is None or annotation is type(None)


def dump(value: object, *, base64_bytes: bool = False) -> Any:
    """`value` as JSON has it: what a prompt shows. Message types become objects, by field name; never raises.

    Bytes become text, for a model to read, or base64, as strict reading takes them.
    """
    within = functools.partial(dump, base64_bytes=base64_bytes)
    if value is None or (isinstance(value, str | bool | int | float) and not isinstance(value, enum.Enum)):
        return value
    if message_kind(type(value)) is not None:
        return {field.name: within(getattr(value, field.attribute, None)) for field in fields_of(type(value))}
    if isinstance(value, enum.Enum):
        return within(value.value)
    if isinstance(value, Mapping):
        items = cast("Mapping[object, object]", value).items()
        return {key if isinstance(key, str) else str(within(key)): within(item) for key, item in items}
    if isinstance(value, set | frozenset):
        return sorted((within(item) for item in cast("Collection[object]", value)), key=repr)
    if isinstance(value, list | tuple):
        return [within(item) for item in cast("Collection[object]", value)]
    if base64_bytes and isinstance(value, bytes):
        return base64.b64encode(value).decode("ascii")
    return _plain(value)


@functools.cache
def plain_adapter(annotation: Any) -> Any:
    """The adapter of one of Python's own types, made once; for a handful of types, since it is kept."""
    from pydantic import TypeAdapter  # noqa: PLC0415

    return TypeAdapter(annotation)


def _plain(value: object) -> Any:
    try:
        return plain_adapter(Any).dump_python(value, mode="json", fallback=str, warnings=False)
    except Exception:  # noqa: BLE001 - bytes that are not text, or a __str__ that fails: a prompt shows what it can
        return repr_of(value)


def shown(value: object) -> str:
    """A JSON value, or what was made of one, as a problem repeats it: shortened, and without what is in it."""
    if isinstance(value, dict):
        return "an object"
    if isinstance(value, list):
        return "a list"
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return shorten(value)


def reasons(error: Exception) -> list[FieldProblem]:
    """Why a value was rejected, each place counted from that value: what pydantic found, or the words of the author's code."""
    from pydantic import ValidationError  # noqa: PLC0415

    found = error if isinstance(error, ValidationError) else error.__cause__
    if not isinstance(found, ValidationError):
        return [FieldProblem((), words_of(error) or type(error).__name__)]
    details = found.errors(include_url=False, include_context=False)
    return [FieldProblem(steps_of(each["loc"]), f"got {shown(each['input'])}: {_reason(each['msg'])}") for each in details]


def _reason(message: str) -> str:
    return message.removeprefix("Value error, ").removeprefix("Assertion failed, ")


def steps_of(loc: tuple[int | str, ...]) -> tuple[int | str, ...]:
    """The place of an error without the steps into our own validators, which no author wrote."""
    return tuple(part for part in loc if isinstance(part, int) or not part.startswith("function-"))


def place_of(loc: tuple[int | str, ...]) -> str:
    """The place of an error of pydantic's in words; empty for the whole."""
    return FieldProblem(steps_of(loc), "").place


def problem_of(message_type: type, fields: tuple[MessageField, ...], detail: Mapping[str, Any]) -> FieldProblem:
    """One error of pydantic's about the values for `message_type`, which has `fields`."""
    steps = steps_of(detail["loc"])
    types_by_name = {name: type_name(field.type) for field in fields for name in (field.name, field.attribute)}
    root = str(steps[0]) if steps else ""
    declared = types_by_name.get(root, "")
    is_deep = len(steps) > 1
    if detail["type"] == "missing":
        return FieldProblem(steps, "missing" + (f" ({root} is {declared})" if is_deep else f", expected {declared}"))
    expected = f" ({root} is {declared})" if is_deep else f", expected {declared}" if root else ""
    reason = str(detail["msg"]).removeprefix("Value error, ")
    return FieldProblem(steps, f"got {shorten(detail['input'])}{expected}: {reason}")
