"""What README.md shows is what happens: its picture is of its graph, and its test finds the race with the lines that it shows."""

from __future__ import annotations

import os
import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

from actors import Graph
from runtime.cli.draw.svg import draw_svg

ROOT = Path(__file__).resolve().parent.parent
GRAPH: Graph = runpy.run_path(str(ROOT / "docs/examples/reviews.py"))["graph"]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_picture_is_that_of_the_graph() -> None:
    drawn = (ROOT / "docs/_static/reviews.svg").read_text(encoding="utf-8")

    assert drawn == draw_svg(GRAPH.sketch()), (
        "Fix: understudy graph export docs/examples/reviews.py:graph -o docs/_static/reviews.svg"
    )


def test_the_graph_has_no_problems() -> None:
    assert GRAPH.check() == []


@pytest.mark.slow
def test_the_test_that_finds_a_race_finds_it_and_prints_what_is_shown(tmp_path: Path) -> None:
    blocks = re.findall(r"^```python\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
    [code] = [block for block in blocks if "@explore" in block]
    shown = re.search(r"^```text\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
    assert shown is not None
    (tmp_path / "test_race.py").write_text(code, encoding="utf-8")

    ran = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "runtime.testing.plugin", "-p", "no:cacheprovider", "test_race.py"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )

    printed = [line.strip(" |") for line in ran.stdout.splitlines()]
    missing = [line for line in shown[1].splitlines() if line.strip(" |") not in printed]
    assert missing == [], ran.stdout
