"""Pytest sessions inside tests: what a user who has the plugin sees."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]


def session(folder: Path, source: str, *options: str) -> str:
    """What pytest prints about a file of tests; async ones are pytest-trio's."""
    (folder / "test_user.py").write_text(textwrap.dedent(source))
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    plugins = ["-p", "runtime.testing.plugin", "-o", "trio_mode=true", "-p", "no:cacheprovider"]
    command = [sys.executable, "-m", "pytest", *plugins, "-q", *options]
    return subprocess.run(
        command,
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=240,
        check=False,
    ).stdout
