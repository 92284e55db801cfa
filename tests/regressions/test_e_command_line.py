"""First contact with the command line: what a failed run says, what is said twice, what is counted."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import attrs
import pytest

from actors import Actor, DeclarationError, Graph, UsageError
from runtime import open_runtime
from runtime.cli.loading import MODULE_NAME
from runtime.cli.main import main
from tests.benchmarks import __main__ as benchmarks
from tests.runtime.cli.command import COMMAND, ROOT
from tests.warm import SESSIONS, warm

GRAPH = """
import attrs
from actors import Graph

@attrs.frozen
class In:
    v: int

@attrs.frozen
class Out:
    v: int

graph = Graph("g", input=In, output=Out)

@graph.node
async def halve(x: In) -> Out:
    return Out(helper(x.v))

def helper(v: int) -> int:
    return {}[v]
"""


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setattr(sys, "path", list(sys.path))
    path = tmp_path / "graphs.py"
    path.write_text(GRAPH)
    yield path
    sys.modules.pop(MODULE_NAME, None)


def test_e2_a_failed_run_names_the_line_and_the_input(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code = main(["run", f"{file}:graph", "--input", '{"v": 7}', "-q"])

    said = capsys.readouterr().err.splitlines()
    assert code == 1
    assert said[-4] == "understudy: node 'halve' failed (attempt 1): KeyError: 7"
    assert said[-3] == f"  at {file}:20 in helper: return {{}}[v]"
    assert said[-2] == "  input: In(v=7)"
    assert said[-1] == "  --traceback shows where each error was raised"


def test_e2_the_traceback_is_shown_when_it_is_asked_for(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code = main(["run", f"{file}:graph", "--input", '{"v": 7}', "-q", "--traceback"])

    said = capsys.readouterr().err
    assert code == 1
    assert re.search(r'File ".*graphs.py", line 17, in halve\n.*\n.*\n.*line 20, in helper', said)
    assert "--traceback" not in said


@pytest.mark.parametrize(
    "module",
    [
        "tests.benchmarks",
        *(
            f"tests.benchmarks.{each}"
            for each in (
                *("lm_calls", "crossing", "duel", "growth", "journals", "journal_costs", "durable_steps"),
                *("placement_costs", "profiled", "sizing", "verdicts"),
            )
        ),
    ],
)
def test_e3_help_of_a_benchmark_runs_nothing(module: str) -> None:
    done = warm(*SESSIONS).module(ROOT, module, "--help")

    assert done.stdout.startswith(f"usage: python -m {module} ")
    assert done.returncode == 0


def test_e3_every_benchmark_with_a_command_is_tried() -> None:
    folder = Path(benchmarks.__file__).parent
    commands = [file.stem for file in folder.glob("*.py") if "parse_args" in file.read_text(encoding="utf-8")]

    assert sorted(commands) == [
        "__main__",
        "beside",
        "crossing",
        "duel",
        "durable_steps",
        "evaluations",
        "failing_share",
        "first_calls",
        "growth",
        "journal_costs",
        "journals",
        "lm_calls",
        "placed_calls",
        "placement_costs",
        "profiled",
        "service",
        "sizing",
        "verdicts",
    ]


@pytest.mark.slow
@pytest.mark.chaos
def test_e4_a_redirected_demo_says_each_heading_once() -> None:
    done = subprocess.run(
        [*COMMAND, "demo", "--fast"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=240, check=True
    )

    headings = [line for line in done.stdout.splitlines() if re.match(r"\([a-e]\) ", line)]
    assert [heading[:3] for heading in headings] == ["(a)", "(b)", "(c)", "(d)", "(e)"]


def test_e5_one_of_a_thing_is_counted_in_the_singular(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["graph", "check", f"{file}:graph"])
    main(["graph", "describe", f"{file}:graph"])

    said = capsys.readouterr().out
    assert "graph 'g' has no problems: 1 node, " in said
    assert "in 1 node." in said
    assert not re.search(r"\b1 [a-z]+s\b", said)


@attrs.frozen
class In:
    v: int


@attrs.frozen
class Out:
    v: int


@pytest.mark.parametrize(
    "run_id", ["../x", "a/b", "a\\b", "a\x00b", "a\nb", "\x1b[31m", "..", ".", "  ", "", "x" * 10_000, 7, "\u2028"]
)
async def test_e10_a_run_id_that_could_not_stand_in_a_path_is_refused(run_id: object) -> None:
    graph = Graph("g", input=In, output=Out)

    @graph.node
    async def same(x: In) -> Out:
        return Out(x.v)

    async with open_runtime() as runtime:
        with pytest.raises(UsageError, match="run_id=") as refused:
            await runtime.start(graph, In(1), run_id=run_id)  # type: ignore[arg-type]

    assert len(str(refused.value)) < 400
    assert str(refused.value).splitlines()[0].isprintable()


async def test_e10_a_run_id_of_other_languages_is_taken() -> None:
    graph = Graph("g", input=In, output=Out)

    @graph.node
    async def same(x: In) -> Out:
        return Out(x.v)

    async with open_runtime() as runtime:
        handle = await runtime.start(graph, In(1), run_id="bestellung-ä-7.語:1")

        assert handle.id == "bestellung-ä-7.語:1"
        assert await handle.result() == Out(1)


class Idle(Actor):
    async def receive(self, message: object) -> None:
        pass


async def test_e10_the_name_of_an_actor_is_bounded_too() -> None:
    async with open_runtime() as runtime:
        with pytest.raises(DeclarationError, match="it has 10000 characters, at most 200 are allowed"):
            await runtime.spawn(Idle, name="x" * 10_000)


def test_e9_no_system_is_claimed_that_our_own_calls_rule_out() -> None:
    """``select`` on a pipe and process groups exist on POSIX only."""
    sources = [file.read_text(encoding="utf-8") for name in ("actors", "runtime") for file in (ROOT / name).rglob("*.py")]
    needs_posix = any("os.killpg" in source or "selectors." in source for source in sources)
    claimed = [
        line for line in (ROOT / "pyproject.toml").read_text(encoding="utf-8").splitlines() if "Operating System ::" in line
    ]

    assert needs_posix
    assert claimed
    assert not any("OS Independent" in line or "Windows ::" in line for line in claimed)
