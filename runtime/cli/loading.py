"""From ``FILE.py:graph`` to the graph, and from ``FILE.py:function`` to the function."""

from __future__ import annotations

import importlib.util
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any, Final

from actors.graph import Graph
from actors.words import said
from runtime.cli.wrong_usage import WrongUsage

MODULE_NAME: Final = "__graph_file__"
"""What the loaded file is called: no name that anything else could be imported by."""
FUNCTION_MODULE_NAME: Final = "__function_file__"
"""The same for the file of a function, where that is another."""


def load_graph(target: str) -> Graph:
    """The graph that `target` (``FILE.py:name``) names. The file is run, and can import its neighbours.

    Raises:
        WrongUsage: there is no such file, it cannot be loaded, or it has no graph of that name.
    """
    file, name = _split(target, "a graph", "graphs.py:graph")
    return _graph_in(_load(file, MODULE_NAME), str(file), name)


def load_function(target: str) -> Callable[..., Any]:
    """The function that `target` (``FILE.py:name``) names. The graph's own file is not run a second time.

    Raises:
        WrongUsage: there is no such file, it cannot be loaded, or it has no function of that name.
    """
    file, name = _split(target, "a function", "metrics.py:score")
    module = sys.modules.get(MODULE_NAME)
    if module is None or module.__file__ != str(file.resolve()):
        module = _load(file, FUNCTION_MODULE_NAME)
    found: object = getattr(module, name, None)
    if not callable(found):
        raise WrongUsage(f"{str(file)!r} has no function {name!r}")
    return found


def _split(target: str, what: str, example: str) -> tuple[Path, str]:
    path, colon, name = target.rpartition(":")
    if not colon or not path or not name.isidentifier():
        raise WrongUsage(f"{target!r} does not name {what}: expected FILE.py:NAME, such as {example}")
    file = Path(path)
    if not file.is_file():
        raise WrongUsage(f"{path!r} {'is a folder, not a file' if file.is_dir() else _missing(file)}")
    if file.suffix != ".py":
        raise WrongUsage(f"{path!r} is no Python file: its name does not end in .py")
    return file, name


def _missing(file: Path) -> str:
    """That there is no such file, and which may be meant."""
    meant = [other for other in (Path(f"{file}.py"), Path(f"{str(file).replace('.', '/')}.py")) if other.is_file()]
    mend = f"did you mean {str(meant[0])!r}?" if meant else "name the Python file that declares it"
    return f"does not exist in {str(Path.cwd())!r}; {mend}"


def _load(file: Path, name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, file.resolve())
    assert spec is not None and spec.loader is not None, "a name that ends in .py has a loader"
    module = importlib.util.module_from_spec(spec)
    sys.path.insert(0, str(file.resolve().parent))
    sys.modules[name] = module  # annotations are looked up there
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        raise WrongUsage(f"{str(file)!r} cannot be loaded{_line(error, file)}: {said(error)}") from error
    return module


def _line(error: BaseException, file: Path) -> str:
    """Where in the file the error came up."""
    if isinstance(error, SyntaxError):
        return ""  # it says so itself
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(file.resolve())]
    return f" (line {frames[-1].lineno})" if frames else ""


def _graph_in(module: ModuleType, path: str, name: str) -> Graph:
    found = getattr(module, name, None)
    if isinstance(found, Graph):
        return found
    names = [key for key, value in vars(module).items() if isinstance(value, Graph)]
    graphs = f"its graphs: {', '.join(names)}" if names else "it has no graph: declare one there, such as graph = Graph(…)"
    if not hasattr(module, name):
        raise WrongUsage(f"{path!r} has no {name!r}; {graphs}")
    kind = type(found).__name__
    article = "an" if kind[0].lower() in "aeiou" else "a"
    raise WrongUsage(f"{name!r} in {path!r} is {article} {kind}, not a Graph; {graphs}")
