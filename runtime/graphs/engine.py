"""Graphs on actors: a deployed graph is a supervisor whose children are the instances of its nodes; runs share them."""

from __future__ import annotations

import contextlib
import contextvars
import itertools
import json
import math
import secrets
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import nullcontext
from datetime import timedelta
from typing import Any, Final, final

import trio

from actors.checks import refuse
from actors.errors import RuntimeDraining, UnderstudyError, UsageError
from actors.graphs.check import FURTHER_CHECKS
from actors.graphs.dependencies import Supply
from actors.graphs.graph import Graph
from actors.graphs.node import Kind, NodeSpec
from actors.graphs.options import node_supervision
from actors.graphs.plan import Plan
from actors.restarts import RestartType
from actors.store_errors import RunExists, RunParked, StoreError
from actors.supervision import ChildSpec, supervisor_spec
from actors.typevars import In, Out
from actors.words import repr_of
from runtime.core.cell import current_cell
from runtime.core.duty import on_duty
from runtime.core.events import DEFAULT_BUFFER, Audience, Event, EventBus, EventStream, WithStream
from runtime.core.services import Services
from runtime.core.supervisor import SupervisorCell
from runtime.graphs.adopting import restored
from runtime.graphs.carried import in_context
from runtime.graphs.dependencies import ContextKeeper, Contexts, RunDependencies
from runtime.graphs.deployment import Deployment
from runtime.graphs.events import RunAbandoned, RunAdopted, RunParkedEvent, RunResumed
from runtime.graphs.forking import forked
from runtime.graphs.handle import RunHandle
from runtime.graphs.journaling import Journal, by_frame
from runtime.graphs.keeper import Keeping
from runtime.graphs.launch import Launch
from runtime.graphs.record import RunStatus
from runtime.graphs.reducer.deliveries import Commands
from runtime.graphs.reducer.state import RunState
from runtime.graphs.resuming import MAX_LIVES, Beginning, Resumed, check, crashed_too_often, heard, lives_in_vain, replay
from runtime.graphs.run import ActiveRun, Work
from runtime.graphs.stored import StoredView, unknown
from runtime.graphs.unheard import Unheard
from runtime.journal.records import Record, RecordKind, digest_of
from runtime.journal.store import Created, Existing, NewRun, PostedKind, StoredRun, StoredStatus
from runtime.lm.dspy import bridge
from runtime.lm.dspy.checking import predict_problems
from runtime.lm.models import Connections, Models
from runtime.lm.predictors.serving import Predictors
from runtime.messages.codec import MessageCodec

FURTHER_CHECKS.append(predict_problems)  # the check of a graph then knows what its language models will need


LOOK_S: Final = 1.0
"""How often the store is asked for runs that are due."""
MOST_CLAIMED: Final = 20
"""How many runs are taken up at a time."""
_MAX_RUN_ID: Final = 200
"""Characters. An id stands in every event, path and message of its run, and becomes part of file names and addresses."""


def check_run_id(wanted: object) -> None:
    """Reject an id that could not stand in a path, a log line or a file name as it is."""
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
        """Those that are not over, by id, of all graphs."""
        self._unheard = Unheard()
        self._context = contextvars.copy_context()
        """That of the task that opened the runtime: for what outlives runs."""
        self._contexts = Contexts()
        self._is_draining = False
        self.keeping: Keeping | None = None
        """Set when the runtime has a store."""
        self._accepting: dict[str, trio.Lock] = {}
        """By the id of each durable run that is being started."""

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
        for nested in [spec.embedded for spec in plan.nodes.values() if spec.kind is Kind.GRAPH]:
            known = self._deployments.get(nested)
            if known is None or not known.is_running:
                await self._deploy(nested, math.inf)  # what is wrong with it is then reported before the first run
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
            await deployment.start(lambda node: chosen[node.name], self.run_inside, predictors)
        except BaseException:
            with trio.CancelScope(shield=True):
                await self._root.terminate(supervisor, discard=True)
            raise
        self._deployments[graph] = deployment
        supervisor.on_end(lambda _: self._forget(deployment))
        return deployment

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
        """Start a run; return once its first messages have found room. Cancelled, nothing of it is alive."""
        await trio.lowlevel.checkpoint()
        if self.keeping is None or not durable:
            _check_kept(here=here)
            launch = await self._prepare(graph, message, run_id, max_steps)
        else:
            accepted = await self._accept(self.keeping, graph, message, run_id, max_steps, here=here, deadline_s=deadline_s)
            if not isinstance(accepted, Launch):
                return accepted
            launch = accepted
        cell = on_duty()
        with nullcontext() if cell is None else launch.run.waits.started_by(cell):
            await launch.begin()
        return launch.run

    @trio.lowlevel.enable_ki_protection  # Ctrl-C comes at its waits; between two lines it would leave a run that never ends
    async def _prepare(
        self, graph: Graph, message: object, run_id: str | None, max_steps: float, events: EventStream | None = None
    ) -> Launch:
        """A run that has not begun. Not a checkpoint once its graph is deployed: who calls this waits for the run as well."""
        deployment = await self._taking(graph, max_steps)
        state = RunState(deployment.routing, self._new_id(graph, run_id))
        commands = state.start(message)
        run = self._activate(deployment, state, message, max_steps, events)
        return Launch(run, message, commands, deployment.admit)

    async def _taking(self, graph: Graph, max_steps: float) -> Deployment:
        """The deployed graph, if runs are taken."""
        if self._is_draining and current_cell.get() is None:  # a run that drains may still need runs of its own
            raise RuntimeDraining("the runtime is draining: it takes no more runs.\n  Fix: start runs before drain() is called.")
        _check_max_steps(max_steps)
        return await self._deployment_of(graph)

    def _activate(
        self, deployment: Deployment, state: RunState, message: object, max_steps: float, events: EventStream | None = None
    ) -> ActiveRun:
        def dismiss(run: ActiveRun) -> None:
            del self._runs[run.id]
            deployment.dismiss(run)
            if run.journal is not None:
                self._put_away(run, run.journal)
            elif run.status is RunStatus.FAILED and not run.waits.is_awaited:
                self._unheard.add(run)

        run = self._runs[state.run_id] = ActiveRun(
            state, deployment.pools, self._audience(events), dismiss, max_steps, now=self._services.now
        )
        run.shows_prompts = self._services.shows_prompts
        if self.keeping is not None:
            run.wall_time = self.keeping.store.wall_time
        if deployment.has_needs:
            run.dependencies = self._dependencies(deployment, run, message, deployment.plan.name)
        return run

    # --- durable runs -----------------------------------------------------------------------------------------------------

    @trio.lowlevel.enable_ki_protection
    async def _accept(
        self,
        keeping: Keeping,
        graph: Graph,
        message: object,
        wanted: str | None,
        max_steps: float,
        events: EventStream | None = None,
        *,
        here: bool = True,
        deadline_s: float | None = None,
    ) -> Launch | ActiveRun | StoredView:
        """Store a new run, which has not begun; or find the one of that id, in whatever state."""
        deployment = await self._taking(graph, max_steps)
        data = deployment.codec.encode(message)
        if wanted is not None:
            check_run_id(wanted)
        run_id = wanted if wanted is not None else f"{graph.name}-{secrets.token_hex(8)}"
        state = RunState(deployment.routing, run_id)
        commands = state.start(message)
        lock = self._accepting.setdefault(run_id, trio.Lock())
        async with lock:
            try:
                return await self._accepted(
                    keeping, deployment, state, commands, message, data, max_steps, events, here, deadline_s
                )
            finally:
                if not lock.statistics().tasks_waiting:
                    self._accepting.pop(run_id, None)

    async def _accepted(
        self,
        keeping: Keeping,
        deployment: Deployment,
        state: RunState,
        commands: Commands,
        message: object,
        data: bytes,
        max_steps: float,
        events: EventStream | None,
        here: bool,
        deadline_s: float | None,
    ) -> Launch | ActiveRun | StoredView:
        graph, run_id, store = deployment.graph, state.run_id, keeping.store
        active = self._runs.get(run_id)
        if active is not None and active.journal is None:
            raise UsageError(f"a run {repr_of(run_id)} is under way already.\n  Fix: give each run its own run_id.")
        now = store.wall_time()
        deadline = None if deadline_s is None else now + timedelta(seconds=deadline_s)
        limit = "" if max_steps == math.inf else f"{max_steps:g}"
        first = Record.of(run_id, 1, RecordKind.STARTED, limit, now.timestamp(), data)
        new = NewRun(run_id, graph.name, graph.version, deployment.fingerprint, deadline, here=here)
        found: Created | Existing | None = None
        with trio.CancelScope(shield=True):  # or nobody would know whether there is such a run
            found = await store.create(new, first)
        assert found is not None, "nobody cancels the scope"
        if isinstance(found, Created):
            if not here:
                return self._view(found.run)
            run = self._activate(deployment, state, message, max_steps, events)
            run.journal = Journal(keeping.open_log(run_id, 1, run.lost), deployment.codec)
            run.journal.note(message, data)
            return Launch(run, message, commands, deployment.admit)
        if found.run.graph != graph.name or not _is_same_input(deployment.codec, found.first, data, message):
            raise RunExists(
                f"run {run_id!r} is stored already, and is a run of graph {found.run.graph!r} with another input.\n"
                "  Fix: give the new run an id of its own; the same id, graph and input give the handle of that run.",
                run_id=run_id,
            )
        active = self._runs.get(run_id)  # it may have been taken up meanwhile
        if active is not None:
            return active
        if here and found.run.status is StoredStatus.READY and found.run.version == graph.version:
            taken = await store.take(run_id, StoredStatus.READY)
            if taken is not None:
                revived = await self._revive(keeping, deployment, taken, events)
                if isinstance(revived, Launch):
                    return revived
        return self._view(found.run)

    def _view(self, stored: StoredRun) -> StoredView:
        assert self.keeping is not None, "a stored run has a store"
        deployment = next((each for each in self._deployments.values() if each.graph.name == stored.graph), None)
        codec = None if deployment is None else deployment.codec
        return StoredView(self.keeping.store, stored, codec, self._runs.get)

    async def handle(self, run_id: str) -> ActiveRun | StoredView:
        """A run that is under way here, or stored."""
        await trio.lowlevel.checkpoint()
        active = self._runs.get(run_id)
        if active is not None:
            return active
        stored = None if self.keeping is None else await self.keeping.store.run(run_id)
        if stored is None:
            raise unknown(run_id)
        return self._view(stored)

    async def take_up(self) -> None:
        """Take up stored runs that are due, as many as graphs here have room for; for ever."""
        assert self.keeping is not None, "a store is opened"
        while True:
            with contextlib.suppress(StoreError):
                await self._take_up_due(self.keeping)
            await trio.sleep(LOOK_S)

    async def hear(self) -> None:
        """Do what is asked of runs here from outside, for ever."""
        assert self.keeping is not None, "a store is opened"
        while True:
            try:
                for item in await self.keeping.store.posted():
                    run = self._runs.get(item.run)
                    is_news = run is not None and run.journal is not None and item.id > run.journal.heard
                    if run is not None and is_news and item.kind is PostedKind.CANCEL:
                        run.cancel()
            except StoreError:
                await trio.sleep(LOOK_S)

    async def _take_up_due(self, keeping: Keeping) -> None:
        while not self._is_draining:
            open_for = {(d.graph.name, d.graph.version): d for d in self._deployments.values() if d.is_running and d.places_left}
            if not open_for:
                return
            most = int(min(MOST_CLAIMED, *(each.places_left for each in open_for.values())))
            claimed = await keeping.store.claim(list(open_for), most)
            for stored in claimed:
                deployment = open_for[stored.graph, stored.version]
                try:
                    launch = await self._revive(keeping, deployment, stored)
                except StoreError as error:  # damaged, or not to be read now: somebody else may try
                    self._parked(stored, error)
                    continue
                if isinstance(launch, Launch) and keeping.nursery is not None:
                    keeping.nursery.start_soon(self._go_on, launch)
            if len(claimed) < most:
                return

    async def _go_on(self, launch: Launch) -> None:
        async with in_context(self._context):
            await launch.begin()

    async def _revive(
        self,
        keeping: Keeping,
        deployment: Deployment,
        stored: StoredRun,
        events: EventStream | None = None,
        *,
        adopt: bool = False,
        fresh: bool = False,
    ) -> Launch | RunParked:
        """A run of this worker, ready to go on where its records end; or why it cannot, for which it was parked.

        Somebody has asked for it with `fresh`: what had failed may then fail as often as at first. See ``restored`` for `adopt`.
        """
        run_id, store = stored.id, keeping.store
        records = [record async for record in store.read(run_id)]
        check(run_id, records, stored.last_seq)
        inbox = await store.inbox(run_id)
        assert keeping.lease is not None, "the store is open"
        began = Beginning(keeping.worker, keeping.lease.epoch, inbox[-1].id if fresh and inbox else heard(records), fresh=fresh)
        lives = lives_in_vain(by_frame(records)[0])
        try:
            if lives >= MAX_LIVES and not fresh:
                raise crashed_too_often(run_id, lives)
            known = [*records, began.record(run_id, len(records) + 1)] if fresh else records
            back = restored(run_id, known, deployment.terrain, stored.fingerprint, self._services.now(), adopt=adopt)
        except RunParked as error:
            log = keeping.open_log(run_id, len(records), _nothing)
            told = {"error": type(error).__name__, "message": str(error), "reason": error.reason}
            await log.append(RecordKind.PARKED, error.reason, json.dumps(told).encode()).wait()
            keeping.close_log(log)
            self._parked(stored, error)
            return error
        async with in_context(self._context):
            run = self._activate(deployment, back.resumed.state, back.message, float(records[0].path or "inf"), events)
        log = keeping.open_log(run_id, len(records), run.lost)
        run.journal = Journal(log, deployment.codec, back.frames, digests=back.digests, fresh=back.fresh)
        run.journal.heard = began.heard
        written = log.append(RecordKind.RESUMED, "", began.data)
        if back.adopted is not None:
            written = log.append(RecordKind.ADOPTED, deployment.graph.version, back.adopted)
        run.resume(back.resumed)
        if any(item.kind is PostedKind.CANCEL and item.id > began.heard for item in inbox):
            run.cancel("it was cancelled before its process ended")
        if run.wants(RunResumed):
            run.audience.publish(RunResumed(run_id=run_id, graph=stored.graph, records=len(records), lives=stored.lives))
        if back.report is not None and run.wants(RunAdopted):
            run.audience.publish(back.report.event(run_id, stored.graph))
        await written.wait()
        return Launch(run, back.message, back.resumed.commands, deployment.admit)

    async def resume(self, run_id: str, *, adopt: bool = False) -> ActiveRun | StoredView:
        """See ``Runtime.resume``."""
        await trio.lowlevel.checkpoint()
        keeping = self._store_for("resume()")
        active = self._runs.get(run_id)
        if active is not None:
            return active
        stored = await keeping.store.run(run_id)
        if stored is None:
            raise unknown(run_id)
        if stored.status is StoredStatus.SUCCEEDED:
            raise UsageError(f"run {run_id!r} has succeeded.\n  Fix: await runtime.fork({run_id!r}, before=…) for another end.")
        deployment = self._deployed(stored, "resume()")
        if stored.version != deployment.graph.version and not adopt:
            raise UsageError(
                f"run {run_id!r} was begun by version {stored.version!r} of graph {stored.graph!r}; "
                f"version {deployment.graph.version!r} is deployed here.\n"
                f"  Fix: leave it to a worker that has version {stored.version!r}; or "
                f"await runtime.resume({run_id!r}, adopt=True)."
            )
        launch: Launch | RunParked | None = None
        with trio.CancelScope(shield=True):  # once it is taken, it must go on or be given back
            taken = await keeping.store.take(run_id)
            if taken is not None:
                launch = await self._revive(keeping, deployment, taken, adopt=adopt, fresh=True)
        if isinstance(launch, RunParked):
            raise launch
        if launch is None or keeping.nursery is None:
            return self._view(stored)
        keeping.nursery.start_soon(self._go_on, launch)
        return launch.run

    async def fork(
        self, run_id: str, *, before: str | None, edit: Mapping[str, Any], run_id_new: str | None
    ) -> ActiveRun | StoredView:
        """See ``Runtime.fork``."""
        await trio.lowlevel.checkpoint()
        keeping = self._store_for("fork()")
        if run_id_new is not None:
            check_run_id(run_id_new)
        stored = await keeping.store.run(run_id)
        if stored is None:
            raise unknown(run_id)
        deployment = self._deployed(stored, "fork()")
        records = [record async for record in keeping.store.read(run_id)]
        check(run_id, records, stored.last_seq)
        graph, new_id = deployment.graph, run_id_new or f"{stored.graph}-{secrets.token_hex(8)}"
        made = forked(run_id, new_id, records, deployment.terrain, before, edit)
        new = NewRun(
            new_id, graph.name, graph.version, deployment.fingerprint, None, run_id, len(records), stored.label, here=False
        )
        launch: Launch | RunParked | None = None
        with trio.CancelScope(shield=True):  # or nobody would know whether there is such a run
            found = await keeping.store.fork(new, made)
            if isinstance(found, Existing) and found.run.parent != run_id:
                raise RunExists(
                    f"run {new_id!r} is stored already, and is no fork of {run_id!r}.\n  Fix: give the fork an id of its own.",
                    run_id=new_id,
                )
            taken = await keeping.store.take(new_id, StoredStatus.READY)
            if taken is not None:
                launch = await self._revive(keeping, deployment, taken)
        if isinstance(launch, RunParked):
            raise launch
        if launch is None or keeping.nursery is None:
            return self._runs.get(new_id) or self._view(found.run)
        keeping.nursery.start_soon(self._go_on, launch)
        return launch.run

    def _store_for(self, call: str) -> Keeping:
        if self.keeping is None:
            raise UsageError(f"{call}: this runtime keeps no runs.\n  Fix: open_runtime(store='runs.db').")
        return self.keeping

    def _deployed(self, stored: StoredRun, call: str) -> Deployment:
        found = next((d for d in self._deployments.values() if d.graph.name == stored.graph and d.is_running), None)
        if found is None:
            raise UsageError(
                f"{call}: run {stored.id!r} is of graph {stored.graph!r}, which is not deployed in this runtime.\n"
                "  Fix: await runtime.deploy(graph) first, or open the runtime with graphs=[graph]."
            )
        return found

    def _parked(self, stored: StoredRun, error: UnderstudyError) -> None:
        if self._services.events.wants(RunParkedEvent):
            self._services.events.publish(RunParkedEvent(run_id=stored.id, graph=stored.graph, error=error))

    def _put_away(self, run: ActiveRun, journal: Journal) -> None:
        """A durable run is over here; if it was handed back, somebody else may have it."""
        keeping = self.keeping
        assert keeping is not None, "a durable run has a store"
        keeping.close_log(journal.log)
        if run.is_handed_back and journal.log.error is None and keeping.nursery is not None:
            keeping.nursery.start_soon(keeping.release, run.id)

    async def run_inside(self, graph: Graph, message: object, work: Work) -> Any:
        """Run `graph` as the work of a node of another run, and return its output; nothing of it is alive afterwards."""
        outer = work.run
        deployment = await self._deployment_of(graph)
        state = RunState(deployment.routing, outer.id, work.delivery.path)
        resumed: Resumed | None = None
        journal: Journal | None = None
        known: Sequence[Record] = ()
        if outer.journal is None:
            commands = state.start(message)
        else:
            journal, known = outer.journal.inside(work.delivery.path, work.step.attempt, deployment.codec)
            resumed = replay(state, message, known, deployment.codec, outer.now(), journal.digests, journal.fresh)
            commands = resumed.commands
        run = ActiveRun(state, deployment.pools, outer.audience, deployment.dismiss, outer.max_steps, outer, outer.now)
        run.journal = journal
        if resumed is not None and known:
            run.resume(resumed)
        if deployment.has_needs:
            run.dependencies = self._dependencies(deployment, run, message, work.delivery.path)
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
            raise UsageError(f"a run {repr_of(wanted)} is already in progress.\n  Fix: give each run its own run_id.")
        return wanted

    def _audience(self, stream: EventStream | None) -> Audience:
        bus = self._services.events
        return bus if stream is None else WithStream(stream, bus)

    def publish(self, event: Event) -> None:
        """Tell whoever listens to the runtime."""
        if self._services.events.listening:
            self._services.events.publish(event)

    async def run(self, graph: Graph, message: object, max_steps: float, run_id: str | None = None) -> Any:
        """Start a run and wait for its output; nothing of it is alive afterwards. It is durable if it has an id and a store."""
        await trio.lowlevel.checkpoint_if_cancelled()
        if self.keeping is None or run_id is None:
            launch = await self._prepare(graph, message, run_id, max_steps)
        else:
            accepted = await self._accept(self.keeping, graph, message, run_id, max_steps)
            if not isinstance(accepted, Launch):
                return await accepted.result()
            launch = accepted
        return await launch.result("the caller of run() was cancelled")

    @contextlib.asynccontextmanager
    async def stream(
        self, graph: Graph, message: object, max_steps: float, buffer: int, run_id: str | None = None
    ) -> AsyncGenerator[EventStream]:
        """A run as its events; left early, the run is cancelled."""
        _check_buffer(buffer)
        events = EventStream(EventBus(), None, buffer)
        await trio.lowlevel.checkpoint()
        if self.keeping is None or run_id is None:
            launch = await self._prepare(graph, message, run_id, max_steps, events)
        else:
            accepted = await self._accept(self.keeping, graph, message, run_id, max_steps, events)
            if not isinstance(accepted, Launch):
                raise UsageError(
                    f"run {run_id!r} has begun already, so its events cannot be streamed from the start.\n"
                    "  Fix: handle = await runtime.handle(run_id), and await handle.result()."
                )
            launch = accepted
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
        """Cancel every run, because the runtime is closed; returns a report on each that was never awaited."""
        if self.keeping is not None:
            self.keeping.hurry()
        abandoned = [run for run in self._runs.values() if not (run.waits.is_awaited or run.is_ending or run.journal)]
        for run in abandoned:
            if run.wants(RunAbandoned):
                run.audience.publish(RunAbandoned(run_id=run.id, graph=run.state.plan.name))
        for run_id, graph, _ in self._unheard.known.values() if self._services.events.wants(RunAbandoned) else ():
            self._services.events.publish(RunAbandoned(run_id=run_id, graph=graph))
        self.cancel_runs("the runtime was closed")
        return self._unheard.words() + [
            f"run {run.id!r} of graph {run.state.plan.name!r} was never awaited, and was cancelled when its runtime was closed.\n"
            "  Fix: await handle.result(), handle.cancel() or runtime.drain(grace_s) before the block ends."
            for run in abandoned
        ]

    def cancel_runs(self, why: str) -> None:
        """Cancel every run, or hand it back to the store if it is durable; returns immediately."""
        for run in list(self._runs.values()):
            run.hand_back(why)


def _nothing(_: object) -> None:
    pass


def _check_kept(*, here: bool) -> None:
    if not here:
        raise UsageError(
            "start(here=False) leaves the run to any worker, and this runtime has no store.\n  Fix: open it with one."
        )


def _is_same_input(codec: MessageCodec, first: Record, data: bytes, message: object) -> bool:
    """Whether a stored run has begun with `message`: by its bytes, or by what they mean."""
    if first.digest == digest_of(data):
        return True
    try:
        return bool(codec.decode(first.data or b"null") == message)
    except Exception:  # noqa: BLE001 - unreadable by now, or a comparison of its author's
        return False


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
