"""``understudy run`` as its users meet it: output, exit codes, messages, Ctrl-C."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import termios
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from runtime.cli.loading import MODULE_NAME
from runtime.cli.main import main
from runtime.testing import LoopbackHandle, ModelScript, field_answer, loopback_process, tool_answer
from tests.patience import PATIENCE_S
from tests.runtime.cli.command import COMMAND, ROOT, interrupt, read_until, start, wait_until
from tests.runtime.cli.test_terminal import Terminal

GRAPHS = '''
import time

import attrs
import trio

from actors import Graph

print("loaded")


@attrs.frozen
class Question:
    text: str
    times: int = 1


@attrs.frozen
class Answer:
    text: str


graph = Graph("shout", input=Question, output=Answer)


@graph.node
async def shout(question: Question) -> Answer | None:
    print("shouting")
    if question.text == "none":
        return None
    if question.text == "weather":
        raise OSError("no \\x1b[31mroute\\x1b]0;title\\x07 to\\nhost")
    if question.text == "bug":
        raise ValueError("not like this")
    if question.text == "wait":
        await trio.sleep_forever()
    if question.text == "block":
        time.sleep(60)
    return Answer(question.text.upper() * question.times)


asking = Graph("asking", input=Question, output=Answer)


@asking.predict
async def answer(question: Question) -> Answer:
    """Answer the question."""
    ...


named = Graph("named", input=Question, output=Answer)
named.predict(lm="large")(answer)
empty = Graph("empty", input=Question, output=Answer)
'''


QUOTES = """Fix: write it in single quotes, such as --input '{"text": "…"}', or name a file: --input @FILE"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    (tmp_path / "graphs.py").write_text(GRAPHS)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield tmp_path
    sys.modules.pop(MODULE_NAME, None)


@pytest.fixture(scope="module")
def provider() -> Iterator[LoopbackHandle]:
    agent = [tool_answer("weather", city="Oslo"), tool_answer("multiply", one=4, other=3), field_answer(text="12 degrees")]
    scripts: dict[str, Any] = {"small": field_answer(text="42"), "agent": agent, "slow": ModelScript("late", latency_s=60)}
    with loopback_process(scripts) as handle:
        yield handle


def asked(text: str) -> list[str]:
    return ["--input", json.dumps({"text": text})]


def test_the_output_is_json_on_standard_output_and_nothing_else_is(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "graphs.py:graph", "--input", '{"text": "aé\\u009b", "times": 2}']) == 0

    out, err = capsys.readouterr()
    assert out == '{\n  "text": "AÉ\\u009bAÉ\\u009b"\n}\n'
    assert json.loads(out) == {"text": "AÉ\x9bAÉ\x9b"}
    lines = {line.partition(" s ")[2] or line for line in err.splitlines()}
    assert lines == {"loaded", "shouting", "shout starts", "shout finished"}


def test_a_failed_run_names_node_attempt_and_cause(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "graphs.py:graph", "-q", *asked("weather")]) == 1

    out, err = capsys.readouterr()
    assert out == ""
    said = [line for line in err.splitlines() if line.startswith("understudy: ")]
    assert said == ["understudy: node 'shout' failed (attempt 1): OSError: no route to host"]


def test_a_bug_is_not_tried_again(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "graphs.py:graph", "-q", *asked("bug")]) == 1

    assert "understudy: node 'shout' failed (attempt 1): ValueError: not like this\n" in capsys.readouterr().err


def test_a_run_without_output_says_what_was_missing(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "graphs.py:graph", "-q", *asked("none")]) == 1

    assert capsys.readouterr().err.splitlines()[-2:] == [
        "understudy: graph 'shout' came to rest after 1 step, and nothing had made its output Answer.",
        "  Fix: every branch ended with None; let one of them return the output.",
    ]


def test_a_run_that_takes_too_long_is_given_up(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "graphs.py:graph", "-q", "--timeout", "0.1", *asked("wait")]) == 1

    assert capsys.readouterr().err.splitlines()[-1] == "understudy: no output within 0.1 s (--timeout); at work: shout"


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (
            ["graphs.py"],
            (
                "'graphs.py' does not name a graph: expected FILE.py:NAME or MODULE:NAME, such as graphs.py:graph or "
                "package.graphs:graph"
            ),
        ),
        (["graphs.py:grpah"], "'graphs.py' has no 'grpah'; its graphs: graph, asking, named, empty"),
        (["graphs.py:graph"], "--input does not make a Question: text: missing, expected str"),
        (["graphs.py:graph", "--input", "x"], f"--input is not JSON: Expecting value: line 1 column 1 (char 0). {QUOTES}"),
        (["graphs.py:graph", "-q", "--watch"], "--watch shows progress and -q leaves it out: give one of them"),
        (
            ["graphs.py:asking", *asked("a")],
            "node 'answer' needs a language model: give --model, such as --model openai/gpt-4o-mini",
        ),
        (
            ["graphs.py:named", *asked("a")],
            "node 'answer' asks for the language model 'large': give --lm large=MODEL, or --model for all",
        ),
        (
            ["graphs.py:named", "--lm", "larg=openai/x", *asked("a")],
            "--lm larg=…: no node asks for a language model of that name; asked for: 'large'",
        ),
        (
            ["graphs.py:asking", "--model", "openai/x", *asked("a")],
            "'openai/x' needs a key, and there is none. Fix: set the environment variable OPENAI_API_KEY.",
        ),
        (
            ["graphs.py:asking", "--model", "openai/x", "--api-base", "here", *asked("a")],
            (
                "--api-base: expected an address such as 'https://host/v1', without a user name or password. "
                "Fix: pass the address that the provider's documentation names."
            ),
        ),
    ],
)
def test_what_is_wrong_gets_one_line_and_exit_code_2(arguments: list[str], line: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", *arguments]) == 2

    out, err = capsys.readouterr()
    assert (out, err.removeprefix("loaded\n")) == ("", f"understudy: {line}\n")


def test_an_unknown_provider_is_refused_before_anything_runs(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "graphs.py:asking", "--model", "nonsense", *asked("a")]) == 2

    (line,) = capsys.readouterr().err.removeprefix("loaded\n").splitlines()
    assert line.startswith("understudy: model 'nonsense': LiteLLM knows no provider for this model. Fix: ")
    assert "LMClient" not in line


def test_a_graph_with_problems_is_refused_with_all_of_them(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "graphs.py:empty", *asked("a")]) == 2

    assert "understudy: graph 'empty' has 1 problem:\n  1. it has no nodes.\n" in capsys.readouterr().err


@pytest.mark.parametrize("models", [["--model", "openai/small"], ["--lm", "large=openai/small"]])
def test_models_are_reached_at_the_address_given(
    models: list[str], provider: LoopbackHandle, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "none")

    assert main(["run", "graphs.py:named", "-q", *models, "--api-base", provider.api_base, *asked("6 x 7?")]) == 0

    assert json.loads(capsys.readouterr().out) == {"text": "42"}


def test_what_a_provider_says_is_part_of_the_failure(
    provider: LoopbackHandle, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "none")

    model = ["--model", "openai/unheard-of", "--api-base", provider.api_base]
    assert main(["run", "graphs.py:asking", "-q", *model, *asked("a")]) == 1

    (line,) = (line for line in capsys.readouterr().err.splitlines() if line.startswith("understudy: "))
    assert line.startswith("understudy: node 'answer' failed (attempt 1): LMBadRequest: 'openai/unheard-of', request 1 of 3: ")


def test_watching_outside_a_terminal_tells_each_call_too(
    provider: LoopbackHandle, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "none")

    model = ["--model", "openai/small", "--api-base", provider.api_base]
    assert main(["run", "graphs.py:asking", "--watch", *model, *asked("a")]) == 0

    lines = [line.partition(" s ")[2] for line in capsys.readouterr().err.splitlines()[1:]]
    assert [line.partition(":")[0] for line in lines] == ["answer starts", "answer called openai/small", "answer finished"]


def test_watching_an_agent_tells_its_calls_and_its_tools_in_their_order(
    provider: LoopbackHandle, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "none")

    model = ["--model", "openai/agent", "--api-base", provider.api_base]
    assert main(["run", f"{ROOT}/docs/examples/react.py:graph", "--watch", *model, *asked("How warm, times three?")]) == 0

    out, err = capsys.readouterr()
    lines = [line.partition(" s ")[2] for line in err.splitlines() if " answer " in line]
    assert [re.split(r":| in \d", line)[0] for line in lines] == [
        "answer starts",
        "answer called openai/agent",
        "answer called the tool weather",
        "answer called openai/agent",
        "answer called the tool multiply",
        "answer called openai/agent",
        "answer finished",
    ]
    assert json.loads(out) == {"text": "12 degrees"}


def test_watching_on_a_terminal_shows_the_nodes_there_and_the_output_elsewhere(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("TERM", "xterm")

    assert main(["run", "graphs.py:graph", "--watch", *asked("a")]) == 0

    assert json.loads(capsys.readouterr().out) == {"text": "A"}
    assert re.search(r"shout · .* s · .*succeeded.* · 1 message", terminal.text())
    assert re.search(r"shout +.*done", terminal.text())
    assert terminal.text().index("shouting\n") < terminal.text().rindex("succeeded")


def test_watching_without_rich_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setitem(sys.modules, "runtime.cli.live_view", None)

    assert main(["run", "graphs.py:graph", "--watch", *asked("a")]) == 2

    line = "understudy: --watch needs rich, which is not installed. Fix: pip install 'understudy[watch]'"
    assert terminal.text().splitlines()[-1] == line


@pytest.mark.slow
def test_ctrl_c_leaves_a_watched_terminal_as_it_was(folder: Path) -> None:
    ours, theirs = os.openpty()
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "TERM": "xterm", "PYTHONIOENCODING": "utf-8"}
    command = [*COMMAND, "run", "graphs.py:graph", "-w", *asked("wait")]
    process = subprocess.Popen(command, cwd=folder, env=environment, stdin=theirs, stdout=subprocess.DEVNULL, stderr=theirs)
    before, said = termios.tcgetattr(theirs), ""
    while "running" not in said:
        said += os.read(ours, 65536).decode()

    process.send_signal(signal.SIGINT)

    assert process.wait(PATIENCE_S) == 130
    said += os.read(ours, 65536).decode()
    assert said.endswith("understudy: interrupted\r\n")
    assert said.rfind("\x1b[?25h") > said.rfind("\x1b[?25l")
    assert termios.tcgetattr(theirs) == before


@pytest.mark.slow
def test_ctrl_c_closes_the_request_at_the_provider_and_ends_the_process(provider: LoopbackHandle, folder: Path) -> None:
    provider.clear()
    model = ["--model", "openai/slow", "--api-base", provider.api_base]
    process = start(["run", "graphs.py:asking", *model, *asked("a")], folder, OPENAI_API_KEY="none")
    wait_until(lambda: bool(provider.snapshot().requests))

    code, out, err, took_s = interrupt(process)

    assert (code, out, err.splitlines()[-1]) == (130, "", "understudy: interrupted")
    assert "Traceback" not in err
    assert took_s < 2
    wait_until(lambda: provider.snapshot().requests[0].cancelled_by_client)


@pytest.mark.slow
def test_ctrl_c_ends_a_node_that_holds_the_event_loop(folder: Path) -> None:
    process = start(["run", "graphs.py:graph", *asked("block")], folder)
    read_until(process, "shouting")

    code, _, err, took_s = interrupt(process)

    assert (code, err) == (130, "understudy: interrupted\n")
    assert took_s < 2


def test_bytes_in_an_output_are_written_as_an_input_reads_them(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "parcels.py"
    file.write_text(
        "import attrs\n"
        "from actors import Graph\n"
        "@attrs.frozen\nclass Parcel:\n    content: bytes\n"
        "@attrs.frozen\nclass Sent:\n    content: bytes\n"
        "graph = Graph('post', input=Parcel, output=Sent)\n"
        "@graph.node\nasync def send(parcel: Parcel) -> Sent:\n    return Sent(parcel.content)\n"
    )

    main(["run", f"{file}:graph", "--input", '{"content": "/wBhYg=="}', "-q"])
    first = capsys.readouterr().out
    main(["run", f"{file}:graph", "--input", first, "-q"])

    assert json.loads(first) == {"content": "/wBhYg=="}
    assert capsys.readouterr().out == first
