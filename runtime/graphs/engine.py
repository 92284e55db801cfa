"""Graphs on actors: a deployed graph is a supervisor whose children are the instances of its nodes; runs share them."""

from __future__ import annotations

import contextlib
import contextvars
import itertools
import math
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from typing import Any, final

import trio

from actors.actor import ActorRef, Terminated
from actors.backoff import Backoff, is_worth_another_attempt
from actors.check import FURTHER_CHECKS
from actors.checks import refuse
from actors.dependencies import Supply
from actors.errors import ActorFailed, UsageError
from actors.graph import Graph
from actors.node import Kind, NodeSpec
from actors.plan import Plan
from actors.restart import RestartType
from actors.supervision import ChildSpec, Supervision, supervisor_spec
from runtime.actor_cell import ActorCell
from runtime.cell import current_cell
from runtime.events import DEFAULT_BUFFER, Event, EventBus, EventStream
from runtime.graphs.attempt import Serve
from runtime.graphs.course import Course
from runtime.graphs.demands import Demands
from runtime.graphs.dependencies import ContextKeeper, Contexts, RunDependencies
from runtime.graphs.handle import RunHandle
from runtime.graphs.node import NodeActor
from runtime.graphs.run import ActiveRun, Work
from runtime.graphs.state import RunState
from runtime.kernel import Kernel
from runtime.lm.dspy import bridge
from runtime.lm.dspy.checking import predict_problems
from runtime.lm.dspy.choosing import Picking
from runtime.lm.models import Connections, Models
from runtime.lm.predictors.serving import Predictors
from runtime.mailbox import Mailbox
from runtime.pool import InstancePool
from runtime.supervisor import SupervisorCell

FURTHER_CHECKS.append(predict_problems)  # so that the check of a graph knows what its language models will need

NODE_SUPERVISION = Supervision(max_restarts=math.inf, backoff=Backoff(first_s=0.1, cap_s=1.0))
"""How a graph's nodes are restarted unless the graph says otherwise. No budget: what bounds the restarts is that every crash
uses up an attempt of a message, and one run that fails must not take down the nodes that others use."""


RunInside = Callable[[Any, object, Work], Awaitable[Any]]
"""Runs a graph as the work of a node of another run."""


@final
class Deployment:
    """A graph whose actors run. Made by ``Runtime.deploy``; used through the runtime, ended by ``stop()`` or with the runtime."""

    def __init__(self, graph: Graph, plan: Plan, supervisor: SupervisorCell, max_runs: float) -> None:
        self.graph = graph
        self.plan = plan
        self.course = Course(plan)
        self.pools: dict[str, InstancePool] = {}
        self.stations: dict[str, Mailbox] = {}
        """Node → where its messages go."""
        self.demands = Demands(plan, self.stations)
        self._supervisor = supervisor
        self._runs: dict[ActiveRun, None] = {}
        self._admission = trio.CapacityLimiter(max_runs) if max_runs != math.inf else None
        self._admitted: set[ActiveRun] = set()
        self._is_stopping = False

    @property
    def address(self) -> str:
        """The address of the supervisor above the graph's actors."""
        return self._supervisor.address

    @property
    def is_running(self) -> bool:
        """Whether it takes runs."""
        return self._supervisor.is_serving and not self._is_stopping

    @property
    def active_runs(self) -> int:
        """Runs that are not over, those that wait for their turn among them."""
        return len(self._runs)

    async def start(
        self,
        choose: Callable[[NodeSpec], Any],
        context: contextvars.Context,
        run_inside: RunInside,
        predictors: Mapping[str, Picking],
    ) -> None:
        """Start the first instance of every node, in the order of their declaration.

        All instances run in `context`, whoever causes their start: a run must not see the context variables of another.
        """
        self._supervisor.on_end(self._close)
        for name, spec in self.plan.nodes.items():
            options = spec.options
            child = ChildSpec(
                name,
                NodeActor,
                (spec, choose(spec), await self._server(spec, run_inside), predictors.get(name)),
                restart=options.restart,
                mailbox=options.mailbox,
                redelivery=options.redelivery,
            )
            pool = self.pools[name] = InstancePool(self._supervisor, child, options.concurrency, context)
            self.stations[name] = pool.mailbox
            await pool.start()

    async def _server(self, spec: NodeSpec, run_inside: RunInside) -> Serve | None:
        """What works on the messages of a node that is a graph or an actor; such an actor is started here."""
        if spec.kind is Kind.GRAPH:

            async def nested(work: Work, message: Any) -> Any:
                return await run_inside(spec.embedded, message, work)

            return nested
        if spec.kind is not Kind.ACTOR:
            return None
        ref: Any = spec.embedded
        if not isinstance(spec.embedded, ActorRef):
            cell = await self._supervisor.start_child(ChildSpec(f"{spec.name}-actor", spec.embedded))
            assert isinstance(cell, ActorCell), "a ChildSpec makes an actor"
            ref = cell.ref

        async def asked(_: Work, message: Any) -> Any:
            try:
                return await ref.ask(message)
            except ActorFailed as error:
                if error.__cause__ is not None and not is_worth_another_attempt(error.__cause__):
                    error.retryable = False
                raise

        return asked

    async def admit(self, run: ActiveRun) -> None:
        """Wait until `run` may begin. Cancelled, or cancelled as a run meanwhile, it is over."""
        self._runs[run] = None
        try:
            if self._admission is not None:
                await self._admission.acquire_on_behalf_of(run)
                self._admitted.add(run)
        except BaseException:
            run.never_began("its start was cancelled")
            raise
        if run.is_ending:
            run.never_began()

    def dismiss(self, run: ActiveRun) -> None:
        """`run` is over."""
        del self._runs[run]
        if self._admission is not None and run in self._admitted:
            self._admitted.remove(run)
            self._admission.release_on_behalf_of(run)

    async def stop(self) -> None:
        """Cancel the runs and stop the actors; return when all have ended. Cancelled itself, it still stops them soon.

        Raises:
            UsageError: called by one of the actors it would wait for.
        """
        caller = current_cell.get()
        if caller is not None and f"{caller.address}/".startswith(f"{self.address}/"):
            raise UsageError(
                f"{caller.address!r} would wait for its own end.\n  Mend: stop() the graph from outside of its nodes."
            )
        self._is_stopping = True
        try:
            await self._end_runs()
        finally:
            self._supervisor.request_stop()
        parent = self._supervisor.parent
        if isinstance(parent, SupervisorCell):
            await parent.terminate(self._supervisor, discard=True)

    async def _end_runs(self) -> None:
        runs = list(self._runs)
        for run in runs:
            run.cancel("its graph was stopped")
        for run in runs:
            await run.over.wait()

    def _close(self, ended: Terminated) -> None:
        for run in list(self._runs):
            if ended.error is not None:
                run.fail(ended.error)
            run.cancel("its graph has ended")
        for pool in self.pools.values():
            pool.close()


@final
class Engine:
    """Deploys graphs under a supervisor and starts their runs."""

    def __init__(self, kernel: Kernel, root: SupervisorCell, models: Models, predictors: Predictors) -> None:
        self._predictors = predictors
        self._kernel = kernel
        self._root = root
        self._models = models
        self._deployments: dict[Graph, Deployment] = {}
        self._deploying = trio.Lock()
        self._numbers = itertools.count(1)
        self._runs: dict[str, ActiveRun] = {}
        """Those that are not over, by id, whatever their graph."""
        self._context = contextvars.copy_context()
        self._contexts = Contexts()
        self._is_draining = False

    # --- deployments ------------------------------------------------------------------------------------------------------

    async def deploy(self, graph: Graph, max_runs: float = math.inf) -> Deployment:
        """Check `graph` and start its actors; see ``Runtime.deploy``."""
        _check_graph(graph)
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
            await bridge.warm_up()
        predictors = self._predictors.of_graph(graph.name, plan.nodes.values())
        for nested in [spec.embedded for spec in plan.nodes.values() if spec.kind is Kind.GRAPH]:
            known = self._deployments.get(nested)
            if known is None or not known.is_running:
                await self._deploy(nested, math.inf)  # so that what is wrong with it is said before the first run
        if self._models.needs_transport and not self._models.has_owner:
            await self._root.start_child(ChildSpec(self._free_name("connections"), Connections, (self._models,)))
        if self._contexts.nursery is None and _keeps_contexts(plan):
            await self._root.start_child(ChildSpec(self._free_name("contexts"), ContextKeeper, (self._contexts,)))
        spec = supervisor_spec(
            self._free_name(graph.name), (), graph.supervision or NODE_SUPERVISION, restart=RestartType.TEMPORARY
        )
        supervisor = await self._root.start_child(spec)
        assert isinstance(supervisor, SupervisorCell), "a SupervisorSpec makes a supervisor"
        deployment = Deployment(graph, plan, supervisor, max_runs)
        try:
            await deployment.start(lambda node: chosen[node.name], self._context, self.run_inside, predictors)
        except BaseException:
            with trio.CancelScope(shield=True):
                await self._root.terminate(supervisor, discard=True)
            raise
        self._deployments[graph] = deployment
        supervisor.on_end(lambda _: self._forget(deployment))
        return deployment

    def _free_name(self, wanted: str) -> str:
        return self._root.free_name(wanted) if wanted in self._root.children else wanted

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
        """Start a run; return once its first messages have found room. Cancelled, nothing of it is alive."""
        await trio.lowlevel.checkpoint()
        return await self._start(graph, message, run_id, max_steps, events)

    async def _start(
        self, graph: Graph, message: object, run_id: str | None, max_steps: float, events: EventStream | None = None
    ) -> ActiveRun:
        """The same for who waits for the end of the run as well, which is a checkpoint."""
        if self._is_draining and current_cell.get() is None:  # a run that drains may still need runs of its own
            raise UsageError("the runtime is draining: it takes no more runs.\n  Mend: start runs before drain() is called.")
        _check_max_steps(max_steps)
        deployment = await self._deployment_of(graph)
        state = RunState(deployment.course, self._new_id(graph, run_id))
        commands = state.start(message)

        def dismiss(run: ActiveRun) -> None:
            del self._runs[run.id]
            deployment.dismiss(run)

        run = self._runs[state.run_id] = ActiveRun(
            state, deployment.stations, self._publisher(events), dismiss, max_steps, now=self._kernel.now
        )
        if deployment.course.has_needs:
            run.dependencies = self._dependencies(deployment, run, message, deployment.plan.name)
        await deployment.admit(run)
        if run.over.is_set():
            return run
        try:
            await run.begin(message, commands)
        except BaseException:
            with trio.CancelScope(shield=True):
                await run.over.wait()
            raise
        return run

    async def run_inside(self, graph: Graph, message: object, work: Work) -> Any:
        """Run `graph` as the work of a node of another run, and return its output; nothing of it is alive afterwards."""
        outer = work.run
        deployment = await self._deployment_of(graph)
        state = RunState(deployment.course, outer.id, work.delivery.path)
        commands = state.start(message)
        publish = outer.publish if outer.is_listened_to else None
        run = ActiveRun(state, deployment.stations, publish, deployment.dismiss, outer.max_steps, outer, outer.now)
        if deployment.course.has_needs:
            run.dependencies = self._dependencies(deployment, run, message, work.delivery.path)
        try:
            await deployment.admit(run)
            if not run.over.is_set():
                await run.begin(message, commands)
            return await RunHandle(run).result()
        finally:
            if not run.over.is_set():
                run.cancel("the run that it is a part of no longer wants it")
                with trio.CancelScope(shield=True):
                    await run.over.wait()

    def _dependencies(self, deployment: Deployment, run: ActiveRun, message: object, prefix: str) -> RunDependencies:
        async def run_node(name: str, lender: RunDependencies) -> Any:
            return await deployment.demands.run(name, message, run, prefix, lender)

        return RunDependencies(run, message, self._contexts, run_node)

    def _new_id(self, graph: Graph, wanted: object) -> str:
        if wanted is None:
            numbered = (f"{graph.name}-{number}" for number in self._numbers)
            return next(run_id for run_id in numbered if run_id not in self._runs)
        if not isinstance(wanted, str) or not wanted:
            raise UsageError(f"run_id={wanted!r}: expected a non-empty string or None.\n  Mend: leave it out, and one is made.")
        if wanted in self._runs:
            raise UsageError(f"a run {wanted!r} is under way already.\n  Mend: give each run its own run_id.")
        return wanted

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
        await trio.lowlevel.checkpoint_if_cancelled()
        active = await self._start(graph, message, None, max_steps)
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
        _check_buffer(buffer)
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

    def cancel_runs(self, why: str) -> None:
        """Cancel every run; returns at once."""
        for run in list(self._runs.values()):
            run.cancel(why)


def _keeps_contexts(plan: Plan) -> bool:
    return any(need.supply is Supply.CONTEXT for spec in plan.nodes.values() for need in spec.all_needs)


def _check_graph(graph: object) -> None:
    if not isinstance(graph, Graph):
        raise UsageError(f"expected a Graph. Got: {graph!r}.\n  Mend: runtime.run(graph, message), the graph first.")


def _check_buffer(buffer: object) -> None:
    if not isinstance(buffer, int) or isinstance(buffer, bool) or buffer < 1:
        raise UsageError(f"buffer={buffer!r}: expected a whole number >= 1.\n  Mend: leave it out for {DEFAULT_BUFFER}.")


def _check_max_steps(max_steps: object) -> None:
    if not isinstance(max_steps, int | float) or isinstance(max_steps, bool) or not max_steps >= 1:
        raise UsageError(f"max_steps={max_steps!r}: expected a number >= 1.\n  Mend: leave it out for no limit.")
