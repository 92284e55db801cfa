"""Holds what mypy and pyright say of ``uses.py``, both strict, against its marks: part of ``make check``.

Not named as a test, since the environment of the tests has neither checker: ``pytest tests/typing/judge.py``.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
USES = "tests/typing/uses.py"
MARK = re.compile(r"  # error: (?P<words>.+)$")

Found = dict[int, str]
"""Line → what was said of it."""


def run(module: str, *options: str) -> str:
    done = subprocess.run([sys.executable, "-m", module, *options], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode in (0, 1), f"{module} could not work:\n{done.stdout}{done.stderr}"
    return done.stdout


def by_mypy() -> Found:
    found: defaultdict[int, str] = defaultdict(str)
    for line in run("mypy", "--strict", "--no-pretty", "--no-error-summary", USES).splitlines():
        path, number, severity, said = line.split(":", 3)
        assert path == USES, f"mypy reports another file: {line}"
        if severity.strip() == "error":
            found[int(number)] += f"{said.strip()}\n"
    return found


def by_pyright() -> Found:
    found: defaultdict[int, str] = defaultdict(str)
    report = json.loads(run("pyright", "--project", str(HERE), "--outputjson", "--pythonpath", sys.executable))
    assert report["summary"]["filesAnalyzed"] == 1
    for each in report["generalDiagnostics"]:
        if each["severity"] == "error":
            found[each["range"]["start"]["line"] + 1] += f"{each['message']}\n"
    return found


@pytest.mark.parametrize("checker", [by_mypy, by_pyright])
def test_wrong_uses_are_reported_where_they_are_and_right_uses_are_not(checker):
    lines = (ROOT / USES).read_text(encoding="utf-8").splitlines()
    marks = {number: mark["words"] for number, line in enumerate(lines, start=1) if (mark := MARK.search(line))}

    found = checker()

    missed = [f"{USES}:{number}: nothing is said of {lines[number - 1].strip()}" for number in marks if number not in found]
    too_much = [f"{USES}:{number}: {said}" for number, said in found.items() if number not in marks]
    otherwise = [
        f"{USES}:{number}: expected {words!r} in {found[number]}"
        for number, words in marks.items()
        if number in found and not re.search(words, found[number])
    ]
    assert marks
    wrong = [*missed, *too_much, *otherwise]
    assert not wrong, "\n".join(wrong)
