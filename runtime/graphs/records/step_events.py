"""The events of nearly every run and step, made in a third of the time that their classes take."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import trio

from runtime.core.events import Audience
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


def tell_started(audience: Audience, run_id: str, step: Step, at_s: float) -> None:
    """Publish that an attempt at the message of `step` begins, if anybody wants to know."""
    tell = audience.tellers[NodeStarted]
    if tell is None:
        return
    made = _OpenStarted()
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
    tell(made)


def tell_finished(audience: Audience, run_id: str, step: Step, at_s: float, output: object) -> None:
    """Publish that the node of `step` is done with its message, if anybody wants to know."""
    tell = audience.tellers[NodeFinished]
    if tell is None:
        return
    made = _OpenFinished()
    made.at_s = at_s
    made.run_id = run_id
    made.node = step.node
    made.path = step.path
    made.attempt = step.attempt
    made.output = output
    made.__class__ = NodeFinished
    tell(made)


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
