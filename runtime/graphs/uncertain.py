"""Steps, and calls of tools, that may run once only and were cut short: no one knows whether they took effect.

Somebody finds out and decides: it begins again, or this is what it made.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from itertools import chain
from typing import Any, final

import attrs

from actors.errors import DeclarationError, UsageError
from actors.graphs.node import NodeSpec
from actors.store_errors import NotStorable, RecordTooLarge, StepUncertain
from actors.words import repr_of
from runtime.graphs.deployment import Deployment
from runtime.graphs.records.cut_calls import CutCall, cut_calls
from runtime.graphs.records.inner_runs import inner_runs
from runtime.graphs.records.journaling import FRAME_END
from runtime.graphs.records.resuming import Resumed, replay, step_uncertain
from runtime.graphs.reducer.state import RunState
from runtime.journal.records import Record, RecordKind
from runtime.messages.codec import MessageCodec

Decided = tuple[RecordKind, str, bytes | None]
"""What to write down: a kind, a path and data."""


@final
@attrs.frozen(eq=False)
class Uncertain:
    """One such step."""

    path: str
    frame: str
    """Of the nested run that it is in; empty for the run itself."""
    attempt: int
    spec: NodeSpec
    state: RunState
    """Which was told everything that is recorded."""
    codec: MessageCodec

    @property
    def place(self) -> str:
        """Its path in the journal."""
        return f"{self.frame}{FRAME_END}{self.path}" if self.frame else self.path


@final
@attrs.define(eq=False)
class Open:
    """What of a run is uncertain."""

    codec: MessageCodec
    steps: list[Uncertain] = attrs.field(factory=list[Uncertain])
    calls: list[CutCall] = attrs.field(factory=list[CutCall])
    """Those that go on as soon as the run does."""
    later: list[CutCall] = attrs.field(factory=list[CutCall])
    """Those that it may never come to again: they need not be decided, and may be."""


async def find_uncertain(
    deployment: Deployment,
    resumed: Resumed,
    own: Sequence[Record],
    frames: Mapping[str, Sequence[Record]],
    deployment_of: Callable[[Any], Awaitable[Deployment]],
    now_s: float,
) -> Open:
    """What is uncertain of a run, and of the nested runs that go on with it; `own` are the records of the run itself."""
    found = Open(deployment.codec)
    calls = {(each.step, each.path): each for each in cut_calls(chain(own, *frames.values()))}
    at_work: set[str] = set()
    is_deep = any(each.kind is RecordKind.BEGAN for each in chain(*frames.values())) or any(
        FRAME_END in step for step, _ in calls
    )
    found.steps = await _find_steps(deployment, resumed, own, frames, deployment_of, now_s, "", at_work, is_deep=is_deep)
    for call in sorted(calls.values(), key=lambda call: (call.step, len(call.path), call.path)):  # not in the order of chance
        (found.calls if call.step in at_work and not call.may_go_on else found.later).append(call)
    return found


async def _find_steps(
    deployment: Deployment,
    resumed: Resumed,
    known: Sequence[Record],
    frames: Mapping[str, Sequence[Record]],
    deployment_of: Callable[[Any], Awaitable[Deployment]],
    now_s: float,
    frame: str,
    at_work: set[str],
    *,
    is_deep: bool,
) -> list[Uncertain]:
    """The steps among it, of one frame and, if `is_deep`, of those in it; `at_work` gets the places of all that goes on.

    `known` are the records of the frame.
    """
    state = resumed.state
    found = [
        Uncertain(each.path, frame, resumed.attempt_of(each.path), state.plan.nodes[each.node], state, deployment.codec)
        for each in resumed.uncertain
    ]
    at_work.update(f"{frame}{FRAME_END}{each.path}" if frame else each.path for each in resumed.commands.deliveries)
    if not is_deep:
        return found
    for delivery in resumed.commands.deliveries:
        spec = state.plan.nodes[delivery.node]
        for run in inner_runs(spec, delivery, resumed.attempt_of(delivery.path), frame, known, frames):
            inner, records = await deployment_of(run.graph), frames[run.frame]
            message = run.message(inner.codec)
            if message is None:
                continue
            told = replay(RunState(inner.routing, state.run_id, run.prefix), message, records, inner.codec, now_s)
            found += await _find_steps(inner, told, records, frames, deployment_of, now_s, run.frame, at_work, is_deep=True)
    return found


def decided(run_id: str, found: Open, decisions: Mapping[str, Any]) -> list[Decided]:
    """What to write down of `decisions`, by path: ``"repeat"``, or what the step or the call has made.

    Raises:
        StepUncertain: one is left without a decision. UsageError: a decision is of none of them, or not what the step makes.
    """
    steps, calls = found.steps, [*found.calls, *found.later]
    paths = list(dict.fromkeys([*(step.path for step in steps), *(call.path for call in calls)]))
    unknown = [path for path in decisions if path not in paths]
    if unknown:
        known = ", ".join(map(repr, paths)) or "none"
        raise UsageError(
            f"resume({run_id!r}, uncertain={{{unknown[0]!r}: …}}): nothing of that path is uncertain; what is: {known}.\n"
            "  Fix: give the path of StepUncertain.path."
        )
    open_steps = [step for step in steps if step.path not in decisions and step.spec.on_uncertain is None]
    open_calls = [call for call in found.calls if call.path not in decisions]
    if open_steps or open_calls:
        raise all_uncertain(run_id, open_steps, open_calls)
    written: list[Decided] = [
        _call_decided(run_id, found.codec, call, decisions[call.path]) for call in calls if call.path in decisions
    ]
    for step in steps:
        if step.path not in decisions or not step.state.is_at_work(step.path):  # another decision has made it superfluous
            continue
        value = decisions[step.path]
        if value == "repeat":
            written.append((RecordKind.REPEATED, f"{step.place}#{step.attempt}", None))
            continue
        try:
            data = step.codec.encode(value)
            step.state.finished(step.path, value)
        except (DeclarationError, NotStorable, RecordTooLarge) as error:
            made = " | ".join(kind.__name__ for kind in step.spec.outputs) or "None"
            raise UsageError(
                f"resume({run_id!r}, uncertain={{{step.path!r}: {repr_of(value, 60)}}}): that is not what node "
                f"{step.spec.name!r} returns: {made}.\n  Fix: give what it would have returned, or 'repeat' to begin it again."
            ) from error
        written.append((RecordKind.FINISHED, step.place, data))
    return written


def _call_decided(run_id: str, codec: MessageCodec, call: CutCall, value: Any) -> Decided:
    what = f"resume({run_id!r}, uncertain={{{call.path!r}: {repr_of(value, 60)}}})"
    try:
        kind, path, text = call.decided(value)
    except Exception as error:  # its author's own class, which cannot be shown
        raise UsageError(
            f"{what}: what the tool {call.tool!r} gave has no text.\n"
            "  Fix: give the text that the model is to read, or 'repeat' to call it again."
        ) from error
    return kind, path, None if text is None else codec.encode_value(text, what)


def all_uncertain(run_id: str, steps: Sequence[Uncertain], calls: Sequence[CutCall]) -> StepUncertain:
    """The error of a run that waits for a decision on `steps` and `calls`."""
    names = [f"{step.spec.name!r} ({step.path})" for step in steps]
    names += [f"tool {call.tool!r} ({call.path})" for call in calls]
    first = steps[0].path if steps else calls[0].path
    return step_uncertain(run_id, ", ".join(names), first)
