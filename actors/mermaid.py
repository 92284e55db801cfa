"""The picture of a graph as Mermaid text. Pure; the same graph always gives the same text."""

from __future__ import annotations

from collections.abc import Iterator

from actors.edges import Edge
from actors.node import Kind, NodeSpec
from actors.plan import Plan

_ESCAPES = str.maketrans(
    {"#": "#35;", '"': "#34;", "<": "#60;", ">": "#62;", "|": "#124;", "`": "#96;", "&": "#38;", "\\": "#92;", "\n": " "}
)


def draw(plan: Plan) -> str:
    """The text, without a newline at its end.

    Input: rounded at the ends; output: with double sides; a node that a language model fills: a hexagon; a node that is an actor:
    a circle; a node that is a graph: that graph in a frame; other nodes: boxes. A fan-out is a thick arrow, a connection with a
    condition a dotted one; a gathered type is written ``list[A]``. What a node depends on is joined to it by a line with a dot.
    """
    return "\n".join(["graph TD", *_body(plan, "", "    ", (plan.name,))])


def _body(plan: Plan, prefix: str, indent: str, around: tuple[str, ...]) -> Iterator[str]:
    """The lines of one graph; `prefix` keeps its ids apart from those of the graph around it."""
    names = {name: f"{prefix}n{index}" for index, name in enumerate(plan.nodes, start=1)}
    yield f'{indent}{prefix}input(["{_types(plan.input_types)}"])'
    for name, spec in plan.nodes.items():
        if spec.kind is Kind.GRAPH and spec.embedded.name not in around:
            yield f'{indent}subgraph {names[name]}["{escape(name)}"]'
            yield from _body(spec.embedded.sketch(), f"{names[name]}_", f"{indent}    ", (*around, spec.embedded.name))
            yield f"{indent}end"
        else:
            yield f"{indent}{names[name]}{_box(spec)}"
    yield f'{indent}{prefix}output[["{_types(plan.output_types)}"]]'
    yield from (f"{indent}{arrow}" for arrow in dict.fromkeys(_arrows(plan, names, prefix)))
    yield from (f"{indent}{names[name]} --o|Dep| {names[user]}" for name, user in needs_of(plan))


def needs_of(plan: Plan) -> Iterator[tuple[str, str]]:
    """Each node that is a dependency with each node that needs it, also by way of functions: (``street``, ``label``)."""
    for spec in plan.nodes.values():
        yield from dict.fromkeys((need.node, spec.name) for need in spec.all_needs if need.node is not None)


def escape(text: str) -> str:
    """`text` so that Mermaid shows it and does not read it."""
    return text.translate(_ESCAPES)


def _types(kinds: tuple[type, ...]) -> str:
    return escape(" | ".join(kind.__name__ for kind in kinds))


def _box(spec: NodeSpec) -> str:
    label = escape(spec.name)
    if spec.kind is Kind.ACTOR:
        return f'(("{label}"))'
    return f'{{{{"{label}"}}}}' if spec.kind is Kind.PREDICT else f'["{label}"]'


def _arrows(plan: Plan, names: dict[str, str], prefix: str) -> Iterator[str]:
    for edge in plan.edges:
        source = names[edge.source] if edge.source is not None else f"{prefix}input"
        target = names[edge.target] if edge.target is not None else f"{prefix}output"
        yield f"{source} {_arrow(edge)}|{_label(edge)}| {target}"


def _arrow(edge: Edge) -> str:
    return "-.->" if edge.conditional else "==>" if edge.fans_out else "-->"


def label_of(edge: Edge) -> str:
    """What stands on an edge: its type; ``list[A]`` where it is gathered; ``left: A`` where a connection names the parameter."""
    kind = f"list[{edge.type.__name__}]" if edge.gathers else edge.type.__name__
    return f"{edge.parameter}: {kind}" if edge.named else kind


def _label(edge: Edge) -> str:
    shown = escape(label_of(edge))
    return f'"{shown}"' if edge.gathers else shown
