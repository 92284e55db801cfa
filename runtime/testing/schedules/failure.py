"""A failure that exploration found, as a value: what to say about it, how to write it down, how to repeat it."""

from __future__ import annotations

import itertools
import json
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Self, cast, final

import attrs

from actors.errors import DeclarationError
from actors.groups import leaves_of
from actors.words import said
from runtime.testing.schedules.simulation import Step

MOST_CHARACTERS = 500
"""The longest schedule on a command line."""
MOST_LINES = 60
"""Lines of a trace that a report shows: the last ones."""


@final
@attrs.frozen
class Schedule:
    """One run to repeat: its seed and its choices. ``str()`` is the short form, for a command line."""

    seed: int
    choices: tuple[int, ...] = ()

    def __str__(self) -> str:
        runs = ((value, len(list(group))) for value, group in itertools.groupby(self.choices))
        return f"{self.seed}:" + ",".join(str(value) if count == 1 else f"{value}x{count}" for value, count in runs)

    @classmethod
    def parse(cls, text: str) -> Self:
        """The schedule that ``str()`` wrote.

        Raises:
            DeclarationError: it isn't a recorded schedule.
        """
        try:
            seed, _, rest = text.partition(":")
            parts = [part.partition("x") for part in rest.split(",") if part]
            return cls(int(seed), tuple(int(value) for value, _, count in parts for _ in range(int(count or 1))))
        except ValueError as error:
            raise DeclarationError(
                f"{text!r} isn't a recorded schedule.\n  Fix: copy the whole word after --understudy-replay=, such as 7:0x3,1."
            ) from error

    @classmethod
    def load(cls, source: str | Path, near: Path | None = None) -> Self:
        """From a failure file, or from the short form.

        A relative path is looked for in the current directory, then beside the file `near` and in each directory above it.

        Raises:
            DeclarationError: there is no such file, or it holds no schedule.
        """
        if Path(source).suffix != ".json":
            return cls.parse(str(source))
        folders = [Path.cwd(), *(near.resolve().parents if near is not None else ())]
        path = next((folder / source for folder in folders if (folder / source).is_file()), None)
        if path is None:
            beside = f" and from {folders[1]} upwards" if len(folders) > 1 else ""
            raise DeclarationError(
                f"there is no failure file {str(source)!r} in {folders[0]}{beside}.\n"
                "  Fix: name the file that --understudy-save wrote, from the directory of the test or from one above it."
            )
        try:
            return cls.parse(cast("Mapping[str, Any]", json.loads(path.read_text(encoding="utf-8")))["schedule"])
        except (ValueError, KeyError, TypeError) as error:
            raise DeclarationError(
                f"{path} isn't a failure file: {type(error).__name__}: {error}.\n  Fix: name one that --understudy-save wrote."
            ) from error


@final
@attrs.frozen
class FoundFailure:
    """The first failing schedule of an exploration, made as simple as it would go."""

    test: str
    """Pytest's node id, or the function's name."""
    error: BaseException
    """The error of the simplified run."""
    schedule: Schedule
    strategy: str
    """Which one found it."""
    run: int
    """In which run, counted from 1."""
    choices_found: int
    """Choices other than 0 before simplifying."""
    own_choices: int = 0
    """How many of those that are left are not about which task runs: the test's own, and deadlines that came early."""
    steps: tuple[Step, ...] = attrs.field(default=(), repr=False)
    notes: tuple[str, ...] = attrs.field(default=(), repr=False)
    """The trace's notes and events."""
    happenings: tuple[tuple[int, str], ...] = attrs.field(default=(), repr=False)
    """Crashes and dead letters, with the number of the step in which each came."""
    divergence: str | None = None
    """Where a replayed schedule ceased to fit the program; None when it fits."""
    repeats: bool = True
    """Whether it failed again under the same schedule; where it does not, something outside of the seed decides."""

    @property
    def choices_left(self) -> int:
        """Choices other than 0 after simplifying."""
        return sum(1 for choice in self.schedule.choices if choice)

    @property
    def overtakings(self) -> int:
        """Steps out of turn that are left: 0 means that it fails in plain arrival order."""
        return self.choices_left - self.own_choices

    @property
    def command(self) -> str:
        """The line that repeats it; a schedule too long for a line is named by the file that holds it."""
        word = str(self.schedule)
        if len(word) > MOST_CHARACTERS:
            word = str(self.save(Path(tempfile.gettempdir()) / "understudy-failures"))
        return f"pytest '{self.test}' --understudy-replay='{word}'"

    def report(self) -> str:
        """What a person needs: where it was found, what happened in which order, how to repeat it."""
        head = f"Found by {self.strategy} in run {self.run}, seed {self.schedule.seed}; "
        if self.strategy == "replay":
            head = f"Replayed with seed {self.schedule.seed}; "
        if not self.repeats:
            return (
                f"{head}but it did not fail again under the same schedule: something decides that the seed does not, such as "
                f"time.time(), a file, another process, or what an earlier run left in a module.\nTry: {self.command}"
            )
        head += self._simplicity()
        if self.divergence is not None:
            head += f"\nThe schedule fits the program no longer: {self.divergence}."
        return "\n".join([head, *trace_lines(self.steps, self.happenings), f"Replay: {self.command}"])

    def _simplicity(self) -> str:
        """How much of the schedule is left, for a reader of the trace."""
        if not self.choices_left:
            return "it fails in arrival order, with no choice out of turn."
        simplified = "" if self.strategy == "replay" else f"simplified from {self.choices_found} to "
        if not self.own_choices:
            return f"{simplified}{self.choices_left} choices out of turn (marked *)."
        return (
            f"{simplified}{self.choices_left} choices other than 0: {self.overtakings} out of turn (marked *), "
            f"{self.own_choices} of the test's own or of deadlines that came early."
        )

    def save(self, folder: Path) -> Path:
        """Write a small JSON file, which can be committed and given to ``explore(replay_first=…)``; return its path.

        The file of another failure of the same test stays: this one gets a number.
        """
        name = self.test.replace("/", ".").replace("::", ".").replace(".py", "")
        stem = "".join(c if c.isalnum() or c in "._-" else "_" for c in name) or "failure"
        numbered = (folder / f"{stem}{f'-{number}' if number > 1 else ''}.json" for number in itertools.count(1))
        path = next(path for path in numbered if not path.exists() or _holds(path, self.schedule))
        content = {
            "test": self.test,
            "schedule": str(self.schedule),
            "strategy": self.strategy,
            "error": "; ".join(dict.fromkeys(_first_line(leaf) for leaf in leaves_of(self.error))),
            "trace": trace_lines(self.steps, self.happenings),
        }
        folder.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        return path


def _holds(path: Path, schedule: Schedule) -> bool:
    try:
        return Schedule.load(path) == schedule
    except DeclarationError:
        return False


def _first_line(error: BaseException) -> str:
    return said(error).partition("\n")[0]


def trace_lines(steps: Sequence[Step], happenings: Sequence[tuple[int, str]] = ()) -> list[str]:
    """The steps of the code under test, one line each, with the crashes and dead letters that came in them.

    A task that stays where it was is left out. What it did out of turn meanwhile counts for its next line.
    """
    shown: list[Step] = []
    early: set[str] = set()
    for step in steps:
        if step.choice:
            early.add(step.task)
        if step.before != step.after or step.ended or step.handled:
            shown.append(attrs.evolve(step, choice=int(step.task in early)))
            early.discard(step.task)
    clock = max((len(f"{step.at_s:g}") for step in shown), default=0)
    width = max((len(step.task) for step in shown), default=0)
    told = sorted(
        [(step.number, 0, _line(step, clock, width)) for step in shown]
        + [(number, 1, f"    {'':>{clock}}    ! {text}") for number, text in happenings]
    )
    lines = list(_unrepeated(line for _, _, line in told))
    left_out = len(lines) - MOST_LINES
    return [f"  … {left_out} earlier steps", *lines[-MOST_LINES:]] if left_out > 0 else lines


def _line(step: Step, clock: int, width: int) -> str:
    parts = [f"handles {', '.join(step.handled)}"] if step.handled else []
    if step.ended:
        parts.append("ends")
    elif step.after is not None:
        parts.append(f"stops at {step.after}: {step.after.source}")
    elif not parts:
        parts.append("continues outside of the code under test")
    origin = f"from {step.before} " if step.before is not None and not step.handled else ""
    return f"  {'*' if step.choice else ' '} {step.at_s:>{clock}g} s  {step.task:<{width}}  {origin}{', '.join(parts)}"


def _unrepeated(lines: Iterable[str]) -> Iterator[str]:
    for line, group in itertools.groupby(lines):
        count = len(list(group))
        yield line if count == 1 else f"{line}  ({count}×)"
