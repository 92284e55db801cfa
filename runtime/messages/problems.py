"""What is wrong with a value: every problem with its place, in words that fit anyone who sent it."""

from __future__ import annotations

from collections.abc import Sequence

from actors.message_errors import FieldProblem as FieldProblem
from actors.message_errors import MessageInvalid as MessageInvalid

SHOWN_PROBLEMS = 10
"""How many problems the text of an error names; its ``problems`` have more."""
MAX_PROBLEMS = 100
"""How many problems one reading collects."""


def invalid(what: str, problems: Sequence[FieldProblem]) -> MessageInvalid:
    """The error for `problems`; `what` tells what could not be done, for example ``"the value does not make a Question"``."""
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
