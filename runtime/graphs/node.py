"""The actor of one node: takes a message of some run, does the node's work on it, and sends the results on."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, final

import attrs
import trio

from actors.actor import Actor
from actors.annotations import Many
from actors.backoff import is_worth_another_attempt
from actors.errors import LMError, NodeTimedOut
from actors.lm import LM, ChatMessage, Completion
from actors.node import Injected, Kind, NodeSpec
from runtime.graphs.events import LMCalled, NodeEmitted, NodeFinished, NodeRetrying, NodeStarted
from runtime.graphs.run import Spend, Work
from runtime.lm.dspy_bridge import fill, run_signature


CLOSE_GENERATOR_S = 5.0
"""How long the clean-up of an async generator node may take once it is cancelled."""


@final
@attrs.frozen
class NodeRun:
    """The ``Run`` that a node receives; see ``actors.Run``."""

    id: str
    graph: str
    node: str
    path: str
    attempt: int


@final
class NodeLM:
    """The language model as one message at one node sees it: what it uses is booked on the run."""

    def __init__(self, lm: LM, work: Work) -> None:
        self._lm = lm
        self._work = work

    @property
    def model(self) -> str:
        """The model's name."""
        return self._lm.model

    async def chat(self, messages: Sequence[ChatMessage], /, **options: Any) -> Completion:
        """See ``actors.LM.chat``."""
        started_s = trio.current_time()
        completion = await self._lm.chat(messages, **options)
        self._book(completion, trio.current_time() - started_s)
        return completion

    async def predict(self, signature: Any, /, **inputs: Any) -> Any:
        """See ``actors.LM.predict``."""
        return await run_signature(self, signature, inputs)

    def _book(self, completion: Completion, duration_s: float) -> None:
        run, usage = self._work.run, completion.usage
        run.spend = Spend(
            calls=run.spend.calls + 1,
            requests=run.spend.requests + completion.attempts,
            prompt_tokens=run.spend.prompt_tokens + usage.prompt_tokens,
            completion_tokens=run.spend.completion_tokens + usage.completion_tokens,
            cost_usd=run.spend.cost_usd + (usage.cost_usd or 0.0),
        )
        if run.is_listened_to:
            run.publish(
                LMCalled(
                    run_id=run.id,
                    node=self._work.step.node,
                    path=self._work.step.path,
                    attempt=self._work.step.attempt,
                    model=completion.model,
                    prompt_tokens=usage.prompt_tokens,
                    completion_tokens=usage.completion_tokens,
                    cost_usd=usage.cost_usd,
                    requests=completion.attempts,
                    duration_s=duration_s,
                )
            )


@final
class NodeActor(Actor):
    """One instance of a node. It holds no state between messages, so its restart costs nothing but the delay."""

    def __init__(self, spec: NodeSpec, lm: LM | None) -> None:
        self._spec = spec
        self._lm = lm

    async def receive(self, message: Work) -> None:
        """Work on one message and deliver what comes of it.

        An exception of the node's own code passes: it crashes this instance, and the message is delivered again within the
        node's ``Redelivery``. An LM call that its client has given up on is no crash: nothing is wrong with the instance.
        """
        step = message.step
        step.attempt += 1
        step.status = "running"
        step.started_at_s = trio.current_time()
        self._tell(message, NodeStarted)
        try:
            await self._work(message)
        except LMError as error:
            if is_worth_another_attempt(error):
                self._note_retry(message, error)
                raise
            message.run.gave_up(message, error)
        except Exception as error:
            self._note_retry(message, error)
            raise

    async def _work(self, message: Work) -> None:
        timeout_s = self._spec.options.timeout_s
        if timeout_s is None:
            output = await self._attempt(message)
        else:
            with trio.move_on_after(timeout_s) as limit:
                output = await self._attempt(message)
            if limit.cancelled_caught:  # only now has the attempt really ended
                raise self._timed_out(message, timeout_s)
        commands = message.run.state.finished(message.delivery.path, output)
        step = message.step
        step.status, step.ended_at_s = "done", trio.current_time()
        self._tell(message, NodeFinished, output=output)
        await message.run.carry_out(commands)

    def _timed_out(self, message: Work, timeout_s: float) -> NodeTimedOut:
        return NodeTimedOut(
            f"node {self._spec.name!r} did not finish within timeout_s={timeout_s:g}.\n"
            f"  Mend: give it more time, or find what it waits for: {self._spec.location}.",
            run_id=message.run.id,
        )

    async def _attempt(self, message: Work) -> Any:
        if self._spec.fan_out is Many.STREAM:
            return await self._stream(message)
        return await self._call(message)

    async def _call(self, message: Work) -> Any:
        spec = self._spec
        if spec.kind is Kind.PREDICT:
            assert self._lm is not None and spec.predict is not None, "a predict node is deployed with its LM"
            return await fill(
                NodeLM(self._lm, message),
                instruction=spec.instruction,
                inputs=message.delivery.arguments,
                output=spec.outputs[0],
                module=spec.predict.module,
                parse_attempts=spec.predict.parse_attempts,
            )
        arguments = self._arguments(message)
        if spec.kind is Kind.THREAD:
            return await trio.to_thread.run_sync(partial(spec.function, **arguments))
        return await spec.function(**arguments)

    async def _stream(self, message: Work) -> None:
        """Send each item on as it comes; the next one is asked for when the last found room."""
        run, path = message.run, message.delivery.path
        items = self._spec.function(**self._arguments(message))
        try:
            index = 0
            async for item in items:
                commands = run.state.emitted(path, item, index)
                self._tell(message, NodeEmitted, index=index, output=item)
                index += 1
                await run.carry_out(commands)
        finally:
            if inspect.isasyncgen(items):
                with trio.CancelScope(shield=True, deadline=trio.current_time() + CLOSE_GENERATOR_S):
                    await items.aclose()

    def _arguments(self, message: Work) -> Mapping[str, Any]:
        """The node's parameters by name: its messages, and what is injected."""
        delivery, arguments = message.delivery, dict(message.delivery.arguments)
        for parameter, wanted in self._spec.injected.items():
            if wanted is Injected.LM:
                assert self._lm is not None, "a node that wants an LM is deployed with one"
                arguments[parameter] = NodeLM(self._lm, message)
            else:
                graph = message.run.state.plan.name
                arguments[parameter] = NodeRun(message.run.id, graph, delivery.node, delivery.path, message.step.attempt)
        return arguments

    def _note_retry(self, message: Work, error: Exception) -> None:
        if self._spec.options.redelivery.wants(error, message.step.attempt):
            message.step.status = "retrying"
            self._tell(message, NodeRetrying, error=error)

    @staticmethod
    def _tell(message: Work, kind: type[Any], **more: Any) -> None:
        run, step = message.run, message.step
        if run.is_listened_to:
            run.publish(kind(run_id=run.id, node=step.node, path=step.path, attempt=step.attempt, **more))
