"""Durable runs: how one is accepted, so it is never lost; how a stored one goes on; how each is found by its id."""

from __future__ import annotations

import json
import secrets
from datetime import datetime, timedelta
from functools import partial
from typing import Any, final

import trio

from actors.errors import UnderstudyError, UsageError
from actors.graphs.graph import Graph
from actors.store_errors import RunExists, RunParked, StoreDamaged
from actors.words import repr_of
from runtime.core.events import EventStream
from runtime.core.services import Services
from runtime.graphs.active_runs import ActiveRuns, check_run_id
from runtime.graphs.adopting import Restored, restored
from runtime.graphs.deployed_graphs import Deployments
from runtime.graphs.deployment import Deployment
from runtime.graphs.keeper import Keeping
from runtime.graphs.outside import Outside
from runtime.graphs.records.carried import in_context
from runtime.graphs.records.journaling import Journal, details_of, is_by_hand
from runtime.graphs.records.labels import labels_here, labels_in, text_of
from runtime.graphs.records.questions import LONGEST_SLEEP_S
from runtime.graphs.records.recorded_answers import spend_of
from runtime.graphs.records.rehearsing import REHEARSAL
from runtime.graphs.records.resuming import MAX_LIVES, check, crashed_too_often, dues_of, lives_in_vain, told_of
from runtime.graphs.records.run_events import RunAdopted, RunParkedEvent, RunResumed, RunTakenOver
from runtime.graphs.records.stored_answers import WITHDRAWN, answer_data
from runtime.graphs.reducer.deliveries import Commands
from runtime.graphs.reducer.state import RunState
from runtime.graphs.runs.launch import Launch
from runtime.graphs.runs.run import ActiveRun
from runtime.graphs.runs.terms import Purse, Terms, terms_of
from runtime.graphs.stored import StoredView, unknown
from runtime.graphs.stored_talks import turns_before
from runtime.graphs.uncertain import Open, decided, find_uncertain
from runtime.journal.records import Record, RecordKind, digest_of
from runtime.journal.store import Created, Existing, NewRun, PostedKind, StoredRun, StoredStatus
from runtime.messages.codec import MessageCodec


@final
class DurableRuns:
    """The runs of one runtime that its store has."""

    def __init__(
        self,
        keeping: Keeping,
        active: ActiveRuns,
        deployments: Deployments,
        services: Services,
        outside: Outside,
        purse: Purse,
    ) -> None:
        self.keeping = keeping
        self.outside = outside
        self.purse = purse
        self.active = active
        self.deployments = deployments
        self._services = services
        self._accepting: dict[str, trio.Lock] = {}
        """By the id of each run that is being started."""
        outside.keeping, outside.accepting = keeping, self._accepting
        active.put_down = outside.put_down

    @trio.lowlevel.enable_ki_protection
    async def accept(
        self,
        graph: Graph,
        message: object,
        wanted: str | None,
        max_steps: float,
        events: EventStream | None = None,
        *,
        here: bool = True,
        deadline_s: float | None = None,
    ) -> Launch | ActiveRun | StoredView:
        """Store a new run, which has not begun; or find the one of that id, in any state."""
        deployment = await self.active.taking(graph, max_steps)
        if wanted is not None:
            check_run_id(wanted)
        run_id = wanted if wanted is not None else f"{graph.name}-{secrets.token_hex(8)}"
        state = RunState(deployment.routing, run_id)
        commands = state.start(message)
        data = deployment.codec.encode(message)
        lock = self._accepting.setdefault(run_id, trio.Lock())
        async with lock:
            try:
                terms = Terms(max_steps, labels_here(), self.purse.limits_here())
                return await self._accepted(deployment, state, commands, message, data, terms, events, here, deadline_s)
            finally:
                if not lock.statistics().tasks_waiting:
                    self._accepting.pop(run_id, None)

    async def _accepted(
        self,
        deployment: Deployment,
        state: RunState,
        commands: Commands,
        message: object,
        data: bytes,
        terms: Terms,
        events: EventStream | None,
        here: bool,
        deadline_s: float | None,
    ) -> Launch | ActiveRun | StoredView:
        graph, run_id, keeping, store = deployment.graph, state.run_id, self.keeping, self.keeping.store
        active = self.active.by_id.get(run_id)
        if active is not None and active.journal is None:
            raise UsageError(f"a run {repr_of(run_id)} is in progress already.\n  Fix: give each run its own run_id.")
        now = store.wall_time()
        deadline = None if deadline_s is None else now + timedelta(seconds=deadline_s)
        first = Record.of(run_id, 1, RecordKind.STARTED, terms.written(), now.timestamp(), data)
        label = text_of(terms.labels)
        new = NewRun(run_id, graph.name, graph.version, deployment.fingerprint, deadline, label=label, here=here)
        found: Created | Existing | None = None
        with trio.CancelScope(shield=True):  # or no one would know whether there is such a run
            found = await store.create(new, first)
        assert found is not None, "no one cancels the scope"
        if isinstance(found, Created):
            if not here:
                return self.view(found.run)
            run = self.active.activate(deployment, state, message, terms.max_steps, events)
            self.purse.watch(run, terms)
            log = keeping.open_log(run_id, 1, run.lost, found.run.lives)
            run.journal = Journal(log, deployment.codec, rehearsal=REHEARSAL.get())
            run.journal.note(message, data)
            self._watch_deadline(run, deadline)
            self.outside.begun(run)
            return Launch(run, message, commands, deployment.admit)
        if found.run.graph != graph.name or not _is_same_input(deployment.codec, found.first, data, message):
            raise RunExists(
                f"run {run_id!r} is stored already, and is a run of graph {found.run.graph!r} with another input.\n"
                "  Fix: give the new run its own id; the same id, graph and input give the handle of that run.",
                run_id=run_id,
            )
        active = self.active.by_id.get(run_id)  # it may have been taken up meanwhile
        if active is not None:
            return self.seen(active)
        if here and found.run.status is StoredStatus.READY and found.run.version == graph.version:
            taken = await store.take(run_id, StoredStatus.READY)
            if taken is not None:
                revived = await self.revive(deployment, taken, events)
                if isinstance(revived, Launch):
                    return revived
        return self.view(found.run)

    def view(self, stored: StoredRun) -> StoredView:
        """A stored run, as its handle sees it."""
        deployment = self.deployments.named(stored.graph)
        codec = None if deployment is None else deployment.codec
        find, returning = self.active.by_id.get, self.active.returning
        labels = labels_in(stored.label)
        return StoredView(self.keeping.store, stored.id, stored.graph, stored.status, codec, find, returning, labels=labels)

    def seen(self, run: ActiveRun) -> ActiveRun | StoredView:
        """A run here, as its handle sees it: one that is stored may leave memory and come back."""
        if run.journal is None:
            return run
        find, returning, codec = self.active.by_id.get, self.active.returning, run.journal.codec
        return StoredView(self.keeping.store, run.id, run.graph, StoredStatus.RUNNING, codec, find, returning, run)

    async def handle(self, run_id: str) -> StoredView:
        """A stored run.

        Raises:
            UnknownRun: there is none of this id.
        """
        stored = await self.keeping.store.run(run_id)
        if stored is None:
            raise unknown(run_id)
        return self.view(stored)

    async def revive(
        self,
        deployment: Deployment,
        stored: StoredRun,
        events: EventStream | None = None,
        *,
        adopt: bool = False,
    ) -> Launch | RunParked:
        """A run of this worker, ready to go on where its records end; or why it cannot, for which it was parked.

        With `adopt`, what no longer fits its graph is given up.

        Raises:
            StoreError: it could not be read, and somebody else may try; StoreDamaged: no one need try again.
        """
        try:
            return await self._revived(deployment, stored, events, adopt=adopt)
        except BaseException as error:  # cancelled, too: it must not stay with a worker that does nothing about it
            is_damaged = isinstance(error, StoreDamaged)
            with trio.CancelScope(shield=True):
                status = StoredStatus.PARKED if is_damaged else StoredStatus.READY
                await self.keeping.release(stored.id, stored.lives, status)
            if isinstance(error, StoreDamaged):
                self.parked(stored, error)
            raise

    async def _revived(
        self, deployment: Deployment, stored: StoredRun, events: EventStream | None, *, adopt: bool
    ) -> Launch | RunParked:
        run_id, keeping, store = stored.id, self.keeping, self.keeping.store
        records = [record async for record in store.read(run_id)]
        check(run_id, records, stored.last_seq)
        lives = lives_in_vain(records)
        try:
            if lives >= MAX_LIVES:
                raise crashed_too_often(run_id, lives)
            back = restored(run_id, records, deployment.terrain, stored.fingerprint, self._services.now(), adopt=adopt)
            decided(run_id, await self.uncertain(deployment, back), {})
        except RunParked as error:
            log = keeping.open_log(run_id, len(records), _nothing, stored.lives)
            await log.append(RecordKind.PARKED, error.reason, told_of(error)).wait()
            keeping.close_log(log)
            self.parked(stored, error)
            return error
        heard = max((details_of(record)["heard"] for record in records if is_by_hand(record)), default=0)
        rehearsal = REHEARSAL.get()  # of this context, which is left below
        terms, used = terms_of(records), spend_of(records)
        async with in_context(self.deployments.context):
            with self.purse.on(terms, run_id, used):
                run = self.active.activate(deployment, back.resumed.state, back.message, terms.max_steps, events)
            self.purse.watch(run, terms)
            # Before anybody can look: what it was told in earlier lives would be taken for news.
            log = keeping.open_log(run_id, len(records), run.lost, stored.lives)
            run.journal = Journal(log, deployment.codec, back.frames, known=back.own, digests=back.digests, rehearsal=rehearsal)
            run.spend, run.heard, run.dues = used, heard, dues_of(records)
        assert keeping.lease is not None, "the store is open"
        began: Any = {"worker": keeping.worker, "epoch": keeping.lease.epoch}
        written = log.append(RecordKind.RESUMED, "", json.dumps(began).encode())
        if back.adopted is not None:
            written = log.append(RecordKind.ADOPTED, deployment.graph.version, back.adopted)
        for path, question in back.leftover:
            run.taken_in.add((PostedKind.ANSWER.value, question))
            written = log.append(RecordKind.ANSWERED, path, answer_data(WITHDRAWN), answered=question)
        run.resume(back.resumed)
        run.turns_before = await turns_before(store, run_id, deployment.codec)
        await self.outside.revived(run, records)
        if run.wants(RunResumed):
            run.audience.publish(
                RunResumed(run_id=run_id, graph=stored.graph, records=len(records), lives=stored.lives, labels=run.labels)
            )
        if stored.left_by is not None and run.wants(RunTakenOver):
            run.audience.publish(RunTakenOver(run_id=run_id, graph=stored.graph, from_worker=stored.left_by))
        if back.report is not None and run.wants(RunAdopted):
            run.audience.publish(back.report.event(run_id, stored.graph))
        try:
            await written.wait()
        except UnderstudyError:
            run.never_began()
            raise
        if not any(is_by_hand(record) for record in records):  # anyone who resumes it wants it to go on
            self._watch_deadline(run, stored.deadline)
        admit = partial(self._admit, deployment, terms) if terms.budgets else deployment.admit
        return Launch(run, back.message, back.resumed.commands, admit)

    async def _admit(self, deployment: Deployment, terms: Terms, run: ActiveRun) -> None:
        """Wait for the turn of a run that spends from budgets which others may share."""
        try:
            await self.purse.settled(terms)
        except BaseException:
            run.hand_back("its start was cancelled")
            run.never_began()
            raise
        await deployment.admit(run)

    @property
    def is_open(self) -> bool:
        """Whether runs are taken up: one that was just handed back would be taken up again by the runtime that closes."""
        return not (self.active.is_draining or self.active.is_closing)

    async def go_on(self, launch: Launch) -> None:
        """Let a run that was taken up go on beside its caller; or hand it back, if it was taken up too late."""
        if self.is_open and self.keeping.nursery is not None:
            self.keeping.nursery.start_soon(self._begin, launch)
            return
        launch.run.hand_back("the runtime takes no more runs")
        await self._begin(launch)

    async def _begin(self, launch: Launch) -> None:
        async with in_context(self.deployments.context):
            await launch.begin()

    def _watch_deadline(self, run: ActiveRun, deadline: datetime | None) -> None:
        """Cancel `run` if it is not over at `deadline`, by the store's clock; out of memory, it comes back for that."""
        run.deadline = deadline
        if deadline is None or self.keeping.nursery is None:
            return

        async def watch() -> None:
            while not run.over.is_set():
                left_s = (deadline - self.keeping.store.wall_time()).total_seconds()
                if left_s <= 0:
                    run.cancel("its deadline_s has passed")
                    return
                with trio.move_on_after(min(left_s, LONGEST_SLEEP_S)):  # the store's clock may be set meanwhile
                    await run.over.wait()

        self.keeping.nursery.start_soon(watch)

    async def uncertain(self, deployment: Deployment, back: Restored) -> Open:
        """What may run once only and was cut short of a run and its nested runs: steps, and calls of tools."""
        return await find_uncertain(deployment, back.resumed, back.own, back.frames, self.deployments.of, self._services.now())

    def parked(self, stored: StoredRun, error: UnderstudyError) -> None:
        """Tell anyone who listens that a run cannot go on."""
        if self._services.events.wants(RunParkedEvent):
            self._services.events.publish(RunParkedEvent(run_id=stored.id, graph=stored.graph, error=error))


def _nothing(_: object) -> None:
    pass


def _is_same_input(codec: MessageCodec, first: Record, data: bytes, message: object) -> bool:
    """Whether a stored run has begun with `message`: by its bytes, or by what they mean."""
    if first.digest == digest_of(data):
        return True
    try:
        return bool(codec.decode(first.data or b"null") == message)
    except Exception:  # noqa: BLE001 - unreadable by now, or a comparison of its author's
        return False
