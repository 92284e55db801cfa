"""Graphs on actors: a deployed graph is a supervisor whose children are the instances of its nodes; runs share them."""

from __future__ import annotations

import contextlib
import itertools
import math
from collections.abc import AsyncGenerator, Callable
from typing import Any, final

import trio

from actors.backoff import Backoff
from actors.checks import refuse
from actors.errors import RunCancelled, UsageError
from actors.graph import Graph
from actors.node import Injected, Kind, NodeSpec
from actors.plan import Plan
from actors.restart import RestartType
from actors.supervision import ChildSpec, Supervision, supervisor_spec
from runtime.events import Event, EventBus, EventStream
from runtime.graphs.node import NodeActor
from runtime.graphs.run import ActiveRun, RunHandle
from runtime.graphs.state import RunState
from runtime.kernel import Kernel
from runtime.lm import dspy_bridge
from runtime.lm.models import Models
from runtime.pool import InstancePool
from runtime.supervisor import SupervisorCell

NODE_SUPERVISION = Supervision(max_restarts=math.inf, backoff=Backoff(first_s=0.1, cap_s=1.0))
"""How a graph's nodes are restarted unless the graph says otherwise. No budget: what bounds the restarts is that every crash
uses up an attempt of a message, and one run that fails must not take down the nodes that others use."""


@final
class Deployment:
    """A graph whose actors run. Made by ``Runtime.deploy``; used through the runtime, ended by ``stop()`` or with the runtime."""

    def __init__(self, graph: Graph, plan: Plan, supervisor: SupervisorCell, max_runs: float) -> None:
        self.graph = graph
        self.plan = plan
        self.pools: dict[str, InstancePool] = {}
        self._supervisor = supervisor
        self._runs: dict[str, ActiveRun] = {}
        self._admission = trio.CapacityLimiter(max_runs) if max_runs != math.inf else None

    @property
    def address(self) -> str:
        """The address of the supervisor above the graph's actors."""
        return self._supervisor.address

    @property
    def is_running(self) -> bool:
        """Whether it takes runs."""
        return self._supervisor.is_serving

    @property
    def active_runs(self) -> int:
        """Runs that are not over."""
        return len(self._runs)

    def has_run(self, run_id: str) -> bool:
        """Whether a run of that id is not over yet."""
        return run_id in self._runs

    async def start(self, choose: Callable[[NodeSpec], Any]) -> None:
        """Start the first instance of every node, in the order of their declaration."""
        self._supervisor.on_end(lambda _: self._close())
        for name, spec in self.plan.nodes.items():
            options = spec.options
            child = ChildSpec(
                name,
                NodeActor,
                (spec, choose(spec)),
                restart=options.restart,
                mailbox=options.mailbox,
                redelivery=options.redelivery,
            )
            pool = self.pools[name] = InstancePool(self._supervisor, child, options.concurrency)
            await pool.start()

    async def admit(self, run: ActiveRun) -> None:
        """Wait until `run` may begin."""
        if self._admission is not None:
            await self._admission.acquire_on_behalf_of(run)
        self._runs[run.id] = run

    def dismiss(self, run: ActiveRun) -> None:
        """`run` is over, or never began."""
        if self._runs.pop(run.id, None) is not None and self._admission is not None:
            self._admission.release_on_behalf_of(run)

    async def stop(self) -> None:
        """Cancel the runs and stop the actors; return when all have ended."""
        runs = list(self._runs.values())
        for run in runs:
            run.cancel("its graph was stopped")
        for run in runs:
            await run.over.wait()
        parent = self._supervisor.parent
        if isinstance(parent, SupervisorCell):
            await parent.terminate(self._supervisor, discard=True)

    def cancel_runs(self, why: str) -> None:
        """Cancel every run; returns at once."""
        for run in list(self._runs.values()):
            run.cancel(why)

    def _close(self) -> None:
        self.cancel_runs("its graph has ended")
        for pool in self.pools.values():
            pool.close()


@final
class Engine:
    """Deploys graphs under a supervisor and starts their runs."""

    def __init__(self, kernel: Kernel, root: SupervisorCell, models: Models) -> None:
        self._kernel = kernel
        self._root = root
        self._models = models
        self._deployments: dict[Graph, Deployment] = {}
        self._deploying = trio.Lock()
        self._numbers = itertools.count(1)

    # --- deployments ------------------------------------------------------------------------------------------------------

    async def deploy(self, graph: Graph, max_runs: float = math.inf) -> Deployment:
        """Check `graph` and start its actors; see ``Runtime.deploy``."""
        if not isinstance(graph, Graph):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise UsageError(f"expected a Graph. Got: {graph!r}.\n  Mend: runtime.run(graph, message), the graph first.")
        if max_runs != math.inf and (not isinstance(max_runs, int) or isinstance(max_runs, bool) or max_runs < 1):
            raise refuse(Deployment, "max_runs", max_runs, "a whole number >= 1 or math.inf")
        async with self._deploying:
            known = self._deployments.get(graph)
            if known is not None and known.is_running:
                raise UsageError(
                    f"graph {graph.name!r} is deployed already, as {known.address!r}.\n"
                    "  Mend: deploy it once, before its first run; or stop() the other deployment."
                )
            return await self._deploy(graph, max_runs)

    async def _deploy(self, graph: Graph, max_runs: float) -> Deployment:
        plan = graph.plan()
        chosen = {name: self._lm_for(graph, spec) for name, spec in plan.nodes.items()}
        if any(spec.kind is Kind.PREDICT for spec in plan.nodes.values()):
            await dspy_bridge.warm_up()
        name = graph.name if graph.name not in self._root.children else self._root.free_name(graph.name)
        spec = supervisor_spec(name, (), graph.supervision or NODE_SUPERVISION, restart=RestartType.TEMPORARY)
        supervisor = await self._root.start_child(spec)
        assert isinstance(supervisor, SupervisorCell), "a SupervisorSpec makes a supervisor"
        deployment = Deployment(graph, plan, supervisor, max_runs)
        try:
            await deployment.start(lambda node: chosen[node.name])
        except BaseException:
            with trio.CancelScope(shield=True):
                await deployment.stop()
            raise
        self._deployments[graph] = deployment
        return deployment

    def _lm_for(self, graph: Graph, spec: NodeSpec) -> Any:
        if spec.kind is not Kind.PREDICT and Injected.LM not in spec.injected.values():
            return None
        return self._models.choose(spec.options.lm, f"node {spec.name!r} of graph {graph.name!r} ({spec.location})")

    async def _deployment_of(self, graph: Graph) -> Deployment:
        known = self._deployments.get(graph)
        if known is None or not known.is_running:
            async with self._deploying:
                known = self._deployments.get(graph)
                if known is None or not known.is_running:
                    known = await self._deploy(graph, math.inf)
        if graph.plan() is not known.plan:
            raise UsageError(
                f"graph {graph.name!r} was changed after it was deployed as {known.address!r}.\n"
                "  Mend: declare all nodes before the first run."
            )
        return known

    # --- runs -------------------------------------------------------------------------------------------------------------

    async def start(
        self, graph: Graph, message: object, run_id: str | None, max_steps: float, events: EventStream | None = None
    ) -> ActiveRun:
        """Start a run; return once its first messages have found room."""
        deployment = await self._deployment_of(graph)
        run_id = run_id if run_id is not None else f"{graph.name}-{next(self._numbers)}"
        if deployment.has_run(run_id):
            raise UsageError(f"graph {graph.name!r} has a run {run_id!r} already.\n  Mend: give each run its own run_id.")
        run = ActiveRun(
            RunState(deployment.plan, run_id), deployment.pools, self._publisher(events), deployment.dismiss, max_steps
        )
        await deployment.admit(run)
        try:
            await run.begin(message)
        except BaseException:
            with trio.CancelScope(shield=True):
                await run.over.wait()
            raise
        return run

    def _publisher(self, stream: EventStream | None) -> Callable[[Event], None] | None:
        bus = self._kernel.events
        if stream is None:
            return bus.publish if bus.listening else None

        def publish(event: Event) -> None:
            stream.offer(event)
            if bus.listening:
                bus.publish(event)

        return publish

    async def run(self, graph: Graph, message: object, max_steps: float) -> Any:
        """Start a run and wait for its output; nothing of it is alive afterwards."""
        active = await self.start(graph, message, None, max_steps)
        try:
            return await RunHandle(active).result()
        finally:
            if not active.over.is_set():
                active.cancel("the caller of run() was cancelled")
                with trio.CancelScope(shield=True):
                    await active.over.wait()

    @contextlib.asynccontextmanager
    async def stream(self, graph: Graph, message: object, max_steps: float, buffer: int) -> AsyncGenerator[EventStream]:
        """A run as its events; left early, the run is cancelled."""
        events = EventStream(EventBus(), None, buffer)
        active = await self.start(graph, message, None, max_steps, events)
        active.when_over(events.close)
        try:
            yield events
        finally:
            if not active.over.is_set():
                active.cancel("its stream was closed")
                with trio.CancelScope(shield=True):
                    await active.over.wait()

    def cancel_runs(self, why: str) -> None:
        """Cancel every run; returns at once."""
        for deployment in self._deployments.values():
            deployment.cancel_runs(why)
