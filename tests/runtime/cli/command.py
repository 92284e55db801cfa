"""The command in a process of its own, for what only a process has: exit codes, signals, two output streams."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from tests.patience import PATIENCE_S, patience

ROOT = Path(__file__).resolve().parents[3]
COMMAND = [sys.executable, "-c", "import sys; from runtime.cli.main import main; sys.exit(main())"]


def start(arguments: Sequence[str], cwd: Path, **environment: str) -> subprocess.Popen[str]:
    """Start ``understudy`` with `arguments`; both its streams are pipes."""
    return subprocess.Popen(
        [*COMMAND, *arguments],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONIOENCODING": "utf-8", **environment},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def interrupt(process: subprocess.Popen[str]) -> tuple[int, str, str, float]:
    """Send SIGINT and wait for the end: exit code, output, errors, and the seconds that it took."""
    began_s = time.monotonic()
    process.send_signal(signal.SIGINT)
    try:
        out, err = process.communicate(timeout=PATIENCE_S)
    finally:
        process.kill()
    return process.returncode, out, err, time.monotonic() - began_s


def read_until(process: subprocess.Popen[str], text: str) -> None:
    """Read the errors up to a line with `text`."""
    assert process.stderr is not None
    lines: list[str] = []
    with patience(process):
        for line in process.stderr:
            lines.append(line)
            if text in line:
                return
    raise AssertionError(f"{text!r} never came: {''.join(lines)}")


def wait_until(condition: Callable[[], bool]) -> None:
    """Look again and again, for a bounded time, at what only another process knows."""
    deadline_s = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline_s, "it did not happen"
        time.sleep(0.01)


def children_of(pid: int) -> list[int]:
    """The processes that `pid` has started and that run."""
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def is_alive(pid: int) -> bool:
    """Whether there is such a process."""
    return Path(f"/proc/{pid}").exists()
