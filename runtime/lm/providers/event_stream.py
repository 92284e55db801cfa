"""Amazon's binary event stream out of bytes, without doing any input or output itself."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import cast, final

from runtime.lm.http.binary_frames import BinaryMessage, take_message
from runtime.lm.http.sse_reader import MAX_EVENT_BYTES, ServerEvent

_STATUSES: Mapping[str, int] = {
    "internalServerException": 500,
    "modelStreamErrorException": 502,
    "modelTimeoutException": 408,
    "serviceUnavailableException": 503,
    "throttlingException": 429,
    "validationException": 400,
}
"""The HTTP status that an exception within a stream would have had before it. Source: AWS, "ConverseStream", errors."""


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
        while (message := take_message(self._rest, self._max_event_bytes)) is not None:
            events.append(_event(message))
        return events

    def close(self) -> list[ServerEvent]:
        """Nothing: the end of the stream completes no message. The reader waiting for the last message notices a cut."""
        return []


def _event(message: BinaryMessage) -> ServerEvent:
    headers = message.texts()
    payload = message.payload.decode("utf-8", "replace")
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
    return str(fields.get("message") or fields.get("BinaryMessage") or payload)
