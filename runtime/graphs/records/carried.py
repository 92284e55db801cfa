"""The context variables of the caller that started a run: its nodes find them as a task of the caller would."""

from __future__ import annotations

import contextlib
import contextvars
import decimal
from collections.abc import AsyncGenerator
from typing import Any

import trio

from runtime.core.cell import current_cell, off_duty

Carried = tuple[tuple[contextvars.ContextVar[Any], Any], ...]
"""Variables and their values."""

_OWN = frozenset({current_cell, off_duty})
"""What tells which actor is at work: each has its own."""


def carried_from_here() -> Carried:
    """What the context of this task holds, except for what a node finds in any case."""
    return tuple(pair for pair in contextvars.copy_context().items() if pair[0] not in _OWN and not _is_usual(pair[1]))


def _is_usual(value: object) -> bool:
    """Whether it is the arithmetic context that Python gives to code which has none, as the instances of nodes have none.

    Nearly every program has one, because some library has looked at it, and to set and copy it costs a tenth of a step.
    """
    return type(value) is decimal.Context and value.__reduce__() == decimal.DefaultContext.__reduce__()


def take_on(carried: Carried) -> list[contextvars.Token[Any]]:
    """Let this task see `carried`; the tokens undo it.

    The arithmetic context of ``decimal`` is an object that is changed in place, so each attempt gets its own copy.
    """
    return [variable.set(value.copy() if type(value) is decimal.Context else value) for variable, value in carried]


@contextlib.asynccontextmanager
async def in_context(context: contextvars.Context) -> AsyncGenerator[None]:
    """Work in a copy of `context` instead of the caller's own."""
    task = trio.lowlevel.current_task()
    own, task.context = task.context, context.copy()
    try:
        await trio.lowlevel.checkpoint()  # trio takes up a task's context with each of its steps
        yield
    finally:
        task.context = own
        await trio.lowlevel.cancel_shielded_checkpoint()
