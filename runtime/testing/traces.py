"""Golden traces: what happened, as lines of text, compared with a file that is committed."""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any, final

import attrs

from actors.words import kind_of, words_of
from runtime.core.events import Event

UPDATE = "UNDERSTUDY_UPDATE"
"""The environment variable that makes :func:`assert_golden` write the files instead."""


@final
class EventLog:
    """An instrument that keeps every event as a line: ``open_runtime(instruments=[log])``."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def __call__(self, event: Event) -> None:
        """Keep `event`."""
        self.lines.append(event_line(event))


def event_line(event: Event) -> str:
    """One event as a line: its time, its kind and its fields, errors by their type and text, without addresses of objects."""
    fields = [f"{field.name}={_shown(getattr(event, field.name))}" for field in attrs.fields(type(event)) if field.name != "at_s"]
    return " ".join([f"{event.at_s:.6f}", type(event).__name__, *fields])


def _shown(value: Any) -> str:
    if isinstance(value, BaseException):
        return f"{kind_of(value)}({words_of(value).partition(chr(10))[0]!r})"
    if value is None or isinstance(value, str | int | float | bool):
        return str(value)
    return type(value).__name__


def assert_golden(lines: Iterable[str], file: Path) -> None:
    """Assert that `lines` are those of `file`; ``UNDERSTUDY_UPDATE=1`` in the environment writes the file instead.

    Raises:
        AssertionError: they differ; it shows a diff, expected lines with ``-``, those that came with ``+``.
    """
    came = list(lines)
    if os.environ.get(UPDATE):
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("".join(f"{line}\n" for line in came), encoding="utf-8")
        return
    expected = file.read_text(encoding="utf-8").splitlines() if file.exists() else []
    if came != expected:
        diff = "\n".join(difflib.unified_diff(expected, came, file.name, "this run", lineterm="", n=2))
        what = f"the trace differs from {file.name}" if file.exists() else f"there is no {file} to compare the trace with"
        raise AssertionError(f"{what}:\n{diff}\nIf it should: {UPDATE}=1 pytest …")
