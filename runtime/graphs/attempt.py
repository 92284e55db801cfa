"""One attempt of a node at one message: its arguments are gathered, its work is done, its items are sent on."""

from __future__ import annotations

import itertools
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Any, final

from actors.errors import RecallError
from actors.graphs.annotations import Many
from actors.graphs.dependencies import Dependency, Injected, Recalled
from actors.graphs.node import Fallback, Kind, NodeSpec
from actors.lm import LM
from actors.words import type_names
from runtime.core.worker_threads import run_in_thread
from runtime.graphs.events import FieldDelta, NodeEmitted
from runtime.graphs.generator import hand_out
from runtime.graphs.injected import NodeLM, NodeRun, Pulse
from runtime.graphs.run import Work
from runtime.graphs.tooling import Equipment
from runtime.lm.dspy.choosing import Picking, fill_one_of

Serve = Callable[[Work, Any], Awaitable[Any]]
"""Has a message worked on by the graph or the actor that stands as a node."""


def is_call(spec: NodeSpec) -> bool:
    """Whether an attempt at a node is nothing but a call of its function with its messages, as it is for most."""
    bare = not (spec.needs or spec.recalls or spec.injected or spec.gathering) and spec.message is None
    return bare and spec.kind is Kind.FUNCTION and spec.fan_out is not Many.STREAM


@final
class Attempt:
    """One delivery of one message."""

    def __init__(
        self,
        spec: NodeSpec,
        lm: LM | None,
        serve: Serve | None,
        message: Work,
        pulse: Pulse,
        predictors: Picking | None = None,
        equipment: Equipment | None = None,
    ) -> None:
        self._spec = spec
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
            return await self._fall_back(self._spec.fallback, self._message.error)
        if self._spec.fan_out is Many.STREAM:
            return await self._stream()
        return await self._call()

    async def _call(self) -> Any:
        spec, arguments = self._spec, await self._arguments()
        if self._serve is not None:
            return await self._serve(self._message, next(iter(self._message.delivery.arguments.values())))
        if spec.kind is Kind.PREDICT:
            assert self._lm is not None and spec.predict is not None, "a predict node is deployed with its LM"
            equipment, message, pulse = self._equipment, self._message, self._pulse
            own = NodeLM(self._lm, message, pulse)
            return await fill_one_of(
                own if equipment is None else equipment.in_front_of(own, message, pulse),
                instruction=spec.instruction,
                inputs=self._shown(arguments),
                outputs=spec.outputs,
                may_be_none=spec.may_end,
                module=spec.predict.module,
                parse_attempts=spec.predict.parse_attempts,
                predictors=self._predictors,
                on_field=self._on_field if spec.predict.stream else None,
                truncated=spec.predict.truncated,
            )
        return await _called(spec.kind, self._bound(arguments))

    def _on_field(self, field: str, text: str, answer: int) -> None:
        self._pulse.beat()
        self._message.tell(FieldDelta, field=field, text=text, answer=answer)

    async def _fall_back(self, fallback: Fallback, error: BaseException) -> Any:
        taken = self._taken(self._message.delivery.arguments)
        arguments: dict[str, Any] = {name: taken[name] for name in fallback.inputs}
        if fallback.error is not None:
            run = self._message.run
            arguments[fallback.error] = run.failure_of(self._message, error) if fallback.wants_failure else error
        await self._supply(arguments, fallback.needs, fallback.injected)
        return await _called(fallback.kind, partial(fallback.function, **arguments))

    async def _stream(self) -> None:
        """Send each item on as it comes; the next one is asked for when the last found room."""
        run, path, indices = self._message.run, self._message.delivery.path, itertools.count()

        async def send_on(item: Any) -> None:
            self._pulse.beat()
            index = next(indices)
            commands = run.state.emitted(path, item, index)
            self._message.tell(NodeEmitted, index=index, output=item)
            await run.carry_out(commands, self._spec.name)

        await hand_out(self._bound(await self._arguments())(), send_on)

    def _bound(self, arguments: dict[str, Any]) -> Callable[[], Any]:
        """The node's function with its arguments; of a class node the call of this message, whose class may override it."""
        if self._spec.message is None:
            return partial(self._spec.function, **arguments)
        own: Any = arguments.pop(self._spec.inputs[0].name)
        return partial(own, **arguments)

    async def _arguments(self) -> dict[str, Any]:
        """The node's parameters by name: its messages, what it recalls and depends on, and what is injected."""
        spec, delivery = self._spec, self._message.delivery
        arguments = {**self._taken(delivery.arguments), **delivery.recalled}
        for entry in spec.recalls:
            if entry.name not in arguments:
                raise self._nothing_to_recall(entry)
        await self._supply(arguments, spec.needs, spec.injected)
        return arguments

    def _taken(self, arguments: Mapping[str, Any]) -> Mapping[str, Any]:
        """`arguments` for this attempt: gathered lists are its own to change, and those that are to be reduced have been."""
        fresh = {
            entry.name: list(arguments[entry.name]) if entry.gather.reduce is None else entry.gather.fold(arguments[entry.name])
            for entry in self._spec.gathering
            if entry.gather is not None and arguments[entry.name] is not None
        }
        return {**arguments, **fresh} if fresh else arguments

    async def _supply(self, arguments: dict[str, Any], needs: Mapping[str, Dependency], injected: Mapping[str, Injected]) -> None:
        message, delivery, run = self._message, self._message.delivery, self._message.run
        if needs:
            assert run.dependencies is not None, "a run of a graph with dependencies keeps them"
            arguments.update(await run.dependencies.resolve(needs, node=self._spec.name, path=delivery.path))
        for parameter, wanted in injected.items():
            if wanted is Injected.LM:
                assert self._lm is not None, "a node that wants an LM is deployed with one"
                arguments[parameter] = NodeLM(self._lm, message, self._pulse)
            elif wanted is Injected.TURNS:
                arguments[parameter] = list(run.turns_before)
            else:
                arguments[parameter] = NodeRun.of(message, self._pulse.beat, delivery.path)

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


async def _called(kind: Kind, call: Callable[[], Any]) -> Any:
    if kind is Kind.THREAD:
        # In a tuple: trio has words of its own for a function that gives it a coroutine, and they name none of the author's.
        (returned,) = await run_in_thread(lambda: (call(),))
        return returned
    return await call()
