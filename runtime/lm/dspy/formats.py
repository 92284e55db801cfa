"""The fields of an answer in the formats of DSPy's adapters, read as the adapters read them, within the bounds of ``repair``.

What a field comes to is what DSPy's own ``parse`` gives. Its parsers cannot be called: they give every text to json_repair, and
search some with expressions that take time by the square of it.
"""

from __future__ import annotations

import ast
import enum
import functools
import inspect
import json
import types
import typing
from collections.abc import Mapping
from typing import Any, Literal, cast
from xml.etree import ElementTree

from runtime.lm.dspy.import_dspy import library, part
from runtime.lm.dspy.pieces import sections
from runtime.lm.dspy.repair import check_depth, check_length, read, read_object
from runtime.messages import schemas
from runtime.messages.shapes import as_list, as_object

_LONGEST_LITERAL = 1000
"""Longer texts are not tried as Python's: its parser has no bounds itself."""
_ARGUMENTS = ("arguments", "args")


class NotInFormat(Exception):
    """An answer is not in the format of its adapter."""


def reads_sections(adapter: Any) -> bool:
    """Whether `adapter` reads answers in sections, as ``dspy.ChatAdapter`` does: their fields can be told while they come."""
    base: Any = getattr(adapter, "careful_base", adapter.__class__)
    return _format_of(base) == "chat"


def written(base: Any, signature: Any, completion: str) -> dict[str, Any] | None:
    """The output fields in `completion` as they were written, a text or what JSON has; None for an adapter of the user's own.

    Args:
        base: the adapter's class.
        signature: DSPy's.
        completion: the answer.

    Raises:
        NotInFormat: nothing can be found in it.
        TooHard: it takes too long to look.
    """
    check_length(completion)
    wanted = signature.output_fields
    kind = _format_of(base)
    if kind == "chat":
        return cast("dict[str, Any]", sections(completion, wanted))
    if kind == "json":
        found = read_object(completion)
        if found is None:
            raise NotInFormat("LM response cannot be serialized to a JSON object.")
        return {name: value for name, value in found.items() if name in wanted}
    return _of_xml(base, wanted, completion) if kind == "xml" else None


@functools.cache
def _format_of(base: Any) -> str | None:
    dspy = library()
    own = inspect.unwrap(base.parse)
    known: dict[str, Any] = {"chat": dspy.ChatAdapter, "json": dspy.JSONAdapter, "xml": dspy.XMLAdapter}
    return next((name for name, adapter in known.items() if own is inspect.unwrap(adapter.parse)), None)


def _of_xml(base: Any, wanted: Mapping[str, Any], completion: str) -> dict[str, Any]:
    try:
        root = ElementTree.fromstring(f"<dspy_root>{completion}</dspy_root>")
    except ElementTree.ParseError as error:
        raise NotInFormat(f"Failed to parse XML: {error}") from error
    elements = base._group_children(root)
    fields: dict[str, Any] = {}
    for name in wanted:
        if name not in elements:
            continue
        schema = schemas.json_schema(wanted[name].annotation)
        for candidate in (schema, *schema.get("anyOf", [])):
            value = base._elements_to_value(elements[name], candidate, schema.get("$defs", {}))
            fields.setdefault(name, value)
            try:
                value_of(value, wanted[name].annotation)
            except ValueError:
                continue
            fields[name] = value
            break
    return fields


def value_of(value: Any, annotation: Any) -> Any:
    """`value`, as it was written, as DSPy parses it to `annotation`.

    Raises:
        ValueError: it does not fit.
        TooHard: it takes too long to find out.
    """
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if not isinstance(value, str):
        check_depth(value)
        return _parsed(_with_arguments(value, annotation), annotation)
    is_optional_text = origin in (typing.Union, types.UnionType) and {str, types.NoneType} <= set(arguments)
    if annotation is str or isinstance(annotation, enum.EnumMeta) or is_optional_text:
        return _parsed(value, annotation)
    if origin is Literal and len(value) <= _LONGEST_LITERAL:
        return _parsed(value, annotation)
    candidate = read(value)
    if candidate == "" and value != "":
        candidate = _literal(value)
    try:
        return schemas.validated(annotation, _with_arguments(candidate, annotation))
    except ValueError:
        if isinstance(annotation, type) and issubclass(annotation, part("adapters.types.base_type").Type):
            return schemas.validated(annotation, value)
        raise


def as_said(value: Any, annotation: Any) -> Any:
    """`value`, as it was written, for validators of the author's own: JSON where it is JSON, else the text itself."""
    if not isinstance(value, str) or _takes_text(annotation):
        return value
    try:
        found = json.loads(value)
    except (ValueError, RecursionError):
        if value.lstrip()[:1] not in {"{", "[", "`"}:
            return value
        repaired: Any = read(value)
        return value if isinstance(repaired, str | int | float) else repaired
    check_depth(found)
    return found


def arguments_of(call: Any) -> Any:
    """A tool call in OpenAI's form, with its arguments parsed. Raises NotInFormat when they aren't an object, and TooHard."""
    function = as_object(as_object(call).get("function"))
    text: object = function.get("arguments")
    if not isinstance(text, str):
        return call
    arguments: object = read(text or "{}")
    if isinstance(arguments, dict):
        return {**as_object(call), "function": {**function, "arguments": as_object(cast("object", arguments))}}
    raise NotInFormat(f"the arguments of the tool {function.get('name')!r} are not a JSON object")


def _with_arguments(value: Any, annotation: Any) -> Any:
    """`value` of DSPy's type for tool calls with their arguments parsed: the type itself would repair them without bounds."""
    if annotation is not part("adapters.types.tool").ToolCalls:
        return value
    return _argued(value)


def _argued(value: Any) -> Any:
    if isinstance(value, list):
        return [_argued(each) for each in as_list(cast("object", value))]
    if not isinstance(value, dict):
        return value
    found = {name: _argued(each) for name, each in cast("dict[str, Any]", value).items()}
    return {name: read(each) if name in _ARGUMENTS and isinstance(each, str) else each for name, each in found.items()}


def _parsed(value: Any, annotation: Any) -> Any:
    return part("adapters.utils").parse_value(value, annotation)


def _literal(text: str) -> Any:
    """`text` as a literal of Python's; itself when it isn't one."""
    if len(text) > _LONGEST_LITERAL:
        return text
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, TypeError, RecursionError, MemoryError):
        return text


def _takes_text(annotation: Any) -> bool:
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Annotated:
        return _takes_text(arguments[0])
    if origin in (typing.Union, types.UnionType):
        return any(_takes_text(each) for each in arguments)
    if origin is Literal:
        return any(isinstance(each, str) for each in arguments)
    return annotation is str or isinstance(annotation, enum.EnumMeta)
