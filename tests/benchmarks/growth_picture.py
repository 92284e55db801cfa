"""Draws what one of many costs: a panel for each kind, a bar for each size, so that what is flat looks flat."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from html import escape

WIDTH, PANEL_WIDTH, BAR_LEFT, BAR_WIDTH = 800, 400, 62, 230
TITLE, ROW, GAP = 24, 18, 16
BLUE, GREY, INK = "#0969da", "#57606a", "#24292f"


def draw(panels: Mapping[str, Mapping[int, float]]) -> str:
    """The picture, ending with a newline: for each kind of unit, what one costs in µs, by how many there are."""
    rows = max((len(costs) for costs in panels.values()), default=0)
    tall = TITLE + rows * ROW + GAP
    height = -(-len(panels) // 2) * tall + 8
    size = f'width="{WIDTH}" height="{height}" viewBox="0 0 {WIDTH} {height}"'
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} font-family="ui-monospace, monospace" font-size="12" fill="{INK}">',
        "<title>Processor time for one of 1 to 10,000</title>",
        f'<rect width="{WIDTH}" height="{height}" fill="white"/>',
    ]
    for index, (title, costs) in enumerate(panels.items()):
        row, column = divmod(index, 2)
        lines += [f'<g transform="translate({column * PANEL_WIDTH} {row * tall + 8})">', *_panel(title, costs), "</g>"]
    return "\n".join([*lines, "</svg>\n"])


def _panel(title: str, costs: Mapping[int, float]) -> Iterator[str]:
    most = max(costs.values(), default=1.0)
    yield f'<text x="12" y="14" font-weight="bold">{escape(title)}</text>'
    for index, (size, cost) in enumerate(costs.items()):
        y = TITLE + index * ROW
        width = BAR_WIDTH * cost / most
        yield f'<text x="{BAR_LEFT - 8}" y="{y + 12}" text-anchor="end" fill="{GREY}">{size:,}</text>'
        yield f'<rect x="{BAR_LEFT}" y="{y + 2}" width="{width:.1f}" height="{ROW - 6}" rx="2" fill="{BLUE}"/>'
        yield f'<text x="{BAR_LEFT + width + 6:.1f}" y="{y + 12}">{_written(cost)}</text>'


def _written(cost_us: float) -> str:
    return f"{cost_us:.3g} µs" if cost_us < 1_000 else f"{cost_us / 1_000:.3g} ms"
