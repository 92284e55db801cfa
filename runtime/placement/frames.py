"""The bytes between a runtime and its hosts: a header of fixed length, then a body. Pure; see ``protocol`` for what they mean."""

from __future__ import annotations

import enum
import struct
from typing import Final, final

import attrs

from actors.placement_errors import MessageTooLarge

MAX_BODY_BYTES: Final = 64 * 1024 * 1024
"""What one body may have at most, in either direction."""
_HEADER: Final = struct.Struct(">IBQQ")
HEADER_BYTES: Final = _HEADER.size


@final
class FrameKind(enum.IntEnum):
    """What a frame is for."""

    HELLO = 1
    """The first in either direction; `id` is the host's incarnation."""
    CALL = 2
    """Do something, and answer under this `id`; `about` is the call of the other side that it belongs to, or 0."""
    CANCEL = 3
    """The answer to the call `id` is no longer wanted: end the work, and then say so, with ENDED or its answer."""
    VALUE = 4
    """The answer to the call `id`."""
    ERROR = 5
    """The call `id` failed; the body tells how."""
    ENDED = 6
    """The call `id` was cancelled, and its work has ended."""
    NOTE = 7
    """Told without an answer; `about` as for CALL."""
    BEAT = 8
    """A sign of life."""


@final
@attrs.frozen
class Frame:
    """One frame."""

    kind: FrameKind
    id: int = 0
    about: int = 0
    body: bytes = b""


class FrameBroken(Exception):
    """The bytes are no frames of this protocol; the stream is of no more use."""


def too_long(size: int, limit: int) -> MessageTooLarge:
    """The error for a message of `size` bytes."""
    return MessageTooLarge(
        f"a message to another process has {size:,} bytes; it may have {limit:,}.\n"
        "  Fix: keep it elsewhere, in a file or a blob store, and let the message say where.",
        size=size,
        limit=limit,
    )


def written(frame: Frame, max_bytes: int = MAX_BODY_BYTES) -> bytes:
    """The bytes of a frame.

    Raises:
        MessageTooLarge: its body has more than `max_bytes`.
    """
    size = len(frame.body)
    if size > max_bytes:
        raise too_long(size, max_bytes)
    return _HEADER.pack(size, frame.kind, frame.id, frame.about) + frame.body


@final
class FrameReader:
    """Cuts a stream of bytes into frames."""

    def __init__(self, max_bytes: int = MAX_BODY_BYTES) -> None:
        self._max_bytes = max_bytes
        self._left = bytearray()

    def feed(self, data: bytes) -> list[Frame]:
        """The frames that are whole now.

        Raises:
            FrameBroken: a kind that does not exist, or a body that is longer than allowed.
        """
        self._left += data
        frames: list[Frame] = []
        at, end = 0, len(self._left)
        while end - at >= HEADER_BYTES:
            size, kind, number, about = _HEADER.unpack_from(self._left, at)
            if size > self._max_bytes:
                raise FrameBroken(f"a frame with a body of {size:,} bytes, where {self._max_bytes:,} are allowed")
            if kind not in _KINDS:
                raise FrameBroken(f"a frame of the unknown kind {kind}")
            if end - at - HEADER_BYTES < size:
                break
            at += HEADER_BYTES
            frames.append(Frame(FrameKind(kind), number, about, bytes(self._left[at : at + size])))
            at += size
        del self._left[:at]
        return frames

    @property
    def is_between_frames(self) -> bool:
        """Whether what came so far ends with a whole frame."""
        return not self._left


_KINDS: Final = frozenset(FrameKind)
