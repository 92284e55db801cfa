"""Scripts that look after themselves: what a test has scripted is compared, at its end, with what was asked.

One rule for ``ScriptedLM``, for the loopback provider and for the providers of a virtual network: every answer of a list, every
failure of a list and every key has to be asked for, and every question has to be foreseen. The plugin opens
:func:`followed_scripts` around each test, and ``explore`` around each run. Who uses neither calls ``assert_used_up()``.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Literal, Protocol, final, get_args

import attrs

from actors.errors import DeclarationError
from actors.words import repr_of

Tolerance = Literal["fail", "ok"]
"""What a departure from the script means for the test."""


class ScriptMismatch(AssertionError):
    """A test came to its end, and a script in it was not followed. Shows what was asked beside what was scripted."""


class CheckedScript(Protocol):
    """What is compared."""

    def mismatch(self) -> str | None:
        """How what was asked differs from what was scripted; None when it does not, or may."""
        ...


@final
@attrs.frozen
class ScriptQuestion:
    """One question that came to a script."""

    text: str
    in_vain: bool = False
    """Whether the script had no answer for it."""


@final
@attrs.frozen
class Tolerances:
    """What a script puts up with."""

    unused: bool = False
    unforeseen: bool = False

    @classmethod
    def of(cls, maker: str, unused: Tolerance, unforeseen: Tolerance) -> Tolerances:
        """From the options of `maker`.

        Raises:
            DeclarationError: one is neither ``"fail"`` nor ``"ok"``.
        """
        for name, value in (("unused", unused), ("unforeseen", unforeseen)):
            if value not in get_args(Tolerance):
                raise DeclarationError(f"{maker}({name}={repr_of(value)}): expected 'fail' or 'ok'.")
        return cls(unused == "ok", unforeseen == "ok")


def difference(owner: str, maker: str, unused: Sequence[str], asked: Sequence[ScriptQuestion], allowed: Tolerances) -> str | None:
    """How what was asked of `owner` differs from its script, of which `unused` is left; None where that is allowed.

    `maker` is what takes the options ``unused`` and ``unforeseen``.
    """
    left: Sequence[str] = () if allowed.unused else unused
    in_vain = not allowed.unforeseen and any(each.in_vain for each in asked)
    if not left and not in_vain:
        return None
    whys = ["has answers that were never asked for"] * bool(left) + ["was asked what it has no answer for"] * in_vain
    fixes = ['unused="ok" if answers may be left over'] * bool(left)
    fixes += ['unforeseen="ok" if the code may do without an answer'] * in_vain
    head = f"{owner} {' and '.join(whys)}. Unused (-), asked (+), asked in vain (!):"
    fix = f"  Fix: correct the script, or the code that asks; or {maker}(…, {', and '.join(fixes)})."
    return "\n".join([head, *marked(left, asked), fix])


def marked(unused: Sequence[str], asked: Sequence[ScriptQuestion]) -> list[str]:
    """The lines of a diff between a script and what was asked."""
    lines = [f"  {'!' if each.in_vain else '+'} {number}: {excerpt(each.text)!r}" for number, each in enumerate(asked, 1)]
    return [*(f"  - {line}" for line in unused), *(lines or ["  + nothing"])]


def excerpt(text: str, most: int = 200) -> str:
    """`text`, or its beginning and its end."""
    return text if len(text) <= most else f"{text[: most // 2]} … {text[-most // 2 :]}"


_made: ContextVar[list[CheckedScript] | None] = ContextVar("made", default=None)


def enroll(script: CheckedScript) -> None:
    """Let `script` be compared at the end of the present test; of none when there is none."""
    made = _made.get()
    if made is not None:
        made.append(script)


def begin() -> list[CheckedScript]:
    """From here on scripts are collected in the list that is returned, until :func:`end`."""
    made: list[CheckedScript] = []
    _made.set(made)
    return made


def end() -> None:
    """Collect no more."""
    _made.set(None)


def compare(made: list[CheckedScript]) -> None:
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
    made: list[CheckedScript] = []
    token = _made.set(made)
    try:
        yield
    finally:
        _made.reset(token)
    compare(made)
