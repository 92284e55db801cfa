"""What comes into runs from outside of them: answers to their questions, signals, and the wish to cancel them.

For a stored run all of it is posted to the store first. The store takes one item of each kind and key, so the first answer
counts, from any process, and that no one has answered in time is posted like an answer. The worker that has the
run takes the item in as a record; a run that no one has is woken by it.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Final, final

import trio

from actors.errors import UnderstudyError, UsageError
from actors.store_errors import StoreError
from actors.words import repr_of
from runtime.core.services import Services
from runtime.graphs.deployment import Deployment
from runtime.graphs.keeper import Keeping
from runtime.graphs.posting import answered, checked_key, open_question, post_answer, post_signal, question_of, read_signal
from runtime.graphs.records.questions import Asking, Desk, Question, id_in
from runtime.graphs.records.stored_answers import is_object
from runtime.graphs.runs.run import ActiveRun
from runtime.graphs.stored import unknown
from runtime.journal.records import Record, RecordKind
from runtime.journal.store import Posted, PostedKind, StoredQuestion, StoredRun, StoredStatus
from runtime.messages.problems import MessageInvalid

_LOG = logging.getLogger("understudy.runs")
LOOK_S: Final = 0.01
"""How often it is looked at most whether a run only waits."""
RETRY_S: Final = 1.0
"""How long after a failure of the store it is asked again."""


@final
class Outside:
    """What is asked and what comes in, for all runs of one runtime."""

    def __init__(
        self,
        services: Services,
        desk: Desk,
        runs: Mapping[str, ActiveRun],
        deployed: Callable[[str], Deployment[Any, Any] | None],
        evict_after_s: float,
    ) -> None:
        """`runs` are those that are not over, `deployed` finds a graph by its name."""
        self._services = services
        self._runs = runs
        self._deployed = deployed
        self._evict_after_s = evict_after_s
        self.keeping: Keeping | None = None
        """Set when the runtime has a store."""
        self.fetch: Callable[[str], Awaitable[None]] | None = None
        """Takes up a stored run that has been woken."""
        self.accepting: Mapping[str, object] = {}
        """The ids of runs that are being started."""
        self._early: dict[str, list[Posted]] = {}
        """What came for runs that are being started."""
        self.desk = desk
        desk.overdue = self._overdue

    # --- questions --------------------------------------------------------------------------------------------------------

    async def questions(self, run_id: str | None) -> list[Question]:
        """Open questions, oldest first."""
        found = [
            asking.question
            for asking in self.desk.open.values()
            if not asking.is_durable and run_id in (None, asking.question.run_id)
        ]
        if self.keeping is None:
            await trio.lowlevel.checkpoint()
        else:
            stored = await self.keeping.store.questions(run_id)
            found += [self._question_of(each) for each in stored if not self.desk.was_answered(each.id)]
        if not found and run_id is not None and run_id not in self._runs and await self._stored(run_id) is None:
            raise unknown(run_id)
        return sorted(found, key=lambda question: question.asked_at)

    async def _stored(self, run_id: str) -> StoredRun | None:
        return None if self.keeping is None else await self.keeping.store.run(run_id)

    def _question_of(self, stored: StoredQuestion) -> Question:
        asking = self.desk.open.get(stored.id)
        if asking is not None:
            return asking.question
        return question_of(stored)

    async def answer(self, question_id: str, value: object, by: str | None) -> None:
        """Answer a question, wherever its run is; returns when the answer is durable."""
        if by is not None and not isinstance(by, str):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise UsageError(f"answer(by={repr_of(by)}): expected a name, or None.\n  Fix: by='anna', for example.")
        await trio.lowlevel.checkpoint_if_cancelled()
        asking = self.desk.open.get(question_id)
        if asking is not None and not asking.is_durable:
            self.desk.deliver(asking, asking.question.read(value), by)
            await trio.lowlevel.cancel_shielded_checkpoint()
            return
        question = asking.question if asking is not None else await self._stored_question(question_id)
        assert self.keeping is not None, "a stored question has a store"
        answer = await post_answer(self.keeping.store, question, value, by)
        self.desk.remember(question_id)
        asking = self.desk.open.get(question_id)
        if asking is not None:
            self.desk.deliver(asking, answer, by)

    async def _stored_question(self, question_id: str) -> Question:
        if self.desk.was_answered(question_id):
            raise answered(question_id)
        return self._question_of(await open_question(None if self.keeping is None else self.keeping.store, question_id))

    def _overdue(self, asking: Asking) -> None:
        if self.keeping is not None and self.keeping.nursery is not None:
            self.keeping.nursery.start_soon(self._post_overdue, asking)

    async def _post_overdue(self, asking: Asking) -> None:
        """No one has answered in time, unless an answer was posted at this moment: that is then on its way here."""
        assert self.keeping is not None, "only stored questions come here"
        question = asking.question
        while self.desk.open.get(question.id) is asking:
            try:
                if await self.keeping.store.post(Posted(question.run_id, PostedKind.ANSWER, question.id)):
                    self.desk.deliver(asking, None, None, is_late=True)
                return
            except StoreError:
                await trio.sleep(RETRY_S)

    # --- signals ----------------------------------------------------------------------------------------------------------

    async def send(self, run_id: str, signal: object, key: str | None) -> None:
        """Send a signal into a run, wherever it is; returns when it is durable."""
        await trio.lowlevel.checkpoint_if_cancelled()
        name = checked_key(key)
        run = self._runs.get(run_id)
        if run is not None and run.journal is None:
            run.signalled(read_signal(run.graph, run.state.plan.signal_types, signal), name)
            await trio.lowlevel.cancel_shielded_checkpoint()
            return
        stored = await self._stored(run_id)
        if self.keeping is None or stored is None:
            raise unknown(run_id)
        deployment = self._deployed(stored.graph)
        if deployment is not None:
            signal = read_signal(stored.graph, deployment.plan.signal_types, signal)
        elif is_object(signal):
            raise UsageError(
                f"run {run_id!r} is one of graph {stored.graph!r}, which is not deployed here, so a dict cannot be read.\n"
                "  Fix: send an instance of the signal's class, or deploy the graph."
            )
        item = await post_signal(self.keeping.store, stored, signal, name)
        if item is not None:
            run = self._runs.get(run_id)
            if run is not None:
                self.take_in(run, item)

    async def withdraw(self, run_id: str, key: str) -> bool:
        """Take back a signal that no agent has taken; whether it was to be had."""
        run = self._runs.get(run_id)
        if run is not None:
            return await run.withdraw(checked_key(key))
        stored = await self._stored(run_id)
        if stored is None:
            raise unknown(run_id)
        if stored.status.is_over:
            return False
        raise UsageError(
            f"run {run_id!r} is not at work in this process, and only there it is known what its agents have taken.\n"
            "  Fix: withdraw it where the run is, or send another message that corrects it."
        )

    # --- taking in --------------------------------------------------------------------------------------------------------

    async def hear(self) -> None:
        """Take in what is posted to runs here, for ever."""
        assert self.keeping is not None, "a store is opened"
        while True:
            try:
                for item in await self.keeping.store.posted():
                    run = self._runs.get(item.run)
                    if run is not None:
                        self.take_in(run, item)
                    elif item.run in self.accepting:
                        self._early.setdefault(item.run, []).append(item)
            except StoreError:
                await trio.sleep(RETRY_S)

    def take_in(self, run: ActiveRun, item: Posted) -> None:
        """Do what was posted to a run. What it has had already has no effect."""
        if (item.kind.value, item.key) in run.taken_in:
            return
        try:
            if item.kind is PostedKind.CANCEL:
                if item.id > run.heard:
                    run.cancel()
            elif item.kind is PostedKind.ANSWER:
                asking = self.desk.open.get(item.key)
                if asking is not None:
                    self.desk.deliver_posted(asking, item)
                else:
                    run.early[item.key] = item
            elif item.kind is PostedKind.SIGNAL and run.journal is not None:
                run.signalled(run.journal.codec.decode(item.data or b"null"), item.key)
        except UnderstudyError as error:  # posted by a program that has other types
            run.taken_in.add((item.kind.value, item.key))
            _LOG.warning("what was posted to run %r as %s %r cannot be taken in: %s", run.id, item.kind, item.key, error)

    def begun(self, run: ActiveRun) -> None:
        """A durable run was started: it gets what was posted meanwhile."""
        run.when_resting = self._rests
        for item in self._early.pop(run.id, ()):
            self.take_in(run, item)

    async def revived(self, run: ActiveRun, records: Sequence[Record]) -> None:
        """A durable run goes on: what was posted to it and is in none of its `records` is taken in."""
        assert self.keeping is not None, "a durable run has a store"
        run.when_resting = self._rests
        for record in records:
            if record.kind in (RecordKind.SIGNALLED, RecordKind.WITHDRAWN):
                run.taken_in.add((PostedKind.SIGNAL.value, record.path))
                _recall(run, record)
            elif record.kind is RecordKind.ONCE and run.inbox is not None:
                run.inbox.recall(record)
            elif record.kind is RecordKind.ASKED:
                run.times_asked[record.path] = run.times_asked.get(record.path, 0) + 1
            elif record.kind is RecordKind.ANSWERED:
                number = id_in(run.id, record.path, run.times_asked.get(record.path, 0))
                run.taken_in.add((PostedKind.ANSWER.value, f"{run.id}.{number}"))
        for item in await self.keeping.store.inbox(run.id):
            self.take_in(run, item)

    # --- leaving memory ---------------------------------------------------------------------------------------------------

    def _rests(self, run: ActiveRun) -> None:
        is_watched = run.rests_since_s is not None
        run.rests_since_s = trio.current_time()
        if not is_watched and self._evict_after_s != float("inf"):
            self._watch(run)

    def _watch(self, run: ActiveRun) -> None:
        if run.over.is_set() or run.rests_since_s is None:
            return
        at_s = run.rests_since_s + self._evict_after_s
        if trio.current_time() < at_s:
            self._services.timekeeper.call_at(at_s, lambda: self._watch(run))
            return
        run.rests_since_s = None
        if not run.evict() and not run.is_held and run.only_waits:
            # Something is being written. What works yet calls `rests` when it is done.
            run.rests_since_s = trio.current_time()
            self._services.timekeeper.call_after(max(self._evict_after_s, LOOK_S), lambda: self._watch(run))

    def evict_all(self) -> None:
        """Let all runs leave memory that only wait."""
        for run in list(self._runs.values()):
            run.evict()

    async def put_down(self, run: ActiveRun) -> None:
        """Release a run that has left memory, and take it up again if something has come for it at this moment."""
        keeping = self.keeping
        assert keeping is not None, "a durable run has a store"
        life = run.journal.log.life if run.journal is not None else None
        posted: Sequence[Posted] | None = None
        while posted is None:
            try:
                # Before it is released, too: should this process end right after that, no one would look again. What comes
                # between the two is handed to `hear`, which knows no such run any more: so the store compares.
                inbox = await keeping.store.inbox(run.id)
                wake_at = keeping.store.wall_time() if _has_news(run, inbox) else run.wake_at
                await keeping.store.release(run.id, StoredStatus.WAITING, wake_at, looked_at=len(inbox), life=life)
                posted = await keeping.store.inbox(run.id)
            except StoreError:
                await trio.sleep(RETRY_S)
        if _has_news(run, posted) and self.fetch is not None:
            await self.fetch(run.id)


def _has_news(run: ActiveRun, posted: Sequence[Posted]) -> bool:
    """Whether something was posted to `run` that it has not had."""
    return any(item.id > run.heard and (item.kind.value, item.key) not in run.taken_in for item in posted)


def _recall(run: ActiveRun, record: Record) -> None:
    """Note again what was said into a run in an earlier life, or that it was withdrawn."""
    assert run.journal is not None, "only a durable run has records"
    if record.kind is RecordKind.WITHDRAWN:
        if run.inbox is not None:
            run.inbox.withdraw(record.path)
        return
    with contextlib.suppress(MessageInvalid):  # of a type that the graph, which was changed, does not know
        signal = run.journal.codec.decode(record.data or b"null")
        if isinstance(signal, run.state.plan.steering):
            run.say(record.path, signal)
