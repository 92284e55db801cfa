"""Answers that a test has ready for the questions of its runs, in place of people."""

from __future__ import annotations

from collections.abc import Sequence
from contextvars import ContextVar
from typing import Any, final

import attrs

from actors.graphs.annotations import is_message_type
from actors.graphs.tools import function_of
from runtime.graphs.records.carried import Carried
from runtime.graphs.records.stored_answers import is_object
from runtime.messages.shapes import as_object


@final
@attrs.frozen(eq=False)
class Scripted:
    """An answer that a test has ready; see ``runtime.testing.answering``."""

    asks: Any
    """The type that is asked about; or the function that is a tool, for calls of it."""
    value: Any
    by: str | None


SCRIPTED: ContextVar[tuple[Scripted, ...]] = ContextVar("understudy_scripted_answers", default=())


def _is_about(what: Any, asked: object) -> bool:
    """Whether `what`, a type or the function of a tool, is that of the message `asked`."""
    return isinstance(asked, what) if isinstance(what, type) else function_of(type(asked)) is what


def is_function(value: object) -> bool:
    """Whether `value` makes an answer and is none."""
    return callable(value) and not is_message_type(type(value))


def scripted_for(carried: Carried, asks: Any) -> Scripted | None:
    """What the test has ready for a question about `asks`; None if nothing."""
    for variable, value in carried:
        if variable is SCRIPTED:
            found: Sequence[Scripted] = value
            parts: tuple[Any, ...] = tuple(as_object(asks).values()) if is_object(asks) else (asks,)
            return next((each for each in found if any(_is_about(each.asks, part) for part in parts)), None)
    return None
