"""Errors as records keep them, so the same can be raised when a run is run again. Pure.

A class is looked up by its name among our own and Python's; a stranger's becomes a ``RecordedError`` of the same name, since no
file decides which code is imported.
"""

from __future__ import annotations

import builtins
import json
from collections.abc import Mapping
from typing import Any, Final, cast

from actors import errors, message_errors, store_errors
from actors.errors import UnderstudyError
from actors.words import cut, kind_of, words_of

_MOST_CHARS: Final = 4_000
"""Of the JSON of what an error was made with."""
_PLACES: Final = (errors, store_errors, message_errors, builtins)


class RecordedError(UnderstudyError):
    """An error of an earlier life of a run, in words: the object itself ended with its process."""


def error_told(error: BaseException) -> dict[str, Any]:
    """`error` as JSON has it: its class, what it was made with, and its attributes, as far as they are plain."""
    arguments = [value for value in error.args if _is_plain(value)]
    if len(arguments) != len(error.args) or len(json.dumps(arguments)) > _MOST_CHARS:
        arguments = [cut(words_of(error), _MOST_CHARS)]
    told: dict[str, Any] = {"kind": kind_of(error), "args": arguments}
    more = {name: value for name, value in vars(error).items() if not name.startswith("_") and _is_plain(value)}
    if more and len(json.dumps(more)) <= _MOST_CHARS:
        told["more"] = more
    return told


def error_of(told: Mapping[str, Any]) -> Exception:
    """The error that :func:`error_told` was given, or the nearest to it."""
    kind, arguments = _class_of(str(told.get("kind", ""))), tuple(told.get("args", ()))
    try:
        error: Exception = kind.__new__(kind, *arguments)  # not __init__, which may want more: the rest are attributes
    except TypeError:
        error = _stranger(kind.__name__)(*arguments)
    vars(error).update(cast("Mapping[str, Any]", told.get("more", {})))
    return error


def _class_of(name: str) -> type[Exception]:
    for place in _PLACES:
        found: object = getattr(place, name, None)
        if isinstance(found, type) and issubclass(found, Exception) and not issubclass(found, ExceptionGroup):
            return found
    return _stranger(name)


def _stranger(name: str) -> type[Exception]:
    return type(name or "Exception", (RecordedError,), {})


def _is_plain(value: object) -> bool:
    return value is None or isinstance(value, str | int | float | bool)
