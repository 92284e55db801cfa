"""When each node of a run worked and when its request was at the server, as values and as a drawing. Pure."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, final

import attrs

from runtime.cli.terminal import Style
from runtime.testing.models.recording import RequestRecord

BAR_COLUMNS: Final = 40
NAME_COLUMNS: Final = 7
NUMBER_COLUMNS: Final = 7


@final
@attrs.frozen
class Measured:
    """One run as its program saw it, in ``time.monotonic`` seconds."""

    began_s: float
    ended_s: float
    nodes: Mapping[str, tuple[float, float]]
    """Start and end of each node, by its name."""
    output: str
    """What came out."""


@final
@attrs.frozen
class Span:
    """One node of one run; seconds since the run began."""

    name: str
    started_s: float
    arrived_s: float | None
    """When its request had arrived at the server; None when no one looked there."""
    replied_s: float | None
    """When the server had handed over the reply."""
    ended_s: float

    @property
    def call_s(self) -> float:
        """How long its request was at the server; the node's whole time when no one looked there."""
        if self.arrived_s is None or self.replied_s is None:
            return self.ended_s - self.started_s
        return self.replied_s - self.arrived_s


@final
@attrs.frozen
class Timeline:
    """One run of all nodes."""

    spans: tuple[Span, ...]
    makespan_s: float
    """From the beginning of the run to its output."""

    @property
    def longest_call_s(self) -> float:
        """The longest single call."""
        return max(span.call_s for span in self.spans)

    @property
    def ratio(self) -> float:
        """Makespan over longest single call: 1 is the best there is."""
        return self.makespan_s / self.longest_call_s

    @property
    def most_in_flight(self) -> int:
        """The most requests that were at the server at the same time; of nodes at work where the server was not observed."""
        edges: list[tuple[float, int]] = []
        for span in self.spans:
            begin = span.started_s if span.arrived_s is None else span.arrived_s
            end = span.ended_s if span.replied_s is None else span.replied_s
            edges += [(begin, 1), (end, -1)]
        return max(itertools.accumulate(step for _, step in sorted(edges)), default=0)

    def to_json(self) -> dict[str, Any]:
        """A JSON object with the measured times and what follows from them."""
        return {
            "makespan_s": self.makespan_s,
            "longest_call_s": self.longest_call_s,
            "ratio": self.ratio,
            "most_in_flight": self.most_in_flight,
            "nodes": [attrs.asdict(span) for span in self.spans],
        }


def join(measured: Measured, requests: Iterable[RequestRecord] = ()) -> Timeline:
    """`measured` together with what the server saw; a node's request is the one for the model of its name."""
    began_s = measured.began_s
    seen = {request.model: request for request in requests}

    def span(name: str, started_s: float, ended_s: float) -> Span:
        request = seen.get(name)
        if request is None or request.ended_s is None:
            return Span(name, started_s - began_s, None, None, ended_s - began_s)
        return Span(name, started_s - began_s, request.arrived_s - began_s, request.ended_s - began_s, ended_s - began_s)

    return Timeline(tuple(span(name, *times) for name, times in measured.nodes.items()), measured.ended_s - began_s)


def draw(timeline: Timeline, *, scale_s: float, style: Style, names: int = NAME_COLUMNS) -> list[str]:
    """The lines of the drawing: an axis, and for each node a bar and its four times. No line is longer than 80 columns.

    `scale_s` is how much time the axis spans, so several drawings can be compared; a longer run stretches it. `names` is how many
    columns the names have, up to 10.
    """
    scale_s = max(scale_s, timeline.makespan_s, *(span.ended_s for span in timeline.spans))
    titles = "".join(title.rjust(NUMBER_COLUMNS) for title in ("start", "arrive", "reply", "end"))
    lines = [style.dim(f"{'':{names + 2}}{axis(scale_s)}{titles}")]
    for span in timeline.spans:
        times = (span.started_s, span.arrived_s, span.replied_s, span.ended_s)
        numbers = "".join(_number(time).rjust(NUMBER_COLUMNS) for time in times)
        lines.append(f"  {span.name[:names]:{names}}{_bar(span, scale_s, style)}{style.dim(numbers)}")
    return lines


def axis(scale_s: float) -> str:
    """Round seconds at their places, ``BAR_COLUMNS`` wide."""
    step = tick_step(scale_s)
    cells = [" "] * BAR_COLUMNS
    for index in itertools.count():
        place = _column(index * step, scale_s)
        label = f"{index * step:g}" if index else "0 s"
        if index * step > scale_s or place + len(label) > BAR_COLUMNS:
            break
        cells[place : place + len(label)] = label
    return "".join(cells)


def tick_step(scale_s: float) -> float:
    """The smallest of 1, 2, 5, 10, … times a power of ten that makes at most five steps.

    >>> tick_step(3.3), tick_step(0.33), tick_step(12)
    (1.0, 0.1, 5.0)
    """
    least = scale_s / 5
    power = 10.0 ** math.floor(math.log10(least))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= least * 0.999)
    return float(f"{step:.6g}")


def _column(time_s: float, scale_s: float) -> int:
    return min(max(round(time_s / scale_s * (BAR_COLUMNS - 1)), 0), BAR_COLUMNS - 1)


def _bar(span: Span, scale_s: float, style: Style) -> str:
    opening, thin, thick, closing = "├─━┤" if style.unicode else "|-=|"
    begin, end = _column(span.started_s, scale_s), _column(span.ended_s, scale_s)
    cells = [" "] * BAR_COLUMNS
    cells[begin : end + 1] = thin * (end + 1 - begin)
    if span.arrived_s is not None and span.replied_s is not None:
        first, last = _column(span.arrived_s, scale_s), _column(span.replied_s, scale_s)
        cells[first : last + 1] = thick * (last + 1 - first)
    cells[begin], cells[end] = opening, closing
    return "".join(_painted(style, cell, tuple(run), thick) for cell, run in itertools.groupby(cells))


def _painted(style: Style, cell: str, run: Sequence[str], thick: str) -> str:
    text = "".join(run)
    if cell == " ":
        return text
    return style.accent(text) if cell == thick else style.dim(text)


def _number(time_s: float | None) -> str:
    return "-" if time_s is None else f"{max(time_s, 0):.3f}"
