"""Pictures of pixels: readable text on a machine without fonts, and never too large."""

from __future__ import annotations

import io
from typing import Annotated, Any

import attrs
import pytest
from PIL import Image, ImageDraw, ImageFont

from actors import Dep, Graph
from runtime.draw import png
from runtime.draw.png import MOST_PIXELS, draw_png

Größe = attrs.make_class("Größe", [], frozen=True)
答え = attrs.make_class("答え", [], frozen=True)
EN, DE = (attrs.make_class(name, [], frozen=True) for name in ("EN", "DE"))


def image_of(graph: Graph) -> Image.Image:
    return Image.open(io.BytesIO(draw_png(graph.sketch())))


def test_the_same_graph_is_the_same_file() -> None:
    graph = Graph("g", input=EN, output=EN)

    assert draw_png(graph.sketch()) == draw_png(graph.sketch())


def test_text_is_drawn_on_a_machine_without_fonts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(png, "OTHER_FONTS", ())

    one, two = (image_of(_named(name)) for name in ("ab", "ba"))

    assert one.size == two.size
    assert one.tobytes() != two.tobytes()


def test_names_that_no_font_of_the_machine_has_are_shown_as_escapes(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[str] = []

    def width(_: object, text: str) -> float:
        drawn.append(text)
        return 10.0 * len(text)

    monkeypatch.setattr(png, "OTHER_FONTS", ("no-such-font.ttf",))
    monkeypatch.setattr(ImageFont.FreeTypeFont, "getlength", width)

    image_of(Graph("g", input=Größe, output=答え))

    assert set(drawn) == {r"Gr\xf6\xdfe", r"\u7b54\u3048"}


def test_a_very_large_picture_is_drawn_smaller() -> None:
    graph = Graph("wide", input=EN, output=DE)
    for number in range(150):
        graph.node(name=f"a_node_with_a_long_name_{number}")(_work(EN, DE))

    image = image_of(graph)

    assert MOST_PIXELS * 0.9 < image.width * image.height < MOST_PIXELS * 1.1


def test_the_line_to_what_depends_on_a_node_ends_in_a_dot(monkeypatch: pytest.MonkeyPatch) -> None:
    graph = Graph("g", input=EN, output=DE)
    needed = graph.node(name="needed")(_work(EN, Größe))

    async def work(value: Any, needed: Any) -> Any:
        raise NotImplementedError

    work.__annotations__ = {"value": EN, "needed": Annotated[Größe, Dep(needed)], "return": DE}
    graph.node(work)
    dots: list[str] = []
    monkeypatch.setattr(ImageDraw.ImageDraw, "ellipse", lambda _self, _place, fill: dots.append(fill))

    draw_png(graph.sketch())

    assert dots == ["#555"]


def _named(name: str) -> Graph:
    graph = Graph("g", input=EN, output=DE)
    graph.node(name=name)(_work(EN, DE))
    return graph


def _work(takes: type, makes: type):
    async def work(message): ...

    work.__annotations__ = {"message": takes, "return": makes}
    return work
