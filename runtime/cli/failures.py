"""A failed run in words: one line per node that gave up, with its attempt and the cause."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from actors.errors import NodeFailed
from actors.groups import leaves_of
from actors.words import kind_of, words_of
from runtime.cli.terminal import one_line, plain

_ALL: Final = 1_000_000
"""Characters of an error's own text on a terminal: nearly as many as it has."""


def describe(error: BaseException) -> str:
    """The lines that say what failed, safe to print; those that begin a message begin with the command's name.

    A ``RunFailed`` gives one line per node; anything else its own message, in as many lines as it has.
    """
    leaves = [leaf for leaf in leaves_of(error) if isinstance(leaf, NodeFailed)]
    if leaves:
        return "\n".join(f"understudy: {_node_line(leaf)}" for leaf in leaves)
    return f"understudy: {plain(words_of(error, _ALL) or kind_of(error))}"


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
