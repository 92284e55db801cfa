"""What the declarations of one graph come to: its plan, and what is wrong with it. Pure."""

from __future__ import annotations

import types
from collections.abc import Mapping, Sequence

import attrs

from actors.errors import Problem
from actors.graphs.annotations import NameLookup, location
from actors.graphs.check import find_further, find_problems
from actors.graphs.connections import Connect, looked_up
from actors.graphs.demands import find_demand_problems, with_demands
from actors.graphs.dependencies import Nodes
from actors.graphs.finish import Finish
from actors.graphs.node import NodeDeclaration, NodeSpec
from actors.graphs.plan import Plan, compile_plan
from actors.graphs.signature import resolve
from actors.graphs.stand_ins import read_default_fallback
from actors.graphs.timing import find_races

GraphFallback = tuple[types.FunctionType, NameLookup]
"""The fallback of a graph, and the names that its annotations may use."""


def compiled(
    name: str,
    nodes: Mapping[str, NodeDeclaration],
    connections: Sequence[Connect],
    input_types: tuple[type, ...],
    output_types: tuple[type, ...],
    finish: Finish,
    fallback: GraphFallback | None,
    signal_types: tuple[type, ...] = (),
) -> tuple[Plan, list[Problem], list[Problem]]:
    """The plan of a graph, the problems of the graph without its nested ones, and those of connections to unknown nodes."""
    origins = {each.origin: (node, each.names) for node, each in nodes.items() if each.embedded is None}
    resolved = {node: resolve(declaration, origins) for node, declaration in nodes.items()}
    known, unknown = looked_up(connections, nodes)
    specs = {node: entry.spec for node, entry in resolved.items()}
    problems: list[Problem] = []
    if fallback is not None:
        specs = _with_fallback(specs, fallback, origins, output_types, problems)
    specs = with_demands(_apart(specs))
    plan = compile_plan(name, specs, input_types, output_types, known, signal_types)
    if not specs:
        empty = Problem("no-nodes", None, "it has no nodes.", "decorate a function with @graph.node or @graph.predict.")
        return plan, [empty], unknown
    is_known = all(entry.knows_inputs and entry.knows_outputs for entry in resolved.values())
    races = find_races(plan) if is_known else ()
    demands = find_demand_problems(plan)
    found = find_problems(plan, resolved)
    if finish is Finish.WHEN_QUIET:  # an output ends nothing then, and who else takes it gets it
        found = [problem for problem in found if problem.code != "ambiguous-output"]
    further = find_further(plan) if is_known else ()
    return plan, [*found, *problems, *demands, *races, *further], unknown


def _with_fallback(
    specs: Mapping[str, NodeSpec],
    fallback: GraphFallback,
    nodes: Nodes,
    output_types: tuple[type, ...],
    problems: list[Problem],
) -> dict[str, NodeSpec]:
    """`specs`, in which those without a fallback have the graph's."""
    function, names = fallback

    def report(code: str, text: str, fix: str) -> None:
        problems.append(Problem(code, None, text, fix, location(function)))

    default = read_default_fallback(function, names, nodes, output_types, report)
    return {name: spec if spec.fallback is not None else attrs.evolve(spec, fallback=default) for name, spec in specs.items()}


def _apart(specs: Mapping[str, NodeSpec]) -> dict[str, NodeSpec]:
    """`specs`, in which a class node leaves alone the messages of subclasses that are nodes themselves."""
    classes = [spec.message for spec in specs.values() if spec.message is not None]
    found: dict[str, NodeSpec] = {}
    for name, spec in specs.items():
        own = spec.message
        narrower = tuple(kind for kind in classes if own is not None and kind is not own and issubclass(kind, own))
        found[name] = spec
        if narrower:
            found[name] = attrs.evolve(spec, inputs=(attrs.evolve(spec.inputs[0], excluded=narrower), *spec.inputs[1:]))
    return found
