"""The runtime as its host sees it: one object to open, to spawn and run things in, and to close."""

from __future__ import annotations

import contextlib
import logging
import math
import os
import random
import warnings
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator, Hashable, Iterable, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any, Unpack, final

import trio

from actors.actor import Actor, ActorRef, SpawnOptions
from actors.errors import ActorStartFailed, DeclarationError, UnderstudyError, UsageError
from actors.graphs.conversations import Policy
from actors.graphs.graph import Graph
from actors.lm import LM
from actors.mailbox import DeadLetterPolicy
from actors.restarts import RestartType
from actors.store_errors import StoreError
from actors.supervision import ChildSpec, Supervision, SupervisorRef, SupervisorSpec, supervisor_spec
from actors.typevars import In, M, Out
from actors.words import listed, repr_of
from runtime.core.actor_cell import ActorCell
from runtime.core.bus import Bus
from runtime.core.cell import Cell, current_cell
from runtime.core.dead_letters import DeadLetters
from runtime.core.events import DEFAULT_BUFFER, Event, EventStream
from runtime.core.failures import failure_in
from runtime.core.frames import without_frames
from runtime.core.inspection import Look, RuntimeStatistics, TreeNode, cell_at, look_at, statistics_of, tree_of
from runtime.core.opening import explained
from runtime.core.refs import LocalRef, Recipient, not_a_ref
from runtime.core.services import Services
from runtime.core.session import Session
from runtime.core.spawning import spawn_under
from runtime.core.supervisor import SupervisorCell
from runtime.core.supervisor_ref import LocalSupervisorRef
from runtime.core.task_handle import TaskHandle, start_task
from runtime.core.watchdog import watching
from runtime.graphs.conversations import IDLE_S, KEEP, Compact, Conversation, Conversations
from runtime.graphs.deployment import Deployment
from runtime.graphs.engine import Engine
from runtime.graphs.events import AnyEvent, AnyRunEvent
from runtime.graphs.handle import RunHandle
from runtime.graphs.history import History, history_of
from runtime.graphs.keeper import Keeper, Keeping
from runtime.graphs.labels import escaped, labelled
from runtime.graphs.questions import Question
from runtime.graphs.schedule_times import Times
from runtime.graphs.schedules import CatchUp, Schedule, Scheduler
from runtime.graphs.stored import unknown
from runtime.journal.opening import store_of
from runtime.journal.retention import Retention
from runtime.journal.store import Page, RunQuery, Store, StoredRun, StoredStatus
from runtime.lm.limits.budget import Budget, budgets_with, check_budget, spending_all
from runtime.lm.models import Connections, Models
from runtime.lm.predictors.serving import Predictors, PredictorStatistics
from runtime.lm.statistics import ModelStatistics
from runtime.lm.warming import warm_up as warm_up_libraries
from runtime.record.cassettes import Cassettes

_LOG = logging.getLogger("understudy.runs")


@final
class Runtime:
    """Actors under a root supervisor, and graphs whose nodes are such actors. Made by :func:`open_runtime`."""

    def __init__(
        self,
        services: Services,
        root: SupervisorCell,
        models: Models,
        predictors: Predictors,
        engine: Engine,
        scheduler: Scheduler,
    ) -> None:
        self._services = services
        self._predictors = predictors
        self._bus = Bus(services)
        self._root = root
        self._models = models
        self._engine = engine
        self._scheduler = scheduler
        self._conversations = Conversations(root, engine, lambda: self._charging(None))

    # --- actors ---------------------------------------------------------------------------------------------------------

    async def spawn(
        self,
        factory: Callable[..., Actor[M]],
        *args: Any,
        name: str | None = None,
        **options: Unpack[SpawnOptions],
    ) -> ActorRef[M]:
        """Start ``factory(*args)`` as an actor under the root supervisor; return once its lifespan was entered.

        `name` is its address (default: made from the factory's name). A failure of this first start is the caller's and is not
        retried. Cancelled, nothing remains.

        Raises:
            ActorStartFailed: the factory or the lifespan raised; the cause is chained.
            ChildAlreadyStarted: the name is taken.
        """
        try:
            return await spawn_under(self._root, factory, args, name, options)
        except UnderstudyError as error:
            raise without_frames(error)  # noqa: B904 - the same error

    async def supervise(
        self,
        children: Iterable[ChildSpec | SupervisorSpec],
        supervision: Supervision | None = None,
        name: str | None = None,
        restart: RestartType = RestartType.PERMANENT,
    ) -> SupervisorRef:
        """Start a supervisor with `children`, in order; return once all have started.

        Raises:
            ActorStartFailed: one did not start; those before it were stopped in reverse order.
            DeclarationError: the children or their options do not fit together.
        """
        child_id = name if name is not None else self._root.children.free_name("supervisor")
        try:
            cell = await self._root.start_child(supervisor_spec(child_id, children, supervision, restart=restart))
        except UnderstudyError as error:
            raise without_frames(error)  # noqa: B904 - the same error
        assert isinstance(cell, SupervisorCell), "a SupervisorSpec makes a supervisor"
        return cell.ref

    async def task(
        self,
        function: Callable[..., Awaitable[Out]],
        *args: Any,
        name: str | None = None,
        shutdown_s: float | None = None,
    ) -> TaskHandle[Out]:
        """Run ``function(*args)`` once beside everything else; return as soon as it has begun.

        It runs as an actor under the root supervisor that is never restarted: it has a name, a place in the tree and in the
        events, and ends with the runtime, which gives it `shutdown_s` seconds (5 by default) to finish. ``handle.result()`` waits
        for what it returns. A failure is in the result, in the events and in the dead letters, and ends nothing else.

        Raises:
            UsageError: `function` is no function. ChildAlreadyStarted: the name is taken.
        """
        return await start_task(self._root, function, args, name, shutdown_s)

    async def stop(self, ref: ActorRef[Any] | SupervisorRef) -> None:
        """Stop an actor or a supervisor for good; return when it has stopped, its clean-up included.

        It finishes the current message and turns the others into dead letters. Stopped already: no effect.

        Raises:
            UsageError: `ref` is of another runtime, or the caller runs inside what it wants to stop.
        """
        if not isinstance(ref, LocalRef | LocalSupervisorRef) or ref.cell.services is not self._services:
            raise not_a_ref(ref, "ref of this runtime", "spawn() or supervise()")
        cell = ref.cell
        caller = current_cell.get()
        if caller is not None and f"{caller.address}/".startswith(f"{cell.address}/"):
            raise UsageError(
                f"{caller.address!r} would wait for its own end.\n  Fix: self.context.stop() requests it and returns at once."
            )
        if isinstance(cell, Cell) and isinstance(cell.parent, SupervisorCell):
            await cell.parent.terminate(cell, discard=True)

    def whereis(self, name: str) -> ActorRef[Any] | SupervisorRef | None:
        """The ref to the actor or supervisor of that address; None when there is none. The same over restarts."""
        found = self._services.registry.get(name)
        return found.ref if found is not None else None

    # --- graphs ---------------------------------------------------------------------------------------------------------

    async def run(
        self,
        graph: Graph[In, Out],
        message: In,
        *,
        max_steps: float = math.inf,
        budget: Budget | None = None,
        run_id: str | None = None,
        labels: Mapping[str, str] | None = None,
    ) -> Out:
        """Run `graph` on `message` and return its output; deploys the graph first if need be.

        Whatever way it ends, nothing of the run is alive afterwards; cancelling the call cancels the run. Deadlines are the
        caller's: ``with trio.fail_after(10)``.

        Args:
            graph: the graph; it is checked when it is deployed.
            message: an instance of the graph's input type.
            max_steps: how many messages may be delivered to nodes before the run is given up.
            budget: what the language models of the run may use, besides what their clients and the runtime allow. A run that one
                of its nodes starts is charged to it too.
            run_id: names the run; with a store, the run is then kept in it, and cancelling the call cancels it there, too.
            labels: what its events say of it beside its id: at most 16 short texts by name. A run that one of its nodes starts
                has them too, unless it is given its own.

        Raises:
            RunFailed: nodes failed for good; a group whose leaves are ``NodeFailed``.
            NoOutput: the run came to rest without output. StepsExceeded: more than `max_steps`.
            GraphInvalid: the graph has problems. DeclarationError: `message` is of a wrong type, or a language model is missing.
        """
        try:
            with self._charging(budget), labelled(labels):
                output: Out = await self._engine.run(graph, message, max_steps, run_id)
        except UnderstudyError as error:
            raise without_frames(error)  # noqa: B904 - the same error
        return output

    async def start(
        self,
        graph: Graph[In, Out],
        message: In,
        run_id: str | None = None,
        *,
        max_steps: float = math.inf,
        budget: Budget | None = None,
        deadline_s: float | None = None,
        durable: bool = True,
        here: bool = True,
        labels: Mapping[str, str] | None = None,
    ) -> RunHandle[Out]:
        """Start a run and return its handle once its first messages have found room; it goes on without the caller.

        With a store, the run is stored before this returns, and goes on in another runtime if this one ends. The same `run_id`,
        graph and message then give the handle of that run, whatever has become of it.

        Args:
            graph: what to run.
            message: its input.
            run_id: names the run, and must not be that of another run under way, or of another one in the store; None makes one.
            max_steps: how many messages may be delivered to nodes before the run is given up.
            budget: what the language models of the run may use.
            deadline_s: a durable run that is not over so many seconds after its start is cancelled, wherever it is by then.
            durable: whether the run is stored, if the runtime has a store.
            here: False leaves it to any worker that has deployed the graph.
            labels: see :meth:`run`.

        Raises:
            RunExists: the store has another run of this id. StoreError: the run could not be stored.
            UsageError: the id is taken, or cannot stand in a path. And what :meth:`run` raises at its start.
        """
        try:
            with self._charging(budget), labelled(labels):
                started = await self._engine.start(
                    graph, message, run_id, max_steps, durable=durable, here=here, deadline_s=deadline_s
                )
                return RunHandle(started, self._engine.outside.send)
        except UnderstudyError as error:
            raise without_frames(error)  # noqa: B904 - the same error

    async def resume(
        self,
        run_id: str,
        *,
        adopt: bool = False,
        uncertain: Mapping[str, Any] | None = None,
        max_steps: float | None = None,
        budget: Budget | None = None,
    ) -> RunHandle[Any]:
        """Let a stored run go on that has failed, was cancelled or was parked. Its graph must be deployed here.

        Steps that have failed begin again with as many attempts as at first, those that were cut short begin again, and what is
        recorded does not: results, what ``run.once`` has returned, answers of language models outside of failed attempts.

        Args:
            run_id: whose.
            adopt: take the run over although its graph was changed, or it is of another version: results that still fit are kept,
                the others are given up. The event ``RunAdopted`` says which.
            uncertain: for each step with ``Effect.ONCE`` that was cut short, by its path (``StepUncertain.path``): ``"repeat"``
                to begin it again, or the message that it returned.
            max_steps: how many messages may be delivered from its start on; None: as many as before.
            budget: what its language models may use from its start on, what it has used counted; None: the budgets that it had.

        Raises:
            StepUncertain: such a step is left without a decision. RunChanged: something recorded does not fit the graph any more.
            UnknownRun: there is none of this id. UsageError: it is under way or has succeeded, its graph is not deployed, or a
                decision is of no such step. StoreError: the store failed.
        """
        reopening = self._engine.reopening("resume()")
        resumed = await reopening.resume(run_id, uncertain or {}, adopt=adopt, max_steps=max_steps, budget=check_budget(budget))
        return RunHandle(resumed, self._engine.outside.send)

    async def handle(self, run_id: str) -> RunHandle[Any]:
        """The handle of a run that is under way here, or of any stored one, wherever it runs and however it ended.

        Raises:
            UnknownRun: there is none of this id. StoreError: the store failed.
        """
        return RunHandle(await self._engine.handle(run_id), self._engine.outside.send)

    async def fork(
        self,
        run_id: str,
        *,
        before: str | None = None,
        edit: Mapping[str, Any] | None = None,
        run_id_new: str | None = None,
    ) -> RunHandle[Any]:
        """Copy what is recorded of a stored run into a run of its own, which goes on from there; returns its handle.

        The run itself stays as it is. What does not depend on what was left out or changed is kept and does not run again.

        Args:
            run_id: of a stored run, over or not, whose graph is deployed here.
            before: the path of a step, as in ``handle.trace``: it runs again, and so does what came of it.
            edit: path → message: what these steps made instead. ``path#index`` is an item of a generator.
            run_id_new: names the fork; None makes an id. The same id again gives the handle of that fork.

        Raises:
            UsageError: `before` or `edit` names no such step; the graph is not deployed here. UnknownRun: no such run is stored.
            NotStorable: a message of `edit` has no JSON. RunExists: `run_id_new` is another run's.
            RunUndecodable: a record cannot be read as its type any more. StoreError: the store failed.
        """
        try:
            forks = self._engine.reopening("fork()")
            made = await forks.fork(run_id, before=before, edit=edit or {}, run_id_new=run_id_new)
            return RunHandle(made, self._engine.outside.send)
        except UnderstudyError as error:
            raise without_frames(error)  # noqa: B904 - the same error

    async def stored(
        self,
        graph: Graph[Any, Any] | str | None = None,
        status: StoredStatus | str | None = None,
        started_after: datetime | None = None,
        label: str | None = None,
        *,
        limit: int = 100,
        after: str | None = None,
    ) -> Page[StoredRun]:
        """The runs in the store that fit all that is given, newest first, at most `limit` (1 to 1,000) of them.

        `label` is a name and a value such as ``"customer:7"``, of the ``labels`` with which a run was started.
        ``page.after`` is where the next page begins: ``await runtime.stored(after=page.after)``; None on the last one.

        Raises:
            UsageError: the runtime has no store, or a filter cannot be meant. StoreError: the store failed.
        """
        store = self._engine.store("stored()")
        if status is not None and status not in set(StoredStatus):
            known = listed([each.value for each in StoredStatus], "or")
            raise UsageError(f"stored(status={repr_of(status)}): expected {known}.\n  Fix: name one of them.")
        if limit not in range(1, 1_001):
            raise UsageError(f"stored(limit={repr_of(limit)}): expected 1 to 1,000.\n  Fix: ask by pages: after=page.after.")
        name = graph.name if isinstance(graph, Graph) else graph
        where = None if status is None else StoredStatus(status)
        line = None if label is None else escaped(label)
        return await store.runs(RunQuery(name, where, started_after, line, limit, after))

    async def history(self, run_id: str) -> History:
        """Everything that is stored of a run: its records, its steps, and what people are asked.

        Raises:
            UnknownRun: none of this id is stored. UsageError: the runtime has no store. StoreError: the store failed.
        """
        found = await history_of(self._engine.store("history()"), run_id)
        if found is None:
            raise unknown(run_id)
        return found

    async def forget(self, run_id: str) -> None:
        """Delete everything that is stored about a run, which must not be at work.

        Raises:
            UnknownRun: none of this id is stored. UsageError: the runtime has no store.
            StoreError: a worker has it, so cancel it first; or the store failed.
        """
        if not await self._engine.store("forget()").forget(run_id):
            raise unknown(run_id)

    async def schedule(
        self,
        name: str,
        graph: Graph[In, Out],
        message: In,
        *,
        every_s: int | None = None,
        cron: str | None = None,
        at: datetime | None = None,
        zone: str = "UTC",
        catch_up: CatchUp = CatchUp.LAST,
    ) -> Schedule:
        """Have `graph` started on `message` again and again, each time once however many workers have the store.

        The run of each tick is durable and called ``name@2026-11-28T18:00:00Z``. Any worker that has deployed the graph may start
        and take it. A schedule that is declared again with the same times keeps its next one.

        Args:
            name: replaces the schedule of that name.
            graph: deployed first if need be.
            message: the input of each run.
            every_s: a whole number of seconds, counted from now.
            cron: minute, hour, day, month and weekday, such as ``"0 9 * * MON"``; needs ``understudy[schedules]``.
            at: once; without a zone of its own, in `zone`.
            zone: for `cron` and `at`, such as ``"Europe/Berlin"``.
            catch_up: what to do about ticks that are over a minute late because no worker was there.

        Raises:
            UsageError: the times cannot be meant, or the runtime has no store. DeclarationError: `message` is of a wrong type.
            NotStorable: it has no JSON. StoreError: the store failed.
        """
        times = Times.of(every_s, cron, at, zone)
        return await self._scheduler.add(name, graph, message, times, catch_up)

    async def unschedule(self, name: str) -> bool:
        """Remove a schedule; False: there was none of that name. Runs that it has started go on.

        Raises:
            UsageError: the runtime has no store. StoreError: the store failed.
        """
        return await self._scheduler.remove(name)

    async def schedules(self) -> list[Schedule]:
        """All schedules in the store, by name.

        Raises:
            UsageError: the runtime has no store. StoreError: the store failed.
        """
        return await self._scheduler.all()

    async def questions(self, run_id: str | None = None) -> list[Question]:
        """What people are asked now, oldest first: by one run, or by all of this runtime and of its store.

        Raises:
            UnknownRun: there is no run of that id. StoreError: the store failed.
        """
        return await self._engine.outside.questions(run_id)

    async def answer(self, question_id: str, value: object, by: str | None = None) -> None:
        """Answer a question, from any process that has the store; returns when the answer is durable.

        The run goes on with it where it is, or is taken up by a worker that has deployed its graph. The first answer counts.

        Args:
            question_id: the ``id`` of one of :meth:`questions`.
            value: an instance of one of the question's ``answers``, or a dict of its fields, which is read strictly: nothing is
                converted. ``{"Approved": {…}}`` says which of several types is meant.
            by: who has answered; it is recorded.

        Raises:
            MessageInvalid: the dict makes none of the types; it names the fields. UsageError: it is no answer.
            AlreadyAnswered: the question has its answer, or its time was up. UnknownRun: there is no such question.
            StoreError: the store failed; the same call can be made again.
        """
        await self._engine.outside.answer(question_id, value, by)

    async def send(self, run_id: str, signal: object, key: str | None = None) -> None:
        """Send a message of a type in ``Graph(signals=…)`` into a run, from any process that has the store.

        Returns when it is durable. It goes where an input of its type would.

        Args:
            run_id: the run; it must not be over.
            signal: the message, or a dict of its fields, which is read strictly.
            key: names the signal within the run: one that was sent with the same key before has no effect, whatever it holds.

        Raises:
            MessageInvalid: the dict makes no signal. UsageError: it is no signal of the graph, or the run is over.
            UnknownRun: there is no run of that id. StoreError: the store failed; the same call can be made again.
        """
        await self._engine.outside.send(run_id, signal, key)

    def stream(
        self,
        graph: Graph[In, Out],
        message: In,
        *,
        run_id: str | None = None,
        max_steps: float = math.inf,
        buffer: int = DEFAULT_BUFFER,
        budget: Budget | None = None,
        labels: Mapping[str, str] | None = None,
    ) -> contextlib.AbstractAsyncContextManager[EventStream[AnyRunEvent[Out | None]]]:
        """A run as its typed events: ``async with runtime.stream(graph, message) as events: async for event in events``.

        The last event is always one ``RunFinished``, with the output or the error; after it the iteration ends. Leaving the block
        earlier cancels the run. A reader that lags more than `buffer` events behind loses the oldest, and finds ``EventsMissed``.
        """
        return self._streamed(self._engine.stream(graph, message, max_steps, buffer, run_id), budget, labels)

    def conversation(
        self,
        graph: Graph[In, Out],
        *,
        key: str,
        policy: Policy = Policy.ENQUEUE,
        keep: int = KEEP,
        compact: Compact | None = None,
        idle_s: float = IDLE_S,
    ) -> Conversation[In, Out]:
        """The conversation over `graph` that `key` names: ``await talk.send(message)``, one message at a time.

        Nodes see the earlier turns by ``Annotated[list[Turn], Recall(conversation=True)]``. All handles of one graph and one key
        stand for one conversation, which lives as long as the runtime.

        Args:
            graph: what each message is run on.
            key: whose conversation it is, such as a user's id.
            policy: what becomes of a message that comes while an earlier one is worked on.
            keep: how many turns are kept; older ones are forgotten.
            compact: an async function that makes fewer turns of more than `keep`, by a summary say.
            idle_s: how long after the last message the conversation's actor stops; what was said is kept.

        Raises:
            UsageError: `graph` isn't a graph, or `key` isn't a text. DeclarationError: another argument has a wrong value.
        """
        return self._conversations.of(graph, key, policy, keep, compact, idle_s)

    @contextlib.asynccontextmanager
    async def _streamed(
        self,
        run: contextlib.AbstractAsyncContextManager[EventStream[Any]],
        budget: Budget | None,
        labels: Mapping[str, str] | None,
    ) -> AsyncGenerator[EventStream[Any]]:
        async with contextlib.AsyncExitStack() as stack:
            with self._charging(budget), labelled(labels):  # its start alone: the caller's block is not part of the run
                events = await stack.enter_async_context(run)
            yield events

    def _charging(self, budget: Budget | None) -> contextlib.AbstractContextManager[None]:
        owner = self._models.budget
        if check_budget(budget) is None and owner is None:
            return contextlib.nullcontext()
        return spending_all(budgets_with(owner, budget))

    async def deploy(self, graph: Graph[In, Out], *, max_runs: float = math.inf) -> Deployment[In, Out]:
        """Start the actors of `graph`, so that its first run need not wait for them.

        `max_runs` bounds the runs under way at once; further ones wait for their turn at their start.

        Raises:
            GraphInvalid: the graph has problems. UsageError: it is deployed already.
        """
        try:
            return await self._engine.deploy(graph, max_runs)
        except UnderstudyError as error:
            raise without_frames(error)  # noqa: B904 - the same error

    def runs(self) -> Mapping[str, RunHandle[Any]]:
        """The runs under way by id, in the order of their start, those that wait for their turn among them.

        However they were started; nested graphs are parts of theirs. Each handle says its graph, times, status, trace and
        spending, and can cancel its run: ``await runtime.runs()["bills-7"].cancel()``.
        """
        return self._engine.runs()

    def cancel_runs(self, why: str) -> None:
        """Cancel every run under way; returns at once. `why` becomes part of their ``RunCancelled``."""
        self._engine.cancel_runs(why)

    @property
    def is_ready(self) -> bool:
        """Whether it takes runs: it does not drain, and its root supervisor has not spent its restarts."""
        return self._root.is_serving and not self._engine.is_draining

    async def drain(self, grace_s: float) -> None:
        """Take no more runs, let those under way finish for `grace_s` seconds, then cancel them; return when all are over.

        What a shut-down calls first. Runs that actors or running nodes start are still taken; others get ``UsageError``. A second
        call with a shorter grace hurries the first.
        """
        await self._engine.drain(grace_s)

    # --- language models ------------------------------------------------------------------------------------------------

    @property
    def lm(self) -> LM:
        """The default language model, for use outside nodes.

        Raises:
            UsageError: the runtime was opened without one.
        """
        return self._models.default

    @property
    def lms(self) -> Mapping[str, LM]:
        """The named language models."""
        return self._models

    async def warm_up(self) -> None:
        """Import in worker threads what the first call of a language model would wait for: DSPy, and LiteLLM's part of a client.

        It takes seconds once in a process and nothing after that. A process that forks workers imports with
        ``runtime.lm.load_libraries()`` before it does.
        """
        await warm_up_libraries()

    def predictor_statistics(self) -> PredictorStatistics:
        """How often the predict nodes of the graphs deployed so far picked a trained predictor, and how often none."""
        return self._predictors.statistics()

    # --- the bus ----------------------------------------------------------------------------------------------------------

    def subscribe(self, kind: type, ref: ActorRef[Any], *, topic: Hashable | None = None) -> None:
        """Send the actor every message of type `kind`, or of a class derived from it, that is published from now on.

        With a `topic`, only those that are published under it; ``object`` as `kind` takes all of them. Once each, however often
        it subscribed. The subscription survives restarts and ends with the actor.
        """
        self._bus.subscribe(kind, self._mailed(ref), topic)

    def unsubscribe(self, kind: type, ref: ActorRef[Any], *, topic: Hashable | None = None) -> None:
        """Undo :meth:`subscribe` with the same arguments; without effect if it was not."""
        self._bus.unsubscribe(kind, self._mailed(ref), topic)

    def publish(self, message: Any, *, topic: Hashable | None = None) -> int:
        """Put `message` into the mailbox of every subscriber of its type; returns to how many. Never blocks.

        Under a `topic` (any hashable value) it goes to those who subscribed to that topic, and to those who subscribed to the
        type without one. A mailbox without room applies its policy; where that would block or refuse, the message is a dead
        letter.
        """
        return self._bus.publish(message, topic)

    def _mailed(self, ref: object) -> Recipient:
        if not isinstance(ref, LocalRef) or ref.cell.services is not self._services:
            raise not_a_ref(ref, "ref to an actor of this runtime", "spawn()")
        return ref.cell

    # --- looking in -------------------------------------------------------------------------------------------------------

    def events(self, keep: Callable[[AnyEvent], bool] | None = None, *, buffer: int = DEFAULT_BUFFER) -> EventStream[AnyEvent]:
        """Subscribe to what happens from now on (only what `keep` accepts): ``async with runtime.events() as events``.

        The stream holds at most `buffer` events; a slow reader loses the oldest and finds ``EventsMissed`` instead.
        """
        return self._services.events.subscribe(keep, buffer)

    def observe(
        self, sink: Callable[[Any], object], kinds: Iterable[type[Event]] | None = None
    ) -> contextlib.AbstractContextManager[None]:
        """Call `sink` with every event of the classes `kinds`, and those derived from them, while the block lasts; None: of all.

        An instrument for a runtime that is open already: runs under way are observed too. Events that nobody asks for are not
        made. The sink is called in the middle of what happens, so it must not block or call the runtime; what it raises is logged
        once, published as ``InstrumentFailed``, and it is called no more.

        Raises:
            DeclarationError: `sink` cannot be called, or one of `kinds` isn't a class of events.
        """
        return self._observed(*_checked_sink(sink, kinds))

    @contextlib.contextmanager
    def _observed(self, sink: Callable[[Any], object], kinds: tuple[type[Event], ...]) -> Generator[None]:
        remove = self._services.events.add_sink(sink, kinds)
        try:
            yield
        finally:
            remove()

    def wall_time(self, at_s: float) -> datetime:
        """When the runtime's clock showed `at_s` seconds, in UTC: what an event's ``at_s`` is for people.

        The wall clock was read once, when the runtime was opened, so that times of events never go backwards. In virtual time
        seconds are counted from 1970.
        """
        return self._services.wall_clock.of(at_s)

    def close_event_streams(self) -> None:
        """End every subscription that :meth:`events` made; their iterators end after what they hold.

        What a shut-down calls before it waits for responses that are made of events, which would never end.
        """
        self._services.events.close()

    @property
    def dead_letters(self) -> DeadLetters:
        """The newest messages that reached nobody; iterable, newest last."""
        return self._services.dead_letters

    def statistics(self) -> RuntimeStatistics:
        """One look at every actor. The figures of each are made when they are read: see ``RuntimeStatistics``."""
        return statistics_of(self._services)

    def inspect(self, ref: ActorRef[Any]) -> Any:
        """What the actor's own ``describe()`` says of its state now, also while it handles a message; nothing is sent to it.

        None while it does not run, and for an actor that has no ``describe``.

        Raises:
            UsageError: `ref` is none of an actor of this runtime. ActorFailed: its ``describe()`` raised; the actor goes on.
        """
        cell = self._mailed(ref)
        return cell.describe() if isinstance(cell, ActorCell) else None

    def tree(self) -> TreeNode:
        """The supervision tree as it is now; ``print(runtime.tree())`` draws it."""
        return tree_of(self._root)

    def look(self, address: str = "", *, skip: int = 0, limit: int = 0) -> Look | None:
        """The actor or supervisor of that address as it is now ("" for the root); None when there is none.

        With `limit`, also so many of those directly below it, after the first `skip`: what a page of a very large tree shows
        without a walk through all of it.
        """
        cell = cell_at(self._root, address)
        return None if cell is None else look_at(cell, skip, limit)

    def model_statistics(self) -> tuple[ModelStatistics, ...]:
        """One look at every language model of this runtime: its limits, what is on its way, and whether its provider is down."""
        return self._models.statistics()


@explained
@contextlib.asynccontextmanager
async def open_runtime(
    *,
    lm: str | LM | None = None,
    lms: Mapping[str, str | LM] | None = None,
    seed: int | None = None,
    store: str | Path | Store | None = None,
    graphs: Iterable[Graph[Any, Any]] = (),
    worker: str | None = None,
    evict_after_s: float = 60.0,
    retention: Retention | None = None,
    instruments: Iterable[Callable[[AnyEvent], None]] = (),
    supervision: Supervision | None = None,
    watchdog_s: float | None = None,
    predictors: str | Path | None = None,
    warm_up: bool = False,
    budget: Budget | None = None,
    show_prompts: bool = False,
    record: str | os.PathLike[str] | Cassettes | None = None,
    dead_letters: DeadLetterPolicy | None = None,
) -> AsyncGenerator[Runtime]:
    """Open a runtime inside any trio program, as an async context manager.

    Several may be open side by side; nothing is global. On leaving, everything it started has ended: after a normal body each
    actor finishes the current message within its ``shutdown_s``; after an exception or a cancellation all are cancelled at once,
    in reverse order of their start, and only their clean-up takes its time.

    Args:
        lm: the default language model: a name such as ``"openai/gpt-4o-mini"``, an ``LMClient``, or any ``LM``.
        lms: further ones by name, for the ``lm`` option of nodes.
        seed: decides every random choice (jitter, ids); None draws one from the system.
        store: where durable runs are kept: the path of a SQLite file, ``"postgresql://…"``, or a ``Store``. Runs that were left
            unfinished are taken up, as soon as their graph is deployed. None: runs end with their process.
        graphs: deployed before the block begins.
        worker: begins the name by which the store knows this process; the rest is drawn.
        evict_after_s: a stored run that only waits for people, signals or a time leaves memory after so many seconds, and comes
            back when there is something for it; ``math.inf`` keeps it.
        retention: how long the store keeps runs that are over, ``Retention()`` for 30 and 90 days; None: until forgotten.
        instruments: called synchronously with every event, or with those of the classes in their attribute `kinds`; for logs and
            metrics. One with a method ``opened(runtime)`` is given the runtime first.
        supervision: of the root supervisor; the default restarts an actor up to 3 times within 5 s.
        watchdog_s: publish ``LoopBlocked``, with the actor and its stack, when code holds the event loop for longer than so many
            seconds of real time (0.25, say) without an ``await`` that waits; None does not watch.
        predictors: the folder that ``understudy compile`` wrote; predict nodes use what it has for them. It is read here and held
            against a graph's nodes when that is deployed.
        warm_up: do what :meth:`Runtime.warm_up` does before the block begins.
        show_prompts: let the events of runs say what language models are asked, as ``LMAsked``. Off by default, since prompts
            hold what users have written, and whoever listens keeps them.
        record: a folder, or ``Cassettes``, where the calls of its language models are recorded and replayed, except for those of
            clients with their own; see ``runtime.record``.
        budget: what all runs, and all calls through clients that the runtime opens, may use of language models together.
        dead_letters: how many messages that reached nobody are kept, and how much memory they may hold; None: the newest 1,000,
            in 8 MiB at most.

    Raises:
        DeclarationError: a file in `predictors` cannot be used.
        StoreError: the store cannot be opened: ``StoreInUse``, ``StoreTooNew``, ``StoreUnavailable``.
        UsageError: entered outside of trio.
        RestartsExhausted: the root supervisor gave up; the body was cancelled.
    """
    _check_entry()
    kept_in = None if store is None else store_of(store)
    services = Services(
        random.Random(seed), trio.lowlevel.current_clock().current_time, dead_letter_policy=_checked(dead_letters)
    )
    services.shows_prompts = show_prompts
    cassettes = Cassettes.of(record)
    models = Models(lm, lms, services.rng, check_budget(budget), None if cassettes is None else cassettes.tape())
    trained = Predictors(predictors)
    listeners = tuple(instruments)
    for instrument in listeners:
        services.events.add_sink(instrument, tuple(getattr(instrument, "kinds", (Event,))))
    session = Session(services, supervisor_spec("root", (), supervision))
    engine = Engine(services, session.root, models, trained, _checked_wait(evict_after_s))
    scheduler = Scheduler(engine)
    services.facade = runtime = Runtime(services, session.root, models, trained, engine, scheduler)
    for instrument in listeners:
        opened: Callable[[Runtime], None] | None = getattr(instrument, "opened", None)
        if opened is not None:
            opened(runtime)
    abandoned: list[str] = []
    with watching(services, watchdog_s):
        try:
            async with trio.open_nursery() as nursery:
                try:
                    await session.start(nursery)
                    with session.body:
                        if kept_in is not None:
                            await _keep(runtime, engine, scheduler, kept_in, worker, retention)
                        await _prepare(runtime, models, warm_up=warm_up)
                        for graph in graphs:
                            await runtime.deploy(graph)
                        yield runtime
                except BaseException as error:  # noqa: BLE001 - raised again below, once the tree has ended
                    session.note(error)
                abandoned = engine.close()
                try:
                    await session.finish()
                except BaseException as error:  # noqa: BLE001 - raised below: out of the nursery it would come in a group
                    session.note(error)
        except BaseException as error:
            # The host has cancelled the nursery, and then what the body raised comes first; or it is a bug of ours.
            if session.error is None or failure_in(error) is not None:
                raise
    outcome = session.outcome
    if outcome is not None:
        raise outcome
    for words in abandoned:
        _LOG.warning(words)
        warnings.warn(words, ResourceWarning, stacklevel=4)  # at the block; Python itself shows this category in tests only


def _checked_sink(sink: Any, kinds: Any) -> tuple[Callable[[Any], object], tuple[type[Event], ...]]:
    if not callable(sink):
        raise DeclarationError(
            f"observe({repr_of(sink)}): a sink is a function of one event.\n  Fix: runtime.observe(lambda event: print(event))."
        )
    try:
        wanted: tuple[Any, ...] = (Event,) if kinds is None else tuple(kinds)
    except TypeError:
        wanted = (kinds,)
    for kind in wanted:
        if not _is_event_class(kind):
            raise DeclarationError(
                f"observe(kinds={repr_of(kinds)}): {repr_of(kind)} isn't a class of events.\n"
                "  Fix: a list of classes such as [RunFinished, NodeGaveUp]; leave kinds out for all."
            )
    return sink, wanted


def _is_event_class(kind: object) -> bool:
    return isinstance(kind, type) and issubclass(kind, Event)


def _checked(dead_letters: object) -> DeadLetterPolicy | None:
    if dead_letters is None or isinstance(dead_letters, DeadLetterPolicy):
        return dead_letters
    raise DeclarationError(
        f"open_runtime(dead_letters={dead_letters!r}): expected a DeadLetterPolicy.\n  Fix: DeadLetterPolicy(keep=1000), say."
    )


def _checked_wait(seconds: object) -> float:
    if not isinstance(seconds, int | float) or isinstance(seconds, bool) or not seconds >= 0:
        raise DeclarationError(
            f"open_runtime(evict_after_s={repr_of(seconds)}): expected a number of seconds >= 0.\n  Fix: leave it out for 60."
        )
    return float(seconds)


def _check_entry() -> None:
    if not trio.lowlevel.in_trio_run():
        raise UsageError(
            "open_runtime() was entered outside of trio.\n"
            "  Fix: trio.run(main); in an asyncio program use runtime.embed.asyncio.open_runtime_asyncio()."
        )


async def _keep(
    runtime: Runtime, engine: Engine, scheduler: Scheduler, store: Store, worker: str | None, retention: Retention | None
) -> None:
    """Open the store, before anything else is started and so to be closed after it."""
    keeping = Keeping(store, worker, engine.publish, retention)
    taking_up = engine.keep(keeping)
    try:
        tasks = (taking_up.take_up, engine.outside.hear, scheduler.run)
        await runtime.spawn(Keeper, keeping, *tasks, name="store", restart=RestartType.TEMPORARY)
    except ActorStartFailed as error:
        if isinstance(error.__cause__, StoreError):
            raise error.__cause__ from None
        raise


async def _prepare(runtime: Runtime, models: Models, *, warm_up: bool) -> None:
    if models.needs_transport:
        await runtime.spawn(Connections, models, name="connections")
    if warm_up:
        await runtime.warm_up()
