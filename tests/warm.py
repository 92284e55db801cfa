"""Python files in processes of their own that need not import the slow libraries first: each is a fork of one that has them.

``python -m tests.warm`` is that one: it reads a job from each line of its input, and writes how the process for it has ended.
"""

from __future__ import annotations

import atexit
import contextlib
import gc
import json
import os
import runpy
import signal
import subprocess
import sys
import threading
import traceback
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, NoReturn

ROOT: Final = Path(__file__).resolve().parent.parent
SLOW: Final = ("runtime.evaluate", "runtime.serve", "runtime.telemetry", "runtime.testing", "runtime.tools", "dspy", "litellm")
"""Imported once, for all."""
PATIENCE_S: Final = 240.0
"""Far more than any of them takes, on a busy machine too."""


class Warm:
    """The process that the others are forks of."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        """`process` is it."""
        self._process = process

    def run(self, file: Path, name: str) -> subprocess.CompletedProcess[str]:
        """Run `file` in its folder as module `name`; a deprecation that such a module is to blame for is an error."""
        out, err = file.with_name(f"{file.name}.out"), file.with_name(f"{file.name}.err")
        job = {
            "file": str(file),
            "name": name,
            "out": str(out),
            "err": str(err),
            "environ": {**os.environ, "PYTHONPATH": str(ROOT)},
        }
        assert self._process.stdin is not None, "it was started with pipes"
        assert self._process.stdout is not None, "it was started with pipes"
        patience = threading.Timer(PATIENCE_S, os.killpg, (self._process.pid, signal.SIGKILL))
        patience.start()
        try:
            print(json.dumps(job), file=self._process.stdin, flush=True)
            code = self._process.stdout.readline()
        finally:
            patience.cancel()
            patience.join()
        assert code, f"{name} has not ended within {PATIENCE_S:g} s"
        return subprocess.CompletedProcess([str(file)], int(code), out.read_text(), err.read_text())


@contextlib.contextmanager
def warm() -> Iterator[Warm]:
    """One of them, until the block is left."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.warm"],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    with process:
        yield Warm(process)


def _serve() -> None:
    for line in sys.stdin:
        child = os.fork()
        if not child:
            _become(json.loads(line))
        _, status = os.waitpid(child, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)  # noqa: T201


def _become(job: Any) -> NoReturn:
    for path, number, flags in (
        (os.devnull, 0, os.O_RDONLY),
        (job["out"], 1, os.O_WRONLY | os.O_CREAT | os.O_TRUNC),
        (job["err"], 2, os.O_WRONLY | os.O_CREAT | os.O_TRUNC),
    ):
        file = os.open(path, flags, 0o600)
        os.dup2(file, number)
        os.close(file)
    sys.stdin = open(0, closefd=False)  # noqa: SIM115 - what was read ahead of it isn't this process's
    os.environ.clear()
    os.environ.update(job["environ"])
    os.chdir(Path(job["file"]).parent)
    sys.path.insert(0, "")
    sys.argv = [job["file"]]
    warnings.filterwarnings("error", category=DeprecationWarning, module=job["name"])
    code = 1
    try:
        runpy.run_path(job["file"], run_name=job["name"])
        code = 0
    except BaseException:  # noqa: BLE001 - as an interpreter does it
        traceback.print_exc()
    finally:
        atexit._run_exitfuncs()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)  # taking thousands of modules apart takes longer than most files


if __name__ == "__main__":
    for module in SLOW:
        __import__(module)
    assert threading.active_count() == 1, "a fork has none of the other threads"
    gc.freeze()  # or each fork would copy them to look at them
    _serve()
