"""Server-sent events out of bytes, without doing any input or output itself.

Source: WHATWG HTML, "Server-sent events", "Parsing an event stream".
"""

from __future__ import annotations

import re
from typing import final

import attrs

MAX_EVENT_BYTES = 8 * 1024 * 1024

_LINE_END = re.compile(rb"\r\n|\n|\r(?=[^\n])", re.DOTALL)  # a CR at the end may be the first half of CR LF
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"


class EventTooLarge(Exception):
    """An event has more bytes than the reader may hold."""


@final
@attrs.frozen
class ServerEvent:
    """One event."""

    data: str
    """Its data lines, joined by line feeds."""
    name: str = ""
    """Its ``event`` field."""


@final
class _Rest:
    """The bytes after the last whole line. They are joined once, when it ends: a line may come in thousands of small pieces."""

    def __init__(self) -> None:
        self._pieces: list[bytes] = []
        self.size_bytes = 0
        self.may_end_a_line = False
        """Whether there is a CR before the last piece, which only that can show to be a line's end."""

    def add(self, piece: bytes) -> None:
        """Append `piece`."""
        if piece:
            self.may_end_a_line = bool(self._pieces) and self._pieces[-1].endswith(b"\r")
            self._pieces.append(piece)
            self.size_bytes += len(piece)

    def take(self) -> bytes:
        """All of it; nothing is left."""
        whole = b"".join(self._pieces)
        self._pieces, self.size_bytes, self.may_end_a_line = [], 0, False
        return whole


@final
class EventReader:
    """Takes bytes as they come and gives the events that are whole.

    An event ends at an empty line, and the last one also at the end of the stream: some servers leave its empty line out. Text is
    decoded by whole lines, so a character may be cut anywhere; bytes that aren't UTF-8 become U+FFFD.
    """

    def __init__(self, max_event_bytes: int = MAX_EVENT_BYTES) -> None:
        self._max_event_bytes = max_event_bytes
        self._rest = _Rest()
        self._data: list[str] = []
        self._data_bytes = 0
        self._name = ""
        self._is_first = True

    def feed(self, chunk: bytes) -> list[ServerEvent]:
        """The events that `chunk` completes.

        Raises:
            EventTooLarge: an event has grown beyond the limit.
        """
        events: list[ServerEvent] = []
        self._rest.add(chunk)
        if b"\n" in chunk or b"\r" in chunk or self._rest.may_end_a_line:
            *lines, rest = _LINE_END.split(self._rest.take())
            events = [event for line in lines if (event := self._line(line)) is not None]
            self._rest.add(rest)
        if self._rest.size_bytes + self._data_bytes > self._max_event_bytes:
            raise EventTooLarge(f"an event has more than {self._max_event_bytes} bytes")
        return events

    def close(self) -> list[ServerEvent]:
        """The event that the end of the stream completes, if any."""
        line = self._rest.take().removesuffix(b"\r")
        return [event for event in (self._line(line), self._line(b"")) if event is not None]

    def _line(self, line: bytes) -> ServerEvent | None:
        if self._is_first:
            line, self._is_first = line.removeprefix(_BYTE_ORDER_MARK), False
        if not line:
            return self._event()
        name, _, value = line.partition(b":")
        text = value.removeprefix(b" ").decode("utf-8", "replace")
        if name == b"data":
            self._data.append(text)
            self._data_bytes += len(line)
        elif name == b"event":
            self._name = text
        return None

    def _event(self) -> ServerEvent | None:
        event = ServerEvent("\n".join(self._data), self._name) if self._data else None
        self._data, self._data_bytes, self._name = [], 0, ""
        return event


@final
class LineReader:
    """Takes bytes as they come and gives each line that is not empty as an event: the form of Ollama's streams."""

    def __init__(self, max_line_bytes: int = MAX_EVENT_BYTES) -> None:
        self._max_line_bytes = max_line_bytes
        self._rest = _Rest()

    def feed(self, chunk: bytes) -> list[ServerEvent]:
        """The lines that `chunk` completes.

        Raises:
            EventTooLarge: a line has grown beyond the limit.
        """
        lines: list[bytes] = []
        self._rest.add(chunk)
        if b"\n" in chunk:
            *lines, rest = self._rest.take().split(b"\n")
            self._rest.add(rest)
        if self._rest.size_bytes > self._max_line_bytes:
            raise EventTooLarge(f"a line has more than {self._max_line_bytes} bytes")
        return [ServerEvent(line.decode("utf-8", "replace")) for line in lines if line.strip()]

    def close(self) -> list[ServerEvent]:
        """The line that the end of the stream completes, if any."""
        return self.feed(b"\n")
