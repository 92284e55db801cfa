"""``understudy run --record`` and ``understudy trace``, as their users meet them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from runtime.cli.main import main

GRAPH = '''
import attrs

from actors import Graph


@attrs.frozen
class Question:
    text: str


@attrs.frozen
class Answer:
    text: str


graph = Graph("shout", input=Question, output=Answer)


@graph.node
async def shout(question: Question) -> Answer:
    """Shouts."""
    if question.text == "fail":
        raise LookupError("no \\x1b[31m answer")
    if question.text == "fail at length":
        raise LookupError("no answer " * 100)
    return Answer(question.text.upper())
'''


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "g.py").write_text(GRAPH)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def record(text: str) -> int:
    return main(["run", "g.py:graph", "--input", json.dumps({"text": text}), "-q", "--record", "run.jsonl"])


def test_a_recorded_run_is_drawn_on_the_terminal(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert record("hello") == 0
    capsys.readouterr()

    assert main(["trace", "run.jsonl"]) == 0

    first, _, row, *_ = capsys.readouterr().out.splitlines()
    assert first.startswith("run shout-1 of shout: succeeded after ")
    assert row.split()[0] == "shout"
    assert max(map(len, (first, row))) <= 80


def test_a_failed_run_is_recorded_to_its_end_and_its_errors_cannot_move_the_cursor(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert record("fail") == 1
    assert json.loads((folder / "run.jsonl").read_text().splitlines()[-1])["event"] == "run.finished"
    capsys.readouterr()

    assert main(["trace", "run.jsonl"]) == 0

    out = capsys.readouterr().out
    assert "shout/shout/0, attempt 1, failed: LookupError: no  answer" in out.replace("no answer", "no  answer")
    assert "\x1b" not in out


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a device of Linux that takes nothing")
@pytest.mark.parametrize(
    ("option", "told"), [("--record", "EventFile('/dev/full')"), ("--case", "--case /dev/full is not whole")]
)
def test_a_full_disk_costs_what_was_to_be_written_and_not_the_output(
    folder: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture, option: str, told: str
) -> None:
    assert main(["run", "g.py:graph", "--input", '{"text": "hello"}', "-q", option, "/dev/full"]) == 0

    out, err = capsys.readouterr()
    assert json.loads(out) == {"text": "HELLO"}
    assert told in err + caplog.text
    assert "No space left on device" in err + caplog.text


def test_a_file_that_ends_in_the_middle_of_a_line_is_shown_up_to_there(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    record("hello")
    path = folder / "run.jsonl"
    path.write_bytes(path.read_bytes()[:-30])
    capsys.readouterr()

    assert main(["trace", "run.jsonl"]) == 0

    out, err = capsys.readouterr()
    assert out.startswith("run shout-1 of shout: running, ")
    assert "run.jsonl, line 4 ends in the middle and is left out" in err


def test_a_long_error_takes_several_lines_and_is_cut_after_four(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert record("fail at length") == 1
    capsys.readouterr()

    assert main(["trace", "run.jsonl"]) == 0

    first, *more = capsys.readouterr().out.splitlines()[-4:]
    assert "shout/shout/0, attempt 1, failed: LookupError: no answer" in first
    assert all(line.startswith("    ") and len(line) <= 80 for line in more)
    assert more[-1].endswith((" …", " ..."))


@pytest.mark.parametrize(("name", "begin"), [("x.html", "<!doctype html>"), ("x.json", "{"), ("x.svg", "<svg ")])
def test_a_trace_is_written_in_the_form_that_the_name_of_the_file_says(folder: Path, name: str, begin: str) -> None:
    record("hello")

    assert main(["trace", "run.jsonl", "-o", name]) == 0

    assert (folder / name).read_text(encoding="utf-8").startswith(begin)


def test_files_that_cannot_be_shown_and_services_that_cannot_be_reached_are_exit_code_1(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "binary.jsonl").write_bytes(b"{}\n\xff\xfe")

    codes = [
        main(["trace", "none.jsonl"]),
        main(["trace", str(folder)]),
        main(["trace", "binary.jsonl"]),
        main(["trace", "some-run", "--url", "127.0.0.1:1"]),
        main(["trace", "some-run", "--url", "http://127.0.0.1:1"]),
    ]

    assert codes == [1] * 5
    told = capsys.readouterr().err
    assert told.count("  Fix: ") == 5
    assert "binary.jsonl, line 2 isn't text in UTF-8" in told


def test_wrong_command_lines_are_exit_code_2(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    record("hello")

    assert main(["trace", "run.jsonl", "-o", "x.pdf"]) == 2
    assert main(["trace", "run.jsonl", "--key", "k"]) == 2
    assert main(["trace", "run.jsonl", "-o", "none/x.svg"]) == 2
    assert main(["run", "g.py:graph", "--record", "none/run.jsonl"]) == 2
    assert "-o x.pdf: its name must end with one of .html, .json, .svg" in capsys.readouterr().err


def test_blame_is_a_table_whose_last_row_is_the_whole_run(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    record("hello")
    capsys.readouterr()

    assert main(["trace", "run.jsonl", "--blame"]) == 0

    lines = capsys.readouterr().out.splitlines()
    [begin] = [number for number, line in enumerate(lines) if line.startswith("blame: ")]
    assert lines[begin + 1].split() == ["node", "cause", "time", "tokens", "cost"]
    assert any(line.split()[:2] == ["shout", "work"] for line in lines[begin:])
    assert lines[-1].split()[:3] == ["the", "whole", "run"]
    assert lines[-1].endswith("100 %")
    assert max(map(len, lines)) <= 80
