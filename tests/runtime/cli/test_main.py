"""The command line itself: help, version, and wrong arguments with their exact line."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from runtime.cli.main import main
from tests.patience import PATIENCE_S
from tests.runtime.cli.command import COMMAND, ROOT

GRAPH = """
import attrs
from actors import Graph

@attrs.frozen
class A:
    n: int = 1

@attrs.frozen
class B:
    n: int

g = Graph("g", input=A, output=B)

@g.node
async def same(a: A) -> B:
    return B(a.n)
"""


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        ([], "the following arguments are required: COMMAND (see understudy --help)"),
        (
            ["fly"],
            (
                "argument COMMAND: invalid choice: 'fly' "
                "(choose from 'demo', 'graph', 'compile', 'run', 'evaluate', 'trace', 'runs', 'store', 'serve', "
                "'mcp', 'keys', 'new', 'doctor')"
            ),
        ),
        (["demo", "--loud"], "unrecognized arguments: --loud (see understudy --help)"),
        (["run"], "the following arguments are required: FILE.py:NAME (see understudy run --help)"),
        (["run", "g.py:g", "--lm", "x"], "argument --lm: expected NAME=MODEL, such as large=openai/gpt-4o. Got: x"),
        (["run", "g.py:g", "--timeout", "-1"], "argument --timeout: expected seconds above 0. Got: -1"),
        (["run", "g.py:g", "--timeout", "nan"], "argument --timeout: expected seconds above 0. Got: nan"),
    ],
)
def test_wrong_arguments_get_one_line_and_exit_code_2(
    arguments: list[str], line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 2

    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert err.replace("'", "").startswith(f"understudy: {line}".replace("'", ""))  # Python 3.12 quotes no choices


def test_help_names_the_commands_and_the_exit_codes(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exited:
        main(["--help"])

    assert exited.value.code == 0
    out = capsys.readouterr().out
    assert "\n    demo " in out
    assert "\n    run " in out
    assert "exit codes: 0 it went well, 1 the run failed, 2 the command line is wrong, 130 interrupted" in out


def test_the_version_is_the_distributions(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exited:
        main(["--version"])

    assert exited.value.code == 0
    assert capsys.readouterr().out in {"understudy 0.1.0\n", "understudy (not installed)\n"}


def test_help_waits_for_none_of_the_heavy_libraries() -> None:
    script = "import sys; from runtime.cli.main import main\ntry: main(['run', '--help'])\nexcept SystemExit: pass\n"
    report = "print(sorted({'dspy', 'litellm', 'openai', 'pydantic'}.intersection(sys.modules)), file=sys.stderr)"

    run = subprocess.run([sys.executable, "-c", script + report], cwd=ROOT, capture_output=True, text=True, check=True)

    assert run.stderr == "[]\n"


@pytest.mark.parametrize("arguments", [["run", "g.py:g", "-q"], ["graph", "show", "g.py:g"], ["graph", "describe", "g.py:g"]])
def test_a_reader_that_has_gone_is_no_traceback(arguments: list[str], tmp_path: Path) -> None:
    reading, writing = os.pipe()
    os.close(reading)

    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    (tmp_path / "g.py").write_text(GRAPH)
    run = subprocess.run(
        [*COMMAND, *arguments], cwd=tmp_path, env=environment, stdout=writing, stderr=subprocess.PIPE, check=False
    )
    os.close(writing)

    assert (run.returncode, run.stderr) == (1, b"")


@pytest.mark.slow
@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a device of Linux that takes nothing")
def test_output_on_a_full_disk_is_one_line_and_no_traceback(tmp_path: Path) -> None:
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [*COMMAND, "doctor"], cwd=tmp_path, stdout=full, stderr=subprocess.PIPE, text=True, timeout=PATIENCE_S
        )

    assert done.returncode == 1
    assert done.stderr == "understudy: could not write: [Errno 28] No space left on device\n  Fix: make room.\n"
