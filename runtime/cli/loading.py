"""From ``FILE.py:graph`` or ``package.module:graph`` to the graph, and in the same way to a function."""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import sys
import traceback
from collections.abc import Iterable
from pathlib import Path
from types import ModuleType
from typing import Final, final

import attrs

from actors.graphs.graph import Graph
from actors.words import said, with_article, words_of
from runtime.cli.wrong_usage import WrongUsage

MODULE_NAME: Final = "__graph_file__"
"""What the loaded file is called: no name that anything else could be imported by."""
FUNCTION_MODULE_NAME: Final = "__function_file__"
"""The same for the file of a function, where that is another."""


def load_graph(target: str) -> Graph:
    """The graph that `target` names: ``FILE.py:name`` or, as servers spell it, ``package.module:name``.

    The module is run. It can import its neighbours: a stand-alone file those of its folder, a file of a package what its package
    can, relative imports among it.

    Raises:
        WrongUsage: there is no such module, it cannot be loaded, or it has no graph of that name.
    """
    return _graphs([target])[0]


def load_graphs(targets: Iterable[str]) -> list[Graph]:
    """The graphs that `targets` name, checked. What their files print goes to standard error.

    Raises:
        WrongUsage: one cannot be loaded. DeclarationError: one has problems.
    """
    with contextlib.redirect_stdout(sys.stderr):
        graphs = _graphs(targets)
        for graph in graphs:
            graph.plan()
    return graphs


def _graphs(targets: Iterable[str]) -> list[Graph]:
    """Run each file once: run twice, its types would be others, and a message of one graph no input of the other."""
    modules: dict[Path, ModuleType] = {}
    graphs: list[Graph] = []
    for target in targets:
        place, name = _split(target, "a graph", "graphs.py:graph or package.graphs:graph")
        if place.file not in modules:
            modules[place.file] = _load(place, MODULE_NAME if not modules else f"{MODULE_NAME}{len(modules) + 1}")
        graphs.append(_graph_in(modules[place.file], place.shown, name))
    return graphs


def load_beside(target: str) -> object:
    """What `target` names, spelt as for :func:`load_graph`; None where the module has nothing of that name.

    The graph's own file is not run a second time.

    Raises:
        WrongUsage: there is no such module, or it cannot be loaded.
    """
    place, name = _split(target, "a function", "metrics.py:score or package.metrics:score")
    loaded = next((module for module in list(sys.modules.values()) if _is_from(module, place.file)), None)
    return getattr(loaded or _load(place, FUNCTION_MODULE_NAME), name, None)


@final
@attrs.frozen
class _Place:
    """Where a module is."""

    shown: str
    """As the user wrote it."""
    file: Path
    module: str | None
    """The name by which a package's modules import it; None for a file that belongs to no package."""
    root: Path
    """The folder from which that name is imported, or the file's own."""


def _split(target: str, what: str, example: str) -> tuple[_Place, str]:
    path, colon, name = target.rpartition(":")
    if not colon or not path or not name.isidentifier():
        raise WrongUsage(f"{target!r} does not name {what}: expected FILE.py:NAME or MODULE:NAME, such as {example}")
    if not Path(path).exists() and not path.endswith(".py") and all(part.isidentifier() for part in path.split(".")):
        return _module_place(path), name
    return _file_place(path), name


def _file_place(path: str) -> _Place:
    file = Path(path)
    if not file.is_file():
        raise WrongUsage(f"{path!r} {'is a folder, not a file' if file.is_dir() else _missing(file)}")
    if file.suffix != ".py":
        raise WrongUsage(f"{path!r} isn't a Python file: its name does not end in .py")
    file = file.resolve()
    parts, root = [file.stem], file.parent
    while (root / "__init__.py").is_file() and root.name.isidentifier() and root != root.parent:
        parts, root = [root.name, *parts], root.parent
    if len(parts) == 1:
        return _Place(path, file, None, root)
    return _Place(path, file, ".".join(parts[:-1] if file.stem == "__init__" else parts), root)


def _module_place(path: str) -> _Place:
    """Where the module `path` is, looked for from the folder that we are in and then wherever Python looks."""
    here = Path.cwd()
    _import_from(here)
    importlib.invalidate_caches()
    try:
        spec = importlib.util.find_spec(path)
    except ModuleNotFoundError as error:
        spec = None
        if error.name not in _packages_of(path):
            raise WrongUsage(f"{path!r} cannot be loaded: {said(error)}") from error
    except Exception as error:
        raise WrongUsage(f"{path!r} cannot be loaded: its package fails: {said(error)}") from error
    if spec is None or spec.origin is None or not spec.has_location:
        raise WrongUsage(f"{path!r} isn't a module in {str(here)!r} or where Python looks; name the Python file: FILE.py:NAME")
    return _Place(path, Path(spec.origin).resolve(), path, here)


def _packages_of(module: str) -> set[str]:
    parts = module.split(".")
    return {".".join(parts[:end]) for end in range(1, len(parts) + 1)}


def _missing(file: Path) -> str:
    """That there is no such file, and which may be meant."""
    meant = Path(f"{file}.py")
    fix = f"did you mean {str(meant)!r}?" if meant.is_file() else "name the Python file that declares it"
    return f"does not exist in {str(Path.cwd())!r}; {fix}"


def _load(place: _Place, alone: str) -> ModuleType:
    """Run the module and return it; `alone` is what a file that belongs to no package is called."""
    _import_from(place.root)
    try:
        module = _run(place.file, alone) if place.module is None else importlib.import_module(place.module)
    except (Exception, SystemExit) as error:
        fix = f". {_RELATIVE}" if isinstance(error, ImportError) and "relative import" in words_of(error) else ""
        where = _line(error, place.file)
        raise WrongUsage(f"{place.shown!r} cannot be loaded{where}: {said(error)}{fix}") from error
    if not _is_from(module, place.file):  # an installed package bears the same name
        raise WrongUsage(f"{place.shown!r} is {place.module!r} to Python, and that is another file: {module.__file__!r}")
    return module


_RELATIVE: Final = "A file imports its package relatively only as a part of it: add an __init__.py, or name MODULE:NAME"


def _is_from(module: ModuleType, file: Path) -> bool:
    """Whether `module` was made from `file`. The program that runs has been made from one, too, and is not meant."""
    place: object = getattr(module, "__file__", None)
    if not isinstance(place, str) or not place.endswith(file.name) or getattr(module, "__name__", None) == "__main__":
        return False
    return Path(place).resolve() == file


def _import_from(folder: Path) -> None:
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))


def _run(file: Path, name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, file)
    assert spec is not None and spec.loader is not None, "a name that ends in .py has a loader"
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # annotations are looked up there
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]  # half a module is none
        raise
    return module


def _line(error: BaseException, file: Path) -> str:
    """Where in the file the error came up."""
    if isinstance(error, SyntaxError):
        return ""  # it says so itself
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(file)]
    return f" (line {frames[-1].lineno})" if frames else ""


def _graph_in(module: ModuleType, path: str, name: str) -> Graph:
    found = getattr(module, name, None)
    if isinstance(found, Graph):
        return found  # pyright: ignore[reportUnknownVariableType] - Graph[Unknown, Unknown], by isinstance
    names = [key for key, value in vars(module).items() if isinstance(value, Graph)]
    graphs = f"its graphs: {', '.join(names)}" if names else "it has no graph: declare one there, such as graph = Graph(…)"
    if not hasattr(module, name):
        raise WrongUsage(f"{path!r} has no {name!r}; {graphs}")
    raise WrongUsage(f"{name!r} in {path!r} is {with_article(type(found).__name__)}, not a Graph; {graphs}")
