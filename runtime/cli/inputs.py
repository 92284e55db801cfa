"""From the text of ``--input`` to a message of the graph's input type, really validated."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TextIO, cast

from actors.words import with_article
from runtime.cli.wrong_usage import WrongUsage
from runtime.messages.fields import fields_of
from runtime.messages.json_text import parse
from runtime.messages.problems import MessageInvalid, lines_of
from runtime.messages.reader import read

MAX_BYTES = 256 * 1024 * 1024
"""How long an input may be: it is the user's own, so far longer than what a stranger may send."""


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
        value = parse(text, max_bytes=MAX_BYTES)
    except MessageInvalid as error:
        told = "; ".join(lines_of(error.problems))
        if not isinstance(error.__cause__, json.JSONDecodeError):
            raise WrongUsage(f"--input is not JSON that can be read: {told}") from error
        fix = """write it in single quotes, such as --input '{"text": "…"}', or name a file: --input @FILE"""
        raise WrongUsage(f"--input is not JSON: {told}. Fix: {fix}") from error
    if not isinstance(value, dict):
        kinds = {"list": "a list", "str": "a string", "bool": "a truth value", "NoneType": "null"}
        got = kinds.get(type(value).__name__, "a number")
        raise WrongUsage(f"--input is {got}: expected a JSON object with the fields of the graph's input")
    return cast("dict[str, Any]", value)


def build_input(types: Sequence[type], values: Mapping[str, Any], chosen: str | None = None) -> Any:
    """A message of one of `types`, read strictly from `values`; `chosen` is the name of the type when they alone do not say.

    Raises:
        WrongUsage: they fit no type, more than one, or not the chosen one.
    """
    candidates = [kind for kind in types if chosen in (None, kind.__name__)]
    if not candidates:
        raise WrongUsage(f"--input-type {chosen}: the graph takes {_listed(types)}")
    made: dict[str, Any] = {}
    wrong: list[tuple[type, MessageInvalid]] = []
    for kind in candidates:
        try:
            made[kind.__name__] = read(kind, values)
        except MessageInvalid as error:
            wrong.append((kind, error))
    if len(made) == 1:
        return next(iter(made.values()))
    if made:
        raise WrongUsage(f"--input fits {' and '.join(made)}: choose one with --input-type {next(iter(made))}")
    meant = [each for each in wrong if _has_the_fields_of(each[0], values)] if len(wrong) > 1 else wrong
    if len(meant) == 1:
        kind, rejected = meant[0]
        raise WrongUsage(
            f"--input does not make {with_article(kind.__name__)}: {'; '.join(lines_of(rejected.problems))}"
        ) from rejected
    why = "; ".join(f"{kind.__name__}: {rejected.problems[0]}" for kind, rejected in meant)
    why = why or f"it has {', '.join(values) or 'no field'}"
    raise WrongUsage(f"--input fits none of the graph's input types: {_listed(types)}; {why}")


def _has_the_fields_of(kind: type, values: Mapping[str, Any]) -> bool:
    taken = [field for field in fields_of(kind) if field.init]
    return {field.name for field in taken if field.required} <= values.keys() <= {field.name for field in taken}


def _listed(types: Sequence[type]) -> str:
    return ", ".join(f"{kind.__name__} ({_fields_text(kind)})" for kind in types)


def _fields_text(kind: type) -> str:
    return ", ".join(field.name for field in fields_of(kind) if field.init) or "none"
