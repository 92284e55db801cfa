"""A trace as an SVG picture: one row for each node, time from left to right. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from html import escape
from typing import Final

from actors.words import cut
from runtime.traces.steps import Attempt, Trace

NAMES: Final = 150
"""The width of the column of names; all in pixels."""
WIDTH: Final = 900
ROW: Final = 22
HEAD: Final = 54
MOST_BARS: Final = 5_000
MOST_NAME: Final = 20
"""How many characters of a name there is room for."""
_FILLS: Final = {"done": "#2f7d4f", "running": "#2f5fa7", "cancelled": "#8a8f98"}
_FAILED: Final = "#b3372f"
_WAITS: Final = "#d5d9e0"


def draw_trace(trace: Trace) -> str:
    """The picture, ending with a newline. What nodes are called is text in it, and nothing else."""
    rows = list(trace.nodes.items())
    height = HEAD + ROW * max(len(rows), 1) + 12
    size = f'width="{WIDTH}" height="{height}"'
    took = f"{trace.status}, {trace.duration_us / 1e6:.3f} s"
    font = 'font-family="ui-monospace, monospace" font-size="12" fill="#24292f"'
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} viewBox="0 0 {WIDTH} {height}" {font}>',
        f"<title>{_text(f'run {trace.run} of {trace.graph}')}</title>",
        f'<rect {size} fill="white"/>',
        f'<text x="10" y="20">{_text(cut(f"run {trace.run} of {trace.graph}: {took}", 110))}</text>',
        *_axis(trace, height),
    ]
    left = MOST_BARS
    for index, (node, attempts) in enumerate(rows):
        top = HEAD + ROW * index
        lines.append(
            f'<text x="10" y="{top + 14}">{_text(node if len(node) <= MOST_NAME else f"{node[: MOST_NAME - 1]}…")}</text>'
        )
        for attempt in attempts[:left]:
            lines += _bars(trace, attempt, top)
        left = max(0, left - len(attempts))
    return "\n".join([*lines, "</svg>\n"])


def _axis(trace: Trace, height: int) -> Iterator[str]:
    for part in range(5):
        x = _place(trace, trace.began_us + trace.duration_us * part // 4)
        yield f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{HEAD - 8}" y2="{height - 6}" stroke="#e4e7ec"/>'
        anchor = "end" if part == 4 else "start" if part == 0 else "middle"
        seconds = trace.duration_us * part / 4e6
        yield f'<text x="{x:.1f}" y="{HEAD - 12}" font-size="10" fill="#57606a" text-anchor="{anchor}">{seconds:.3g} s</text>'


def _bars(trace: Trace, attempt: Attempt, top: int) -> Iterator[str]:
    begin, end = _place(trace, attempt.began_us), _place(trace, trace.end_of(attempt))
    waits = _place(trace, attempt.delivered_us)
    if begin - waits >= 1:
        yield f'<rect x="{waits:.1f}" y="{top + 8}" width="{begin - waits:.1f}" height="6" fill="{_WAITS}"/>'
    fill = _FILLS.get(attempt.status, _FAILED)
    took = (trace.end_of(attempt) - attempt.began_us) / 1e6
    told = f"{attempt.path}, attempt {attempt.attempt}: {attempt.status}, {took:.3f} s"
    if attempt.error is not None:
        told += f", {attempt.error_type}"
    place = f'x="{begin:.1f}" y="{top + 4}" width="{max(1.0, end - begin):.1f}" height="14" rx="2"'
    yield f'<rect {place} fill="{fill}"><title>{_text(told)}</title></rect>'


def _place(trace: Trace, at_us: int) -> float:
    return NAMES + (WIDTH - NAMES - 12) * (at_us - trace.began_us) / max(trace.duration_us, 1)


def _text(text: str) -> str:
    """Text for a document of XML, which cannot hold every character."""
    return escape("".join(each if each.isprintable() else "\N{REPLACEMENT CHARACTER}" for each in text))
