"""Graphs on actors: a deployed graph is a supervisor whose children are the instances of its nodes; runs share them."""

from __future__ import annotations

import contextlib
import math
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import nullcontext
from typing import Any, final

import trio

from actors.errors import UsageError
from actors.graphs.graph import Graph
from actors.typevars import In, Out
from actors.words import repr_of
from runtime.core.duty import on_duty
from runtime.core.events import DEFAULT_BUFFER, Event, EventBus, EventStream
from runtime.core.services import Services
from runtime.core.supervisor import SupervisorCell
from runtime.graphs.accepting import DurableRuns
from runtime.graphs.active_runs import ActiveRuns, check_deadline
from runtime.graphs.deployed_graphs import Deployments
from runtime.graphs.deployment import Deployment
from runtime.graphs.everywhere import Everywhere
from runtime.graphs.handle import RunHandle
from runtime.graphs.keeper import Keeping
from runtime.graphs.nodes.away import Nowhere, Placing
from runtime.graphs.nodes.handed_tools import HandedTools
from runtime.graphs.outside import Outside
from runtime.graphs.records.inner_runs import frame_of
from runtime.graphs.records.journaling import Journal
from runtime.graphs.records.questions import Desk
from runtime.graphs.records.resuming import Resumed, replay
from runtime.graphs.records.run_events import RunAbandoned
from runtime.graphs.reducer.state import RunState
from runtime.graphs.registered_names import RegisteredNames
from runtime.graphs.reopening import Reopening
from runtime.graphs.runs.launch import Launch
from runtime.graphs.runs.run import ActiveDelivery, ActiveRun
from runtime.graphs.runs.terms import Purse
from runtime.graphs.stored import StoredView, unknown
from runtime.graphs.taking_up import TakingUp
from runtime.journal.records import Record, RecordKind
from runtime.journal.store import Store, StoredRun
from runtime.lm.models import Models
from runtime.lm.predictors.loaded_predictors import Predictors

Begun = Callable[[ActiveRun], None]
"""Is told of a run that is about to begin."""


@final
class Engine:
    """Deploys graphs under a supervisor and starts their runs."""

    def __init__(
        self,
        services: Services,
        root: SupervisorCell,
        models: Models,
        predictors: Predictors,
        evict_after_s: float = math.inf,
        placing: Placing | None = None,
    ) -> None:
        self._services = services
        self._budget = models.budget
        desk = Desk(services.timekeeper)
        self._deployments = Deployments(root, models, predictors, self.run_inside, desk, placing or Nowhere())
        self._active = ActiveRuns(services, self._deployments, desk)
        self.outside = Outside(services, desk, self._active.by_id, self._deployments.named, evict_after_s)
        """What people and other programs ask and say."""
        self.take_talk: Callable[[Deployment, StoredRun], Awaitable[None]] | None = None
        """Goes on with a stored conversation whose worker is gone."""
        self.everywhere: Everywhere | None = None
        """The part of the bus that other owners of the store hear."""
        self.names = RegisteredNames()
        """Those that this runtime has, as one of those that share its store."""
        self._durable: DurableRuns | None = None
        """Set when the runtime has a store."""

    @property
    def is_draining(self) -> bool:
        """Whether it takes no more runs, because it is being shut down."""
        return self._active.is_draining

    def keep(self, keeping: Keeping) -> TakingUp:
        """Keep runs in a store from now on; returns what looks for those that are due, to be run while it is open."""
        self._active.keeping = self.names.keeping = keeping
        self._durable = DurableRuns(keeping, self._active, self._deployments, self._services, self.outside, Purse(self._budget))
        taking_up = TakingUp(self._durable, self._take_talk)
        self.outside.fetch = taking_up.fetch
        return taking_up

    async def _take_talk(self, deployment: Deployment, stored: StoredRun) -> None:
        if self.take_talk is not None:
            await self.take_talk(deployment, stored)
        elif self.keeping is not None:
            await self.keeping.release(stored.id, stored.lives)

    @property
    def keeping(self) -> Keeping | None:
        """What keeps its runs; None: nothing does."""
        return None if self._durable is None else self._durable.keeping

    async def deploy(self, graph: Graph[In, Out], max_runs: float = math.inf) -> Deployment[In, Out]:
        """Check `graph` and start its actors; see ``Runtime.deploy``."""
        return await self._deployments.deploy(graph, max_runs)

    async def deployment_of(self, graph: Graph[In, Out]) -> Deployment[In, Out]:
        """That of `graph`, which is deployed now if it was not."""
        return await self._deployments.of(graph)

    def deployed(self, name: str) -> Deployment | None:
        """That of the graph of this name; None: there is none here."""
        return self._deployments.named(name)

    async def tools(self, toolbox: object) -> HandedTools:
        """What a toolbox offers; see ``Runtime.tools``."""
        return await self._deployments.tools(toolbox)

    # --- runs -------------------------------------------------------------------------------------------------------------

    async def start(
        self,
        graph: Graph,
        message: object,
        run_id: str | None,
        max_steps: float,
        *,
        durable: bool = True,
        here: bool = True,
        deadline_s: float | None = None,
    ) -> ActiveRun | StoredView:
        """Start a run; return once its first messages have found room. Cancelled, none of it is alive.

        Not a checkpoint where there is room: who calls this waits elsewhere, before or after.
        """
        check_deadline(deadline_s)
        await trio.lowlevel.checkpoint_if_cancelled()
        if self._durable is None or not durable:
            _check_kept(here=here)
            launch = await self._prepare(graph, message, run_id, max_steps)
        else:
            accepted = await self._durable.accept(graph, message, run_id, max_steps, here=here, deadline_s=deadline_s)
            if not isinstance(accepted, Launch):
                return accepted
            launch = accepted
        cell = on_duty()
        with nullcontext() if cell is None else launch.run.waits.started_by(cell):
            await launch.begin()
        return self._seen(launch.run)

    @trio.lowlevel.enable_ki_protection  # as below
    def start_now(self, graph: Graph, message: object, run_id: str, max_steps: float) -> ActiveRun | None:
        """Start a run, if nothing of that has to wait; None, and nothing is done, if it has to, or if runs are stored."""
        deployment = None if self._durable is not None or on_duty() is not None else self._active.taking_now(graph, max_steps)
        if deployment is None or deployment.takes_turns:
            return None
        state = RunState(deployment.routing, self._active.new_id(graph, run_id))
        commands = state.start(message)
        if not all(deployment.pools[each.node].mailbox.has_room for each in commands.deliveries):
            return None
        run = self._active.activate(deployment, state, message, max_steps)
        deployment.admit_now(run)
        run.begin_now(message, commands)
        return run

    def _seen(self, run: ActiveRun) -> ActiveRun | StoredView:
        return run if self._durable is None else self._durable.seen(run)

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
        deployment = await self._active.taking(graph, max_steps)
        state = RunState(deployment.routing, self._active.new_id(graph, run_id))
        commands = state.start(message)
        run = self._active.activate(deployment, state, message, max_steps, events)
        if begun is not None:
            begun(run)
        return Launch(run, message, commands, deployment.admit)

    def graph_named(self, name: str) -> Graph | None:
        """The deployed graph of that name."""
        found = self._deployments.named(name)
        return None if found is None else found.graph

    def store(self, call: str) -> Store:
        """The store of this runtime, for what `call` looks up in it.

        Raises:
            UsageError: it has none.
        """
        return self._kept(call).keeping.store

    def reopening(self, call: str) -> Reopening:
        """What resumes and forks stored runs, for `call`.

        Raises:
            UsageError: the runtime has no store.
        """
        return Reopening(self._kept(call))

    def _kept(self, call: str) -> DurableRuns:
        if self._durable is None:
            raise UsageError(f"{call}: this runtime keeps no runs.\n  Fix: open_runtime(store='runs.db').")
        return self._durable

    async def handle(self, run_id: str) -> ActiveRun | StoredView:
        """A run that is in progress here, or stored."""
        await trio.lowlevel.checkpoint()
        active = self._active.by_id.get(run_id)
        if active is not None:
            return self._seen(active)
        if self._durable is None:
            raise unknown(run_id)
        return await self._durable.handle(run_id)

    async def run_inside(
        self, graph: Graph, message: object, active: ActiveDelivery, call: str = "", path: str | None = None
    ) -> Any:
        """Run `graph` as the work of a node of another run, and return its output; none of it is alive afterwards.

        `call` is the name of the call, if the node calls it as a tool; `path` is where its paths begin then.
        """
        path = active.delivery.path if path is None else path
        outer = active.run
        deployment = await self._deployments.of(graph)
        state = RunState(deployment.routing, outer.id, path)
        resumed: Resumed | None = None
        journal: Journal | None = None
        known: Sequence[Record] = ()
        if outer.journal is None:
            commands = state.start(message)
        else:
            journal, known = outer.journal.inside(active.delivery.path, frame_of(active.step.attempt, call), deployment.codec)
            if call and not known:
                journal.append(RecordKind.GIVEN, "", deployment.codec.encode(message))
            resumed = replay(state, message, known, deployment.codec, outer.now(), journal.digests)
            commands = resumed.commands
        run = ActiveRun(state, deployment.pools, outer.audience, deployment.dismiss, outer.max_steps, outer, outer.now)
        run.journal = journal
        if not call:
            outer.inside[path] = run
        if resumed is not None and known:
            run.resume(resumed)
        if deployment.has_needs:
            run.dependencies = self._active.dependencies(deployment, run, message, path)
        launch = Launch(run, message, commands, deployment.admit)
        try:
            return await launch.result("the run that it is a part of no longer wants it")
        finally:
            if outer.inside.get(path) is run:
                del outer.inside[path]

    def publish(self, event: Event) -> None:
        """Tell anyone who listens to the runtime."""
        if self._services.events.listening:
            self._services.events.publish(event)

    async def run(
        self, graph: Graph, message: object, max_steps: float, run_id: str | None = None, begun: Begun | None = None
    ) -> Any:
        """Start a run and wait for its output; none of it is alive afterwards. It is durable if it has an id and a store.

        `begun` is told of the run before it begins, if it begins here.
        """
        await trio.lowlevel.checkpoint_if_cancelled()
        if self._durable is None or run_id is None:
            launch = await self._prepare(graph, message, run_id, max_steps, begun=begun)
        else:
            accepted = await self._durable.accept(graph, message, run_id, max_steps)
            if not isinstance(accepted, Launch):
                active = accepted.active if isinstance(accepted, StoredView) else accepted
                if begun is not None and active is not None:
                    begun(active)
                return await accepted.result()
            launch = accepted
            launch.run.is_held = True
            if begun is not None:
                begun(launch.run)
        return await launch.result("the caller of run() was cancelled")

    @contextlib.asynccontextmanager
    async def stream(
        self, graph: Graph, message: object, max_steps: float, buffer: int, run_id: str | None = None, begun: Begun | None = None
    ) -> AsyncGenerator[EventStream]:
        """A run as its events; left early, the run is cancelled. `begun`: see :meth:`run`."""
        _check_buffer(buffer)
        events = EventStream(EventBus(), None, buffer)
        await trio.lowlevel.checkpoint()
        if self._durable is None or run_id is None:
            launch = await self._prepare(graph, message, run_id, max_steps, events, begun)
        else:
            accepted = await self._durable.accept(graph, message, run_id, max_steps, events)
            if not isinstance(accepted, Launch):
                raise UsageError(
                    f"run {run_id!r} has begun already, so its events cannot be streamed from the start.\n"
                    "  Fix: handle = await runtime.handle(run_id), and await handle.result()."
                )
            launch = accepted
            launch.run.is_held = True
            if begun is not None:
                begun(launch.run)
        try:
            with launch.run.waits.awaited() as cell:  # by the reader of its events
                await launch.begin()
                launch.run.when_over(events.close)
                with nullcontext() if cell is None else launch.run.waits.read_by(cell, events):
                    yield events
        finally:
            await launch.end("its stream was closed")

    async def drain(self, grace_s: float) -> None:
        """Take no more runs; let those in progress finish for `grace_s` seconds, then cancel them; return when all are over."""
        self._active.is_draining = True
        self.outside.evict_all()
        with trio.move_on_after(grace_s):
            await self._deployments.wait()  # runs that wait for their graph are behind the same lock, in front of us
            while self._active.by_id:
                await next(iter(self._active.by_id.values())).over.wait()
        while self._active.by_id:
            self.cancel_runs(f"the runtime was drained, and it was not over after grace_s={grace_s:g} s")
            for run in list(self._active.by_id.values()):  # one that only waits for people is over by now
                await run.over.wait()

    def runs(self) -> Mapping[str, RunHandle]:
        """Those that are not over, by id, in the order of their start."""
        return {run_id: RunHandle(self._seen(run), self.outside) for run_id, run in self._active.by_id.items()}

    def close(self) -> list[str]:
        """Cancel every run, because the runtime is closed; returns a report on each that was never awaited."""
        self._active.is_closing = True  # what is handed back below must not be taken up here again: test_durable_runs.py
        if self._durable is not None:
            self._durable.keeping.hurry()
        abandoned = [run for run in self._active.by_id.values() if not (run.waits.is_awaited or run.is_ending or run.journal)]
        for run in abandoned:
            if run.wants(RunAbandoned):
                run.audience.publish(RunAbandoned(run_id=run.id, graph=run.state.plan.name))
        for run_id, graph, _ in self._active.unheard.known.values() if self._services.events.wants(RunAbandoned) else ():
            self._services.events.publish(RunAbandoned(run_id=run_id, graph=graph))
        self.cancel_runs("the runtime was closed")
        return self._active.unheard.words() + [
            f"run {run.id!r} of graph {run.state.plan.name!r} was never awaited, and was cancelled when its runtime was closed.\n"
            "  Fix: await handle.result(), handle.cancel() or runtime.drain(grace_s) before the block ends."
            for run in abandoned
        ]

    def cancel_runs(self, why: str) -> None:
        """Cancel every run, or hand it back to the store if it is durable; returns immediately."""
        for run in list(self._active.by_id.values()):
            run.hand_back(why)


def _check_kept(*, here: bool) -> None:
    if not here:
        raise UsageError(
            "start(here=False) leaves the run to any worker, and this runtime has no store.\n  Fix: open it with one."
        )


def _check_buffer(buffer: object) -> None:
    if not isinstance(buffer, int) or isinstance(buffer, bool) or buffer < 1:
        raise UsageError(f"buffer={repr_of(buffer)}: expected a whole number >= 1.\n  Fix: leave it out for {DEFAULT_BUFFER}.")
