"""A tool as a provider is told of it, and the arguments that a model gives it, read strictly. Pure."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any, cast, final

import attrs

from actors.errors import DeclarationError
from actors.graphs.toolboxes import OfferedTool
from actors.graphs.tools import ToolSpec
from actors.lm import ToolCall
from actors.words import cut
from runtime.messages import schemas
from runtime.messages.fields import fields_of
from runtime.messages.json_text import parse
from runtime.messages.problems import MessageInvalid, lines_of
from runtime.messages.reader import read

MAX_DESCRIPTION = 4_000
"""Characters of a tool's description that a model is shown."""
MAX_RESULT = 50_000
"""Characters of one result that a model is shown; it is told how many more there were."""


class WrongArguments(Exception):
    """What a model gave a tool does not fit; the text is for the model."""


@final
@attrs.frozen
class ToolSchema:
    """A tool as a model sees it."""

    name: str
    description: str
    parameters: Mapping[str, Any]
    """The JSON schema of its arguments, an object's."""

    def as_openai(self) -> dict[str, Any]:
        """The form in which ``lm.chat(tools=…)`` takes it."""
        described = {"description": self.description[:MAX_DESCRIPTION]} if self.description else {}
        return {"type": "function", "function": {"name": self.name, **described, "parameters": dict(self.parameters)}}


def schema_of(tool: ToolSpec | OfferedTool) -> ToolSchema:
    """What a model is shown of `tool`.

    Raises:
        DeclarationError: a parameter has a type that has no JSON.
    """
    if isinstance(tool, OfferedTool):
        return ToolSchema(tool.name, tool.description, tool.schema)
    if tool.arguments is None:
        return ToolSchema(tool.name, tool.description, tool.schema or {"type": "object", "properties": {}})
    return ToolSchema(tool.name, tool.description, _parameters(tool.arguments))


def _parameters(kind: type) -> dict[str, Any]:
    whole = schemas.schema_of(kind)
    reference = whole.get("$ref")
    if isinstance(reference, str):
        definitions = cast("dict[str, Any]", whole.get("$defs", {}))
        name = reference.rpartition("/")[2]
        others = {key: value for key, value in definitions.items() if key != name or _mentions(definitions, reference)}
        whole = {**definitions[name], **({"$defs": others} if others else {})}
    return {key: value for key, value in whole.items() if key not in ("title", "$schema")}


def _mentions(definitions: Mapping[str, Any], reference: str) -> bool:
    return f'"{reference}"' in json.dumps(definitions)


def read_arguments(tool: ToolSpec | OfferedTool, call: ToolCall) -> Any:
    """What `call` gives `tool`: a message of its class of arguments, or a mapping where only a schema is known.

    Raises:
        WrongArguments: it does not fit.
    """
    try:
        given = parse(call.arguments or "{}")
        if isinstance(tool, ToolSpec) and tool.arguments is not None:
            return read(tool.arguments, given)
    except MessageInvalid as error:
        lines = "\n".join(f"- {line}" for line in lines_of(error.problems)) or f"- {error}"
        raise WrongArguments(
            f"The arguments of {call.name} do not fit:\n{lines}\nCall it again with arguments of this schema: "
            f"{json.dumps(schema_of(tool).parameters, ensure_ascii=False)}"
        ) from error
    except DeclarationError as error:
        raise WrongArguments(f"The arguments of {call.name} cannot be read: {error}") from error
    if not isinstance(given, dict):
        raise WrongArguments(f"The arguments of {call.name} must be one JSON object, and are: {cut(call.arguments, 200)}")
    found = cast("dict[str, Any]", given)
    schema = schema_of(tool).parameters
    missing = [name for name in cast("list[str]", schema.get("required") or []) if name not in found]
    if missing:
        raise WrongArguments(
            f"The arguments of {call.name} lack {', '.join(missing)}. Call it again with arguments of this schema: "
            f"{json.dumps(schema, ensure_ascii=False)}"
        )
    return found


def by_name(arguments: Any) -> dict[str, Any]:
    """A function's parameters out of the message that :func:`read_arguments` made for it."""
    return {field.name: getattr(arguments, field.attribute) for field in fields_of(cast("object", arguments).__class__)}


def digest_of(arguments: Any) -> str:
    """Sixteen characters that tell these arguments from others."""
    text = json.dumps(schemas.dump(arguments), sort_keys=True, default=str)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]


def result_text(value: object) -> str:
    """What a tool gave, as the model reads it: a text as it is, anything else as JSON."""
    text = value if isinstance(value, str) else json.dumps(schemas.dump(value), ensure_ascii=False, default=str)
    left = len(text) - MAX_RESULT
    return f"{text[:MAX_RESULT]}… ({left} more characters)" if left > 0 else text
