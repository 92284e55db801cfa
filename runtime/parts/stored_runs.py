"""What a runtime does with its store: runs that outlive a process, questions, signals and schedules."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from actors.errors import UnderstudyError, UsageError
from actors.graphs.graph import Graph
from actors.typevars import In, Out
from actors.words import listed, repr_of
from runtime.core.tracebacks import without_frames
from runtime.graphs.handle import RunHandle
from runtime.graphs.records.history import History, history_of
from runtime.graphs.records.labels import escaped
from runtime.graphs.records.questions import Question
from runtime.graphs.schedule_times import Times
from runtime.graphs.schedules import CatchUp, Schedule
from runtime.graphs.stored import unknown
from runtime.journal.store import Page, RunQuery, StoredRun, StoredStatus
from runtime.lm.limits.budget import Budget, check_budget
from runtime.parts.part import RuntimeParts


class RuntimeStore(RuntimeParts):
    """Runs in the store."""

    async def resume(
        self,
        run_id: str,
        *,
        adopt: bool = False,
        uncertain: Mapping[str, Any] | None = None,
        max_steps: float | None = None,
        budget: Budget | None = None,
        here: bool = True,
    ) -> RunHandle[Any]:
        """Let a stored run go on that has failed, was cancelled or was parked. Its graph must be deployed here.

        Steps that have failed begin again with as many attempts as at first, those that were cut short begin again, and what is
        recorded does not: results, what ``run.once`` has returned, answers of language models outside of failed attempts.

        Args:
            run_id: whose.
            adopt: take the run over although its graph was changed, or it is of another version: results that still fit are kept,
                the others are given up. The event ``RunAdopted`` tells which.
            uncertain: for each step, and each tool's call, with ``Effect.ONCE`` that was cut short, by its path
                (``StepUncertain.path``): ``"repeat"`` to begin it again, or what it returned.
            max_steps: how many messages may be delivered from its start on; None: as many as before.
            budget: what its language models may use from its start on, what it has used counted; None: the budgets that it had.
            here: False leaves it to any worker that has deployed the graph.

        Raises:
            StepUncertain: such a step is left without a decision. RunChanged: something recorded does not fit the graph any more.
            UnknownRun: there is none of this id. UsageError: it is in progress or has succeeded, its graph is not deployed, or a
                decision is of no such step. StoreError: the store failed.
        """
        reopening = self._engine.reopening("resume()")
        resumed = await reopening.resume(
            run_id, uncertain or {}, adopt=adopt, max_steps=max_steps, budget=check_budget(budget), here=here
        )
        return RunHandle(resumed, self._engine.outside)

    async def handle(self, run_id: str) -> RunHandle[Any]:
        """The handle of a run that is in progress here, or of any stored one, wherever it runs and however it ended.

        Raises:
            UnknownRun: there is none of this id. StoreError: the store failed.
        """
        return RunHandle(await self._engine.handle(run_id), self._engine.outside)

    async def fork(
        self,
        run_id: str,
        *,
        before: str | None = None,
        edit: Mapping[str, Any] | None = None,
        run_id_new: str | None = None,
        here: bool = True,
    ) -> RunHandle[Any]:
        """Copy what is recorded of a stored run into a new run, which goes on from there; returns its handle.

        The run itself stays as it is. What does not depend on what was left out or changed is kept and does not run again.

        Args:
            run_id: of a stored run, over or not, whose graph is deployed here.
            before: the path of a step, as in ``handle.trace``: it runs again, and so does what came of it.
            edit: path → message: what these steps made instead. ``path#index`` is an item of a generator.
            run_id_new: names the fork; None makes an id. The same id again gives the handle of that fork.
            here: False leaves it to any worker that has deployed the graph.

        Raises:
            UsageError: `before` or `edit` names no such step; the graph is not deployed here. UnknownRun: no such run is stored.
            NotStorable: a message of `edit` has no JSON. RunExists: `run_id_new` is another run's.
            RunUndecodable: a record cannot be read as its type any more. StoreError: the store failed.
        """
        try:
            forks = self._engine.reopening("fork()")
            dropped = () if before is None else (before,)
            made = await forks.fork(run_id, before=dropped, edit=edit or {}, run_id_new=run_id_new, here=here)
            return RunHandle(made, self._engine.outside)
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
            at: once; without its own zone, in `zone`.
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
                converted. ``{"Approved": {…}}`` tells which of several types is meant.
            by: who has answered; it is recorded.

        Raises:
            MessageInvalid: the dict makes none of the types; it names the fields. UsageError: it isn't an answer.
            AlreadyAnswered: the question has its answer, or its time was up. UnknownRun: there is no such question.
            StoreError: the store failed; the same call can be made again.
        """
        await self._engine.outside.answer(question_id, value, by)

    async def send(self, run_id: str, signal: object, key: str | None = None) -> None:
        """Send a message of a type in ``Graph(signals=…)`` into a run, from any process that has the store.

        Returns when it is durable. It goes where an input of its type would; one that no node takes goes to the agents of the run
        (predict nodes with tools): the first that comes between two rounds takes it, and its model reads it.

        Args:
            run_id: the run; it must not be over.
            signal: the message, or a dict of its fields, which is read strictly.
            key: names the signal within the run: one that was sent with the same key before has no effect.

        Raises:
            MessageInvalid: the dict makes no signal. UsageError: it isn't a signal of the graph, or the run is over.
            UnknownRun: there is no run of that id. StoreError: the store failed; the same call can be made again.
        """
        await self._engine.outside.send(run_id, signal, key)

    async def withdraw(self, run_id: str, key: str) -> bool:
        """Take back a signal that was sent to the agents of a run, which must be at work in this process.

        Returns when that is durable: True, and no agent will hear it; or False, because one has taken it, it went to a node, or
        none of this key was sent.

        Args:
            run_id: the run.
            key: the key with which it was sent.

        Raises:
            UsageError: the run is at work elsewhere. UnknownRun: there is none of that id. StoreError: the store failed.
        """
        return await self._engine.outside.withdraw(run_id, key)
