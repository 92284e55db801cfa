"""A second reducer beside each one of a run: it is told the same, through the bytes that a store keeps, and must say the same.

This is what resuming a run rests on: whatever a reducer was told, another one that is told it again is where the first one was.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import attrs
import pytest

from actors.store_errors import StoreError
from runtime.graphs.records.resuming import nothing_has_begun
from runtime.graphs.reducer.branches import Delivery
from runtime.graphs.reducer.deliveries import Commands
from runtime.graphs.reducer.routing import Destination
from runtime.graphs.reducer.state import RunState
from runtime.messages.codec import MessageCodec
from runtime.messages.sameness import is_same

EVENTS = ("start", "emitted", "finished", "stood_in", "ended", "retracted", "signalled")


@attrs.define(eq=False)
class Shadow:
    """The second reducer, and the codec that its messages go through."""

    state: RunState
    codec: MessageCodec
    is_told: bool = False
    """Whether an event is on its way to the first one: what that calls itself is no event."""


@attrs.define(eq=False)
class Shadows:
    """What was seen of all reducers of a test."""

    events: int = 0
    unstorable: list[str] = attrs.field(factory=list[str])
    differences: list[str] = attrs.field(factory=list[str])

    def install(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Give each reducer that is made from now on a shadow."""
        made: Callable[..., None] = RunState.__init__

        def make(state: RunState, routing: Any, run_id: str, prefix: str | None = None) -> None:
            made(state, routing, run_id, prefix)
            other = RunState.__new__(RunState)
            made(other, routing, run_id, prefix)
            vars(state)["shadow"] = Shadow(other, _codec_of(routing))

        monkeypatch.setattr(RunState, "__init__", make)
        for name in EVENTS:
            monkeypatch.setattr(RunState, name, self._shadowed(name, getattr(RunState, name)))
        monkeypatch.setattr(RunState, "followed", self._following(RunState.followed, RunState.finished))

    def _following(self, followed: Callable[..., Delivery | None], finished: Callable[..., Commands]) -> Callable[..., Any]:
        """The event ``finished`` as the engine tells it of most steps: a store keeps it as any other."""

        def told(state: RunState, delivery: Delivery, to: Destination, returned: object) -> Delivery | None:
            shadow: Shadow | None = vars(state).get("shadow")
            following = followed(state, delivery, to, returned)
            if shadow is not None and not shadow.is_told and following is not None:
                self.events += 1
                where = f"{state.run_id} followed {delivery.path}"
                again = finished(shadow.state, *self._stored("finished", (delivery.path, returned), shadow, where))
                differences = _differences(state, Commands((following,)), shadow.state, again)
                self.differences += [f"{where}: {what}" for what in differences]
            return following

        return told

    def _shadowed(self, name: str, event: Callable[..., Commands | None]) -> Callable[..., Commands | None]:
        def told(state: RunState, *args: Any) -> Commands | None:
            shadow: Shadow | None = vars(state).get("shadow")
            if shadow is None or shadow.is_told:
                return event(state, *args)
            shadow.is_told = True
            try:
                commands = event(state, *args)  # if it raises, nothing is recorded, and nothing has changed
            finally:
                shadow.is_told = False
            if commands is not None:  # a stream that could not be taken back leaves no record
                self.events += 1
                where = f"{state.run_id} {name} {args[:1] if name != 'start' else ''}"
                again = event(shadow.state, *self._stored(name, args, shadow, where))
                self.differences += [f"{where}: {what}" for what in _differences(state, commands, shadow.state, again)]
            return commands

        return told

    def _stored(self, name: str, args: tuple[Any, ...], shadow: Shadow, where: str) -> tuple[Any, ...]:
        """The arguments of an event as they come out of a store."""
        if name == "retracted":
            return args[0], nothing_has_begun
        at = 0 if name in ("start", "signalled") else 1
        if name == "ended" or len(args) <= at:
            return args
        try:
            value = shadow.codec.decode(shadow.codec.encode(args[at]))
        except StoreError as error:
            self.unstorable.append(f"{where}: {str(error).splitlines()[0]}")
            return args
        return (*args[:at], value, *args[at + 1 :])


_CODECS: dict[int, tuple[Any, MessageCodec]] = {}


def _codec_of(routing: Any) -> MessageCodec:
    plan = routing.plan
    known = _CODECS.get(id(plan))
    if known is None or known[0] is not plan:
        outputs = [kind for spec in plan.nodes.values() for kind in spec.outputs]
        known = _CODECS[id(plan)] = plan, MessageCodec([*plan.input_types, *plan.output_types, *outputs])
    return known[1]


def _differences(one: RunState, commands: Commands, other: RunState, again: Commands | None) -> list[str]:
    assert again is not None, "a stream that was taken back can be taken back again"
    pairs: Mapping[str, tuple[Any, Any]] = {
        "cancelled": (tuple(commands.cancelled), tuple(again.cancelled)),
        "delivered": (
            [(each.path, each.node, dict(each.arguments), dict(each.recalled)) for each in commands.deliveries],
            [(each.path, each.node, dict(each.arguments), dict(each.recalled)) for each in again.deliveries],
        ),
        "at work": (one.live_paths, other.live_paths),
        "output": (one.output, other.output),
        "at rest": (one.is_at_rest, other.is_at_rest),
        "steps": (one.steps, other.steps),
    }
    return [f"{what}: {a!r} and {b!r}" for what, (a, b) in pairs.items() if is_same(a, b) is not None and a != b]
