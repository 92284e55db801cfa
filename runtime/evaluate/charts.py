"""Small charts as SVG: bars, points, a histogram and a timeline. No script, no font and no colour from elsewhere.

A chart library that draws into one file without a network (Plotly, Altair with its converter) adds megabytes to every report or
to the installation; these four charts are what a report of an evaluation needs.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from html import escape

from runtime.evaluate.results import TimedStep

_UNSHOWN = re.compile(r"[^\t\n\x20-\x7e\xa0-\u200d\u2010-\u2029\u202f-\u2065\u206a-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""What neither XML nor a page can hold, and what changes the direction of a text."""

WIDTH, ROW, LEFT, RIGHT = 560, 24, 160, 76
LABEL_CHARS = 17
"""So many fit on the left even if they are wide."""
BINS = 20
MANY = 500
_DONE = "done"


def plain(text: str) -> str:
    """`text` with control and direction characters shown as escapes."""
    return _UNSHOWN.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def markup(text: str) -> str:
    """`text`, a stranger's, as a page may hold it."""
    return escape(plain(text))


def bars(values: Mapping[str, tuple[float, int]], most: float = 1.0) -> str:
    """A bar for each name: its value, and how many rows it stands for."""
    room = WIDTH - LEFT - RIGHT
    parts: list[str] = []
    for at, (name, (value, count)) in enumerate(values.items()):
        y, width = at * ROW, room * min(1.0, max(0.0, value / most if most else 0.0))
        parts.append(
            f'<text x="{LEFT - 8}" y="{y + 15}" text-anchor="end">{_cut(name)}</text>'
            f'<rect class="bar" x="{LEFT}" y="{y + 4}" width="{width:.1f}" height="{ROW - 8}"/>'
            f'<text x="{LEFT + width + 6:.1f}" y="{y + 15}">{value:.3g} <tspan class="dim">({count})</tspan></text>'
        )
    return _svg(len(values) * ROW, parts, "scores by slice")


def points(values: Sequence[tuple[float, float, str]], up: str) -> str:
    """A point for each row: what it cost in US dollars, what it scored, and its name, which shows when it is pointed at."""
    height, foot, rim = 220, 40, 8
    most_x = max((cost for cost, _, _ in values), default=0.0) or 1.0
    low, high = min(0.0, *(score for _, score, _ in values)), max(score for _, score, _ in values)
    span = (high - low) or 1.0
    parts = [
        f'<line class="axis" x1="{LEFT}" y1="{height - foot}" x2="{WIDTH - 10}" y2="{height - foot}"/>',
        f'<line class="axis" x1="{LEFT}" y1="{rim}" x2="{LEFT}" y2="{height - foot}"/>',
        f'<text x="{LEFT - 8}" y="{rim + 8}" text-anchor="end">{_cut(f"{up} {low + span:.3g}")}</text>',
        f'<text x="{LEFT - 8}" y="{height - foot - 4}" text-anchor="end">{low:.3g}</text>',
        f'<text x="{LEFT}" y="{height - 18}">$0</text>',
        f'<text x="{WIDTH - 10}" y="{height - 18}" text-anchor="end">${dollars(most_x)}</text>',
    ]
    radius = 4 if len(values) <= MANY else 1.5  # else they are one blot
    for x, y, name in values:
        at = LEFT + 8 + (WIDTH - LEFT - 26) * max(0.0, x) / most_x
        place = height - foot - rim - (height - foot - 2 * rim) * (y - low) / span
        parts.append(f'<circle cx="{at:.1f}" cy="{place:.1f}" r="{radius:g}"><title>{markup(name)}</title></circle>')
    return _svg(height, parts, f"{up} against cost")


def dollars(value: float) -> str:
    """An amount with as many digits as it needs, and no power of ten."""
    return f"{value:.2f}" if value >= 1 else f"{value:.{max(2, 1 - math.floor(math.log10(value)))}f}" if value > 0 else "0"


def histogram(values: Sequence[float], unit: str) -> str:
    """How many runs there are in each of 20 equal steps."""
    height, foot = 160, 28
    if not values:
        return ""
    low, high = min(values), max(values)
    step = (high - low) / BINS or 1.0
    counts = [0] * BINS
    for value in values:
        counts[min(BINS - 1, math.floor((value - low) / step))] += 1
    room, most = (WIDTH - LEFT - 20) / BINS, max(counts)
    parts: list[str] = []
    for at, count in enumerate(counts):
        tall = (height - foot - 14) * count / most
        x, y = LEFT + at * room, height - foot - tall
        parts.append(
            f'<rect class="bar" x="{x:.1f}" y="{y:.1f}" width="{room - 2:.1f}" height="{tall:.1f}">'
            f"<title>{count} from {low + at * step:.3g} {unit}</title></rect>"
        )
    parts += [
        f'<text x="{LEFT - 8}" y="20" text-anchor="end">{most} runs</text>',
        f'<text x="{LEFT}" y="{height - 10}">{low:.3g} {unit}</text>',
        f'<text x="{WIDTH - 20}" y="{height - 10}" text-anchor="end">{high:.3g} {unit}</text>',
    ]
    return _svg(height, parts, f"runs by {unit}")


def timeline(steps: Sequence[TimedStep]) -> str:
    """A bar for each step of a run, from its begin to its end."""
    if not steps:
        return ""
    last = max(step.end_s for step in steps) or 1.0
    room = WIDTH - LEFT - RIGHT
    parts: list[str] = []
    for at, step in enumerate(steps):
        y, x = at * ROW, LEFT + room * max(0.0, step.start_s) / last
        width = max(2.0, room * (step.end_s - step.start_s) / last)
        kind = "bar" if step.status == _DONE else "bad"
        parts.append(
            f'<text x="{LEFT - 8}" y="{y + 15}" text-anchor="end">{_cut(step.path.partition("/")[2] or step.path)}</text>'
            f'<rect class="{kind}" x="{x:.1f}" y="{y + 5}" width="{width:.1f}" height="{ROW - 10}"/>'
            f'<text x="{x + width + 6:.1f}" y="{y + 15}" class="dim">{step.end_s - step.start_s:.3g} s</text>'
        )
    return _svg(len(steps) * ROW, parts, "the steps of the run")


def _svg(height: float, parts: Sequence[str], label: str) -> str:
    box = f'viewBox="0 0 {WIDTH} {height:g}" width="{WIDTH}" height="{height:g}"'
    return f'<svg role="img" aria-label="{markup(label)}" {box}>{"".join(parts)}</svg>'


def _cut(text: str) -> str:
    if len(text) <= LABEL_CHARS:
        return markup(text)
    return f"{markup(text[: LABEL_CHARS - 1] + '…')}<title>{markup(text)}</title>"
