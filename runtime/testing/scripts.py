"""Scripts that look after themselves: each ``ScriptedLM`` that a test made is compared, at its end, with what it was asked.

The plugin opens :func:`followed_scripts` around each test, and ``explore`` around each run. Who uses neither calls
``ScriptedLM.assert_used_up()``.
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Protocol


class ScriptMismatch(AssertionError):
    """A test came to its end, and a script in it was not followed. Says what was asked beside what was scripted."""


class Script(Protocol):
    """What is compared."""

    def mismatch(self) -> str | None:
        """How what was asked differs from what was scripted; None when it does not, or may."""
        ...


_made: ContextVar[list[Script] | None] = ContextVar("made", default=None)


def enroll(script: Script) -> None:
    """Let `script` be compared at the end of the present test; of none when there is none."""
    made = _made.get()
    if made is not None:
        made.append(script)


def begin() -> list[Script]:
    """From here on scripts are collected in the list that is returned, until :func:`end`."""
    made: list[Script] = []
    _made.set(made)
    return made


def end() -> None:
    """Collect no more."""
    _made.set(None)


def compare(made: list[Script]) -> None:
    """Compare each script once.

    Raises:
        ScriptMismatch: some were not followed.
    """
    __tracebackhide__ = True
    found = [text for script in made if (text := script.mismatch()) is not None]
    made.clear()
    if found:
        raise ScriptMismatch("\n".join(found))


@contextmanager
def followed_scripts() -> Generator[None]:
    """Compare the scripts that are made in the block when it comes to its end; not when it fails, which says enough."""
    made: list[Script] = []
    token = _made.set(made)
    try:
        yield
    finally:
        _made.reset(token)
    compare(made)
