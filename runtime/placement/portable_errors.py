"""Errors on their way between processes: their class by name, their text, their traceback as text, and whether a retry helps.

A class is never looked up by a name from the other side, except in two fixed tables: the errors of this project, and Python's.
An error of any other class arrives as a ``RemoteError``.
"""

from __future__ import annotations

import builtins
import functools
import json
import traceback
import types
from collections.abc import Iterator, Mapping
from typing import Any, Final, cast, final

from actors import errors, message_errors, placement_errors, store_errors
from actors.errors import RunFailed, UnderstudyError
from actors.placement_errors import RemoteError
from actors.restarts import is_worth_another_attempt
from actors.words import add_note, words_of

MAX_TRACE: Final = 20_000
"""Characters of a traceback that travel: its end, which is where it was raised."""
TICKET: Final = "ticket"
"""The attribute that an error keeps on its way there and back, by which the side that raised it knows it again."""
_MAX_TEXT: Final = 100_000
_MAX_INSIDE: Final = 20
"""Causes, and errors of a group, that travel with an error."""


@final
class Tickets:
    """Knows the error again that this side has raised last, when it comes back from the other side."""

    __slots__ = ("_kept", "_number")

    def __init__(self) -> None:
        self._number = 0
        self._kept: Exception | None = None

    def keep(self, error: Exception) -> None:
        """`error` goes to the other side."""
        self._number += 1
        self._kept = error
        error.__dict__[TICKET] = self._number

    def original(self, error: Exception) -> Exception | None:
        """What this side has raised, if `error` is that."""
        return self._kept if self._kept is not None and getattr(error, TICKET, None) == self._number else None


def failure_data(error: BaseException, depth: int = 5) -> bytes:
    """`error` as bytes."""
    return json.dumps(_told(error, depth)).encode()


def _told(error: BaseException, depth: int) -> dict[str, Any]:
    told: dict[str, Any] = {
        "kind": _name(type(error)),
        "kinds": [_name(kind) for kind in type(error).__mro__[1:] if kind is not object],
        "text": words_of(error)[:_MAX_TEXT],
        "args": [each for each in error.args if _is_plain(each)] if all(map(_is_plain, error.args)) else None,
        "retryable": is_worth_another_attempt(error),
        "trace": "".join(traceback.format_exception(type(error), error, error.__traceback__, chain=False))[-MAX_TRACE:],
        "more": {name: value for name, value in getattr(error, "__dict__", {}).items() if _is_plain(value)},
    }
    if depth and error.__cause__ is not None:
        told["cause"] = _told(error.__cause__, depth - 1)
    if depth and isinstance(error, BaseExceptionGroup):
        group = cast("BaseExceptionGroup[BaseException]", error)
        told["message"] = group.message
        told["inside"] = [_told(each, depth - 1) for each in group.exceptions[:_MAX_INSIDE]]
    return told


def failure_of(data: bytes, where: str) -> Exception:
    """The error that :func:`failure_data` made `data` of, on the host `where`."""
    try:
        told: Any = json.loads(data)
        return _made(told, where)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        return RemoteError(f"{where} reports an error that cannot be read: {error!r}.\n  Fix: run the same release there.")


def _made(told: Mapping[str, Any], where: str) -> Exception:
    made = _group(told, where) or _known(told) or _foreign(told, where)
    add_note(made, f"Raised on {where}:\n{told['trace']}")
    cause = told.get("cause")
    if cause is not None:
        made.__cause__ = _made(cause, where)
    return made


def _group(told: Mapping[str, Any], where: str) -> Exception | None:
    inside = told.get("inside")
    if not inside:
        return None
    leaves = [_made(each, where) for each in inside]
    return (RunFailed if told["kind"] == _name(RunFailed) else ExceptionGroup)(str(told["message"]), leaves)


def _known(told: Mapping[str, Any]) -> Exception | None:
    kind = _known_classes().get(told["kind"])
    if kind is None:
        return None
    arguments: Any = told["args"] if told["args"] is not None else [told["text"]]
    try:
        if issubclass(kind, UnderstudyError):
            made: Exception = kind.__new__(kind, *arguments)
            made.args = tuple(arguments)
            made.__dict__.update(kind(*arguments).__dict__)
            made.__dict__.update(told["more"])
        else:
            made = kind(*arguments)
    except Exception:  # noqa: BLE001 - a class with other arguments than it keeps
        return None
    return made if words_of(made) == told["text"] else None


def _foreign(told: Mapping[str, Any], where: str) -> RemoteError:
    name = str(told["kind"]).rpartition(":")[2]
    made = RemoteError(
        f"{name} was raised on {where}: {told['text']}\n  Fix: see its traceback in `trace`, or in the notes of this error.",
        kind=told["kind"],
        kinds=told["kinds"],
        text=told["text"],
        trace=told["trace"],
        retryable=told["retryable"],
    )
    made.__dict__.update({name: value for name, value in told["more"].items() if name == TICKET})
    return made


@functools.cache
def _known_classes() -> Mapping[str, type[Exception]]:
    ours = (each for module in (errors, message_errors, placement_errors, store_errors) for each in _classes_in(module))
    plain = (each for each in _classes_in(builtins) if not issubclass(each, UnicodeError | SyntaxError))
    return {_name(kind): kind for kind in (*ours, *plain) if not issubclass(kind, BaseExceptionGroup)}


def _classes_in(module: types.ModuleType) -> Iterator[type[Exception]]:
    for each in cast("dict[str, object]", vars(module)).values():
        if isinstance(each, type) and issubclass(each, Exception):
            yield each


def _name(kind: type) -> str:
    return f"{kind.__module__}:{kind.__qualname__}"


def _is_plain(value: object) -> bool:
    if isinstance(value, tuple | list):
        return all(map(_is_plain, cast("list[object]", value)))
    return value is None or type(value) in (bool, int, float, str)
