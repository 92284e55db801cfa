"""One run: what its messages are doing now, what went wrong, and when it is really over.

The pure :class:`~runtime.graphs.reducer.state.RunState` decides what a result means; this carries it out. A run has no task:
each step happens in the instance that finished a message. It is over when none of its messages is queued, at work or to be
redelivered.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Final, final

import attrs
import trio

from actors.errors import NodeFailed, RunFailed, StreamBroken
from actors.graphs.effects import Effect
from actors.graphs.node import Kind
from actors.store_errors import NotStorable
from runtime.core.envelope import Envelope
from runtime.graphs.records.journaling import Journal
from runtime.graphs.records.questions import AskedByNode
from runtime.graphs.records.run_events import (
    NodeCancelled,
    NodeEmitted,
    NodeFellBack,
    NodeGaveUp,
    RunSignalled,
)
from runtime.graphs.records.run_record import Step, StepStatus
from runtime.graphs.records.step_events import FINISHED, tell_finished, tell_run_started
from runtime.graphs.records.stored_answers import WITHDRAWN, PersonAnswer, answer_data, read_answer
from runtime.graphs.reducer.branches import Delivery
from runtime.graphs.reducer.deliveries import Commands
from runtime.graphs.reducer.wording import stream_broken
from runtime.graphs.runs.ending import node_failed, too_many_steps
from runtime.graphs.runs.inbox import Inbox, Note
from runtime.graphs.runs.pulse import Pulse
from runtime.graphs.runs.run_life import RunLife
from runtime.graphs.runs.run_waits import RunMessage, RunWaits
from runtime.journal.records import RecordKind
from runtime.journal.store import PostedKind

_DONE: Final = StepStatus.DONE
_MOVING: Final = nullcontext()


@final
@attrs.define(eq=False)
class ActiveDelivery(RunMessage):
    """A delivery on its way: the message that a node's instance receives, and the slot that hears what became of it."""

    run: ActiveRun
    delivery: Delivery
    step: Step
    talk: AskedByNode | None = None
    """What its node has asked people, if anything."""
    error: BaseException | None = None
    """The last error of the node, when it has given the message up and its fallback is to work on it."""
    pulse: Pulse | None = None
    """That of the attempt at it, if the attempt has a limit."""
    is_uncertain: bool = False
    """Whether an earlier life began it, it may run once only, and no one knows whether it took effect."""

    def tell(self, kind: type[Any], **more: Any) -> None:
        """Publish an event about this message, if anybody listens."""
        run, step = self.run, self.step
        if run.wants(kind):
            run.audience.publish(kind(run_id=run.id, node=step.node, path=step.path, attempt=step.attempt, **more))

    def still(self) -> AbstractContextManager[None]:
        """While the block lasts, the time of the attempt at it stands still."""
        return _MOVING if self.pulse is None else self.pulse.still()

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

    def held_back(self, delay_s: float) -> None:
        """Its next attempt begins no sooner than `delay_s` seconds from now."""
        self.step.hold_back(delay_s)

    def succeed(self, value: Any) -> None:
        """Nothing to do: the instance has reported the result itself."""

    def fail(self, error: Exception) -> None:
        """The node gave the message up; the failure is chained to `error`, which comes from the cell."""
        self.run.gave_up(self, error if error.__cause__ is None else error.__cause__)

    def released(self) -> None:
        """No actor holds the message any more."""
        self.run.delivery_ended(self)


@final
class ActiveRun(RunLife):
    """A run that carries out what its reducer decides."""

    __slots__ = ()

    # --- moving on ------------------------------------------------------------------------------------------------------

    async def begin(self, message: object, commands: Commands) -> None:
        """Deliver the input, as `commands` say. Cancelled, the run is cancelled."""
        try:
            self._tell_begun(message)
            await self.carry_out(commands, None)
        except BaseException:
            self.start_cancelled()
            raise
        finally:
            self._no_longer_starts()
        self.waits.look_around()

    def begin_now(self, message: object, commands: Commands) -> None:
        """The same, where each message finds room."""
        try:
            self._tell_begun(message)
            waiting = self._advance(commands, None)
            assert not waiting, "its caller has looked"
        except BaseException:
            self.start_cancelled()
            raise
        finally:
            self._no_longer_starts()

    def _tell_begun(self, message: object) -> None:
        if self.outer is None and not self.is_resumed and self.audience.listening:
            tell_run_started(self.audience, self.id, self.state.plan.name, message, self.labels)

    def _no_longer_starts(self) -> None:
        self._is_starting = False
        for key, signal in self.signals:
            self.signalled(signal, key)
        self._finish_if_over()

    def passed_on(self, active: ActiveDelivery, output: Any) -> bool:
        """:meth:`finished`, where one message follows and finds room: what most steps are.

        False: nothing was done, and there may be more to do. True: `active` is done, and no longer held by anybody.
        """
        state, delivery = self.state, active.delivery
        to = state.only_way(delivery, output)
        if to is None or state.steps >= self.max_steps:
            return False
        envelopes, path = self._envelopes, delivery.path
        envelope = envelopes.get(path)
        if envelope is None or envelope.withdrawn or envelope.message is not active or active.error is not None:
            return False
        mailbox = self._places.room(to.spec.name) if self.journal is None else None
        if mailbox is None:
            return False
        following = state.followed(delivery, to, output)
        if following is None:
            return False
        step = active.step
        now_s = self.now()
        step.status, step.ended_at_s = _DONE, now_s
        if self.audience.listening:
            tell = self.audience.unmade[FINISHED]
            if tell is not None:
                tell(state.run_id, step, now_s, output)
        next_envelope = self._register(following, now_s, ending=False)
        del envelopes[path]
        envelope.slot = None  # no one is left to be told of it
        mailbox.put_nowait(next_envelope)
        self.waits.look_around()
        return True

    async def finished(self, active: ActiveDelivery, output: Any) -> None:
        """A node is done with `active` and has made `output`: note it, and deliver what follows."""
        step = active.step
        if self.journal is not None:
            await self._finished_for_good(self.journal, active, output)
            return
        commands = (self.state.finished if active.error is None else self.state.stood_in)(step.path, output)
        now_s = self.now()
        step.status, step.ended_at_s = _DONE, now_s
        if self.audience.listening:
            tell_finished(self.audience, self.state.run_id, step, now_s, output)
        waiting = self._advance(commands, step.node)
        if waiting:
            await self._places.wait_for_room(waiting, step.node, self.waits.look_around)

    async def _finished_for_good(self, journal: Journal, active: ActiveDelivery, output: Any) -> None:
        """The same for a durable run: what follows does so when the record is written, in the order of the records."""
        step = active.step
        data = self._encoded(journal, active, output)
        inputs = journal.inputs_of(active.delivery)
        commands = (self.state.finished if active.error is None else self.state.stood_in)(step.path, output)

        def follow() -> Sequence[Envelope]:
            now_s = self.now()
            step.status, step.ended_at_s = _DONE, now_s
            if self.audience.listening:
                tell_finished(self.audience, self.state.run_id, step, now_s, output)
            return self._advance(commands, step.node)

        kind = RecordKind.FINISHED if active.error is None else RecordKind.STOOD_IN
        if data is not None:
            journal.note(output, data)
        is_once = self.state.plan.nodes[step.node].options.effect is Effect.ONCE
        waiting = await journal.tell(kind, step.path, data, follow, inputs, is_paid=is_once)
        if waiting:
            await self._places.wait_for_room(waiting, step.node, self.waits.look_around)

    def _encoded(self, journal: Journal, active: ActiveDelivery, made: Any, index: int | None = None) -> bytes | None:
        """What a node has made, as it is stored; that it is of a wrong type is said before that it cannot be stored."""
        try:
            return journal.encode(made)
        except NotStorable:
            if active.error is None:
                self.state.check(active.step.path, made, index)
            raise

    def answered(
        self,
        active: ActiveDelivery,
        answer: PersonAnswer,
        when_done: Callable[[], None],
        when_failed: Callable[[Exception], None],
    ) -> None:
        """A person has answered: note it, and deliver what follows, which waits for no room."""
        step = active.step
        try:
            commands = self.state.finished(step.path, answer.value)
        except Exception as error:  # noqa: BLE001 - the condition of a connection, which is its author's
            if self.journal is not None:
                self.journal.append(RecordKind.ANSWERED, step.path, answer_data(WITHDRAWN), answered=answer.question)
            when_failed(error)
            return

        def follow() -> None:
            now_s = self.now()
            step.status, step.ended_at_s = _DONE, now_s
            if self.audience.listening:
                tell_finished(self.audience, self.state.run_id, step, now_s, answer.value)
            when_done()
            self._deliver(commands, step.node)
            self.delivery_ended(active)

        if self.journal is None:
            follow()
        else:
            inputs = self.journal.inputs_of(active.delivery)
            self.journal.note(answer.value, read_answer(answer.record)[1])
            self.journal.append(RecordKind.ANSWERED, step.path, answer.record, follow, inputs, answered=answer.question)

    def signalled(self, signal: object, key: str) -> None:
        """A message has come from outside: note it, and deliver what follows. The same key again, or its end: no effect."""
        if self._is_starting:
            self.signals.append((key, signal))
            return
        name = PostedKind.SIGNAL.value, key
        if name in self.taken_in or self.is_ending or self.over.is_set():
            return
        data = None if self.journal is None else self.journal.encode(signal)
        if self.journal is not None and data is not None:
            self.journal.note(signal, data)
        commands = self.state.signalled(signal)
        self.taken_in.add(name)
        note = self.say(key, signal, is_open=False) if isinstance(signal, self.state.plan.steering) else None

        def follow() -> None:
            if note is not None:
                note.is_open = True
            if self.wants(RunSignalled):
                self.audience.publish(RunSignalled(run_id=self.id, key=key, signal=signal))
            self._deliver(commands, None)
            self._finish_if_over()

        if self.journal is None:
            follow()
        else:
            self.journal.append(RecordKind.SIGNALLED, key, data, follow)

    def say(self, key: str, message: object, *, is_open: bool = True) -> Note:
        """Put a message where its agents, and those of runs inside it, hear it between two rounds."""
        self.inbox = self.inbox or Inbox()
        return self.inbox.put(key, message, is_open=is_open)

    async def withdraw(self, key: str) -> bool:
        """Take back what was said into it; False: it was taken before, or goes to a node. Returns when that is durable."""
        waiting = [each for each in self.signals if each[0] == key] if self._is_starting else []
        for each in waiting:
            self.signals.remove(each)
        is_over = self.is_ending or self.over.is_set()
        if not waiting and (is_over or self.inbox is None or not self.inbox.withdraw(key)):
            await trio.lowlevel.checkpoint()
            return False
        self.taken_in.add((PostedKind.SIGNAL.value, key))
        if self.journal is None:
            await trio.lowlevel.checkpoint()
        else:
            await self.journal.append(RecordKind.WITHDRAWN, key).wait()
        return True

    def _deliver(self, commands: Commands, deliverer: str | None) -> None:
        """Do what `commands` say, beyond the room that there is: who made the message has no task that could wait."""
        for envelope in self._advance(commands, deliverer):
            self._places.pool_of(envelope).mailbox.put_beyond(envelope)

    async def emitted(self, active: ActiveDelivery, item: Any, index: int) -> None:
        """A generator has yielded its item number `index`: note it, and deliver what follows."""
        node, path = active.step.node, active.delivery.path
        journal = self.journal
        if journal is None:
            commands = self.state.emitted(path, item, index)
            active.tell(NodeEmitted, index=index, output=item)
            await self.carry_out(commands, node)
            return
        data = self._encoded(journal, active, item, index)
        is_new = self.state.is_at_work(path) and self.state.emitted_by(path) == index
        commands = self.state.emitted(path, item, index)

        def follow() -> Sequence[Envelope]:
            active.tell(NodeEmitted, index=index, output=item)
            return self._advance(commands, node)

        inputs = journal.inputs_of(active.delivery) if is_new else b""
        if data is not None and is_new:
            journal.note(item, data)
        with active.still():
            waiting = await journal.tell(RecordKind.EMITTED, f"{path}#{index}", data if is_new else None, follow, inputs)
        if waiting:
            await self._places.wait_for_room(waiting, node, self.waits.look_around)

    async def carry_out(self, commands: Commands, deliverer: str | None) -> None:
        """Cancel what is no longer wanted, then deliver; `deliverer` is the node whose instance does so.

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
        if not commands.deliveries:
            return ()
        # All are registered before the first wait: the run can neither look finished nor miss one when it is cancelled.
        now_s, ending = self.now(), self._ending.is_decided
        envelopes = [self._register(delivery, now_s, ending=ending) for delivery in commands.deliveries]
        if self.past:
            envelopes = self._take_up(envelopes)
        if self.state.steps > self.max_steps:
            self._end_early(too_many_steps(self.state, self.max_steps))
        for index, envelope in enumerate(envelopes):
            if not envelope.withdrawn and not self._places.found_room(envelope, deliverer):
                return envelopes[index:]
        return ()

    def _register(self, delivery: Delivery, now_s: float, *, ending: bool) -> Envelope:
        step = Step(delivery.node, delivery.path, now_s)
        self.trace.append(step)
        active = ActiveDelivery(self, delivery, step)
        envelope = self._envelopes[delivery.path] = Envelope(active, self._sender, active, now_s)
        if ending:
            self._withdraw(delivery.path)
        return envelope

    def _take_up(self, envelopes: Sequence[Envelope]) -> list[Envelope]:
        """Let messages that were at work in an earlier life go on there: at their attempt, or at their fallback.

        Returns those that are not held back: a further attempt waits out its whole backoff.
        """
        found: list[Envelope] = []
        for envelope in envelopes:
            active: ActiveDelivery = envelope.message
            past = self.past.get(active.delivery.path)
            if past is None or envelope.withdrawn:
                found.append(envelope)
                continue
            active.step.attempt, envelope.attempt, active.is_uncertain = past.attempts, past.attempts + 1, past.is_uncertain
            if past.is_retried:
                active.step.wait_again(StepStatus.RETRYING, self.now())
                backoff = self.state.plan.nodes[active.step.node].options.redelivery.backoff
                self._places.pool_of(envelope).hold_back(envelope, backoff, past.attempts)
                continue
            found.append(envelope)
            if past.then == "fallback":
                active.error, active.step.status = past.error, StepStatus.FALLING_BACK
            elif past.then == "gave up" and past.error is not None:
                self.gave_up(active, past.error, is_dead=True)
        return found

    # --- what becomes of messages -----------------------------------------------------------------------------------------

    def gave_up(self, active: ActiveDelivery, error: BaseException, *, is_dead: bool = False) -> None:
        """A node has failed on a message for the last time: the run fails, and everything else of it is cancelled.

        If the node has a fallback, has tried, and is not dead, the message goes to that first.
        """
        if self._ending.reason is not None or self.state.output is not None:
            return
        step, delivery = active.step, active.delivery
        can_fall_back = self.state.plan.nodes[delivery.node].fallback is not None and active.error is None and step.attempt > 0
        if can_fall_back and not is_dead and not self.is_ending:
            self._fall_back(active, error)
            return
        step.status, step.ended_at_s = StepStatus.FAILED, trio.current_time()
        if self.journal is not None:
            self.journal.failed(step.path, step.attempt, error, "gave up")
        if isinstance(error, RunFailed) and self.state.plan.nodes[delivery.node].kind is Kind.GRAPH:  # its failures are ours
            self._ending.failures += [leaf for leaf in error.exceptions if isinstance(leaf, NodeFailed)]
            self._take_down()
            return
        failure = self.failure_of(active, error)
        self._ending.failures.append(failure)
        if self.wants(NodeGaveUp):
            self.audience.publish(
                NodeGaveUp(run_id=self.id, node=delivery.node, path=delivery.path, attempt=failure.attempt, error=error)
            )
        self._take_down()

    def failure_of(self, active: ActiveDelivery, error: BaseException) -> NodeFailed:
        """The error of a node that gives up on a message because of `error`."""
        return node_failed(self.id, active.step, active.content, error, self.trace)

    def take_back(self, active: ActiveDelivery, error: BaseException) -> StreamBroken | None:
        """Forget what an attempt at `active` emitted before it failed with `error`, since another attempt is to come.

        Returns why there can be none: some of that was taken.
        """
        emitted = self.state.emitted_by(active.delivery.path)
        commands = self.state.retracted(active.delivery.path, self._has_begun)
        if commands is not None:
            for path in commands.cancelled:
                self._withdraw(path)
            if self.journal is not None:
                # Again when it is written: what an earlier event delivers in between is among them.
                self.journal.append(RecordKind.RETRACTED, active.delivery.path, None, lambda: self._advance(commands, None))
            return None
        spec = self.state.plan.nodes[active.delivery.node]
        broken = stream_broken(spec, active.delivery.path, emitted, error, self.id)
        broken.__cause__ = error
        return broken

    def _has_begun(self, path: str) -> bool:
        envelope = self._envelopes.get(path)
        return envelope is None or envelope.message.step.started_at_s is not None

    def _fall_back(self, active: ActiveDelivery, error: BaseException) -> None:
        """Put the message back into the node's mailbox, this time for its fallback."""
        path = active.delivery.path
        active.step.wait_again(StepStatus.FALLING_BACK, self.now())
        if self.journal is not None:
            self.journal.failed(path, active.step.attempt, error, "fallback")
        again = ActiveDelivery(self, active.delivery, active.step, error=error)
        envelope = self._envelopes[path] = Envelope(again, self._sender, again, self.now())
        again.tell(NodeFellBack, error=error)
        self._places.put_again(envelope)

    def failed_too(self, active: ActiveDelivery, error: BaseException) -> None:
        """A node failed on a message that was withdrawn: if the run fails, that is one more failure."""
        if self._ending.failures and self.is_withdrawn(active) and active.step.ended_at_s is None:
            self.gave_up(active, error)

    def is_withdrawn(self, active: ActiveDelivery) -> bool:
        """Whether the result of `active` is no longer wanted."""
        path = active.delivery.path
        envelope = self._envelopes.get(path)
        if envelope is None or envelope.withdrawn or envelope.message is not active:
            return True
        # Of a durable run the reducer may have cancelled it already, and the record that says so is still on its way.
        return self.journal is not None and not self.state.is_at_work(path)

    def delivery_ended(self, active: ActiveDelivery) -> None:
        """No actor holds the message any more: it was finished, given up, or withdrawn."""
        path, step = active.delivery.path, active.step
        if active.talk is not None and self.desk is not None:
            for asking in active.talk.asks.values():
                self.desk.withdraw(asking)
        envelope = self._envelopes.get(path)
        if envelope is None or envelope.message is not active:
            return  # over already, or with the fallback
        del self._envelopes[path]
        if self.journal is not None:
            self.journal.put_away(path)
        if step.ended_at_s is None:
            step.ended_at_s = self.now()
            if step.started_at_s is not None and self.audience.listening and not self.outermost.is_evicted:
                active.tell(NodeCancelled)
            step.status = StepStatus.CANCELLED
        if not self._envelopes:
            self._finish_if_over()
        else:
            self.waits.look_around()
            if self.journal is not None and self.outermost.has_rested:
                self.rests()  # perhaps the rest of it only waits now

    def fail(self, error: BaseException) -> None:
        """Its graph has failed: so does the run, at the messages that brought that about, or else at the oldest one."""
        held = list(self._envelopes.values())
        culprits = [envelope for envelope in held if envelope.last_error is not None and not envelope.withdrawn]
        for envelope in culprits or held[:1]:
            self.gave_up(envelope.message, error, is_dead=True)
