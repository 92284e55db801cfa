"""``understudy new``: what it makes runs as it is."""

from __future__ import annotations

import ast
import importlib.util
import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from runtime.cli import new
from runtime.cli.main import main
from runtime.cli.wrong_usage import WrongUsage
from tests.runtime.cli.command import ROOT, start


def here(place: Path) -> dict[str, str]:
    """Every file under `place`, and its text."""
    return {
        str(path.relative_to(place)): path.read_text("utf-8")
        for path in place.rglob("*")
        if path.is_file() and path.suffix != ".pyc"
    }


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project as the command has made it."""
    place = tmp_path_factory.mktemp("work") / "tea-reviews"
    assert new.run(new.Options("tea-reviews", str(place))) == 0
    return place


def run(project: Path, *command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *command],
        cwd=project,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_it_makes_a_package_a_test_and_a_service(project: Path) -> None:
    assert sorted(here(project)) == [
        ".gitignore",
        "README.md",
        "pyproject.toml",
        "tea_reviews/__init__.py",
        "tea_reviews/graph.py",
        "tea_reviews/service.py",
        "tests/test_graph.py",
    ]
    assert not [name for name, text in here(project).items() if "$package" in text or "$project" in text]
    assert [path.name for path in project.parent.iterdir()] == ["tea-reviews"], "no draft is left beside it"


@pytest.mark.slow
def test_its_tests_pass_as_they_are(project: Path) -> None:
    tests = run(project, "-m", "pytest", "-q", "-p", "no:cacheprovider")

    assert tests.returncode == 0, tests.stdout + tests.stderr
    assert "2 passed" in tests.stdout


def test_its_graph_is_in_order(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["graph", "check", f"{project / 'tea_reviews' / 'graph.py'}:graph"]) == 0
    assert main(["graph", "show", f"{project / 'tea_reviews' / 'graph.py'}:graph"]) == 0
    assert "claims" in capsys.readouterr().out


@pytest.mark.slow
def test_its_service_answers(project: Path) -> None:
    """Served in a process of its own, as the README of the project says; asked over HTTP."""
    program = (
        "import sys, urllib.request, subprocess, os\n"
        "server = subprocess.Popen([sys.executable, '-m', 'tea_reviews.service'], stdout=subprocess.PIPE, text=True,\n"
        "    env={**os.environ, 'PORT': '0', 'MODEL': 'hosted_vllm/tea', 'HOSTED_VLLM_API_BASE': 'http://127.0.0.1:9/v1'})\n"
        "try:\n"
        "    address = server.stdout.readline().split()[1].partition('/v1/')[0]\n"
        "    print(urllib.request.urlopen(address + '/v1/graphs', timeout=60).read().decode())\n"
        "finally:\n"
        "    server.terminate()\n"
        "    server.wait(60)\n"
    )

    asked = run(project, "-c", program)

    assert asked.returncode == 0, asked.stderr
    assert '"tea_reviews"' in asked.stdout


def test_every_file_is_python_that_parses(project: Path) -> None:
    for name, text in here(project).items():
        if name.endswith(".py"):
            ast.parse(text, name)


@pytest.mark.parametrize("name", ["", "Tea", "1tea", "tea cup", "tée", "../tea", "a" * 65, "class", "tea/cup", "-tea"])
def test_a_name_that_is_no_package_is_an_error(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)

    with pytest.raises(WrongUsage, match="becomes a Python package"):
        new.run(new.Options(name))

    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("name", "ends"),
    [
        ("Tea Reviews!", r"Got: 'Tea Reviews!'\. Fix: understudy new tea-reviews$"),
        ("1tea", "Got: '1tea'$"),
        ("class", "'class' is a word of Python's own: give another NAME$"),
        ("Class", "Got: 'Class'$"),
    ],
)
def test_a_name_that_nearly_is_one_is_told_with_the_one_to_write(name: str, ends: str) -> None:
    with pytest.raises(WrongUsage, match=ends):
        new.run(new.Options(name))


@pytest.mark.parametrize("name", ["json", "actors", "runtime", "tests", "understudy"])
def test_a_name_that_hides_another_package_is_an_error(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)

    with pytest.raises(WrongUsage, match="would hide"):
        new.run(new.Options(name))

    assert list(tmp_path.iterdir()) == []


def test_what_is_there_already_stays(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "tea").mkdir()
    (tmp_path / "tea" / "mine.txt").write_text("mine")

    assert main(["new", "tea", "--folder", str(tmp_path / "tea")]) == 2

    assert "is there already" in capsys.readouterr().err
    assert here(tmp_path) == {"tea/mine.txt": "mine"}


def test_nothing_is_left_when_the_disk_is_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write = Path.write_text

    def full(path: Path, text: str, encoding: str | None = None) -> int:
        if path.name == "service.py":
            raise OSError(28, "No space left on device")
        return write(path, text, encoding)

    monkeypatch.setattr(Path, "write_text", full)

    with pytest.raises(WrongUsage, match="No space left on device"):
        new.run(new.Options("tea", str(tmp_path / "tea")))

    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(WrongUsage, match="isn't a folder"):
        new.run(new.Options("tea", str(tmp_path / "no" / "tea")))


def test_the_command_says_what_to_do_next(tmp_path: Path) -> None:
    process = start(["new", "tea"], tmp_path)
    out, err = process.communicate(timeout=60)

    assert (process.returncode, err) == (0, "")
    assert "cd tea" in out
    assert "python -m pytest" in out
    assert (tmp_path / "tea" / "tea" / "graph.py").is_file()


def test_its_commands_can_be_typed_as_they_are(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    place = tmp_path / "my tea's"

    assert new.run(new.Options("tea", str(place))) == 0

    [line] = [line.split("  #")[0] for line in capsys.readouterr().out.splitlines() if line.startswith("  cd ")]
    assert shlex.split(line) == ["cd", str(place)]


@pytest.mark.parametrize(
    ("absent", "line"),
    [
        ({"pytest_trio"}, "pip install 'understudy[testing]'"),
        ({"pytest_trio", "hypercorn"}, "pip install 'understudy[testing,serve]'"),
        (set[str](), None),
    ],
)
def test_extras_that_are_missing_are_the_first_thing_to_do(
    absent: set[str], line: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Else the next command would end with Python's own words: No module named pytest."""
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name in absent else object())

    assert new.run(new.Options("tea", str(tmp_path / "tea"))) == 0

    steps = capsys.readouterr().out.splitlines()[2:]
    assert [step.split("  #")[0].strip() for step in steps if "pip install" in step] == ([line] if line else [])
    assert "pip install" in steps[1] or line is None
