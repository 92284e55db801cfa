"""DSPy's disk cache stays off, and nothing is written to a home directory, unless the program says so."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = """
import gc, sys, threading, warnings
import trio
from runtime import open_runtime
from runtime.lm import run_dspy, run_signature
from runtime.testing import ScriptedLM

async def main():
    import dspy
    {before}
    lm = ScriptedLM([{{"answer": "4"}}, {{"answer": "5"}}])
    async with open_runtime(lm=lm) as runtime:
        await run_signature(runtime.lm, "question -> answer", {{"question": "2 + 2?"}})
        embedder = dspy.Embedder(lambda texts: [[float(len(text))] for text in texts])
        await run_dspy(runtime.lm, lambda: embedder(["a", "bc"]))
    for thread in range(3):
        each = threading.Thread(target=embedder, args=(["def"],))
        each.start()
        each.join()
    gc.collect()

trio.run(main)
"""


def run(home: Path, before: str = "") -> list[str]:
    """What a program has written into `home`; every warning is an error, those at the end of a thread too."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("DSPY_", "XDG_"))}
    command = [sys.executable, "-W", "error::ResourceWarning", "-c", PROGRAM.format(before=before)]
    ended = subprocess.run(
        command, env={**environment, "HOME": str(home)}, capture_output=True, text=True, timeout=240, check=False
    )
    assert ended.returncode == 0, ended.stderr
    if not before:
        assert "unclosed database" not in ended.stderr
    return sorted(path.relative_to(home).parts[0] for path in home.rglob("*"))


@pytest.mark.slow
def test_h2_a_program_that_uses_dspy_writes_nothing_to_the_home_directory(tmp_path: Path) -> None:
    assert run(tmp_path) == []


@pytest.mark.chaos
def test_h2_a_program_that_asks_for_dspys_disk_cache_gets_it(tmp_path: Path) -> None:
    assert ".dspy_cache" in run(tmp_path, "dspy.configure_cache(enable_disk_cache=True)")
