"""One run: what its messages are doing now, what went wrong, and when it is really over.

The pure :class:`~runtime.graphs.state.RunState` decides what a result means; this carries it out. A run has no task of its own:
each step happens in the instance that finished a message. It is over when nothing of it is queued, handled or to be redelivered.
"""

from __future__ import annotations

import enum
import math
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any, Protocol, final

import attrs
import trio

from actors.errors import NodeFailed, NoOutput, RunCancelled, RunError, RunFailed, StepsExceeded
from runtime.envelope import Envelope
from runtime.events import Event
from runtime.graphs.events import NodeCancelled, NodeGaveUp, RunFinished, RunStarted
from runtime.graphs.state import Commands, Delivery, RunState


@final
class RunStatus(enum.StrEnum):
    """Where a run is; equal to its plain word."""

    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"


@final
@attrs.define(eq=False)
class Step:
    """One message at one node, in ``RunHandle.trace``."""

    node: str
    path: str
    delivered_at_s: float
    """When it was put into the node's mailbox; the runtime's clock, in seconds."""
    started_at_s: float | None = None
    """When its last attempt began; None while it waits."""
    ended_at_s: float | None = None
    attempt: int = 0
    """How many times it was begun."""
    status: str = "queued"
    """``"queued"``, ``"running"``, ``"retrying"``, ``"done"``, ``"failed"`` or ``"cancelled"``."""


@final
@attrs.frozen
class Spend:
    """What a run has used of language models so far."""

    calls: int = 0
    requests: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cost_usd: float = 0.0
    """Of the calls whose model has a known price."""


class Station(Protocol):
    """Where a node's messages go."""

    async def put(self, envelope: Envelope) -> None:
        """Queue a message, waiting for room."""
        ...

    def put_beyond(self, envelope: Envelope) -> None:
        """Queue a message whatever the capacity."""
        ...


@final
@attrs.define(eq=False)
class Work:
    """The message a node's instance receives, and the slot that hears what became of it."""

    run: ActiveRun
    delivery: Delivery
    step: Step

    def succeed(self, value: Any) -> None:
        """Nothing to do: the instance has reported the result itself."""

    def fail(self, error: Exception) -> None:
        """The node gave the message up; the failure is chained to `error`, the word of the cell."""
        self.run.gave_up(self, error.__cause__ or error)

    def released(self) -> None:
        """No actor holds the message any more."""
        self.run.let_go(self)


@final
class ActiveRun:
    """The life of one run."""

    def __init__(
        self,
        state: RunState,
        stations: Mapping[str, Station],
        publish: Callable[[Event], None] | None,
        on_over: Callable[[ActiveRun], None],
        max_steps: float = math.inf,
    ) -> None:
        self.state = state
        self.status = RunStatus.RUNNING
        self.over = trio.Event()
        self.trace: list[Step] = []
        self.spend = Spend()
        self.error: RunError | None = None
        self._stations = stations
        self._publish = publish
        self._on_over = on_over
        self._max_steps = max_steps
        self._envelopes: dict[str, Envelope] = {}
        """Invariant: holds exactly the messages that are queued, handled or to be redelivered, by path."""
        self._failures: list[NodeFailed] = []
        self._ending: RunError | None = None
        """Why it is being taken down, when it is not for the failures."""
        self._is_starting = True
        self._when_over: list[Callable[[], None]] = []

    @property
    def id(self) -> str:
        """Unique within the runtime."""
        return self.state.run_id

    @property
    def is_listened_to(self) -> bool:
        """Whether making an event is worth it."""
        return self._publish is not None

    def publish(self, event: Event) -> None:
        """Tell the stream of this run, and whoever listens to the runtime."""
        if self._publish is not None:
            self._publish(event)

    def when_over(self, call: Callable[[], None]) -> None:
        """Call `call` once the run is over; at once if it is."""
        if self.over.is_set():
            call()
        else:
            self._when_over.append(call)

    # --- moving on ------------------------------------------------------------------------------------------------------

    async def begin(self, message: object) -> None:
        """Deliver the input. Cancelled, the run is cancelled.

        Raises:
            DeclarationError: the input is not of the graph's input type.
        """
        try:
            commands = self.state.start(message)
            if self.is_listened_to:
                self.publish(RunStarted(run_id=self.id, graph=self.state.plan.name, input=message))
            await self.carry_out(commands)
        except BaseException:
            self.cancel("its start failed")
            raise
        finally:
            self._is_starting = False
            self._finish_if_over()

    async def carry_out(self, commands: Commands) -> None:
        """Cancel what nobody wants any more, then deliver, waiting for room where an edge does not lie on a cycle."""
        for path in commands.cancelled:
            self._withdraw(path)
        if self.state.output is not None and not self._is_ending:
            self._take_down()
        # All are registered before the first wait, so that the run cannot look finished, nor miss one when it is cancelled.
        works = [self._register(delivery) for delivery in commands.deliveries]
        if self.state.steps > self._max_steps:
            self._end_early(self._too_many_steps())
        waiting = deque(works)
        try:
            while waiting:
                work, envelope = waiting[0]
                station = self._stations[work.delivery.node]
                if envelope.withdrawn:
                    pass
                elif work.delivery.back_edge:
                    station.put_beyond(envelope)
                else:
                    await station.put(envelope)
                waiting.popleft()
        finally:
            for work, _ in waiting:  # the deliverer was cancelled: what it did not deliver must not be waited for
                self._withdraw(work.delivery.path)

    def _register(self, delivery: Delivery) -> tuple[Work, Envelope]:
        now = trio.current_time()
        step = Step(delivery.node, delivery.path, now)
        self.trace.append(step)
        work = Work(self, delivery, step)
        envelope = Envelope(work, f"run {self.id}", work, now)
        self._envelopes[delivery.path] = envelope
        if self._is_ending:
            self._withdraw(delivery.path)
        return work, envelope

    # --- what becomes of messages -----------------------------------------------------------------------------------------

    def gave_up(self, work: Work, error: BaseException) -> None:
        """A node has failed on a message for the last time: the run fails, and everything else of it is cancelled."""
        step, delivery = work.step, work.delivery
        step.status, step.ended_at_s = "failed", trio.current_time()
        values = delivery.arguments
        failure = NodeFailed(
            f"node {delivery.node!r} gave up after attempt {max(step.attempt, 1)}: {type(error).__name__}: {error}",
            run_id=self.id,
            node=delivery.node,
            path=delivery.path,
            attempt=max(step.attempt, 1),
            input=next(iter(values.values())) if len(values) == 1 else dict(values),
            trace=tuple(self.trace),
        )
        failure.__cause__ = error
        self._failures.append(failure)
        if self.is_listened_to:
            self.publish(NodeGaveUp(run_id=self.id, node=delivery.node, path=delivery.path, attempt=failure.attempt, error=error))
        self._take_down()

    def let_go(self, work: Work) -> None:
        """No actor holds the message any more: it was finished, given up, or withdrawn."""
        path, step = work.delivery.path, work.step
        if self._envelopes.pop(path, None) is None:
            return
        if step.ended_at_s is None:
            step.ended_at_s = trio.current_time()
            if step.started_at_s is not None and self.is_listened_to:
                self.publish(NodeCancelled(run_id=self.id, node=step.node, path=path, attempt=step.attempt))
            step.status = "cancelled"
        self._finish_if_over()

    # --- the end --------------------------------------------------------------------------------------------------------

    @property
    def _is_ending(self) -> bool:
        return bool(self._failures) or self._ending is not None or self.state.output is not None

    def cancel(self, why: str = "its handle was cancelled") -> None:
        """Take the run down; returns at once, ``over`` is set when nothing of it is left."""
        if self.status is RunStatus.RUNNING and not self._is_ending:
            self._end_early(RunCancelled(f"run {self.id!r} of {self.state.plan.name!r} was cancelled: {why}.", run_id=self.id))

    def _end_early(self, error: RunError) -> None:
        if not self._is_ending:
            self._ending = error
            self._take_down()

    def _take_down(self) -> None:
        for path in list(self._envelopes):
            self._withdraw(path)
        self._finish_if_over()

    def _withdraw(self, path: str) -> None:
        envelope = self._envelopes.get(path)
        if envelope is None or envelope.withdrawn:
            return
        held = envelope.holder is not None
        envelope.withdraw()
        if not held and path in self._envelopes and envelope.message.step.started_at_s is None:
            self.let_go(envelope.message)  # registered, and never put anywhere

    def _finish_if_over(self) -> None:
        if self._envelopes or self._is_starting or self.over.is_set():
            return
        if self._failures:
            nodes = ", ".join(dict.fromkeys(repr(failure.node) for failure in self._failures))
            text = f"run {self.id!r} of {self.state.plan.name!r} failed at {nodes}"
            self.status, self.error = RunStatus.FAILED, RunFailed(text, self._failures)
        elif self.state.output is not None:
            self.status = RunStatus.SUCCEEDED
        elif isinstance(self._ending, RunCancelled):
            self.status, self.error = RunStatus.CANCELLED, self._ending
        else:
            failure = self._ending or NoOutput(self.state.no_output(), run_id=self.id)
            self.status, self.error = RunStatus.FAILED, failure
        if self.is_listened_to:
            self.publish(RunFinished(run_id=self.id, status=self.status.value, output=self.state.output, error=self.error))
        self.over.set()
        self._on_over(self)
        for call in self._when_over:
            call()

    def _too_many_steps(self) -> StepsExceeded:
        return StepsExceeded(
            f"run {self.id!r} of {self.state.plan.name!r} made more than {self._max_steps:g} steps.\n"
            "  Cause: most likely a cycle that returns neither None nor the output.\n"
            "  Mend: let the cycle end, or give more with max_steps=….",
            run_id=self.id,
        )


@final
class RunHandle:
    """A run that was started with ``runtime.start``; it goes on until it ends, is cancelled, or the runtime closes."""

    def __init__(self, run: ActiveRun) -> None:
        self._run = run

    @property
    def id(self) -> str:
        """Unique within the runtime."""
        return self._run.id

    @property
    def status(self) -> RunStatus:
        """Where the run is now: ``"running"``, ``"succeeded"``, ``"failed"`` or ``"cancelled"``."""
        return self._run.status

    @property
    def trace(self) -> tuple[Step, ...]:
        """Every message so far, in the order of delivery."""
        return tuple(self._run.trace)

    @property
    def spend(self) -> Spend:
        """What the run has used of language models so far."""
        return self._run.spend

    async def result(self) -> Any:
        """Wait for the end and return the output. Cancelled, only the waiting ends. May be called more than once.

        Raises:
            RunFailed: nodes failed; its leaves are ``NodeFailed``.
            NoOutput: nothing made the output. StepsExceeded: too many steps. RunCancelled: it was cancelled.
        """
        await self._run.over.wait()
        if self._run.error is not None:
            raise self._run.error
        return self._run.state.output

    async def cancel(self) -> None:
        """Cancel the run and return when nothing of it is alive. Over already: no effect."""
        self._run.cancel()
        await self._run.over.wait()

    def __repr__(self) -> str:
        return f"<RunHandle {self.id!r} {self.status.value}>"
