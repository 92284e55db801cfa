"""Amazon's binary event stream out of bytes, without doing any input or output itself.

A message is a prelude (its length, its headers' length, their checksum), headers, a payload and a checksum over all of it, every
number in network order. Source: AWS, "Amazon Transcribe: Event stream encoding" and smithy.io, "Event stream specification".
"""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Mapping
from typing import cast, final

from runtime.lm.http.sse_reader import MAX_EVENT_BYTES, EventTooLarge, ServerEvent

CONTENT_TYPE = "application/vnd.amazon.eventstream"

_PRELUDE = struct.Struct("!III")
_CHECKSUM_BYTES = 4
_STRING_TYPE = 7
_SIZES: Mapping[int, int] = {0: 0, 1: 0, 2: 1, 3: 2, 4: 4, 5: 8, 8: 8, 9: 16}
"""Bytes of a header's value by its type; the types that are missing say their length first."""
_STATUSES: Mapping[str, int] = {
    "internalServerException": 500,
    "modelStreamErrorException": 502,
    "modelTimeoutException": 408,
    "serviceUnavailableException": 503,
    "throttlingException": 429,
    "validationException": 400,
}
"""The HTTP status that an exception within a stream would have had before it. Source: AWS, "ConverseStream", errors."""


class NotAnEvent(ValueError):
    """The bytes aren't a message, or have been damaged on their way."""


@final
class BinaryEventReader:
    """Takes bytes as they come and gives the messages that are whole, an exception as an error in OpenAI's form."""

    def __init__(self, max_event_bytes: int = MAX_EVENT_BYTES) -> None:
        self._max_event_bytes = max_event_bytes
        self._rest = bytearray()

    def feed(self, chunk: bytes) -> list[ServerEvent]:
        """The messages that `chunk` completes.

        Raises:
            EventTooLarge: a message has more bytes than the limit.
            NotAnEvent: the bytes aren't a message.
        """
        self._rest += chunk
        events: list[ServerEvent] = []
        while len(self._rest) >= _PRELUDE.size:
            total, headers_bytes, checksum = _PRELUDE.unpack_from(self._rest)
            if zlib.crc32(self._rest[: _PRELUDE.size - _CHECKSUM_BYTES]) != checksum:
                raise NotAnEvent("the checksum of a prelude is wrong")
            if total > self._max_event_bytes:
                raise EventTooLarge(f"an event has more than {self._max_event_bytes} bytes")
            if total < _PRELUDE.size + headers_bytes + _CHECKSUM_BYTES:
                raise NotAnEvent("a message is shorter than its parts")
            if len(self._rest) < total:
                break
            message = bytes(self._rest[:total])
            del self._rest[:total]
            events.append(_event(message, headers_bytes))
        return events

    def close(self) -> list[ServerEvent]:
        """Nothing: the end of the stream completes no message. The reader waiting for the last message notices a cut."""
        return []


def _event(message: bytes, headers_bytes: int) -> ServerEvent:
    body, (checksum,) = message[:-_CHECKSUM_BYTES], struct.unpack("!I", message[-_CHECKSUM_BYTES:])
    if zlib.crc32(body) != checksum:
        raise NotAnEvent("the checksum of a message is wrong")
    start = _PRELUDE.size
    headers = _headers(body[start : start + headers_bytes])
    payload = body[start + headers_bytes :].decode("utf-8", "replace")
    if headers.get(":message-type", "event") == "event":
        return ServerEvent(payload, headers.get(":event-type", ""))
    kind = headers.get(":exception-type") or headers.get(":error-code") or "error"
    said = {"message": _message(payload) or headers.get(":error-message", kind), "type": kind, "code": _STATUSES.get(kind, 502)}
    return ServerEvent(json.dumps({"error": said}), kind)


def _message(payload: str) -> str:
    """The text of an exception's payload."""
    try:
        parsed: object = json.loads(payload)
    except (ValueError, RecursionError):
        return payload
    fields: Mapping[str, object] = cast("Mapping[str, object]", parsed) if isinstance(parsed, dict) else {}
    return str(fields.get("message") or fields.get("Message") or payload)


def _headers(raw: bytes) -> dict[str, str]:
    """The headers that are texts; the others are passed over."""
    found: dict[str, str] = {}
    try:
        while raw:
            name_bytes = raw[0]
            name, kind, raw = raw[1 : 1 + name_bytes].decode(), raw[1 + name_bytes], raw[2 + name_bytes :]
            size = _SIZES.get(kind)
            if size is None:
                (size,), raw = struct.unpack_from("!H", raw), raw[2:]
            if kind == _STRING_TYPE:
                found[name] = raw[:size].decode()
            raw = raw[size:]
    except (IndexError, struct.error, UnicodeDecodeError) as error:
        raise NotAnEvent("the headers of a message cannot be read") from error
    return found
