"""``understudy runs resume``, ``fork``, ``answer`` and ``send``."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio

from runtime import QuestionAsked, open_runtime
from runtime.cli.loading import MODULE_NAME, load_graph
from runtime.cli.main import main

GRAPH = '''
import attrs

from actors import Effect, Graph


@attrs.frozen
class Order:
    number: int


@attrs.frozen
class Approved:
    by: str


@attrs.frozen
class Rejected:
    why: str


@attrs.frozen
class Extra:
    n: int


@attrs.frozen
class Sent:
    text: str


graph = Graph("letters", input=Order, output=Sent, signals=Extra)


@graph.human
async def approve(order: Order) -> Approved | Rejected:
    """May it be sent?"""
    raise NotImplementedError


@graph.node
async def note(extra: Extra) -> None:
    print("noted", extra.n)


@graph.node
async def stop(no: Rejected) -> Sent:
    return Sent(f"not sent: {no.why}")


@graph.node(effect=Effect.ONCE)
async def send(ok: Approved) -> Sent:
    if ok.by == "fail":
        raise OSError("the post is closed")
    return Sent(f"sent, says {ok.by}")
'''
THERE = ("--store", "runs.db", "--graph", "letters.py:graph")


@pytest.fixture(autouse=True)
def _there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    (tmp_path / "letters.py").write_text(GRAPH)
    yield
    sys.modules.pop(MODULE_NAME, None)


@pytest.fixture
def question() -> str:
    """What a run asks that waits in the store."""

    async def begin() -> str:
        graph = load_graph("letters.py:graph")
        (order,) = graph.input_types
        async with open_runtime(store="runs.db", graphs=[graph], take_up=False) as runtime:
            async with runtime.events(lambda event: isinstance(event, QuestionAsked)) as events:
                await runtime.start(graph, order(7), run_id="order-7")
                async for event in events:
                    assert isinstance(event, QuestionAsked)
                    return event.question
        raise AssertionError

    return trio.run(begin)


def command(*arguments: str) -> int:
    return main(["runs", *arguments, *THERE])


def test_a_question_is_answered_and_the_run_goes_on_here(question: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert command("send", "order-7", '{"n": 3}', "--key", "k") == 0
    assert command("send", "order-7", '{"n": 3}', "--key", "k") == 0
    assert command("answer", question, '{"by": "anna"}', "--by", "anna") == 0
    told = capsys.readouterr().out
    assert told.splitlines()[:2] == ["run order-7 has it", "run order-7 had a signal with the key k before: nothing was sent"]
    assert command("answer", question, '{"by": "berta"}') == 1
    assert "has its answer" in capsys.readouterr().err

    assert command("resume", "order-7", "--adopt") == 0
    assert json.loads(capsys.readouterr().out) == {"text": "sent, says anna"}


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["answer", "{}", '{"bi": "anna"}'], 2, "Approved: by: missing, expected str"),
        (["answer", "{}", "anna"], 2, "Fix: write it in single quotes"),
        (["answer", "{}", "@nowhere.json"], 2, "cannot be read"),
        (["answer", "nothing", '{"by": "anna"}'], 1, "Fix: give the id of one of"),
        (["send", "order-7", '{"m": 1}'], 2, "no field of Extra"),
        (["send", "order-8", '{"n": 1}'], 1, "Fix: give the run_id"),
        (["send", "order-7", '{"n": 1}', "--key", "\n"], 2, "Fix: the id of the event"),
        (["resume", "order-7"], 2, "Fix: nothing: it continues on its own"),
        (["resume", "order-8"], 1, "no run 'order-8' is stored"),
        (["resume", "order-7", "--uncertain", "send"], 2, "expected PATH=VALUE"),
        (["resume", "order-7", "--uncertain", "letters/nix/0={}"], 2, "Fix: `understudy runs show`"),
        (["resume", "order-7", "--uncertain", "letters/send/0=maybe"], 2, "is not JSON"),
        (["resume", "order-7", "--uncertain", 'letters/send/0={"texts": "x"}'], 2, "text: missing"),
        (["resume", "order-7", "--uncertain", "letters/send/0=3"], 2, "node 'send' makes Sent"),
        (["fork", "order-7", "--before", "letters/foo/0"], 2, "Recorded: letters/approve/0"),
        (["fork", "order-7", "--new-id", "a/b"], 2, "cannot stand in it"),
    ],
)
def test_wrong_input_is_told_with_what_to_do(
    arguments: list[str], code: int, words: str, question: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command(*(question if each == "{}" else each for each in arguments)) == code

    shown = capsys.readouterr()
    assert words in shown.err
    assert shown.out == ""


def test_a_run_that_failed_is_resumed_and_forked_with_another_result(question: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert command("answer", question, '{"Approved": {"by": "fail"}}') == 0
    capsys.readouterr()
    assert command("resume", "order-7", "--adopt") == 1
    assert "the post is closed" in capsys.readouterr().err

    assert command("fork", "order-7", "--edit", 'letters/approve/0={"Rejected": {"why": "no money"}}', "--new-id", "other") == 0
    shown = capsys.readouterr()
    assert json.loads(shown.out) == {"text": "not sent: no money"}
    assert "run other is a fork of order-7" in shown.err

    assert command("fork", "order-7", "--before", "letters/approve/0", "--new-id", "again") == 0
    told = capsys.readouterr().out.splitlines()
    assert told[0] == "run again waits:"
    assert told[1].endswith("at letters/approve/0, answers Approved, Rejected")


def test_a_step_that_was_cut_short_is_decided(question: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert command("answer", question, '{"by": "anna"}') == 0

    async def cut_short() -> None:
        graph = load_graph("letters.py:graph")
        with trio.CancelScope() as scope:
            vars(sys.modules[MODULE_NAME])["scope"] = scope
            async with open_runtime(store="runs.db", graphs=[graph]):
                await trio.sleep_forever()

    slow = GRAPH.replace('if ok.by == "fail"', "scope.cancel()\n    await trio.sleep(60)\n    if not ok")
    (Path.cwd() / "letters.py").write_text(f"import trio\n{slow}")
    trio.run(cut_short)
    (Path.cwd() / "letters.py").write_text(GRAPH)
    capsys.readouterr()

    assert command("resume", "order-7", "--adopt") == 1
    assert "letters/send/0=repeat" in capsys.readouterr().err
    assert command("resume", "order-7", "--adopt", "--uncertain", 'letters/send/0={"text": "by hand"}') == 0
    assert json.loads(capsys.readouterr().out) == {"text": "by hand"}
    assert command("resume", "order-7") == 2
    assert "the run is succeeded" in capsys.readouterr().err


def test_a_run_is_left_to_other_workers(question: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert command("resume", "order-7", "--adopt", "--elsewhere") == 0

    assert capsys.readouterr().out == "run order-7 is left to a worker that has deployed graph letters\n"


PAYING = '''
import attrs

from actors import Graph
from runtime.tools import tool


@attrs.frozen
class Order:
    number: int


@attrs.frozen
class Sent:
    text: str


@tool(approve=True)
async def pay(to: str, amount: int = 5) -> str:
    """Pay somebody."""
    return "paid"


graph = Graph("paying", input=Order, output=Sent)


@graph.predict(tools=[pay])
async def decide(order: Order) -> Sent:
    """Pay what is ordered."""
    ...
'''
ASKS = """
import paying, trio

from runtime import open_runtime
from runtime.testing import ScriptedLM


async def main():
    call = {"id": "1", "name": "pay", "arguments": {"to": "Anna"}}
    lm = ScriptedLM([{"role": "assistant", "content": None, "tool_calls": [call]}])
    async with open_runtime(store="runs.db", graphs=[paying.graph], lm=lm) as runtime:
        await runtime.start(paying.graph, paying.Order(7))
        while not (questions := await runtime.questions()):
            await trio.lowlevel.checkpoint()
        print(questions[0].id)


trio.run(main)
"""


@pytest.mark.slow
def test_a_call_of_a_tool_is_agreed_to_from_a_process_that_never_ran_the_graph(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "paying.py").write_text(PAYING)
    run = subprocess.run(
        [sys.executable, "-c", ASKS],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), *sys.path])},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    options = (run.stdout.strip(), "--store", "runs.db", "--graph", "paying.py:graph")

    assert main(["runs", "answer", *options[:1], '{"to": "Bob", "amount": "x"}', *options[1:]]) == 2
    assert "Pay: amount: expected int, got 'x'" in capsys.readouterr().err
    assert main(["runs", "answer", *options[:1], '{"to": "Bob", "amount": 7}', *options[1:]]) == 0
    assert "is answered" in capsys.readouterr().out
