"""The graphs that are deployed in a runtime: each is checked, given its language models, and its actors started, once."""

from __future__ import annotations

import contextlib
import contextvars
import itertools
import math
from collections.abc import AsyncGenerator, Iterator, Mapping
from typing import Any, final

import trio

from actors.argument_checks import check_count
from actors.errors import UsageError
from actors.graphs.check import FURTHER_CHECKS
from actors.graphs.dependencies import Supply
from actors.graphs.graph import Graph
from actors.graphs.node import Kind, NodeSpec
from actors.graphs.options import node_supervision
from actors.graphs.plan import Plan
from actors.graphs.tools import graphs_in
from actors.restarts import RestartType
from actors.supervision import ChildSpec, supervisor_spec
from actors.typevars import In, Out
from actors.words import repr_of
from runtime.core.supervisor import SupervisorCell
from runtime.graphs.deployment import Deployment, RunInside
from runtime.graphs.nodes.approvals import remember_forms
from runtime.graphs.nodes.away import Placing
from runtime.graphs.nodes.handed_tools import HandedTools, outside_of_runs
from runtime.graphs.nodes.toolbox_actors import ServedToolboxes
from runtime.graphs.nodes.tooling import Equipment
from runtime.graphs.records.carried import in_context
from runtime.graphs.records.questions import Desk
from runtime.graphs.runs.dependencies import ContextKeeper, Contexts
from runtime.lm.dspy import bridge
from runtime.lm.dspy.predict_checks import predict_problems
from runtime.lm.models import Connections, Models
from runtime.lm.predictors.loaded_predictors import Predictors
from runtime.lm.tools.tool_checks import tool_problems

FURTHER_CHECKS.append(tool_problems)
FURTHER_CHECKS.append(predict_problems)  # the check of a graph then knows what its language models will need


@final
class Deployments:
    """The graphs that are deployed under one root supervisor."""

    def __init__(
        self,
        root: SupervisorCell,
        models: Models,
        predictors: Predictors,
        run_inside: RunInside,
        desk: Desk,
        placing: Placing,
    ) -> None:
        """None yet; `run_inside` runs a graph as the work of a node, at `desk` nodes ask people."""
        self._placing = placing
        self._root = root
        self._desk = desk
        self._models = models
        self._predictors = predictors
        self._run_inside = run_inside
        self._toolboxes = ServedToolboxes(root)
        self._calls = itertools.count(1)
        """Numbers those of tools outside of runs."""
        self._by_graph: dict[Graph, Deployment] = {}
        self._deploying: dict[Graph, trio.Lock] = {}
        """One for each that is being deployed: one that waits for room at its place keeps no other from running."""
        self._sharing = trio.Lock()
        """Held while something is started that graphs share."""
        self.context = contextvars.copy_context()
        """That of the task that opened the runtime: for what outlives runs."""
        self.contexts = Contexts()
        """The context managers that nodes of all graphs depend on."""

    async def deploy(self, graph: Graph[In, Out], max_runs: float = math.inf) -> Deployment[In, Out]:
        """Check `graph` and start its actors; see ``Runtime.deploy``."""
        check_graph(graph)
        check_count(Deployment, "max_runs", max_runs, unbounded=True)
        async with self._one_of(graph):
            known = self._by_graph.get(graph)
            if known is not None and known.is_running:
                raise UsageError(
                    f"graph {graph.name!r} is deployed already, as {known.address!r}.\n"
                    "  Fix: deploy it once, before its first run; or stop() the other deployment."
                )
            async with in_context(self.context):
                return await self._deploy(graph, max_runs)

    async def _deploy(self, graph: Graph[In, Out], max_runs: float) -> Deployment[In, Out]:
        plan = graph.plan()
        chosen = {name: self._lm_for(graph, spec) for name, spec in plan.nodes.items()}
        if any(spec.kind is Kind.PREDICT for spec in plan.nodes.values()):
            await bridge.warm_up()
        away = await self._placing.deploy(graph, plan)
        predictors = self._predictors.of_graph(graph.name, plan.nodes.values())
        remember_forms(plan)
        for nested in _graphs_within(plan):
            await self._running(nested)  # what is wrong with it is then reported before the first run
        async with self._sharing:
            if self._models.needs_transport and not self._models.has_owner:
                await self._root.start_child(ChildSpec(self._free_name("connections"), Connections, (self._models,)))
            if self.contexts.nursery is None and _keeps_contexts(plan):
                await self._root.start_child(ChildSpec(self._free_name("contexts"), ContextKeeper, (self.contexts,)))
        spec = supervisor_spec(
            self._free_name(graph.name), (), node_supervision(graph.supervision), restart=RestartType.TEMPORARY
        )
        supervisor = await self._root.start_child(spec)
        assert isinstance(supervisor, SupervisorCell), "a SupervisorSpec makes a supervisor"
        deployment = Deployment(graph, plan, supervisor, max_runs)
        try:
            equip = await self._equipped(plan)
            await deployment.start(lambda node: chosen[node.name], self._run_inside, predictors, equip, self._desk, away)
        except BaseException:
            with trio.CancelScope(shield=True):
                await self._root.terminate(supervisor, discard=True)
            raise
        self._by_graph[graph] = deployment
        supervisor.on_end(lambda _: self._forget(deployment))
        return deployment

    async def _equipped(self, plan: Plan) -> Mapping[str, Equipment]:
        """The tools of the nodes that have any, by node; the actors of their toolboxes run."""
        found: dict[str, Equipment] = {}
        for name, spec in plan.nodes.items():
            if spec.has_tools or spec.given:
                named = dict.fromkeys((*spec.toolboxes, *spec.given.values()))
                async with self._sharing:
                    boxes = [(box, await self._toolboxes.ref_of(box)) for box in named]
                found[name] = Equipment(spec, tuple(boxes), self._run_inside)
        return found

    async def tools(self, toolbox: object) -> HandedTools:
        """What a toolbox offers, for callers outside of runs; see ``Runtime.tools``."""
        async with self._sharing:
            async with in_context(self.context):
                box, ref = await self._toolboxes.served(toolbox)
        return await outside_of_runs(box, ref, lambda: f"outside:{next(self._calls)}")

    def _free_name(self, wanted: str) -> str:
        return self._root.free_name(wanted) if wanted in self._root.children.cells else wanted

    def _forget(self, deployment: Deployment) -> None:
        if self._by_graph.get(deployment.graph) is deployment:
            del self._by_graph[deployment.graph]

    def _lm_for(self, graph: Graph, spec: NodeSpec) -> Any:
        if not spec.wants_lm:
            return None
        return self._models.choose(spec.options.lm, f"node {spec.name!r} of graph {graph.name!r} ({spec.location})")

    async def of(self, graph: Graph) -> Deployment:
        """The deployment of `graph`, which is deployed now if it is not.

        Raises:
            UsageError: it isn't a graph, or was changed after it was deployed. And what :meth:`deploy` raises.
        """
        check_graph(graph)
        return _unchanged(graph, await self._running(graph))

    def known(self, graph: Graph) -> Deployment | None:
        """The deployment of `graph`; None if it is not deployed, or takes no more runs.

        Raises:
            UsageError: it was changed after it was deployed.
        """
        known = self._by_graph.get(graph)
        return None if known is None or not known.is_running else _unchanged(graph, known)

    async def _running(self, graph: Graph) -> Deployment:
        """The deployment of `graph`, which is deployed now if it is not. Not a checkpoint if it is."""
        known = self._by_graph.get(graph)
        if known is None or not known.is_running:
            async with self._one_of(graph):
                known = self._by_graph.get(graph)
                if known is None or not known.is_running:
                    async with in_context(self.context):  # not that of the run which happens to be the first
                        known = await self._deploy(graph, math.inf)
        return known

    @contextlib.asynccontextmanager
    async def _one_of(self, graph: Graph) -> AsyncGenerator[None]:
        """While the block lasts, no other task deploys `graph`. One that is part of it is locked after it, never before."""
        lock = self._deploying.setdefault(graph, trio.Lock())
        try:
            async with lock:
                yield
        finally:
            if not lock.locked() and self._deploying.get(graph) is lock:
                del self._deploying[graph]

    async def wait(self) -> None:
        """Return when none is being deployed, nor waited for by a task that came before."""
        for lock in [*self._deploying.values(), self._sharing]:
            async with lock:
                pass

    def running(self) -> list[Deployment]:
        """Those that take runs."""
        return [each for each in self._by_graph.values() if each.is_running]

    def named(self, name: str) -> Deployment | None:
        """One of a graph of that name."""
        return next((each for each in self._by_graph.values() if each.graph.name == name), None)


def _unchanged(graph: Graph, known: Deployment) -> Deployment:
    if graph.plan() is not known.plan:
        raise UsageError(
            f"graph {graph.name!r} was changed after it was deployed as {known.address!r}.\n"
            "  Fix: declare all nodes before the first run."
        )
    return known


def _graphs_within(plan: Plan) -> Iterator[Graph]:
    """Those that are nodes, and those that are tools."""
    for spec in plan.nodes.values():
        if spec.kind is Kind.GRAPH:
            yield spec.embedded
        yield from graphs_in(each.tool for each in spec.tools)


def _keeps_contexts(plan: Plan) -> bool:
    """Whether nodes of `plan` depend on context managers, or on what is kept for their runs at a place."""
    needs = ((spec, need) for spec in plan.nodes.values() for need in spec.all_needs)
    return any(need.supply is Supply.CONTEXT or spec.options.place is not None for spec, need in needs)


def check_graph(graph: object) -> None:
    """Raise for what isn't a graph.

    Raises:
        UsageError: it isn't.
    """
    if not isinstance(graph, Graph):
        raise UsageError(f"expected a Graph. Got: {repr_of(graph)}.\n  Fix: runtime.run(graph, message), the graph first.")
