"""The delivery of a message to a node: the actor of the node takes it, makes one attempt at it, and sends the results on."""

from __future__ import annotations

import contextvars
import itertools
import math
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Any, final

import trio

from actors.actor import Actor
from actors.errors import LMError, NodeTimedOut, RecallError, RunError
from actors.graphs.annotations import Many
from actors.graphs.dependencies import Dependency, Injected, Recalled
from actors.graphs.effects import Effect
from actors.graphs.node import Fallback, Kind, NodeSpec
from actors.groups import leaves_of
from actors.lm import LM
from actors.restarts import is_worth_another_attempt
from actors.words import INTERRUPTS, said, type_names
from runtime.core.foreign_errors import failure_in
from runtime.core.worker_threads import run_in_thread
from runtime.graphs.nodes.away import Elsewhere
from runtime.graphs.nodes.generator import hand_out
from runtime.graphs.nodes.injected import NodeLM, NodeRun
from runtime.graphs.nodes.tooling import Equipment
from runtime.graphs.records.carried import take_on
from runtime.graphs.records.journaling import Journal
from runtime.graphs.records.recorded_errors import MOST_SAID
from runtime.graphs.records.resuming import step_uncertain
from runtime.graphs.records.run_events import FieldDelta, NodeRetrying
from runtime.graphs.records.run_record import StepStatus
from runtime.graphs.records.step_events import STARTED
from runtime.graphs.runs.pulse import Pulse
from runtime.graphs.runs.run import ActiveDelivery
from runtime.graphs.runs.slowness import telling_when_slow
from runtime.journal.records import RecordKind
from runtime.lm.dspy.choosing import Picking, fill_one_of


@final
class NodeActor(Actor):
    """One instance of a node. It holds no state between messages, so its restart costs nothing but the delay."""

    def __init__(
        self,
        spec: NodeSpec,
        lm: LM | None,
        serve: Serve | None = None,
        predictors: Picking | None = None,
        equipment: Equipment | None = None,
        away: Elsewhere | None = None,
        once: bool = False,
    ) -> None:
        """With `away`, the function is called by that; with `once`, it ends after one message."""
        self._spec = spec
        self._away = away
        self._predictors = predictors
        self._equipment = equipment
        self._lm = lm
        self._serve = serve
        self._once = once
        self._is_bounded = spec.options.timeout_s is not None or spec.options.idle_timeout_s is not None
        self._is_call = is_call(spec) and not self._is_bounded and away is None
        self._slate: contextvars.Context | None = None
        """The context variables of this instance, before any node's code has run in it."""

    async def receive(self, message: ActiveDelivery) -> None:
        """Work on one message and deliver what comes of it.

        An exception of the node's own code passes: it crashes this instance, and the message is delivered again within the
        node's ``Redelivery``. What nothing is gained by trying again, and what isn't a fault of this instance, isn't a crash: a
        language-model call that its client has given up on, a nested run that has failed, a fallback that fails.
        """
        run, step = message.run, message.step
        step.attempt += message.error is None
        step.status = StepStatus.RUNNING
        step.started_at_s = run.now()  # before the first wait: from here on the message counts as taken
        if self._slate is None:
            self._slate = contextvars.copy_context()
        elif not _is_same(self._slate):
            await self._wipe(self._slate)
        # Set one by one, since another context for this task would cost a checkpoint; see test_b7_*.
        tokens = take_on(run.carried) if run.carried else ()
        if run.audience.listening:  # after these, so what a tracer sets now is what the node's code finds: test_tracing.py
            tell = run.audience.unmade[STARTED]
            if tell is not None:
                tell(run.state.run_id, step, step.started_at_s, None)
        try:
            if run.journal is not None:
                await run.journal.log.confirm()
            if run.journal is not None and run.journal.rehearsal is not None:
                place, number, perform = run.journal.whole(step.path), step.attempt, partial(self._attempt, message)
                output = await run.journal.rehearsal.attempt(place, number, self._spec, perform)
            elif self._is_call and message.error is None:
                output = await self._spec.function(**message.delivery.arguments)
            else:
                output = await self._attempt(message)
            if not run.passed_on(message, output) and not run.is_withdrawn(message):
                await run.finished(message, output)
        except BaseException as error:
            failure = failure_in(error)
            if failure is None or not self._is_settled(message, failure):
                raise
        finally:
            for token in tokens:
                token.var.reset(token)
            if self._once:
                self.context.stop()

    @staticmethod
    async def _wipe(slate: contextvars.Context) -> None:
        """Forget what the code of an earlier message, which may be of another run, has set in the context of this task."""
        trio.lowlevel.current_task().context = slate.copy()
        await trio.lowlevel.checkpoint()  # trio takes up a task's context with each of its steps

    def _is_settled(self, message: ActiveDelivery, error: BaseException) -> bool:
        """Tell the run of a failure; whether that is all, and the instance goes on."""
        if message.run.is_withdrawn(message):
            message.run.failed_too(message, error)
            return _is_spent(error)
        if message.error is not None or _is_spent(error):
            message.run.gave_up(message, error)
            return True
        if self._spec.options.redelivery.wants(error, message.step.attempt):
            if self._spec.fan_out is Many.STREAM and not self._spec.options.repeatable:
                broken = message.run.take_back(message, error)
                if broken is not None:
                    message.run.gave_up(message, broken)
                    return True
            if message.run.journal is not None:
                message.run.journal.failed(message.step.path, message.step.attempt, error)
            message.step.wait_again(StepStatus.RETRYING, message.run.now())
            message.tell(NodeRetrying, error=error)
        return False

    async def _attempt(self, message: ActiveDelivery) -> Any:
        timeout_s, idle_s = self._spec.options.timeout_s, self._spec.options.idle_timeout_s
        pulse = Pulse(math.inf if idle_s is None else idle_s)
        attempt = DeliveryAttempt(
            self._spec, self._lm, self._serve, message, pulse, self._predictors, self._equipment, self._away
        )
        if not self._is_bounded:
            return await attempt.perform()
        output, is_done, message.pulse = None, False, pulse
        limit_s = math.inf if timeout_s is None else message.run.limit_s(message.step.path, message.step.attempt, timeout_s)
        with trio.move_on_after(limit_s) as limit, pulse.scope:
            pulse.limit = limit
            with telling_when_slow(message, [limit, pulse.scope]):
                output = await attempt.perform()
                is_done = True
        # Only now has the attempt really ended. One that let no cancellation through was too late all the same.
        is_late = limit.cancel_called or pulse.scope.cancel_called
        if is_late and not (is_done and self._spec.options.late == "take") and not message.run.is_withdrawn(message):
            raise self._timed_out(message, is_idle=not limit.cancel_called, is_done=is_done)
        return output

    def _timed_out(self, message: ActiveDelivery, *, is_idle: bool, is_done: bool) -> NodeTimedOut:
        options = self._spec.options
        if is_idle:
            text = f"gave no sign of life for idle_timeout_s={options.idle_timeout_s:g}"
            fix = "call run.heartbeat() while it works"
        else:
            text = f"did not finish within timeout_s={options.timeout_s:g}"
            fix = "give it more time"
        if is_done:
            text += "; it could not be stopped and finished after that, and its result is discarded"
            fix += ", take its late result with late='take'"
        return NodeTimedOut(
            f"node {self._spec.name!r} {text}.\n  Fix: {fix}, or find what it waits for: {self._spec.location}.",
            run_id=message.run.id,
        )


def _is_same(slate: contextvars.Context) -> bool:
    """Whether the context of this task is `slate`; nearly always it is, and then that is one look at two pointers."""
    try:
        return contextvars.copy_context() == slate
    except INTERRUPTS:
        raise
    except BaseException:  # noqa: BLE001 - the values are anybody's, and some cannot be compared
        return False


def _is_spent(error: BaseException) -> bool:
    """Whether `error` is only of language models and nested runs, and none of it is worth another attempt."""
    leaves = list(leaves_of(error))
    return all(isinstance(leaf, LMError | RunError) for leaf in leaves) and not any(map(is_worth_another_attempt, leaves))


Serve = Callable[[ActiveDelivery, Any], Awaitable[Any]]
"""Has a message worked on by the graph or the actor that stands as a node."""


def is_call(spec: NodeSpec) -> bool:
    """Whether an attempt at a node is nothing but a call of its function with its messages, as it is for most."""
    bare = not (spec.needs or spec.recalls or spec.injected or spec.gathering or spec.given) and spec.message is None
    is_bare = bare and spec.options.effect is Effect.REPEAT
    return is_bare and spec.kind is Kind.FUNCTION and spec.fan_out is not Many.STREAM


@final
class DeliveryAttempt:
    """One attempt at one delivery: a message may be delivered again after a failed one."""

    def __init__(
        self,
        spec: NodeSpec,
        lm: LM | None,
        serve: Serve | None,
        message: ActiveDelivery,
        pulse: Pulse,
        predictors: Picking | None = None,
        equipment: Equipment | None = None,
        away: Elsewhere | None = None,
    ) -> None:
        self._spec = spec
        self._away = away
        self._predictors = predictors
        self._equipment = equipment
        self._lm = lm
        self._serve = serve
        self._message = message
        self._pulse = pulse

    async def perform(self) -> Any:
        """What the node returns for the message; None for a stream, whose items have been sent on."""
        if self._message.error is not None:
            assert self._spec.fallback is not None, "only a node with a fallback falls back"
            return await self._stand_in(self._spec.fallback, self._message.error)
        if self._spec.fan_out is Many.STREAM:
            return await self._stream()
        journal = self._message.run.journal
        if self._spec.options.effect is Effect.ONCE and journal is not None:
            return await self._once(journal)
        return await self._call(await self._arguments())

    async def _once(self, journal: Journal) -> Any:
        """What the node returns, whose begin is durable before it; or what its author's function finds out that it has done."""
        message = self._message
        path = message.delivery.path
        bought, place = journal.bought(path), f"{path}#{message.step.attempt}"
        if message.is_uncertain or bought.has_begun:
            found = await self._found_out()
            if found is not None:
                return found
            with message.still():
                await journal.append(RecordKind.REPEATED, place).wait()
            message.is_uncertain = False
        arguments = await self._arguments()
        with message.still():
            await journal.log.confirm()
            bought.has_begun = True
            await journal.append(RecordKind.BEGAN, place).wait()
        try:
            await trio.lowlevel.checkpoint_if_cancelled()
        except trio.Cancelled:
            journal.append(RecordKind.REPEATED, place)  # for certain, nothing has happened
            raise
        return await self._call(arguments)

    async def _found_out(self) -> Any:
        """What the step has made, if it took effect, and None if not; where that cannot be known, the run is parked."""
        spec, message = self._spec, self._message
        run, path = message.run, message.delivery.path
        why = ""
        if spec.on_uncertain is not None:
            try:
                return await self._stand_in(spec.on_uncertain, None)
            except Exception as error:  # noqa: BLE001 - its author's own
                why = f", and {spec.on_uncertain.function.__name__} could not find out: {said(error, MOST_SAID)}"
        parked = step_uncertain(run.id, f"{spec.name!r} ({path})", path, why)
        run.park(parked)
        raise parked

    async def _call(self, arguments: dict[str, Any]) -> Any:
        spec = self._spec
        if self._away is not None:
            return await self._away.call(self._message, self._pulse, arguments, self._lm_of_host())
        if self._serve is not None:
            return await self._serve(self._message, next(iter(self._message.delivery.arguments.values())))
        if spec.kind is Kind.PREDICT:
            assert self._lm is not None and spec.predict is not None, "a predict node is deployed with its LM"
            equipment, message, pulse = self._equipment, self._message, self._pulse
            own, instruction = self._node_lm(self._lm), spec.instruction
            if message.run.journal is not None and message.run.journal.rehearsal is not None:
                place = message.run.journal.whole(message.delivery.path)
                instruction = message.run.journal.rehearsal.instruction(place, spec)
            return await fill_one_of(
                own if equipment is None else equipment.in_front_of(own, message, pulse),
                instruction=instruction,
                inputs=self._shown(arguments),
                outputs=spec.outputs,
                may_be_none=spec.may_end,
                module=spec.predict.module,
                parse_attempts=spec.predict.parse_attempts,
                predictors=self._predictors,
                on_field=self._on_field if spec.predict.stream else None,
                truncated=spec.predict.truncated,
            )
        return await called(spec.kind, bound(spec, arguments))

    def _node_lm(self, lm: LM) -> NodeLM:
        journal = self._message.run.journal
        if journal is not None and journal.rehearsal is not None:
            lm = journal.rehearsal.lm(journal.whole(self._message.delivery.path), self._spec) or lm
        return NodeLM(lm, self._message, self._pulse)

    def _lm_of_host(self) -> NodeLM | None:
        """What answers the calls that a placed node makes of its model: they are booked here."""
        wants = self._lm is not None and Injected.LM in self._spec.injected.values()
        return self._node_lm(self._lm) if wants and self._lm is not None else None

    def _on_field(self, field: str, text: str, answer: int) -> None:
        self._pulse.beat()
        self._message.tell(FieldDelta, field=field, text=text, answer=answer)

    async def _stand_in(self, fallback: Fallback, error: BaseException | None) -> Any:
        messages = taken(self._spec, self._message.delivery.arguments)
        arguments: dict[str, Any] = {name: messages[name] for name in fallback.inputs}
        if fallback.error is not None and error is not None:
            run = self._message.run
            arguments[fallback.error] = run.failure_of(self._message, error) if fallback.wants_failure else error
        await self._supply(arguments, fallback.needs, fallback.injected)
        return await called(fallback.kind, partial(fallback.function, **arguments))

    async def _stream(self) -> None:
        """Send each item on as it comes; the next one is asked for when the last found room."""
        message, run, indices = self._message, self._message.run, itertools.count()

        async def send_on(item: Any) -> None:
            self._pulse.beat()
            index = next(indices)
            if run.journal is not None and run.journal.rehearsal is not None:
                await run.journal.rehearsal.emitted(run.journal.whole(message.delivery.path), index)
            await run.emitted(message, item, index)
            if run.journal is not None:
                self._pulse.beat()  # the wait for the store is not the generator's

        arguments = await self._arguments()
        if self._away is not None:
            await self._away.stream(message, self._pulse, arguments, self._lm_of_host(), send_on)
        else:
            await hand_out(bound(self._spec, arguments)(), send_on)

    async def _arguments(self) -> dict[str, Any]:
        """The node's parameters by name: its messages, what it recalls and depends on, and what is injected.

        A placed node's are only the messages, as they came: the rest is made where its function is called.
        """
        spec, delivery = self._spec, self._message.delivery
        messages = taken(spec, delivery.arguments) if self._away is None else delivery.arguments
        arguments = {**messages, **delivery.recalled}
        for entry in spec.recalls:
            if entry.name not in arguments:
                raise self._nothing_to_recall(entry)
        if self._away is None:
            await self._supply(arguments, spec.needs, spec.injected)
        if spec.given:
            assert self._equipment is not None, "a node that gets tools is deployed with them"
            arguments.update(await self._equipment.handed(self._message, self._pulse))
        return arguments

    async def _supply(self, arguments: dict[str, Any], needs: Mapping[str, Dependency], injected: Mapping[str, Injected]) -> None:
        message, delivery, run = self._message, self._message.delivery, self._message.run
        if needs:
            assert run.dependencies is not None, "a run of a graph with dependencies keeps them"
            arguments.update(await run.dependencies.resolve(needs, node=self._spec.name, path=delivery.path))
        for parameter, wanted in injected.items():
            if wanted is Injected.LM:
                assert self._lm is not None, "a node that wants an LM is deployed with one"
                arguments[parameter] = self._node_lm(self._lm)
            elif wanted is Injected.TURNS:
                arguments[parameter] = list(run.turns_before)
            else:
                arguments[parameter] = NodeRun.of(message, self._pulse, delivery.path)

    def _nothing_to_recall(self, entry: Recalled) -> RecallError:
        kinds = type_names(entry.types)
        return RecallError(
            f"node {self._spec.name!r} ({self._spec.location}) recalls {kinds} in {entry.name!r}, and none was made on the way "
            f"to {self._message.delivery.path}.\n  Fix: write Annotated[{kinds} | None, Recall()], and expect None.",
            run_id=self._message.run.id,
            node=self._spec.name,
            parameter=entry.name,
        )

    def _shown(self, arguments: Mapping[str, object]) -> Mapping[str, object]:
        """What a language model is shown, by name: a class node's own message under its class's name, not as ``self``."""
        own, message = self._spec.inputs[0].name, self._spec.message
        return {
            message.__name__ if message is not None and name == own else name: value
            for name, value in arguments.items()
            if self._spec.injected.get(name, Injected.TURNS) is Injected.TURNS
        }


def bound(spec: NodeSpec, arguments: dict[str, Any]) -> Callable[[], Any]:
    """The node's function with its arguments; of a class node the call of this message, whose class may override it."""
    if spec.message is None:
        return partial(spec.function, **arguments)
    own: Any = arguments.pop(spec.inputs[0].name)
    return partial(own, **arguments)


def taken(spec: NodeSpec, arguments: Mapping[str, Any]) -> Mapping[str, Any]:
    """`arguments` for one attempt: gathered lists are its own to change, and those that are to be reduced have been."""
    fresh = {
        entry.name: list(arguments[entry.name]) if entry.gather.reduce is None else entry.gather.fold(arguments[entry.name])
        for entry in spec.gathering
        if entry.gather is not None and arguments[entry.name] is not None
    }
    return {**arguments, **fresh} if fresh else arguments


async def called(kind: Kind, call: Callable[[], Any]) -> Any:
    """What a function of an author returns; a plain one works in a thread."""
    if kind is Kind.THREAD:
        # In a tuple: trio's own error for a function that returns a coroutine names nothing of the author's.
        (returned,) = await run_in_thread(lambda: (call(),))
        return returned
    return await call()
