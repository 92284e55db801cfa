"""Nodes that other nodes depend on, ``Annotated[T, Dep(node)]``: which they are, and what can be wrong with them. Pure.

Such a node is run on the message that the run began with, once per run and when it is first needed. No message starts it, and
what it makes goes only to those that depend on it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import attrs

from actors.errors import Problem
from actors.graphs.annotations import Many
from actors.graphs.components import strong_components
from actors.graphs.node import NodeSpec
from actors.graphs.plan import Plan
from actors.words import listed, type_names


def with_demands(specs: Mapping[str, NodeSpec]) -> dict[str, NodeSpec]:
    """`specs`, in which those that others depend on are marked."""
    demanded = {need.node for spec in specs.values() for need in spec.all_needs}
    found = dict(specs)
    for name in specs.keys() & demanded:
        spec = specs[name]
        is_default = spec.fallback is not None and spec.fallback.is_default  # it gives the output, which no node here waits for
        found[name] = attrs.evolve(spec, is_on_demand=True, fallback=None if is_default else spec.fallback)
    return found


def find_demand_problems(plan: Plan) -> Iterator[Problem]:
    """What is wrong with the nodes that others depend on."""
    users: dict[str, dict[str, None]] = {}
    for spec in plan.nodes.values():
        for need in spec.all_needs:
            if need.node is not None:
                users.setdefault(need.node, {})[spec.name] = None
    for name, by in users.items():
        spec = plan.nodes[name]
        yield from _unfillable(plan, spec, f"{listed(by)} {'depends' if len(by) == 1 else 'depend'} on it")
    yield from _rings(plan, users)


def _unfillable(plan: Plan, spec: NodeSpec, why: str) -> Iterator[Problem]:
    begins = type_names(plan.input_types)
    for entry in spec.inputs:
        if entry.gather is not None or not all(map(entry.takes, plan.input_types)):
            kinds = type_names(entry.types)
            yield Problem(
                "dep-input",
                spec.name,
                f"{why}, so it is run on the message that the run began with: {begins}; but parameter {entry.name!r} takes "
                f"{f'list[{kinds}]' if entry.gather is not None else kinds}.",
                f"let it take {begins}, or Annotated[T, Dep(function)]; or take what it makes as a message.",
                spec.location,
            )
    for recalled in spec.recalls:
        yield Problem(
            "dep-recall",
            spec.name,
            f"{why}, so nothing is on the way to it, but parameter {recalled.name!r} recalls {type_names(recalled.types)}.",
            "recall the message in the node that depends on it.",
            spec.location,
        )
    if spec.fan_out is Many.STREAM:
        yield Problem(
            "dep-stream",
            spec.name,
            f"{why}, and a dependency is one value, but it is a stream.",
            "return list[…] from it.",
            spec.location,
        )


def _rings(plan: Plan, users: Mapping[str, Mapping[str, None]]) -> Iterator[Problem]:
    links = {name: list(users.get(name, ())) for name in plan.nodes}
    for group in strong_components(links):
        if len(group) == 1 and group[0] not in links[group[0]]:
            continue
        ring = sorted(group, key=plan.order.__getitem__)
        spec = plan.nodes[ring[0]]
        yield Problem(
            "dep-cycle",
            spec.name,
            "it depends on itself." if len(ring) == 1 else f"the nodes {listed(ring)} depend on each other.",
            "let one of them take what it needs from elsewhere: the run's input, or a message.",
            spec.location,
        )
