"""Graphs as tools: their names, schemas and arguments, in the forms that MCP has for them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from typing import Any, Final, cast, final

import attrs

from actors.errors import DeclarationError
from actors.graphs.annotations import description_of
from actors.graphs.graph import Graph
from runtime.messages.kinds import union_of
from runtime.messages.reader import read
from runtime.messages.schemas import schema_of
from runtime.serve.run_documents import description, output_told

MAX_NAME: Final = 64
_NOT_IN_NAMES: Final = re.compile(r"[^A-Za-z0-9_-]")


@final
@attrs.frozen
class GraphTool:
    """A graph, called with one of its input types."""

    name: str
    graph: Graph[Any, Any]
    kind: type
    """The message that the arguments make."""
    description: str
    input_schema: Mapping[str, Any]
    output_schema: Mapping[str, Any] | None
    """None where an output type has no JSON schema."""

    def message(self, arguments: Mapping[str, Any], max_depth: int) -> Any:
        """The graph's input.

        Raises:
            MessageInvalid: `arguments` do not make one.
        """
        return read(self.kind, dict(arguments), max_depth=max_depth)


def tools_of(graphs: Iterable[Graph[Any, Any]]) -> dict[str, GraphTool]:
    """The tools that `graphs` are, by name: one for each input type of a graph.

    Raises:
        DeclarationError: two have one name, a name is too long, or an input has no JSON.
    """
    found: dict[str, GraphTool] = {}
    for graph in graphs:
        plan = graph.plan()
        for kind in plan.input_types:
            parts = [graph.name] if len(plan.input_types) == 1 else [graph.name, kind.__name__]
            name = _NOT_IN_NAMES.sub("_", "_".join(parts))
            if len(name) > MAX_NAME or name in found:
                what = "has more than 64 characters" if len(name) > MAX_NAME else "is that of two tools"
                raise DeclarationError(
                    f"the tool {name!r} of the graph {graph.name!r}: the name {what}.\n  Fix: rename the graph."
                )
            found[name] = GraphTool(name, graph, kind, _described(graph, kind), _object(schema_of(kind)), _outputs(graph))
    return found


def told(output: Any) -> tuple[str, dict[str, Any] | None]:
    """What a graph has made: as text, which is JSON, and as the same object, if it is one."""
    value = output_told(output)
    text = json.dumps(value, ensure_ascii=False)
    return text, cast("dict[str, Any]", value) if isinstance(value, dict) else None


def _described(graph: Graph[Any, Any], kind: type) -> str:
    return description(graph) if len(graph.plan().input_types) == 1 else description_of(kind) or description(graph)


def _outputs(graph: Graph[Any, Any]) -> Mapping[str, Any] | None:
    try:
        return _object(schema_of(union_of(graph.plan().output_types)))
    except DeclarationError:
        return None


def _object(schema: dict[str, Any]) -> dict[str, Any]:
    """`schema` with the type ``object`` at its root, as MCP wants it."""
    reference = schema.get("$ref", "")
    if reference.startswith("#/$defs/"):  # a type that holds itself
        schema = {**schema["$defs"][reference.removeprefix("#/$defs/")], "$defs": schema["$defs"]}
    return {"type": "object", **schema}
