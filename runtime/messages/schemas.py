"""JSON schemas of message types, lenient reading, and what strict reading needs of pydantic.

:func:`build` reads leniently, as a language model's answer wants to be read; ``runtime.messages.reader`` reads strictly. Both
read by *mirrors*, which ``runtime.messages.mirrors`` makes. How types, values and problems are shown is in
``runtime.messages.showing``. All of it is called by way of this file.

pydantic is imported in these three files only, inside the functions that need it.
"""

from __future__ import annotations

import base64
import functools
import inspect
import json
from collections.abc import Mapping
from typing import Any, cast

from runtime.messages.fields import MessageKind, fields_of, message_kind
from runtime.messages.mirrors import adapter_of, translate
from runtime.messages.mirrors import hooked as hooked
from runtime.messages.mirrors import made_of as made_of
from runtime.messages.mirrors import plain as plain
from runtime.messages.problems import invalid
from runtime.messages.showing import allows_none as allows_none
from runtime.messages.showing import dump as dump
from runtime.messages.showing import place_of, problem_of
from runtime.messages.showing import plain_adapter as plain_adapter
from runtime.messages.showing import reasons as reasons
from runtime.messages.showing import shorten as shorten
from runtime.messages.showing import shown as shown
from runtime.messages.showing import type_name as type_name


def mirror(annotation: Any) -> Any:
    """`annotation` with every message type in it, at any depth, exchanged for its mirror.

    Raises:
        DeclarationError: it holds a type that cannot be shown to a language model, such as a callable.
    """
    changed = translate(annotation)
    adapter_of(annotation, changed)
    return changed


def build(message_type: type, values: Mapping[str, object]) -> Any:
    """An instance of `message_type` from `values` by field name, each validated.

    Lax where pydantic is lax (``"3"`` for an int); unknown names are ignored; fields with defaults may be left out.

    Raises:
        MessageInvalid: a field is missing or does not fit, or the class rejected the values; it names all of them.
        DeclarationError: `message_type` isn't a message type, or has a field that cannot be read from JSON.
    """
    from pydantic import TypeAdapter, ValidationError  # noqa: PLC0415

    fields = fields_of(message_type)
    adapter: TypeAdapter[Any] = adapter_of(message_type, translate(message_type))
    try:
        return adapter.validate_python(dict(values), by_name=True, by_alias=True)
    except ValidationError as error:
        details = cast("list[dict[str, Any]]", error.errors(include_url=False, include_context=False))
    raise invalid(
        f"The values do not make a {message_type.__name__}", [problem_of(message_type, fields, detail) for detail in details]
    )


def validated(annotation: Any, value: object) -> Any:
    """`value` as a value of `annotation`, which is a mirror or holds none of the author's types.

    Raises:
        ValueError: it is none; pydantic's, with its reasons.
    """
    return adapter_of(annotation, annotation).validate_python(value)


def json_schema(annotation: Any) -> dict[str, Any]:
    """The JSON schema of `annotation`, which is a mirror or holds none of the author's types, by the names of its fields."""
    schema: dict[str, Any] = adapter_of(annotation, annotation).json_schema(by_alias=False)
    return schema


def schema_of(annotation: Any) -> dict[str, Any]:
    """The JSON schema (2020-12) of what strict reading takes for `annotation`: a message type or any type of its fields.

    Message types stand in ``$defs`` and take no fields but their own; bytes are base64 text. Converters and validators of the
    author's do not show: what else they reject is in no schema.

    Raises:
        DeclarationError: it holds a type that has no JSON.
    """
    adapter = adapter_of(annotation, translate(annotation))
    schema: dict[str, Any] = adapter.json_schema(by_alias=False, mode="validation", schema_generator=_strict_schemas())
    return schema


@functools.cache
def _strict_schemas() -> Any:
    """The generator of schemas that say what strict reading takes: no fields but the declared ones, and base64 for bytes."""
    from pydantic.json_schema import GenerateJsonSchema  # noqa: PLC0415

    class Strict(GenerateJsonSchema):
        def bytes_schema(self, schema: Any) -> dict[str, Any]:
            del schema  # its bounds count bytes, and those of a schema would count characters
            return {"type": "string", "contentEncoding": "base64"}

        def encode_default(self, dft: Any) -> Any:
            return base64.b64encode(dft).decode("ascii") if isinstance(dft, bytes) else super().encode_default(dft)

        def model_schema(self, schema: Any) -> dict[str, Any]:
            return _closed(super().model_schema(schema))

        def dataclass_schema(self, schema: Any) -> dict[str, Any]:
            return _closed(super().dataclass_schema(schema))

        def typed_dict_schema(self, schema: Any) -> dict[str, Any]:
            return _closed(super().typed_dict_schema(schema))

    return Strict


def _closed(schema: dict[str, Any]) -> dict[str, Any]:
    if "properties" in schema:
        schema.setdefault("additionalProperties", False)
    return schema


def misfit(annotation: Any, value: object) -> str | None:
    """Why `value`, as JSON has it, isn't a value of `annotation`; None when it is one."""
    from pydantic import ValidationError  # noqa: PLC0415

    try:
        adapter_of(annotation, translate(annotation)).validate_python(value, by_name=True, by_alias=True)
    except ValidationError as error:
        detail = error.errors(include_url=False, include_context=False)[0]
        place = place_of(detail["loc"])
        return f"{place + ': ' if place else ''}got {shorten(detail['input'])}, expected {type_name(annotation)}: {detail['msg']}"
    return None


def misgiven(annotation: Any, value: object) -> str | None:
    """Why `value`, which the author's own code gives, isn't a value of `annotation` as it stands; None when it is one.

    Nothing is converted, unlike what a model says: a text isn't a number.
    """
    from pydantic import ValidationError  # noqa: PLC0415

    try:
        read = adapter_of(annotation, translate(annotation)).validate_python(value, strict=True, by_name=True, by_alias=True)
    except ValidationError as error:
        detail = error.errors(include_url=False, include_context=False)[0]
        place = place_of(detail["loc"])
        return f"{place + ': ' if place else ''}got {shorten(detail['input'])}, expected {type_name(annotation)}"
    try:
        is_same = read is value or bool(read == value)
    except Exception:  # noqa: BLE001 - an array, say, that does not compare as a whole: it was fit all the same
        is_same = True
    return None if is_same else f"got {shorten(value)}, expected {type_name(annotation)}"


# --- for strict reading and writing ---------------------------------------------------------------------------------


def checked(annotation: Any, value: object) -> Any:
    """`value`, of the type in the ``Annotated`` that `annotation` is, as the rest of that makes it.

    Raises:
        ValueError: its constraints or its validators reject it; see :func:`reasons`.
    """
    return adapter_of(annotation, translate(annotation)).validate_python(value, by_name=True, by_alias=True)


def foreign(annotation: Any, value: object) -> Any:
    """The JSON `value` as a type that only pydantic knows, strictly.

    Raises:
        ValueError: it is none; see :func:`reasons`.
        DeclarationError: pydantic does not know it either.
    """
    read = adapter_of(annotation, translate(annotation)).validate_json
    closed = {"extra": "forbid"} if "extra" in inspect.signature(read).parameters else {}  # pydantic has it from 2.12 on
    return read(json.dumps(value), strict=True, by_name=True, by_alias=True, **closed)


def foreign_json(annotation: Any, value: object) -> Any:
    """JSON of `value`, of a type that only pydantic knows.

    Raises:
        ValueError: it has none, or is none of that type.
    """
    return adapter_of(annotation, translate(annotation)).dump_python(value, mode="json", warnings="error")


def takes_any_field(message_type: type) -> bool:
    """Whether the author lets a pydantic model keep fields that it does not declare."""
    config: Mapping[str, object] = getattr(message_type, "model_config", {})
    return message_kind(message_type) is MessageKind.PYDANTIC and config.get("extra") == "allow"
