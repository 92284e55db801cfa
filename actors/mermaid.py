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

    Input: rounded at the ends; output: with double sides; a node that a language model fills: a hexagon; other nodes: boxes. A
    fan-out is a thick arrow, a connection with a condition a dotted one; a gathered type is written ``list[A]``.
    """
    names = {name: f"n{index}" for index, name in enumerate(plan.nodes, start=1)}
    lines = ["graph TD", f'    input(["{_types(plan.input_types)}"])']
    lines += [f"    {names[name]}{_box(spec)}" for name, spec in plan.nodes.items()]
    lines.append(f'    output[["{_types(plan.output_types)}"]]')
    lines += dict.fromkeys(_arrows(plan, names))
    return "\n".join(lines)


def escape(text: str) -> str:
    """`text` so that Mermaid shows it and does not read it."""
    return text.translate(_ESCAPES)


def _types(kinds: tuple[type, ...]) -> str:
    return escape(" | ".join(kind.__name__ for kind in kinds))


def _box(spec: NodeSpec) -> str:
    label = escape(spec.name)
    return f'{{{{"{label}"}}}}' if spec.kind is Kind.PREDICT else f'["{label}"]'


def _arrows(plan: Plan, names: dict[str, str]) -> Iterator[str]:
    for edge in plan.edges:
        source = names[edge.source] if edge.source is not None else "input"
        target = names[edge.target] if edge.target is not None else "output"
        yield f"    {source} {_arrow(edge)}|{_label(edge)}| {target}"


def _arrow(edge: Edge) -> str:
    return "-.->" if edge.conditional else "==>" if edge.fans_out else "-->"


def _label(edge: Edge) -> str:
    name = escape(edge.type.__name__)
    return f'"list[{name}]"' if edge.gathers else name
