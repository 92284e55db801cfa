"""A graph as a PNG picture, drawn with Pillow: no browser, no network, and no font of the machine is needed.

Pillow brings a font for ASCII. A name with other characters is drawn with a font of this machine that has them all; where
there is none, those characters are shown as escapes. The only file that imports Pillow, which the extra ``pictures`` installs.
"""

from __future__ import annotations

import io
import math
from collections.abc import Iterator
from typing import Final, final

from PIL import Image, ImageDraw, ImageFont

from actors.graphs.plan import Plan
from runtime.draw.layout import FONT, SMALL, SMALL_LEADING, TIP, Box, Line, Picture, Point, TextLine, lay_out
from runtime.draw.svg import CORNERS

SCALE: Final = 2.0
"""Pixels of the file for one of the layout, so it stays sharp when it is enlarged or printed."""
MOST_PIXELS: Final = 16_000_000
"""The limit for the file; a larger picture is drawn at a smaller scale."""
FINE: Final = 2
"""Everything is drawn so much larger and then made smaller, which smooths its edges."""
OTHER_FONTS: Final = (
    "DejaVuSans.ttf",
    "NotoSans-Regular.ttf",
    "LiberationSans-Regular.ttf",
    "Arial.ttf",
    "NotoSansCJK-Regular.ttc",
    "Arial Unicode.ttf",
    "Hiragino Sans GB.ttc",
    "msgothic.ttc",
    "malgun.ttf",
)
"""Looked for where the system keeps its fonts."""
MEASURED_AT: Final = 4
"""Times its height that a font is measured at, for widths in fractions of a pixel."""

Font = ImageFont.FreeTypeFont | ImageFont.ImageFont


def draw_png(plan: Plan) -> bytes:
    """The contents of the file."""
    fonts = _Fonts()
    picture = lay_out(plan, fonts.measure)
    scale = min(SCALE, math.sqrt(MOST_PIXELS / (picture.width * picture.height)))
    size = math.ceil(picture.width * scale), math.ceil(picture.height * scale)
    image = Image.new("RGB", (size[0] * FINE, size[1] * FINE), "white")
    _Pen(ImageDraw.Draw(image), fonts, scale * FINE).picture(picture)
    file = io.BytesIO()
    image.resize(size, Image.Resampling.BOX).save(file, "PNG", optimize=True)
    return file.getvalue()


@final
class _Fonts:
    def __init__(self) -> None:
        self._loaded: dict[tuple[str, float], Font | None] = {}
        self._chosen: dict[str, tuple[str, str]] = {}

    def measure(self, text: str, size: float) -> float:
        """How wide `text` is drawn, in pixels."""
        font, shown = self.choose(text, size * MEASURED_AT)
        return font.getlength(shown) / MEASURED_AT

    def choose(self, text: str, size: float) -> tuple[Font, str]:
        """A font of that height for `text`, and what to draw with it: `text` itself, or with escapes."""
        if text not in self._chosen:
            names = (name for name in ("", *OTHER_FONTS) if self._has_all(name, text))
            name = next(names, None)
            self._chosen[text] = (name, text) if name is not None else ("", text.encode("ascii", "backslashreplace").decode())
        name, shown = self._chosen[text]
        font = self._font(name, size)
        assert font is not None, "a font that was chosen can be loaded"
        return font, shown

    def _has_all(self, name: str, text: str) -> bool:
        if not name:
            return text.isascii()
        font = self._font(name, FONT)
        if font is None:
            return False
        unknown = _shown(font, "\uffff")
        return all(_shown(font, character) != unknown for character in set(text) if not character.isspace())

    def _font(self, name: str, size: float) -> Font | None:
        """The font of that file name, or Pillow's own for an empty one; None when this machine does not have it."""
        key = name, size
        if key not in self._loaded:
            try:
                self._loaded[key] = ImageFont.truetype(name, size) if name else ImageFont.load_default(size)
            except OSError:
                self._loaded[key] = None
        return self._loaded[key]


def _shown(font: Font, character: str) -> bytes:
    image = Image.new("L", (48, 48))
    ImageDraw.Draw(image).text((8, 8), character, fill=255, font=font)
    return image.tobytes()


@final
class _Pen:
    """Draws at a scale, from a corner."""

    def __init__(self, draw: ImageDraw.ImageDraw, fonts: _Fonts, scale: float, corner: Point = (0.0, 0.0)) -> None:
        self._draw = draw
        self._fonts = fonts
        self._scale = scale
        self._corner = corner

    def picture(self, picture: Picture) -> None:
        """Draw all of it."""
        for line in picture.lines:
            self._line(line)
        for line in picture.lines:
            for label in line.labels:
                half = label.width / 2 + 1, (SMALL_LEADING + 1) / 2
                corners = [(label.x - half[0], label.y - half[1]), (label.x + half[0], label.y + half[1])]
                self._draw.rectangle([self._at(point) for point in corners], fill="white")
                self._text(label, SMALL)
        for box in picture.boxes:
            self._shape(box)
            for text in box.lines:
                self._text(text, FONT)
            if box.inner is not None:
                corner = self._corner[0] + box.at[0], self._corner[1] + box.at[1]
                _Pen(self._draw, self._fonts, self._scale, corner).picture(box.inner)

    def _at(self, point: Point) -> Point:
        return (self._corner[0] + point[0]) * self._scale, (self._corner[1] + point[1]) * self._scale

    def _shape(self, box: Box) -> None:
        left, top = self._at((box.left, box.top))
        right, bottom = self._at((box.left + box.width, box.top + box.height))
        width = round(self._scale)
        if box.shape == "hexagon":
            cut, middle = 12 * self._scale, (top + bottom) / 2
            points = [
                (left, middle),
                (left + cut, top),
                (right - cut, top),
                (right, middle),
                (right - cut, bottom),
                (left + cut, bottom),
            ]
            self._draw.polygon(points, fill="#fff3d6", outline="#24292f", width=width)
        elif box.shape == "circle":
            self._draw.ellipse((left, top, right, bottom), fill="#e6f4ea", outline="#24292f", width=width)
        else:
            fill = {"frame": "white", "pill": "#e8eef7", "function": "#f3ecf8"}.get(box.shape, "#f6f8fa")
            radius = CORNERS[box.shape] * self._scale
            self._draw.rounded_rectangle((left, top, right, bottom), radius, fill=fill, outline="#24292f", width=width)

    def _text(self, text: TextLine, size: float) -> None:
        font, shown = self._fonts.choose(text.text, size * self._scale)
        self._draw.text(self._at((text.x, text.y)), shown, fill="#24292f", font=font, anchor="mm")

    def _line(self, line: Line) -> None:
        points = [self._at(point) for point in _flattened(line)]
        end, before = points[-1], self._at(line.curves[-1][1])
        size = TIP * self._scale
        x, y = ((end[axis] - before[axis]) / math.dist(before, end) * size for axis in (0, 1))
        corners = [(end[0] + x, end[1] + y), (end[0] - y / 2, end[1] + x / 2), (end[0] + y / 2, end[1] - x / 2)]
        width = max(round((2.5 if line.is_thick else 1.2) * self._scale), 1)
        for piece in _dashes(points, 5 * self._scale, 4 * self._scale) if line.is_dashed else [points]:
            self._draw.line(piece, fill="#555", width=width, joint="curve")
        if line.has_dot:
            centre, radius = (end[0] + x / 2, end[1] + y / 2), 0.4 * size
            around = (centre[0] - radius, centre[1] - radius, centre[0] + radius, centre[1] + radius)
            self._draw.ellipse(around, fill="#555")
        else:
            self._draw.polygon(corners, fill="#555")


def _flattened(line: Line, pieces: int = 16) -> Iterator[Point]:
    """Points along the curves, close enough together to look smooth."""
    at = line.start
    yield at
    for one, two, end in line.curves:
        for index in range(1, pieces + 1):
            t = index / pieces
            a, b, c, d = (1 - t) ** 3, 3 * t * (1 - t) ** 2, 3 * t * t * (1 - t), t**3
            yield (a * at[0] + b * one[0] + c * two[0] + d * end[0], a * at[1] + b * one[1] + c * two[1] + d * end[1])
        at = end


def _dashes(points: list[Point], on: float, off: float) -> Iterator[list[Point]]:
    """The pieces of a dashed line."""
    piece, left, is_on = [points[0]], on, True
    for target in points[1:]:
        at = piece[-1]
        while (far := math.dist(at, target)) > left:
            at = at[0] + (target[0] - at[0]) * left / far, at[1] + (target[1] - at[1]) * left / far
            if is_on:
                yield [*piece, at]
            piece, is_on = [at], not is_on
            left = on if is_on else off
        left -= far
        piece.append(target)
    if is_on and len(piece) > 1:
        yield piece
