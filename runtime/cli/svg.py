"""A graph as an SVG picture, laid out here: no browser, no network, no other program. Pure; the same graph, the same picture.

Nodes stand in rows, each below everything it gets messages from, loops aside; a few sweeps order the rows so that few lines
cross. A line over several rows goes through a gap in each, and one that goes back up runs along the right edge.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from html import escape
from typing import final

import attrs

from actors.edges import Edge
from actors.node import Kind
from actors.plan import Plan

CHARACTER = 7.5
"""Width of a character of the font, in pixels."""
HEIGHT, ROW, GAP, MARGIN = 36.0, 104.0, 36.0, 24.0
SWEEPS = 6
TIP = (
    '<marker id="tip" viewBox="0 0 10 10" refX="10" refY="5" markerWidth="7" markerHeight="7" orient="auto">'
    '<path d="M0 0L10 5L0 10z" fill="#555"/></marker>'
)
INPUT, OUTPUT = "\0input", "\0output"  # no node has such a name


@final
@attrs.define(eq=False)
class _Box:
    """A node, or the place where a long line crosses a row."""

    name: str
    label: str
    shape: str
    row: int
    width: float
    x: float = 0.0
    """Of its middle."""

    @property
    def y(self) -> float:
        return MARGIN + self.row * ROW + HEIGHT / 2


@final
@attrs.define(eq=False)
class _Line:
    """All edges from one box to another."""

    source: _Box
    target: _Box
    labels: dict[str, None]
    is_dashed: bool
    is_thick: bool
    via: list[_Box] = attrs.field(factory=list[_Box])

    @property
    def goes_back(self) -> bool:
        return self.target.row <= self.source.row


def draw_svg(plan: Plan) -> str:
    """The picture, ending with a newline."""
    boxes = _boxes(plan)
    lines = _lines(plan, boxes)
    rows = _rows(boxes, lines)
    _order(rows, lines)
    _place(rows)
    backs = [line for line in lines if line.goes_back]
    right = max(box.x + box.width / 2 for row in rows for box in row)
    width = right + MARGIN + 40 * len(backs) + (90 if backs else 0)
    height = 2 * MARGIN + (len(rows) - 1) * ROW + HEIGHT
    body = [
        *(_drawn(line, right + 40 * (backs.index(line) + 1) if line.goes_back else 0.0) for line in lines),
        *(_shape(box) for box in boxes.values()),
    ]
    size = f'width="{width:g}" height="{height:g}"'
    font = 'font-family="ui-monospace, monospace" font-size="12"'
    head = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} viewBox="0 0 {width:g} {height:g}" {font}>',
        f"<title>{escape(plan.name)}</title>",
        f"<defs>{TIP}</defs>",
        f'<rect {size} fill="white"/>',
    ]
    return "\n".join([*head, *body, "</svg>\n"])


def _boxes(plan: Plan) -> dict[str, _Box]:
    rows = _depths(plan)
    shapes = {Kind.PREDICT: "hexagon", Kind.ACTOR: "circle", Kind.GRAPH: "frame"}
    found = [(INPUT, " | ".join(kind.__name__ for kind in plan.input_types), "round")]
    found += [(name, name, shapes.get(spec.kind, "box")) for name, spec in plan.nodes.items()]
    found.append((OUTPUT, " | ".join(kind.__name__ for kind in plan.output_types), "round"))
    return {
        name: _Box(name, label, shape, rows[name], len(label) * CHARACTER + (44 if shape == "hexagon" else 28))
        for name, label, shape in found
    }


def _depths(plan: Plan) -> dict[str, int]:
    """Box → its row: one below the lowest that sends to it, but for what comes round a loop."""
    forward = [
        (edge.source or INPUT, edge.target)
        for edge in plan.edges
        if edge.target is not None and (edge.source or "", edge.target) not in plan.returning
    ]
    depths = {INPUT: 0, **dict.fromkeys(plan.nodes, 1)}
    for _ in plan.nodes:
        for source, target in forward:
            depths[target] = min(max(depths[target], depths[source] + 1), len(plan.nodes))
    depths[OUTPUT] = 1 + max(depths.values())
    return depths


def _lines(plan: Plan, boxes: dict[str, _Box]) -> list[_Line]:
    found: dict[tuple[str, str], _Line] = {}
    for edge in plan.edges:
        ends = (edge.source or INPUT, edge.target or OUTPUT)
        line = found.setdefault(ends, _Line(boxes[ends[0]], boxes[ends[1]], {}, is_dashed=True, is_thick=False))
        line.labels[_label(edge)] = None
        line.is_dashed = line.is_dashed and edge.conditional
        line.is_thick = line.is_thick or edge.fans_out
    return list(found.values())


def _label(edge: Edge) -> str:
    return f"list[{edge.type.__name__}]" if edge.gathers else edge.type.__name__


def _rows(boxes: dict[str, _Box], lines: list[_Line]) -> list[list[_Box]]:
    """The boxes by row, and a narrow one wherever a line crosses a row that it does not end in."""
    rows: list[list[_Box]] = [[] for _ in range(1 + max(box.row for box in boxes.values()))]
    for box in boxes.values():
        rows[box.row].append(box)
    for line in lines:
        for row in range(line.source.row + 1, line.target.row):
            crossing = _Box("", "", "none", row, 12.0)
            line.via.append(crossing)
            rows[row].append(crossing)
    return rows


def _order(rows: list[list[_Box]], lines: list[_Line]) -> None:
    """Move each box towards the middle of what it is joined with, row by row, down and up."""
    joined: dict[int, list[_Box]] = {}
    for line in lines:
        if not line.goes_back:
            chain = [line.source, *line.via, line.target]
            for one, two in itertools.pairwise(chain):
                joined.setdefault(id(one), []).append(two)
                joined.setdefault(id(two), []).append(one)
    for sweep in range(SWEEPS):
        place = {id(box): index / max(len(row) - 1, 1) for row in rows for index, box in enumerate(row)}
        step = 1 if sweep % 2 == 0 else -1
        for row in rows[::step]:
            towards = {
                id(box): [place[id(other)] for other in joined.get(id(box), ()) if (box.row - other.row) * step > 0]
                for box in row
            }
            row.sort(key=lambda box: sum(towards[id(box)]) / len(towards[id(box)]) if towards[id(box)] else place[id(box)])
            place.update({id(box): index / max(len(row) - 1, 1) for index, box in enumerate(row)})


def _place(rows: list[list[_Box]]) -> None:
    widths = [sum(box.width for box in row) + GAP * (len(row) - 1) for row in rows]
    for row, width in zip(rows, widths, strict=True):
        at = MARGIN + (max(widths) - width) / 2
        for box in row:
            box.x = at + box.width / 2
            at += box.width + GAP


def _drawn(line: _Line, lane: float) -> str:
    style = f'fill="none" stroke="#555" stroke-width="{2.5 if line.is_thick else 1.2}" marker-end="url(#tip)"'
    style += ' stroke-dasharray="5 4"' if line.is_dashed else ""
    if line.goes_back:
        path, x, y = _back(line, lane)
    else:
        points = [(line.source.x, line.source.y + HEIGHT / 2)]
        points += [(box.x, box.y) for box in line.via]
        points.append((line.target.x, line.target.y - HEIGHT / 2))
        path = f"M{points[0][0]:g} {points[0][1]:g}" + "".join(_curves(points))
        x, y = (points[0][0] + points[1][0]) / 2, (points[0][1] + points[1][1]) / 2
    text = escape(", ".join(line.labels))
    halo = 'fill="#333" font-size="10" text-anchor="middle" stroke="white" stroke-width="3" paint-order="stroke"'
    return f'<path d="{path}" {style}/>\n<text x="{x:g}" y="{y:g}" {halo}>{text}</text>'


def _curves(points: list[tuple[float, float]]) -> Iterator[str]:
    for (x1, y1), (x2, y2) in itertools.pairwise(points):
        middle = (y1 + y2) / 2
        yield f"C{x1:g} {middle:g} {x2:g} {middle:g} {x2:g} {y2:g}"


def _back(line: _Line, lane: float) -> tuple[str, float, float]:
    x1, y1 = line.source.x + line.source.width / 2, line.source.y + 6
    x2, y2 = line.target.x + line.target.width / 2, line.target.y - 6
    return f"M{x1:g} {y1:g}C{lane:g} {y1:g} {lane:g} {y2:g} {x2:g} {y2:g}", lane, (y1 + y2) / 2


def _shape(box: _Box) -> str:
    left, top, style = box.x - box.width / 2, box.y - HEIGHT / 2, 'fill="#f6f8fa" stroke="#24292f"'
    right, bottom = left + box.width, top + HEIGHT
    if box.shape == "hexagon":
        points = [(left, box.y), (left + 12, top), (right - 12, top), (right, box.y), (right - 12, bottom), (left + 12, bottom)]
        drawn = f'<polygon points="{" ".join(f"{x:g},{y:g}" for x, y in points)}" fill="#fff3d6" stroke="#24292f"/>'
    else:
        radius = HEIGHT / 2 if box.shape in {"round", "circle"} else 4
        drawn = f'<rect x="{left:g}" y="{top:g}" width="{box.width:g}" height="{HEIGHT:g}" rx="{radius:g}" {style}/>'
        if box.shape == "frame":
            drawn += f'<rect x="{left + 4:g}" y="{top + 4:g}" width="{box.width - 8:g}" height="{HEIGHT - 8:g}" {style}/>'
    return drawn + f'<text x="{box.x:g}" y="{box.y + 4:g}" text-anchor="middle">{escape(box.label)}</text>'
