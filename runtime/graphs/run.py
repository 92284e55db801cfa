"""One run: what its messages are doing now, what went wrong, and when it is really over.

The pure :class:`~runtime.graphs.reducer.state.RunState` decides what a result means; this carries it out. A run has no task:
each step happens in the instance that finished a message. It is over when nothing of it is queued, handled or to be redelivered.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, final

import attrs
import trio

from actors.conversations import Turn
from actors.errors import NodeFailed, RunCancelled, RunError, RunFailed, StreamBroken
from actors.graphs.node import Kind
from runtime.core.envelope import Envelope
from runtime.core.events import Event
from runtime.core.frames import without_frames
from runtime.core.pool import InstancePool
from runtime.graphs.carried import Carried, carried_from_here
from runtime.graphs.dependencies import RunDependencies
from runtime.graphs.ending import Ending, dependency_failed, node_failed, too_many_steps
from runtime.graphs.events import NodeCancelled, NodeFellBack, NodeFinished, NodeGaveUp, RunFinished, RunStarted
from runtime.graphs.places import Places
from runtime.graphs.record import RunStatus, Spend, Step, StepStatus
from runtime.graphs.reducer.branches import Delivery
from runtime.graphs.reducer.deliveries import Commands
from runtime.graphs.reducer.state import RunState
from runtime.graphs.reducer.wording import stream_broken
from runtime.graphs.run_waits import RunMessage, RunWaits


@final
@attrs.define(eq=False)
class Work(RunMessage):
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
    def waits(self) -> RunWaits:
        """The waits of its run."""
        return self.run.waits

    @property
    def node(self) -> str:
        """The node that it is for."""
        return self.step.node

    @property
    def content(self) -> object:
        """The node's input: the message, or for a join the messages by parameter."""
        values = self.delivery.arguments
        return next(iter(values.values())) if len(values) == 1 else dict(values)

    def succeed(self, value: Any) -> None:
        """Nothing to do: the instance has reported the result itself."""

    def fail(self, error: Exception) -> None:
        """The node gave the message up; the failure is chained to `error`, the word of the cell."""
        self.run.gave_up(self, error if error.__cause__ is None else error.__cause__)

    def released(self) -> None:
        """No actor holds the message any more."""
        self.run.let_go(self)


@final
class ActiveRun:
    """The life of one run."""

    def __init__(
        self,
        state: RunState,
        pools: Mapping[str, InstancePool],
        publish: Callable[[Event], None] | None,
        on_over: Callable[[ActiveRun], None],
        max_steps: float = math.inf,
        outer: ActiveRun | None = None,
        now: Callable[[], float] = trio.current_time,
    ) -> None:
        """A run that has not begun; `pools` are the instances of its nodes, `now` is the clock of its runtime."""
        self.state = state
        self.status = RunStatus.RUNNING
        self.outer = outer
        """The run of whose node this one is the work; its trace, its events and its spending are also that one's."""
        self.max_steps = max_steps
        self.carried: Carried = carried_from_here() if outer is None else outer.carried
        """The context variables of whoever started it, for its nodes."""
        self.turns_before: tuple[Turn, ...] = () if outer is None else outer.turns_before
        """The earlier turns of the conversation that it is a part of."""
        self.take_merged: Callable[[], Sequence[Any]] | None = None if outer is None else outer.take_merged
        """Takes the messages that were sent into it; None when none can be."""
        self.trace: list[Step] = [] if outer is None else outer.trace
        self.spend = Spend()
        self.output: Any = None
        self.error: RunError | None = None
        self.now = now
        self.started_at_s = now()
        self.ended_at_s: float | None = None
        self.is_listened_to = publish is not None
        """Whether making an event is worth it."""
        self.shows_prompts: bool = outer is not None and outer.shows_prompts
        """Whether its events carry what language models are asked."""
        self._sender = f"run {state.run_id}"
        self._publish = publish
        self._on_over = on_over
        self._envelopes: dict[str, Envelope] = {}
        """Invariant: holds exactly the messages that are queued, handled or to be redelivered, by path."""
        self._ending = Ending(state)
        self._places = Places(pools, state.plan)
        self.waits: RunWaits = RunWaits(
            state, self._envelopes, self._places, self._ending, None if outer is None else outer.waits
        )
        self.over: trio.Event = self.waits.over
        self.dependencies: RunDependencies | None = None
        """Set when its graph has any."""
        self._is_starting = True
        self._when_over: list[Callable[[], None]] = []

    @property
    def id(self) -> str:
        """Unique within the runtime."""
        return self.state.run_id

    @property
    def steps_left(self) -> float:
        """How many more messages may be delivered to nodes."""
        return max(0, self.max_steps - self.state.steps)

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

    async def result(self) -> Any:
        """Wait for the end and return the output; raises what :meth:`RunHandle.result` does. Cancelled, only the waiting ends."""
        with self.waits.awaited() as cell:
            await self.waits.wait_over(cell)
        return self.outcome()

    def outcome(self) -> Any:
        """The output of the run, which is over; or the error with which it ended is raised."""
        if self.error is not None:
            raise without_frames(self.error)  # each caller's own, however many there are
        return self.output

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
        self.waits.look_around()

    def never_began(self, why: str = "it was waiting for its turn") -> None:
        """It was cancelled while it waited for its turn: it is over."""
        self.cancel(why)
        self._is_starting = False
        self._finish_if_over()

    async def finished(self, work: Work, output: Any) -> None:
        """A node is done with `work` and has made `output`: note it, and deliver what follows."""
        step = work.step
        commands = (self.state.finished if work.error is None else self.state.stood_in)(step.path, output)
        step.status, step.ended_at_s = StepStatus.DONE, self.now()
        if self.is_listened_to:
            work.tell(NodeFinished, output=output)
        waiting = self._advance(commands, step.node)
        if waiting:
            await self._places.wait_for_room(waiting, step.node, self.waits.look_around)

    async def carry_out(self, commands: Commands, deliverer: str | None) -> None:
        """Cancel what nobody wants any more, then deliver; `deliverer` is the node whose instance does so.

        Waits for room only on a forward edge of the deliverer's own. Then no node ever waits for one that comes before it,
        and no graph can stand still on its own mailboxes.
        """
        waiting = self._advance(commands, deliverer)
        if waiting:
            await self._places.wait_for_room(waiting, deliverer, self.waits.look_around)

    def _advance(self, commands: Commands, deliverer: str | None) -> Sequence[Envelope]:
        """Do what `commands` say as far as nothing has to wait for room; returns what is left to deliver."""
        for path in commands.cancelled:
            self._withdraw(path)
        # All are registered before the first wait, so that the run cannot look finished, nor miss one when it is cancelled.
        now_s, ending = self.now(), self._ending.is_decided
        envelopes = [self._register(delivery, now_s, ending=ending) for delivery in commands.deliveries]
        if self.state.steps > self.max_steps:
            self._end_early(too_many_steps(self.state, self.max_steps))
        for index, envelope in enumerate(envelopes):
            if not envelope.withdrawn and not self._places.found_room(envelope, deliverer):
                return envelopes[index:]
        return ()

    def _register(self, delivery: Delivery, now_s: float, *, ending: bool) -> Envelope:
        step = Step(delivery.node, delivery.path, now_s)
        self.trace.append(step)
        work = Work(self, delivery, step)
        envelope = self._envelopes[delivery.path] = Envelope(work, self._sender, work, now_s)
        if ending:
            self._withdraw(delivery.path)
        return envelope

    # --- what becomes of messages -----------------------------------------------------------------------------------------

    def gave_up(self, work: Work, error: BaseException, *, is_dead: bool = False) -> None:
        """A node has failed on a message for the last time: the run fails, and everything else of it is cancelled.

        If the node has a fallback, has tried, and is not dead, the message goes to that first.
        """
        if self._ending.reason is not None or self.state.output is not None:
            return
        step, delivery = work.step, work.delivery
        can_fall_back = self.state.plan.nodes[delivery.node].fallback is not None and work.error is None and step.attempt > 0
        if can_fall_back and not is_dead and not self.is_ending:
            self._fall_back(work, error)
            return
        step.status, step.ended_at_s = StepStatus.FAILED, trio.current_time()
        if isinstance(error, RunFailed) and self.state.plan.nodes[delivery.node].kind is Kind.GRAPH:  # its failures are ours
            self._ending.failures += [leaf for leaf in error.exceptions if isinstance(leaf, NodeFailed)]
            self._take_down()
            return
        failure = self.failure_of(work, error)
        self._ending.failures.append(failure)
        if self.is_listened_to:
            self.publish(NodeGaveUp(run_id=self.id, node=delivery.node, path=delivery.path, attempt=failure.attempt, error=error))
        self._take_down()

    def failure_of(self, work: Work, error: BaseException) -> NodeFailed:
        """The error of a node that gives up on a message because of `error`."""
        return node_failed(self.id, work.step, work.content, error, self.trace)

    def take_back(self, work: Work, error: BaseException) -> StreamBroken | None:
        """Forget what an attempt at `work` emitted before it failed with `error`, since another attempt is to come.

        Returns why there can be none: some of that was taken.
        """
        emitted = self.state.emitted_by(work.delivery.path)
        commands = self.state.retracted(work.delivery.path, self._has_begun)
        if commands is not None:
            for path in commands.cancelled:
                self._withdraw(path)
            return None
        spec = self.state.plan.nodes[work.delivery.node]
        broken = stream_broken(spec, work.delivery.path, emitted, error, self.id)
        broken.__cause__ = error
        return broken

    def _has_begun(self, path: str) -> bool:
        envelope = self._envelopes.get(path)
        return envelope is None or envelope.message.step.started_at_s is not None

    def _fall_back(self, work: Work, error: BaseException) -> None:
        """Put the message back into the node's mailbox, this time for its fallback."""
        path = work.delivery.path
        work.step.status = StepStatus.FALLING_BACK
        again = Work(self, work.delivery, work.step, error)
        envelope = self._envelopes[path] = Envelope(again, self._sender, again, self.now())
        again.tell(NodeFellBack, error=error)
        self._places.put_again(envelope)

    def failed_too(self, work: Work, error: BaseException) -> None:
        """A node failed on a message that was withdrawn: of a run that fails, that is one more failure."""
        if self._ending.failures and self.is_withdrawn(work) and work.step.ended_at_s is None:
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
            step.ended_at_s = self.now()
            if step.started_at_s is not None and self.is_listened_to:
                self.publish(NodeCancelled(run_id=self.id, node=step.node, path=path, attempt=step.attempt))
            step.status = StepStatus.CANCELLED
        if not self._envelopes:
            self._finish_if_over()
        else:
            self.waits.look_around()

    def context_failed(self, node: str, path: str, error: Exception) -> None:
        """A context manager that `node` asked for failed, while the run went on or when it was closed: the run fails."""
        failure = dependency_failed(self.id, node, path, error, self.trace)
        self._ending.failures.append(failure)
        self._take_down()

    def contexts_closed(self) -> None:
        """Nothing holds the run back any more."""
        self._finish_if_over()

    # --- the end --------------------------------------------------------------------------------------------------------

    @property
    def is_ending(self) -> bool:
        """Whether it is decided what the run ends as."""
        return self._ending.is_decided

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
            self.let_go(envelope.message)  # registered, and never put anywhere

    def _finish_if_over(self) -> None:
        if self._envelopes or self._is_starting or self.over.is_set():
            return
        if self.dependencies is not None and not self.dependencies.close():
            return  # it comes back when they have closed
        self.status, self.output, self.error = self._ending.outcome(self.trace)
        self.ended_at_s = self.now()
        self.carried, self.dependencies = (), None  # a handle may be kept for long, and must not keep these alive
        if self.error is not None:
            self.error.trace = tuple(self.trace)
        try:
            if self.is_listened_to and self.outer is None:
                self.publish(RunFinished(run_id=self.id, status=self.status, output=self.output, error=self.error))
        finally:  # whatever a listener raises, nobody must wait for ever
            self.waits.end()
            self._on_over(self)
            for call in self._when_over:
                call()
