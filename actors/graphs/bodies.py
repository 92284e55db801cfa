"""Whether a function has a body, by its bytecode, so no source is needed."""

from __future__ import annotations

import dis
import inspect
import types
from typing import cast


async def _empty_async() -> None: ...


def _empty() -> None: ...


async def _left_open_async() -> None:
    raise NotImplementedError


async def _left_open_called_async() -> None:
    raise NotImplementedError()  # compiles differently


async def _left_open_said_async() -> None:
    raise NotImplementedError("why")


def _left_open() -> None:
    raise NotImplementedError


def _left_open_called() -> None:
    raise NotImplementedError()


def _left_open_said() -> None:
    raise NotImplementedError("why")


def is_empty(function: types.FunctionType) -> bool:
    """Whether the body does nothing but return None: compared as bytecode, so no source is needed."""
    model = cast("types.FunctionType", _empty_async if inspect.iscoroutinefunction(function) else _empty)
    is_as_long = len(function.__code__.co_code) == len(model.__code__.co_code)  # for large graphs: a look at each step takes time
    return is_as_long and _steps(function) == _steps(model)


def has_no_body(function: types.FunctionType) -> bool:
    """Whether the body is what one writes where there is none: nothing, ``...``, or ``raise NotImplementedError``."""
    models = (
        (_left_open_async, _left_open_called_async, _left_open_said_async)
        if inspect.iscoroutinefunction(function)
        else (_left_open, _left_open_called, _left_open_said)
    )
    return is_empty(function) or _steps(function) in map(_steps, cast("tuple[types.FunctionType, ...]", models))


def _steps(function: types.FunctionType) -> list[tuple[str, object]]:
    """The bytecode of a function; any text in it counts as the same."""
    steps = dis.get_instructions(function)
    return [(step.opname, str if isinstance(step.argval, str) and step.opname == "LOAD_CONST" else step.argval) for step in steps]
