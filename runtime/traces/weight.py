"""About how much memory an event holds, found in less time than it takes to make one."""

from __future__ import annotations

import sys
from functools import cache
from typing import Any, Final

import attrs

from runtime.core.events import Event
from runtime.core.message_sizes import size_of

EVENT_BYTES: Final = 400
"""What an event weighs beside what it shows."""
_SHOWN: Final = frozenset({"input", "output", "delta", "text", "prompt"})
_ENOUGH: Final = 1 << 20
"""Looking stops there."""
_PLAIN: Final = frozenset({str, bytes, int, float, bool, type(None)})


def weight_of(event: Event) -> int:
    """About how many bytes `event` and the messages in it take."""
    total = EVENT_BYTES
    kind: Any = type(event)
    for name in _shown(kind):
        total += _size(getattr(event, name))
    return total


@cache
def _shown(kind: Any) -> tuple[str, ...]:
    """The fields of a class of events that hold content."""
    return tuple(field.name for field in attrs.fields(kind) if field.name in _SHOWN)


def _size(value: object) -> int:
    """As ``size_of``, without its bookkeeping for what most messages are: a few plain fields."""
    kind: Any = type(value)
    if kind in _PLAIN:
        return 0 if value is None else sys.getsizeof(value)
    names = _plain_class(kind)
    if names is None:
        return size_of(value, _ENOUGH)
    total = 64
    for name in names:
        part: object = object.__getattribute__(value, name)  # as it is stored: nothing of its author's is called
        if type(part) not in _PLAIN:
            return size_of(value, _ENOUGH)
        total += sys.getsizeof(part)
    return total


@cache
def _plain_class(kind: Any) -> tuple[str, ...] | None:
    """The fields of a class of attrs that stores nothing else; None for others."""
    if not attrs.has(kind) or (hasattr(kind, "__dict__") and "__dict__" in dir(kind)):
        return None
    names = tuple(field.name for field in attrs.fields(kind))
    return names if all(type(kind.__dict__.get(name)).__name__ == "member_descriptor" for name in names) else None
