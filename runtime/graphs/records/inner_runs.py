"""The runs inside a stored run that go on with it: of graphs that are nodes, and of graphs that an agent calls as tools.

Each has its records in a frame (see ``journaling.py``): ``task#attempt`` for the work of a node, ``task#attempt call``
for a call of a tool, which has a name. What a node works on is known from the records around the frame; what a tool was
called with is the first record in it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, final

import attrs

from actors.graphs.graph import Graph
from actors.graphs.node import Kind, NodeSpec
from actors.graphs.tools import ToolForm
from runtime.graphs.records.cut_calls import path_of
from runtime.graphs.records.journaling import FRAME_END
from runtime.graphs.reducer.branches import Delivery
from runtime.journal.records import Record, RecordKind
from runtime.messages.codec import MessageCodec
from runtime.messages.problems import MessageInvalid

_CALL: Final = re.compile(r"(?P<tool>[^ ]+) (?P<index>\d+) [0-9a-f]{16}")
"""The name of a call; see ``name_of``."""


@final
@attrs.frozen(eq=False)
class InnerRun:
    """One of them."""

    graph: Graph[Any, Any]
    frame: str
    """With the frames before it."""
    prefix: str
    """Where its paths begin."""
    _message: Any
    _given: Record | None

    def message(self, codec: MessageCodec) -> Any:
        """What it began with; `codec` is that of its graph. None: it isn't a message of that any more."""
        if self._given is None:
            return self._message
        try:
            return codec.decode(self._given.data or b"null")
        except MessageInvalid:
            return None


def frame_of(attempt: int, call: str = "") -> str:
    """The end of a frame's name: of the work of an attempt, or of a `call` of a tool in it."""
    return f"{attempt} {call}" if call else str(attempt)


def inner_runs(
    spec: NodeSpec,
    delivery: Delivery,
    attempt: int,
    around: str,
    known: Sequence[Record],
    frames: Mapping[str, Sequence[Record]],
) -> Iterator[InnerRun]:
    """Those in `frames` that an attempt at `delivery` goes on with; its own records are `known`, in the frame `around`."""
    place = f"{around}{FRAME_END}{delivery.path}" if around else delivery.path
    if spec.kind is Kind.GRAPH:
        frame = f"{place}#{frame_of(attempt)}"
        if frame in frames:
            yield InnerRun(spec.embedded, frame, delivery.path, next(iter(delivery.arguments.values())), None)
        return
    graphs = {tool.name: tool.tool.what for tool in spec.tools if tool.tool.form is ToolForm.GRAPH}
    if not graphs:
        return
    before = f"{place}#{frame_of(attempt)}"
    ended = {record.path for record in known if record.kind is RecordKind.ONCE}
    for frame, records in frames.items():
        call = _CALL.fullmatch(frame.removeprefix(f"{before} ")) if frame.startswith(f"{before} ") else None
        if call is None or result_of(frame) in ended or records[0].kind is not RecordKind.GIVEN:
            continue
        if call["tool"] in graphs:
            yield InnerRun(graphs[call["tool"]], frame, path_of(delivery.path, int(call["index"])), None, records[0])


def result_of(frame: str) -> str | None:
    """The path of the record that has what the call of the run in `frame` gave; None if it is the work of a node."""
    place, _, inside = frame.rpartition("#")
    attempt, _, call = inside.partition(" ")
    return f"{place}#{attempt}:{call}:1" if call else None


def graph_in(spec: NodeSpec, frame: str) -> Graph[Any, Any] | None:
    """The graph whose run is in `frame`, a run inside one of the node `spec`; None: the node has no such graph any more."""
    if spec.kind is Kind.GRAPH:
        graph: Graph[Any, Any] = spec.embedded
        return graph
    call = _CALL.fullmatch(frame.partition("#")[2].partition(" ")[2])
    tools = (tool.tool for tool in spec.tools if call is not None and tool.name == call["tool"])
    found: list[Graph[Any, Any]] = [tool.what for tool in tools if tool.form is ToolForm.GRAPH]
    return found[0] if found else None
