"""The bar of ``understudy evaluate``, on a terminal that keeps every byte it gets."""

from __future__ import annotations

import re
import sys

import pytest

from runtime.cli import evaluate
from runtime.cli.evaluation_bar import EvaluationBar
from runtime.cli.terminal import ProgressLine, Style
from runtime.evaluate import Progress
from tests.runtime.cli.test_live_view import HARMLESS, HOSTILE
from tests.runtime.cli.test_terminal import Terminal

LIVE = Style(colour=True, unicode=True, live=True)
HALF = Progress(50, 200, 0.71, 0.0123, 6.0, (0.58, 0.84))


@pytest.fixture(autouse=True)
def window(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "110")
    monkeypatch.setenv("LINES", "20")
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)


def last_line(terminal: Terminal) -> str:
    """What stands in the line that is drawn over."""
    return HARMLESS.sub("", terminal.text()).replace("\r", "\n").rstrip().rpartition("\n")[2].strip()


def test_it_shows_the_estimate_its_interval_and_what_is_left() -> None:
    terminal = Terminal()
    bar = EvaluationBar(terminal, LIVE)

    with bar.showing():
        bar.update("")
        first = last_line(terminal)
        bar.tell(HALF)
        bar.update("")
        drawn = last_line(terminal)

    assert first.endswith("evaluating")
    assert re.fullmatch(r"[━╸╺]+ 50 of 200, mean 0\.710 \(0\.580 to 0\.840\), \$0\.0123, 150 left, 18 s", drawn)
    assert terminal.text().endswith("\x1b[2K"), "nothing of it stays"


@pytest.mark.parametrize("columns", [20, 60])
def test_a_narrow_window_has_the_words_first(columns: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    terminal = Terminal()
    bar = EvaluationBar(terminal, LIVE)

    with bar.showing():
        bar.tell(HALF)
        bar.update("")
        drawn = last_line(terminal)

    assert "50 of 200, mean" in drawn
    assert len(drawn) <= columns


def test_what_a_metric_prints_appears_above_it_without_control_sequences() -> None:
    terminal = Terminal()
    bar = EvaluationBar(terminal, LIVE)

    with bar.showing():
        sys.stdout.write(f"looking{HOSTILE}\n")
        sys.stderr.write("an error\n")
        bar.update("")

    shown = HARMLESS.sub("", terminal.text())
    assert "\x1b" not in shown
    assert re.search(r"looking.*\n.*an error", shown, re.DOTALL)


@pytest.mark.parametrize(
    ("now", "told"),
    [
        (HALF, "50 of 200, mean 0.710 (0.580 to 0.840), $0.0123, 150 left, 18 s"),
        (Progress(1, 9_000, 1.0, 0.0, 2.0), "1 of 9000, mean 1.000, $0.0000, 8999 left, 300 min"),
        (Progress(9, 9, 0.5, 1.0, 2.0, (0.1, 0.9)), "9 of 9, mean 0.500 (0.100 to 0.900), $1.0000, 0 left"),
        (
            Progress(3, 60, -0.2, 0.0, 3.0, (-0.9, 0.5), is_difference=True),
            "3 of 60, difference -0.200 (-0.900 to +0.500), $0.0000, 57 left at most, 57 s",
        ),
    ],
)
def test_progress_is_told_in_a_line(now: Progress, told: str) -> None:
    assert str(now) == told


def test_without_rich_there_is_a_plain_line_and_the_words_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setitem(sys.modules, "runtime.cli.evaluation_bar", None)

    shown, tell = evaluate._shown(evaluate.Options("g", "d"))
    tell(HALF)

    assert isinstance(shown, ProgressLine)
    notice, _, line = terminal.text().partition("\n")
    assert notice.strip().endswith("Fix: pip install 'understudy[watch]'")
    assert "50 of 200, mean 0.710" in line


@pytest.mark.parametrize("quiet", [False, True])
def test_outside_terminals_there_is_a_line_for_each_tenth(quiet: bool, capsys: pytest.CaptureFixture[str]) -> None:
    _, tell = evaluate._shown(evaluate.Options("g", "d", quiet=quiet))
    for done in range(1, 201):
        tell(Progress(done, 200, 0.5, 0.0, 1.0))

    assert len(capsys.readouterr().err.splitlines()) == (0 if quiet else 10)
