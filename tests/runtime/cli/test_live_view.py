"""The live view, on a terminal that keeps every byte it gets."""

from __future__ import annotations

import re
import sys

import pytest
import trio

from actors import TextDelta
from runtime.cli.board import Board
from runtime.cli.live_view import LiveView
from runtime.cli.terminal import Style
from runtime.graphs.records.run_events import LMDelta, NodeGaveUp, NodeStarted
from tests.runtime.cli.test_board import at, called
from tests.runtime.cli.test_terminal import Terminal

HARMLESS = re.compile(r"\x1b\[\??[0-9;]*[mAKhl]")
"""Colours, the cursor some lines up, lines cleared, the cursor shown."""
HOSTILE = "\x1b[2J\x1b[H\x1b]0;owned\x07\x1bPq\x1b\\\x9b31m\u202eand \x1b[5m\x08words\r"


@pytest.fixture(autouse=True)
def window(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.setenv("LINES", "20")
    monkeypatch.delenv("NO_COLOR", raising=False)


def drawn(board: Board, terminal: Terminal, style: Style) -> list[str]:
    """The lines of the last picture of the board."""
    view = LiveView(board, terminal, style)
    with view.showing():
        view.update("")
        before = terminal.text()
        view.update("")
        picture = terminal.text().removeprefix(before)
    return [line.rstrip() for line in HARMLESS.sub("", picture).replace("\r", "").split("\n")]


async def test_every_node_has_a_line_and_the_last_answer_the_last_one(virtual_clock):
    board = Board("demo", ["first", "second"])
    board.note(at(NodeStarted, node="first"))
    board.note(called(prompt_tokens=10, completion_tokens=2))
    board.note(at(LMDelta, node="first", delta=TextDelta("so it goes")))

    lines = drawn(board, Terminal(), Style(colour=True, unicode=True, live=True))

    title = "demo · 0.0 s · 1 running · 1 message · 1 call, 12 tokens, $0.0012"
    assert (lines[0], lines[1].split()) == (title, ["node", "state", "calls", "tokens"])
    assert [line.split() for line in lines[2:5]] == [["first", "running"], ["second", "waiting"], ["work", "waiting", "1", "12"]]
    assert lines[5] == "first: so it goes"


async def test_no_control_sequence_of_others_reaches_the_terminal(virtual_clock):
    board, terminal = Board(f"demo{HOSTILE}", [f"node{HOSTILE}", "[red]work[/red]"]), Terminal()
    board.note(at(NodeStarted, node=f"node{HOSTILE}"))
    board.note(at(NodeGaveUp, node="[red]work[/red]", error=OSError(HOSTILE)))
    board.note(at(LMDelta, node=f"node{HOSTILE}", delta=TextDelta(HOSTILE)))

    view = LiveView(board, terminal, Style(colour=True, unicode=True, live=True))
    with view.showing():
        view.update("")
        sys.stdout.write(f"printed {HOSTILE}\n")
        sys.stderr.write(HOSTILE)

    rest = HARMLESS.sub("", terminal.text())
    assert set(re.findall(r"[\x00-\x1f\x7f-\x9f\u202e]", rest)) <= {"\n", "\r"}
    assert not re.search(r"\x1b\[(?:2J|H|5m)", terminal.text())
    assert "owned" not in rest
    assert "[red]work[/red]" in rest
    assert "printed and words" in rest


async def test_more_nodes_than_lines_are_counted(virtual_clock):
    board = Board("many", [f"n{number}" for number in range(200)])

    lines = drawn(board, Terminal(), Style(unicode=True, live=True))

    assert len(lines) <= 20
    assert "… and 185 more nodes that are waiting or done" in lines


@pytest.mark.parametrize("columns", [10, 24, 40, 71])
async def test_a_narrow_window_gets_no_longer_lines(columns, virtual_clock, monkeypatch):
    monkeypatch.setenv("COLUMNS", str(columns))
    board = Board("a graph with a long name", ["a_node_with_a_very_long_name", "語" * 20])
    board.note(at(LMDelta, node="a_node_with_a_very_long_name", delta=TextDelta("語" * 200)))

    lines = drawn(board, Terminal(), Style(unicode=True, live=True))

    assert max(len(line) + line.count("語") for line in lines) <= columns


async def test_a_terminal_of_ascii_gets_ascii(virtual_clock):
    board = Board("g", ["a_node_with_a_very_long_name" * 5])
    for path in ("one", "two"):
        board.note(at(NodeStarted, node="a_node_with_a_very_long_name" * 5, path=path))

    lines = drawn(board, Terminal("ascii"), Style(live=True))

    assert lines[0] == "g - 0.0 s - 2 running - 2 messages"
    assert lines[2].endswith("running x2")


async def test_without_colour_there_is_none(virtual_clock):
    board, terminal = Board("g", ["work"]), Terminal()
    board.note(at(NodeGaveUp, error=OSError("x")))

    drawn(board, terminal, Style(unicode=True, live=True))

    assert not re.search(r"\x1b\[[0-9;]*3[0-9]m", terminal.text())


async def test_the_terminal_is_left_as_it_was_when_the_run_is_cancelled(virtual_clock):
    terminal, streams = Terminal(), (sys.stdout, sys.stderr)
    view = LiveView(Board("g", ["work"]), terminal, Style(unicode=True, live=True))

    with trio.move_on_after(1), view.showing():
        view.update("")
        await trio.sleep_forever()

    assert (sys.stdout, sys.stderr) == streams
    assert terminal.text().rfind("\x1b[?25h") > terminal.text().rfind("\x1b[?25l")
    assert "\x1b[?1049h" not in terminal.text()
    assert "g · 1.0 s · stopped before its end · 0 messages" in HARMLESS.sub("", terminal.text())
    assert terminal.text().replace("\x1b[?25h", "").endswith("\n")
