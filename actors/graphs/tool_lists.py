"""``Tools``: what a node is given to call the tools of a toolbox in its own code."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Protocol

from actors.graphs.annotations import NameLookup, Unreadable, shown, split
from actors.graphs.markers import Dep
from actors.graphs.toolboxes import Toolbox
from actors.graphs.tools import Tool


class Tools(Protocol):
    """The tools that a toolbox offers, for code: annotate a parameter of a node with ``Annotated[Tools, Dep(mcp("files", …))]``.

    They belong to one attempt at one message. Each call is a step of the run, as one of a language model's is: with a path, an
    event, the approval that the toolbox asks for, and, in a stored run, its result recorded. Each :class:`Tool` in it is called
    with its arguments by name, and gives a text; it may stand in ``lm.chat(messages, tools=[…])``.
    """

    def __iter__(self) -> Iterator[Tool]:
        """Those that the toolbox allows, in the server's order."""
        ...

    def __len__(self) -> int:
        """How many there are."""
        ...

    async def call(self, name: str, /, **arguments: Any) -> str:
        """Call the tool of that name; cancelled, the server is told so.

        Raises:
            ToolFailed: the tool says that it failed. ToolServerLost: the server ended meanwhile; it is started again.
            ToolTimedOut: it took longer than the toolbox allows. ToolRefused: a person has declined the call.
            UsageError: there is no tool of that name.
        """
        ...

    def dspy(self) -> list[Any]:
        """The same as ``dspy.Tool`` instances, for ``dspy.ReAct`` and its like: calls from threads run on trio, too.

        Raises:
            UsageError: the installed DSPy is not one that has been tried.
        """
        ...


def asks_for_tools(annotation: object, names: NameLookup) -> Toolbox | None:
    """The toolbox whose tools a parameter of a node gets; None if it asks for something else.

    Raises:
        Unreadable: it asks for them as something else than ``Tools``.
    """
    wanted, markers = split(annotation, names)
    box = next((marker.function for marker in markers if isinstance(marker, Dep) and isinstance(marker.function, Toolbox)), None)
    if box is not None and wanted is not Tools:
        raise Unreadable(
            "dep-toolbox",
            f"the toolbox {box.name!r} gives Tools, and {shown(wanted)} is wanted.",
            "write Annotated[Tools, Dep(…)], with Tools from runtime.tools.",
        )
    if box is None and wanted is Tools:
        raise Unreadable(
            "dep-toolbox", "nothing tells whose tools it gets.", 'write Annotated[Tools, Dep(mcp("files", command=[…]))].'
        )
    return box
