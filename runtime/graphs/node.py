"""The actor of one node: takes a message of some run, does the node's work on it, and sends the results on."""

from __future__ import annotations

import contextvars
import math
from typing import Any, final

import trio

from actors.actor import Actor
from actors.errors import LMError, NodeTimedOut, RunError
from actors.graphs.annotations import Many
from actors.graphs.node import NodeSpec
from actors.groups import leaves_of
from actors.lm import LM
from actors.restarts import is_worth_another_attempt
from actors.words import INTERRUPTS
from runtime.core.failures import failure_in
from runtime.graphs.attempt import Attempt, Serve, is_call
from runtime.graphs.carried import take_on
from runtime.graphs.events import NodeRetrying, NodeStarted
from runtime.graphs.injected import Pulse
from runtime.graphs.record import StepStatus
from runtime.graphs.run import Work
from runtime.graphs.slowness import telling_when_slow
from runtime.graphs.tooling import Equipment
from runtime.lm.dspy.choosing import Picking


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
        once: bool = False,
    ) -> None:
        """With `once`, it ends after one message."""
        self._spec = spec
        self._predictors = predictors
        self._equipment = equipment
        self._lm = lm
        self._serve = serve
        self._once = once
        self._is_bounded = spec.options.timeout_s is not None or spec.options.idle_timeout_s is not None
        self._is_call = is_call(spec) and not self._is_bounded
        self._slate: contextvars.Context | None = None
        """The context variables of this instance, before any node's code has run in it."""

    async def receive(self, message: Work) -> None:
        """Work on one message and deliver what comes of it.

        An exception of the node's own code passes: it crashes this instance, and the message is delivered again within the
        node's ``Redelivery``. What nothing is gained by trying again, and what is no fault of this instance, is no crash: a
        language-model call that its client has given up on, a nested run that has failed, a fallback that fails.
        """
        run, step = message.run, message.step
        step.attempt += message.error is None
        step.status = StepStatus.RUNNING
        step.started_at_s = run.now()  # before the first wait: from here on the message counts as taken
        if run.is_listened_to:
            message.tell(NodeStarted)
        if self._slate is None:
            self._slate = contextvars.copy_context()
        elif not _is_same(self._slate):
            await self._wipe(self._slate)
        # Set one by one, since another context for this task would cost a checkpoint; see test_b7_*.
        tokens = take_on(run.carried) if run.carried else ()
        try:
            if self._is_call and message.error is None:
                output = await self._spec.function(**message.delivery.arguments)
            else:
                output = await self._attempt(message)
            if not run.is_withdrawn(message):
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

    def _is_settled(self, message: Work, error: BaseException) -> bool:
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
            message.step.status = StepStatus.RETRYING
            message.tell(NodeRetrying, error=error)
        return False

    async def _attempt(self, message: Work) -> Any:
        timeout_s, idle_s = self._spec.options.timeout_s, self._spec.options.idle_timeout_s
        pulse = Pulse(math.inf if idle_s is None else idle_s)
        attempt = Attempt(self._spec, self._lm, self._serve, message, pulse, self._predictors, self._equipment)
        if not self._is_bounded:
            return await attempt.perform()
        output, is_done = None, False
        with trio.move_on_after(math.inf if timeout_s is None else timeout_s) as limit, pulse.scope:
            with telling_when_slow(message, [limit, pulse.scope]):
                output = await attempt.perform()
                is_done = True
        # Only now has the attempt really ended. One that let no cancellation through was too late all the same.
        is_late = limit.cancel_called or pulse.scope.cancel_called
        if is_late and not (is_done and self._spec.options.late == "take") and not message.run.is_withdrawn(message):
            raise self._timed_out(message, is_idle=not limit.cancel_called, is_done=is_done)
        return output

    def _timed_out(self, message: Work, *, is_idle: bool, is_done: bool) -> NodeTimedOut:
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
    except BaseException:  # noqa: BLE001 - the values are anybody's, and of some it cannot be said whether they are equal
        return False


def _is_spent(error: BaseException) -> bool:
    """Whether `error` is only of language models and nested runs, and none of it is worth another attempt."""
    leaves = list(leaves_of(error))
    return all(isinstance(leaf, LMError | RunError) for leaf in leaves) and not any(map(is_worth_another_attempt, leaves))
