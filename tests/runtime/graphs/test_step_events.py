"""The events of nearly every step are what their classes make."""

from __future__ import annotations

import gc
import pickle
from typing import Any

import attrs
import pytest

from runtime.core.events import EventBus
from runtime.graphs.records.run_events import NodeFinished, NodeStarted
from runtime.graphs.records.run_record import Step, StepStatus
from runtime.graphs.records.step_events import STARTED, tell_finished

AT: dict[str, Any] = {"at_s": 5.0, "run_id": "r", "node": "n", "path": "g/n/0", "attempt": 2}


def tell_started(bus: EventBus, run_id: str, step: Step, at_s: float) -> None:
    tell = bus.unmade[STARTED]
    if tell is not None:
        tell(run_id, step, at_s, None)


def told() -> list[Any]:
    bus, heard = EventBus(), list[Any]()
    bus.add_sink(heard.append)
    step = Step("n", "g/n/0", 1.0, attempt=2)
    tell_started(bus, "r", step, 5.0)
    step.wait_again(StepStatus.RETRYING, 2.0)
    step.hold_back(0.5)
    tell_started(bus, "r", step, 5.0)
    tell_finished(bus, "r", step, 5.0, "made")
    return heard


def test_they_equal_those_that_their_classes_make():
    expected = [
        NodeStarted(**AT, waited_s=4.0, backoff_s=0.0),
        NodeStarted(**AT, waited_s=3.0, backoff_s=0.5),
        NodeFinished(**AT, output="made"),
    ]

    assert told() == expected
    assert [type(event) for event in told()] == [NodeStarted, NodeStarted, NodeFinished]
    assert list(map(repr, told())) == list(map(repr, expected))
    assert pickle.loads(pickle.dumps(told())) == expected


def test_they_are_frozen():
    for event in told():
        with pytest.raises(attrs.exceptions.FrozenInstanceError):
            event.node = "another"
        with pytest.raises(attrs.exceptions.FrozenInstanceError):
            del event.node


def test_nothing_is_made_that_nobody_wants():
    bus, heard = EventBus(), list[Any]()
    bus.add_sink(heard.append, (NodeFinished,))
    step = Step("n", "g/n/0", 1.0)

    tell_started(bus, "r", step, 5.0)
    tell_finished(bus, "r", step, 5.0, None)

    assert [type(event) for event in heard] == [NodeFinished]
    assert not bus.wants(NodeStarted)


def test_a_stream_that_was_left_without_a_word_is_listened_for_no_longer():
    """Else each step would go on to make its events for nobody."""
    bus = EventBus()
    stream = bus.subscribe()
    assert bus.wants(NodeStarted)
    assert bus.unmade[STARTED] is not None

    del stream
    gc.collect()

    assert not bus.listening
    assert bus.unmade[STARTED] is None
