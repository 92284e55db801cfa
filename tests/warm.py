"""Programs in processes of their own that need not import the slow libraries first: each is a fork of one that has them.

``python -m tests.warm DOOR MODULE…`` is that one: it imports these, reads a job from each line of its input, and writes how the
process for it has ended. At the door, the number of a socket, it takes jobs from ``tests.reader``: several run at the same time,
each with streams that come with it.
"""

from __future__ import annotations

import atexit
import functools
import gc
import importlib
import json
import os
import runpy
import select
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import traceback
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final, NoReturn

ROOT: Final = Path(__file__).resolve().parent.parent
PAGES: Final = (
    *("runtime.evaluate", "runtime.serve", "runtime.telemetry", "runtime.testing", "runtime.tools", "dspy", "litellm"),
    *("runtime.cli.main", "pytest", "pytest_trio.plugin", "hypercorn.__main__", "hypercorn.trio", "uvicorn"),
)
"""What the pages of the documentation import, and their commands, among them what takes seconds."""
SESSIONS: Final = (
    "pytest_trio.plugin",
    "_hypothesis_pytestplugin",
    "xdist.plugin",
    "runtime",
    "runtime.testing",
    "runtime.testing.models.provider",
)
"""What a session of pytest imports; not the plugin itself, whose asserts pytest rewrites as it imports it."""
PATIENCE_S: Final = 900.0
"""Far more than any of them takes, on a busy machine too."""


class Warm:
    """The process that the others are forks of."""

    def __init__(self, *modules: str) -> None:
        """It begins to import `modules` now, and is ready when the first job is done."""
        self._folder = tempfile.TemporaryDirectory(prefix="understudy-warm-")
        with socket.socket(socket.AF_UNIX) as door:
            door.bind(str(self.door))
            door.listen()
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.warm", str(door.fileno()), *modules],
                cwd=ROOT,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                start_new_session=True,
                pass_fds=[door.fileno()],
            )
        atexit.register(self.end)

    @property
    def door(self) -> Path:
        """Where it takes jobs from other processes; one that comes before the modules are imported waits."""
        return Path(self._folder.name, "door")

    def run(self, file: Path, name: str) -> subprocess.CompletedProcess[str]:
        """Run `file` in its folder as module `name`; a deprecation that such a module is to blame for is an error."""
        return self._do({"run": "file", "what": str(file), "name": name, "argv": [str(file)]}, file.parent)

    def pytest(self, folder: Path, *options: str, environ: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[str]:
        """What ``python -m pytest OPTION…`` does in `folder`, with `environ` instead of the environment of this process.

        What it writes to its standard error stands between the rest, in the order of writing.
        """
        quiet = "ignore::pytest.PytestAssertRewriteWarning"  # of the plugins that are here already
        return self.module(folder, "pytest", "-p", "no:schemathesis", "-W", quiet, *options, environ=environ)

    def module(
        self, folder: Path, name: str, *arguments: str, environ: Mapping[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        """What ``python -m NAME ARGUMENT…`` does in `folder`, printed as `pytest` above says."""
        return self._do({"run": "module", "what": name, "name": "__main__", "argv": [name, *arguments]}, folder, environ)

    def _do(
        self, job: dict[str, Any], folder: Path, environ: Mapping[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        printed = Path(self._folder.name)
        out, err = printed / "out", printed / ("out" if job["run"] == "module" else "err")
        out.unlink(missing_ok=True)
        err.unlink(missing_ok=True)
        environment = {**(os.environ if environ is None else environ), "PYTHONPATH": str(ROOT)}
        job = {**job, "folder": str(folder), "out": str(out), "err": str(err), "environ": environment}
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
        assert code, f"{job['what']} has not ended within {PATIENCE_S:g} s"
        return subprocess.CompletedProcess(job["argv"], int(code), out.read_text(), err.read_text())

    def end(self) -> None:
        """End it, with whatever it still does for others."""
        assert self._process.stdin is not None, "it was started with pipes"
        self._process.stdin.close()
        self._process.wait()
        assert self._process.stdout is not None, "it was started with pipes"
        self._process.stdout.close()
        self._folder.cleanup()


@functools.cache
def warm(*modules: str) -> Warm:
    """The one of this process that has `modules`."""
    return Warm(*modules)


def _serve(door: socket.socket) -> None:
    visitors: set[int] = set()
    while True:
        ready, _, _ = select.select([sys.stdin, door], [], [])
        visitors -= {pid for pid in visitors if os.waitpid(pid, os.WNOHANG) != (0, 0)}
        if door in ready:
            visitors.add(_visit(door))
            continue
        line = sys.stdin.readline()  # one at a time is sent, so no second one hides in the buffer
        if not line:
            for pid in visitors:
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, 0)
            return
        child = os.fork()
        if not child:
            door.close()
            _become(json.loads(line))
        _, status = os.waitpid(child, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)  # noqa: T201


def _visit(door: socket.socket) -> int:
    """Begin the job of whoever stands at the door, who is sent the id of its process and then its exit code."""
    visitor, _ = door.accept()
    _, streams, _, _ = socket.recv_fds(visitor, 1, 3)
    job = b"".join(iter(lambda: visitor.recv(65_536), b""))
    child = os.fork()
    if not child:
        door.close()
        for number, stream in enumerate(streams):
            os.dup2(stream, number)
            os.close(stream)
        visitor.sendall(b"%d\n" % os.getpid())
        _perform(json.loads(job), lambda code: visitor.sendall(b"%d\n" % code))
    for stream in streams:
        os.close(stream)
    visitor.close()
    return child


def _become(job: Any) -> NoReturn:
    for path, number, flags in (
        (os.devnull, 0, os.O_RDONLY),
        (job["out"], 1, os.O_WRONLY | os.O_CREAT | os.O_APPEND),
        (job["err"], 2, os.O_WRONLY | os.O_CREAT | os.O_APPEND),
    ):
        file = os.open(path, flags, 0o600)
        os.dup2(file, number)
        os.close(file)
    _perform(job, lambda _: None)


def _perform(job: Any, tell: Callable[[int], None]) -> NoReturn:
    sys.stdin = open(0, closefd=False)  # noqa: SIM115 - what was read ahead of it isn't this process's
    os.environ.clear()
    os.environ.update(job["environ"])
    os.chdir(job["folder"])
    if job["run"] != "command":
        sys.path.insert(0, "" if job["run"] == "file" else job["folder"])
    sys.argv = job["argv"]
    code = 1
    try:
        if job["run"] == "file":
            warnings.filterwarnings("error", category=DeprecationWarning, module=job["name"])
            runpy.run_path(job["what"], run_name=job["name"])
        elif job["run"] == "command":
            module, _, function = job["what"].partition(":")
            sys.exit(getattr(importlib.import_module(module), function)())
        else:
            runpy.run_module(job["what"], run_name=job["name"], alter_sys=True)
        code = 0
    except SystemExit as left:
        if not isinstance(left.code, int | None):
            print(left.code, file=sys.stderr)  # noqa: T201 - as an interpreter does it
        code = left.code if isinstance(left.code, int) else int(left.code is not None)
    except BaseException:  # noqa: BLE001 - as an interpreter does it
        traceback.print_exc()
    finally:
        atexit._run_exitfuncs()
        sys.stdout.flush()
        sys.stderr.flush()
        tell(code)
        os._exit(code)  # taking thousands of modules apart takes longer than most files


if __name__ == "__main__":
    for module in sys.argv[2:]:
        __import__(module)
    assert threading.active_count() == 1, "a fork has none of the other threads"
    gc.freeze()  # or each fork would copy them to look at them
    _serve(socket.socket(fileno=int(sys.argv[1])))
