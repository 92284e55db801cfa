"""A graph in a module of a package is loaded by its file and by its dotted name, as servers load applications."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from runtime.cli.loading import MODULE_NAME, load_beside, load_graph
from runtime.cli.wrong_usage import WrongUsage

TYPES = """
import attrs

@attrs.frozen
class A:
    text: str
"""
GRAPHS = """
from __future__ import annotations
from actors import Graph
from .types_of_it import A
from . import types_of_it

graph = Graph("in-a-package", input=A, output=A)

def score(example, prediction, trace=None):
    return 1.0
"""


@pytest.fixture(autouse=True)
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """``mypkg/inner/graphs.py`` with a neighbour; what is imported is forgotten afterwards."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    before = set(sys.modules)
    inner = tmp_path / "mypkg" / "inner"
    inner.mkdir(parents=True)
    (tmp_path / "mypkg/__init__.py").touch()
    (inner / "__init__.py").touch()
    (inner / "types_of_it.py").write_text(TYPES)
    (inner / "graphs.py").write_text(GRAPHS)
    yield inner
    for name in set(sys.modules) - before:
        del sys.modules[name]


@pytest.mark.parametrize("target", ["mypkg/inner/graphs.py:graph", "mypkg.inner.graphs:graph", "./mypkg/inner/graphs.py:graph"])
def test_e1_a_module_of_a_package_is_loaded_with_its_relative_imports(target: str) -> None:
    graph = load_graph(target)

    assert graph.name == "in-a-package"
    assert graph.input_types[0].__module__ == "mypkg.inner.types_of_it"


def test_e1_a_package_is_found_from_another_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")

    assert load_graph("../mypkg/inner/graphs.py:graph").name == "in-a-package"


def test_e1_the_init_file_of_a_package_can_declare_the_graph(package: Path) -> None:
    (package / "__init__.py").write_text("from mypkg.inner.graphs import graph as graph")

    assert load_graph("mypkg/inner/__init__.py:graph").name == load_graph("mypkg.inner:graph").name == "in-a-package"


def test_e1_a_module_is_run_once_however_it_is_spelt() -> None:
    graph = load_graph("mypkg/inner/graphs.py:graph")

    assert load_graph("mypkg.inner.graphs:graph") is graph
    score = load_beside("mypkg.inner.graphs:score")
    assert sys.modules["mypkg.inner.graphs"].score is score


def test_e1_a_stand_alone_module_has_both_forms(tmp_path: Path) -> None:
    (tmp_path / "types_of_it.py").write_text(TYPES)
    (tmp_path / "alone.py").write_text(GRAPHS.replace("from .", "from ").replace("from  import", "import"))

    assert load_graph("alone.py:graph").name == load_graph("alone:graph").name == "in-a-package"
    assert {MODULE_NAME, "alone"} <= set(sys.modules)


@pytest.mark.parametrize(
    ("source", "target", "words"),
    [
        (
            "from .types_of_it import A",
            "alone.py:graph",
            "with no known parent package. A file imports",
        ),
        ("import nothing_of_that_name", "alone:graph", "'alone' cannot be loaded (line 1): ModuleNotFoundError"),
        ("", "mypkg.nowhere:graph", "'mypkg.nowhere' isn't a module in"),
        ("", "nowhere.at.all:graph", "'nowhere.at.all' isn't a module in"),
        ("", "alone.py.graph", "does not name a graph"),
    ],
)
def test_e1_what_cannot_be_loaded_says_why(tmp_path: Path, source: str, target: str, words: str) -> None:
    (tmp_path / "alone.py").write_text(source)

    with pytest.raises(WrongUsage) as refused:
        load_graph(target)

    assert words in str(refused.value)


def test_e1_a_package_that_fails_says_so(package: Path) -> None:
    (package / "__init__.py").write_text("raise OSError('no disk')")

    with pytest.raises(WrongUsage, match=r"'mypkg.inner.graphs' cannot be loaded: its package fails: OSError: no disk"):
        load_graph("mypkg.inner.graphs:graph")


def test_e1_another_package_of_the_same_name_is_named(tmp_path: Path) -> None:
    (tmp_path / "json").mkdir()
    (tmp_path / "json/__init__.py").touch()
    (tmp_path / "json/graphs.py").write_text(GRAPHS)

    with pytest.raises(WrongUsage, match=r"'json/graphs.py' cannot be loaded"):
        load_graph("json/graphs.py:graph")
