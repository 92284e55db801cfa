"""What ``@graph.node`` and the like do around a declaration: find the frame they are used in, and replace what has no body."""

from __future__ import annotations

import functools
import inspect
import types
from collections.abc import Callable
from typing import Any

from actors.errors import UsageError
from actors.graphs.annotations import location
from actors.graphs.dependencies import ORIGINAL
from actors.graphs.node import NodeDeclaration


def caller() -> types.FrameType | None:
    """The frame of the caller of the function that calls this."""
    here = inspect.currentframe()
    asking = here.f_back if here is not None else None
    return asking.f_back if asking is not None else None


def decorator(declaring: Callable[[Any, types.FrameType | None], Any], function: Any, frame: types.FrameType | None) -> Any:
    """What ``@graph.node`` (with `function`, in `frame`) or ``@graph.node(…)`` (without) gives."""
    if function is not None:
        return declaring(function, frame)

    def decorate(function: Any) -> Any:
        return declaring(function, caller())

    return decorate


def unfilled(function: types.FunctionType, declaration: NodeDeclaration) -> Callable[..., Any]:
    """What takes the place of a function that a language model or a person fills: it has no body to call."""

    @functools.wraps(function)
    def called(*_args: Any, **_kwargs: Any) -> Any:
        if declaration.human is not None:
            raise UsageError(
                f"{declaration.name!r} is filled by a person; it has no body to call ({location(function)}).\n"
                "  Fix: run the graph, in a test with runtime.testing.answering(…)."
            )
        raise UsageError(
            f"{declaration.name!r} is filled by a language model; it has no body to call ({location(function)}).\n"
            "  Fix: run the graph, in a test with a scripted LM; or call lm.predict(…) yourself."
        )

    setattr(called, ORIGINAL, function)
    return called
