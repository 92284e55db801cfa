"""Graphs on actors: a deployed graph is a supervisor whose children are the instances of its nodes; runs share them."""

from __future__ import annotations

import contextlib
import contextvars
import itertools
import math
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping
from contextlib import nullcontext
from typing import Any, Final, final

import trio

from actors.checks import refuse
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
from runtime.core.cell import current_cell
from runtime.core.duty import on_duty
from runtime.core.events import DEFAULT_BUFFER, Event, EventBus, EventStream
from runtime.core.services import Services
from runtime.core.supervisor import SupervisorCell
from runtime.graphs.carried import in_context
from runtime.graphs.dependencies import ContextKeeper, Contexts, RunDependencies
from runtime.graphs.deployment import Deployment
from runtime.graphs.events import RunAbandoned
from runtime.graphs.handle import RunHandle
from runtime.graphs.launch import Launch
from runtime.graphs.record import RunStatus
from runtime.graphs.reducer.state import RunState
from runtime.graphs.run import ActiveRun, Work
from runtime.graphs.served import ServedToolboxes
from runtime.graphs.tooling import Equipment, refuse_approval
from runtime.graphs.unheard import Unheard
from runtime.lm.dspy import bridge
from runtime.lm.dspy.checking import predict_problems
from runtime.lm.models import Connections, Models
from runtime.lm.predictors.serving import Predictors
from runtime.lm.tools.checking import tool_problems

FURTHER_CHECKS.append(tool_problems)
FURTHER_CHECKS.append(predict_problems)  # so that the check of a graph knows what its language models will need


Begun = Callable[[ActiveRun], None]
"""Is told of a run that is about to begin."""
_MAX_RUN_ID: Final = 200
"""Characters. An id stands in every event, path and message of its run, and becomes part of file names and addresses."""


def check_run_id(wanted: object) -> None:
    """Refuse an id that could not stand in a path, a log line or a file name as it is."""
    if not isinstance(wanted, str) or not wanted:
        raise UsageError(f"run_id={repr_of(wanted)}: expected a non-empty string or None.\n  Fix: leave it out, and one is made.")
    if len(wanted) > _MAX_RUN_ID:
        raise UsageError(
            f"run_id={repr_of(wanted, 60)}: it has {len(wanted)} characters, at most {_MAX_RUN_ID} are allowed.\n"
            "  Fix: name the run by a key, and put what describes it into the input."
        )
    wrong = [part for part in wanted if part in "/\\" or not part.isprintable()]
    if wrong or wanted in {".", ".."} or not wanted.strip():
        what = f"{wrong[0]!r} cannot stand in it" if wrong else "it cannot stand in a path"
        raise UsageError(
            f"run_id={repr_of(wanted)}: {what}: expected printable characters without '/' and '\\'.\n"
            "  Fix: use letters, digits, '-' and '_', such as run_id='order-7'."
        )


@final
class Engine:
    """Deploys graphs under a supervisor and starts their runs."""

    def __init__(self, services: Services, root: SupervisorCell, models: Models, predictors: Predictors) -> None:
        self._predictors = predictors
        self._services = services
        self._root = root
        self._models = models
        self._deployments: dict[Graph, Deployment] = {}
        self._deploying = trio.Lock()
        self._numbers = itertools.count(1)
        self._runs: dict[str, ActiveRun] = {}
        """Those that are not over, by id, whatever their graph."""
        self._unheard = Unheard()
        self._context = contextvars.copy_context()
        """That of whoever opened the runtime: for what outlives runs."""
        self._contexts = Contexts()
        self._toolboxes = ServedToolboxes(root)
        self._is_draining = False

    # --- deployments ------------------------------------------------------------------------------------------------------

    async def deploy(self, graph: Graph[In, Out], max_runs: float = math.inf) -> Deployment[In, Out]:
        """Check `graph` and start its actors; see ``Runtime.deploy``."""
        _check_graph(graph)
        if max_runs != math.inf and (not isinstance(max_runs, int) or isinstance(max_runs, bool) or max_runs < 1):
            raise refuse(Deployment, "max_runs", max_runs, "a whole number >= 1 or math.inf")
        async with self._deploying:
            known = self._deployments.get(graph)
            if known is not None and known.is_running:
                raise UsageError(
                    f"graph {graph.name!r} is deployed already, as {known.address!r}.\n"
                    "  Fix: deploy it once, before its first run; or stop() the other deployment."
                )
            async with in_context(self._context):
                return await self._deploy(graph, max_runs)

    async def _deploy(self, graph: Graph[In, Out], max_runs: float) -> Deployment[In, Out]:
        plan = graph.plan()
        chosen = {name: self._lm_for(graph, spec) for name, spec in plan.nodes.items()}
        if any(spec.kind is Kind.PREDICT for spec in plan.nodes.values()):
            await bridge.warm_up()
        predictors = self._predictors.of_graph(graph.name, plan.nodes.values())
        for node in plan.nodes.values():
            refuse_approval(node)
        for nested in _graphs_within(plan):
            known = self._deployments.get(nested)
            if known is None or not known.is_running:
                await self._deploy(nested, math.inf)  # so that what is wrong with it is said before the first run
        if self._models.needs_transport and not self._models.has_owner:
            await self._root.start_child(ChildSpec(self._free_name("connections"), Connections, (self._models,)))
        if self._contexts.nursery is None and _keeps_contexts(plan):
            await self._root.start_child(ChildSpec(self._free_name("contexts"), ContextKeeper, (self._contexts,)))
        spec = supervisor_spec(
            self._free_name(graph.name), (), node_supervision(graph.supervision), restart=RestartType.TEMPORARY
        )
        supervisor = await self._root.start_child(spec)
        assert isinstance(supervisor, SupervisorCell), "a SupervisorSpec makes a supervisor"
        deployment = Deployment(graph, plan, supervisor, max_runs)
        try:
            equip = await self._equipped(plan)
            await deployment.start(lambda node: chosen[node.name], self.run_inside, predictors, equip)
        except BaseException:
            with trio.CancelScope(shield=True):
                await self._root.terminate(supervisor, discard=True)
            raise
        self._deployments[graph] = deployment
        supervisor.on_end(lambda _: self._forget(deployment))
        return deployment

    async def _equipped(self, plan: Plan) -> Mapping[str, Equipment]:
        """The tools of the nodes that have any, by node; the actors of their toolboxes run."""
        found: dict[str, Equipment] = {}
        for name, spec in plan.nodes.items():
            if spec.has_tools:
                boxes = [(box, await self._toolboxes.ref_of(box)) for box in spec.toolboxes]
                found[name] = Equipment(spec, tuple(boxes), self.run_inside)
        return found

    def _free_name(self, wanted: str) -> str:
        return self._root.free_name(wanted) if wanted in self._root.children.cells else wanted

    def _forget(self, deployment: Deployment) -> None:
        if self._deployments.get(deployment.graph) is deployment:
            del self._deployments[deployment.graph]

    def _lm_for(self, graph: Graph, spec: NodeSpec) -> Any:
        if not spec.wants_lm:
            return None
        return self._models.choose(spec.options.lm, f"node {spec.name!r} of graph {graph.name!r} ({spec.location})")

    async def _deployment_of(self, graph: Graph) -> Deployment:
        _check_graph(graph)
        known = self._deployments.get(graph)
        if known is None or not known.is_running:
            async with self._deploying:
                known = self._deployments.get(graph)
                if known is None or not known.is_running:
                    async with in_context(self._context):  # not that of the run which happens to be the first
                        known = await self._deploy(graph, math.inf)
        if graph.plan() is not known.plan:
            raise UsageError(
                f"graph {graph.name!r} was changed after it was deployed as {known.address!r}.\n"
                "  Fix: declare all nodes before the first run."
            )
        return known

    # --- runs -------------------------------------------------------------------------------------------------------------

    async def start(
        self, graph: Graph, message: object, run_id: str | None, max_steps: float, events: EventStream | None = None
    ) -> ActiveRun:
        """Start a run; return once its first messages have found room. Cancelled, nothing of it is alive."""
        await trio.lowlevel.checkpoint()
        launch = await self._prepare(graph, message, run_id, max_steps, events)
        cell = on_duty()
        with nullcontext() if cell is None else launch.run.waits.started_by(cell):
            await launch.begin()
        return launch.run

    @trio.lowlevel.enable_ki_protection  # Ctrl-C comes at its waits; between two lines it would leave a run that never ends
    async def _prepare(
        self,
        graph: Graph,
        message: object,
        run_id: str | None,
        max_steps: float,
        events: EventStream | None = None,
        begun: Begun | None = None,
    ) -> Launch:
        """A run that has not begun. Not a checkpoint once its graph is deployed: who calls this waits for the run as well."""
        if self._is_draining and current_cell.get() is None:  # a run that drains may still need runs of its own
            raise UsageError("the runtime is draining: it takes no more runs.\n  Fix: start runs before drain() is called.")
        _check_max_steps(max_steps)
        deployment = await self._deployment_of(graph)
        state = RunState(deployment.routing, self._new_id(graph, run_id))
        commands = state.start(message)

        def dismiss(run: ActiveRun) -> None:
            del self._runs[run.id]
            deployment.dismiss(run)
            if run.status is RunStatus.FAILED and not run.waits.is_awaited:
                self._unheard.add(run)

        run = self._runs[state.run_id] = ActiveRun(
            state, deployment.pools, self._publisher(events), dismiss, max_steps, now=self._services.now
        )
        run.shows_prompts = self._services.shows_prompts and run.is_listened_to
        if deployment.has_needs:
            run.dependencies = self._dependencies(deployment, run, message, deployment.plan.name)
        if begun is not None:
            begun(run)
        return Launch(run, message, commands, deployment.admit)

    async def run_inside(self, graph: Graph, message: object, work: Work, path: str | None = None) -> Any:
        """Run `graph` as the work of a node of another run, and return its output; nothing of it is alive afterwards.

        `path` is where its paths begin, None for that of the message.
        """
        path = work.delivery.path if path is None else path
        outer = work.run
        deployment = await self._deployment_of(graph)
        state = RunState(deployment.routing, outer.id, path)
        commands = state.start(message)
        publish = outer.publish if outer.is_listened_to else None
        run = ActiveRun(state, deployment.pools, publish, deployment.dismiss, outer.max_steps, outer, outer.now)
        if deployment.has_needs:
            run.dependencies = self._dependencies(deployment, run, message, path)
        launch = Launch(run, message, commands, deployment.admit)
        return await launch.result("the run that it is a part of no longer wants it")

    def _dependencies(self, deployment: Deployment, run: ActiveRun, message: object, prefix: str) -> RunDependencies:
        async def run_node(name: str, lender: RunDependencies) -> Any:
            return await deployment.demands.run(name, message, run, prefix, lender)

        return RunDependencies(run, message, self._contexts, run_node)

    def _new_id(self, graph: Graph, wanted: str | None) -> str:
        if wanted is None:
            numbered = (f"{graph.name}-{number}" for number in self._numbers)
            return next(run_id for run_id in numbered if run_id not in self._runs)
        check_run_id(wanted)
        if wanted in self._runs:
            raise UsageError(f"a run {repr_of(wanted)} is under way already.\n  Fix: give each run its own run_id.")
        return wanted

    def _publisher(self, stream: EventStream | None) -> Callable[[Event], None] | None:
        bus = self._services.events
        if stream is None:
            return bus.publish if bus.listening else None

        def publish(event: Event) -> None:
            stream.offer(event)
            if bus.listening:
                bus.publish(event)

        return publish

    async def run(self, graph: Graph, message: object, max_steps: float, begun: Begun | None = None) -> Any:
        """Start a run and wait for its output; nothing of it is alive afterwards. `begun` is told of it before it begins."""
        await trio.lowlevel.checkpoint_if_cancelled()
        launch = await self._prepare(graph, message, None, max_steps, begun=begun)
        return await launch.result("the caller of run() was cancelled")

    @contextlib.asynccontextmanager
    async def stream(
        self, graph: Graph, message: object, max_steps: float, buffer: int, begun: Begun | None = None
    ) -> AsyncGenerator[EventStream]:
        """A run as its events; left early, the run is cancelled. `begun` is told of it before it begins."""
        _check_buffer(buffer)
        events = EventStream(EventBus(), None, buffer)
        await trio.lowlevel.checkpoint()
        launch = await self._prepare(graph, message, None, max_steps, events, begun)
        try:
            with launch.run.waits.awaited() as cell:  # by whoever reads its events
                await launch.begin()
                launch.run.when_over(events.close)
                with nullcontext() if cell is None else launch.run.waits.read_by(cell, events):
                    yield events
        finally:
            await launch.end("its stream was closed")

    async def drain(self, grace_s: float) -> None:
        """Take no more runs; let those under way finish for `grace_s` seconds, then cancel them; return when all are over."""
        self._is_draining = True
        with trio.move_on_after(grace_s):
            async with self._deploying:  # runs that wait for their graph are behind this lock, in front of us
                pass
            while self._runs:
                await next(iter(self._runs.values())).over.wait()
        while self._runs:
            self.cancel_runs(f"the runtime was drained, and it was not over after grace_s={grace_s:g} s")
            await next(iter(self._runs.values())).over.wait()

    def runs(self) -> Mapping[str, RunHandle]:
        """Those that are not over, by id, in the order of their start."""
        return {run_id: RunHandle(run) for run_id, run in self._runs.items()}

    def close(self) -> list[str]:
        """Cancel every run, because the runtime is closed; in words, each that nobody has ever waited for, or that failed so."""
        abandoned = [run for run in self._runs.values() if not (run.waits.is_awaited or run.is_ending)]
        for run in abandoned:
            if run.is_listened_to:
                run.publish(RunAbandoned(run_id=run.id, graph=run.state.plan.name))
        for run_id, graph, _ in self._unheard.known.values() if self._services.events.listening else ():
            self._services.events.publish(RunAbandoned(run_id=run_id, graph=graph))
        self.cancel_runs("the runtime was closed")
        return self._unheard.words() + [
            f"run {run.id!r} of graph {run.state.plan.name!r} was never awaited, and was cancelled when its runtime was closed.\n"
            "  Fix: await handle.result(), handle.cancel() or runtime.drain(grace_s) before the block ends."
            for run in abandoned
        ]

    def cancel_runs(self, why: str) -> None:
        """Cancel every run; returns at once."""
        for run in list(self._runs.values()):
            run.cancel(why)


def _graphs_within(plan: Plan) -> Iterator[Graph]:
    """Those that are nodes, and those that are tools."""
    for spec in plan.nodes.values():
        if spec.kind is Kind.GRAPH:
            yield spec.embedded
        yield from graphs_in(each.tool for each in spec.tools)


def _keeps_contexts(plan: Plan) -> bool:
    return any(need.supply is Supply.CONTEXT for spec in plan.nodes.values() for need in spec.all_needs)


def _check_graph(graph: object) -> None:
    if not isinstance(graph, Graph):
        raise UsageError(f"expected a Graph. Got: {repr_of(graph)}.\n  Fix: runtime.run(graph, message), the graph first.")


def _check_buffer(buffer: object) -> None:
    if not isinstance(buffer, int) or isinstance(buffer, bool) or buffer < 1:
        raise UsageError(f"buffer={repr_of(buffer)}: expected a whole number >= 1.\n  Fix: leave it out for {DEFAULT_BUFFER}.")


def _check_max_steps(max_steps: object) -> None:
    if not isinstance(max_steps, int | float) or isinstance(max_steps, bool) or not max_steps >= 1:
        raise UsageError(f"max_steps={repr_of(max_steps)}: expected a number >= 1.\n  Fix: leave it out for no limit.")
