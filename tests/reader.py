"""The reader of a page: types its commands into a shell, in an empty folder, and sees what comes.

The shell is bash; ``understudy``, ``python -m …``, ``pytest`` and the servers in it are forks of one process that has imported
everything, since each would take seconds to begin otherwise.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

import attrs

from tests.warm import PAGES, Warm, warm

ROOT: Final = Path(__file__).resolve().parent.parent
PATIENCE_S: Final = 120.0

FORK: Final = """\
#!{python} -SEs
import json, os, signal, socket, sys

name, arguments = os.path.basename(sys.argv[0]), sys.argv[1:]
job = {{"run": "module", "what": name, "name": "__main__"}}
if name == "understudy":
    job = {{"run": "command", "what": "runtime.cli.main:main"}}
elif name == "python" and arguments[:1] == ["-m"]:
    job["what"], arguments = arguments[1], arguments[2:]
elif name == "python":
    job = {{"run": "file", "what": arguments[0], "name": "__main__"}}
    arguments = arguments[1:]
job |= {{"argv": [name if job["run"] != "file" else job["what"], *arguments], "folder": os.getcwd(), "environ": dict(os.environ)}}
door = socket.socket(socket.AF_UNIX)
door.connect({door!r})
socket.send_fds(door, [b"x"], [0, 1, 2])
door.sendall(json.dumps(job).encode())
door.shutdown(socket.SHUT_WR)
answers = door.makefile()
pid = int(answers.readline())
for number in (signal.SIGINT, signal.SIGTERM):
    signal.signal(number, lambda number, frame: os.kill(pid, number))
sys.exit(int(answers.readline() or 1))
"""
"""A program that lets the warm process do its work; it begins in 20 ms, since it imports next to nothing."""


@attrs.define(eq=False)
class Shell:
    """What is typed into it, one command after another, finds the folder and the variables as the last one left them."""

    folder: Path
    environ: dict[str, str]

    def run(self, command: str) -> tuple[int, str]:
        """The exit code of `command`, and what it has printed, the errors included."""
        after = self.folder / ".after"
        keep = f"{command}\ncode=$?; {{ pwd; env -0; }} > {after}; exit $code"
        ran = subprocess.run(
            ["bash", "-c", keep],
            cwd=self.environ["PWD"],
            env=self.environ,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=PATIENCE_S,
            check=False,
        )
        if after.exists():
            place, _, variables = after.read_text(encoding="utf-8").partition("\n")
            self.environ = dict(each.split("=", 1) for each in variables.split("\0") if "=" in each) | {"PWD": place}
            after.unlink()
        return ran.returncode, ran.stdout


@attrs.define(eq=False)
class Serving:
    """A command that goes on while the reader types others, in another terminal."""

    process: subprocess.Popen[bytes]
    printed: Path

    @classmethod
    def begin(cls, shell: Shell, command: str) -> Serving:
        """Type `command`."""
        printed = shell.folder / f".printed-{time.monotonic_ns()}"
        with printed.open("wb") as out:
            process = subprocess.Popen(
                ["bash", "-c", f"exec {command}"],
                cwd=shell.environ["PWD"],
                env=shell.environ,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
            )
        return cls(process, printed)

    def wait_for(self, text: str) -> str:
        """What it has printed as soon as that has `text`, a pattern."""
        deadline_s = time.monotonic() + PATIENCE_S
        while not re.search(text, printed := self.printed.read_text(encoding="utf-8")):
            assert self.process.poll() is None, f"ended with {self.process.returncode}: {printed}"
            assert time.monotonic() < deadline_s, f"{text} never came: {printed}"
            time.sleep(0.01)
        return printed

    def end(self) -> int:
        """Press Ctrl-C."""
        self.process.send_signal(signal.SIGINT)
        try:
            return self.process.wait(PATIENCE_S)
        finally:
            self.process.kill()


def programs() -> Warm:
    """The process that the commands are forks of, as the blocks in Python are."""
    return warm(*PAGES)


def install(folder: Path) -> None:
    """Put the commands into `folder`, as an installation does."""
    folder.mkdir()
    text = FORK.format(python=sys.executable, door=str(programs().door))
    for name in ("understudy", "python", "pytest", "uvicorn", "hypercorn"):
        (folder / name).write_text(text, encoding="utf-8")
        (folder / name).chmod(0o700)


def shell(folder: Path, programs: Path, environ: Mapping[str, str]) -> Shell:
    """A new shell in the empty `folder`, beside which the reader has the checkout."""
    (folder / "docs").symlink_to(ROOT / "docs")
    path = f"{programs}:{os.environ['PATH']}"
    return Shell(
        folder, {**os.environ, "PATH": path, "PWD": str(folder), "PYTHONDONTWRITEBYTECODE": "1", "NO_COLOR": "1", **environ}
    )


# --- what a page shows ------------------------------------------------------------------------------------------------------


@attrs.frozen
class Typed:
    """A command of a page, and what the page shows of its output."""

    page: str
    line: int
    command: str
    shown: str


BLOCK: Final = re.compile(r"^(?P<indent> *)```(?P<language>\w+)\n(?P<text>.*?)^(?P=indent)```[ ]*$", re.MULTILINE | re.DOTALL)


def blocks(page: Path, *languages: str) -> Iterator[tuple[int, str]]:
    """The blocks of a page in these languages, each with its line on the page."""
    text = page.read_text(encoding="utf-8")
    for block in BLOCK.finditer(text):
        if block["language"] in languages:
            yield text.count("\n", 0, block.start()) + 2, block["text"]


def typed(page: Path) -> Iterator[Typed]:
    """The commands of a page, in their order."""
    name = page.relative_to(ROOT).as_posix()
    for first, text in blocks(page, "console"):
        lines = text.splitlines()
        at = 0
        while at < len(lines):
            assert lines[at].startswith("$ "), f"{name}:{first + at}: a console block begins with a command"
            line, command = first + at, lines[at].removeprefix("$ ")
            at += 1
            while command.endswith("\\"):
                command += "\n" + lines[at]
                at += 1
            shown: list[str] = []
            while at < len(lines) and not lines[at].startswith("$ "):
                shown.append(lines[at])
                at += 1
            yield Typed(name, line, re.sub(r"\s+# .*$", "", command), "\n".join(shown))


# A page shows these as they were when it was written; each stands for any other of its kind.
PLACEHOLDERS: Final = (
    ("time", re.compile(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d(:\d\d(\.\d+)?)?Z?")),
    ("seconds", re.compile(r"\b\d+(\.\d+)? (s|ms|µs)(?!\w)")),
    ("seconds", re.compile(r'(?<=_s":)\d+(\.\d+)?(e-\d+)?')),
    ("money", re.compile(r"\$\d+\.\d+")),
    ("id", re.compile(r"(?<![\w-])(?=[\w-]*\d)[\w-]{22}(?![\w-])")),
)
BAR: Final = re.compile(r"[█▒░·✗]+( *[█▒░·✗]+)*")
FIGURE: Final = re.compile(r"\d[\d,]*(\.\d+)?")


def without_placeholders(text: str, *, figures: bool) -> str:
    """`text` with the kind of each time, id and sum of money in its place; with `figures`, of every number."""
    for kind, pattern in PLACEHOLDERS:
        text = pattern.sub(f"<{kind}>", text)
    if not figures:
        return text
    text = FIGURE.sub("<figure>", BAR.sub("<bar>", text))
    return re.sub(r" +", " ", re.sub(r"(<(figure|seconds)> *)+", "<figures> ", text))


def pattern_of(shown: str, *, figures: bool = False) -> re.Pattern[str]:
    """What output matches what is shown: ``…`` in a line stands for any letters, ``…`` alone in a line for any lines."""
    lines: list[str] = []
    for line in without_placeholders(shown, figures=figures).splitlines():
        if line.strip() == "…":
            lines.append(r"(?:.*\n)*?")
        else:
            lines.append(re.sub(r"(\\ )?…(\\ )?", r".*?", re.escape(line.rstrip())) + r" *\n")
    return re.compile("".join(lines))


def fits(shown: str, printed: str, *, figures: bool = False) -> bool:
    """Whether what came is what the page shows."""
    got = without_placeholders(printed.rstrip("\n") + "\n", figures=figures)
    return pattern_of(shown, figures=figures).fullmatch(got) is not None


def fits_in_any_order(shown: str, printed: str) -> bool:
    """Whether each line that the page shows has come, whatever its figures, among others."""
    got = [f"{line}\n" for line in without_placeholders(printed, figures=True).splitlines()]
    wanted = [pattern_of(line, figures=True) for line in shown.splitlines() if line.strip() != "…"]
    return all(any(pattern.fullmatch(line) for line in got) for pattern in wanted)
