"""Steps that may run once only and were cut short: no one knows whether they took effect, until somebody decides it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, final

import attrs

from actors.errors import DeclarationError, UsageError
from actors.graphs.node import Kind, NodeSpec
from actors.store_errors import NotStorable, RecordTooLarge, StepUncertain
from actors.words import repr_of
from runtime.graphs.deployment import Deployment
from runtime.graphs.journaling import FRAME_END
from runtime.graphs.reducer.state import RunState
from runtime.graphs.resuming import Resumed, replay, step_uncertain
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


async def find_uncertain(
    deployment: Deployment,
    resumed: Resumed,
    frames: Mapping[str, Sequence[Record]],
    deployment_of: Callable[[Any], Awaitable[Deployment]],
    now_s: float,
    frame: str = "",
) -> list[Uncertain]:
    """Every such step of a run, and of the nested runs that go on with it."""
    state = resumed.state
    found = [
        Uncertain(each.path, frame, resumed.attempt_of(each.path), state.plan.nodes[each.node], state, deployment.codec)
        for each in resumed.uncertain
    ]
    if not any(record.kind is RecordKind.BEGAN for records in frames.values() for record in records):
        return found
    for delivery in resumed.commands.deliveries:
        spec = state.plan.nodes[delivery.node]
        inside = f"{delivery.path}#{resumed.attempt_of(delivery.path)}"
        inner_frame = f"{frame}{FRAME_END}{inside}" if frame else inside
        if spec.kind is Kind.GRAPH and inner_frame in frames:
            inner = await deployment_of(spec.embedded)
            begun = RunState(inner.routing, state.run_id, delivery.path)
            message = next(iter(delivery.arguments.values()))
            told = replay(begun, message, frames[inner_frame], inner.codec, now_s)
            found += await find_uncertain(inner, told, frames, deployment_of, now_s, inner_frame)
    return found


def decided(run_id: str, steps: Sequence[Uncertain], decisions: Mapping[str, Any]) -> list[Decided]:
    """What to write down of `decisions`, by path: ``"repeat"``, or what the step has made.

    Raises:
        StepUncertain: a step is left without a decision. UsageError: a decision is of no such step, or not what the step makes.
    """
    unknown = [path for path in decisions if path not in {step.path for step in steps}]
    if unknown:
        known = ", ".join(repr(step.path) for step in steps) or "none"
        raise UsageError(
            f"resume({run_id!r}, uncertain={{{unknown[0]!r}: …}}): no step of that path is uncertain; those that are: {known}.\n"
            "  Fix: give the path of StepUncertain.path."
        )
    open_steps = [step for step in steps if step.path not in decisions and step.spec.on_uncertain is None]
    if open_steps:
        raise all_uncertain(run_id, open_steps)
    written: list[Decided] = []
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


def all_uncertain(run_id: str, steps: Sequence[Uncertain]) -> StepUncertain:
    """The error of a run that waits for a decision on `steps`."""
    return step_uncertain(run_id, ", ".join(f"{step.spec.name!r} ({step.path})" for step in steps), steps[0].path)
