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

from actors.errors import MailboxFull, NodeFailed, NoOutput, RunCancelled, RunError, RunFailed, StepsExceeded
from actors.node import Kind
from runtime.envelope import Envelope, Wrapper
from runtime.events import Event
from runtime.graphs.dependencies import RunDependencies
from runtime.graphs.events import NodeCancelled, NodeFellBack, NodeGaveUp, RunFinished, RunStarted
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

    def plus(self, other: Spend) -> Spend:
        """Both together."""
        return Spend(
            self.calls + other.calls,
            self.requests + other.requests,
            self.prompt_tokens + other.prompt_tokens,
            self.completion_tokens + other.completion_tokens,
            self.cost_usd + other.cost_usd,
        )


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
class Work(Wrapper):
    """The message a node's instance receives, and the slot that hears what became of it."""

    run: ActiveRun
    delivery: Delivery
    step: Step
    error: BaseException | None = None
    """The last error of the node, when it has given the message up and its fallback is to work on it."""

    def tell(self, kind: type[Any], **more: Any) -> None:
        """Publish an event about this message, if anybody listens."""
        run, step = self.run, self.step
        if run.is_listened_to:
            run.publish(kind(run_id=run.id, node=step.node, path=step.path, attempt=step.attempt, **more))

    @property
    def content(self) -> object:
        """The node's input: the message, or for a join the messages by parameter."""
        values = self.delivery.arguments
        return next(iter(values.values())) if len(values) == 1 else dict(values)

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
        outer: ActiveRun | None = None,
    ) -> None:
        self.state = state
        self.status = RunStatus.RUNNING
        self.over = trio.Event()
        self.outer = outer
        """The run of whose node this one is the work; its trace, its events and its spending are also that one's."""
        self.max_steps = max_steps
        self.trace: list[Step] = [] if outer is None else outer.trace
        self.spend = Spend()
        self.output: Any = None
        self.error: RunError | None = None
        self._stations = stations
        self._publish = publish
        self._on_over = on_over
        self._envelopes: dict[str, Envelope] = {}
        """Invariant: holds exactly the messages that are queued, handled or to be redelivered, by path."""
        self._failures: list[NodeFailed] = []
        self._ending: RunError | None = None
        """Why it is being taken down, when it is neither for the failures nor for the output.

        Invariant: the first of output, failure and this decides what the run ends as; only failures gather others of their kind.
        """
        self.dependencies: RunDependencies | None = None
        """Set when its graph has any."""
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

    def book(self, used: Spend) -> None:
        """Add what was used of language models."""
        self.spend = self.spend.plus(used)
        if self.outer is not None:
            self.outer.book(used)

    def when_over(self, call: Callable[[], None]) -> None:
        """Call `call` once the run is over; at once if it is."""
        if self.over.is_set():
            call()
        else:
            self._when_over.append(call)

    # --- moving on ------------------------------------------------------------------------------------------------------

    async def begin(self, message: object, commands: Commands) -> None:
        """Deliver the input, as `commands` say. Cancelled, the run is cancelled."""
        try:
            if self.is_listened_to and self.outer is None:
                self.publish(RunStarted(run_id=self.id, graph=self.state.plan.name, input=message))
            await self.carry_out(commands, None)
        except BaseException:
            self.cancel("its start was cancelled")
            raise
        finally:
            self._is_starting = False
            self._finish_if_over()

    def never_began(self, why: str = "it was waiting for its turn") -> None:
        """It was cancelled while it waited for its turn: it is over."""
        self.cancel(why)
        self._is_starting = False
        self._finish_if_over()

    async def carry_out(self, commands: Commands, deliverer: str | None) -> None:
        """Cancel what nobody wants any more, then deliver; `deliverer` is the node whose instance does so.

        Waits for room only on a forward edge of the deliverer's own. Then no node ever waits for one that comes before it,
        and no graph can stand still on its own mailboxes.
        """
        for path in commands.cancelled:
            self._withdraw(path)
        if self.state.output is not None and not self.is_ending:
            self._take_down()
        # All are registered before the first wait, so that the run cannot look finished, nor miss one when it is cancelled.
        works = [self._register(delivery) for delivery in commands.deliveries]
        if self.state.steps > self.max_steps:
            self._end_early(self._too_many_steps())
        waiting = deque(works)
        try:
            while waiting:
                work, envelope = waiting[0]
                if not envelope.withdrawn:
                    await self._deliver(work, envelope, deliverer)
                waiting.popleft()
        finally:
            # The deliverer was cancelled: by a timeout, or because only its own result is wanted no more. What it has already
            # made is part of the run; a second attempt would not make it again.
            for work, envelope in waiting:
                if not envelope.withdrawn:
                    self._stations[work.delivery.node].put_beyond(envelope)

    async def _deliver(self, work: Work, envelope: Envelope, deliverer: str | None) -> None:
        delivery = work.delivery
        station = self._stations[delivery.node]
        if delivery.back_edge or not (deliverer is None or self.state.plan.leads_forward(deliverer, delivery.node)):
            station.put_beyond(envelope)
            return
        try:
            await station.put(envelope)
        except MailboxFull as error:  # refused: the sender is not at fault, and must not do its work again
            self.gave_up(work, error)
            self.let_go(work)

    def _register(self, delivery: Delivery) -> tuple[Work, Envelope]:
        now = trio.current_time()
        step = Step(delivery.node, delivery.path, now)
        self.trace.append(step)
        work = Work(self, delivery, step)
        envelope = Envelope(work, f"run {self.id}", work, now)
        self._envelopes[delivery.path] = envelope
        if self.is_ending:
            self._withdraw(delivery.path)
        return work, envelope

    # --- what becomes of messages -----------------------------------------------------------------------------------------

    def gave_up(self, work: Work, error: BaseException, *, is_dead: bool = False) -> None:
        """A node has failed on a message for the last time: the run fails, and everything else of it is cancelled.

        If the node has a fallback, has tried, and is not dead, the message goes to that first.
        """
        if self._ending is not None or self.state.output is not None:
            return
        step, delivery = work.step, work.delivery
        can_fall_back = self.state.plan.nodes[delivery.node].fallback is not None and work.error is None and step.attempt > 0
        if can_fall_back and not is_dead and not self.is_ending:
            self._fall_back(work, error)
            return
        step.status, step.ended_at_s = "failed", trio.current_time()
        if isinstance(error, RunFailed) and self.state.plan.nodes[delivery.node].kind is Kind.GRAPH:  # its failures are ours
            self._failures += [leaf for leaf in error.exceptions if isinstance(leaf, NodeFailed)]
            self._take_down()
            return
        failure = NodeFailed(
            f"node {delivery.node!r} gave up after attempt {max(step.attempt, 1)}: {type(error).__name__}: {error}",
            run_id=self.id,
            node=delivery.node,
            path=delivery.path,
            attempt=max(step.attempt, 1),
            input=work.content,
            trace=tuple(self.trace),
        )
        failure.__cause__ = error
        self._failures.append(failure)
        if self.is_listened_to:
            self.publish(NodeGaveUp(run_id=self.id, node=delivery.node, path=delivery.path, attempt=failure.attempt, error=error))
        self._take_down()

    def _fall_back(self, work: Work, error: BaseException) -> None:
        """Put the message back into the node's mailbox, this time for its fallback."""
        path = work.delivery.path
        work.step.status = "falling back"
        again = Work(self, work.delivery, work.step, error)
        envelope = self._envelopes[path] = Envelope(again, f"run {self.id}", again, trio.current_time())
        again.tell(NodeFellBack, error=error)
        self._stations[work.delivery.node].put_beyond(envelope)

    def failed_too(self, work: Work, error: BaseException) -> None:
        """A node failed on a message that was withdrawn: of a run that fails, that is one more failure."""
        if self._failures and self.is_withdrawn(work) and work.step.ended_at_s is None:
            self.gave_up(work, error)

    def is_withdrawn(self, work: Work) -> bool:
        """Whether nobody wants the result of `work` any more."""
        envelope = self._envelopes.get(work.delivery.path)
        return envelope is None or envelope.withdrawn or envelope.message is not work

    def let_go(self, work: Work) -> None:
        """No actor holds the message any more: it was finished, given up, or withdrawn."""
        path, step = work.delivery.path, work.step
        envelope = self._envelopes.get(path)
        if envelope is None or envelope.message is not work:
            return  # over already, or in the hands of the fallback
        del self._envelopes[path]
        if step.ended_at_s is None:
            step.ended_at_s = trio.current_time()
            if step.started_at_s is not None and self.is_listened_to:
                self.publish(NodeCancelled(run_id=self.id, node=step.node, path=path, attempt=step.attempt))
            step.status = "cancelled"
        self._finish_if_over()

    def context_failed(self, node: str, path: str, error: Exception) -> None:
        """A context manager that `node` asked for failed, while the run went on or when it was closed: the run fails."""
        failure = NodeFailed(
            f"a dependency of node {node!r} failed: {error}", run_id=self.id, node=node, path=path, trace=tuple(self.trace)
        )
        failure.__cause__ = error
        self._failures.append(failure)
        self._take_down()

    def contexts_closed(self) -> None:
        """Nothing holds the run back any more."""
        self._finish_if_over()

    # --- the end --------------------------------------------------------------------------------------------------------

    @property
    def is_ending(self) -> bool:
        """Whether it is decided what the run ends as."""
        return bool(self._failures) or self._ending is not None or self.state.output is not None

    def fail(self, error: BaseException) -> None:
        """Its graph has failed: so does the run, at the messages that brought that about, or else at the oldest one."""
        held = list(self._envelopes.values())
        culprits = [envelope for envelope in held if envelope.last_error is not None and not envelope.withdrawn]
        for envelope in culprits or held[:1]:
            self.gave_up(envelope.message, error, is_dead=True)

    def cancel(self, why: str = "its handle was cancelled") -> None:
        """Take the run down; returns at once, ``over`` is set when nothing of it is left."""
        if self.status is RunStatus.RUNNING and not self.is_ending:
            self._end_early(RunCancelled(f"run {self.id!r} of {self.state.plan.name!r} was cancelled: {why}.", run_id=self.id))

    def _end_early(self, error: RunError) -> None:
        if not self.is_ending:
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
        if self.dependencies is not None and not self.dependencies.close():
            return  # it comes back when they have closed
        if self._failures:
            order = {step.path: index for index, step in enumerate(self.trace)}
            self._failures.sort(key=lambda failure: order.get(failure.path, len(order)))  # not in the order of chance
            nodes = ", ".join(dict.fromkeys(repr(failure.node) for failure in self._failures))
            text = f"run {self.id!r} of {self.state.plan.name!r} failed at {nodes}"
            self.status, self.error = RunStatus.FAILED, RunFailed(text, self._failures)
        elif self._ending is not None:
            cancelled = isinstance(self._ending, RunCancelled)
            self.status, self.error = RunStatus.CANCELLED if cancelled else RunStatus.FAILED, self._ending
        elif self.state.output is not None:
            self.status, self.output = RunStatus.SUCCEEDED, self.state.output
        else:
            self.status, self.error = RunStatus.FAILED, NoOutput(self.state.no_output(), run_id=self.id)
        try:
            if self.is_listened_to and self.outer is None:
                self.publish(RunFinished(run_id=self.id, status=self.status.value, output=self.output, error=self.error))
        finally:  # whatever a listener raises, nobody must wait for ever
            self.over.set()
            self._on_over(self)
            for call in self._when_over:
                call()

    def _too_many_steps(self) -> StepsExceeded:
        return StepsExceeded(
            f"run {self.id!r} of {self.state.plan.name!r} made more than {self.max_steps:g} steps.\n"
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
            raise self._run.error.with_traceback(None)  # each caller's own, however many there are
        return self._run.output

    async def cancel(self) -> None:
        """Cancel the run and return when nothing of it is alive. Over already: no effect.

        Cancelled itself, it returns at once, and the run ends without being waited for.
        """
        self._run.cancel()
        await self._run.over.wait()

    def __repr__(self) -> str:
        return f"<RunHandle {self.id!r} {self.status.value}>"
