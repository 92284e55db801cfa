"""What can be known of a node's tools before a model calls them: each has a schema. A further check of graphs."""

from __future__ import annotations

from collections.abc import Iterator

from actors.errors import DeclarationError, Problem
from actors.graphs.node import NodeSpec
from runtime.lm.tools.tool_schemas import schema_of


def tool_problems(spec: NodeSpec) -> Iterator[Problem]:
    """What is wrong with the tools of one node."""
    for tool in spec.tools:
        try:
            schema_of(tool)
        except DeclarationError as error:
            what, _, fix = str(error).partition("\n  Fix: ")
            yield Problem(
                "tool-type",
                spec.name,
                f"its tool {tool.name!r} ({tool.tool.place}) cannot be described: {what}",
                fix or "take what JSON can hold: numbers, texts, lists, message types.",
                spec.location,
            )
