"""A failed run in words: per node that gave up, its attempt, the cause, where it was raised and from which input."""

from __future__ import annotations

import linecache
import traceback
from collections.abc import Iterator
from typing import Final

from actors.errors import NodeFailed
from actors.groups import leaves_of
from actors.words import kind_of, repr_of, words_of
from runtime.cli.terminal import one_line, plain
from runtime.core.tracebacks import places_of

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


def _node_lines(failure: NodeFailed) -> Iterator[str]:
    yield f"understudy: {_node_line(failure)}"
    for place in places_of(failure.__cause__) if failure.__cause__ is not None else ():
        yield "  at " + one_line(f"{place}: {linecache.getline(place.file, place.line).strip()}")
    if failure.input is not None:
        yield f"  input: {one_line(repr_of(failure.input))}"


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
