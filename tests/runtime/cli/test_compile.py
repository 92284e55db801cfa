"""``understudy compile`` as its users meet it: files, report, exit codes, messages, Ctrl-C."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio

from runtime import open_runtime
from runtime.cli.loading import load_graph
from runtime.cli.main import main
from runtime.lm.predictors.loaded_predictors import PredictorCounts
from runtime.testing import LoopbackHandle, ModelScript, ScriptedLM, field_answer, loopback_process
from tests.runtime.cli.command import interrupt, read_until, start, wait_until

GRAPHS = '''
import attrs

from actors import Graph

print("loaded")


@attrs.frozen
class Question:
    text: str


@attrs.frozen
class Answer:
    word: str


graph = Graph("answering", input=Question, output=Answer)


@graph.predict
async def answer(question: Question) -> Answer:
    """Answer yes."""
    ...


def never(example, prediction, trace=None):
    print("judged")
    return False


broken = Graph("broken", input=Question, output=Answer)
'''
ROWS = "".join(json.dumps({"input": {"text": f"{at}?"}, "output": {"word": "yes"}}) + "\n" for at in range(12))


@pytest.fixture(scope="module")
def provider() -> Iterator[LoopbackHandle]:
    with loopback_process({"yes": field_answer(word="yes"), "slow": ModelScript(field_answer(word="yes"), latency_s=60)}) as p:
        yield p


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, provider: LoopbackHandle) -> Path:
    (tmp_path / "graphs.py").write_text(GRAPHS)
    (tmp_path / "rows.jsonl").write_text(ROWS)
    (tmp_path / "empty.jsonl").touch()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OPENAI_API_KEY", "k")
    monkeypatch.setenv("OPENAI_BASE_URL", f"{provider.url}/v1")
    return tmp_path


def compile_(*more: str, model: str = "openai/yes", graph: str = "graphs.py:graph") -> int:
    return main(["compile", graph, "--trainset", "rows.jsonl", "-o", "out", "--model", model, *more])


def test_the_predictors_are_written_and_the_runtime_uses_them(folder: Path, capsys: pytest.CaptureFixture[str]):
    assert compile_() == 0

    out, err = capsys.readouterr()
    assert out == (
        "answer: Answer: 12 examples: optimised, 8 demonstrations\n"
        "answer: exact 1.000, was 1.000: undecided (+0.000, between +0.000 and +0.000) on the 12 rows of the training set\n"
        "written to out\n"
    )
    assert err.startswith("loaded\n")
    graph = load_graph("graphs.py:graph")
    question = graph.input_types[0]

    async def use() -> object:
        async with open_runtime(lm=ScriptedLM([{"word": "yes"}]), predictors="out") as runtime:
            await runtime.run(graph, question("really?"))
            return runtime.predictor_statistics().nodes

    assert trio.run(use) == {"answering/answer": PredictorCounts(optimized=1)}


@pytest.mark.parametrize("more", [(), ("-q",)])
def test_in_one_place_each_line_is_printed_once(more: tuple[str, ...], folder: Path, monkeypatch: pytest.MonkeyPatch):
    """As with ``> log 2>&1``, where what is told on the way and the report at the end come together."""
    with open("log", "a", 1) as out, open("log", "a", 1) as err:
        monkeypatch.setattr(sys, "stdout", out)
        monkeypatch.setattr(sys, "stderr", err)
        assert compile_("--no-evaluation", *more) == 0
        monkeypatch.undo()

    said = (folder / "log").read_text()
    log = [line for line in said.splitlines() if line and not line.startswith("Bootstrapped") and "%|" not in line]  # DSPy's own
    assert log == ["loaded", "answer: Answer: 12 examples: optimised, 8 demonstrations", "written to out"]


def run_(*more: str, graph: str = "graphs.py:graph") -> int:
    return main(["run", graph, "--input", '{"text": "really?"}', "--model", "openai/yes", "--predictors", "out", *more])


def test_a_run_uses_the_predictors_and_says_so(folder: Path, provider: LoopbackHandle, capsys: pytest.CaptureFixture[str]):
    assert compile_("-q") == 0
    (folder / "out/notes.txt").write_text("mine")
    capsys.readouterr()

    assert run_() == 0

    out, err = capsys.readouterr()
    assert out == '{\n  "word": "yes"\n}\n'
    assert err.endswith("predictors: 1 trained, 0 without; no node's: out/notes.txt\n")
    assert "0?" in json.dumps(provider.snapshot().requests[-1].body)  # a demonstration of the training set
    assert run_("-q") == 0
    assert capsys.readouterr().err == "loaded\n"


def test_a_run_with_predictors_that_cannot_be_used_is_refused(folder: Path, capsys: pytest.CaptureFixture[str]):
    assert run_("-q") == 2
    assert capsys.readouterr().err.startswith("loaded\nunderstudy: predictors='out': there is no such folder.")

    (folder / "out/answering").mkdir(parents=True)
    (folder / "out/answering/answer.json").write_text("[]")
    assert run_("-q") == 2
    assert "out/answering/answer.json: the file: expected an object, got list" in capsys.readouterr().err


def test_a_run_whose_node_has_changed_since_is_refused(folder: Path, capsys: pytest.CaptureFixture[str]):
    assert compile_("-q") == 0
    (folder / "graphs.py").write_text(GRAPHS.replace("Answer yes.", "Answer no."))
    capsys.readouterr()

    assert run_("-q") == 2

    assert "Answer: instruction was 'Answer yes.' and is 'Answer no.'" in capsys.readouterr().err


def test_the_metric_of_the_graphs_own_file_is_used_and_the_file_run_once(folder: Path, capsys: pytest.CaptureFixture[str]):
    assert compile_("--metric", "graphs.py:never", "-q") == 0

    out, err = capsys.readouterr()
    assert out.startswith("answer: Answer: 12 examples: optimised, 8 demonstrations\n")
    assert (err.count("loaded"), err.count("judged")) == (1, 12 + 2 * 12)
    assert "answer: never 0.000, was 0.000: undecided (+0.000, between" in out
    demos = json.loads((folder / "out/answering/answer.json").read_text())["predictors"][0]["steps"]["self"]["demos"]
    assert not any(demo.get("augmented") for demo in demos)


def test_a_metric_of_another_file_is_found(folder: Path):
    (folder / "metrics.py").write_text("def always(example, output, trace):\n    return True\n")

    assert compile_("--metric", "metrics.py:always", "-q") == 0


def test_another_set_of_rows_can_be_evaluated_on_or_none(folder: Path, capsys: pytest.CaptureFixture[str]):
    (folder / "test.jsonl").write_text('{"input": {"text": "Yes?"}, "output": {"word": "yes"}, "id": "a"}\n')

    assert compile_("--testset", "test.jsonl", "-q") == 0
    assert "on the 1 row of the test set\n" in capsys.readouterr().out
    stored = json.loads((folder / "out/answering/answer.json").read_text())["evaluation"]
    assert (stored["data"], stored["rows"], stored["metric"], stored["after"]) == ("test set", 1, "exact", 1.0)
    assert compile_("--no-evaluation", "-q") == 0
    assert "exact" not in capsys.readouterr().out
    assert "evaluation" not in json.loads((folder / "out/answering/answer.json").read_text())


@pytest.mark.slow
def test_gepa_is_an_option(folder: Path, capsys: pytest.CaptureFixture[str]):
    assert compile_("--optimizer", "gepa", "--trials", "15", "--seed", "3") == 0

    assert capsys.readouterr().out.startswith("answer: Answer: 12 examples: optimised, 0 demonstrations\n")


def test_too_few_examples_are_said_and_nothing_is_written(folder: Path, capsys: pytest.CaptureFixture[str]):
    (folder / "rows.jsonl").write_text(ROWS.splitlines()[0])

    assert compile_("-q") == 2

    out, err = capsys.readouterr()
    assert out == "answer: Answer: 1 example: left as it is: fewer than 10\n"
    assert err == "loaded\nunderstudy: nothing was optimised: no node has 10 examples in 'rows.jsonl'\n"
    assert not (folder / "out").exists()


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (["--metric", "graphs.py:gone"], "understudy: 'graphs.py' has no metric 'gone'"),
        (["--metric", "gone.py:x"], "understudy: 'gone.py' does not exist"),
        (
            ["--metric", "gone"],
            (
                "understudy: 'gone' does not name a function: expected FILE.py:NAME or MODULE:NAME, such as metrics.py:score or "
                "package.metrics:score"
            ),
        ),
        (["--trials", "0"], "understudy: argument --trials: expected a whole number above 0. Got: 0"),
        (["--optimizer", "magic"], "invalid choice: 'magic'"),
        (["--testset", "gone.jsonl"], "training set 'gone.jsonl' cannot be read"),
        (["--testset", "empty.jsonl"], "understudy: --testset empty.jsonl: it holds no row to evaluate on"),
        (["-o", "graphs.py"], "understudy: -o graphs.py: it is a file, and the predictors are written into a folder"),
        (["--trainset", "gone.jsonl"], "training set 'gone.jsonl' cannot be read"),
        (["--lm", "big=openai/yes"], "understudy: --lm big=…: no node asks for a language model of that name"),
    ],
)
def test_a_wrong_command_line_gets_one_line_and_exit_code_2(
    more: list[str], words: str, folder: Path, capsys: pytest.CaptureFixture[str]
):
    assert compile_(*more) == 2

    assert words in capsys.readouterr().err


def test_rows_that_do_not_fit_are_named(folder: Path, capsys: pytest.CaptureFixture[str]):
    (folder / "rows.jsonl").write_text('{"input": {"txt": 1}, "output": {"word": "yes"}}')

    assert compile_("-q") == 2

    err = capsys.readouterr().err
    assert "1 of the 1 rows do not fit the graph's nodes." in err
    assert "row 1: question makes no Question: text: missing, expected str" in err


def test_a_graph_with_problems_is_not_compiled(folder: Path, capsys: pytest.CaptureFixture[str]):
    assert compile_(graph="graphs.py:broken") == 2

    assert "broken" in capsys.readouterr().err


@pytest.mark.slow
def test_ctrl_c_ends_it(folder: Path, provider: LoopbackHandle):
    arguments = ["compile", "graphs.py:graph", "--trainset", "rows.jsonl", "-o", "out", "--model", "openai/slow"]
    process = start(arguments, folder, OPENAI_API_KEY="k", OPENAI_BASE_URL=f"{provider.url}/v1")
    read_until(process, "loaded")
    wait_until(lambda: any(request.model == "slow" for request in provider.snapshot().requests))

    code, _, err, _ = interrupt(process)

    assert code == 130
    assert "interrupted" in err
