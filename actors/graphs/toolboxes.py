"""Tools that an actor offers and calls, such as those of an MCP server: the declaration, and what such an actor is asked."""

from __future__ import annotations

import fnmatch
from collections.abc import Callable, Mapping
from typing import Any, final

import attrs

from actors.actor import Actor, Request


@final
@attrs.frozen(eq=False)
class Toolbox:
    """Tools behind an actor. The runtime starts one actor for each toolbox, and restarts it; all nodes that name it share it."""

    name: str
    """Stands in the actor's address, in events and in errors."""
    factory: Callable[[], Actor]
    """Makes the actor, which answers :class:`ListTools` and :class:`CallTool`."""
    allow: tuple[str, ...] = ("*",)
    """Which of its tools a model may see: names, with ``*`` for any characters."""

    approve: tuple[str, ...] = ()
    """To which calls a person has to agree: names of tools, with ``*`` for any characters."""

    def approves(self, tool: str) -> bool:
        """Whether a person has to agree to a call of the tool of that name."""
        return any(fnmatch.fnmatchcase(tool, pattern) for pattern in self.approve)

    def allows(self, tool: str) -> bool:
        """Whether a model may see the tool of that name."""
        return any(fnmatch.fnmatchcase(tool, pattern) for pattern in self.allow)


@final
@attrs.frozen
class OfferedTool:
    """A tool as its toolbox describes it."""

    name: str
    description: str
    schema: Mapping[str, Any] = attrs.field(repr=False)
    """The JSON schema of its arguments."""


@final
@attrs.frozen
class ListTools(Request[tuple[OfferedTool, ...]]):
    """What a toolbox is asked for before each round of an agent."""


@final
@attrs.frozen
class CallTool(Request[str]):
    """What a toolbox is asked to do. The answer is a text for the model."""

    name: str
    arguments: Mapping[str, Any]
    key: str = ""
    """By which :class:`CancelTool` names the call; unique among those in progress."""


@final
@attrs.frozen
class CancelTool:
    """Told, not asked: no one wants the result of a call any more."""

    key: str
