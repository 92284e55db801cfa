"""Forms that programs show to people: flat, with texts, numbers, yes or no, and choices; made of the schema of an answer."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final, cast, final

import attrs

from runtime.messages.json_text import parse
from runtime.messages.problems import FieldProblem, invalid

ANSWER: Final = "answer"
"""The field that tells which of several types the answer has, or that holds it as JSON."""
_FLAT: Final = frozenset({"string", "integer", "number", "boolean"})
_KEPT: Final = ("type", "title", "description", "enum", "default", "minLength", "maxLength", "minimum", "maximum", "format")
_MAX_ANSWER: Final = 1024 * 1024
_MAX_DEPTH: Final = 100


@final
@attrs.frozen
class Form:
    """What a person fills in."""

    schema: Mapping[str, Any]
    """A JSON schema of a flat object."""
    kinds: Mapping[str, tuple[str, ...]] = attrs.field(factory=dict[str, "tuple[str, ...]"])
    """Of an answer of several types: the fields of each."""
    is_json: bool = False
    """Whether the answer is written as JSON, because it isn't flat."""

    def read(self, content: Mapping[str, Any]) -> Any:
        """The answer that what was filled in makes.

        Raises:
            MessageInvalid: it makes none.
        """
        if self.is_json:
            return parse(str(content.get(ANSWER, "")), max_bytes=_MAX_ANSWER, max_depth=_MAX_DEPTH)
        if not self.kinds:
            return {name: value for name, value in content.items() if value is not None}
        kind = content.get(ANSWER)
        if kind == "null" and kind in self.kinds:
            return None
        if not isinstance(kind, str) or kind not in self.kinds:
            raise invalid("The form has no answer", [FieldProblem((ANSWER,), f"expected one of: {', '.join(self.kinds)}")])
        given = {name: content.get(f"{kind}.{name}") for name in self.kinds[kind]}
        return {kind: {name: value for name, value in given.items() if value is not None}}

    def read_text(self, text: str) -> Any:
        """The answer that somebody writes in a conversation: JSON, one of several types by its name, or the one text of the form.

        Raises:
            MessageInvalid: it is none.
        """
        fields = cast("Mapping[str, Mapping[str, Any]]", self.schema["properties"])
        if text.lstrip().startswith("{") or self.is_json:
            return parse(text, max_bytes=_MAX_ANSWER, max_depth=_MAX_DEPTH)
        if self.kinds:
            return self.read({ANSWER: text.strip()})
        if len(fields) == 1:
            name, field = next(iter(fields.items()))
            return {name: text if field.get("type") == "string" else parse(text.strip().lower())}
        raise invalid("The text isn't an answer", [FieldProblem((), f"expected JSON with {', '.join(fields) or 'nothing'}")])


def form_of(schema: Mapping[str, Any] | None) -> Form:
    """The form for an answer of this schema; None: nothing is known of it."""
    if schema is None:
        return _as_json({})
    defs = cast("Mapping[str, Any]", schema.get("$defs", {}))
    whole = _resolved(schema, defs)
    if "anyOf" in whole:
        return _of_several([_resolved(each, defs) for each in whole["anyOf"]], defs) or _as_json(schema)
    fields = _flat_fields(whole, defs)
    if fields is None:
        return _as_json(schema)
    required = list(whole.get("required", ()))
    return Form({"type": "object", "properties": fields, "required": required})


def _of_several(kinds: list[Mapping[str, Any]], defs: Mapping[str, Any]) -> Form | None:
    names: dict[str, tuple[str, ...]] = {}
    properties: dict[str, Any] = {}
    for kind in kinds:
        if kind.get("type") == "null":
            names["null"] = ()
            continue
        name, fields = kind.get("title"), _flat_fields(kind, defs)
        if not isinstance(name, str) or fields is None or name in names:
            return None
        names[name] = tuple(fields)
        properties |= {f"{name}.{field}": {**shown, "title": f"{name}: {field}"} for field, shown in fields.items()}
    choice = {"type": "string", "enum": list(names)}
    return Form({"type": "object", "properties": {ANSWER: choice, **properties}, "required": [ANSWER]}, names)


def _flat_fields(schema: Mapping[str, Any], defs: Mapping[str, Any]) -> dict[str, Any] | None:
    """The fields of an object, as a form has them; None if it is none, or a field isn't flat."""
    if schema.get("type") != "object":
        return None
    fields: dict[str, Any] = {}
    for name, field in schema.get("properties", {}).items():
        resolved = _optional(_resolved(field, defs), defs)
        choices: Any = resolved.get("enum", ())
        if resolved.get("type") not in _FLAT or not all(isinstance(choice, str) for choice in choices):
            return None
        kept = {key: value for key, value in resolved.items() if key in _KEPT and value is not None}
        fields[name] = kept if kept.get("format") in (None, "email", "uri", "date", "date-time") else _without(kept, "format")
    return fields


def _optional(schema: Mapping[str, Any], defs: Mapping[str, Any]) -> Mapping[str, Any]:
    """The type of a field that may be None: a field of a form may be left out."""
    some: list[Any] = [each for each in schema.get("anyOf", ()) if each.get("type") != "null"]
    return {**_without(schema, "anyOf"), **_resolved(some[0], defs)} if len(some) == 1 else schema


def _resolved(schema: Mapping[str, Any], defs: Mapping[str, Any]) -> Mapping[str, Any]:
    reference = schema.get("$ref", "")
    return defs.get(reference.removeprefix("#/$defs/"), {}) if reference else schema


def _without(schema: Mapping[str, Any], name: str) -> dict[str, Any]:
    return {key: value for key, value in schema.items() if key != name}


def _as_json(schema: Mapping[str, Any]) -> Form:
    what = f"JSON of this schema: {json.dumps(schema)}" if schema else "JSON"
    field = {"type": "string", "title": "The answer, as JSON", "description": what}
    return Form({"type": "object", "properties": {ANSWER: field}, "required": [ANSWER]}, is_json=True)
