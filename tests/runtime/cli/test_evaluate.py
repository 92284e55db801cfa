"""The command ``understudy evaluate``."""

from __future__ import annotations

import json
import runpy
import textwrap
from pathlib import Path
from typing import Any

import pytest
from trio.testing import MockClock

from runtime import open_runtime
from runtime.cli.main import main
from runtime.evaluate import Dataset, compare
from runtime.testing import ScriptedLM, field_answer, loopback_process

GRAPHS = """
import attrs
from actors import Graph

@attrs.frozen
class Sum:
    left: int
    right: int

@attrs.frozen
class Total:
    value: int

graph = Graph("sums", input=Sum, output=Total)
old = Graph("old", input=Sum, output=Total)

@graph.node
async def add(given: Sum) -> Total:
    return Total(given.left + given.right)

@old.node
async def add_roughly(given: Sum) -> Total:
    return Total(given.left + given.right + given.left % 2)

def close(example, output, trace):
    assert isinstance(output, Total)
    return 1 - min(1, abs(output.value - example.expected))
"""

ASKING = """
import attrs
from actors import Graph

@attrs.frozen
class Question:
    text: str

@attrs.frozen
class Answer:
    word: str

graph = Graph("asking", input=Question, output=Answer)

@graph.predict
async def answer(question: Question) -> Answer:
    '''Answer yes.'''
    raise NotImplementedError
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("OPENAI_API_KEY", "k")
    (tmp_path / "sums.py").write_text(textwrap.dedent(GRAPHS))
    lines = [json.dumps({"left": at, "right": 1, "expected": at + 1}) for at in range(40)]
    (tmp_path / "cases.jsonl").write_text("\n".join([*lines, '{"left": "x", "right": 1}']))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_it_prints_and_writes_what_it_found(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    more = ["--out", "new.jsonl", "--html", "page.html", "--junit", "report.xml"]

    assert main(["evaluate", "sums.py:graph", "--data", "cases.jsonl", *more]) == 0

    out, err = capsys.readouterr()
    assert "sums: 40 rows, 40 runs, 0 failed\n  exact  1.000 ± 0.000\n" in out
    assert "left out cases.jsonl, line 41: left: expected int, got 'x'" in out
    assert "40 of 40, mean 1.000, $0.0000, 0 left" in err
    assert len((folder / "new.jsonl").read_text().splitlines()) == 41
    assert (folder / "page.html").read_text().startswith("<!doctype html>")
    assert 'tests="40"' in (folder / "report.xml").read_text()


@pytest.mark.parametrize(("count", "lines"), [(1, 1), (3, 3), (10, 10), (19, 10), (40, 10)])
def test_there_is_a_line_for_each_tenth(count: int, lines: int, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Of 19 rows, each had its own."""
    cases = folder / "cases.jsonl"
    cases.write_text("\n".join(cases.read_text().splitlines()[:count]))

    assert main(["evaluate", "sums.py:graph", "--data", "cases.jsonl"]) == 0

    told = capsys.readouterr().err.splitlines()
    assert len(told) == lines
    assert told[-1].startswith(f"{count} of {count}, ")


def test_a_change_for_the_worse_fails_the_build(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evaluate", "sums.py:graph", "--data", "cases.jsonl", "--out", "good.jsonl", "-q"]) == 0
    assert main(["evaluate", "sums.py:old", "--data", "cases.jsonl", "--against", "good.jsonl", "--fail-if", "worse", "-q"]) == 1
    assert (
        main(["evaluate", "sums.py:graph", "--data", "cases.jsonl", "--against", "good.jsonl", "--fail-if", "worse", "-q"]) == 0
    )
    same = ["--against", "good.jsonl", "--fail-if", "not-better", "-q"]
    assert main(["evaluate", "sums.py:graph", "--data", "cases.jsonl", *same]) == 1

    out = capsys.readouterr().out
    assert "exact: worse (-0.500, between" in out
    assert "exact: undecided (+0.000, between +0.000 and +0.000) after 40 of 40 rows" in out


def test_two_graphs_of_one_file_are_compared_until_it_is_clear(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--versus", "sums.py:old", "--data", "cases.jsonl", "--metric", "sums.py:close", "-q"]

    assert main(["evaluate", "sums.py:graph", *options]) == 0

    assert "close: better (+" in capsys.readouterr().out


def test_models_and_predictors_are_compared_on_one_graph(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "asking.py").write_text(textwrap.dedent(ASKING))
    (folder / "none").mkdir()
    (folder / "cases.jsonl").write_text("".join(json.dumps({"text": f"{at}?", "expected": "yes"}) + "\n" for at in range(30)))
    models = {"yes": field_answer(word="yes"), "no": field_answer(word="no")}
    with loopback_process(models) as provider:
        shared = ["--data", "cases.jsonl", "--api-base", f"{provider.url}/v1", "-q"]
        better = main(["evaluate", "asking.py:graph", "--model", "openai/yes", "--versus-model", "openai/no", *shared])
        predictors = ["--predictors", "none", "--versus-predictors", "none"]
        same = main(["evaluate", "asking.py:graph", "--model", "openai/yes", *predictors, *shared])

    out, err = capsys.readouterr()
    assert (better, same) == (0, 0), err
    assert "exact: better (+1.000, between" in out
    assert "exact: undecided (+0.000, between" in out


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--data", "none.jsonl"], "data set 'none.jsonl' cannot be read"),
        (["--data", "sums.py"], "'sums.py' holds no row for graph 'sums', which takes Sum"),
        (["--data", "cases.jsonl", "--metric", "sums.py:nope"], "has no metric 'nope'"),
        (["--data", "cases.jsonl", "--fail-if", "worse"], "nothing to compare with"),
        (["--data", "cases.jsonl", "--against", "cases.jsonl"], "isn't the file of an evaluation"),
        (["--data", "cases.jsonl", "--out", "no/such/folder/x.jsonl"], "its folder does not exist"),
        (["--data", "cases.jsonl", "--html", "."], "--html .: it is a folder"),
        (["--data", "cases.jsonl", "--html", "cases.jsonl"], "--html cases.jsonl: it is the file of --data"),
        (["--data", "cases.jsonl", "--out", "x.jsonl", "--junit", "./x.jsonl"], "--junit ./x.jsonl: it is the file of --out"),
        (["--data", "cases.jsonl", "--error", "3"], "expected a probability between 0 and 1"),
        (["--data", "cases.jsonl", "--expects", "0"], "expected a share between 0 and 1"),
        (["--data", "cases.jsonl", "--max-cost", "-1"], "expected an amount above 0, in US dollars"),
        (["--data", "cases.jsonl", "--versus", "sums.py:old", "--out", "x"], "keeps no results"),
        (["--data", "cases.jsonl", "--versus", "sums.py:old", "--against", "x"], "choose one"),
    ],
)
def test_wrong_usage_is_explained(folder: Path, options: list[str], words: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evaluate", "sums.py:graph", *options]) == 2

    assert words in capsys.readouterr().err


def test_a_metric_that_always_raises_is_no_score_of_zero(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "unlabelled.jsonl").write_text('{"left": 1, "right": 1}\n{"left": 2, "right": 1}\n')

    assert main(["evaluate", "sums.py:graph", "--data", "unlabelled.jsonl", "-q"]) == 1

    out = capsys.readouterr().out
    assert out.startswith("sums: 2 rows, 2 runs, 0 failed\n")
    assert "  exact raised for 2 of 2 runs: AttributeError: example '1' has no label or field 'expected'" in out


TICKETS = Path(__file__).parents[3] / "docs/examples/tickets"


def test_the_example_has_a_data_set_of_its_own_and_its_page_shows_what_it_prints(capsys: pytest.CaptureFixture[str]) -> None:
    graph, metric = f"{TICKETS}/tickets.py:rules", f"{TICKETS}/tickets.py:right"

    assert main(["evaluate", graph, "--data", f"{TICKETS}/cases.jsonl", "--metric", metric, "-q"]) == 0

    out = capsys.readouterr().out
    page = (TICKETS.parents[1] / "how-to/evaluate.md").read_text(encoding="utf-8")
    told = out[: out.index("  latency")]
    assert told.startswith("tickets-by-rules: 48 rows, 48 runs, 0 failed\n  right  0.562")
    assert told in page


async def test_the_graph_that_asks_in_the_example_is_better_with_a_model_that_knows(autojump_clock: MockClock) -> None:
    example = runpy.run_path(str(TICKETS / "tickets.py"))
    data = Dataset.load(TICKETS / "cases.jsonl", example["rules"])
    known = {each.input.text: each.expected for each in data}

    def answer(messages: Any) -> Any:
        return {"name": next(topic for text, topic in known.items() if text in str(messages[-1]["content"]))}

    async with open_runtime(lm=ScriptedLM(answer)) as runtime:
        found = await compare(runtime, example["rules"], example["asked"], data, example["right"])

    assert (found.verdict, len(data), data.bad) == ("better", 48, ())
    assert found.rows < 48
