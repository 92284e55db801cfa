"""The bytes between a runtime and its hosts: a header of fixed length, then a body. Pure; see ``protocol`` for what they mean."""

from __future__ import annotations

import enum
import struct
from typing import Final, NamedTuple, final

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


class Frame(NamedTuple):
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
        self._pieces: list[bytes] = []
        """What came of a frame that is not whole."""
        self._size = 0
        """How many bytes it lacks at least."""

    def feed(self, data: bytes) -> list[Frame]:
        """The frames that are whole now.

        Raises:
            FrameBroken: a kind that does not exist, or a body that is longer than allowed.
        """
        if self._size > len(data):  # a large one, whose bytes come piece by piece: they are joined once
            self._pieces.append(data)
            self._size -= len(data)
            return []
        left = b"".join([*self._pieces, data]) if self._pieces else data
        self._pieces.clear()
        frames: list[Frame] = []
        at, end = 0, len(left)
        while end - at >= HEADER_BYTES:
            size, kind, number, about = _HEADER.unpack_from(left, at)
            if size > self._max_bytes:
                raise FrameBroken(f"a frame with a body of {size:,} bytes, where {self._max_bytes:,} are allowed")
            if not 0 < kind < len(_KINDS):
                raise FrameBroken(f"a frame of the unknown kind {kind}")
            if end - at - HEADER_BYTES < size:
                self._size = size - (end - at - HEADER_BYTES)
                break
            at += HEADER_BYTES
            frames.append(Frame(_KINDS[kind], number, about, left[at : at + size]))
            at += size
        else:
            self._size = HEADER_BYTES - (end - at) if at < end else 0
        if at < end:
            self._pieces.append(left[at:])
        return frames

    @property
    def is_between_frames(self) -> bool:
        """Whether what came so far ends with a whole frame."""
        return not self._pieces


_KINDS: Final = (FrameKind.HELLO, *FrameKind)
"""By their numbers, which begin with 1."""
