"""A graph whose actors run: a supervisor whose children are the instances of its nodes, shared by all runs of the graph."""

from __future__ import annotations

import contextvars
import math
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Generic, Protocol, final

import attrs

from actors.actor import ActorRef, Terminated
from actors.errors import ActorFailed, UsageError
from actors.graphs.graph import Graph
from actors.graphs.node import Kind, NodeSpec
from actors.graphs.plan import Plan
from actors.mailbox import MailboxSpec
from actors.restarts import RestartType, is_worth_another_attempt
from actors.supervision import ChildSpec
from actors.typevars import In, Out
from runtime.core.actor_cell import ActorCell
from runtime.core.cell import current_cell
from runtime.core.pool import InstancePool
from runtime.core.supervisor import SupervisorCell
from runtime.graphs.adopting import Terrain, codec_of
from runtime.graphs.demands import Demands
from runtime.graphs.nodes.away import Elsewhere
from runtime.graphs.nodes.delivery import NodeActor, Serve
from runtime.graphs.nodes.humans import HumanPlace
from runtime.graphs.nodes.tooling import Equipment
from runtime.graphs.records.questions import Desk
from runtime.graphs.reducer.routing import RoutingTable
from runtime.graphs.reducer.wording import wrong_input
from runtime.graphs.runs.run import ActiveDelivery, ActiveRun
from runtime.graphs.runs.turns import Turns
from runtime.journal.fingerprint import fingerprint
from runtime.lm.dspy.choosing import Picking
from runtime.messages.codec import MessageCodec


class RunInside(Protocol):
    """Runs a graph as the work of a node of another run, or as a tool that it calls."""

    def __call__(
        self, graph: Any, message: object, active: ActiveDelivery, call: str = "", path: str | None = None, /
    ) -> Awaitable[Any]:
        """Return its output."""
        ...


@final
class Deployment(Generic[In, Out]):
    """A graph whose actors run. Made by ``Runtime.deploy``; used through the runtime, ended by ``stop()`` or with the runtime."""

    def __init__(self, graph: Graph[In, Out], plan: Plan, supervisor: SupervisorCell, max_runs: float) -> None:
        self.graph = graph
        self.plan = plan
        self.routing = RoutingTable(plan, graph.finish)
        self.has_needs = any(spec.all_needs for spec in plan.nodes.values())
        """Whether any node has dependencies."""
        self._codec: MessageCodec | None = None
        self._fingerprint: bytes | None = None
        self.pools: dict[str, InstancePool | HumanPlace] = {}
        self.demands = Demands(plan, self.pools)
        self._supervisor = supervisor
        self._runs: dict[ActiveRun, None] = {}
        self._turns = Turns(graph.name, max_runs) if max_runs != math.inf else None
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
    def codec(self) -> MessageCodec:
        """What stores its messages; made when the first is."""
        if self._codec is None:
            self._codec = codec_of(self.plan)
        return self._codec

    @property
    def fingerprint(self) -> bytes:
        """That of the plan."""
        if self._fingerprint is None:
            self._fingerprint = fingerprint(self.plan)
        return self._fingerprint

    def check_input(self, message: object) -> None:
        """Raise ``DeclarationError`` if no run can begin with `message`."""
        if not isinstance(message, self.plan.input_types):
            raise wrong_input(self.plan, message)

    @property
    def terrain(self) -> Terrain:
        """What a run needs of it to go on."""
        return Terrain(self.graph.name, self.graph.version, self.routing, self.codec, self.fingerprint)

    @property
    def places_left(self) -> float:
        """How many more runs may be in progress together."""
        return math.inf if self._turns is None else max(0, self._turns.max_runs - len(self._runs))

    @property
    def active_runs(self) -> int:
        """Runs that are not over, those that wait for their turn among them."""
        return len(self._runs)

    async def start(
        self,
        choose: Callable[[NodeSpec], Any],
        run_inside: RunInside,
        predictors: Mapping[str, Picking],
        equipment: Mapping[str, Equipment],
        desk: Desk,
        away: Mapping[str, Elsewhere],
    ) -> None:
        """Start the first instance of every node, in the order of their declaration.

        All instances begin without any context variables, no matter who causes their start: those that a node sees are its run's.
        """
        blank = contextvars.Context()
        self._supervisor.on_end(self._close)
        for name, spec in self.plan.nodes.items():
            options = spec.options
            child = ChildSpec(
                name,
                NodeActor,
                (
                    spec,
                    choose(spec),
                    await self._server(spec, run_inside),
                    predictors.get(name),
                    equipment.get(name),
                    away.get(name),
                ),
                restart=options.restart,
                mailbox=options.mailbox,
                redelivery=options.redelivery,
            )
            unbounded = MailboxSpec(capacity=math.inf)
            spare = attrs.evolve(child, args=(*child.args, True), restart=RestartType.TEMPORARY, mailbox=unbounded)
            pool = InstancePool(self._supervisor, child, options.concurrency, blank, spare)
            place = HumanPlace(pool.address, spec, desk, pool) if spec.kind is Kind.HUMAN else pool
            self.pools[name] = place
            await place.start()

    async def _server(self, spec: NodeSpec, run_inside: RunInside) -> Serve | None:
        """What works on the messages of a node that is a graph or an actor; such an actor is started here."""
        if spec.kind is Kind.GRAPH:

            async def nested(active: ActiveDelivery, message: Any) -> Any:
                return await run_inside(spec.embedded, message, active)

            return nested
        if spec.kind is not Kind.ACTOR:
            return None
        ref: Any = spec.embedded
        if not isinstance(spec.embedded, ActorRef):
            cell = await self._supervisor.start_child(ChildSpec(f"{spec.name}-actor", spec.embedded, place=spec.options.place))
            assert isinstance(cell, ActorCell), "a ChildSpec makes an actor"
            ref = cell.ref

        async def asked(_: ActiveDelivery, message: Any) -> Any:
            try:
                return await ref.ask(message)
            except ActorFailed as error:
                if error.__cause__ is not None and not is_worth_another_attempt(error.__cause__):
                    error.retryable = False
                raise

        return asked

    @property
    def takes_turns(self) -> bool:
        """Whether runs may have to wait for others."""
        return self._turns is not None

    def admit_now(self, run: ActiveRun) -> None:
        """`run` begins now. Not where runs take turns."""
        self._runs[run] = None

    async def admit(self, run: ActiveRun) -> None:
        """Wait until `run` may begin. Cancelled, or cancelled as a run meanwhile, it is over."""
        self._runs[run] = None
        try:
            if self._turns is not None:
                await run.waits.take_turn(self._turns)
        except BaseException:
            run.never_began("its start was cancelled")
            raise
        if run.journal is not None and not self.is_running:  # it was stopped while the store was asked
            run.hand_back("its graph was stopped")
        if run.is_ending:
            run.never_began()

    def dismiss(self, run: ActiveRun) -> None:
        """`run` is over."""
        self._runs.pop(run, None)  # one that never got so far as to be admitted
        if self._turns is not None:
            self._turns.give_back(run.waits)

    async def stop(self) -> None:
        """Cancel the runs and stop the actors; return when all have ended. Cancelled itself, it still stops them soon.

        Raises:
            UsageError: called by one of the actors it would wait for.
        """
        caller = current_cell.get()
        if caller is not None and f"{caller.address}/".startswith(f"{self.address}/"):
            raise UsageError(
                f"{caller.address!r} would wait for its own end.\n  Fix: stop() the graph from outside of its nodes."
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
            run.hand_back("its graph was stopped")
        for run in runs:
            await run.over.wait()

    def _close(self, ended: Terminated) -> None:
        for run in list(self._runs):
            if ended.error is not None:
                run.fail(ended.error)
            run.hand_back("its graph has ended")
        for pool in self.pools.values():
            pool.close()
