"""FILE.py:NAME, and each way in which it can be wrong, with its exact line."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from runtime.cli.loading import MODULE_NAME, load_graph
from runtime.cli.wrong_usage import WrongUsage

GRAPHS = """
from __future__ import annotations
import dataclasses
from actors import Graph

@dataclasses.dataclass(frozen=True)
class A:
    text: str

graph = Graph("first", input=A, output=A)
second = Graph("second", input=A, output=A)
answer = 42
"""


@pytest.fixture(autouse=True)
def undone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield
    sys.modules.pop(MODULE_NAME, None)


def refusal(target: str) -> str:
    with pytest.raises(WrongUsage) as refused:
        load_graph(target)
    return str(refused.value)


def test_the_graph_is_found_by_its_name() -> None:
    Path("graphs.py").write_text(GRAPHS)

    assert load_graph("graphs.py:second").name == "second"


def test_a_file_can_import_its_neighbour() -> None:
    Path("sub").mkdir()
    Path("sub/understudy_neighbour.py").write_text(GRAPHS)
    Path("sub/graphs.py").write_text("from understudy_neighbour import graph")

    assert load_graph("sub/graphs.py:graph").name == "first"
    del sys.modules["understudy_neighbour"]


@pytest.mark.parametrize("target", ["graphs.py", ":graph", "graphs.py:", "graphs.py:not a name", "C:\\graphs.py"])
def test_a_target_without_file_and_name_is_refused(target: str) -> None:
    expected = "expected FILE.py:NAME or MODULE:NAME, such as graphs.py:graph or package.graphs:graph"
    assert refusal(target) == f"{target!r} does not name a graph: {expected}"


def test_a_wrong_path_is_refused() -> None:
    Path("folder.py").mkdir()
    Path("graphs.txt").write_text("")

    Path("sub").mkdir()
    Path("sub/near.py").write_text("")
    nowhere = f"does not exist in {str(Path.cwd())!r}"
    assert refusal("nowhere.py:graph") == f"'nowhere.py' {nowhere}; name the Python file that declares it"
    assert refusal("sub/near:graph") == f"'sub/near' {nowhere}; did you mean 'sub/near.py'?"
    assert refusal("sub.far:graph") == (
        f"'sub.far' isn't a module in {str(Path.cwd())!r} or where Python looks; name the Python file: FILE.py:NAME"
    )
    assert refusal("folder.py:graph") == "'folder.py' is a folder, not a file"
    assert refusal("graphs.txt:graph") == "'graphs.txt' isn't a Python file: its name does not end in .py"


def test_a_wrong_name_is_refused_with_those_that_there_are() -> None:
    Path("graphs.py").write_text(GRAPHS)
    Path("empty.py").write_text("")

    assert refusal("graphs.py:grpah") == "'graphs.py' has no 'grpah'; its graphs: graph, second"
    assert refusal("graphs.py:answer") == "'answer' in 'graphs.py' is an int, not a Graph; its graphs: graph, second"
    assert refusal("empty.py:graph") == (
        "'empty.py' has no 'graph'; it has no graph: declare one there, such as graph = Graph(…)"
    )


@pytest.mark.parametrize(
    ("source", "line"),
    [
        ("x = 1\nimport nothing_of_that_name", " (line 2): ModuleNotFoundError: No module named 'nothing_of_that_name'"),
        ("raise SystemExit(3)", " (line 1): SystemExit: 3"),
        ("def f(:", ": SyntaxError: invalid syntax (broken.py, line 1)"),
        ("raise OSError('two\\nlines \\x1b[31m')", " (line 1): OSError: two lines"),
    ],
)
def test_a_file_that_cannot_be_loaded_says_where_and_why_on_one_line(source: str, line: str) -> None:
    Path("broken.py").write_text(source)

    assert refusal("broken.py:graph") == f"'broken.py' cannot be loaded{line}"


def test_the_files_types_can_be_resolved_later() -> None:
    """With ``from __future__ import annotations`` a type is looked up in the module its class names."""
    Path("graphs.py").write_text(GRAPHS)

    (kind,) = load_graph("graphs.py:graph").input_types

    assert re.fullmatch(MODULE_NAME, kind.__module__)
    assert sys.modules[MODULE_NAME].A is kind
