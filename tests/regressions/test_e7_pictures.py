"""Pictures: one name for what goes to many, dependencies and recalled messages are drawn, verticals are straight."""

from __future__ import annotations

from typing import Annotated

import attrs
import pytest

from actors import Dep, Graph, Recall
from runtime.draw.layout import Line, Picture, lay_out
from runtime.draw.svg import draw_svg, measure


@attrs.frozen
class In:
    v: int = 0


@attrs.frozen
class Mid:
    v: int = 0


@attrs.frozen
class Oth:
    v: int = 0


@attrs.frozen
class Out:
    v: int = 0


async def settings() -> int:
    return 1


async def client(own: Annotated[int, Dep(settings)]) -> str:
    return str(own)


def drawn() -> Graph:
    graph = Graph("g", input=In, output=Out)

    @graph.node
    async def left(i: In, c: Annotated[str, Dep(client)]) -> Mid:
        return Mid(1)

    @graph.node
    async def right(i: In) -> Oth:
        return Oth(1)

    @graph.node
    async def end(m: Mid, o: Oth, i: In, first: Annotated[In, Recall()], c: Annotated[str, Dep(client)]) -> Out:
        return Out(1)

    return graph


def names(picture: Picture) -> list[str]:
    return sorted(label.text for line in picture.lines for label in line.labels)


def test_e7_one_output_to_several_nodes_bears_its_name_once():
    picture = lay_out(drawn().sketch(), measure)

    assert names(picture).count("In") == 1
    assert draw_svg(drawn().sketch()).count(">In</text>") == 2  # the input itself, and what leaves it


def test_e7_functions_that_nodes_depend_on_are_drawn_once_each_above_what_needs_them():
    picture = lay_out(drawn().sketch(), measure)

    tops = {"".join(text.text for text in box.lines): box.top for box in picture.boxes}
    assert list(tops).count("client") == list(tops).count("settings") == 1
    assert tops["settings"] < tops["client"] < tops["left"] < tops["end"]
    assert names(picture).count("Dep") == 3


def test_e7_what_is_recalled_is_drawn_from_its_maker():
    graph = drawn()

    @graph.node
    async def more(o: Oth, first: Annotated[In, Recall()]) -> None: ...

    assert names(lay_out(graph.sketch(), measure)).count("Recall In") == 2  # by end and by more
    assert "input -.-o|Recall In| n4" in graph.mermaid()
    assert 'f1[/"client"/]' in graph.mermaid()
    assert "f1 --o|Dep| n1" in graph.mermaid()
    assert "f2 --o|Dep| f1" in graph.mermaid()


def sideways(line: Line) -> float:
    """How far a line leads to the side and back again."""
    xs = [line.start[0], *(point[0] for curve in line.curves for point in curve)]
    return (max(xs) - min(xs)) - abs(xs[-1] - xs[0])


@pytest.mark.parametrize("length", [1, 4])
def test_e7_a_chain_is_one_straight_line(length):
    kinds = [attrs.make_class(f"T{'x' * index}", [], frozen=True) for index in range(length + 1)]
    graph = Graph("g", input=kinds[0], output=kinds[-1])
    for index in range(length):

        async def work(message: object) -> object:
            return message

        work.__annotations__ = {"message": kinds[index], "return": kinds[index + 1]}
        graph.node(name=f"a_rather_long_name_{index}"[: 8 + 5 * index])(work)

    for line in lay_out(graph.sketch(), measure).lines:
        assert max(abs(point[0] - line.start[0]) for curve in line.curves for point in curve) < 0.5
        assert sideways(line) < 0.5
