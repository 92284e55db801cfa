"""The tools of a predict node at work: each call is a step of the run, with its own path, deadline and end.

The calls of one round run in one nursery inside the node's attempt. So they are cancelled with it, and none of them is alive
when it has ended.
"""

from __future__ import annotations

import itertools
import json
import secrets
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, final

import attrs
import trio

from actors.actor import ActorRef
from actors.errors import ToolFailed, ToolRefused, ToolServerLost
from actors.graphs.effects import Effect
from actors.graphs.node import NodeSpec
from actors.graphs.toolboxes import ListTools, OfferedTool, Toolbox
from actors.graphs.tools import ToolSpec
from actors.store_errors import RunLost, RunParked, StoreError
from actors.words import said
from runtime.core.foreign_errors import failure_in
from runtime.graphs.nodes.approvals import agreed
from runtime.graphs.nodes.calling import Calling, RunInside, answer_of
from runtime.graphs.nodes.handed_tools import HandedTools
from runtime.graphs.nodes.hearing import Hearing
from runtime.graphs.nodes.injected import NodeLM, attempt_journal
from runtime.graphs.nodes.once import Once
from runtime.graphs.records.cut_calls import begin_of, kept_text, name_of, path_of
from runtime.graphs.records.resuming import step_uncertain
from runtime.graphs.records.run_events import ToolCalled, ToolCallStarted, ToolsChanged
from runtime.graphs.records.run_record import Step, StepStatus
from runtime.graphs.runs.pulse import Pulse
from runtime.graphs.runs.run import ActiveDelivery
from runtime.lm.limits.redaction import redact
from runtime.lm.tools.rounds import Offered, Rounds, ToolRequest, hint_text
from runtime.lm.tools.tool_schemas import result_text


@final
@attrs.frozen(eq=False)
class Equipment:
    """The tools of one deployed node."""

    spec: NodeSpec
    toolboxes: tuple[tuple[Toolbox, ActorRef[Any]], ...]
    """The toolboxes, each with the actor that serves it."""
    run_inside: RunInside
    shown: dict[Toolbox, Mapping[str, OfferedTool]] = attrs.field(factory=dict[Toolbox, Mapping[str, OfferedTool]])
    """What each toolbox has last offered."""

    async def handed(self, message: ActiveDelivery, pulse: Pulse) -> dict[str, HandedTools]:
        """The tools that the node's own code gets, by its parameters, for one attempt at one message."""
        numbers = itertools.count()  # of the calls of all of them: each has its own path
        found: dict[str, HandedTools] = {}
        for parameter, box in self.spec.given.items():
            calls = ToolCalls(self, None, message, pulse, numbers)
            found[parameter] = HandedTools(box, await calls.offer_of(box), calls.perform_one)
        return found

    def in_front_of(self, lm: NodeLM, message: ActiveDelivery, pulse: Pulse) -> Rounds:
        """The node's language model, which may call the tools, for one attempt at one message."""
        predict, run = self.spec.predict, message.run
        assert predict is not None, "only a predict node has tools"
        calls = ToolCalls(self, lm, message, pulse)
        return Rounds(
            lm,
            calls.offer,
            calls.perform,
            max_rounds=predict.max_rounds,
            wrong_rounds=predict.parse_attempts,
            hint=(lambda left: hint_text(left, run.steps_left)) if predict.hints else None,
            hear=calls.hear,
            who=f"node {self.spec.name!r} ({self.spec.location})",
        )


@final
@attrs.frozen(eq=False)
class _Failure:
    """A call that failed."""

    error: BaseException
    told: str
    """What the model reads of it."""


@final
class ToolCalls:
    """The calls of one attempt."""

    def __init__(
        self, equipment: Equipment, lm: NodeLM | None, message: ActiveDelivery, pulse: Pulse, numbers: Iterator[int] | None = None
    ) -> None:
        """Those of the language model `lm`; None: of the node's own code, which are counted by `numbers`."""
        self._equipment = equipment
        self._numbers = numbers
        self._lm = lm
        self._message = message
        self._pulse = pulse
        self._once = None if message.run.journal is None else Once(attempt_journal(message, message.delivery.path), pulse.rest)
        """Of a stored run: keeps what calls gave."""
        self._calling = Calling(equipment.spec, equipment.run_inside, lm, message, pulse)
        self.hear = Hearing(message, self._once, lambda: lm is not None and lm.is_replayed)
        """Takes what was said into the run."""
        self._life = secrets.token_hex(8)
        self._errors: dict[str, BaseException] = {}
        """What calls have raised, by path, before it was written down in words."""

    async def offer(self) -> Sequence[Offered]:
        """The node's own tools, then what its toolboxes have now; of two of one name the first."""
        found: dict[str, Offered] = {tool.name: tool for tool in self._equipment.spec.tools}
        for box, ref in self._equipment.toolboxes:
            offered = await self._offered(box, ref)
            for name, tool in offered.items():
                if name not in found:
                    found[name] = tool
                    self._calling.boxes[name] = box, ref
        return list(found.values())

    async def offer_of(self, box: Toolbox) -> Sequence[OfferedTool]:
        """What one toolbox has now."""
        ref = dict(self._equipment.toolboxes)[box]
        offered = await self._offered(box, ref)
        self._calling.boxes.update(dict.fromkeys(offered, (box, ref)))
        return list(offered.values())

    async def perform_one(self, tool: OfferedTool, arguments: Mapping[str, Any]) -> str:
        """Do a call that the node's own code makes; raises what the call does."""
        assert self._numbers is not None, "code counts its calls"
        request = ToolRequest(next(self._numbers), tool, dict(arguments))
        step = self._step(request)
        self._message.run.trace.append(step)
        try:
            given = await self._ended(request, step)
        finally:
            if step.ended_at_s is None:
                step.status, step.ended_at_s = StepStatus.CANCELLED, self._message.run.now()
        if isinstance(given, _Failure):
            raise given.error
        return given

    async def _offered(self, box: Toolbox, ref: ActorRef[Any]) -> Mapping[str, OfferedTool]:
        """What a toolbox has now; what it had before, if it was lost this moment: a call of that says so."""
        try:
            listed: tuple[OfferedTool, ...] = await answer_of(ref, ListTools())
        except ToolServerLost:
            if box not in self._equipment.shown:
                raise
            return self._equipment.shown[box]
        offered = {tool.name: tool for tool in listed if box.allows(tool.name)}
        self._compare(box, offered)
        return offered

    def _compare(self, box: Toolbox, offered: Mapping[str, OfferedTool]) -> None:
        """Tell when a toolbox offers something else than before."""
        before = self._equipment.shown.get(box)
        self._equipment.shown[box] = offered
        if before is None or before == offered:
            return
        self._message.tell(
            ToolsChanged,
            toolbox=box.name,
            added=tuple(name for name in offered if name not in before),
            removed=tuple(name for name in before if name not in offered),
            changed=tuple(name for name, tool in offered.items() if name in before and before[name] != tool),
        )

    async def perform(self, requests: Sequence[ToolRequest]) -> Sequence[str]:
        """Do the calls of one round at the same time; what each gave, or how it failed, as the model reads it.

        Raises:
            BaseException: what the first of the calls that failed has raised, if failures are the node's.
        """
        steps = [self._step(request) for request in requests]
        self._message.run.trace.extend(steps)  # in the model's order, however the calls end
        results: list[str | _Failure] = [""] * len(requests)

        async def one(at: int) -> None:
            results[at] = result = await self._ended(requests[at], steps[at])
            if isinstance(result, _Failure) and not self._is_told(result.error):
                nursery.cancel_scope.cancel()

        try:
            async with trio.open_nursery() as nursery:
                for at in range(len(requests)):
                    nursery.start_soon(one, at)
        finally:
            for step in steps:
                if step.ended_at_s is None:
                    step.status, step.ended_at_s = StepStatus.CANCELLED, self._message.run.now()
        failed = next((each for each in results if isinstance(each, _Failure) and not self._is_told(each.error)), None)
        if failed is not None:
            raise failed.error
        return [each.told if isinstance(each, _Failure) else each for each in results]

    def _is_told(self, error: BaseException) -> bool:
        """Whether the model hears of a failure, and goes on; what is wrong with the run's own records is none of its business."""
        predict = self._equipment.spec.predict
        is_told = isinstance(error, ToolRefused) or (predict is not None and predict.on_tool_error == "tell")
        return is_told and not isinstance(error, _OF_RECORDS)

    def _step(self, request: ToolRequest) -> Step:
        active = self._message
        path = path_of(active.delivery.path, request.index)
        return Step(active.step.node, path, active.run.now(), attempt=active.step.attempt, tool=request.tool.name)

    async def _ended(self, request: ToolRequest, step: Step) -> str | _Failure:
        """What a call gave; a :class:`_Failure` when it failed. Its step and its event say so."""
        run, error = self._message.run, None
        step.status, step.started_at_s = StepStatus.RUNNING, run.now()
        self._pulse.beat()
        if run.wants(ToolCallStarted):
            run.audience.publish(
                ToolCallStarted(run_id=run.id, node=step.node, path=step.path, attempt=step.attempt, tool=request.tool.name)
            )
        try:
            given: str | _Failure = await self._agreed(request, step)
        except BaseException as raised:
            error = failure_in(raised)
            if error is None:
                raise
            given = _Failure(error, _told(error))
        else:
            error = given.error if isinstance(given, _Failure) else None
        step.status = StepStatus.DONE if error is None else StepStatus.FAILED
        step.ended_at_s = run.now()
        self._pulse.beat()
        if run.wants(ToolCalled):
            run.audience.publish(
                ToolCalled(
                    run_id=run.id,
                    node=step.node,
                    path=step.path,
                    attempt=step.attempt,
                    tool=request.tool.name,
                    duration_s=step.ended_at_s - step.started_at_s,
                    error=error,
                )
            )
        return given

    async def _agreed(self, request: ToolRequest, step: Step) -> str | _Failure:
        """What a call gave, once a person has agreed to it, if that is wanted."""
        if not self._calling.needs_approval(request):
            return await self._kept(request, step.path)
        step.status = StepStatus.ASKED
        allowed = await agreed(self._message, self._pulse, request, step.path)
        step.status = StepStatus.RUNNING
        given = await self._kept(allowed.request, step.path)
        return given if isinstance(given, _Failure) else allowed.told(given)

    async def _kept(self, request: ToolRequest, path: str) -> str | _Failure:
        """What a call gave; of a stored run, what it gave the first time, no matter what has begun again since.

        Raises:
            StepUncertain: its effect must not happen twice, and it had begun when its attempt, or its process, ended; the run is
            parked.
        """
        if self._once is None:
            return result_text(await self._calling.in_time(request, path))
        name = name_of(request)
        active = self._written
        if isinstance(request.tool, ToolSpec) and request.tool.tool.effect is Effect.ONCE:
            begun = await self._once.call(begin_of(name), str, (self._life,))
            active = self._written if begun == self._life else self._uncertain
        kept: tuple[bool, str] = json.loads(await self._once.call(name, active, (request, path)))
        is_error, text = kept
        if not is_error:
            return text
        return _Failure(self._errors.pop(path, ToolFailed(text, tool=request.tool.name)), text)

    async def _written(self, request: ToolRequest, path: str) -> str:
        """What a call gives, as it is written down."""
        try:
            return kept_text(result_text(await self._calling.in_time(request, path)))
        except BaseException as raised:
            error = failure_in(raised)
            if error is None or not self._is_told(error):
                raise
            self._errors[path] = error
            return kept_text(_told(error), is_error=True)

    async def _uncertain(self, request: ToolRequest, path: str) -> str:
        """Have the run wait for somebody who finds out whether the call took effect."""
        run = self._message.run
        parked = step_uncertain(run.id, f"tool {request.tool.name!r} ({path})", path)
        run.park(parked)
        raise parked


def _told(error: BaseException) -> str:
    """A failure in words for a model: the error's own, without what looks like a key, and without advice to the author."""
    words = redact(said(error, _MOST_SAID), ()).partition("\n  Fix: ")[0]
    return f"Error: {words}"


_OF_RECORDS = (StoreError, RunParked, RunLost)
_MOST_SAID = 2_000
"""Characters of an error that a model is told."""
