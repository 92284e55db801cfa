"""The architecture as data: which room may import which, where each foreign library lives, what an import may cost."""

from __future__ import annotations

import ast
import functools
import json
import subprocess
import sys
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from actors.graphs.components import strong_components

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("actors", "runtime")

_LM = (
    "runtime/lm",
    "runtime/lm/dspy",
    "runtime/lm/http",
    "runtime/lm/limits",
    "runtime/lm/predictors",
    "runtime/lm/providers",
    "runtime/lm/tools",
    "runtime/record",
)
_BELOW_APP = ("actors", "actors/graphs", "runtime/core", "runtime/graphs", "runtime/journal", "runtime/messages", *_LM)
_APP = ("runtime", *_BELOW_APP)

# A room is a folder. Its files import the files of the rooms named here, and one another without a cycle.
ROOMS: Mapping[str, tuple[str, ...]] = {
    "actors": (),
    "actors/graphs": ("actors",),
    "runtime/core": ("actors",),
    "runtime/messages": ("actors",),
    "runtime/journal": ("actors", "actors/graphs", "runtime/messages"),
    "runtime/lm/limits": ("actors",),
    "runtime/lm/http": ("actors", "runtime/lm/limits"),
    "runtime/record": ("actors", "runtime/lm/http", "runtime/lm/limits"),
    "runtime/lm/providers": ("actors", "runtime/lm/http", "runtime/lm/limits", "runtime/messages"),
    "runtime/lm/tools": ("actors", "actors/graphs", "runtime/lm/limits", "runtime/messages"),
    "runtime/lm/dspy": ("actors", "actors/graphs", "runtime/lm/limits", "runtime/messages"),
    "runtime/lm/backends": ("actors", "runtime/lm/dspy", "runtime/lm/limits", "runtime/lm/providers", "runtime/messages"),
    "runtime/lm/predictors": ("actors", "actors/graphs", "runtime/lm/backends", "runtime/lm/dspy", "runtime/messages"),
    "runtime/lm": (
        "actors",
        "runtime/lm/dspy",
        "runtime/lm/http",
        "runtime/lm/limits",
        "runtime/lm/providers",
        "runtime/lm/tools",
        "runtime/messages",
        "runtime/record",
    ),
    "runtime/graphs/reducer": ("actors", "actors/graphs"),
    "runtime/graphs": (
        "actors",
        "actors/graphs",
        "runtime/core",
        "runtime/graphs/reducer",
        "runtime/journal",
        "runtime/messages",
        *_LM,
    ),
    "runtime": _BELOW_APP,
    "runtime/tools": ("actors", "actors/graphs"),
    "runtime/embed": _APP,
    "runtime/telemetry": _APP,
    # The layout of a graph's picture is part of what is told of it.
    "runtime/serve": (
        *_APP,
        "runtime/cli/draw",
        "runtime/embed",
        "runtime/inspector",
        "runtime/recording",
        "runtime/telemetry",
        "runtime/traces",
    ),
    "runtime/inspector": (*_APP, "runtime/recording"),
    "runtime/traces": ("actors", "runtime/recording"),
    "runtime/serve/faces": (*_APP, "runtime/recording", "runtime/serve"),
    "runtime/recording": ("actors", "runtime/core", "runtime/graphs", "runtime/journal", "runtime/messages"),
    "runtime/evaluate": _APP,
    "runtime/testing/models": ("actors", "runtime/lm", "runtime/lm/dspy", "runtime/lm/limits"),
    "runtime/testing/stores": ("actors", "runtime/journal"),
    "runtime/testing/cases": _APP,
    "runtime/testing/schedules": (*_APP, "runtime/testing/cases", "runtime/testing/models", "runtime/testing/stores"),
    "runtime/testing": (
        *_APP,
        "runtime/testing/cases",
        "runtime/testing/models",
        "runtime/testing/schedules",
        "runtime/testing/stores",
    ),
    "runtime/cli/draw": ("actors", "actors/graphs"),
    "runtime/cli": (
        *_APP,
        "runtime/cli/draw",
        "runtime/evaluate",
        "runtime/inspector",
        "runtime/recording",
        "runtime/serve",
        "runtime/serve/faces",
        "runtime/traces",
    ),
}
# Beyond their room's arrows: the demo shows its model calls with what tests are made of.
ALSO: Mapping[str, tuple[str, ...]] = {
    f"runtime/cli/{name}.py": ("runtime/testing/models",) for name in ("demo", "study", "timeline")
}
# What decides without a clock, a task or a channel, and so may not import trio: all of these rooms, and these files.
PURE = (
    "actors/",
    "runtime/cli/draw/",
    "runtime/core/frames.py",
    "runtime/core/lifecycle.py",
    "runtime/core/restarts.py",
    "runtime/graphs/reducer/",
    "runtime/messages/",
    "runtime/traces/",
)

# One foreign library, one file. A second file is an exception that gives its reason beside its row.
FOREIGN: Mapping[str, frozenset[str]] = {
    # The demo compares with DSPy as its users call it, which is what the bridge exists to avoid.
    "dspy": frozenset({"runtime/lm/dspy/library.py", "runtime/cli/demo_dspy.py"}),
    "h11": frozenset(
        {
            "runtime/lm/http/http1.py",  # the client's side; the test provider's side shares nothing with it
            "runtime/testing/models/wire.py",
        }
    ),
    "httpx": frozenset(
        {
            "runtime/lm/http/httpx_clients.py",  # subclasses its transports, so it can only be imported when httpx is
            "runtime/lm/http/http_messages.py",  # gives a reply as one of its responses, to libraries that read those
            "runtime/lm/http/transport.py",
            "runtime/serve/jwt.py",  # fetches a provider's public keys, which is no call of a model
            "runtime/cli/fetching.py",  # asks a service for the events of a run, from a command line
            "runtime/testing/network.py",  # is a transport of httpx, for tests
        }
    ),
    "opentelemetry": frozenset({"runtime/telemetry/tracing.py", "runtime/telemetry/meters.py"}),  # spans and metrics: two APIs
    "prometheus_client": frozenset({"runtime/telemetry/prometheus.py"}),
    "packaging": frozenset({"runtime/cli/doctor.py"}),
    "PIL": frozenset({"runtime/cli/draw/png.py"}),
    "litellm": frozenset({"runtime/lm/providers/library.py"}),
    "mcp": frozenset(
        {
            "runtime/tools/mcp_client.py",
            "runtime/serve/faces/mcp_server.py",  # the other side of it
        }
    ),
    "httpx2": frozenset({"runtime/tools/mcp_client.py"}),  # that of the library mcp, with which it comes
    "ag_ui": frozenset({"runtime/serve/faces/agui_events.py"}),
    "rich": frozenset({"runtime/cli/watch.py"}),
    "cronsim": frozenset({"runtime/graphs/schedule_times.py"}),
    "msgspec": frozenset({"runtime/messages/codec.py"}),
    "psycopg": frozenset({"runtime/journal/postgres_wire.py"}),
    "jwt": frozenset({"runtime/serve/jwt.py"}),
    "hypercorn": frozenset({"runtime/serve/server.py"}),
    "starlette": frozenset({"runtime/serve/web.py"}),
    "pydantic": frozenset(
        {
            "runtime/messages/mirrors.py",  # are made of its models
            "runtime/messages/schemas.py",  # reads and describes by them
            "runtime/messages/showing.py",  # what it found wrong, in words
            "runtime/serve/faces/agui_events.py",  # what the types of a protocol, which are its models, found wrong
        }
    ),
    "pydantic_ai": frozenset({"runtime/lm/backends/pydantic_ai.py"}),
}
# Of these, what is not needed by every installation: the distribution, which is in an extra.
EXTRAS: Mapping[str, str] = {
    "ag_ui": "ag-ui-protocol",
    "cronsim": "cronsim",
    "PIL": "pillow",
    "httpx2": "mcp",
    "hypercorn": "hypercorn[trio]",
    "jwt": "pyjwt[crypto]",
    "mcp": "mcp",
    "opentelemetry": "opentelemetry-sdk",
    "prometheus_client": "prometheus-client",
    "psycopg": "psycopg[binary]",
    "pydantic_ai": "pydantic-ai-slim",
    "rich": "rich",
    "starlette": "starlette",
}
# Programs that load a file of ours; no dependency, because the file is only imported where they run.
HOSTS: Mapping[str, frozenset[str]] = {
    "pytest": frozenset({"runtime/testing/schedules/items.py", "runtime/testing/plugin.py"}),
    "typing_extensions": frozenset({"actors/typevars.py"}),  # read by type checkers alone, which know it
}
PARTS: Mapping[str, str] = {"pydantic_core": "pydantic", "mcp_types": "mcp"}  # packages that one distribution cannot do without
EVERYWHERE: Mapping[str, frozenset[str]] = {
    "actors": frozenset({"attrs"}),
    "runtime": frozenset({"attrs", "outcome", "trio"}),
}

# Loaded when something needs them, never by `import actors, runtime`.
LAZY = ("dspy", "hypercorn", "jwt", "litellm", "mcp", "msgspec", "openai", "psycopg", "pydantic", "starlette")


def source_files(root: Path = ROOT) -> dict[str, str]:
    """Every module of both packages, as path → source."""
    files = sorted(file for package in PACKAGES for file in (root / package).rglob("*.py"))
    return {file.relative_to(root).as_posix(): file.read_text(encoding="utf-8") for file in files}


def problems(files: Mapping[str, str], rooms: Mapping[str, tuple[str, ...]] = ROOMS) -> list[str]:
    """Everything that breaks the rules above, each as one line that says how to fix it."""
    found = [
        f"{path}: no such room. Fix: add a row for {room_of(path)!r} to ROOMS." for path in files if room_of(path) not in rooms
    ]
    found += [f"{room}: an empty room. Fix: remove its row from ROOMS." for room in rooms if room not in set(map(room_of, files))]
    arrows: dict[str, list[str]] = {path: [] for path in files}
    for path, source in files.items():
        for line, name in imports(parsed(source), path):
            complaint = judge(path, name, files, rooms)
            target = file_of(name, files)
            if complaint:
                found.append(f"{path}:{line}: {complaint}")
            elif target is not None:
                arrows[path].append(target)
    found += [f"{' and '.join(ring)} import one another. Fix: move the shared part below them." for ring in rings(arrows)]
    return list(dict.fromkeys(found))


@functools.cache
def parsed(source: str) -> ast.Module:
    return ast.parse(source)


def rings(arrows: Mapping[str, list[str]]) -> list[list[str]]:
    """The groups of files, each sorted, in which every file can be reached from every other."""
    return [sorted(group) for group in strong_components(arrows) if len(group) > 1 or any(each in arrows[each] for each in group)]


def room_of(path: str) -> str:
    return path.rpartition("/")[0]


def imports(tree: ast.Module, path: str) -> Iterator[tuple[int, str]]:
    """Line and dotted name of every import at any depth, type-only and `import_module` ones too; relative ones made whole."""
    package = path.removesuffix(".py").removesuffix("/__init__").split("/")
    if not path.endswith("/__init__.py"):
        package.pop()
    for node in ast.walk(tree):
        match node:
            case ast.Import(names=names):
                for alias in names:
                    yield node.lineno, alias.name
            case ast.ImportFrom(module=module, names=names, level=level):
                base = [*package[: len(package) - level + 1], module] if level else [module]
                for alias in names:
                    yield node.lineno, ".".join([*filter(None, base), alias.name])
            case ast.Call(
                func=ast.Name(id="import_module" | "__import__") | ast.Attribute(attr="import_module"),
                args=[ast.Constant(value=str(name)), *_],
            ):
                yield node.lineno, name


def judge(path: str, name: str, files: Mapping[str, str], rooms: Mapping[str, tuple[str, ...]]) -> str | None:
    """What is wrong with `path` importing `name`; None when nothing is."""
    library = name.partition(".")[0]
    if library not in PACKAGES:
        return judge_foreign(path, path.partition("/")[0], library)
    target = file_of(name, files)
    if target is None:
        return f"imports {name}, which isn't a file. Fix: correct the name."
    here, there = room_of(path), room_of(target)
    if target.endswith("/__init__.py"):
        return f"imports through the front door of {there} ({name}). Fix: import the module that defines it."
    allowed = {here, *rooms.get(here, ()), *ALSO.get(path, ())}
    if path.endswith("/__init__.py"):  # a front door gathers what its room and the rooms inside it define
        allowed |= {room for room in rooms if room.startswith(f"{here}/")}
    if there not in allowed:
        return f"imports {target}; {here} may not import {there}. Fix: move the shared part below both, or pass the object in."
    return None


def judge_foreign(path: str, package: str, library: str) -> str | None:
    if library in sys.stdlib_module_names or library in EVERYWHERE[package]:
        return None
    homes = {**FOREIGN, **HOSTS}.get(PARTS.get(library, library), frozenset())
    if path in homes:
        return None
    home = f"it lives in {', '.join(sorted(homes))}" if homes else "it has no home"
    return f"imports {library}, and {home}. Fix: go through its home, or add a row for {library!r} to FOREIGN."


def file_of(name: str, files: Mapping[str, str]) -> str | None:
    """The file that importing `name` loads: a module, a package, or the one that holds the imported object."""
    parts = name.split(".")
    for end in (len(parts), len(parts) - 1):
        stem = "/".join(parts[:end])
        for candidate in (f"{stem}.py", f"{stem}/__init__.py"):
            if candidate in files:
                return candidate
    return None


def test_every_import_keeps_to_the_rooms() -> None:
    found = problems(source_files())

    assert not found, "\n".join(["", *found])


def test_the_rooms_themselves_have_no_cycle() -> None:
    """A row that made one would allow any import between its rooms."""
    assert rings({room: list(below) for room, below in ROOMS.items()}) == []


def test_what_is_pure_does_not_import_trio() -> None:
    """The reducer, the checks and the arithmetic of restarts are tested without a loop, and replayed in other processes."""
    pure = [path for path in source_files() if path.startswith(PURE)]

    assert len(pure) > 50
    assert [complaint for path in pure for complaint in impure(path, source_files()[path])] == []


def impure(path: str, source: str) -> list[str]:
    return [
        f"{path}:{line}: a pure file imports trio. Fix: decide here, and act in the file that calls it."
        for line, name in imports(parsed(source), path)
        if name.partition(".")[0] == "trio"
    ]


def test_every_foreign_library_is_declared_as_a_dependency() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    declared = {requirement.partition(">=")[0] for requirement in project["dependencies"]}

    optional = {each.partition(">=")[0] for extra in project["optional-dependencies"].values() for each in extra}

    assert declared == (set(FOREIGN) - set(EXTRAS)).union(*EVERYWHERE.values())
    assert {EXTRAS[library] for library in set(FOREIGN) & set(EXTRAS)} <= optional


@pytest.mark.parametrize(
    ("path", "statement", "complaint"),
    [
        ("runtime/lm/client.py", "from runtime.core.supervisor import Supervisor", "runtime/lm may not import runtime/core"),
        ("runtime/lm/requester.py", "import runtime.core.actor_cell", "runtime/lm may not import runtime/core"),
        (
            "runtime/lm/providers/streaming.py",
            "from runtime.lm.dspy import bridge",
            "runtime/lm/providers may not import runtime/lm/dspy",
        ),
        (
            "runtime/lm/dspy/reading.py",
            "def read():\n    from runtime.lm.providers.translation import prepare",
            "runtime/lm/dspy may not import runtime/lm/providers",
        ),
        (
            "runtime/lm/http/transport.py",
            "from runtime.lm.providers.known import known",
            "runtime/lm/http may not import runtime/lm/providers",
        ),
        ("runtime/testing/network.py", "from runtime.embed.portal import Portal", "runtime/testing may not import runtime/embed"),
        (
            "runtime/graphs/reducer/state.py",
            "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import runtime.core.supervisor",
            "runtime/graphs/reducer may not import runtime/core",
        ),
        (
            "runtime/graphs/reducer/state.py",
            "from runtime.lm.client import LMClient",
            "runtime/graphs/reducer may not import runtime/lm",
        ),
        ("runtime/graphs/reducer/memory.py", "import trio", "a pure file imports trio"),
        ("actors/errors.py", "from actors.actor import Actor", "import one another"),
        ("actors/errors.py", "from runtime.core.cell import Cell", "actors may not import runtime/core"),
        ("actors/errors.py", "from .graphs.plan import Plan", "actors may not import actors/graphs"),
        ("runtime/core/cell.py", "from actors import Actor", "imports through the front door of actors (actors.Actor)"),
        ("runtime/core/cell.py", "import runtime", "imports through the front door of runtime (runtime)"),
        ("runtime/core/cell.py", "from runtime.lm import LMClient", "imports through the front door of runtime/lm"),
        ("runtime/core/cell.py", "from runtime.core.nowhere import X", "imports runtime.core.nowhere.X, which isn't a file"),
        ("runtime/core/cell.py", "import importlib\ndspy = importlib.import_module('dspy')", "imports dspy, and it lives in"),
        ("actors/errors.py", "import trio", "imports trio, and it has no home"),
    ],
)
def test_a_planted_violation_is_found(path: str, statement: str, complaint: str) -> None:
    """A check that cannot fail checks nothing: each line is added to the real tree, and found."""
    files = source_files()

    files[path] += f"\n{statement}\n"

    found = [*problems(files), *(impure(path, files[path]) if path.startswith(PURE) else [])]
    assert any(complaint in line for line in found), "\n".join(["", *found])


def test_a_room_without_a_row_and_a_row_without_a_room_are_found() -> None:
    files = {path: "" for path in source_files() if not path.startswith("runtime/embed/")} | {"runtime/new/cell.py": ""}

    assert problems(files) == [
        "runtime/new/cell.py: no such room. Fix: add a row for 'runtime/new' to ROOMS.",
        "runtime/embed: an empty room. Fix: remove its row from ROOMS.",
    ]


def loaded_by(statement: str) -> set[str]:
    """Names of the top-level modules that a fresh interpreter has loaded after `statement`."""
    report = "import json, sys; print(json.dumps(sorted({name.partition('.')[0] for name in sys.modules})))"
    run = subprocess.run(
        [sys.executable, "-c", f"{statement}\n{report}"], cwd=ROOT, capture_output=True, text=True, timeout=240, check=False
    )

    assert run.returncode == 0, run.stderr
    return set(json.loads(run.stdout.splitlines()[-1]))


def test_importing_both_packages_loads_no_heavy_library() -> None:
    loaded = loaded_by("import actors, runtime")

    assert loaded.isdisjoint(LAZY), sorted(loaded.intersection(LAZY))


def test_actors_load_the_standard_library_and_attrs_only() -> None:
    """Graphs are checked, drawn and sent to other processes where no event loop and no client is installed."""
    foreign = {name for name in loaded_by("import actors") - loaded_by("pass") if name not in sys.stdlib_module_names}

    assert foreign <= {"actors", "attr", "attrs"}
