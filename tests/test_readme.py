"""What README.md shows is what happens: pictures of its graph and of real runs, and a test that finds its race."""

from __future__ import annotations

import json
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
from runtime.messages.writer import write
from runtime.testing import ScriptedLM, run_in_virtual_time
from tests.test_docs import saved_blocks, script
from tests.warm import SESSIONS, warm

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


def test_the_picture_of_the_tutorial_is_that_of_its_graph() -> None:
    page: dict[str, Any] = {"__name__": "first_graph"}
    exec(script((ROOT / "docs/tutorial/first-graph.md").read_text(encoding="utf-8")), page)

    drawn = (ROOT / "docs/_static/report.svg").read_text(encoding="utf-8")
    assert drawn == draw_svg(page["graph"].sketch())


def test_the_graph_has_no_problems() -> None:
    assert GRAPH.check() == []


def test_the_examples_are_as_short_as_they_can_be() -> None:
    """Lines with something on them; of the actor those before its use."""
    graph, actor, test = (saved(name) for name in ("reviews.py", "bank.py", "test_bank.py"))

    assert [len(re.findall(r".+", code)) for code in (graph, actor.partition("async def main")[0], test)] == [20, 12, 10]


def test_the_output_is_what_the_graph_gives() -> None:
    """A scripted model says what a real one might; the rest is the graph's."""
    shown = re.search(r"^\$ understudy run reviews.py:graph .*--input '(.*)'\n(\{\n.*?^\}\n)", README, re.MULTILINE | re.DOTALL)
    assert shown is not None
    answers: dict[Any, Any] = {"Name the writer's mood": {"word": "disappointed"}, "disappointed": json.loads(shown[2])}

    async def run() -> object:
        async with open_runtime(lm=ScriptedLM(answers)) as runtime:
            return await runtime.run(GRAPH, EXAMPLE["Review"](**json.loads(shown[1])))

    assert json.dumps(write(EXAMPLE["Reply"], run_in_virtual_time(run)), indent=2) == shown[2].rstrip()


def test_the_actor_crashes_and_comes_back_as_shown(tmp_path: Path) -> None:
    (tmp_path / "bank.py").write_text(saved("bank.py"), encoding="utf-8")

    ran = subprocess.run(
        [sys.executable, "bank.py"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )

    assert ran.stdout.replace(f"{tmp_path}/", "") == next(block for block in SHOWN.findall(README) if "ledger-1' failed" in block)


def test_the_timelines_are_those_of_the_runs() -> None:
    """All in virtual time: five ways to make three calls, and the survived crash."""
    page = runpy.run_path(str(ROOT / "docs/timelines.py"))
    runs = page["measured"]()
    assert [round(run.end_s, 3) for run in runs[:5]] == [3.004, 3.004, 1.153, 1.153, 1.153]
    assert [page["in_flight"](run) for run in runs] == [1, 1, 3, 3, 3, 3]
    assert [len(row.crashes) for row in runs[5].rows] == [0, 1, 0]
    for name, columns in page["TARGETS"].items():
        drawn = (page["FOLDER"] / name).read_text(encoding="utf-8")
        assert drawn == page["draw"](runs, columns), "Fix: .venv/bin/python -m docs.timelines"


@pytest.mark.slow
def test_the_test_that_finds_a_race_finds_it_and_prints_what_is_shown(tmp_path: Path) -> None:
    [shown] = [block for block in SHOWN.findall(README) if "Replay:" in block]
    (tmp_path / "bank.py").write_text(saved("bank.py"), encoding="utf-8")

    printed = pytest_of(saved("test_bank.py"), tmp_path / "test_bank.py")

    assert [line for line in lines_of(shown) if line not in printed] == []
    assert [line for line in printed if line.startswith("Found by")] == [
        "Found by partial-order sampling in run 2, seed 1; simplified from 5 to 1 choices out of turn (marked *)."
    ]


@pytest.mark.slow
def test_the_tutorial_finds_its_race_and_prints_what_is_shown(tmp_path: Path) -> None:
    """The first three blocks of the page, in one file, as its reader has them then."""
    page = (ROOT / "docs/tutorial/find-a-race.md").read_text(encoding="utf-8")
    [shown] = [block for block in SHOWN.findall(page) if "Replay:" in block]

    printed = pytest_of("\n\n".join(BLOCKS.findall(page)[:3]), tmp_path / "test_catalogue.py")

    assert [line for line in lines_of(shown) if line not in printed] == []


@pytest.mark.slow
def test_the_eight_minutes_find_their_race(tmp_path: Path) -> None:
    page = dict(saved_blocks((ROOT / "docs/tutorial/eight-minutes.md").read_text(encoding="utf-8")))
    (tmp_path / "report.py").write_text(page["report.py"], encoding="utf-8")

    printed = pytest_of(page["test_report.py"], tmp_path / "test_report.py")

    assert [line.partition(" --")[0] for line in printed if line.startswith("Replay:")] == [
        "Replay: pytest 'test_report.py::test_the_last_report_is_that_of_the_last_text'"
    ]


def test_what_the_readme_promises_and_what_not_is_on_the_page_of_guarantees() -> None:
    """Word for word, as far as it goes: each line there names the test that holds it."""
    guarantees = (ROOT / "docs/guarantees.md").read_text(encoding="utf-8")
    promised, _, rest = README.partition("## What is promised\n")[2].partition("## What is not promised\n")
    lines = re.findall(r"^- (.+?)(?:: \[stability\]\S+)?$", promised + rest.partition("\n## ")[0], re.MULTILINE)

    assert len(lines) == 14
    assert [line for line in lines if f"| {line}" not in guarantees] == []


def saved(name: str) -> str:
    """The block that the page asks to save as the file `name`."""
    return dict(saved_blocks(README))[name]


def pytest_of(code: str, file: Path) -> list[str]:
    """What pytest prints of a file in an empty folder, with the configuration that the pages ask for."""
    file.write_text(code, encoding="utf-8")
    (file.parent / "pytest.ini").write_text("[pytest]\ntrio_mode = true\n", encoding="utf-8")
    ran = warm(*SESSIONS).pytest(file.parent, "-q", "-p", "runtime.testing.plugin", "-p", "no:cacheprovider", file.name)
    return lines_of(ran.stdout)


def lines_of(text: str) -> list[str]:
    """Without what pytest sets before and behind a line."""
    return [line.removeprefix("E ").strip(" |") for line in text.splitlines()]
