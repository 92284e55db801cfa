"""Runs whose events are written down, and read again."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Sequence
from typing import Any

import attrs

from actors import Graph
from runtime import RunFailed, Runtime
from runtime.graphs.records.run_events import RunEvent
from runtime.traces import Encoder, Trace, trace_of


@attrs.frozen
class Question:
    n: int


@attrs.frozen
class Half:
    n: int


@attrs.frozen
class Answer:
    text: str


async def recorded(runtime: Runtime, graph: Graph, message: Any, **options: Any) -> list[dict[str, Any]]:
    """The events of a run, as they are written."""
    events: list[RunEvent] = []
    with runtime.observe(events.append, [RunEvent]):
        with contextlib.suppress(RunFailed):
            await runtime.run(graph, message, **options)
    return told(runtime, events)


def told(runtime: Runtime, events: Sequence[RunEvent]) -> list[dict[str, Any]]:
    encoder = Encoder(runtime.wall_time)
    return [json.loads(encoder.encode(event, seq, events[0].at_s, inside=True)) for seq, event in enumerate(events)]


async def traced(runtime: Runtime, graph: Graph, message: Any, **options: Any) -> Trace:
    return trace_of(await recorded(runtime, graph, message, **options))
