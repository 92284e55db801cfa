"""What is wrong with a value: every problem with its place, in words that fit whoever sent it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import final

import attrs

from actors.errors import UnderstudyError

SHOWN_PROBLEMS = 10
"""How many problems the text of an error names; its ``problems`` have more."""
MAX_PROBLEMS = 100
"""How many problems one reading collects."""


@final
@attrs.frozen
class FieldProblem:
    """One thing wrong with a value."""

    path: tuple[str | int, ...]
    """The names of fields and the positions in lists that lead to it; empty for the value itself."""
    message: str
    """What is wrong, with what was expected."""

    @property
    def pointer(self) -> str:
        """The place as a JSON pointer (RFC 6901): ``/bounds/0/low``; empty for the value itself."""
        return "".join("/" + str(part).replace("~", "~0").replace("/", "~1") for part in self.path)

    @property
    def place(self) -> str:
        """The place as an author would write it: ``bounds[0].low``."""
        place = ""
        for part in self.path:
            place += f"[{part}]" if isinstance(part, int) else f".{part}" if place else part
        return place

    def __str__(self) -> str:
        return f"{self.place}: {self.message}" if self.path else self.message


class MessageInvalid(UnderstudyError):
    """A value does not make a message. ``problems`` holds everything that is wrong with it, not only the first thing."""

    retryable: bool | None = False

    def __init__(self, message: str, *, problems: Sequence[FieldProblem] = ()) -> None:
        super().__init__(message)
        self.problems: tuple[FieldProblem, ...] = tuple(problems)


def invalid(what: str, problems: Sequence[FieldProblem]) -> MessageInvalid:
    """The error for `problems`; `what` says what could not be done, for example ``"the value does not make a Question"``."""
    lines = "".join(f"\n  {line}" for line in lines_of(problems))
    named = fields_named(problems) or "the value"
    return MessageInvalid(f"{what}:{lines}\n  Fix: give {named} as its type declares.", problems=problems[:MAX_PROBLEMS])


def lines_of(problems: Sequence[FieldProblem]) -> list[str]:
    """The problems as an error tells them, a line each; of many the first, and how many more there are."""
    more = [f"… and {len(problems) - SHOWN_PROBLEMS} more"] if len(problems) > SHOWN_PROBLEMS else []
    return [*map(str, problems[:SHOWN_PROBLEMS]), *more]


def fields_named(problems: Sequence[FieldProblem]) -> str:
    """The fields that the problems are in, each once, in quotes; empty when they are of the value as a whole."""
    return ", ".join(dict.fromkeys(repr(str(problem.path[0])) for problem in problems if problem.path))
