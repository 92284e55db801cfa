"""Where everything of a graph's picture stands, in pixels. Pure: the same graph and the same font, the same places.

Boxes stand in rows, each below everything that sends to it or that it depends on, loops aside. Between two rows of boxes stand
the names of the types that are sent, so no line is without room for its own. A line goes through its own gap in every
row that it passes; one that goes back up a loop does so like any other, with its tip at the upper end.
"""

from __future__ import annotations

import itertools
import math
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import final

import attrs

from actors.graphs.mermaid import functions_of, label_of, needs_of, recalls_of
from actors.graphs.node import Kind, NodeSpec
from actors.graphs.plan import Plan
from runtime.draw.layered import Thing, arrange, link
from runtime.draw.rows import rows_of

Measure = Callable[[str, float], float]
"""How wide a text is in pixels, for a height of the font in pixels."""

FONT, SMALL = 12.0, 10.0
"""Height of the font of names, and of that of types on lines."""
LEADING, SMALL_LEADING = 16.0, 13.0
MARGIN, GAP, RISE = 20.0, 24.0, 18.0
"""Around the picture; between neighbours of a row; between rows, at least."""
MOST_RISE = 64.0
PADDING = 14.0
TIP = 8.0
"""Length of the tip of a line, which begins where its last curve ends."""
LOOP = 26.0
"""How far a line from a node to itself stands out."""
PORT = 9.0
"""How far apart lines meet a box, at least."""
KINK = 16.0
"""How far to the side a line that only passes a row of names is not led for it; there is always so much room beside it."""
LONGEST = 34
"""Characters of a line; a longer name is broken."""
STRAIGHT = 16.0
"""How much more strongly a line is kept straight where it passes rows than drawn to its ends."""
_BREAKS = re.compile(r"[^_\W]*(?:_+|\W+|$)")
"""After each of these a name may be broken."""

NEARLY_NOTHING = 0.01
"""A piece of a line that is shorter is left out: it has no direction."""

Point = tuple[float, float]


@final
@attrs.frozen
class TextLine:
    """One line of text around `x`, its middle at `y`."""

    x: float
    y: float
    text: str
    width: float


@final
@attrs.frozen
class Box:
    """The graph's input or output, or a node. `shape`: ``pill``, ``box``, ``function``, ``hexagon``, ``circle`` or ``frame``."""

    left: float
    top: float
    width: float
    height: float
    shape: str
    lines: tuple[TextLine, ...]
    inner: Picture | None = None
    """The graph within a frame, in its own places."""
    at: Point = (0.0, 0.0)
    """Where that stands."""


@final
@attrs.frozen
class Line:
    """All edges from one box to another: curves end to end, and beyond the last a tip, or a dot, of length ``TIP``."""

    start: Point
    curves: tuple[tuple[Point, Point, Point], ...]
    """Each the two control points and the end of a cubic Bézier curve."""
    labels: tuple[TextLine, ...]
    is_dashed: bool
    is_thick: bool
    has_dot: bool
    """It leads to what depends on where it begins: no message goes along it."""


@final
@attrs.frozen
class Picture:
    """A graph, laid out."""

    name: str
    width: float
    height: float
    boxes: tuple[Box, ...]
    lines: tuple[Line, ...]


@final
@attrs.define(eq=False)
class _Spot:
    """A box to be, with its place among the rows."""

    shape: str
    lines: list[str]
    width: float
    height: float
    thing: Thing
    inner: Picture | None = None


@final
@attrs.define(eq=False)
class _Way:
    """A line to be."""

    source: _Spot
    target: _Spot
    labels: dict[str, None]
    is_dashed: bool
    is_thick: bool
    has_dot: bool = False
    via: list[Thing] = attrs.field(factory=list[Thing])
    """From above to below, where it passes between its ends."""
    is_shared: bool = False
    """Others from the same box bear the same names: they leave it as one, and part below the names."""
    is_named: bool = True
    """Its names are written along it; of those that share them, along the first."""

    @property
    def kin(self) -> tuple[object, ...]:
        """Equal for those that may share their names."""
        return (id(self.source), tuple(self.labels), self.is_dashed, self.is_thick, self.has_dot or self.is_loop or self.goes_up)

    @property
    def is_loop(self) -> bool:
        return self.source is self.target

    @property
    def goes_up(self) -> bool:
        return self.target.thing.row < self.source.thing.row

    @property
    def upper(self) -> _Spot:
        return self.target if self.goes_up else self.source

    @property
    def lower(self) -> _Spot:
        return self.source if self.goes_up else self.target


def lay_out(plan: Plan, measure: Measure, around: tuple[str, ...] = ()) -> Picture:
    """The picture of `plan`; graphs within it are drawn too, but not one of those `around` it again."""
    spots = _spots(plan, measure, (*around, plan.name))
    ways = list(_ways(plan, spots))
    kin = Counter(way.kin for way in ways)
    for way in ways:
        way.is_shared = kin[way.kin] > 1 and not (way.has_dot or way.is_loop or way.goes_up)
    rows: list[list[Thing]] = [[] for _ in range(1 + max(spot.thing.row for spot in spots.values()))]
    _make_room(spots.values(), ways, measure)
    for spot in spots.values():
        rows[spot.thing.row].append(spot.thing)
    trunks: dict[tuple[object, ...], Thing] = {}
    for way in ways:
        _lead(way, rows, measure, trunks)
    arrange(rows, GAP)
    shift = MARGIN - min(thing.x - thing.left for row in rows for thing in row)
    for thing in itertools.chain(*rows):
        thing.x += shift
    bands = _bands(rows, spots.values(), ways)
    ports = _ports(spots.values(), ways)
    return Picture(
        plan.name,
        max(thing.x + thing.right for row in rows for thing in row) + MARGIN,
        bands[-1][1] + MARGIN,
        tuple(_box(spot, bands, measure) for spot in spots.values()),
        tuple(_loop(way, bands, measure) if way.is_loop else _line(way, bands, ports, measure) for way in ways),
    )


# --- what there is to draw ----------------------------------------------------------------------------------------------------


def _spots(plan: Plan, measure: Measure, around: tuple[str, ...]) -> dict[str | None, _Spot]:
    """By node; that of the input has no node and comes first, that of the output is under the empty name and comes last."""
    rows = rows_of(plan)
    found: dict[str | None, _Spot] = {None: _pill(plan.input_types, rows[None], measure)}
    for name, spec in plan.nodes.items():
        found[name] = _spot(spec, rows[name], measure, around)
    for key, need in functions_of(plan).items():
        found[key] = _sized("function", list(broken(need.name)), rows[key], measure)
    found[""] = _pill(plan.output_types, rows[""], measure)
    return found


def _pill(kinds: Iterable[type], row: int, measure: Measure) -> _Spot:
    return _sized("pill", list(broken(" | ".join(kind.__name__ for kind in kinds))), row, measure)


def _spot(spec: NodeSpec, row: int, measure: Measure, around: tuple[str, ...]) -> _Spot:
    shapes = {Kind.PREDICT: "hexagon", Kind.ACTOR: "circle", Kind.GRAPH: "frame"}
    calls = broken(f"calls {', '.join(spec.tool_names)}") if spec.has_tools else ()
    spot = _sized(shapes.get(spec.kind, "box"), [*broken(spec.name), *calls], row, measure)
    if spec.kind is Kind.GRAPH and spec.embedded.name not in around:
        spot.inner = lay_out(spec.embedded.sketch(), measure, around)
        spot.width = max(spot.width, spot.inner.width)
        spot.height += spot.inner.height - PADDING
    return spot


def _sized(shape: str, lines: list[str], row: int, measure: Measure) -> _Spot:
    width = max(measure(line, FONT) for line in lines) + 2 * PADDING + (20 if shape in {"hexagon", "circle"} else 0)
    return _Spot(shape, lines, width, len(lines) * LEADING + 18, Thing(row))


def _make_room(spots: Iterable[_Spot], ways: Iterable[_Way], measure: Measure) -> None:
    """Let each box be wide enough for the lines that meet it above and below, and keep room beside it for one to itself."""
    lines = [way for way in ways if not way.is_loop]
    trunks = {way.kin if way.is_shared else id(way): way for way in lines}.values()
    below, above = Counter(id(way.upper) for way in trunks), Counter(id(way.lower) for way in lines)
    for spot in spots:
        spot.width = max(spot.width, PORT * max(below[id(spot)], above[id(spot)]) + 24)
        spot.thing.left = spot.thing.right = spot.width / 2
    for way in ways:
        if way.is_loop:
            way.source.thing.right += LOOP + max(measure(label, SMALL) for label in way.labels) + 4


def broken(name: str) -> Iterator[str]:
    """`name` in lines that are not too long, broken after underscores and the like where there are some."""
    line = ""
    for part in _BREAKS.findall(name):
        if line and len(line) + len(part) > LONGEST:
            yield line.strip()
            line = ""
        line += part
        while len(line) > LONGEST:
            yield line[:LONGEST]
            line = line[LONGEST:]
    if line:
        yield line.strip()


def _ways(plan: Plan, spots: Mapping[str | None, _Spot]) -> Iterator[_Way]:
    found: dict[tuple[str | None, str], _Way] = {}
    for edge in plan.edges:
        ends = (edge.source, edge.target or "")
        way = found.setdefault(ends, _Way(spots[ends[0]], spots[ends[1]], {}, is_dashed=True, is_thick=False))
        way.labels[label_of(edge)] = None
        way.is_dashed = way.is_dashed and edge.conditional
        way.is_thick = way.is_thick or edge.fans_out
    yield from found.values()
    for name, user in needs_of(plan):
        yield _Way(spots[name], spots[user], {"Dep": None}, is_dashed=True, is_thick=False, has_dot=True)
    recalled: dict[tuple[str | None, str], _Way] = {}
    for source, user, kind in recalls_of(plan):
        ends = (source, user)
        way = recalled.setdefault(ends, _Way(spots[source], spots[user], {}, is_dashed=True, is_thick=False, has_dot=True))
        way.labels[f"Recall {kind}"] = None
    yield from recalled.values()


def _lead(way: _Way, rows: list[list[Thing]], measure: Measure, trunks: dict[tuple[object, ...], Thing]) -> None:
    """Keep room for a line in the rows between its ends, and in the one next to where it begins for its name."""
    if way.is_loop:
        return
    first, last = way.upper.thing.row + 1, way.lower.thing.row - 1
    named = last if way.goes_up else first
    trunk = trunks.get(way.kin) if way.is_shared else None
    way.is_named = trunk is None
    for row in range(first, last + 1):
        if row == named and trunk is not None:
            way.via.append(trunk)
            continue
        half = max(measure(label, SMALL) for label in way.labels) / 2 + 4 if row == named else 5.0
        thing = Thing(row, half, half)
        way.via.append(thing)
        rows[row].append(thing)
    if way.is_shared and trunk is None:
        trunks[way.kin] = way.via[0]
    chain = [way.upper.thing, *way.via, way.lower.thing]
    for index, (one, two) in enumerate(itertools.pairwise(chain)):
        if index or trunk is None:  # the others have been led to the names already
            is_end = index in {0, len(chain) - 2} or (way.is_shared and index == 1)
            link(one, two, 1.0 if is_end else STRAIGHT)


# --- where it stands ----------------------------------------------------------------------------------------------------------


def _bands(rows: list[list[Thing]], spots: Iterable[_Spot], ways: Iterable[_Way]) -> list[Point]:
    """Top and bottom of each row. Rows are further apart where lines lead far to the side between them."""
    heights = [0.0] * len(rows)
    for spot in spots:
        heights[spot.thing.row] = max(heights[spot.thing.row], spot.height)
    for way in ways:
        if way.via:
            row = way.via[-1].row if way.goes_up else way.via[0].row
            heights[row] = max(heights[row], len(way.labels) * SMALL_LEADING + 2)
    bands, top = list[Point](), MARGIN
    for things, height in zip(rows, heights, strict=True):
        bands.append((top, top + height))
        far = max((abs(thing.x - other.x) for thing in things for other, _ in thing.below), default=0.0)
        top += height + min(RISE + far / 12, MOST_RISE)
    return bands


def _ports(spots: Iterable[_Spot], ways: Iterable[_Way]) -> dict[tuple[int, bool], float]:
    """(line, whether at its upper end) → where it meets its box.

    Lines meet a side in the order in which they come, each straight below or above where it comes from, if there is room.
    """
    sides: dict[tuple[int, bool], dict[int, tuple[Thing, list[int]]]] = {}
    for way in ways:
        if not way.is_loop:
            for spot, is_upper, thing in ((way.upper, True, way.via[0]), (way.lower, False, way.via[-1])):
                sides.setdefault((id(spot), is_upper), {}).setdefault(id(thing), (thing, []))[1].append(id(way))
    ports: dict[tuple[int, bool], float] = {}
    for spot in spots:
        for is_upper in (True, False):
            met = sorted(sides.get((id(spot), is_upper), {}).values(), key=lambda pair: (pair[0].x, pair[1]))
            for (_, lines), x in zip(met, _apart([thing.x for thing, _ in met], spot), strict=True):
                ports.update({(line, is_upper): x for line in lines})
    return ports


def _apart(places: list[float], spot: _Spot) -> list[float]:
    """Where the lines to these places, which rise, meet a side of a box.

    Straight above or below them, if they lie within the box; else around its middle. Never too near to each other.
    """
    apart = min(16.0, (spot.width - 24) / max(len(places), 1))
    half = spot.width / 2 - 26
    met: list[float] = []
    for index, place in enumerate(places):
        around = spot.thing.x + (index - (len(places) - 1) / 2) * apart
        wish = place if abs(place - spot.thing.x) <= half else around
        met.append(max(wish, met[-1] + apart) if met else wish)
    for index in range(len(met) - 1, -1, -1):
        most = met[index + 1] - apart if index + 1 < len(met) else spot.thing.x + spot.width / 2 - 12
        met[index] = min(met[index], most)
    return met


def _middle(band: Point) -> float:
    return (band[0] + band[1]) / 2


def _box(spot: _Spot, bands: list[Point], measure: Measure) -> Box:
    x, top = spot.thing.x, _middle(bands[spot.thing.row]) - spot.height / 2
    lines = tuple(_stacked(spot.lines, x, top + 9 + len(spot.lines) * LEADING / 2, measure, FONT, LEADING))
    left = x - spot.width / 2
    at = (left + (spot.width - spot.inner.width) / 2, top + spot.height - spot.inner.height) if spot.inner else (0.0, 0.0)
    return Box(left, top, spot.width, spot.height, spot.shape, lines, spot.inner, at)


def _stacked(lines: Iterable[str], x: float, y: float, measure: Measure, size: float, leading: float) -> Iterator[TextLine]:
    """Lines of text, one above the other around (x, y)."""
    texts = list(lines)
    for index, text in enumerate(texts):
        yield TextLine(x, y + (index - (len(texts) - 1) / 2) * leading, text, measure(text, size))


def _line(way: _Way, bands: list[Point], ports: Mapping[tuple[int, bool], float], measure: Measure) -> Line:
    named = way.via[-1 if way.goes_up else 0]
    points = list(_points(way, bands, ports))
    if way.goes_up:
        points.reverse()
    shown = way.labels if way.is_named else ()
    labels = _stacked(shown, named.x, _middle(bands[named.row]), measure, SMALL, SMALL_LEADING)
    return Line(points[0][0], tuple(_curves(points)), tuple(labels), way.is_dashed, way.is_thick, way.has_dot)


def _points(way: _Way, bands: list[Point], ports: Mapping[tuple[int, bool], float]) -> Iterator[tuple[Point, bool]]:
    """Where a line passes, from above to below, and whether it stands upright there: at boxes, but not at the names of types."""
    row, x = way.upper.thing.row, ports[id(way), True]
    tip = TIP if way.goes_up else 0.0
    yield (x, _middle(bands[row]) + way.upper.height / 2 + tip), True
    yield (x, bands[row][1] + tip), True
    named = len(way.via) - 1 if way.goes_up else 0
    for index, thing in enumerate(way.via):
        if thing.row % 2:
            beside = way.via[index + 1 if way.goes_up else index - 1].x if index != named else math.inf
            is_straight = abs(beside - thing.x) <= KINK
            yield (beside if is_straight else thing.x, _middle(bands[thing.row])), is_straight or (way.is_shared and index == 0)
        else:
            yield (thing.x, bands[thing.row][0]), True
            yield (thing.x, bands[thing.row][1]), True
    row, x = way.lower.thing.row, ports[id(way), False]
    tip = 0.0 if way.goes_up else TIP
    yield (x, bands[row][0] - tip), True
    yield (x, _middle(bands[row]) - way.lower.height / 2 - tip), True


def _curves(points: list[tuple[Point, bool]]) -> Iterator[tuple[Point, Point, Point]]:
    """From point to point; where the line need not stand upright it has the direction from the point before to the one after."""
    slopes = [(0.0, 0.0)] * len(points)
    for index in range(1, len(points) - 1):
        (before, _), (_, is_upright), (after, _) = points[index - 1 : index + 2]
        if not is_upright:
            slopes[index] = (after[0] - before[0]) / 6, (after[1] - before[1]) / 6
    for index, ((one, _), (two, _)) in enumerate(itertools.pairwise(points)):
        if math.dist(one, two) > NEARLY_NOTHING:
            middle = (one[1] + two[1]) / 2
            leave, arrive = slopes[index], slopes[index + 1]
            begin = (one[0] + leave[0], one[1] + leave[1]) if any(leave) else (one[0], middle)
            yield begin, ((two[0] - arrive[0], two[1] - arrive[1]) if any(arrive) else (two[0], middle)), two


def _loop(way: _Way, bands: list[Point], measure: Measure) -> Line:
    spot = way.source
    x, y = spot.thing.x + spot.width / 2, _middle(bands[spot.thing.row])
    # Hexagons and circles are narrower above and below their middle.
    inset = 8.0 if spot.shape in {"hexagon", "circle", "pill"} else 0.0
    curve = (x + LOOP, y + 18), (x + LOOP, y - 10), (x - inset + TIP, y - 10)
    widest = max(measure(label, SMALL) for label in way.labels)
    labels = _stacked(way.labels, x + LOOP + widest / 2, y, measure, SMALL, SMALL_LEADING)
    return Line((x - inset, y + 10), (curve,), tuple(labels), way.is_dashed, way.is_thick, way.has_dot)
