"""Messages of Amazon's binary event stream, to and from bytes, without doing any input or output.

A message is a prelude (its length, its headers' length, their checksum), headers, a payload and a checksum over all of it, every
number in network order. Source: AWS, "Amazon Transcribe: Event stream encoding" and smithy.io, "Event stream specification".
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Mapping
from typing import final

import attrs

from runtime.lm.http.sse_reader import EventTooLarge

CONTENT_TYPE = "application/vnd.amazon.eventstream"
TEXT = 7
"""The type of a header whose value is a text."""

_PRELUDE = struct.Struct("!III")
_CHECKSUM_BYTES = 4
_SIZES: Mapping[int, int] = {0: 0, 1: 0, 2: 1, 3: 2, 4: 4, 5: 8, 8: 8, 9: 16}
"""Bytes of a header's value by its type; the types that are missing say their length first."""


class NotAnEvent(ValueError):
    """The bytes aren't a message, or have been damaged on their way."""


@final
@attrs.frozen
class BinaryMessage:
    """One message: its headers, each with its type and its value's bytes, and its payload."""

    headers: tuple[tuple[str, int, bytes], ...]
    payload: bytes = attrs.field(repr=False)

    def texts(self) -> dict[str, str]:
        """The headers that are texts.

        Raises:
            NotAnEvent: one of them isn't UTF-8.
        """
        try:
            return {name: value.decode() for name, kind, value in self.headers if kind == TEXT}
        except UnicodeDecodeError as error:
            raise NotAnEvent("the headers of a message cannot be read") from error

    def to_bytes(self) -> bytes:
        """The message as it goes over the wire, with its checksums."""
        headers = b"".join(
            bytes([len(name.encode())])
            + name.encode()
            + bytes([kind])
            + (b"" if kind in _SIZES else struct.pack("!H", len(value)))
            + value
            for name, kind, value in self.headers
        )
        prelude = struct.pack("!II", _PRELUDE.size + len(headers) + len(self.payload) + _CHECKSUM_BYTES, len(headers))
        body = prelude + struct.pack("!I", zlib.crc32(prelude)) + headers + self.payload
        return body + struct.pack("!I", zlib.crc32(body))


def take_message(buffer: bytearray, max_bytes: int) -> BinaryMessage | None:
    """Take the first message out of `buffer`; None as long as it isn't whole.

    Raises:
        EventTooLarge: it has more bytes than the limit.
        NotAnEvent: the bytes aren't a message.
    """
    if len(buffer) < _PRELUDE.size:
        return None
    total, headers_bytes, checksum = _PRELUDE.unpack_from(buffer)
    if zlib.crc32(buffer[: _PRELUDE.size - _CHECKSUM_BYTES]) != checksum:
        raise NotAnEvent("the checksum of a prelude is wrong")
    if total > max_bytes:
        raise EventTooLarge(f"an event has more than {max_bytes} bytes")
    if total < _PRELUDE.size + headers_bytes + _CHECKSUM_BYTES:
        raise NotAnEvent("a message is shorter than its parts")
    if len(buffer) < total:
        return None
    message = bytes(buffer[:total])
    del buffer[:total]
    body, (checksum,) = message[:-_CHECKSUM_BYTES], struct.unpack("!I", message[-_CHECKSUM_BYTES:])
    if zlib.crc32(body) != checksum:
        raise NotAnEvent("the checksum of a message is wrong")
    start = _PRELUDE.size
    return BinaryMessage(_headers(body[start : start + headers_bytes]), body[start + headers_bytes :])


def _headers(raw: bytes) -> tuple[tuple[str, int, bytes], ...]:
    found: list[tuple[str, int, bytes]] = []
    try:
        while raw:
            name_bytes = raw[0]
            name, kind, raw = raw[1 : 1 + name_bytes].decode(), raw[1 + name_bytes], raw[2 + name_bytes :]
            size = _SIZES.get(kind)
            if size is None:
                (size,), raw = struct.unpack_from("!H", raw), raw[2:]
            found.append((name, kind, raw[:size]))
            raw = raw[size:]
    except (IndexError, struct.error, UnicodeDecodeError) as error:
        raise NotAnEvent("the headers of a message cannot be read") from error
    return tuple(found)


def messages_of(data: bytes) -> tuple[list[BinaryMessage], bytes]:
    """The messages that `data` begins with, which have the very same bytes again, and what comes after them."""
    rest, at = bytearray(data), 0
    messages: list[BinaryMessage] = []
    while True:
        try:
            message = take_message(rest, len(data))
        except (NotAnEvent, EventTooLarge):
            message = None
        made = b"" if message is None else message.to_bytes()
        if message is None or data[at : len(data) - len(rest)] != made:
            return messages, data[at:]
        messages.append(message)
        at += len(made)
