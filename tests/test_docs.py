"""Every Python block of README.md and docs/ is run, page by page, and every file of docs/examples/ is imported.

The blocks of one page share one namespace, in their order, in a process of their own; one after "Save this as `name.py`" is a
file there as well, which others may import. A block may be left out only with
``<!-- not executed: reason -->`` on the line before it, and the only reason that counts is that it needs a provider's key.
"""

from __future__ import annotations

import re
import runpy
import subprocess
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.warm import PAGES as PAGES_IMPORT
from tests.warm import Warm, warm

ROOT = Path(__file__).resolve().parent.parent
PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").rglob("*.md")])
EXAMPLES = sorted((ROOT / "docs/examples").glob("*.py"))

BLOCK = re.compile(r"(?P<before>[^\n]*\n)?^(?P<indent> *)```python\n(?P<code>.*?)^(?P=indent)```$", re.MULTILINE | re.DOTALL)
SAVED = re.compile(r"[Ss]ave this as `(?P<file>\w+\.py)`[^\n]*\n\n\Z")
SKIPPED = re.compile(r"<!-- not executed: (?P<reason>.+) -->")
PROMISE = re.compile(r"^\| (?P<promise>[^|]+) \| `(?P<file>tests/[\w/]+\.py)`: `(?P<test>test_\w+)` \|$", re.MULTILINE)


def script(page: str) -> str:
    """The page's blocks as one program in which every line keeps the line number it has on the page."""
    lines = [""] * (page.count("\n") + 1)
    for block in BLOCK.finditer(page):
        if SKIPPED.match((block["before"] or "").strip()):
            continue
        first = page.count("\n", 0, block.start("code"))
        code = textwrap.dedent(block["code"]).splitlines()
        lines[first : first + len(code)] = code
    return "\n".join(lines)


def saved_blocks(page: str) -> Iterator[tuple[str, str]]:
    """The files that the page asks its reader to save, with what is in them."""
    for block in BLOCK.finditer(page):
        asked = SAVED.search(page[: block.start("code") - len("```python\n")])
        if asked is not None:
            yield asked["file"], textwrap.dedent(block["code"])


@pytest.fixture(scope="module")
def python() -> Warm:
    """Runs files in processes of their own."""
    return warm(*PAGES_IMPORT)


def run_python(python: Warm, code: str, folder: Path, name: str) -> subprocess.CompletedProcess[str]:
    """Run `code` as if it stood in the file `name`; blocks are no main program, so `if __name__ == "__main__"` is not entered."""
    file = folder / Path(name).name
    file.write_text(code, encoding="utf-8")
    return python.run(file, "page")


@pytest.mark.parametrize("page", [page for page in PAGES if script(page.read_text()).strip()], ids=lambda page: page.stem)
def test_the_blocks_of_a_page_run(page: Path, python: Warm, tmp_path: Path) -> None:
    text = page.read_text(encoding="utf-8")
    for name, code in saved_blocks(text):
        (tmp_path / name).write_text(code, encoding="utf-8")

    run = run_python(python, script(text), tmp_path, page.name)

    assert run.returncode == 0, f"{page.relative_to(ROOT)}\n{run.stdout}{run.stderr}"


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example.stem)
def test_an_example_can_be_imported(example: Path, python: Warm, tmp_path: Path) -> None:
    run = run_python(python, example.read_text(encoding="utf-8"), tmp_path, example.name)

    assert run.returncode == 0, run.stderr


def test_the_readme_opens_with_the_example_that_is_tested() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")

    block = BLOCK.search(readme)
    assert block is not None
    assert block["code"] == (ROOT / "docs/examples/reviews.py").read_text(encoding="utf-8")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_block_is_left_out_only_for_want_of_a_key(page: Path) -> None:
    reasons = [match["reason"] for match in SKIPPED.finditer(page.read_text(encoding="utf-8"))]

    assert all("key" in reason for reason in reasons), reasons


def test_each_promise_on_the_page_of_guarantees_names_a_test_that_exists() -> None:
    page = (ROOT / "docs/guarantees.md").read_text(encoding="utf-8")
    rows = [row for row in page.splitlines() if row.startswith("| ") and not row.startswith(("| promise", "| not promised"))]

    promises = list(PROMISE.finditer(page))
    assert [promise[0] for promise in promises] == rows
    for promise in promises:
        source = (ROOT / promise["file"]).read_text(encoding="utf-8")
        assert re.search(rf"def {promise['test']}\b", source), promise[0]


def test_troubleshooting_has_a_fix_for_each_error_and_an_entry_for_each_code_of_the_check() -> None:
    page = runpy.run_path(str(ROOT / "docs/troubleshooting.py"))
    modules = [page[name] for name in ("errors", "message_errors", "placement_errors", "store_errors")]

    assert {each.__name__ for module in modules for each in page["classes"](module)} == set(page["FIXES"])
    problems = page["problems"]()
    assert {"join-by-timing", "unreachable-node", "predict-module", "tool-name"} <= set(problems)
    assert all(problems[code] for code in ("join-by-timing", "unreachable-node", "tool-kind"))


def test_a_broken_block_is_reported_with_its_line_on_the_page(python: Warm, tmp_path: Path) -> None:
    page = "# Page\n\n```python\nx = 1\n```\n\ntext\n\n```python\nassert x == 2\n```\n"

    run = run_python(python, script(page), tmp_path, "page.md")

    assert run.returncode == 1
    assert 'page.md", line 10, in <module>' in run.stderr


def test_a_block_that_needs_a_key_is_left_out() -> None:
    page = "<!-- not executed: needs a provider's key -->\n```python\nraise SystemExit(1)\n```\n"

    assert script(page).strip() == ""
