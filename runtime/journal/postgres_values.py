"""PostgreSQL's binary form of values: what goes into a statement's parameters, and what comes out of its rows.

Binary, because text would double the size of every payload and need quoting, and quoting is where injections are made.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final, final

from actors.errors import InternalError

_TEXT, _BYTES, _SHORT, _INT, _LONG, _FLOAT = 25, 17, 21, 23, 20, 701  # the object ids of PostgreSQL's types
_ODD: Final = re.compile("[\x00\x1a\ud800-\udfff]")
_EPOCH: Final = datetime(2000, 1, 1, tzinfo=UTC)
_SIZE: Final = struct.Struct("!i")


@final
class Packed(bytes):
    """A parameter in binary form."""

    __slots__ = ()


Value = str | int | float | bytes | datetime | Packed | None


def parameter(value: Value) -> tuple[bytes | None, int]:
    """`value` as the server takes it, and 1 if that is its binary form. Statements cast it: ``$1::timestamptz``."""
    match value:
        case None:
            return None, 0
        case bytes():
            return value, 1
        case str():
            return text(value), 0
        case bool():
            return b"t" if value else b"f", 0
        case datetime():
            return value.astimezone(UTC).isoformat().encode(), 0
        case _:
            return repr(value).encode(), 0


def text(value: str) -> bytes:
    """`value` for a column of text, which can hold neither NUL nor a lone surrogate: these are written as SUB and four digits."""
    return (_ODD.sub(lambda odd: f"\x1a{ord(odd[0]):04x}", value) if _ODD.search(value) else value).encode()


def read_text(stored: bytes) -> str:
    """The text that :func:`text` has stored."""
    value = stored.decode()
    return re.sub("\x1a(....)", lambda odd: chr(int(odd[1], 16)), value) if "\x1a" in value else value


def texts(values: Iterable[str]) -> Packed:
    """A ``text[]``."""
    return _array(_TEXT, [text(each) for each in values])


def blobs(values: Iterable[bytes | None]) -> Packed:
    """A ``bytea[]``."""
    return _array(_BYTES, list(values))


def shorts(values: Sequence[int]) -> Packed:
    """An ``int2[]``."""
    return _array(_SHORT, [each.to_bytes(2, signed=True) for each in values])


def ints(values: Sequence[int]) -> Packed:
    """An ``int4[]``."""
    return _array(_INT, [each.to_bytes(4, signed=True) for each in values])


def longs(values: Sequence[int]) -> Packed:
    """An ``int8[]``."""
    return _array(_LONG, [each.to_bytes(8, signed=True) for each in values])


def floats(values: Sequence[float]) -> Packed:
    """A ``float8[]``."""
    return _array(_FLOAT, [struct.pack("!d", each) for each in values])


def _array(element: int, items: Sequence[bytes | None]) -> Packed:
    if not items:
        return Packed(struct.pack("!iii", 0, 0, element))
    parts = [struct.pack("!iiiii", 1, None in items, element, len(items), 1)]
    for item in items:
        parts.append(b"\xff\xff\xff\xff" if item is None else _SIZE.pack(len(item)))
        if item:
            parts.append(item)
    return Packed(b"".join(parts))


def _whole(stored: bytes) -> int:
    return int.from_bytes(stored, signed=True)


def _instant(stored: bytes) -> datetime:
    return _EPOCH + timedelta(microseconds=_whole(stored))


def _read_texts(stored: bytes) -> tuple[str, ...]:
    dimensions, _, _ = struct.unpack_from("!iii", stored)
    if not dimensions:
        return ()
    (count,) = _SIZE.unpack_from(stored, 12)
    items: list[str] = []
    at = 20
    for _ in range(count):
        (size,) = _SIZE.unpack_from(stored, at)
        items.append(read_text(stored[at + 4 : at + 4 + size]))
        at += 4 + size
    return tuple(items)


_READERS: Final[Mapping[int, Callable[[bytes], Any]]] = {
    16: lambda stored: stored == b"\x01",  # bool
    _BYTES: bytes,
    18: read_text,  # "char"
    19: read_text,  # name
    _LONG: _whole,
    _SHORT: _whole,
    _INT: _whole,
    _TEXT: read_text,
    _FLOAT: lambda stored: struct.unpack("!d", stored)[0],
    1009: _read_texts,  # text[]
    1184: _instant,  # timestamptz
    2278: lambda _: None,  # void
    5069: _whole,  # xid8
}


def reader(type_id: int) -> Callable[[bytes], Any]:
    """What reads a column of that type from its binary form."""
    found = _READERS.get(type_id)
    if found is None:
        raise InternalError(f"no column of a store has the type {type_id} of PostgreSQL")
    return found
