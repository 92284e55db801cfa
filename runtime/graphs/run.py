"""One run: what its messages are doing now, what went wrong, and when it is really over.

The pure :class:`~runtime.graphs.reducer.state.RunState` decides what a result means; this carries it out. A run has no task:
each step happens in the instance that finished a message. It is over when nothing of it is queued, handled or to be redelivered.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from typing import Any, TypeAlias, final

import attrs
import trio

from actors.errors import (
    AskCycle,
    MailboxFull,
    NodeFailed,
    NoOutput,
    RunCancelled,
    RunError,
    RunFailed,
    StepsExceeded,
    StreamBroken,
)
from actors.graphs.node import Kind
from actors.groups import leaves_of
from actors.words import said
from runtime.core.actor_cell import ActorCell
from runtime.core.cell import Cell
from runtime.core.duty import on_duty
from runtime.core.envelope import Envelope, OneShot, Wrapper
from runtime.core.events import Event, EventStream
from runtime.core.frames import raised_at, trim, without_frames
from runtime.core.hand import Hand
from runtime.core.pool import InstancePool
from runtime.core.refs import Ask
from runtime.core.waits import Waiter, no_end, resolve, ring, waiting
from runtime.core.worker_threads import thread_not_counted
from runtime.graphs.carried import Carried, carried_from_here
from runtime.graphs.dependencies import RunDependencies
from runtime.graphs.events import NodeCancelled, NodeFellBack, NodeFinished, NodeGaveUp, RunFinished, RunStarted
from runtime.graphs.record import RunStatus, Spend, Step, StepStatus
from runtime.graphs.reducer.branches import Delivery
from runtime.graphs.reducer.deliveries import Commands
from runtime.graphs.reducer.state import RunState
from runtime.graphs.reducer.wording import MOST_SAID, gave_up, stream_broken
from runtime.graphs.turns import Turns

Place: TypeAlias = InstancePool | Turns
"""What a message of a run can hold while others wait for the like of it."""


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
        places: Mapping[str, InstancePool],
        publish: Callable[[Event], None] | None,
        on_over: Callable[[ActiveRun], None],
        max_steps: float = math.inf,
        outer: ActiveRun | None = None,
        now: Callable[[], float] = trio.current_time,
    ) -> None:
        """A run that has not begun; `places` are the instances of its nodes, `now` is the clock of its runtime."""
        self.state = state
        self.status = RunStatus.RUNNING
        self.over = trio.Event()
        self.outer = outer
        """The run of whose node this one is the work; its trace, its events and its spending are also that one's."""
        self.max_steps = max_steps
        self.carried: Carried = carried_from_here() if outer is None else outer.carried
        """The context variables of whoever started it, for its nodes."""
        self.trace: list[Step] = [] if outer is None else outer.trace
        self.spend = Spend()
        self.output: Any = None
        self.error: RunError | None = None
        self.is_awaited = False
        """Whether somebody has waited for its end: at the close of the runtime, nobody is left to hear of one that was not."""
        self.when_awaited: Callable[[], object] | None = None
        """Called when somebody hears of its end after all."""
        self.now = now
        self.started_at_s = now()
        self.ended_at_s: float | None = None
        self.is_listened_to = publish is not None
        """Whether making an event is worth it."""
        self.shows_prompts: bool = outer is not None and outer.shows_prompts
        """Whether its events carry what language models are asked."""
        self._sender = f"run {state.run_id}"
        self._places = places
        self._lent: frozenset[Place] = frozenset()
        """Places that are held by those who wait for this run: what it does itself does not count there."""
        self._spared: frozenset[Place] = frozenset()
        """While it starts: places held by who starts it, whose mailboxes must not make that wait."""
        self.turns: Turns | None = None
        """Where it takes its turn; set when its graph has turns."""
        self._waits: dict[OneShot, Cell] = {}
        """The handlers that wait for its end, each with the slot in which it does."""
        self._readers: dict[EventStream, Cell] = {}
        """Streams of its events, each with the handler that reads it."""
        self._awaited = 0
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

    def mark_awaited(self) -> None:
        """Somebody waits for its end, or looks at it."""
        self.is_awaited = True
        call, self.when_awaited = self.when_awaited, None
        if call is not None:
            call()

    def when_over(self, call: Callable[[], None]) -> None:
        """Call `call` once the run is over; at once if it is."""
        if self.over.is_set():
            call()
        else:
            self._when_over.append(call)

    # --- who waits for it, and for whom it waits ----------------------------------------------------------------------------

    async def result(self) -> Any:
        """Wait for the end and return the output; raises what :meth:`RunHandle.result` does. Cancelled, only the waiting ends."""
        with self.awaited() as cell:
            await self.wait_over(cell)
        return self.outcome()

    def outcome(self) -> Any:
        """The output of the run, which is over; or the error with which it ended is raised."""
        if self.error is not None:
            raise without_frames(self.error)  # each caller's own, however many there are
        return self.output

    def awaited(self) -> AbstractContextManager[Cell | None]:
        """While the caller waits for this run; enters as the cell whose handler the caller is, or None.

        Raises:
            AskCycle: the run is over only when that handler has ended.
        """
        self.mark_awaited()
        cell = None if self.over.is_set() else on_duty()
        return nullcontext() if cell is None else self._awaited_by(cell)

    @contextmanager
    def _awaited_by(self, cell: Cell) -> Generator[Cell]:
        """While the handler of `cell` waits for this run: the places that this holds are the run's too."""
        work = work_of(cell)
        run = work.run if work is not None else None
        while run is not None:
            if run is self:
                raise own_result(cell, self)
            run = run.outer
        self._lend(places_held_by(cell))
        self._awaited += 1
        try:
            with thread_not_counted(), waiting(cell, cell.asking, self):
                yield cell
        finally:
            self._awaited -= 1
            if not self._awaited:
                self._lent = frozenset()

    @contextmanager
    def started_by(self, cell: Cell) -> Generator[None]:
        """While the handler of `cell` starts this run: it waits neither for a turn nor for room where it holds a place itself."""
        self._spared = places_held_by(cell)
        try:
            with thread_not_counted(), waiting(cell, cell.asking, self):
                yield
        finally:
            self._spared = frozenset()

    async def wait_over(self, cell: Cell | None) -> None:
        """Wait for the end within ``awaited()``, as the handler of `cell` if that is not None.

        Raises:
            AskCycle: the run is over only when that handler has ended, as it may turn out later.
        """
        if cell is None:
            await self.over.wait()
            return
        slot = OneShot()
        self._waits[slot] = cell
        try:
            self._look_around()
            if self.over.is_set():
                slot.succeed(None)
            await slot.wait()
        finally:
            del self._waits[slot]

    @contextmanager
    def read_by(self, cell: Cell, events: EventStream) -> Generator[None]:
        """While the handler of `cell` has `events` of this run open: it waits for none that cannot come.

        Raises:
            AskCycle: so it is already.
        """
        self.refuse_ring(cell)
        events.refuse_wait = partial(self.refuse_ring, cell)
        self._readers[events] = cell
        try:
            yield
        finally:
            del self._readers[events]
            events.refuse_wait = None

    def refuse_ring(self, cell: Cell) -> None:
        """Raise ``AskCycle`` if the handler of `cell`, which waits for this run, does so for ever."""
        stuck = resolve(self)
        if cell in stuck:
            raise no_end(ring(cell, self, stuck))

    def _look_around(self) -> None:
        """What could have gone on of itself has ended: if anybody waits for this run, see whether what is left still can."""
        if not self._awaited and (self.turns is None or not self.turns.are_awaited):
            return
        stuck = resolve(self)
        for slot, cell in self._waits.items() if stuck else ():
            if cell in stuck:
                slot.fail(no_end(ring(cell, self, stuck)))
                return
        for events, cell in self._readers.items() if stuck else ():
            if cell in stuck:
                events.wake()  # it may be about to leave, so it sees for itself

    def may_skip(self, place: Place) -> bool:
        """Whether the run need not wait for `place`, because it is held by who waits for the run, or starts it."""
        return place in self._lent or place in self._spared

    def held_at(self, node: str) -> frozenset[Place]:
        """The places that a message of this run at `node` holds, with those of whoever waits for the run."""
        places: list[Place] = [self._places[node], *([] if self.turns is None else [self.turns])]
        return self._lent.union(places)

    def _lend(self, places: Iterable[Place]) -> None:
        """Let the run use `places` besides their holders, its messages that wait there among them."""
        self._lent = self._lent.union(places)
        for envelope in list(self._envelopes.values()):
            place = self._places[envelope.message.delivery.node]
            if place in self._lent and place.mailbox.pull(envelope):
                place.beyond.put_beyond(envelope)

    @property
    def label(self) -> str:
        """How a ring shows it."""
        return f"run {self.id!r}"

    @property
    def needs_all(self) -> bool:
        """One message that can go on may bring the output."""
        return False

    def awaits(self) -> Sequence[Waiter]:
        """The cells at work on its messages, and the places for which others wait, if each of those waits for something."""
        if self.is_ending or self.over.is_set():
            return ()
        if self.turns is not None and self.turns.is_awaited_by(self):
            return (self.turns,)
        found: dict[Waiter, None] = {}
        for envelope in self._envelopes.values():
            holder = envelope.holder
            other: Cell | InstancePool
            if isinstance(holder, Hand):
                other = holder.cell
            else:
                other = self._places[envelope.message.delivery.node]
                if not self._is_behind(envelope, other):
                    return ()
            if other not in found and not other.awaits():
                return ()
            found[other] = None
        return list(found)

    def _is_behind(self, envelope: Envelope, place: InstancePool) -> bool:
        """Whether a message waits for one of the instances of `place`, or for room among those that do."""
        return envelope.holder is place.mailbox or (envelope.holder is None and place not in self._lent)

    def make_way(self) -> bool:
        """If its messages, or the run itself, wait for a place, let them have one beyond the limit."""
        if self.turns is not None and self.turns.let_in(self):
            return True
        ways = ((self._places[each.message.delivery.node], each) for each in self._envelopes.values())
        places = {place for place, each in ways if self._is_behind(each, place)}
        self._lend(places)
        return bool(places)

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
        self._look_around()

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
            await self._wait_for_room(waiting, step.node)

    async def carry_out(self, commands: Commands, deliverer: str | None) -> None:
        """Cancel what nobody wants any more, then deliver; `deliverer` is the node whose instance does so.

        Waits for room only on a forward edge of the deliverer's own. Then no node ever waits for one that comes before it,
        and no graph can stand still on its own mailboxes.
        """
        waiting = self._advance(commands, deliverer)
        if waiting:
            await self._wait_for_room(waiting, deliverer)

    def _advance(self, commands: Commands, deliverer: str | None) -> Sequence[Envelope]:
        """Do what `commands` say as far as nothing has to wait for room; returns what is left to deliver."""
        for path in commands.cancelled:
            self._withdraw(path)
        # All are registered before the first wait, so that the run cannot look finished, nor miss one when it is cancelled.
        now_s, ending = self.now(), self.is_ending
        envelopes = [self._register(delivery, now_s, ending=ending) for delivery in commands.deliveries]
        if self.state.steps > self.max_steps:
            self._end_early(self._too_many_steps())
        for index, envelope in enumerate(envelopes):
            if not envelope.withdrawn and not self._found_room(envelope, deliverer):
                return envelopes[index:]
        return ()

    def _found_room(self, envelope: Envelope, deliverer: str | None) -> bool:
        """Put a message into its node's mailbox, unless its deliverer is to wait for room there."""
        work: Work = envelope.message
        node = work.delivery.node
        place = self._places[node]
        if self._lent and self._found_place(envelope, place):
            return True
        if (
            (self._spared and place in self._spared)
            or work.delivery.back_edge
            or not (deliverer is None or self.state.plan.leads_forward(deliverer, node))
        ):
            place.mailbox.put_beyond(envelope)
        elif place.mailbox.makes_wait:
            return False
        else:
            try:
                place.mailbox.put_nowait(envelope)
            except MailboxFull as error:  # refused: the sender is not at fault, and must not do its work again
                self.gave_up(work, error)
                self.let_go(work)
        return True

    async def _wait_for_room(self, envelopes: Sequence[Envelope], deliverer: str | None) -> None:
        """Deliver in order, waiting where there is no room. Cancelled, the rest is queued whatever the capacity."""
        queue = deque(envelopes)
        try:
            while queue:
                envelope = queue[0]
                if not envelope.withdrawn and not self._found_room(envelope, deliverer):
                    await self._put(envelope)
                queue.popleft()
        finally:
            # The deliverer was cancelled: by a timeout, or because only its own result is wanted no more. What it has already
            # made is part of the run; a second attempt would not make it again.
            for envelope in queue:
                if not envelope.withdrawn:
                    self._places[envelope.message.delivery.node].mailbox.put_beyond(envelope)

    async def _put(self, envelope: Envelope) -> None:
        """Wait for room; a handler that does so waits for the instances which would make it."""
        place, cell = self._places[envelope.message.delivery.node], on_duty()
        try:
            if cell is None:
                self._look_around()
            with nullcontext() if cell is None else waiting(cell, cell.asking, place):
                if not self._found_place(envelope, place):
                    await place.mailbox.put(envelope)
        except AskCycle:  # there will be room only when this handler has ended
            place.mailbox.put_beyond(envelope)

    def _found_place(self, envelope: Envelope, place: InstancePool) -> bool:
        """Put a message beyond those that wait for `place`, if the run may use it besides its holders."""
        if place not in self._lent:
            return False
        place.beyond.put_beyond(envelope)
        return True

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
        if self._ending is not None or self.state.output is not None:
            return
        step, delivery = work.step, work.delivery
        can_fall_back = self.state.plan.nodes[delivery.node].fallback is not None and work.error is None and step.attempt > 0
        if can_fall_back and not is_dead and not self.is_ending:
            self._fall_back(work, error)
            return
        step.status, step.ended_at_s = StepStatus.FAILED, trio.current_time()
        if isinstance(error, RunFailed) and self.state.plan.nodes[delivery.node].kind is Kind.GRAPH:  # its failures are ours
            self._failures += [leaf for leaf in error.exceptions if isinstance(leaf, NodeFailed)]
            self._take_down()
            return
        failure = self.failure_of(work, error)
        self._failures.append(failure)
        if self.is_listened_to:
            self.publish(NodeGaveUp(run_id=self.id, node=delivery.node, path=delivery.path, attempt=failure.attempt, error=error))
        self._take_down()

    def failure_of(self, work: Work, error: BaseException) -> NodeFailed:
        """The error of a node that gives up on a message because of `error`."""
        step, delivery = work.step, work.delivery
        failure = NodeFailed(
            gave_up(delivery.node, max(step.attempt, 1), error, raised_at(error)),
            run_id=self.id,
            node=delivery.node,
            path=delivery.path,
            attempt=max(step.attempt, 1),
            input=work.content,
            trace=tuple(self.trace),
        )
        failure.__cause__ = trim(error)
        for leaf in leaves_of(error):
            if isinstance(leaf, RunError) and not leaf.trace:
                leaf.trace = failure.trace
        return failure

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
        place = self._places[work.delivery.node]
        (place.beyond if place in self._lent else place.mailbox).put_beyond(envelope)

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
            step.ended_at_s = self.now()
            if step.started_at_s is not None and self.is_listened_to:
                self.publish(NodeCancelled(run_id=self.id, node=step.node, path=path, attempt=step.attempt))
            step.status = StepStatus.CANCELLED
        if not self._envelopes:
            self._finish_if_over()
        else:
            self._look_around()

    def context_failed(self, node: str, path: str, error: Exception) -> None:
        """A context manager that `node` asked for failed, while the run went on or when it was closed: the run fails."""
        failure = NodeFailed(
            f"a dependency of node {node!r} failed: {said(error, MOST_SAID)}{raised_at(error)}",
            run_id=self.id,
            node=node,
            path=path,
            trace=tuple(self.trace),
        )
        failure.__cause__ = trim(error)
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
        if self.turns is not None:
            self.turns.let_in(self)  # to find that it need not begin any more
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
        self.ended_at_s = self.now()
        self.carried, self.dependencies = (), None  # a handle may be kept for long, and must not keep these alive
        if self.error is not None:
            self.error.trace = tuple(self.trace)
        try:
            if self.is_listened_to and self.outer is None:
                self.publish(RunFinished(run_id=self.id, status=self.status, output=self.output, error=self.error))
        finally:  # whatever a listener raises, nobody must wait for ever
            self.over.set()
            for slot in self._waits:
                slot.succeed(None)
            self._on_over(self)
            for call in self._when_over:
                call()

    def _too_many_steps(self) -> StepsExceeded:
        return StepsExceeded(
            f"run {self.id!r} of {self.state.plan.name!r} made more than {self.max_steps:g} steps.\n"
            "  Cause: most likely a cycle that returns neither None nor the output.\n"
            "  Fix: let the cycle end, or give more with max_steps=….",
            run_id=self.id,
        )


def work_of(cell: Cell) -> Work | None:
    """The message of a run that `cell`, an instance of a node, has in hand."""
    envelope = cell.hand.envelope if isinstance(cell, ActorCell) else None
    return envelope.message if envelope is not None and isinstance(envelope.message, Work) else None


def places_held_by(cell: Cell) -> frozenset[Place]:
    """The places that the handler of `cell` holds, and those of whoever waits for it: by an ask, or for the run it works for."""
    seen: set[Cell] = set()
    while isinstance(cell, ActorCell) and cell not in seen:
        seen.add(cell)
        work = work_of(cell)
        if work is not None:
            return work.run.held_at(work.delivery.node)
        slot = cell.hand.envelope.slot if cell.hand.envelope is not None else None
        asker = slot.caller if isinstance(slot, Ask) else None
        if asker is None:
            break
        cell = asker
    return frozenset()


def own_result(cell: Cell, run: ActiveRun) -> AskCycle:
    """The error for a node that waits for the end of the run that it is a part of."""
    cycle = [cell.label, run.label, cell.label]
    return AskCycle(
        f"{cell.address!r} waits for the end of run {run.id!r}, of which it is a part: {' -> '.join(cycle)}.\n"
        "  Fix: return what the run is to go on with; or have somebody outside of the run wait for its result.",
        cycle=cycle,
    )
