"""JSON as a language model writes it, read within bounds.

json_repair, which DSPy reads answers with, takes time by the square of some answers: 16 kB of badly quoted text hold an event
loop for ten seconds. So the text counts how often it is looked at, and reading ends when that is too often. Looks, not seconds:
what an answer is read to does not depend on the machine.
"""

from __future__ import annotations

import json
from collections.abc import Generator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Protocol, cast, final

import attrs

from runtime.lm.dspy.import_dspy import part
from runtime.messages.shapes import as_list

MAX_CHARACTERS = 2_000_000
"""A longer answer is not read: no model writes one, and Python's own parser would hold the loop for a tenth of a second."""
MAX_DEPTH = 100
"""Lists and objects within each other. Deeper ones end in a RecursionError somewhere behind."""
ON_THE_LOOP = 60_000
"""Looks that the event loop may be held for: some 20 ms."""
IN_A_THREAD = 3_000_000
"""Looks that a thread may spend on one answer: a second or two."""


class TooHard(Exception):
    """Reading an answer would take more than it may. A reader in a thread may try further when ``is_for_now``."""

    def __init__(self, reason: str, *, is_for_now: bool = False) -> None:
        super().__init__(reason)
        self.is_for_now = is_for_now


@final
@attrs.define(eq=False)
class Effort:
    """What is left of the looks at one answer."""

    left: int
    is_last: bool
    """Whether no reader tries further."""

    def spend(self, looks: int) -> None:
        """Raises TooHard when that is more than what is left."""
        self.left -= looks
        if self.left < 0:
            raise TooHard("it is not JSON, and too badly broken to be repaired", is_for_now=not self.is_last)


_effort: ContextVar[Effort | None] = ContextVar("understudy_reading_effort", default=None)


@contextmanager
def limited(looks: int, *, is_last: bool) -> Generator[Effort]:
    """All that is read in the block shares `looks`."""
    effort = Effort(looks, is_last)
    token = _effort.set(effort)
    try:
        yield effort
    finally:
        _effort.reset(token)


class _Repairer(Protocol):
    def repair_json(self, json_str: str, *, return_objects: bool, skip_json_loads: bool) -> Any: ...


class _Counted(str):
    """A text whose characters count when they are looked at."""

    __slots__ = ("effort",)
    effort: Effort

    def __getitem__(self, key: Any) -> str:
        effort = self.effort
        effort.left -= 1 if key.__class__ is int else 1 + len(self) // 64
        if effort.left < 0:
            effort.spend(0)
        return str.__getitem__(self, key)


def read(text: str) -> Any:
    """What `text` is as JSON, repaired if it must be; an empty text when nothing can be made of it.

    Raises:
        TooHard: it is too long, too deep or too broken.
    """
    check_length(text)
    try:
        value = json.loads(text)
    except RecursionError:
        raise _too_deep() from None
    except ValueError:
        value = _repaired(text)
    check_depth(value)
    return value


def read_object(text: str) -> dict[str, Any] | None:
    """The object in `text`, which may stand among prose; None when there is none. Raises what :func:`read` raises."""
    value = read(text)
    if not isinstance(value, dict):
        found = _first_braces(text)
        value = read(found) if found else None
    return cast("dict[str, Any]", value) if isinstance(value, dict) else None


def check_length(text: str) -> None:
    """Raises TooHard when `text` is too long to be read."""
    if len(text) > MAX_CHARACTERS:
        raise TooHard(f"it has {len(text)} characters; at most {MAX_CHARACTERS} are read")


def check_depth(value: object) -> None:
    """Raises TooHard when `value`, as JSON has it, is nested too deeply."""
    level: list[Any] = [value]
    for _ in range(MAX_DEPTH):
        inner: list[Any] = []
        for each in level:
            if isinstance(each, dict):
                inner.extend(cast("dict[str, Any]", each).values())
            elif isinstance(each, list):
                inner.extend(as_list(cast("object", each)))
        if not inner:
            return
        level = inner
    raise _too_deep()


def _too_deep() -> TooHard:
    return TooHard(f"its lists and objects are more than {MAX_DEPTH} deep")


def _repaired(text: str) -> Any:
    repairer: _Repairer = part("adapters.utils").json_repair
    counted = _Counted(text)
    counted.effort = _effort.get() or Effort(ON_THE_LOOP, is_last=True)
    try:
        return repairer.repair_json(counted, return_objects=True, skip_json_loads=True)
    except RecursionError:
        raise _too_deep() from None
    except ValueError:  # so it says of what it cannot repair, and Python of a number of thousands of digits
        return ""


def _first_braces(text: str) -> str:
    """The first part of `text` from a ``{`` to the ``}`` that closes it; empty when there is none."""
    open_at: list[int] = []
    first: tuple[int, int] | None = None
    for at, character in enumerate(text):
        if character == "{":
            open_at.append(at)
        elif character == "}" and open_at:
            start = open_at.pop()
            if first is None or start < first[0]:
                first = start, at + 1
            if not open_at:
                break
    return text[slice(*first)] if first else ""
