"""The picture: stable text, one shape per kind, labels that Mermaid cannot misread."""

# mypy: disable-error-code="empty-body"

from __future__ import annotations

from typing import Annotated

import attrs

from actors.graphs.graph import Graph
from actors.graphs.markers import Dep
from actors.graphs.mermaid import escape


@attrs.frozen
class Ask:
    pass


@attrs.frozen
class A:
    pass


@attrs.frozen
class Out:
    pass


def picture() -> str:
    graph = Graph("g", input=Ask, output=Out)

    @graph.node
    async def split(ask: Ask) -> list[A]:
        raise NotImplementedError

    @graph.predict
    async def score(a: A) -> A:
        """Fill it."""
        ...

    @graph.node(name='say "end"')
    async def end(scores: list[A]) -> Out:
        raise NotImplementedError

    graph.connect(split, score)
    graph.connect(score, end, when=lambda a: True)
    return graph.mermaid()


def test_the_whole_picture():
    assert picture() == (
        "graph TD\n"
        '    input(["Ask"])\n'
        '    n1["split"]\n'
        '    n2{{"score"}}\n'
        '    n3["say #34;end#34;"]\n'
        '    output[["Out"]]\n'
        "    input -->|Ask| n1\n"
        "    n1 ==>|A| n2\n"
        '    n2 -.->|"list[A]"| n3\n'
        "    n3 -->|Out| output"
    )
    assert picture() == picture()


def test_a_graph_with_problems_can_be_drawn():
    assert Graph("g", input=Ask, output=A | Out).mermaid().splitlines() == [
        "graph TD",
        '    input(["Ask"])',
        '    output[["A #124; Out"]]',
    ]


def test_labels_are_escaped():
    assert escape('a|b"<c>`#&\\\n') == "a#124;b#34;#60;c#62;#96;#35;#38;#92; "


def test_what_goes_to_several_nodes_bears_its_name_once():
    graph = Graph("g", input=Ask, output=Out)

    @graph.node
    async def left(ask: Ask) -> list[A]:
        raise NotImplementedError

    @graph.node
    async def right(ask: Ask) -> Out:
        raise NotImplementedError

    @graph.node
    async def first(a: A) -> Out:
        raise NotImplementedError

    @graph.node
    async def second(a: A) -> Out:
        raise NotImplementedError

    assert graph.mermaid().splitlines()[7:] == [
        "    j1(( ))",
        "    input ---|Ask| j1",
        "    j1 --> n1",
        "    j1 --> n2",
        "    j2(( ))",
        "    n1 ===|A| j2",
        "    j2 ==> n3",
        "    j2 ==> n4",
        "    n2 -->|Out| output",
        "    n3 -->|Out| output",
        "    n4 -->|Out| output",
    ]


def test_a_node_that_others_depend_on_is_joined_to_them_by_a_line_with_a_dot():
    graph = Graph("g", input=Ask, output=Out)

    @graph.node
    async def needed(ask: Ask) -> Out:
        raise NotImplementedError

    @graph.node
    async def work(ask: Ask, out: Annotated[Out, Dep(needed)]) -> Out:
        raise NotImplementedError

    assert graph.mermaid().splitlines()[-3:] == ["    input -->|Ask| n2", "    n2 -->|Out| output", "    n1 --o|Dep| n2"]
    assert "| `needed` | async function, on demand |" in graph.describe()
