"""Tools: functions with their schemas, and tools of DSPy's agents that use trio, wherever the agent runs."""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, ParamSpec, TypeVar, cast

import trio

from actors.errors import UsageError
from actors.words import words_of
from runtime.lm.dspy.crossing import Crossing
from runtime.lm.dspy.library import library, warm_up

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


async def with_schemas(options: Mapping[str, Any]) -> Mapping[str, Any]:
    """`options` with the ``tools`` as providers take them: a function is described by its signature and its docstring.

    Tools that are mappings are left as they are. A checkpoint only where a function has to be described and DSPy, which does it,
    is not imported yet.

    Raises:
        UsageError: a tool is something else.
    """
    tools: object = options.get("tools")
    if tools is None:
        return options
    if not isinstance(tools, list | tuple):
        raise _no_tool(f"tools={_shown(tools)}: expected a list")
    given = cast("list[object] | tuple[object, ...]", tools)
    if all(isinstance(tool, Mapping) for tool in given):
        return options
    await warm_up()
    return {**options, "tools": [_schema(tool, index) for index, tool in enumerate(given)]}


def _schema(tool: object, index: int) -> Any:
    if isinstance(tool, Mapping):
        return cast("Mapping[str, Any]", tool)
    described: Any = library().Tool
    if not isinstance(tool, described):
        if not callable(tool) or isinstance(tool, type):
            raise _no_tool(f"tool {index} is {_shown(tool)}")
        try:
            tool = described(tool)
        except Exception as error:
            raise _no_tool(f"tool {index}, {_shown(tool)}, cannot be described: {words_of(error)}") from error
    return cast("Any", tool).format_as_litellm_function_call()


def _shown(tool: object) -> str:
    name = getattr(tool, "__qualname__", None)
    return f"the {type(tool).__name__} {name}" if isinstance(name, str) else f"a {type(tool).__name__}"


def _no_tool(what: str) -> UsageError:
    return UsageError(
        f"chat(): {what}.\n"
        "  Fix: pass functions with annotated parameters, dspy.Tool instances, or mappings in OpenAI's form, in a list."
    )
