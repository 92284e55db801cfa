"""A failure that exploration found, as a value: what to say about it, how to write it down, how to repeat it."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Self, cast, final

import attrs

from actors.errors import DeclarationError
from runtime.testing.simulation import Step

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
            DeclarationError: it is none.
        """
        try:
            seed, _, rest = text.partition(":")
            parts = [part.partition("x") for part in rest.split(",") if part]
            return cls(int(seed), tuple(int(value) for value, _, count in parts for _ in range(int(count or 1))))
        except ValueError as error:
            raise DeclarationError(
                f"{text!r} is no recorded schedule.\n  Mend: copy the whole word after --understudy-replay=, such as 7:0x3,1."
            ) from error

    @classmethod
    def load(cls, source: str | Path) -> Self:
        """From a failure file, or from the short form."""
        path = Path(source)
        if path.suffix != ".json":
            return cls.parse(str(source))
        content = cast("Mapping[str, Any]", json.loads(path.read_text(encoding="utf-8")))
        return cls.parse(content["schedule"])


@final
@attrs.frozen
class FoundFailure:
    """The first failing schedule of an exploration, made as simple as it would go."""

    test: str
    """Pytest's node id, or the function's name."""
    error: BaseException
    """Of the simplified run."""
    schedule: Schedule
    strategy: str
    """Which one found it."""
    run: int
    """In which run, counted from 1."""
    choices_found: int
    """Choices out of turn before simplifying."""
    steps: tuple[Step, ...] = attrs.field(default=(), repr=False)
    notes: tuple[str, ...] = attrs.field(default=(), repr=False)
    """The trace's notes and events."""
    repeats: bool = True
    """Whether it failed again under the same schedule; where it does not, something outside of the seed decides."""

    @property
    def overtakings(self) -> int:
        """Choices out of turn that are left: 0 means that it fails in plain arrival order."""
        return sum(1 for choice in self.schedule.choices if choice)

    @property
    def command(self) -> str:
        """The line that repeats it."""
        return f"pytest '{self.test}' --understudy-replay='{self.schedule}'"

    def report(self) -> str:
        """What a person needs: where it was found, what happened in which order, how to repeat it."""
        head = f"Found by {self.strategy} in run {self.run}, seed {self.schedule.seed}; "
        if not self.repeats:
            return (
                f"{head}but it did not fail again under the same schedule: something decides that the seed does not, such as "
                f"time.time(), a file, another process, or what an earlier run left in a module.\nTry: {self.command}"
            )
        if self.overtakings:
            head += f"simplified from {self.choices_found} to {self.overtakings} choices out of turn (marked *)."
        else:
            head += "it fails in arrival order, with no choice out of turn."
        return "\n".join([head, *trace_lines(self.steps), f"Replay: {self.command}"])

    def save(self, folder: Path) -> Path:
        """Write a small JSON file, which can be committed and given to ``explore(replay=…)``; return its path."""
        name = self.test.replace("/", ".").replace("::", ".").replace(".py", "")
        path = folder / f"{''.join(c if c.isalnum() or c in '._-' else '_' for c in name)}.json"
        content = {
            "test": self.test,
            "schedule": str(self.schedule),
            "strategy": self.strategy,
            "error": f"{type(self.error).__name__}: {self.error}".partition("\n")[0],
            "trace": trace_lines(self.steps),
        }
        folder.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        return path


def trace_lines(steps: Sequence[Step]) -> list[str]:
    """The steps of the code under test, one line each; a task that stays where it was is left out.

    What it did out of turn meanwhile counts for its next line.
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
    lines = list(_unrepeated(_line(step, clock, width) for step in shown))
    left_out = len(lines) - MOST_LINES
    return [f"  … {left_out} earlier steps", *lines[-MOST_LINES:]] if left_out > 0 else lines


def _line(step: Step, clock: int, width: int) -> str:
    parts = [f"handles {', '.join(step.handled)}"] if step.handled else []
    if step.ended:
        parts.append("ends")
    elif step.after is not None:
        parts.append(f"stops at {step.after}: {step.after.source}")
    elif not parts:
        parts.append("goes on outside of the code under test")
    origin = f"from {step.before} " if step.before is not None and not step.handled else ""
    return f"  {'*' if step.choice else ' '} {step.at_s:>{clock}g} s  {step.task:<{width}}  {origin}{', '.join(parts)}"


def _unrepeated(lines: Iterable[str]) -> Iterator[str]:
    for line, group in itertools.groupby(lines):
        count = len(list(group))
        yield line if count == 1 else f"{line}  ({count}×)"
