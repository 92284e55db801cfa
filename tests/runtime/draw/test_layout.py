"""Where a picture's boxes and lines stand: no two things on top of each other, whatever the graph."""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Iterator
from typing import Annotated, Any

import attrs
import pytest

from actors import Dep, Graph
from runtime.draw.layered import Thing, arrange, link
from runtime.draw.layout import SMALL, TIP, Box, Line, Picture, broken, lay_out
from runtime.draw.svg import measure

KINDS = [attrs.make_class(f"Type{number}", [], frozen=True) for number in range(60)]


def graph_of(*edges: tuple[list[int], list[int]]) -> Graph:
    """A graph with one node per edge: from the types of those numbers to any of those others."""
    graph = Graph("drawn", input=KINDS[0], output=KINDS[-1])
    for number, (takes, makes) in enumerate(edges):
        source = f"async def node_{number}({', '.join(f'p{kind}' for kind in takes)}): ..."
        names: dict[str, Any] = {}
        exec(source, names)
        function = names[f"node_{number}"]
        made: Any = KINDS[makes[0]]
        for kind in makes[1:]:
            made |= KINDS[kind]
        function.__annotations__ = {**{f"p{kind}": KINDS[kind] for kind in takes}, "return": made}
        graph.node(function)
    return graph


def random_graph(seed: int, size: int = 30) -> Graph:
    rng = random.Random(seed)
    edges = []
    for number in range(size):
        takes = {rng.randrange(max(0, number - 6), number + 1) for _ in range(rng.choice([1, 1, 2, 3]))}
        makes = [number + 1] if rng.random() < 0.8 else [number + 1, rng.randrange(number + 1)]
        edges.append((sorted(takes), makes))
    return graph_of(*edges, ([size], [59]))


def points_on(line: Line) -> Iterator[tuple[float, float]]:
    at = line.start
    for one, two, end in line.curves:
        for t in (step / 20 for step in range(21)):
            a, b, c, d = (1 - t) ** 3, 3 * t * (1 - t) ** 2, 3 * t * t * (1 - t), t**3
            yield (a * at[0] + b * one[0] + c * two[0] + d * end[0], a * at[1] + b * one[1] + c * two[1] + d * end[1])
        at = end


def is_inside(point: tuple[float, float], box: Box) -> bool:
    return box.left + 1 < point[0] < box.left + box.width - 1 and box.top + 1 < point[1] < box.top + box.height - 1


def overlaps(picture: Picture) -> list[str]:
    """Everything of the picture that lies on something else or beyond its edge."""
    found = []
    for one, two in itertools.combinations(picture.boxes, 2):
        apart = one.left + one.width <= two.left or two.left + two.width <= one.left
        if not apart and one.top < two.top + two.height and two.top < one.top + one.height:
            found.append(f"{one.lines} on {two.lines}")
    for line, box in itertools.product(picture.lines, picture.boxes):
        if any(is_inside(point, box) for point in points_on(line)):
            found.append(f"a line through {box.lines}")
    labels = [label for line in picture.lines for label in line.labels]
    for this, that in itertools.combinations(labels, 2):
        if abs(this.x - that.x) < (this.width + that.width) / 2 and abs(this.y - that.y) < SMALL:
            found.append(f"{this.text} on {that.text}")
    found += [f"{box.lines} beyond the edge" for box in picture.boxes if box.left < 0 or box.left + box.width > picture.width]
    return found + [f"{text.text} beyond the edge" for text in labels if not 0 < text.x < picture.width]


@pytest.mark.parametrize("seed", range(12))
def test_nothing_lies_on_anything_else(seed: int) -> None:
    picture = lay_out(random_graph(seed).sketch(), measure)

    assert overlaps(picture) == []


def test_a_loop_of_two_and_a_node_that_sends_to_itself_are_drawn_with_tips_at_their_ends() -> None:
    picture = lay_out(graph_of(([0], [1, 59]), ([1], [0, 1])).sketch(), measure)

    assert overlaps(picture) == []
    ends = {(line.labels[0].text, line.curves[-1][2][1] < line.start[1]) for line in picture.lines}
    assert ends == {("Type0", False), ("Type0", True), ("Type1", False), ("Type1", True), ("Type59", False)}


def test_a_line_ends_one_tip_above_its_box() -> None:
    picture = lay_out(graph_of(([0], [59])).sketch(), measure)

    node = picture.boxes[1]
    (end,) = [line.curves[-1][2] for line in picture.lines if line.labels[0].text == "Type0"]
    assert end == (node.left + node.width / 2, node.top - TIP)


def test_a_graph_within_a_graph_is_drawn_within_its_frame() -> None:
    inner = graph_of(([0], [59]))
    outer = Graph("outer", input=KINDS[0], output=KINDS[59])
    outer.add(inner)

    frame = lay_out(outer.sketch(), measure).boxes[1]

    assert frame.inner is not None
    assert [box.lines[0].text for box in frame.inner.boxes] == ["Type0", "node_0", "Type59"]
    assert frame.at[0] >= frame.left
    assert frame.at[1] + frame.inner.height <= frame.top + frame.height


@pytest.mark.parametrize("seed", range(12))
def test_every_line_arrives_straight_up_down_or_sideways_so_that_its_tip_does(seed: int) -> None:
    picture = lay_out(random_graph(seed).sketch(), measure)

    for line in picture.lines:
        _, before, end = line.curves[-1]
        assert math.dist(before, end) > 1
        assert before[0] == end[0] or before[1] == end[1]


def test_what_a_node_depends_on_stands_right_above_its_first_user_and_is_joined_to_it_by_a_dashed_line_with_a_dot() -> None:
    graph = graph_of(([0], [1]), ([1], [2]), ([2], [59]))
    first, second = (attrs.make_class(name, [], frozen=True) for name in ("First", "Second"))

    async def deep(start: Any) -> Any:
        raise NotImplementedError

    async def near(start: Any, deep: Any) -> Any:
        raise NotImplementedError

    async def user(message: Any, near: Any) -> Any:
        raise NotImplementedError

    deep.__annotations__ = {"start": KINDS[0], "return": first}
    near.__annotations__ = {"start": KINDS[0], "deep": Annotated[first, Dep(deep)], "return": second}
    user.__annotations__ = {"message": KINDS[2], "near": Annotated[second, Dep(near)], "return": KINDS[58]}
    for function in (deep, near, user):
        graph.node(function)

    picture = lay_out(graph.sketch(), measure)

    tops = {box.lines[0].text: box.top for box in picture.boxes}
    assert (tops["deep"], tops["near"]) == (tops["node_0"], tops["node_1"])
    dotted = [line for line in picture.lines if line.has_dot]
    assert [[label.text for label in line.labels] for line in dotted] == [["Dep"], ["Dep"]]
    assert all(line.is_dashed for line in dotted)
    assert not overlaps(picture)


def test_nodes_that_depend_on_each_other_are_drawn_although_the_check_refuses_them() -> None:
    graph = graph_of(([0], [59]))
    kind = attrs.make_class("Own", [], frozen=True)

    async def own(start: Any, own: Any) -> Any:
        raise NotImplementedError

    graph.node(own)
    own.__annotations__ = {"start": KINDS[0], "own": Annotated[kind, Dep(own)], "return": kind}

    assert [line.has_dot for line in lay_out(graph.sketch(), measure).lines] == [False, False, True]


def test_a_graph_without_nodes_is_its_input_and_its_output() -> None:
    picture = lay_out(Graph("empty", input=KINDS[0], output=KINDS[1]).sketch(), measure)

    assert ([box.lines[0].text for box in picture.boxes], picture.lines) == (["Type0", "Type1"], ())


def test_a_box_is_as_wide_as_the_lines_that_meet_it_need() -> None:
    many = graph_of(([0], list(range(1, 31))), *(([number], [59]) for number in range(1, 31)))

    picture = lay_out(many.sketch(), measure)

    starts = [line.start[0] for line in picture.lines if line.labels[0].text not in {"Type0", "Type59"}]
    assert len(set(starts)) == 30
    assert picture.boxes[1].left < min(starts)
    assert max(starts) < picture.boxes[1].left + picture.boxes[1].width


def test_what_goes_to_many_bears_its_name_once_and_leaves_its_box_as_one_line() -> None:
    many = graph_of(*(([0], [number]) for number in range(1, 31)))

    picture = lay_out(many.sketch(), measure)

    assert [label.text for line in picture.lines for label in line.labels].count("Type0") == 1
    assert len({line.start for line in picture.lines if line.start[1] < picture.boxes[1].top}) == 1
    assert overlaps(picture) == []


@pytest.mark.parametrize(
    ("name", "lines"),
    [
        ("short", ["short"]),
        ("extract_the_time_properties_that_the_intent_has", ["extract_the_time_properties_that_", "the_intent_has"]),
        ("A" * 70, ["A" * 34, "A" * 34, "AA"]),
        ("Question | Answer", ["Question | Answer"]),
    ],
)
def test_a_long_name_is_broken_where_it_can_be(name: str, lines: list[str]) -> None:
    assert list(broken(name)) == lines


def test_links_that_need_not_cross_do_not() -> None:
    upper, lower = [Thing(0, 5, 5) for _ in range(3)], [Thing(1, 5, 5) for _ in range(3)]
    for one, two in zip(upper, reversed(lower), strict=True):
        link(one, two, 1.0)

    rows = [upper, lower]
    arrange(rows, gap=10.0)

    assert [thing.x for thing in rows[0]] == [thing.x for thing in rows[1]]
    assert [two.x - one.x for one, two in itertools.pairwise(rows[0])] == [20.0, 20.0]
