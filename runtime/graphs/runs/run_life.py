"""The life of a run: what of it is queued, handled or to be redelivered, and how it ends.

It has no task: it is over when its last message is released.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Any, Self

import trio

from actors.errors import RunCancelled, RunError, UnderstudyError
from actors.graphs.conversations import Turn
from actors.store_errors import RunParked
from runtime.core.envelope import Envelope
from runtime.core.events import Audience
from runtime.core.tracebacks import without_frames
from runtime.graphs.records.journaling import Journal
from runtime.graphs.records.labels import labels_here
from runtime.graphs.records.outcomes import encoded_outcome
from runtime.graphs.records.questions import Desk, Question
from runtime.graphs.records.recorded_errors import RecordedError
from runtime.graphs.records.resuming import Past, Resumed, told_of
from runtime.graphs.records.run_events import RunParkedEvent
from runtime.graphs.records.run_record import RunStatus, StepStatus
from runtime.graphs.records.step_events import tell_run_finished
from runtime.graphs.reducer.state import RunState
from runtime.graphs.reducer.wording import stream_broken
from runtime.graphs.runs.dependencies import RunDependencies
from runtime.graphs.runs.ending import RunEnding, dependency_failed
from runtime.graphs.runs.inbox import Inbox
from runtime.graphs.runs.node_places import NodePlace, Places
from runtime.graphs.runs.run_facts import RunFacts
from runtime.graphs.runs.run_waits import RunWaits
from runtime.journal.records import RecordKind
from runtime.journal.store import Posted


class RunLife(RunFacts):
    """A run from its start to its end, no matter what its messages do in between."""

    __slots__ = (  # besides those of RunFacts: Python keeps 30 in an instance, and one with more has a dict, which costs more
        "_ending",
        "_envelopes",
        "_is_recording_end",
        "_is_starting",
        "_left_open",
        "_on_over",
        "_places",
        "_sender",
        "_when_over",
        "deadline",
        "dependencies",
        "desk",
        "dues",
        "early",
        "has_rested",
        "heard",
        "inbox",
        "inside",
        "is_evicted",
        "is_handed_back",
        "is_held",
        "journal",
        "labels",
        "over",
        "past",
        "rests_since_s",
        "signals",
        "sleeping",
        "taken_in",
        "times_asked",
        "turns_before",
        "waits",
        "wake_at",
        "when_resting",
    )

    def __init__(
        self,
        state: RunState,
        pools: Mapping[str, NodePlace],
        audience: Audience,
        on_over: Callable[[Self], None],
        max_steps: float = math.inf,
        outer: Self | None = None,
        now: Callable[[], float] = trio.current_time,
    ) -> None:
        """A run that has not begun; `pools` are the instances of its nodes, `now` is the clock of its runtime."""
        super().__init__(state, audience, max_steps, outer, now)
        self.labels: Mapping[str, str] = labels_here() if outer is None else outer.labels
        """What its caller noted of it."""
        self.turns_before: tuple[Turn, ...] = () if outer is None else outer.turns_before
        """The earlier turns of the conversation that it is a part of."""
        self.inbox: Inbox | None = None
        """What was said into it and is for its agents; None before the first of that. Of an outermost run."""
        self._sender = f"run {state.run_id}"
        self._on_over: Callable[[Any], None] = on_over
        self._envelopes: dict[str, Envelope] = {}
        """Invariant: holds exactly the messages that are queued, handled or to be redelivered, by path."""
        self._ending = RunEnding(state)
        self._places = Places(pools, state.plan)
        self.waits: RunWaits = RunWaits(
            state, self._envelopes, self._places, self._ending, None if outer is None else outer.waits
        )
        self.over: trio.Event = self.waits.over
        self.dependencies: RunDependencies | None = None
        """Set when its graph has any."""
        self.journal: Journal | None = None
        """Where it writes down what its reducer is told; None for a run that is not durable."""
        self.past: Mapping[str, Past] = {}
        """What is known of its deliveries from earlier lives."""
        self.heard = 0
        """The newest item in its inbox when somebody had it resumed: that one and those before it are done with."""
        self.is_handed_back = False
        """Whether it is durable and was taken down without being over: it goes on in another runtime."""
        self.is_held = False
        """Whether somebody waits for it in a frame of this runtime, so it must stay in memory."""
        self.is_evicted = False
        """Whether it only waited for people, signals or a time, and has left memory: it goes on when something comes for it."""
        self.sleeping: dict[str, float] = {}
        """Until when nodes sleep that begin again afterwards, in seconds since 1970: by the paths of their messages."""
        self.desk: Desk | None = None if outer is None else outer.desk
        """Where its nodes ask people."""
        self.when_resting: Callable[[Self], None] | None = None
        """Called when something of it begins to wait for a person, a signal or a time, and when less of it does anything else."""
        self.has_rested = False
        """Whether any of it has ever waited so."""
        self.inside: dict[str, Self] = {}
        """The runs of nested graphs at work, by the path of the message that each is the work of."""
        self.early: dict[str, Posted] = {}
        """Answers that were posted for questions which it has not asked again yet in this life, by their ids."""
        self.signals: list[tuple[str, object]] = []
        """Signals that came before it had begun, with their keys."""
        self.times_asked: dict[str, int] = {}
        """Questions in all lives, by the whole paths of their records."""
        self.taken_in: set[tuple[str, str]] = set()
        """What was posted to it, by kind and key, that it has had."""
        self.rests_since_s: float | None = None
        """Since when it may only be waiting, while that is watched."""
        self.wake_at: datetime | None = None
        """When it is to be taken up again, if nothing comes for it before."""
        self.deadline: datetime | None = None
        """When it is cancelled, if it is not over by then."""
        self.dues: Mapping[str, float] = {}
        """Until when attempts of earlier lives have time that go on in this one; see ``dues_of``."""
        self._left_open: tuple[Question, ...] = ()
        self._is_recording_end = False
        self._is_starting = True
        self._when_over: list[Callable[[], None]] = []

    @property
    def outermost(self) -> Self:
        """The run that this one is a part of, or itself."""
        return self.outer.outermost if isinstance(self.outer, type(self)) else self

    @property
    def fence(self) -> int:
        """Which life of a stored run this is; 0 if it isn't stored."""
        journal = self.journal
        return 0 if journal is None else journal.log.life

    @property
    def seen_status(self) -> RunStatus:
        """Where it is, as its handle shows it."""
        return RunStatus.WAITING if self.status is RunStatus.RUNNING and self.only_waits else self.status

    @property
    def questions(self) -> tuple[Question, ...]:
        """What it and the runs inside it ask people, in the order in which it was asked."""
        if self.desk is None or self.is_evicted:
            return self._left_open
        return tuple(asking.question for asking in self.desk.of_run(self.id))

    @property
    def only_waits(self) -> bool:
        """Whether all that is left of it waits for people, signals and times, so nothing runs."""
        if self._is_starting or self.is_ending or self.over.is_set():
            return False
        return all(
            self.inside[path].only_waits
            if path in self.inside
            else envelope.message.step.status is StepStatus.ASKED or path in self.sleeping
            for path, envelope in self._envelopes.items()
        )

    def when_over(self, call: Callable[[], None]) -> None:
        """Call `call` once the run is over; immediately if it is."""
        if self.over.is_set():
            call()
        else:
            self._when_over.append(call)

    async def result(self) -> Any:
        """Wait for the end and return the output; raises what :meth:`RunHandle.result` does. Cancelled, only the waiting ends."""
        await self.ended()
        return self.outcome()

    async def ended(self) -> None:
        """Wait for the end."""
        with self.waits.awaited() as cell:
            await self.waits.wait_over(cell)

    def outcome(self) -> Any:
        """The output of the run, which is over; or the error with which it ended is raised."""
        if self.error is not None:
            raise without_frames(self.error)  # each caller's own, however many there are
        return self.output

    def resume(self, resumed: Resumed) -> None:
        """Begin where an earlier life was cut short: what ended there is shown in the trace, what failed there has failed."""
        self.is_resumed = True
        self.past = resumed.past
        self.trace.extend(resumed.steps)
        journal = self.journal
        assert journal is not None, "only a durable run is resumed"
        for path in resumed.retracted:
            journal.append(RecordKind.RETRACTED, path)
        for delivery in resumed.broken:
            spec, path = self.state.plan.nodes[delivery.node], delivery.path
            cut = RecordedError(f"its process ended, and what {path} had emitted was taken")
            broken = stream_broken(spec, path, self.state.emitted_by(path), cut, self.id)
            broken.__cause__ = cut
            self.past[path] = Past(then="gave up", error=broken)

    def rests(self) -> None:
        """Something of it waits for a person, a signal or a time from now on; or did, and something else has ended."""
        outermost = self.outermost
        outermost.has_rested = True
        if outermost.when_resting is not None:
            outermost.when_resting(outermost)

    # --- the end --------------------------------------------------------------------------------------------------------

    @property
    def is_ending(self) -> bool:
        """Whether it is decided what the run ends as."""
        return self._ending.is_decided

    def never_began(self, why: str = "it was waiting for its turn") -> None:
        """It was cancelled while it waited for its turn: it is over."""
        self.start_cancelled(why)
        self._is_starting = False
        self._finish_if_over()

    def start_cancelled(self, why: str = "its start was cancelled") -> None:
        """Take the run down: its start was cancelled. One that goes on from an earlier life is not its starter's to cancel."""
        (self.hand_back if self.is_resumed else self.cancel)(why)

    def context_failed(self, node: str, path: str, error: Exception) -> None:
        """A context manager that `node` asked for failed, while the run went on or when it was closed: the run fails."""
        failure = dependency_failed(self.id, node, path, error, self.trace)
        self._ending.failures.append(failure)
        self._take_down()

    def context_cancelled(self, node: str, path: str, error: Exception) -> None:
        """A context manager that `node` asked for was closed while the run went on: what held it is being taken down.

        A durable run is handed back and goes on elsewhere; any other fails.
        """
        outermost = self.outermost
        if outermost.journal is None:
            self.context_failed(node, path, error)
        else:
            outermost.hand_back("its context managers were closed")

    def contexts_closed(self) -> None:
        """Nothing holds the run back any more."""
        self._finish_if_over()

    def cancel(self, why: str = "its handle was cancelled") -> None:
        """Take the run down; returns immediately, ``over`` is set when none of it is left."""
        if self.status is RunStatus.RUNNING and not self.is_ending:
            self._end_early(RunCancelled(f"run {self.id!r} of {self.state.plan.name!r} was cancelled: {why}.", run_id=self.id))

    def park(self, error: RunParked) -> None:
        """Take the run down, with what it is a part of; it goes on when somebody has decided what `error` asks."""
        if isinstance(self.outer, RunLife):
            self.outer.park(error)
        else:
            self._end_early(error)

    def hand_back(self, why: str) -> None:
        """Take the run down; if it is durable, it is not over in the store, and goes on in another runtime."""
        # Once is enough: each part of a runtime that closes asks for it, and the later ones find the run ending.
        if not self.is_handed_back and self.journal is not None and not self.is_ending:
            self.is_handed_back = True
            self.dues = dict(self._dues_at_work(self.wall_time().timestamp()))
        self.cancel(why)

    def evict(self) -> bool:
        """Leave memory, if all that is left of it waits for people, signals and times; whether it does."""
        if self.journal is None or self.is_held or not self.only_waits:
            return False
        if not self.journal.log.is_idle:  # what has just been answered, and goes on when that is written
            return False
        self._left_open, self.is_evicted = self.questions, True
        ends = [*self._ends_of_sleeps()]
        self.hand_back("it only waits")
        asked = (question.due_at for question in self._left_open)
        times = (datetime.fromtimestamp(at_s, UTC) for at_s in (*ends, *self.dues.values()))
        self.wake_at = min((at for at in (*asked, *times, self.deadline) if at is not None), default=None)
        return True

    def _ends_of_sleeps(self) -> Iterator[float]:
        yield from self.sleeping.values()
        for inside in self.inside.values():
            yield from inside._ends_of_sleeps()

    def limit_s(self, path: str, attempt: int, timeout_s: float) -> float:
        """How long an attempt may take, of `timeout_s` seconds; it may have begun in an earlier life."""
        dues, journal = self.outermost.dues, self.journal
        due_s = dues.get(f"{journal.whole(path)}#{attempt}") if dues and journal is not None else None
        return timeout_s if due_s is None else min(timeout_s, max(0.0, due_s - self.wall_time().timestamp()))

    def _dues_at_work(self, now_s: float) -> Iterator[tuple[str, float]]:
        """Until when attempts have time that go on where they are, nested runs and nodes that sleep: so does their time."""
        for path in (*self.inside, *self.sleeping):
            envelope, journal = self._envelopes.get(path), self.journal
            if envelope is None or journal is None:
                continue
            left_s = math.inf if envelope.message.pulse is None else envelope.message.pulse.left_s
            if left_s != math.inf:
                yield f"{journal.whole(path)}#{envelope.message.step.attempt}", now_s + left_s
            if path in self.inside:
                yield from self.inside[path]._dues_at_work(now_s)

    def lost(self, error: UnderstudyError) -> None:
        """Nothing more of it will be written here: it ends with `error`, no matter what was decided before."""
        self._ending.loss = error
        self._take_down()

    def _end_early(self, error: RunError) -> None:
        if not self.is_ending:
            self._ending.reason = error
            self._take_down()

    def _take_down(self) -> None:
        for path in list(self._envelopes):
            self._withdraw(path)
        self.waits.let_in()  # to find that it need not begin any more
        self._finish_if_over()

    def _withdraw(self, path: str) -> None:
        envelope = self._envelopes.get(path)
        if envelope is None or envelope.withdrawn:
            return
        held = envelope.holder is not None
        envelope.withdraw()
        if not held and path in self._envelopes and envelope.message.step.started_at_s is None:
            envelope.message.released()  # registered, and never put anywhere

    def _finish_if_over(self) -> None:
        if self._envelopes or self._is_starting or self.over.is_set():
            return
        if self.state.awaits_signal and not self.is_ending:
            self.rests()
            return
        if self.dependencies is not None and not self.dependencies.close():
            return  # it comes back when they have closed
        if self.journal is not None and self.outer is None and self._ending.loss is None:
            self._record_end(self.journal)
        else:
            self._conclude()

    def _record_end(self, journal: Journal) -> None:
        """Write down how the run has ended; it is over when that is written."""
        if self._is_recording_end:
            return
        self._is_recording_end = True
        if self.is_handed_back:
            journal.append(
                RecordKind.RELEASED, "", json.dumps({"due": self.dues}).encode() if self.dues else None, self._conclude
            )
            return
        status, output, error = self._ending.outcome(self.trace)
        if isinstance(error, RunParked):
            journal.append(RecordKind.PARKED, error.reason, told_of(error), self._conclude)
            return
        journal.append(RecordKind.OVER, status.value, encoded_outcome(journal.codec, output, error), self._conclude)

    def _conclude(self) -> None:
        if self.over.is_set():
            return
        self.status, self.output, self.error = self._ending.outcome(self.trace)
        self.ended_at_s = self.now()
        self.carried, self.dependencies = (), None  # a handle may be kept for long, and must not keep these alive
        if isinstance(self.error, RunError):
            self.error.trace = tuple(self.trace)
        try:
            if self.outer is None and not self.is_evicted and self.audience.listening:
                tell_run_finished(self.audience, self.id, self.status, self.output, self.error, self.spend)
            if isinstance(self.error, RunParked) and self.wants(RunParkedEvent):
                self.audience.publish(RunParkedEvent(run_id=self.id, graph=self.graph, error=self.error))
        finally:  # even if a listener raises, no caller may wait for ever
            self.waits.end()
            self._on_over(self)
            calls, self._when_over = self._when_over, []
            for call in calls:
                call()
