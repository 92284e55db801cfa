"""About how much memory an event holds, found in less time than it takes to make one."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from sys import getsizeof
from types import MemberDescriptorType
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
        total += weight_of_message(getattr(event, name))
    return total


@cache
def _shown(kind: Any) -> tuple[str, ...]:
    """The fields of a class of events that hold content."""
    return tuple(field.name for field in attrs.fields(kind) if field.name in _SHOWN)


def weight_of_message(value: object) -> int:
    """As ``size_of``, without its bookkeeping for what most messages are: a few plain fields."""
    kind: Any = type(value)
    if kind in _PLAIN:
        return 0 if value is None else getsizeof(value)
    fields = _plain_class(kind)
    if fields is None:
        return size_of(value, _ENOUGH)
    total = 64
    try:
        for field in fields:
            part = field(value)
            if type(part) not in _PLAIN:
                return size_of(value, _ENOUGH)
            total += getsizeof(part)
    except AttributeError:  # one of its fields was never set
        return size_of(value, _ENOUGH)
    return total


@cache
def _plain_class(kind: Any) -> tuple[Callable[[object], object], ...] | None:
    """What reads the fields of a class of attrs that stores nothing else; None for others.

    Each is read as it is stored, from its slot: nothing of its author's is called.
    """
    if not attrs.has(kind) or (hasattr(kind, "__dict__") and "__dict__" in dir(kind)):
        return None
    slots: list[Any] = [kind.__dict__.get(field.name) for field in attrs.fields(kind)]
    if not all(type(slot) is MemberDescriptorType for slot in slots):
        return None
    return tuple(slot.__get__ for slot in slots)
