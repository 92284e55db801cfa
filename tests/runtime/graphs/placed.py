"""Every node of a graph that can be placed runs on loopback hosts, when ``EVERY_NODE_PLACED`` is in the environment."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import pytest

import runtime.app
from actors.graphs.graph import Graph
from actors.graphs.node import Kind, NodeSpec
from actors.graphs.placing import placing_problems
from actors.graphs.plan import Plan
from runtime.graphs import deployed_graphs
from runtime.graphs.nodes.away import Elsewhere
from runtime.placement.placed_nodes import PlacedNode
from runtime.placement.placement import Placement
from runtime.testing.loopback_hosts import LoopbackHosts

IS_WANTED = "EVERY_NODE_PLACED"


def is_wanted() -> bool:
    """Whether these tests are run with every node placed."""
    return IS_WANTED in os.environ


def place_every_node(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have every runtime run what can be placed on two hosts in its event loop."""
    deploy = Placement.deploy

    async def everywhere(self: Placement, graph: Graph[Any, Any], plan: Plan) -> Mapping[str, Elsewhere]:
        given = await deploy(self, graph, plan)
        place: Any = self._hosted["loopback"]
        specs = [spec for name, spec in plan.nodes.items() if name not in given and _can_be_placed(spec)]
        for spec in specs:
            place.engine.problems(spec)
        if specs:
            await self.start("loopback")
            await place.declare(graph.name, specs)
        return {**given, **{spec.name: PlacedNode(graph.name, spec, place, self._known) for spec in specs}}

    def make(places: Any, services: Any, root: Any) -> Placement:
        return Placement({"loopback": LoopbackHosts(2, stuck_after_s=1e6, dead_after_s=1e6), **(places or {})}, services, root)

    monkeypatch.setattr(Placement, "deploy", everywhere)
    monkeypatch.setattr(runtime.app, "placement_of", make)
    monkeypatch.setattr(deployed_graphs, "_keeps_contexts", lambda plan: any(spec.all_needs for spec in plan.nodes.values()))


def _can_be_placed(spec: NodeSpec) -> bool:
    """An actor that is a node is placed where it is started, and not its calls."""
    return spec.kind is not Kind.ACTOR and not list(placing_problems(spec))
