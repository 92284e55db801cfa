"""A failed run in words: per node that gave up, its attempt, the cause, where it was raised and from which input."""

from __future__ import annotations

import sysconfig
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from actors.errors import NodeFailed
from actors.groups import leaves_of
from actors.words import kind_of, repr_of, words_of
from runtime.cli.terminal import one_line, plain

_ALL: Final = 1_000_000
"""Characters of an error's own text on a terminal: nearly as many as it has."""


def describe(error: BaseException) -> str:
    """The lines that say what failed, safe to print; those that begin a message begin with the command's name.

    A ``RunFailed`` gives, for each node, what failed, the author's line that raised it, and the input; anything else gives its
    own message, in as many lines as it has.
    """
    leaves = [leaf for leaf in leaves_of(error) if isinstance(leaf, NodeFailed)]
    if leaves:
        return "\n".join(line for leaf in leaves for line in _node_lines(leaf))
    return f"understudy: {plain(words_of(error, _ALL) or kind_of(error))}"


def describe_whole(error: BaseException) -> str:
    """The traceback of `error` with all its causes, safe to print."""
    return plain("".join(traceback.format_exception(error)))


_NOT_THE_AUTHORS: Final = tuple(
    str(folder)
    for folder in (
        Path(__file__).resolve().parents[1],
        Path(__file__).resolve().parents[2] / "actors",
        *(Path(sysconfig.get_path(name)).resolve() for name in ("stdlib", "purelib", "platlib")),
    )
)
"""Folders whose frames are not shown as the place of an error: ours, Python's, and what is installed."""


def _node_lines(failure: NodeFailed) -> Iterator[str]:
    yield f"understudy: {_node_line(failure)}"
    for leaf in leaves_of(failure.__cause__) if failure.__cause__ is not None else ():
        frames = [frame for frame in traceback.extract_tb(leaf.__traceback__) if _is_the_authors(frame.filename)]
        if frames:
            yield "  at " + one_line(f"{frames[-1].filename}:{frames[-1].lineno} in {frames[-1].name}: {frames[-1].line}")
    if failure.input is not None:
        yield f"  input: {one_line(repr_of(failure.input))}"


def _is_the_authors(file: str) -> bool:
    return not file.startswith(("<", *_NOT_THE_AUTHORS))


def _node_line(failure: NodeFailed) -> str:
    cause = failure.__cause__
    why = f"{kind_of(cause)}: {_first_words(cause)}" if cause is not None else words_of(failure)
    return one_line(f"node {failure.node!r} failed (attempt {failure.attempt}): {why}")


def _first_words(error: BaseException) -> str:
    """What happened; of a group, what happened to each."""
    return "; ".join(dict.fromkeys(_messages(error))) or "no message"


def _messages(error: BaseException) -> Iterator[str]:
    for leaf in leaves_of(error):
        text = one_line(words_of(leaf))
        yield text if leaf is error else f"{kind_of(leaf)}: {text}"
