"""The tools of a toolbox as an author's code calls them: in a node, where each call is a step, or outside of runs."""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, final

import attrs

from actors.actor import ActorRef
from actors.errors import UsageError
from actors.graphs.toolboxes import CallTool, ListTools, OfferedTool, Toolbox
from actors.graphs.tools import Tool, ToolForm
from runtime.graphs.nodes.calling import answer_of, answer_or_cancel

Perform = Callable[[OfferedTool, Mapping[str, Any]], Awaitable[str]]
"""Calls a tool with arguments; returns what it gave."""


@final
@attrs.frozen(eq=False)
class ServedCall:
    """The call of one tool, by names."""

    tool: OfferedTool
    perform: Perform

    @property
    def schema(self) -> Mapping[str, Any]:
        """The JSON schema of its arguments."""
        return self.tool.schema

    async def __call__(self, **arguments: Any) -> str:
        """Call it."""
        return await self.perform(self.tool, arguments)


@final
class HandedTools(list[Tool]):
    """See ``actors.graphs.tool_lists.Tools``."""

    def __init__(self, box: Toolbox, offered: Sequence[OfferedTool], perform: Perform) -> None:
        super().__init__(
            Tool(ServedCall(each, perform), ToolForm.SERVED, each.name, each.description, place=f"toolbox {box.name!r}")
            for each in offered
        )
        self._box = box

    async def call(self, name: str, /, **arguments: Any) -> str:
        """See ``Tools.call``."""
        found = next((tool for tool in self if tool.name == name), None)
        if found is None:
            known = ", ".join(tool.name for tool in self) or "none"
            raise UsageError(
                f"the toolbox {self._box.name!r} has no tool {name!r} that may be called; there are: {known}.\n"
                "  Fix: name one of these, or allow more: allow=(…) of the toolbox."
            )
        given: str = await found.what(**arguments)
        return given

    def dspy(self) -> list[Any]:
        """See ``Tools.dspy``."""
        from runtime.lm.dspy.trio_tools import served_tool  # noqa: PLC0415 - it loads what other code does without

        return [served_tool(tool.what, tool.name, tool.description or "", tool.what.schema) for tool in self]


async def offered_by(box: Toolbox, ref: ActorRef[Any]) -> list[OfferedTool]:
    """What `box`, which `ref` serves, offers now and allows."""
    listed: tuple[OfferedTool, ...] = await answer_of(ref, ListTools())
    return [tool for tool in listed if box.allows(tool.name)]


async def outside_of_runs(box: Toolbox, ref: ActorRef[Any], key: Callable[[], str]) -> HandedTools:
    """The tools of `box` for a caller that isn't a node; `key` makes what names a call."""
    return HandedTools(box, await offered_by(box, ref), functools.partial(_called, box, ref, key))


async def _called(
    box: Toolbox, ref: ActorRef[Any], key: Callable[[], str], tool: OfferedTool, arguments: Mapping[str, Any]
) -> str:
    if box.approves(tool.name):
        raise UsageError(
            f"a person has to agree to calls of {tool.name!r}, and only a run can ask one.\n"
            f"  Fix: call it in a node, which takes Annotated[Tools, Dep({box.name})]."
        )
    return await answer_or_cancel(ref, CallTool(tool.name, dict(arguments), key()))
