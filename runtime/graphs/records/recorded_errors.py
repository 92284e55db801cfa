"""Errors as records have them: of which class, in which words; and made again, for what decides by the class of an error. Pure.

An error is made again as ``pickle`` would: of its class and what that was called with, if these are plain values. Nothing is
imported for that: a class that is not loaded, or that makes something else of it, gives a :class:`RecordedError` in words.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from types import ModuleType
from typing import Any, Final, cast, final

from actors.errors import UnderstudyError
from actors.words import add_note, said

MOST_SAID: Final = 1_000
"""Characters of an error that a record keeps."""
_MOST_ARGUMENTS: Final = 16
_MOST_CHARACTERS: Final = 4_000
"""Of one argument: errors of ours have one, their message."""
_MOST_CAUSES: Final = 3
_NOTE: Final = "It was raised in an earlier life of the run; its traceback ended with that process."


@final
class RecordedError(UnderstudyError):
    """An error of an earlier life of a run, in words: its class cannot be had here, or not with what is recorded."""


def told_of_error(error: BaseException, causes: int = _MOST_CAUSES) -> dict[str, Any]:
    """`error` for a record, with as many of its `causes`."""
    told: dict[str, Any] = {"error": said(error, MOST_SAID)}
    kind: type[BaseException] = type(error)
    arguments = _plain(error.args)
    if arguments is not None and issubclass(kind, Exception) and not issubclass(kind, ExceptionGroup):
        made: dict[str, object] = {"class": f"{kind.__module__}:{kind.__qualname__}", "of": arguments}
        if isinstance(error, UnderstudyError):  # of others, attributes may hold anything
            made["with"] = {name: value for name, value in vars(error).items() if _is_plain(value)}
        told["made"] = made
    if error.__cause__ is not None and causes:
        told["cause"] = told_of_error(error.__cause__, causes - 1)
    return told


def error_of(told: Mapping[str, Any]) -> Exception:
    """The error that a record tells of."""
    words = str(told.get("error", ""))
    made = _made_again(cast("object", told.get("made")), words)
    if made is None:
        made = RecordedError(words)
    else:
        add_note(made, _NOTE)
    if isinstance(told.get("cause"), dict):
        made.__cause__ = error_of(told["cause"])
    return made


def _made_again(told: object, words: str) -> Exception | None:
    if not isinstance(told, dict):
        return None
    parts = cast("dict[str, Any]", told)
    kind = _class_named(str(parts.get("class")))
    if kind is None:
        return None
    try:
        made = kind(*parts.get("of", ()))
        if issubclass(kind, UnderstudyError):
            vars(made).update(parts.get("with", {}))
        is_it = type(made) is kind and said(made, MOST_SAID) == words
    except Exception:  # noqa: BLE001 - a class of its author's, which wants something else than it passed on
        return None
    return made if is_it else None


def _class_named(name: str) -> type[Exception] | None:
    """The class of errors of that name, if its module is loaded. Looks into no module that makes its names when asked."""
    module, _, path = name.partition(":")
    found: object = sys.modules.get(module)
    for part in path.split("."):
        if not isinstance(found, ModuleType | type):
            return None
        names: Mapping[str, object] = vars(found)
        found = names.get(part)
    if not isinstance(found, type) or not issubclass(found, Exception) or issubclass(found, ExceptionGroup):
        return None
    return found


def _plain(arguments: Sequence[object]) -> Sequence[object] | None:
    """`arguments` as JSON has them; None if it cannot have them, or they are long."""
    plain = [value for value in arguments if _is_plain(value)]
    return plain if len(plain) == len(arguments) <= _MOST_ARGUMENTS else None


def _is_plain(value: object) -> bool:
    if type(value) is str:
        return len(value) <= _MOST_CHARACTERS
    if type(value) is float:
        return value - value == 0  # JSON has no infinity
    return value is None or type(value) in (int, bool)
