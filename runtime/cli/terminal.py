"""What the terminal can show, the line that shows what is going on, and text made safe to print."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from typing import Final, Self, TextIO, final

import attrs

DRAWN: Final = "├─━┤·×≤"
"""Every character beyond ASCII that reports are drawn with."""
MOST_COLUMNS: Final = 80

_SEQUENCES: Final = re.compile(
    r"(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]"  # colours, cursor movements
    r"|(?:\x1b\]|\x9d)[^\x07\x1b\x9c]*(?:\x07|\x1b\\|\x9c|$)"  # titles, links, the clipboard
    r"|\x1b[PX^_][^\x1b]*(?:\x1b\\|$)"
    r"|\x1b[ -/]*[0-~]?"
)
_INVISIBLE: Final = re.compile(
    r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]"
)


@final
@attrs.frozen
class Style:
    """How one stream can be written to."""

    colour: bool = False
    unicode: bool = False
    live: bool = False
    """Whether a line can be written over: the stream is a terminal."""
    columns: int = MOST_COLUMNS
    """At most 80: longer lines are hard to read."""

    @classmethod
    def of(cls, stream: TextIO, environment: Mapping[str, str] = os.environ) -> Self:
        """What `stream` can show. ``NO_COLOR`` (any value) and ``TERM=dumb`` switch colours off."""
        is_terminal = stream.isatty()
        able = is_terminal and environment.get("TERM", "") not in {"", "dumb"}
        columns = shutil.get_terminal_size((MOST_COLUMNS, 24)).columns if is_terminal else MOST_COLUMNS
        return cls(able and not environment.get("NO_COLOR"), encodes(stream, DRAWN), able, min(columns, MOST_COLUMNS))

    def bold(self, text: str) -> str:
        """`text`, emphasised."""
        return self._paint("1", text)

    def dim(self, text: str) -> str:
        """`text`, in the background."""
        return self._paint("2", text)

    def accent(self, text: str) -> str:
        """`text`, in the colour of requests."""
        return self._paint("36", text)

    def good(self, text: str) -> str:
        """`text`, as good news."""
        return self._paint("32", text)

    def bad(self, text: str) -> str:
        """`text`, as bad news."""
        return self._paint("33", text)

    def _paint(self, code: str, text: str) -> str:
        return f"\x1b[{code}m{text}\x1b[0m" if self.colour and text else text


@final
class ProgressLine:
    """Tells on `stream` what is going on: one line that is written over on a terminal, one line per step elsewhere."""

    def __init__(self, stream: TextIO, style: Style, *, quiet: bool = False) -> None:
        self._stream = stream
        self._style = style
        self._quiet = quiet
        self._is_shown = False

    @property
    def is_live(self) -> bool:
        """Whether :meth:`update` shows anything."""
        return self._style.live and not self._quiet

    def step(self, text: str) -> None:
        """Report that something begins or has happened."""
        if self.is_live:
            self.update(text)
        elif not self._quiet:
            self._write(f"{one_line(text)}\n")

    def update(self, text: str) -> None:
        """Write over the line, on a terminal only."""
        if self.is_live:
            self._is_shown = True
            self._write(f"\r{self._style.dim(one_line(text)[: self._style.columns - 1])}\x1b[K")

    @contextmanager
    def showing(self) -> Generator[None]:
        """Take the line away at the end of the block."""
        try:
            yield
        finally:
            self.clear()

    def clear(self) -> None:
        """Take the line away, so something else can be printed."""
        if self._is_shown:
            self._is_shown = False
            self._write("\r\x1b[K")

    def _write(self, text: str) -> None:
        self._stream.write(printable(text, self._stream))
        self._stream.flush()


def is_one_place(one: TextIO, other: TextIO) -> bool:
    """Whether what is written to either comes to the same terminal, file or pipe."""
    try:
        places = [os.fstat(stream.fileno()) for stream in (one, other)]
    except (OSError, ValueError):  # it is closed, or not a file
        return one is other
    return os.path.samestat(*places)


def encodes(stream: TextIO, text: str) -> bool:
    """Whether `stream` can write `text`."""
    try:
        text.encode(stream.encoding or "ascii")
    except (UnicodeEncodeError, LookupError):
        return False
    return True


def printable(text: str, stream: TextIO) -> str:
    """`text` with what `stream` cannot encode written as an escape."""
    encoding = stream.encoding or "ascii"
    return text.encode(encoding, "backslashreplace").decode(encoding)


def plain(text: str) -> str:
    """`text` without escape sequences, control characters (except for line ends and tabs) and marks that turn its direction.

    Text from a model or a provider is printed through this: it cannot move the cursor, set a title or fake a line.
    """
    return _INVISIBLE.sub("", _SEQUENCES.sub("", text)).replace("\r\n", "\n").replace("\r", "\n")


def one_line(text: str) -> str:
    """`text` made :func:`plain`, on a single line."""
    return " ".join(plain(text).split())
