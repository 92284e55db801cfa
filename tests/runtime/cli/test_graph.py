"""``understudy graph``: pictures, problems and design pages, without a run."""

from __future__ import annotations

import json
import sys
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import pytest
import trio
from PIL import Image

from runtime import open_runtime
from runtime.cli.loading import load_graph
from runtime.cli.main import main
from runtime.testing import ScriptedLM
from tests.runtime.cli.command import ROOT

EXAMPLE = f"{ROOT}/docs/examples/property_extraction.py:graph"
SVG = "{http://www.w3.org/2000/svg}"

SUFFIXES = "expected a name that ends in .svg, .png, .mmd (Mermaid) or .md (the design page)"
WRITABLE = "Fix: name a file in a folder that exists and that you may write to"

LOOP = """
import attrs
from actors import Graph

@attrs.frozen
class A:
    n: int = 1

@attrs.frozen
class B:
    n: int = 1

@attrs.frozen
class Unused:
    pass

g = Graph("a<b", input=A, output=B)
broken = Graph("broken", input=A, output=B)

@g.node
async def one(a: A) -> B | A:
    raise NotImplementedError


@broken.node
async def two(a: A) -> Unused:
    raise NotImplementedError

"""

NEEDS = """
from typing import Annotated
import attrs
from actors import Dep, Graph

@attrs.frozen
class A:
    n: int = 1

@attrs.frozen
class B:
    n: int = 1

g = Graph("needs", input=A, output=B)

@g.node
async def one(a: A) -> A:
    raise NotImplementedError


@g.node
async def two(a: A, one: Annotated[A, Dep(one)]) -> B:
    raise NotImplementedError

"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "loop.py"
    path.write_text(LOOP)
    return path


def test_show_prints_mermaid(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["graph", "show", EXAMPLE]) == 0

    assert capsys.readouterr().out.startswith('graph TD\n    input(["Intent"])\n')


def test_check_of_a_good_graph_counts_and_exits_with_0(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["graph", "check", EXAMPLE]) == 0

    assert capsys.readouterr().out == "graph 'property-extraction' has no problems: 4 nodes, 8 edges\n"


def test_check_of_a_bad_graph_prints_every_problem_with_its_fix_and_exits_with_1(
    file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["graph", "check", f"{file}:broken"]) == 1

    out = capsys.readouterr().out
    assert out.startswith("graph 'broken' has 2 problems:\n  1. node 'two' (")
    assert out.count("    Fix: ") == 2


def test_describe_prints_the_design_page(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["graph", "describe", EXAMPLE]) == 0

    out = capsys.readouterr().out
    assert out.startswith("# property-extraction\n")
    assert " when full.\n\n## What the language model is told\n" in out


REACT = f"{ROOT}/docs/examples/react.py"


@pytest.mark.parametrize("tools", ["native", "text"])
async def test_describe_prints_the_prompts_of_an_agent_as_they_are_sent(tools: Any, capsys: pytest.CaptureFixture[str]) -> None:
    graph = await trio.to_thread.run_sync(load_graph, f"{REACT}:graph")
    lm = ScriptedLM([{"text": "12 degrees"}], tools=tools)
    question = graph.input_types[0]
    async with open_runtime(lm=lm) as runtime:
        await runtime.run(graph, question("{question_text}"))

    assert await trio.to_thread.run_sync(main, ["graph", "describe", f"{REACT}:graph"]) == 0

    out = capsys.readouterr().out.split("## What the language model is told")[1]
    [call] = lm.calls
    for message in call.messages:
        lines = "\n".join(message["content"].splitlines())
        assert f"~~~text\n{lines}\n~~~" in out
    assert len(call.messages) == (2 if tools == "native" else 3)
    for tool in call.options.get("tools", ()):
        assert f"\n{json.dumps(tool)}\n" in out


@pytest.mark.parametrize(("suffix", "begins"), [(".svg", "<svg "), (".mmd", "graph TD\n"), (".md", "# property-extraction\n")])
def test_export_writes_the_kind_that_the_name_says(
    suffix: str, begins: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / f"graph{suffix}"

    assert main(["graph", "export", EXAMPLE, "-o", str(output)]) == 0

    assert output.read_text().startswith(begins)
    assert output.read_text().endswith("\n")
    assert capsys.readouterr().out == f"wrote {output}\n"


@pytest.mark.parametrize(
    ("output", "line"),
    [
        ("graph.pdf", f"-o graph.pdf: {SUFFIXES}"),
        ("graph", f"-o graph: {SUFFIXES}"),
        ("/nowhere/graph.svg", f"-o /nowhere/graph.svg: cannot be written: No such file or directory. {WRITABLE}"),
        ("/nowhere/graph.PNG", f"-o /nowhere/graph.PNG: cannot be written: No such file or directory. {WRITABLE}"),
    ],
)
def test_export_to_what_cannot_be_written_is_one_line(output: str, line: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["graph", "export", EXAMPLE, "-o", output]) == 2

    assert capsys.readouterr().err == f"understudy: {line}\n"


@pytest.mark.parametrize("name", ["graph.png", "GRAPH.PNG"])
def test_a_png_is_one(name: str, tmp_path: Path) -> None:
    output = tmp_path / name

    assert main(["graph", "export", EXAMPLE, "-o", str(output)]) == 0

    with Image.open(output) as image:
        assert image.format == "PNG"


def test_a_png_without_pillow_says_what_to_install(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setitem(sys.modules, "runtime.draw.png", None)

    assert main(["graph", "export", EXAMPLE, "-o", "graph.png"]) == 2

    fix = "pip install 'understudy[pictures]', or write a .svg, which needs nothing"
    assert capsys.readouterr().err == f"understudy: a PNG needs Pillow, which is not installed. Fix: {fix}\n"


def test_what_the_file_prints_is_not_in_the_text_that_is_asked_for(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file.write_text(f"print('loaded')\n{LOOP}")

    main(["graph", "show", f"{file}:g"])

    out, err = capsys.readouterr()
    assert (out.splitlines()[0], err) == ("graph TD", "loaded\n")


def test_names_in_the_picture_are_escaped_and_a_loop_is_drawn(file: Path, tmp_path: Path) -> None:
    output = tmp_path / "loop.svg"

    main(["graph", "export", f"{file}:g", "-o", str(output)])

    root = ET.fromstring(output.read_text())
    assert root.findtext(f"{SVG}title") == "a<b"
    assert len(root.findall(f"{SVG}path")) == 3


def test_what_a_node_depends_on_is_joined_to_it_by_a_dashed_line_with_a_dot_at_its_end(tmp_path: Path) -> None:
    graph, output = tmp_path / "needs.py", tmp_path / "needs.svg"
    graph.write_text(NEEDS)

    main(["graph", "export", f"{graph}:g", "-o", str(output)])

    lines = ET.fromstring(output.read_text()).findall(f"{SVG}path")
    assert [(line.get("marker-end"), line.get("stroke-dasharray")) for line in lines] == [
        ("url(#tip)", None),
        ("url(#tip)", None),
        ("url(#dot)", "5 4"),
    ]
