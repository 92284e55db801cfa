"""Two parameters that one message fits are told apart by ``connect(…, parameter=…)``, or refused."""

from __future__ import annotations

import itertools

import attrs
import pytest
import trio

from actors import DeclarationError, Graph
from runtime import open_runtime
from runtime.draw.svg import draw_svg


@attrs.frozen
class In:
    v: int = 0


@attrs.frozen
class Mid:
    v: int = 0


@attrs.frozen
class Narrow(Mid):
    """A kind of Mid."""


@attrs.frozen
class Out:
    v: int = 0


def two_makers(delays: tuple[float, float] = (0, 0)) -> Graph:
    graph = Graph("g", input=In, output=Out)

    @graph.node
    async def left_maker(i: In) -> Mid:
        await trio.sleep(delays[0])
        return Mid(9)

    @graph.node
    async def right_maker(i: In) -> Mid:
        await trio.sleep(delays[1])
        return Mid(11)

    @graph.node
    async def compare(left: Mid, right: Mid) -> Out:
        return Out(left.v * 100 + right.v)

    return graph


def test_b2_one_message_that_fits_two_parameters_is_refused_with_both_fixes():
    [problem] = [problem for problem in two_makers().check() if problem.code != "join-by-timing"]

    assert (problem.code, problem.node) == ("same-type-twice", "compare")
    assert problem.message == (
        "one Mid goes to both 'left' and 'right': each that 'left_maker' or 'right_maker' makes would be joined with itself."
    )
    assert problem.fix == (
        "declare which is for which: graph.connect(left_maker, compare, parameter='left') and "
        "graph.connect(right_maker, compare, parameter='right'); "
        "or let one node return them as list[Mid], and take list[Mid] in one parameter."
    )


@pytest.mark.parametrize("delays", list(itertools.permutations((0.0, 1.0))))
async def test_b2_a_connection_that_names_the_parameter_tells_them_apart(delays, autojump_clock):
    graph = two_makers(delays)
    graph.connect("left_maker", "compare", parameter="left")
    graph.connect("right_maker", "compare", parameter="right")

    assert graph.check() == []
    async with open_runtime() as runtime:
        assert await runtime.run(graph, In()) == Out(911)


def test_b2_one_name_is_not_enough_when_the_other_maker_still_sends_to_both():
    graph = two_makers()
    graph.connect("left_maker", "compare", parameter="left")

    assert "same-type-twice" in {problem.code for problem in graph.check()}


async def test_b2_two_uses_of_one_graph_are_told_apart_by_name(autojump_clock):
    inner = Graph("inner", input=In, output=Mid)

    @inner.node
    async def make(i: In) -> Mid:
        return Mid(i.v)

    graph = Graph("g", input=In, output=Out)
    graph.add(inner, name="once")
    graph.add(inner, name="again")

    @graph.node
    async def compare(left: Mid, right: Mid) -> Out:
        return Out(left.v + right.v)

    graph.connect("once", compare, parameter="left")
    graph.connect("again", compare, parameter="right")

    assert graph.check() == []
    async with open_runtime() as runtime:
        assert await runtime.run(graph, In(4)) == Out(8)


def test_b2_the_graph_itself_does_not_say_which_of_its_uses_is_meant():
    inner = Graph("inner", input=In, output=Mid)

    @inner.node
    async def make(i: In) -> Mid:
        return Mid(i.v)

    graph = Graph("g", input=In, output=Out)
    graph.add(inner, name="once")
    graph.add(inner, name="again")

    @graph.node
    async def end(mids: Mid) -> Out:
        return Out(mids.v)

    graph.connect(inner, end)
    [problem] = graph.check()
    assert problem.code == "connect-several-nodes"
    assert "inner stands as the nodes 'once' and 'again', and it isn't clear which of them is meant." in problem.message
    assert problem.fix == "pass the node's name: 'once'."


async def optional(left: Mid, right: Mid | None) -> Out:
    raise NotImplementedError


async def narrower(left: Mid, right: Narrow) -> Out:
    raise NotImplementedError


async def united(left: Mid | In, right: Narrow) -> Out:
    raise NotImplementedError


async def lists(left: list[Mid], right: list[Mid]) -> Out:
    raise NotImplementedError


@pytest.mark.parametrize("join", [optional, narrower, united, lists])
def test_b2_so_is_everything_else_that_one_message_fits_twice(join):
    graph = Graph("g", input=In, output=Out)

    @graph.node
    async def one(i: In) -> list[Narrow]:
        raise NotImplementedError

    graph.node(join)
    assert "same-type-twice" in {problem.code for problem in graph.check()}


def test_b2_and_two_parameters_of_the_input():
    graph = Graph("g", input=In, output=Out)

    @graph.node
    async def compare(left: In, right: In) -> Out:
        raise NotImplementedError

    [problem] = graph.check()
    assert problem.code == "same-type-twice"
    assert "each that the graph's input brings would be joined with itself" in problem.message


async def test_b2_two_lists_are_told_apart_by_their_makers(autojump_clock):
    graph = Graph("g", input=In, output=Out)

    @graph.node
    async def one(i: In) -> list[Mid]:
        return [Mid(1), Mid(2)]

    @graph.node
    async def two(i: In) -> list[Mid]:
        return [Mid(5)]

    @graph.node
    async def compare(left: list[Mid], right: list[Mid]) -> Out:
        return Out(sum(mid.v for mid in left) * 100 + sum(mid.v for mid in right))

    graph.connect(one, compare, parameter="left")
    graph.connect(two, compare, parameter="right")

    assert graph.check() == []
    async with open_runtime() as runtime:
        assert await runtime.run(graph, In()) == Out(305)


def test_b2_one_maker_may_be_named_for_both():
    graph = Graph("g", input=In, output=Out)

    @graph.node
    async def make(i: In) -> Mid:
        raise NotImplementedError

    @graph.node
    async def compare(left: Mid, right: Mid) -> Out:
        raise NotImplementedError

    graph.connect(make, compare, parameter="left")
    graph.connect(make, compare, parameter="right")
    assert graph.check() == []


def test_b2_a_parameter_that_is_none_is_named_with_those_that_are():
    graph = two_makers()
    graph.connect("left_maker", "compare", parameter="middle")

    problem = next(problem for problem in graph.check() if problem.code == "connect-unknown-parameter")
    assert "connect(left_maker, compare, parameter='middle') at " in problem.message
    assert "'compare' takes messages in 'left' and 'right'." in problem.message


def test_b2_a_parameter_is_a_name():
    with pytest.raises(DeclarationError, match=r"connect\(…, parameter=3\)"):
        two_makers().connect("left_maker", "compare", parameter=3)  # type: ignore[arg-type]


def test_b2_pictures_and_the_design_page_show_which_is_which():
    graph = two_makers()
    graph.connect("left_maker", "compare", parameter="left")
    graph.connect("right_maker", "compare", parameter="right")

    assert "n1 -->|left: Mid| n3" in graph.mermaid()
    assert "n2 -->|right: Mid| n3" in graph.mermaid()
    assert "| `left: Mid` and `right: Mid` |" in graph.describe()
    assert ">left: Mid</text>" in draw_svg(graph.plan())
