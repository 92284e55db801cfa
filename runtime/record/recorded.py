"""One recorded request with its replies, and the JSON file that it is kept in.

The file is made to be read and reviewed: a body that is one JSON document stands as JSON, text as text, Amazon's binary event
stream as its messages, and only what is none of these as base64. What a client is given again are the same bytes.
"""

from __future__ import annotations

import base64
import hashlib
import json
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any, Self, cast, final

import attrs

from actors.errors import UsageError
from actors.words import repr_of
from runtime.lm.http.binary_frames import TEXT, BinaryMessage, messages_of
from runtime.lm.http.http_messages import HttpRequest
from runtime.lm.http.request_keys import secrets_of
from runtime.record.redacting import Redaction

VERSION = 1
_IN_PIECES = re.compile(r"stream|ndjson|json-?l|json-seq|multipart")
"""Content types whose pieces mean something as they come: server-sent events, Amazon's event stream, a JSON document a line."""
WHOLE, LEFT, FAILED = "whole", "left", "failed"
"""How a reply ended: it was read to its end; the client left before; the connection failed."""


class RecordingUnreadable(UsageError):
    """A file in a folder of recordings is not one that this release has written."""


@final
@attrs.frozen
class RecordedRequest:
    """A request as it is kept and compared: without headers and without anything secret."""

    method: str
    address: str
    body: Any = attrs.field(repr=False)
    """The JSON of the body; a text, if it is none."""

    @classmethod
    def of(cls, request: HttpRequest, redaction: Redaction, secrets: Sequence[str] = ()) -> Self:
        """What is kept of `request`, which `secrets` authorise beside what stands in it."""
        text = redaction.data(request.body, secrets_of(request, secrets)).decode("utf-8", "replace")
        try:
            body = json.loads(text) if text else None
        except ValueError:
            body = text
        return cls(request.method, redaction.address(request.url), body)

    @property
    def digest(self) -> str:
        """16 hexadecimal digits, the same for the same method, address and JSON; the order of its fields does not count."""
        text = json.dumps([self.method, self.address, self.body], sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    @property
    def model(self) -> str:
        """The model that is asked; of providers that name it in the address, the last part of that."""
        body: object = self.body
        named = cast("dict[str, object]", body).get("model") if isinstance(body, dict) else None
        return named if isinstance(named, str) and named else self.address.partition("?")[0].rstrip("/").rpartition("/")[2]

    @property
    def file_name(self) -> str:
        """The name of the file that keeps it."""
        return f"{re.sub(r'[^A-Za-z0-9._-]+', '-', self.model)[:60].strip('-.') or 'request'}-{self.digest}.json"


@final
@attrs.frozen
class BodyPart:
    """A part of a body, and when it came, in seconds after the request."""

    at_s: float
    data: bytes = attrs.field(repr=False)


@final
@attrs.frozen
class RecordedReply:
    """One recorded reply; times are in seconds after the request."""

    status: int
    headers: Mapping[str, str]
    head_s: float
    """When its head was there."""
    pieces: tuple[BodyPart, ...]
    end: str
    """``"whole"``, ``"left"`` or ``"failed"``."""
    end_s: float
    error: str | None = None
    """The class of the error, of a failed one."""
    message: str = ""

    def tidy(self) -> Self:
        """The same with a plain body in one piece: where the network cut it doesn't matter to who reads it as a whole."""
        if self.end != WHOLE or len(self.pieces) < 2 or _IN_PIECES.search(self.headers.get("content-type", "")):
            return self
        return attrs.evolve(self, pieces=(BodyPart(self.pieces[-1].at_s, b"".join(piece.data for piece in self.pieces)),))


@final
@attrs.frozen
class RecordedCall:
    """A request and the replies that it got, in the order in which it was made."""

    asked: RecordedRequest
    replies: tuple[RecordedReply, ...]

    def to_text(self) -> str:
        """The file's text."""
        document = {
            "understudy_recording": VERSION,
            "request": {"method": self.asked.method, "address": self.asked.address, "body": self.asked.body},
            "replies": [_reply_out(reply) for reply in self.replies],
        }
        text = json.dumps(document, indent=2, ensure_ascii=False)
        try:
            text.encode()
        except UnicodeEncodeError:  # a lone surrogate, which JSON can escape and UTF-8 cannot hold
            text = json.dumps(document, indent=2)
        return text + "\n"

    @classmethod
    def of_text(cls, text: str, name: str) -> Self:
        """What :meth:`to_text` has written; `name` is what errors call it.

        Raises:
            RecordingUnreadable: it is something else.
        """
        try:
            document = json.loads(text)
        except ValueError as error:
            raise unreadable(name, f"it isn't JSON ({error})") from error
        if not isinstance(document, dict) or "understudy_recording" not in document:
            raise unreadable(name, "it has no field 'understudy_recording'")
        fields = cast("dict[str, Any]", document)
        if fields["understudy_recording"] != VERSION:
            raise unreadable(name, f"its format is {fields['understudy_recording']!r}, and this release reads {VERSION}")
        try:
            request = fields["request"]
            asked = RecordedRequest(str(request["method"]), str(request["address"]), request["body"])
            return cls(asked, tuple(_reply_in(reply) for reply in fields["replies"]))
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise unreadable(name, f"{type(error).__name__}: {error}") from error


def unreadable(name: str, why: str) -> RecordingUnreadable:
    """The error for a file that is none; `name` is the file, `why` the cause."""
    return RecordingUnreadable(
        f"{name} can't be read as a recording: {why}.\n  Fix: restore it, or delete it and record the call again."
    )


def _reply_out(reply: RecordedReply) -> dict[str, Any]:
    ends = {"end": reply.end, "end_s": _seconds(reply.end_s)}
    if reply.error is not None:
        ends |= {"error": reply.error, "message": reply.message}
    if reply.status == 0:
        return ends
    return {
        "status": reply.status,
        "headers": dict(reply.headers),
        "head_s": _seconds(reply.head_s),
        "pieces": [{"at_s": _seconds(piece.at_s), **_data_out(piece.data)} for piece in reply.pieces],
        **ends,
    }


def _reply_in(fields: Mapping[str, Any]) -> RecordedReply:
    if fields["end"] not in {WHOLE, LEFT, FAILED}:
        raise ValueError(f"end: {fields['end']!r}")
    pieces = tuple(BodyPart(_number(piece["at_s"]), _data_in(piece)) for piece in fields.get("pieces", ()))
    headers = {str(name): str(value) for name, value in fields.get("headers", {}).items()}
    status, head_s = int(fields.get("status", 0)), _number(fields.get("head_s", 0.0))
    if not status and fields["end"] == WHOLE:
        raise ValueError("a whole reply without its status")
    error = fields.get("error")
    return RecordedReply(
        status, headers, head_s, pieces, fields["end"], _number(fields["end_s"]), error, str(fields.get("message", ""))
    )


def _seconds(value: float) -> float:
    return round(value, 6)


def _number(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value) or value < 0:
        raise ValueError(f"no number of seconds: {repr_of(value)}")
    return float(value)


_STYLES: Mapping[str, tuple[tuple[str, str], bool]] = {
    "json": ((",", ":"), False),
    "json_spaced": ((", ", ": "), False),
    "json_ascii": ((",", ":"), True),
    "json_spaced_ascii": ((", ", ": "), True),
}
"""How servers write JSON: the name under which it is kept, its separators, and whether only ASCII is used."""


def _dumped(value: object, style: str) -> bytes:
    separators, is_ascii = _STYLES[style]
    return json.dumps(value, separators=separators, ensure_ascii=is_ascii).encode("utf-8", "surrogatepass")


def _data_out(data: bytes) -> dict[str, Any]:
    messages, rest = messages_of(data)
    if messages and not rest:
        shown = [_message_out(message) for message in messages]
        if b"".join(map(_message_in, shown)) == data:
            return {"messages": shown}
    try:
        text = data.decode()
    except UnicodeDecodeError:
        return {"base64": base64.b64encode(data).decode()}
    if text[:1] in {"{", "["}:
        try:
            value = json.loads(text)
            style = next((style for style in _STYLES if _dumped(value, style) == data), None)
        except (ValueError, RecursionError):
            style, value = None, None
        if style is not None:
            return {style: value}
    return {"text": text}


def _message_out(message: BinaryMessage) -> dict[str, Any]:
    """A message of Amazon's event stream. Its checksums follow from the rest, so a person may edit it."""
    headers = {
        name: value.decode() if kind == TEXT else {"type": kind, "base64": base64.b64encode(value).decode()}
        for name, kind, value in message.headers
    }
    return {"headers": headers, **_data_out(message.payload)}


def _message_in(shown: Mapping[str, Any]) -> bytes:
    headers = tuple(
        (name, TEXT, value.encode()) if isinstance(value, str) else (name, value["type"], base64.b64decode(value["base64"]))
        for name, value in shown["headers"].items()
    )
    return BinaryMessage(headers, _data_in(shown)).to_bytes()


def _data_in(piece: Mapping[str, Any]) -> bytes:
    if "messages" in piece:
        return b"".join(map(_message_in, piece["messages"]))
    if "base64" in piece:
        return base64.b64decode(piece["base64"], validate=True)
    if "text" in piece:
        return str(piece["text"]).encode()
    style = next(style for style in _STYLES if style in piece)
    return _dumped(piece[style], style)
