"""The picture of a graph as Mermaid text. Pure; the same graph always gives the same text."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count

from actors.graphs.dependencies import Dependency
from actors.graphs.edges import Edge, Receiver, related
from actors.graphs.node import Kind, NodeSpec
from actors.graphs.plan import Plan

_ESCAPES = str.maketrans(
    {"#": "#35;", '"': "#34;", "<": "#60;", ">": "#62;", "|": "#124;", "`": "#96;", "&": "#38;", "\\": "#92;", "\n": " "}
)
_STEMS = {"-->": "---", "==>": "===", "-.->": "-.-"}
"""Each arrow's line without a head."""


def draw(plan: Plan) -> str:
    """The text, without a newline at its end.

    Input: rounded at the ends; output: with double sides; a node that a language model fills: a hexagon; a node that is an
    actor: a circle; a node that is a graph: that graph in a frame; other nodes: boxes. A fan-out is a thick arrow, a
    connection with a condition a dotted one; a gathered type is written ``list[A]``. What goes to several nodes bears its
    name once, on the way to an empty circle from which the arrows leave. What a node depends on is joined to it by a line
    with a dot (functions are leaning boxes), and what makes a message that it recalls by a dotted one.
    The tools that a language model may call stand under its node's name.
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
    for index, (key, need) in enumerate(functions_of(plan).items(), start=1):
        names[key] = f"{prefix}f{index}"
        yield f'{indent}{names[key]}[/"{escape(need.name)}"/]'
    yield f'{indent}{prefix}output[["{_types(plan.output_types)}"]]'
    yield from (f"{indent}{arrow}" for arrow in _arrows(plan, names, prefix))
    yield from (f"{indent}{names[name]} --o|Dep| {names[user]}" for name, user in needs_of(plan))
    for source, user, kind in recalls_of(plan):
        maker = names[source] if source is not None else f"{prefix}input"
        yield f"{indent}{maker} -.-o|Recall {escape(kind)}| {names[user]}"


def functions_of(plan: Plan) -> dict[str, Dependency]:
    """The functions that nodes depend on, directly or by way of others: each by a key that isn't a node's name."""
    found: dict[int, Dependency] = {}
    for spec in plan.nodes.values():
        for need in spec.all_needs:
            if need.node is None:
                found.setdefault(id(need.function), need)
    return {f"\0{index}": need for index, need in enumerate(found.values(), start=1)}


def needs_of(plan: Plan) -> Iterator[tuple[str, str]]:
    """What is needed with what needs it directly: nodes by name, functions by their key of :func:`functions_of`."""
    functions = functions_of(plan)
    keys = {id(need.function): key for key, need in functions.items()}

    def key_of(need: Dependency) -> str:
        return need.node if need.node is not None else keys[id(need.function)]

    pairs = [
        (key_of(need), spec.name)
        for spec in plan.nodes.values()
        for need in (*spec.needs.values(), *(spec.fallback.needs.values() if spec.fallback is not None else ()))
    ]
    pairs += [(key_of(inner), key) for key, need in functions.items() for inner in need.needs.values()]
    yield from dict.fromkeys(pairs)


def recalls_of(plan: Plan) -> Iterator[tuple[str | None, str, str]]:
    """Each node (None: the graph's input) that makes what another recalls, that other, and the type's name."""
    found: dict[tuple[str | None, str, str], None] = {}
    for spec in plan.nodes.values():
        own = [Receiver(spec.name, entry.name) for entry in spec.inputs]
        for kind, edge in ((kind, edge) for entry in spec.recalls for kind in entry.types for edge in plan.edges):
            if edge.target and related(edge.type, (kind,)) and any(plan.reaches(edge.target, receiver) for receiver in own):
                found[edge.source, spec.name, kind.__name__] = None
    yield from found


def escape(text: str) -> str:
    """`text`, escaped: Mermaid shows it instead of interpreting it."""
    return text.translate(_ESCAPES)


def _types(kinds: tuple[type, ...]) -> str:
    return escape(" | ".join(kind.__name__ for kind in kinds))


def _box(spec: NodeSpec) -> str:
    label = escape(spec.name)
    if spec.has_tools:
        label += f"<br/>calls {escape(', '.join(spec.tool_names))}"
    if spec.kind is Kind.ACTOR:
        return f'(("{label}"))'
    if spec.kind is Kind.HUMAN:
        return f'[/"{label}"\\]'
    return f'{{{{"{label}"}}}}' if spec.kind is Kind.PREDICT else f'["{label}"]'


def _arrows(plan: Plan, names: dict[str, str], prefix: str) -> Iterator[str]:
    takers: dict[tuple[str, str, str], dict[str, None]] = {}
    for edge in plan.edges:
        source = names[edge.source] if edge.source is not None else f"{prefix}input"
        target = names[edge.target] if edge.target is not None else f"{prefix}output"
        takers.setdefault((source, _arrow(edge), _label(edge)), {})[target] = None
    forks = count(1)
    for (source, arrow, label), targets in takers.items():
        if len(targets) == 1:
            yield from (f"{source} {arrow}|{label}| {target}" for target in targets)
        else:
            fork = f"{prefix}j{next(forks)}"
            yield f"{fork}(( ))"
            yield f"{source} {_STEMS[arrow]}|{label}| {fork}"
            yield from (f"{fork} {arrow} {target}" for target in targets)


def _arrow(edge: Edge) -> str:
    return "-.->" if edge.conditional else "==>" if edge.fans_out else "-->"


def label_of(edge: Edge) -> str:
    """What stands on an edge: its type; ``list[A]`` where it is gathered; ``left: A`` where a connection names the parameter."""
    kind = f"list[{edge.type.__name__}]" if edge.gathers else edge.type.__name__
    return f"{edge.parameter}: {kind}" if edge.named else kind


def _label(edge: Edge) -> str:
    shown = escape(label_of(edge))
    return f'"{shown}"' if edge.gathers else shown
