"""A service that is up: its runtime, its graphs, the runs that it has started, and what is kept of them."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import math
import secrets
from collections import OrderedDict
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from functools import partial
from typing import Any, Final, final

import attrs
import trio

from actors.errors import UnderstudyError
from actors.graphs.graph import Graph
from actors.store_errors import StoreError, UnknownRun
from runtime.app import Runtime
from runtime.core.timekeeper import Timekeeper, Timer
from runtime.graphs.handle import RunHandle
from runtime.graphs.records.run_events import StoreRecovered, StoreStalled
from runtime.graphs.records.run_record import RunStatus, Spend
from runtime.graphs.runs.run import ActiveRun
from runtime.inspector.incidents import KINDS as INCIDENTS
from runtime.inspector.watch import Watch
from runtime.journal.store import Store
from runtime.lm.limits.budget import Budget
from runtime.serve.auth import Caller
from runtime.serve.limits import CallerUsage, Limits
from runtime.serve.problem_documents import RETRY_S, HttpProblem, problem_of
from runtime.serve.sse import Streams
from runtime.traces.archive import Archive
from runtime.traces.event_json import Encoder
from runtime.traces.kept_run import OWNER, REQUEST, RunRecord
from runtime.traces.recorder import Recorder

ADMIT_S: Final = 0.2
"""How long the answer to a start waits for the run to begin, before it says that the run waits, in seconds."""
CANCEL_S: Final = 30.0
"""How long the end of a stored run that was cancelled is waited for, in seconds: it may be another process that has it."""
_MOST_KEYS: Final = 10_000
"""How many idempotency keys are known."""


@final
@attrs.frozen
class Order:
    """A run that somebody wants."""

    graph: Graph
    message: Any
    run_id: str | None = None
    labels: Mapping[str, str] = attrs.field(factory=dict[str, str])
    max_steps: float = float("inf")
    timeout_s: float = float("inf")
    budget: Budget | None = None
    request: str | None = None
    """The digest of what was asked for with an idempotency key."""


@final
@attrs.define(eq=False)
class ServedRun:
    """A run that the service has started, from before its start until it is over."""

    record: RunRecord
    caller: Caller
    key: tuple[str, str] | None = None
    """The idempotency key with which it was asked for, and the digest of that request."""
    cancel: Callable[[], object] = lambda: None
    """Cancels it; returns immediately."""
    begun: trio.Event = attrs.field(factory=trio.Event)
    """Set when it was accepted by the runtime, or has failed to be."""
    ended: trio.Event = attrs.field(factory=trio.Event)
    """Set when none of it is alive."""
    error: BaseException | None = None
    """Why it did not begin."""
    handle: RunHandle[Any] | None = None
    """Of one that has begun, and has a task."""
    active: ActiveRun | None = None
    """Of one that has begun, and has no task."""
    limit: Timer | None = None
    """Cancels that one when it has taken too long."""
    is_left: bool = False
    """Whether it is stored, and goes on after the service has ended."""
    is_told: bool = False
    """Whether its caller has been told that it was accepted."""

    @property
    def is_queued(self) -> bool:
        """Whether it has not begun."""
        return self.handle is None and self.active is None

    @property
    def waits(self) -> bool:
        """Whether all that is left of it waits for people and signals."""
        if self.active is not None:
            return self.active.seen_status is RunStatus.WAITING
        return self.handle is not None and self.handle.status is RunStatus.WAITING


@final
class Live:
    """One service while its lifespan lasts. All of it is on trio, no matter what the server is on."""

    def __init__(
        self, graphs: Sequence[Graph], limits: Limits, recorder: Recorder, runtime: Runtime, store: Store | None = None
    ) -> None:
        self.graphs: Mapping[str, Graph] = {graph.name: graph for graph in graphs}
        self.limits = limits
        self.runtime = runtime
        self.recorder = recorder
        self.encoder = Encoder(runtime.wall_time, recorder.recording.content, recorder.recording.redact)
        self.archive = None if store is None else Archive(store, recorder, self.encoder, self._is_here, self._result_of)
        """The runs of the store; None without one."""
        self.usage = CallerUsage(limits)
        self.streams = Streams(limits, self.usage, lambda: self.is_over)
        """What open event streams have in common."""
        self.streams.archive = self.archive
        self.watch: Watch | None = None
        """What the inspector knows; None without one."""
        self.is_operated = False
        """Whether the inspector may change anything."""
        self.hosts: Sequence[str] = ()
        """Under which names the service is reached."""
        self.origins: Sequence[str] = ()
        """Whose pages may call, besides the service's own."""
        self.drains = trio.Event()
        """Set when no more runs are taken."""
        self.launches: dict[str, ServedRun] = {}
        """Those in progress, by id."""
        self._late: OrderedDict[str, None] = OrderedDict()
        self._answered: OrderedDict[tuple[str, str], tuple[str, str]] = OrderedDict()
        """By caller and idempotency key: the digest of the request, and the run."""
        self._nursery: trio.Nursery | None = None
        self._timekeeper = Timekeeper()

    @contextlib.asynccontextmanager
    async def serving(self) -> AsyncGenerator[trio.Nursery]:
        """Take runs while the block lasts; gives the nursery of what faces have to run beside it."""
        failure: BaseException | None = None
        with contextlib.ExitStack() as observing:
            if self.archive is not None:
                observing.enter_context(self.runtime.observe(self.archive.note, [StoreStalled, StoreRecovered]))
            if self.watch is not None:
                observing.enter_context(self.runtime.observe(self.watch.incidents, INCIDENTS))
            try:
                async with trio.open_nursery() as self._nursery:
                    self._nursery.start_soon(self.streams.quiet.run)
                    self._nursery.start_soon(self.streams.stalled.run)
                    self._nursery.start_soon(self._timekeeper.run)
                    try:
                        yield self._nursery
                    except BaseException as error:  # noqa: BLE001 - raised below, bare: the nursery would put it into a group
                        failure = error
                    self._nursery.cancel_scope.cancel()
                    await self._end_active()
            except BaseException:
                if failure is None:
                    raise
        if failure is not None:
            raise failure

    def reject_runs(self) -> None:
        """Take no more, and let those who follow runs that go on elsewhere, or later, find out that the service stops."""
        self.drains.set()
        for record in self.recorder.newest_first():
            record.wake()

    @property
    def is_draining(self) -> bool:
        """Whether no more runs are taken."""
        return self.drains.is_set()

    @property
    def is_over(self) -> bool:
        """Whether the service stops and has no run left: a response that would go on now keeps its server from ending."""
        is_queued = any(launch.is_queued for launch in self.launches.values())
        return self.is_draining and not is_queued and not self.runtime.runs()

    @property
    def is_ready(self) -> bool:
        """Whether runs are taken."""
        return not self.is_draining and self.runtime.is_ready

    def graph(self, name: str) -> Graph:
        """The graph of that name.

        Raises:
            Problem: there is none.
        """
        found = self.graphs.get(name)
        if found is None:
            raise HttpProblem("no-such-graph")
        return found

    def run(self, run_id: str, caller: Caller, *, operating: bool = False) -> RunRecord:
        """What is kept of a run, if `caller` may see it, or (`operating`) change it.

        Raises:
            Problem: there is none, or it is another's: no one learns which.
        """
        return self._checked(self.recorder.get(run_id), run_id, caller, operating=operating)

    def _checked(self, record: RunRecord | None, run_id: str, caller: Caller, *, operating: bool) -> RunRecord:
        if record is not None and self.may_see(record, caller):
            if operating and record.owner != caller.name and not caller.operates:
                raise HttpProblem("forbidden", "Only its owner, and callers with the scope 'operate', may do this.")
            return record
        if record is None and caller.sees_all and self.recorder.is_forgotten(run_id):
            raise HttpProblem("run-forgotten", run=run_id)
        raise HttpProblem("no-such-run")

    async def find(self, run_id: str, caller: Caller, *, operating: bool = False) -> RunRecord:
        """The same, also of runs that only the store has; their events are then numbered permanently.

        Raises:
            Problem: as :meth:`run`, or the store failed.
        """
        if self.archive is None:
            return self.run(run_id, caller, operating=operating)
        record = await self._found(run_id)
        return self._checked(record, run_id, caller, operating=operating)

    async def _found(self, run_id: str) -> RunRecord | None:
        assert self.archive is not None, "its callers have looked"
        try:
            return await self.archive.find(run_id)
        except StoreError as error:
            raise problem_of(error, inside=False) from error

    def _is_here(self, run_id: str) -> bool:
        return run_id in self.runtime.runs()

    async def _result_of(self, run_id: str) -> Any:
        return await (await self.runtime.handle(run_id)).result()

    def may_see(self, record: RunRecord, caller: Caller) -> bool:
        """Whether `caller` may see that run."""
        return record.owner == caller.name or caller.sees_all or caller.operates

    # --- starting ---------------------------------------------------------------------------------------------------------

    def accept(self, order: Order, caller: Caller, key: tuple[str, str] | None = None) -> tuple[ServedRun, bool]:
        """Start a run for `caller`, which goes on without it; or find the one that was started with the same `key`.

        `key` is an idempotency key and the digest of its request. Returns the run and whether it was there already.

        Raises:
            Problem: it cannot be started.
        """
        if key is not None and (replayed := self._replayed(caller, key)) is not None:
            return replayed, True
        if not self.is_ready or self._nursery is None:
            raise HttpProblem("draining", retry_after_s=RETRY_S)
        run_id = order.run_id
        if run_id is None:
            run_id = secrets.token_urlsafe(16)
        elif self.recorder.get(run_id) is not None or run_id in self.runtime.runs():
            raise HttpProblem("run-exists")
        self.usage.begin_run(caller.name)
        record = self.recorder.accept(run_id, order.graph.name, caller.name, order.labels)
        launch = self.launches[run_id] = ServedRun(record, caller, key)
        if key is not None:
            self._answered[caller.name, key[0]] = (key[1], run_id)
            if len(self._answered) > _MOST_KEYS:
                self._answered.popitem(last=False)
        if not self._begin_now(launch, order):
            scope = trio.CancelScope()
            launch.cancel = scope.cancel
            self._nursery.start_soon(self._carry_out, launch, order, scope, name=f"understudy run {run_id}")
        return launch, False

    async def admit(self, order: Order, caller: Caller, key: tuple[str, str] | None = None) -> tuple[ServedRun, bool]:
        """The same; with a store, a run that an earlier process has accepted with the same id or `key` is found, too.

        Raises:
            Problem: it cannot be started.
        """
        if self.archive is None or (key is None and order.run_id is None):
            return self.accept(order, caller, key)
        if key is not None:
            order = attrs.evolve(order, request=key[1], run_id=order.run_id or _id_of(caller, key[0]))
        known = self._answered.get((caller.name, key[0])) if key is not None else None
        record = None if known is not None or order.run_id is None else await self._found(order.run_id)
        if record is None:
            return self.accept(order, caller, key)
        if key is None:
            raise HttpProblem("run-exists")
        if record.owner != caller.name or record.request != key[1]:
            raise HttpProblem("idempotency-conflict" if record.owner == caller.name else "run-exists")
        return _launched(record, caller), True

    async def begun(self, launch: ServedRun) -> None:
        """Return once the run has begun, or waits for its turn or for room.

        Raises:
            Problem: it could not begin.
        """
        if not launch.begun.is_set():
            with trio.move_on_after(ADMIT_S):
                await launch.begun.wait()
        launch.is_told = True
        if launch.error is not None:
            raise problem_of(launch.error, inside=launch.caller.sees_all)

    def _replayed(self, caller: Caller, key: tuple[str, str]) -> ServedRun | None:
        known = self._answered.get((caller.name, key[0]))
        if known is None:
            return None
        digest, run_id = known
        if digest != key[1]:
            raise HttpProblem("idempotency-conflict")
        launch = self.launches.get(run_id)
        if launch is not None:
            return launch
        record = self.recorder.get(run_id)
        if record is None:
            raise HttpProblem("run-forgotten", run=run_id)
        return _launched(record, caller)

    def _begin_now(self, launch: ServedRun, order: Order) -> bool:
        """Begin the run without a task, as a run that waits for nothing and is not stored can; False: it cannot."""
        record = launch.record
        start = self.runtime._start_now  # pyright: ignore[reportPrivateUsage]  # programs start runs where they can wait
        try:
            active = start(order.graph, order.message, record.id, order.max_steps, order.budget, order.labels)
        except Exception as error:  # noqa: BLE001 - the request's to tell
            launch.error = error
            self._over(launch)
            return True
        if active is None:
            return False
        launch.active, launch.cancel = active, active.cancel
        active.waits.mark_awaited()
        record.is_stored = False
        launch.begun.set()
        launch.limit = self._timekeeper.call_after(min(order.timeout_s, self.limits.run_s), partial(self._take_late_down, launch))
        active.when_over(partial(self._over, launch))
        return True

    def _take_late_down(self, launch: ServedRun) -> None:
        self._note_late(launch.record.id)  # before the run's last event, with which its readers look
        launch.cancel()

    async def _end_active(self) -> None:
        """Cancel the runs that have no task, and wait for their end."""
        active = [launch.active for launch in self.launches.values() if launch.active is not None]
        for run in active:
            run.cancel()
        with trio.CancelScope(shield=True):
            for run in active:
                await run.over.wait()

    async def _carry_out(self, launch: ServedRun, order: Order, scope: trio.CancelScope) -> None:
        """Start the run and wait for its end; cancelled, cancel it."""
        try:
            with scope, trio.move_on_after(min(order.timeout_s, self.limits.run_s)) as limit:
                await self._run(launch, order, scope, limit)
        except Exception as error:  # noqa: BLE001 - the request's to tell, or the run's
            launch.error = error
        finally:
            self._over(launch)

    def _over(self, launch: ServedRun) -> None:
        """None of the run is alive."""
        if launch.limit is not None:
            launch.limit.cancel()
        self.usage.end_run(launch.caller.name)
        del self.launches[launch.record.id]
        self._settle(launch)
        launch.begun.set()
        launch.ended.set()

    async def _run(self, launch: ServedRun, order: Order, scope: trio.CancelScope, limit: trio.CancelScope) -> None:
        run_id, handle = launch.record.id, None
        try:
            handle = launch.handle = await self.runtime.start(
                order.graph,
                order.message,
                run_id,
                max_steps=order.max_steps,
                budget=order.budget,
                labels=self._labels(order, launch.caller),
            )
            if handle.labels.get(OWNER, launch.caller.name) != launch.caller.name:  # another process was quicker
                handle = launch.handle = None
                raise HttpProblem("run-exists")
            launch.record.is_stored = handle.durable
            launch.begun.set()
            with contextlib.suppress(UnderstudyError):
                await handle.result()
        except trio.Cancelled:
            if limit.cancel_called:  # noted before the run's last event, with which its readers look
                self._note_late(run_id)
            is_wanted = limit.cancel_called or scope.cancel_called
            if handle is not None and handle.durable:  # or else the service ends, and the run goes on where it starts again
                launch.is_left = not is_wanted
                if is_wanted:
                    with trio.move_on_after(CANCEL_S, shield=True):  # that it is cancelled is stored long before
                        await handle.cancel()
            elif handle is not None:
                with trio.CancelScope(shield=True):
                    await handle.cancel()
            raise

    def _labels(self, order: Order, caller: Caller) -> Mapping[str, str]:
        if self.archive is None:
            return order.labels
        asked = {} if order.request is None else {REQUEST: order.request}
        return {**order.labels, OWNER: caller.name, **asked}

    def _note_late(self, run_id: str) -> None:
        self._late[run_id] = None
        if len(self._late) > _MOST_KEYS:
            self._late.popitem(last=False)

    def _settle(self, launch: ServedRun) -> None:
        """Nothing of the run is alive; if no event has said so, it never began."""
        record = launch.record
        if record.is_over or launch.is_left:
            return
        if launch.error is not None and not launch.is_told:
            self.recorder.withdraw(record.id)  # the request tells, and there is no such run
            if launch.key is not None:
                self._answered.pop((launch.caller.name, launch.key[0]), None)
            return
        record.status = RunStatus.CANCELLED if launch.error is None else RunStatus.FAILED
        record.error, record.ended_at_s = launch.error, trio.current_time()
        record.wake()

    def status(self, record: RunRecord) -> str:
        """Where the run is now."""
        if record.status != RunStatus.RUNNING:
            return record.status
        launch = self.launches.get(record.id)
        if launch is not None and not launch.is_queued:
            return RunStatus.WAITING if launch.waits else record.status
        handle = self.runtime.runs().get(record.id)
        return RunStatus.WAITING if handle is not None and handle.status is RunStatus.WAITING else record.status

    def spend(self, record: RunRecord) -> Spend:
        """What the run has used so far, of one that goes on."""
        launch = self.launches.get(record.id)
        if launch is not None and launch.active is not None:
            return launch.active.spend
        handle = self.runtime.runs().get(record.id)
        return record.spend if handle is None else handle.spend

    def is_late(self, run_id: str) -> bool:
        """Whether the run was cancelled because it took too long."""
        return run_id in self._late

    async def cancel(self, record: RunRecord) -> None:
        """Cancel the run; return when none of it is alive. Over already: no effect."""
        launch = self.launches.get(record.id)
        if launch is not None:
            launch.cancel()
            await launch.ended.wait()
            return
        handle = self.runtime.runs().get(record.id)
        if handle is None and record.is_stored and not record.is_over:
            with contextlib.suppress(UnknownRun):
                handle = await self.runtime.handle(record.id)
        if handle is not None:
            with trio.move_on_after(CANCEL_S if handle.durable else math.inf):
                await handle.cancel()

    async def wait(self, record: RunRecord, limit_s: float) -> None:
        """Return when the run is over, or `limit_s` seconds later."""
        with trio.move_on_after(limit_s):
            while not record.is_over:
                await record.wait()


def _launched(record: RunRecord, caller: Caller) -> ServedRun:
    """A run that was started before, for anyone who asks for it again."""
    launch = ServedRun(record, caller)
    launch.begun.set()
    launch.ended.set()
    return launch


def _id_of(caller: Caller, key: str) -> str:
    """The id of the run that `caller` starts with an idempotency key: the same in every process that has the store.

    It need not be secret: anyone who may see a run is decided by whose it is.
    """
    digest = hashlib.sha256(f"{caller.name}\n{key}".encode("utf-8", "surrogatepass")).digest()
    return base64.urlsafe_b64encode(digest[:16]).decode().rstrip("=")
