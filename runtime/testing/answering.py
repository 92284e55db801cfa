"""Answers to questions, ready before they are asked: people are not there in tests."""

from __future__ import annotations

import contextlib
import inspect
import types
from collections.abc import Generator
from typing import Any

from actors.errors import DeclarationError
from actors.graphs.annotations import is_message_type
from actors.graphs.tools import Tool
from actors.words import repr_of
from runtime.graphs.records.scripted_answers import SCRIPTED, Scripted


@contextlib.contextmanager
def answering(question_type: Any, value: Any, *, by: str | None = None) -> Generator[None]:
    """While the block lasts, questions about a `question_type` are answered with `value`, in runs that are started in it.

    `question_type` is the type of the message that is asked about, or a function that is a tool with ``approve=``.

    `value` is an answer, a dict of its fields, or a function of what is asked about that returns one. With several blocks the
    innermost that fits answers. The answer is recorded as any other. Stored runs that a runtime takes up are answered, too, if
    the runtime was opened in the block.

    >>> import attrs, trio
    >>> from actors import Graph
    >>> from runtime import open_runtime
    >>> @attrs.frozen
    ... class Draft:
    ...     text: str
    >>> @attrs.frozen
    ... class Approved:
    ...     text: str
    >>> graph = Graph("letters", input=Draft, output=Approved)
    >>> @graph.human
    ... async def approve(draft: Draft) -> Approved:
    ...     "May this be sent?"
    >>> async def main():
    ...     with answering(Draft, lambda draft: Approved(draft.text.upper())):
    ...         async with open_runtime() as runtime:
    ...             return await runtime.run(graph, Draft("hello"))
    >>> trio.run(main)
    Approved(text='HELLO')

    Raises:
        DeclarationError: `question_type` is neither a message type nor a function.
    """
    asks = inspect.unwrap(question_type.what) if isinstance(question_type, Tool) else question_type
    if not (isinstance(asks, types.FunctionType) or (isinstance(asks, type) and is_message_type(asks))):
        raise DeclarationError(
            f"answering({repr_of(question_type)}, …): expected the message type that is asked about.\n"
            "  Fix: answering(Draft, Approved(…)), for a question about a Draft."
        )
    token = SCRIPTED.set((Scripted(asks, value, by), *SCRIPTED.get()))
    try:
        yield
    finally:
        SCRIPTED.reset(token)
