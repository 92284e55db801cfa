"""The live view of a running graph: a table of its nodes, drawn over in place on a terminal.

There is nothing on the terminal to restore: no other screen, no raw mode, and the cursor stays visible. So a process that is
killed leaves a table that stands still, and nothing worse. The extra ``watch`` installs rich, which it needs.
"""

from __future__ import annotations

import io
from collections.abc import Generator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from typing import Final, TextIO, final

import trio
from rich.console import Console, ConsoleOptions, OverflowMethod, RenderResult
from rich.live import Live
from rich.table import Table
from rich.text import Text

from runtime.cli.board import Board, Row, last_words
from runtime.cli.terminal import Style, plain, printable

WIDE: Final = 72
"""Columns of a window that has room for the numbers."""
STYLES: Final = {"bad": "yellow", "good": "green", "accent": "cyan", "dim": "dim"}
LINES_AROUND: Final = 5
"""The title, the heads of the columns, what is left out, the last answer, and where the cursor stands."""


def console_on(stream: TextIO, style: Style) -> Console:
    """A console that writes what it is given and reads nothing into it."""
    return Console(
        file=stream,
        force_terminal=True,
        force_interactive=True,
        color_system="standard" if style.colour else None,
        no_color=not style.colour,
        highlight=False,
        markup=False,
        emoji=False,
        soft_wrap=False,
    )


@final
class LiveView:
    """Shows `board` on `stream`, a terminal."""

    def __init__(self, board: Board, stream: TextIO, style: Style) -> None:
        self._board = board
        self._stream = stream
        self._style = style
        self._began_s = 0.0
        self._overflow: OverflowMethod = "ellipsis" if style.unicode else "crop"
        self._console = console_on(stream, style)
        self._live = Live(
            console=self._console,
            auto_refresh=False,
            redirect_stdout=False,
            redirect_stderr=False,
            vertical_overflow="crop",
            get_renderable=lambda: self,
        )

    @property
    def is_live(self) -> bool:
        """Yes."""
        return True

    def step(self, text: str) -> None:
        """Nothing: the next drawing shows it."""

    def update(self, text: str) -> None:
        """Draw the table again, in the size that the window has now."""
        self._live.refresh()

    @contextmanager
    def showing(self) -> Generator[None]:
        """Draw the table; what is printed meanwhile appears above it, line by line and without control sequences."""
        self._began_s = trio.current_time()
        above = Above(self._console, self._stream)
        self._live.start()
        self._console.show_cursor(True)
        try:
            with redirect_stdout(above), redirect_stderr(above):
                yield
        finally:
            above.close()
            self._board.ended = self._board.ended or "stopped before its end"
            self._live.stop()

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """The title, the table, and the end of the last answer."""
        wide = options.max_width >= WIDE
        chosen = self._board.chosen(console.size.height - LINES_AROUND)
        table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, expand=True, header_style="dim")
        table.add_column("node", no_wrap=True, overflow=self._overflow, max_width=options.max_width * 2 // 5)
        table.add_column("state", no_wrap=True, overflow=self._overflow, ratio=1)
        for name in ("calls", "tokens") if wide else ():
            table.add_column(name, no_wrap=True, justify="right", min_width=6)
        for row in chosen:
            numbers = [Text(f"{number:,}" if number else "") for number in (row.calls, row.tokens)]
            table.add_row(self._text(row.name), self._state(row), *(numbers if wide else ()))
        yield self._title()
        yield table
        yield from self._left_out(len(chosen))
        yield from self._last_answer(options.max_width)
        if not self._board.ended:
            yield Text()  # where the cursor stands: a ^C that the terminal shows there must not break a full line

    def _title(self) -> Text:
        board, running = self._board, sum(len(row.running) for row in self._board.rows.values())
        dot = " · " if self._style.unicode else " - "
        state = board.ended or f"{running} running"
        facts = [
            f"{trio.current_time() - self._began_s:.1f} s",
            state,
            f"{board.messages} message{'s' if board.messages != 1 else ''}",
        ]
        facts += [text for text in (board.spent(), f"{board.missed} events missed" if board.missed else "") if text]
        title = self._text(f"{board.graph}{dot}")
        title.append(dot.join(facts), "dim")
        return title

    def _state(self, row: Row) -> Text:
        text = Text(no_wrap=True, overflow=self._overflow)
        for index, (style, words) in enumerate(row.states("×" if self._style.unicode else "x")):
            if index:
                text.append(", ", "dim")
            text.append(words, STYLES[style])
        if row.error and (row.gave_up or row.to_redeliver):
            text.append(self._shown(f": {row.error}"), "dim")
        elif doing := row.doing("×" if self._style.unicode else "x"):
            text.append(self._shown(f": {doing}"), "dim")
        return text

    def _left_out(self, shown: int) -> list[Text]:
        count = len(self._board.rows) - shown
        return [self._text(f"… and {count} more node{'s' if count > 1 else ''} that are waiting or done", "dim")] if count else []

    def _last_answer(self, columns: int) -> list[Text]:
        board = self._board
        room = columns - len(board.said_by) - 3
        words = last_words(board, room) if board.said_by and room > 8 else ""
        return [self._text(f"{board.said_by}: {words}", "dim")] if words else []

    def _text(self, text: str, style: str = "") -> Text:
        return Text(self._shown(text), style, no_wrap=True, overflow=self._overflow)

    def _shown(self, text: str) -> str:
        """`text` as the terminal can show it: plain, and in ASCII where it has no more."""
        shown = plain(text).replace("\n", " ").replace("\t", " ")
        return shown if self._style.unicode else printable(shown.replace("…", "..."), self._stream)


@final
class Above(io.TextIOBase):
    """Stands in for a standard stream while something stands on the terminal that is drawn over."""

    def __init__(self, console: Console, stream: TextIO) -> None:
        self._console = console
        self._stream = stream
        self._rest = ""

    def writable(self) -> bool:
        """Yes."""
        return True

    def isatty(self) -> bool:
        """No: what is written gets no control sequences through."""
        return False

    def write(self, text: str, /) -> int:
        """Print the lines that are whole."""
        *lines, self._rest = f"{self._rest}{text}".split("\n")
        for line in lines:
            self._say(line)
        return len(text)

    def flush(self) -> None:
        """An unfinished line waits for its end: the table could not stand below it."""

    def close(self) -> None:
        """Print what is left, as a line."""
        if self._rest:
            self._say(self._rest)
            self._rest = ""
        super().close()

    def _say(self, line: str) -> None:
        self._console.print(Text(printable(plain(line), self._stream)), soft_wrap=True)
