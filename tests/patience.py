"""Waits for other processes that end, whatever these do: what has hung is killed, so that its test fails and says where."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import threading
from collections.abc import Iterator
from typing import Any, Final

PATIENCE_S: Final = 60.0
"""Far more than any of them takes, on a busy machine too."""


@contextlib.contextmanager
def patience(process: subprocess.Popen[Any] | int) -> Iterator[None]:
    """Kill `process` (a child, or its id) if the block takes longer than ``PATIENCE_S``; a read from its pipe then ends."""

    def kill() -> None:
        if isinstance(process, int):
            os.kill(process, signal.SIGKILL)
        else:
            process.kill()

    timer = threading.Timer(PATIENCE_S, kill)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        timer.join()


def first_line(process: subprocess.Popen[str]) -> str:
    """The next line of its output; empty when it ended or was killed without one."""
    assert process.stdout is not None, "the process was started with a pipe"
    with patience(process):
        return process.stdout.readline()


def said_by_fork(reader: int, child: int) -> str:
    """What the forked `child` wrote to the pipe that ends in `reader`, once it has ended."""
    with patience(child), os.fdopen(reader) as stream:
        said = stream.read()
        os.waitpid(child, 0)
    return said
