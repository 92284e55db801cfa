"""How data that was stored of an earlier form of a message class is read: the class under another name, and other fields.

A name found in data never imports anything: it stands for a class only if that class's own program has said so.
"""

from __future__ import annotations

import copy
import re
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, Final, TypeVar, cast, final
from weakref import WeakKeyDictionary

import attrs

from actors.errors import DeclarationError
from actors.words import repr_of
from runtime.messages.modules import name_of

Fields = dict[str, Any]
Upcast = TypeVar("Upcast", bound=Callable[[Fields], Mapping[str, Any]])

_TAG: Final = re.compile(r"[^\s:]+:[^\s:]+")
_NUMBERS: Final = re.compile(r"(\d+)")


@final
@attrs.frozen
class _Step:
    since: str
    function: Callable[[Fields], Mapping[str, Any]]

    @property
    def order(self) -> list[Any]:
        """Sorts 9 before 10."""
        return [(int(part), "") if part.isdecimal() else (-1, part) for part in _NUMBERS.split(self.since)]


_steps: WeakKeyDictionary[type, list[_Step]] = WeakKeyDictionary()
_names: dict[str, type] = {}
_lock = threading.Lock()


def upcast(kind: type, since: str, *, was: str | Sequence[str] = ()) -> Callable[[Upcast], Upcast]:
    """Tell how stored data is read that is older than the present form of the message class `kind`.

    ::

        @upcast(Draft, since="2")
        def with_a_tone(fields: dict[str, Any]) -> dict[str, Any]:
            return {**fields, "tone": "plain"}

        upcast(Draft, since="3", was="letters.old:Sketch")  # the class was moved or renamed; its fields are the same

    The function gets the fields as they are in the JSON, and returns those that the class takes. It is called for data that is no
    `kind` as it stands; if there are several, the latest is tried alone, then the last two, and so on, each with the result of
    the one before it. A field that was added with a default needs none.

    Args:
        kind: the class as it is now.
        since: from which release on data has the present form, such as ``"2"`` or ``"2026-11"``; orders several of one class.
        was: what the class was called before, as ``"module:Class"``; or several such names.

    Raises:
        DeclarationError: `kind` isn't a class, `since` is empty or taken, or a name is not of that form or another class's.
    """
    names = (was,) if isinstance(was, str) else tuple(was)
    if not isinstance(kind, type):  # pyright: ignore[reportUnnecessaryIsInstance] - what callers do
        raise DeclarationError(f"upcast({repr_of(kind)}): expected a message class.\n  Fix: upcast(Draft, since='2').")
    if not str(since).strip():
        raise DeclarationError(f"upcast({kind.__name__}, since={since!r}): expected a release in words.\n  Fix: since='2', say.")
    for name in names:
        if not _TAG.fullmatch(name):
            raise DeclarationError(
                f"upcast({kind.__name__}, was={name!r}): expected 'module:Class'.\n  Fix: was='letters.old:{kind.__name__}'."
            )
        if _names.get(name, kind) is not kind and _spelling(_names[name]) != _spelling(kind):
            raise DeclarationError(
                f"upcast({kind.__name__}, was={name!r}): that name is read as a {_names[name].__name__} already.\n"
                "  Fix: give each earlier name to one class."
            )
    with _lock:
        _names.update(dict.fromkeys(names, kind))

    def declared(function: Upcast) -> Upcast:
        with _lock:
            known = _steps.setdefault(kind, [])
            if any(step.since == since for step in known):
                raise DeclarationError(
                    f"upcast({kind.__name__}, since={since!r}) is declared twice.\n  Fix: one function for each release."
                )
            _steps[kind] = sorted([*known, _Step(since, function)], key=lambda step: step.order)
        return function

    return declared


def _spelling(kind: type) -> str:
    return name_of(kind)


def called_before(name: str) -> type | None:
    """The class that had this name."""
    return _names.get(name)


def can_be_older(kind: Any) -> bool:
    """Whether data of `kind` may have an earlier form."""
    return bool(_steps) and isinstance(kind, type) and kind in _steps


def older_forms(kind: type, fields: Mapping[str, Any]) -> Iterator[tuple[str, Callable[[], Any]]]:
    """What `fields` of an earlier form are now, by each way there is: its name, and what works it out and may raise anything."""
    steps = _steps.get(kind, [])
    for first in range(len(steps) - 1, -1, -1):
        yield f"since {steps[first].since}", partial(_through, steps[first:], fields)


def _through(steps: Sequence[_Step], fields: Mapping[str, Any]) -> Any:
    now = copy.deepcopy(dict(fields))
    for step in steps:
        made: Any = step.function(now)
        if not isinstance(made, Mapping):
            raise TypeError(f"the upcast since {step.since} returned {repr_of(made, 60)}, and not the fields")
        now = dict(cast("Mapping[str, Any]", made))
    return now
