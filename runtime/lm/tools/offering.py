"""Tools that are offered in one call of a language model, outside of a node: described, and left to the caller to run."""

from __future__ import annotations

import types
from collections.abc import Mapping
from typing import Any, cast

from actors.errors import DeclarationError, UsageError
from actors.graphs.annotations import NameLookup, Unreadable, capture
from actors.graphs.tools import Tool, ToolForm, as_tool, read_tool
from runtime.lm.tools.tool_schemas import schema_of


def with_schemas(options: Mapping[str, Any]) -> Mapping[str, Any]:
    """`options` with the ``tools`` as providers take them: a function is described by its signature and its docstring.

    Parameters that a node would inject (``LM``, ``Run``, ``Dep``) are not shown. Tools that are mappings are left as they are.

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
    return {**options, "tools": [_described(tool, index) for index, tool in enumerate(given)]}


def _described(what: object, index: int) -> Any:
    if isinstance(what, Mapping):
        return cast("Mapping[str, Any]", what)
    tool = as_tool(what, _names)
    if tool.form is ToolForm.UNKNOWN:
        raise _no_tool(f"tool {index} is {_shown(what)}")
    try:
        return schema_of(read_tool(tool, {})).as_openai()
    except (Unreadable, DeclarationError) as error:
        fix = f"\n  Fix: {error.fix}" if isinstance(error, Unreadable) else ""
        raise UsageError(f"chat(): tool {index}, {_shown(what)}, cannot be described: {error}{fix}") from error


def _names(function: types.FunctionType) -> NameLookup:
    return capture(function, None)


def _shown(tool: object) -> str:
    if isinstance(tool, Tool):
        return f"the tool {tool.name}"
    name = getattr(tool, "__qualname__", None)
    return f"the {type(tool).__name__} {name}" if isinstance(name, str) else f"a {type(tool).__name__}"


def _no_tool(what: str) -> UsageError:
    return UsageError(
        f"chat(): {what}.\n"
        "  Fix: pass functions with annotated parameters, tool(…), dspy.Tool instances, or mappings in OpenAI's form, in a list."
    )
