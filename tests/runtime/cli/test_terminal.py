"""What reaches the terminal: only text, and only what it can show."""

from __future__ import annotations

import io
from pathlib import Path

import pytest

from runtime.cli.terminal import ProgressLine, Style, is_one_place, one_line, plain, printable


def test_two_streams_are_one_place_or_two(tmp_path: Path) -> None:
    with open(tmp_path / "a", "a") as one, open(tmp_path / "a", "a") as same, open(tmp_path / "b", "a") as other:
        assert is_one_place(one, same)
        assert not is_one_place(one, other)
        assert not is_one_place(one, io.StringIO())
    assert not is_one_place(one, same), "closed"
    assert is_one_place(one, one)


class Terminal(io.TextIOWrapper):
    def __init__(self, encoding: str = "utf-8") -> None:
        super().__init__(io.BytesIO(), encoding)

    def isatty(self) -> bool:
        return True

    def text(self) -> str:
        self.flush()
        buffer = self.buffer
        assert isinstance(buffer, io.BytesIO)
        return buffer.getvalue().decode(self.encoding)


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        ("\x1b[31mred\x1b[0m", "red"),
        ("\x1b]0;title\x07text", "text"),
        ("\x1b]8;;http://x\x1b\\link\x1b]8;;\x1b\\", "link"),
        ("\x1bPq#0\x1b\\sixel", "sixel"),
        ("\x9b2Jclear", "clear"),
        ("\x1bcreset", "reset"),
        ("a\x08\x00b\x7fc\x85d", "abcd"),
        ("over\rwritten", "over\nwritten"),
        ("line\r\nline\ttab", "line\nline\ttab"),
        ("\u202egnp.exe", "gnp.exe"),
        ("half \ud800 pair", "half  pair"),
        ("é 語 🙂", "é 語 🙂"),
    ],
)
def test_text_of_others_cannot_act_on_the_terminal(said: str, shown: str) -> None:
    assert plain(said) == shown


def test_a_line_stays_a_line() -> None:
    assert one_line("one\n  two\x1b[2K\r\nthree ") == "one two three"


def test_a_terminal_gets_colours_and_lines_that_are_written_over() -> None:
    style = Style.of(Terminal(), {"TERM": "xterm"})

    assert (style.colour, style.unicode, style.live) == (True, True, True)
    assert style.columns <= 80


@pytest.mark.parametrize(
    ("environment", "colour", "live"),
    [({"TERM": "xterm", "NO_COLOR": "1"}, False, True), ({"TERM": "dumb"}, False, False), ({}, False, False)],
)
def test_colours_can_be_switched_off(environment: dict[str, str], colour: bool, live: bool) -> None:
    style = Style.of(Terminal(), environment)

    assert (style.colour, style.live) == (colour, live)


def test_a_file_gets_neither() -> None:
    assert Style.of(io.StringIO(), {"TERM": "xterm"}) == Style(unicode=False)
    assert Style.of(io.TextIOWrapper(io.BytesIO(), "utf-8"), {"TERM": "xterm"}) == Style(unicode=True)


def test_what_the_encoding_lacks_is_written_as_an_escape() -> None:
    assert printable("é…", io.TextIOWrapper(io.BytesIO(), "latin-1")) == "é\\u2026"


def test_progress_is_one_line_on_a_terminal() -> None:
    terminal = Terminal()
    progress = ProgressLine(terminal, Style(live=True, columns=20))

    progress.step("begin")
    progress.update("more than twenty characters\x1b[2J")
    progress.clear()
    progress.clear()

    assert terminal.text() == "\rbegin\x1b[K\rmore than twenty ch\x1b[K\r\x1b[K"


def test_progress_is_a_line_per_step_elsewhere() -> None:
    stream = io.StringIO()
    progress = ProgressLine(stream, Style())

    progress.step("first\nstep")
    progress.update("unseen")
    progress.clear()

    assert stream.getvalue() == "first step\n"


def test_progress_can_be_quiet() -> None:
    stream = io.StringIO()

    ProgressLine(stream, Style(live=True), quiet=True).step("unseen")

    assert stream.getvalue() == ""
