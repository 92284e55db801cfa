"""One message goes to several nodes as the same object: types that can be changed are pointed out, and not refused."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import attrs
import pydantic
import pytest

from actors import Graph
from runtime.cli.main import main


@attrs.frozen
class Out:
    v: int = 0


@attrs.define
class Defined:
    v: int = 0


@dataclasses.dataclass
class Data:
    v: int = 0


class Model(pydantic.BaseModel):
    v: int = 0


@attrs.frozen
class Frozen:
    v: int = 0


@dataclasses.dataclass(frozen=True)
class FrozenData:
    v: int = 0


class FrozenModel(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(frozen=True)
    v: int = 0


def graph_of(kind: type, takers: int) -> Graph:
    graph = Graph("g", input=kind, output=Out)
    for index in range(takers):

        async def work(message: object) -> Out:
            return Out(1)

        work.__annotations__["message"] = kind
        graph.node(name=f"work{index}")(work)
    return graph


@pytest.mark.parametrize(
    ("kind", "fix"),
    [
        (Defined, "write @attrs.frozen above Defined"),
        (Data, "write @dataclass(frozen=True) above Data"),
        (Model, "write model_config = ConfigDict(frozen=True) in Model"),
    ],
)
def test_b6_a_type_that_can_be_changed_and_goes_to_several_nodes_is_a_hint(kind, fix):
    graph = graph_of(kind, takers=2)

    assert graph.check() == []
    [hint] = graph.hints()
    assert hint.code == "mutable-message"
    assert f".{kind.__qualname__} can be changed, and one message of it goes to 'work0' and 'work1'" in hint.message
    assert hint.fix.startswith(fix)


@pytest.mark.parametrize("kind", [Frozen, FrozenData, FrozenModel])
def test_b6_frozen_types_are_none(kind):
    assert graph_of(kind, takers=2).hints() == []


def test_b6_nor_is_a_type_that_one_node_takes():
    assert graph_of(Data, takers=1).hints() == []


def test_b6_the_hints_of_a_graph_that_is_a_node_are_said_too():
    outer = Graph("outer", input=Data, output=Out)
    outer.add(graph_of(Data, takers=2), name="inner")

    assert [(hint.code, hint.node) for hint in outer.hints()] == [("mutable-message", "inner")]


def test_b6_graph_check_prints_it_and_exits_with_0(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    (tmp_path / "page.py").write_text(
        "import dataclasses\nfrom actors import Graph\n"
        "@dataclasses.dataclass\nclass A:\n    n: int = 0\n"
        "@dataclasses.dataclass\nclass B:\n    n: int = 0\n"
        "g = Graph('g', input=A, output=B)\n"
        "@g.node\nasync def one(a: A) -> B:\n    return B()\n"
        "@g.node\nasync def two(a: A) -> B:\n    return B()\n"
    )

    assert main(["graph", "check", f"{tmp_path / 'page.py'}:g"]) == 0
    assert ".A can be changed, and one message of it goes to 'one' and 'two'" in capsys.readouterr().out
