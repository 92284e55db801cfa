"""The wheel, built from the sources as they are: its metadata, its files, its command."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Iterator
from email.message import Message
from email.parser import Parser
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
SOURCES = ("pyproject.toml", "README.md", "LICENSE", "actors", "runtime")


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file of the wheel, built in a copy with tests and docs beside it, which must stay out."""
    return build(tmp_path_factory.mktemp("tree"), umask=0o022)


@pytest.fixture(scope="module")
def wheel(built: Path) -> Iterator[zipfile.ZipFile]:
    with zipfile.ZipFile(built) as archive:
        yield archive


def build(tree: Path, umask: int) -> Path:
    """A copy of the sources in `tree`, because setuptools leaves folders behind, and its wheel as ``make wheel`` builds it."""
    for name in (*SOURCES, "tests", "docs"):
        if (ROOT / name).is_dir():
            shutil.copytree(
                ROOT / name, tree / name, copy_function=shutil.copyfile, ignore=shutil.ignore_patterns("_build", "__pycache__")
            )
        else:
            shutil.copyfile(ROOT / name, tree / name)
    options = ["--quiet", "--no-deps", "--no-index", "--no-build-isolation", "-w", "out", "."]
    ran = subprocess.run(
        [sys.executable, "-m", "pip", "wheel", *options],
        cwd=tree,
        env={**os.environ, "SOURCE_DATE_EPOCH": "1700000000"},
        umask=umask,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    [path] = (tree / "out").iterdir()
    return path


@pytest.mark.chaos
def test_two_builds_give_the_same_bytes(built: Path, tmp_path: Path) -> None:
    """From copies whose files have other times, in another folder: anybody can compare a release with its sources."""
    again = build(tmp_path, umask=0o022)

    assert again.name == built.name
    assert again.read_bytes() == built.read_bytes()


def metadata(wheel: zipfile.ZipFile) -> Message:
    return Parser().parsestr(wheel.read("understudy-0.1.0.dist-info/METADATA").decode())


def test_the_wheel_says_what_it_is(wheel: zipfile.ZipFile) -> None:
    about = metadata(wheel)

    assert (about["Name"], about["Version"], about["Requires-Python"]) == ("understudy", "0.1.0", ">=3.11")
    assert about["License-Expression"] == "Apache-2.0"
    assert about["Description-Content-Type"] == "text/markdown"
    assert str(about.get_payload()).startswith("# understudy\n")


def test_the_wheel_asks_for_what_the_packages_import(wheel: zipfile.ZipFile) -> None:
    requirements = metadata(wheel).get_all("Requires-Dist") or []

    needed = sorted(re.split("[<>=!~]", name)[0] for name in requirements if "extra" not in name)
    assert needed == ["attrs", "dspy", "h11", "httpx", "litellm", "msgspec", "outcome", "packaging", "pydantic", "trio"]


def test_no_malicious_release_of_litellm_can_be_chosen() -> None:
    """1.82.7 and 1.82.8 stole credentials when Python started; no resolver may come near them, whatever else changes."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    [bounds] = [name for name in project["dependencies"] if name.startswith("litellm")]
    floor = bounds.partition(">=")[2].partition(",")[0]

    assert tuple(map(int, floor.split("."))) > (1, 82, 8)


def test_the_wheel_holds_both_packages_and_nothing_else(wheel: zipfile.ZipFile) -> None:
    names = wheel.namelist()
    sources = {path.relative_to(ROOT).as_posix() for package in ("actors", "runtime") for path in (ROOT / package).rglob("*.py")}

    assert {name.partition("/")[0] for name in names} == {"actors", "runtime", "understudy-0.1.0.dist-info"}
    assert {name for name in names if name.endswith(".py")} == sources


def test_the_wheel_holds_every_file_of_the_inspector(wheel: zipfile.ZipFile) -> None:
    static = ROOT / "runtime/inspector/static"
    files = {path.relative_to(ROOT).as_posix() for path in static.rglob("*") if path.is_file()}

    assert len(files) > 10
    assert files <= set(wheel.namelist())


def test_the_wheel_is_marked_as_typed(wheel: zipfile.ZipFile) -> None:
    assert {"actors/py.typed", "runtime/py.typed"} <= set(wheel.namelist())


def test_the_wheel_brings_the_command_the_pytest_plugin_and_the_licence(wheel: zipfile.ZipFile) -> None:
    commands = wheel.read("understudy-0.1.0.dist-info/entry_points.txt").decode()
    licence = wheel.read("understudy-0.1.0.dist-info/licenses/LICENSE").decode()

    assert commands.split("\n\n") == [
        "[console_scripts]\nunderstudy = runtime.cli.main:main",
        "[pytest11]\nruntime.testing.plugin = runtime.testing.plugin\n",
    ]
    assert licence == (ROOT / "LICENSE").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", ["run", "test", "check", "bench", "browser", "ray"])
def test_every_pin_has_a_hash_and_no_registry_is_named(name: str) -> None:
    text = (ROOT / "requirements" / f"{name}.txt").read_text(encoding="utf-8")
    pins = [block for block in text.replace("\\\n", " ").splitlines() if block and not block.startswith("#")]

    assert all("==" in pin and "--hash=sha256:" in pin for pin in pins)
    assert "://" not in text
    assert "litellm==1.82.7" not in text
    assert "litellm==1.82.8" not in text


def test_the_workflow_calls_make_on_every_supported_python_and_no_strange_action() -> None:
    workflow = (ROOT / ".github/workflows/ci.yml").read_text(encoding="utf-8")
    about = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    supported = re.findall(r"Python :: (3\.\d+)", "\n".join(about["classifiers"]))
    calls = re.findall(r"run: make (.*)", re.sub(r"\$\{\{.*?\}\}", "", workflow))
    targets = {target for call in calls for target in call.split()}

    assert re.findall(r"python: \[(.*)\]", workflow) == [", ".join(f'"{version}"' for version in supported)]
    assert set(re.findall(r"uses: (\S+)@v\d+\.\d+\.\d+\n", workflow)) == {"actions/checkout", "actions/setup-python"}
    assert workflow.count("uses: ") == len(re.findall(r"@v\d+\.\d+\.\d+\n", workflow))
    assert targets == {"test", "test-ray", "check", "env-", "quick-", "PYTHON=python"}
