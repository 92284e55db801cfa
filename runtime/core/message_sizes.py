"""How much memory a message takes, and what is kept in place of one that takes too much."""

from __future__ import annotations

import sys
import types
from collections import deque
from collections.abc import Iterator
from typing import Any, cast, final

import attrs

MAX_LOOKS = 2000
"""Objects that are looked at before a message counts as large: looking must not take longer than handling."""
TEXT_LENGTH = 200
_SHORT = 40

_PLAIN = (str, bytes, bytearray, int, float, complex, bool, type(None))
_CONTAINERS: tuple[Any, ...] = (dict, list, tuple, set, frozenset, deque)
_OPAQUE = (type, types.ModuleType, types.FunctionType, types.MethodType, types.CodeType, types.FrameType)
"""What leads out of the message, into the program."""
_OURS = frozenset({"actors", "runtime", "trio", "outcome"})
"""Packages whose objects lead into the running system: a ref, an event, a scope. The message does not own what is behind them."""


@final
@attrs.frozen
class MessageSummary:
    """What a dead letter keeps in place of a large message (see ``DeadLetterPolicy.large_bytes``)."""

    kind: str
    """The name of the message's class."""
    size_bytes: int
    """How much memory was found when looking stopped: at least that, and more than the policy allows."""
    text: str
    """The beginning of its fields, at most 200 characters."""


def size_of(value: object, enough: float) -> int:
    """About how many bytes `value` and what belongs to it take. Looking stops once it is more than `enough`.

    A value of more than ``MAX_LOOKS`` objects counts as more than `enough`. Calls nothing that an author has written but
    ``__sizeof__``, and survives what that raises.
    """
    if type(value) in _PLAIN:
        return sys.getsizeof(value)
    total, looks = 0, 0
    seen: set[int] = set()
    waiting: list[object] = [value]
    while waiting and total <= enough:
        item = waiting.pop()
        if id(item) in seen:
            continue
        seen.add(id(item))
        looks += 1
        if looks > MAX_LOOKS:
            return max(total, int(enough) + 1)
        total += _own_size(item)
        if type(item) not in _PLAIN and total <= enough:
            waiting.extend(_parts_of(item))
    return total


def _own_size(item: object) -> int:
    try:
        size = sys.getsizeof(item)
    except Exception:  # noqa: BLE001 - an author's __sizeof__
        size = 0
    if _is(item, _PLAIN):
        return size
    try:  # arrays and tensors, whose memory is elsewhere
        held = cast("Any", item).nbytes
    except Exception:  # noqa: BLE001 - an author's __getattr__
        return size
    return max(size, held) if isinstance(held, int) else size


def _parts_of(item: object) -> Iterator[object]:
    held: Any = item  # untyped: it is read as the builtin does, not as its author's __iter__
    for container in _CONTAINERS:
        if _is(item, container):
            yield from container.__iter__(held)
            break
    if _is(item, dict):
        yield from _CONTAINERS[0].values(held)
    if not _is(item, _PLAIN) and not _is(item, _OPAQUE) and str(_kind_of(item).__module__).partition(".")[0] not in _OURS:
        yield from (value for _, value in fields_of(item))


def _kind_of(item: object) -> type:
    return type(item)


def _is(item: object, kinds: type | tuple[type, ...]) -> bool:
    """``isinstance``, which would ask the author's ``__class__`` too."""
    return issubclass(_kind_of(item), kinds)


def fields_of(item: object) -> Iterator[tuple[str, object]]:
    """The attributes that are stored in `item`, in its ``__dict__`` and in slots, without calling any code of its class."""
    try:
        stored = object.__getattribute__(item, "__dict__")
    except AttributeError:
        stored = None
    if isinstance(stored, dict):
        yield from tuple(cast("dict[str, object]", stored).items())
    for kind in type(item).__mro__:
        for slot, member in tuple(kind.__dict__.items()):
            if isinstance(member, types.MemberDescriptorType) and not slot.startswith("__"):
                try:
                    yield slot, member.__get__(item)
                except AttributeError:
                    continue


def summary_of(message: object, size_bytes: int) -> MessageSummary:
    """What is kept in place of `message`."""
    kind = type(message).__name__
    if type(message) in _PLAIN:
        text = _short(message)
    else:
        parts: list[str] = []
        for name, value in fields_of(message):
            parts.append(f"{name}={_short(value)}")
            if sum(map(len, parts)) > TEXT_LENGTH:
                break
        text = f"{kind}({', '.join(parts)})" if parts else _short(message)
    return MessageSummary(kind, size_bytes, text[: TEXT_LENGTH - 1] + "…" if len(text) > TEXT_LENGTH else text)


def _short(value: object) -> str:
    """The beginning of a plain value, and of any other its kind alone: its author's ``__repr__`` is not called."""
    if type(value) in (bool, float, complex, type(None)) or (type(value) is int and value.bit_length() < 100):
        return repr(value)
    if type(value) in (str, bytes, bytearray):
        text = cast("str | bytes | bytearray", value)
        return repr(text) if len(text) <= _SHORT else f"{text[:_SHORT]!r}… ({len(text):,} in all)"
    return f"<{type(value).__name__}>"
