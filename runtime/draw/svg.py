"""A graph as an SVG picture: no browser, no network, no other program. Pure; the same graph, the same picture."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator
from html import escape

from actors.graphs.plan import Plan
from runtime.draw.layout import FONT, SMALL, SMALL_LEADING, Box, Line, Picture, TextLine, lay_out

TIP = (
    '<marker id="tip" viewBox="0 0 10 10" refX="0" refY="5" markerWidth="8" markerHeight="8" markerUnits="userSpaceOnUse" '
    'orient="auto"><path d="M0 0L10 5L0 10z" fill="#555"/></marker>'
)
DOT = (
    '<marker id="dot" viewBox="0 0 10 10" refX="0" refY="5" markerWidth="8" markerHeight="8" markerUnits="userSpaceOnUse" '
    'orient="auto"><circle cx="5" cy="5" r="4" fill="#555"/></marker>'
)
CORNERS = {"pill": 16.0, "box": 4.0, "function": 0.0, "frame": 6.0}


def draw_svg(plan: Plan) -> str:
    """The picture, ending with a newline."""
    picture = lay_out(plan, measure)
    size = f'width="{picture.width:.1f}" height="{picture.height:.1f}"'
    view = f'viewBox="0 0 {picture.width:.1f} {picture.height:.1f}"'
    font = f'font-family="ui-monospace, monospace" font-size="{FONT:g}" text-anchor="middle" fill="#24292f"'
    head = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} {view} {font}>',
        f"<title>{escape(picture.name)}</title>",
        f"<defs>{TIP}{DOT}</defs>",
        f'<rect {size} fill="white"/>',
    ]
    return "\n".join([*head, *_drawn(picture), "</svg>\n"])


def measure(text: str, size: float) -> float:
    """How wide `text` is at most in the monospaced fonts that viewers have."""
    return sum(_width(character) for character in text) * size


def _width(character: str) -> float:
    if unicodedata.combining(character):
        return 0.0
    return 1.1 if unicodedata.east_asian_width(character) in "WF" else 0.62


def _drawn(picture: Picture) -> Iterator[str]:
    yield from (_path(line) for line in picture.lines)
    for line in picture.lines:
        for label in line.labels:
            width, height = label.width + 2, SMALL_LEADING + 1
            corner = f'x="{label.x - width / 2:.1f}" y="{label.y - height / 2:.1f}"'
            yield f'<rect {corner} width="{width:.1f}" height="{height:g}" fill="white"/>'
            yield _text(label, SMALL)
    for box in picture.boxes:
        yield _shape(box)
        yield from (_text(line, FONT) for line in box.lines)
        if box.inner is not None:
            yield f'<g transform="translate({box.at[0]:.1f} {box.at[1]:.1f})">'
            yield from _drawn(box.inner)
            yield "</g>"


def _path(line: Line) -> str:
    path = f"M{line.start[0]:.1f} {line.start[1]:.1f}"
    path += "".join("C" + " ".join(f"{x:.1f} {y:.1f}" for x, y in curve) for curve in line.curves)
    end = "dot" if line.has_dot else "tip"
    style = f'fill="none" stroke="#555" stroke-width="{2.5 if line.is_thick else 1.2}" marker-end="url(#{end})"'
    style += ' stroke-dasharray="5 4"' if line.is_dashed else ""
    return f'<path d="{path}" {style}/>'


def _shape(box: Box) -> str:
    left, top, right, bottom = box.left, box.top, box.left + box.width, box.top + box.height
    if box.shape == "hexagon":
        middle = (top + bottom) / 2
        points = [(left, middle), (left + 12, top), (right - 12, top), (right, middle), (right - 12, bottom), (left + 12, bottom)]
        return f'<polygon points="{" ".join(f"{x:.1f},{y:.1f}" for x, y in points)}" fill="#fff3d6" stroke="#24292f"/>'
    size = f'width="{box.width:.1f}" height="{box.height:.1f}"'
    if box.shape == "circle":
        centre = f'cx="{(left + right) / 2:.1f}" cy="{(top + bottom) / 2:.1f}"'
        return f'<ellipse {centre} rx="{box.width / 2:.1f}" ry="{box.height / 2:.1f}" fill="#e6f4ea" stroke="#24292f"/>'
    fill = {"frame": "white", "pill": "#e8eef7", "function": "#f3ecf8"}.get(box.shape, "#f6f8fa")
    return f'<rect x="{left:.1f}" y="{top:.1f}" {size} rx="{CORNERS[box.shape]:g}" fill="{fill}" stroke="#24292f"/>'


def _text(text: TextLine, size: float) -> str:
    scale = "" if size == FONT else f' font-size="{size:g}"'
    return f'<text x="{text.x:.1f}" y="{text.y + size * 0.35:.1f}"{scale}>{escape(text.text)}</text>'
