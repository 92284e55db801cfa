"""From the text of ``--input`` to a message of the graph's input type, really validated."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TextIO, cast

from actors.errors import LMReplyUnreadable
from actors.words import with_article
from runtime.cli.wrong_usage import WrongUsage
from runtime.messages import schemas
from runtime.messages.fields import MessageField, fields_of


def read_input(text: str, stdin: TextIO | None = None) -> str:
    """The JSON that `text` is or names: ``@FILE``, or ``-`` for standard input.

    Raises:
        WrongUsage: the file cannot be read.
    """
    try:
        if text == "-":
            return (stdin or sys.stdin).read()
        if text.startswith("@"):
            return Path(text[1:]).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it isn't UTF-8 text"
        raise WrongUsage(f"--input {text}: cannot be read: {reason}") from error
    return text


def parse_object(text: str) -> Mapping[str, Any]:
    """The JSON object that `text` is.

    Raises:
        WrongUsage: it isn't JSON, or JSON of another kind.
    """
    try:
        value = json.loads(text)
    except ValueError as error:
        mend = """write it in single quotes, such as --input '{"text": "…"}', or name a file: --input @FILE"""
        raise WrongUsage(f"--input is not JSON: {error}. Fix: {mend}") from error
    except RecursionError as error:
        raise WrongUsage("--input is not JSON that can be read: it is nested too deeply") from error
    if not isinstance(value, dict):
        kinds = {"list": "a list", "str": "a string", "bool": "a truth value", "NoneType": "null"}
        got = kinds.get(type(value).__name__, "a number")
        raise WrongUsage(f"--input is {got}: expected a JSON object with the fields of the graph's input")
    return cast("dict[str, Any]", value)


def build_input(types: Sequence[type], values: Mapping[str, Any], chosen: str | None = None) -> Any:
    """A message of one of `types`, made of `values` by field name; `chosen` is the name of the type when they alone do not say.

    Raises:
        WrongUsage: they fit no type, more than one, or not the chosen one.
    """
    candidates = _candidates(types, values, chosen)
    if len(candidates) == 1:
        return _build(candidates[0], values)
    made: dict[str, Any] = {}
    for kind in candidates:
        try:
            made[kind.__name__] = _build(kind, values)
        except WrongUsage:
            continue
    if len(made) == 1:
        return next(iter(made.values()))
    if made:
        raise WrongUsage(f"--input fits {' and '.join(made)}: choose one with --input-type {next(iter(made))}")
    raise WrongUsage(f"--input fits none of the graph's input types: {_listed(types)}")


def _candidates(types: Sequence[type], values: Mapping[str, Any], chosen: str | None) -> list[type]:
    if chosen is not None:
        named = [kind for kind in types if kind.__name__ == chosen]
        if not named:
            raise WrongUsage(f"--input-type {chosen}: the graph takes {_listed(types)}")
        return named
    if len(types) == 1:
        return list(types)
    fitting = [kind for kind in types if _required(kind) <= values.keys() <= _names(kind)]
    if not fitting:
        given = ", ".join(values) or "no field"
        raise WrongUsage(f"--input fits none of the graph's input types: {_listed(types)}; it has {given}")
    return fitting


def _build(kind: type, values: Mapping[str, Any]) -> Any:
    unknown = [name for name in values if name not in _names(kind)]
    if unknown:
        raise WrongUsage(f"--input has {_quoted(unknown)}, which {kind.__name__} does not; its fields: {_fields_text(kind)}")
    try:
        return schemas.build(kind, values)
    except LMReplyUnreadable as error:
        # Its first line and its fix are about a model's answer; the lines between name each field that does not fit.
        problems = "; ".join(line.strip() for line in str(error).splitlines()[1:-1])
        raise WrongUsage(f"--input does not make {with_article(kind.__name__)}: {problems}") from error


def _taken(kind: type) -> list[MessageField]:
    return [field for field in fields_of(kind) if field.init]


def _names(kind: type) -> set[str]:
    return {name for field in _taken(kind) for name in (field.name, field.attribute)}


def _required(kind: type) -> set[str]:
    return {field.name for field in _taken(kind) if field.required}


def _fields_text(kind: type) -> str:
    return ", ".join(field.name for field in _taken(kind)) or "none"


def _listed(types: Sequence[type]) -> str:
    return ", ".join(f"{kind.__name__} ({_fields_text(kind)})" for kind in types)


def _quoted(names: Sequence[str]) -> str:
    return ", ".join(repr(name) for name in names)
