"""The error for a value that does not make a message, and each thing that is wrong with it.

::

    UnderstudyError
    └── MessageInvalid              a value does not make a message of the declared type
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import final

import attrs

from actors.errors import UnderstudyError


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
