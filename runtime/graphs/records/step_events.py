"""The events of nearly every run and step, made in a third of the time that their classes take."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final, cast

import trio

from runtime.core.events import Audience
from runtime.core.instruments import Failed, TellUnmade, Unmade
from runtime.graphs.records.run_events import NodeFinished, NodeStarted, RunFinished, RunStarted
from runtime.graphs.records.run_record import RunStatus, Spend, Step


def _open(kind: type[Any]) -> Any:
    """The class `kind` before it is frozen: its fields are set as those of any class, where attrs calls a function for each."""
    plain = {name: getattr(object, name) for name in ("__init__", "__setattr__", "__delattr__")}
    # Of no module: a list of the classes of events must not name it (test_event_json.py).
    return type(f"Open{kind.__name__}", (kind,), {"__slots__": (), "__module__": "", **plain})


_OpenStarted = _open(NodeStarted)
_OpenFinished = _open(NodeFinished)
_OpenRunStarted = _open(RunStarted)
_OpenRunFinished = _open(RunFinished)


def started_event(at_s: float, run_id: str, node: str, path: str, attempt: int, waited_s: float, backoff_s: float) -> NodeStarted:
    """The event of an attempt that begins."""
    made: Any = _OpenStarted()
    made.at_s = at_s
    made.run_id = run_id
    made.node = node
    made.path = path
    made.attempt = attempt
    made.waited_s = waited_s
    made.backoff_s = backoff_s
    made.__class__ = NodeStarted
    return cast("NodeStarted", made)


def finished_event(at_s: float, run_id: str, node: str, path: str, attempt: int, output: object) -> NodeFinished:
    """The event of a node that is done with a message."""
    made: Any = _OpenFinished()
    made.at_s = at_s
    made.run_id = run_id
    made.node = node
    made.path = path
    made.attempt = attempt
    made.output = output
    made.__class__ = NodeFinished
    return cast("NodeFinished", made)


def _telling_started(call: Callable[[Any], object], failed: Failed) -> TellUnmade:
    @trio.lowlevel.enable_ki_protection  # see EventBus._tell_all
    def tell(run_id: str, step: Step, at_s: float, output: object) -> None:
        made = _OpenStarted()  # as started_event does, without one more call
        made.at_s = at_s
        made.run_id = run_id
        made.node = step.node
        made.path = step.path
        made.attempt = step.attempt
        if step.put_off is None:
            made.waited_s = at_s - step.delivered_at_s
            made.backoff_s = 0.0
        else:
            since_s, made.backoff_s = step.put_off
            made.waited_s = at_s - since_s
        made.__class__ = NodeStarted  # frozen from here on
        try:
            call(made)
        except BaseException as error:  # noqa: BLE001 - see EventBus.publish
            failed(error)

    return tell


def _telling_finished(call: Callable[[Any], object], failed: Failed) -> TellUnmade:
    @trio.lowlevel.enable_ki_protection
    def tell(run_id: str, step: Step, at_s: float, output: object) -> None:
        made = _OpenFinished()
        made.at_s = at_s
        made.run_id = run_id
        made.node = step.node
        made.path = step.path
        made.attempt = step.attempt
        made.output = output
        made.__class__ = NodeFinished
        try:
            call(made)
        except BaseException as error:  # noqa: BLE001 - see EventBus.publish
            failed(error)

    return tell


STARTED: Final = Unmade(NodeStarted, _telling_started)
"""An attempt at the message of a step begins."""
FINISHED: Final = Unmade(NodeFinished, _telling_finished)
"""The node of a step is done with its message."""


def tell_finished(audience: Audience, run_id: str, step: Step, at_s: float, output: object) -> None:
    """Publish that the node of `step` is done with its message, if anybody wants to know."""
    tell = audience.unmade[FINISHED]
    if tell is not None:
        tell(run_id, step, at_s, output)


def tell_run_started(audience: Audience, run_id: str, graph: str, message: object, labels: Mapping[str, str]) -> None:
    """Publish that a run was accepted, if anybody wants to know."""
    tell = audience.tellers[RunStarted]
    if tell is None:
        return
    made = _OpenRunStarted()
    made.at_s = trio.current_time()
    made.run_id = run_id
    made.graph = graph
    made.input = message
    made.labels = labels
    made.__class__ = RunStarted
    tell(made)


def tell_run_finished(
    audience: Audience, run_id: str, status: RunStatus, output: object, error: BaseException | None, spend: Spend
) -> None:
    """Publish that a run is over, if anybody wants to know."""
    tell = audience.tellers[RunFinished]
    if tell is None:
        return
    made = _OpenRunFinished()
    made.at_s = trio.current_time()
    made.run_id = run_id
    made.status = status
    made.output = output
    made.error = error
    made.spend = spend
    made.__class__ = RunFinished
    tell(made)
