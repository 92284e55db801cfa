"""Tools of DSPy's agents that use trio, wherever the agent runs."""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, ParamSpec, TypeVar

import trio

from runtime.lm.dspy.from_threads import Crossing
from runtime.lm.dspy.import_dspy import library

P = ParamSpec("P")
T = TypeVar("T")


def trio_tool(function: Callable[P, Awaitable[T]]) -> Callable[P, Any]:
    """`function`, an ``async def`` that uses trio, as a tool for an agent that may run in a worker thread.

    An agent that runs on trio itself, such as ``ReAct``, awaits an ``async def`` as it is and needs no wrapping. Inside a module
    that runs in a thread, such as ``BestOfN``, the call comes back onto trio, to the cancel scope of the run.
    """

    @functools.wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> Any:
        if trio.lowlevel.in_trio_run():
            return function(*args, **kwargs)

        async def work() -> T:
            return await function(*args, **kwargs)

        try:
            trio.from_thread.check_cancelled()
        except RuntimeError:  # a thread that trio did not start
            crossing = getattr(library().settings.lm, "crossing", None)
            if not isinstance(crossing, Crossing):
                raise
            return crossing.run(work)
        return trio.from_thread.run(work)

    return call


def served_tool(call: Callable[..., Awaitable[str]], name: str, description: str, schema: Mapping[str, Any]) -> Any:
    """A ``dspy.Tool`` of a tool that only a JSON `schema` of its arguments describes, as DSPy makes one of an MCP tool."""
    properties = dict(schema.get("properties") or {})
    definitions = schema.get("$defs")
    if definitions:  # what an argument refers to goes with it: DSPy checks each argument apart
        properties = {key: {**value, "$defs": definitions} for key, value in properties.items()}
    kinds = {key: _KINDS.get(value.get("type"), Any) for key, value in properties.items()}

    async def called(**arguments: Any) -> str:
        return await call(**arguments)

    return library().Tool(trio_tool(called), name=name, desc=description, args=properties, arg_types=kinds)


_KINDS: Mapping[Any, Any] = {"string": str, "integer": int, "number": float, "boolean": bool, "array": list, "object": dict}
