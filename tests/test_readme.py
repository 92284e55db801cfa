"""What README.md shows is what happens: pictures of its graph and of real runs, and a test that finds its race."""

from __future__ import annotations

import os
import re
import runpy
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from actors import Graph
from runtime.app import open_runtime
from runtime.draw.svg import draw_svg
from runtime.testing import ScriptedLM, run_in_virtual_time

ROOT = Path(__file__).resolve().parent.parent
EXAMPLE = runpy.run_path(str(ROOT / "docs/examples/reviews.py"))
GRAPH: Graph[object, object] = EXAMPLE["graph"]
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
SHOWN = re.compile(r"^```text\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def test_the_picture_is_that_of_the_graph() -> None:
    drawn = (ROOT / "docs/_static/reviews.svg").read_text(encoding="utf-8")

    assert drawn == draw_svg(GRAPH.sketch()), (
        "Fix: understudy graph export docs/examples/reviews.py:graph -o docs/_static/reviews.svg"
    )


def test_the_graph_has_no_problems() -> None:
    assert GRAPH.check() == []


def test_the_output_is_what_the_graph_gives() -> None:
    """A scripted model says what a real one might; the rest is the graph's."""
    shown = next(block for block in SHOWN.findall(README) if "Reply(" in block)
    text = re.fullmatch(r"Reply\(text='(.*)'\)\n", shown)
    assert text is not None
    answers: dict[Any, Any] = {
        "Name the writer's mood": {"word": "disappointed"},
        "List what the review claims": {"facts": ["The tea came cold.", "It did so twice."]},
        "disappointed": {"text": text[1]},
    }

    async def run() -> object:
        async with open_runtime(lm=ScriptedLM(answers)) as runtime:
            return await runtime.run(GRAPH, EXAMPLE["Review"]("The tea came cold, twice."))

    assert f"{run_in_virtual_time(run)!r}\n" == shown


def test_the_timelines_are_those_of_the_runs() -> None:
    """All in virtual time: five ways to make three calls, and the survived crash."""
    drawn = (ROOT / "docs/_static/timelines.svg").read_text(encoding="utf-8")

    page = runpy.run_path(str(ROOT / "docs/timelines.py"))
    runs = page["measured"]()
    assert [round(run.end_s, 3) for run in runs[:5]] == [3.004, 3.004, 1.153, 1.153, 1.153]
    assert [page["in_flight"](run) for run in runs] == [1, 1, 3, 3, 3, 3]
    assert [len(row.crashes) for row in runs[5].rows] == [0, 1, 0]
    assert drawn == page["draw"](runs), "Fix: .venv/bin/python -m docs.timelines"


@pytest.mark.slow
def test_the_test_that_finds_a_race_finds_it_and_prints_what_is_shown(tmp_path: Path) -> None:
    [code] = [block for block in BLOCKS.findall(README) if "@explore" in block]
    [shown] = [block for block in SHOWN.findall(README) if "Replay:" in block]

    printed = pytest_of(code, tmp_path / "test_race.py")

    assert [line for line in lines_of(shown) if line not in printed] == []


@pytest.mark.slow
def test_the_tutorial_finds_its_race_and_prints_what_is_shown(tmp_path: Path) -> None:
    """The first three blocks of the page, in one file, as its reader has them then."""
    page = (ROOT / "docs/tutorial/find-a-race.md").read_text(encoding="utf-8")
    [shown] = [block for block in SHOWN.findall(page) if "Replay:" in block]

    printed = pytest_of("\n\n".join(BLOCKS.findall(page)[:3]), tmp_path / "test_catalogue.py")

    assert [line for line in lines_of(shown) if line not in printed] == []


def pytest_of(code: str, file: Path) -> list[str]:
    """What pytest prints of a file in an empty folder, with the configuration that the pages ask for."""
    file.write_text(code, encoding="utf-8")
    (file.parent / "pytest.ini").write_text("[pytest]\ntrio_mode = true\n", encoding="utf-8")
    ran = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "runtime.testing.plugin", "-p", "no:cacheprovider", file.name],
        cwd=file.parent,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    return lines_of(ran.stdout)


def lines_of(text: str) -> list[str]:
    """Without what pytest sets before and behind a line."""
    return [line.removeprefix("E ").strip(" |") for line in text.splitlines()]
