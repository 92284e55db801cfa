"""The architecture as data: which room may import which, where each foreign library lives, what an import may cost."""

from __future__ import annotations

import ast
import functools
import itertools
import json
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from actors.graphs.components import strong_components

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("actors", "runtime")

# The law: a room is a folder, and imports the rooms that it points at, and what those may import. A line may hold several rooms
# of the same right, which do not see one another. `docs/design/layers.md` draws it.
LAW = """
actors →
actors/graphs → actors
runtime/core → actors
runtime/messages → actors
runtime/draw, runtime/tools → actors/graphs
runtime/journal, runtime/lm → actors/graphs, runtime/messages
runtime/graphs/reducer → actors/graphs
runtime/graphs → runtime/core, runtime/graphs/reducer, runtime/journal, runtime/lm
runtime/placement → runtime/graphs
runtime → runtime/placement
runtime/traces → runtime/graphs
runtime/embed, runtime/evaluate, runtime/telemetry, runtime/testing → runtime
runtime/inspector → runtime, runtime/traces
runtime/serve → runtime/draw, runtime/embed, runtime/inspector, runtime/telemetry
runtime/cli → runtime/evaluate, runtime/serve
"""
# What a room of several folders has inside, from the ground up: a folder imports those of the lines below its own.
FLOORS: Mapping[str, tuple[str, ...]] = {
    "runtime": ("runtime/parts", "runtime"),
    "runtime/lm": (
        "runtime/lm/limits",
        "runtime/lm/http",
        "runtime/record",
        "runtime/lm/dspy, runtime/lm/providers, runtime/lm/tools",
        "runtime/lm, runtime/lm/backends",
        "runtime/lm/predictors",
    ),
    "runtime/graphs": (
        "runtime/graphs/records",
        "runtime/graphs/runs",
        "runtime/graphs/nodes",
        "runtime/graphs",
        "runtime/graphs/conversations",
    ),
    "runtime/placement": ("runtime/placement", "runtime/placement/host", "runtime/placement/ray"),
    "runtime/serve": ("runtime/serve", "runtime/serve/faces"),
    "runtime/testing": (
        "runtime/testing/cases, runtime/testing/models, runtime/testing/stores",
        "runtime/testing/schedules",
        "runtime/testing",
    ),
}


def arrows_of(law: str) -> dict[str, list[str]]:
    """The rooms that each room points at, the lowest first, as they are written."""
    lines = [line.partition("→")[::2] for line in law.strip().splitlines()]
    return {room: _named(below) for rooms, below in lines for room in _named(rooms)}


def _named(text: str) -> list[str]:
    return [name for part in text.split(",") if (name := part.strip())]


def folders(arrows: Mapping[str, list[str]], floors: Mapping[str, tuple[str, ...]]) -> dict[str, tuple[str, ...]]:
    """What the files of each folder may import besides their own: the lower floors of its room, and all of the rooms below."""

    def inside(room: str) -> list[list[str]]:
        return [_named(floor) for floor in floors.get(room, (room,))]

    def below(room: str) -> list[str]:
        return [each for target in arrows[room] for each in (*itertools.chain(*inside(target)), *below(target))]

    allowed: dict[str, tuple[str, ...]] = {}
    for room in arrows:
        lower = list(dict.fromkeys(below(room)))
        for floor in inside(room):
            allowed |= {folder: tuple(lower) for folder in floor}
            lower += floor
    return allowed


ARROWS = arrows_of(LAW)
ROOMS = folders(ARROWS, FLOORS)
# Beyond their room's arrows: the demo shows its model calls with what tests are made of.
ALSO: Mapping[str, tuple[str, ...]] = {
    f"runtime/cli/{name}.py": ("runtime/testing/models",) for name in ("demo", "study", "timeline")
}
# What decides without a clock, a task or a channel, and so may not import trio: all of these rooms, and these files.
PURE = (
    "actors/",
    "runtime/draw/",
    "runtime/core/tracebacks.py",
    "runtime/core/lifecycle.py",
    "runtime/core/restarts.py",
    "runtime/graphs/reducer/",
    "runtime/messages/",
    "runtime/placement/portable_errors.py",
    "runtime/placement/frames.py",
    "runtime/placement/call_payloads.py",
    "runtime/placement/protocol.py",
    "runtime/traces/blame.py",
    "runtime/traces/chrome.py",
    "runtime/traces/event_reader.py",
    "runtime/traces/steps.py",
    "runtime/traces/trace_svg.py",
)

PROGRAMS = ("main",)  # files that a process is started with, whichever

# Names that two front doors have; the first bearer is in another room.
NAMESAKES: Mapping[tuple[str, str], str] = {
    ("Exchange", "runtime/testing/network.py"): "one of a network in memory; the other is one of a simulated user",
    (
        "Failure",
        "runtime/testing/models/provider_script.py",
    ): "one of a provider that a test makes fail; the other an actor's answer",
    ("HostLost", "runtime/core/host_events.py"): "the event of the error that has the same name",
    ("Schedule", "runtime/testing/schedules/failure.py"): "that of trio's tasks in a test; the other is one of runs",
    ("Step", "runtime/testing/schedules/simulation.py"): "one of a task in a test; the other is one of a run",
    ("Strategy", "runtime/testing/schedules/strategies.py"): "one of choosing schedules; the other is a supervisor's",
}

# One foreign library, one file. A second file is an exception that gives its reason beside its row.
FOREIGN: Mapping[str, frozenset[str]] = {
    # The demo compares with DSPy as its users call it, which is what the bridge exists to avoid.
    "dspy": frozenset({"runtime/lm/dspy/import_dspy.py", "runtime/cli/demo_dspy.py"}),
    "h11": frozenset(
        {
            "runtime/lm/http/http1.py",  # the client's side; the test provider's side shares nothing with it
            "runtime/testing/models/http_server.py",
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
    "PIL": frozenset({"runtime/draw/png.py"}),
    "litellm": frozenset({"runtime/lm/providers/import_litellm.py"}),
    "mcp": frozenset(
        {
            "runtime/tools/mcp_client.py",
            "runtime/serve/faces/mcp_server.py",  # the other side of it
        }
    ),
    "httpx2": frozenset({"runtime/tools/mcp_client.py"}),  # that of the library mcp, with which it comes
    "ag_ui": frozenset({"runtime/serve/faces/agui_events.py"}),
    "rich": frozenset({"runtime/cli/live_view.py", "runtime/cli/evaluation_bar.py"}),  # a table, and a bar
    "cronsim": frozenset({"runtime/graphs/schedule_times.py"}),
    "msgspec": frozenset({"runtime/messages/codec.py"}),
    "psycopg": frozenset({"runtime/journal/postgres_wire.py"}),
    "jwt": frozenset({"runtime/serve/jwt.py"}),
    "cryptography": frozenset({"runtime/placement/ray/certificates.py"}),
    "ray": frozenset({"runtime/placement/ray/launcher.py"}),
    "hypercorn": frozenset({"runtime/serve/connections.py", "runtime/serve/server.py"}),
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
    "cryptography": "cryptography",
    "PIL": "pillow",
    "httpx2": "mcp",
    "hypercorn": "hypercorn[trio]",
    "jwt": "pyjwt[crypto]",
    "mcp": "mcp",
    "opentelemetry": "opentelemetry-sdk",
    "prometheus_client": "prometheus-client",
    "psycopg": "psycopg[binary]",
    "ray": "ray",
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
LAZY = (
    "cryptography",
    "dspy",
    "hypercorn",
    "jwt",
    "litellm",
    "mcp",
    "msgspec",
    "openai",
    "psycopg",
    "pydantic",
    "ray",
    "starlette",
)


def source_files(root: Path = ROOT) -> dict[str, str]:
    """Every module of both packages, as path → source."""
    files = sorted(file for package in PACKAGES for file in (root / package).rglob("*.py"))
    return {file.relative_to(root).as_posix(): file.read_text(encoding="utf-8") for file in files}


def problems(files: Mapping[str, str], rooms: Mapping[str, tuple[str, ...]] = ROOMS) -> list[str]:
    """Everything that breaks the rules above, each as one line that says how to fix it."""
    found = [
        f"{path}: no such room. Fix: add {room_of(path)!r} to LAW or FLOORS." for path in files if room_of(path) not in rooms
    ]
    found += [
        f"{room}: an empty room. Fix: remove it from LAW or FLOORS." for room in rooms if room not in set(map(room_of, files))
    ]
    arrows: dict[str, list[str]] = {path: [] for path in files}
    for path, source in files.items():
        for line, name in imports(source, path):
            complaint = judge(path, name, files, rooms)
            target = file_of(name, files)
            if complaint:
                found.append(f"{path}:{line}: {complaint}")
            elif target is not None:
                arrows[path].append(target)
    found += [f"{' and '.join(ring)} import one another. Fix: move the shared part below them." for ring in rings(arrows)]
    return list(dict.fromkeys(found))


def rings(arrows: Mapping[str, list[str]]) -> list[list[str]]:
    """The groups of files, each sorted, in which every file can be reached from every other."""
    return [sorted(group) for group in strong_components(arrows) if len(group) > 1 or any(each in arrows[each] for each in group)]


def room_of(path: str) -> str:
    return path.rpartition("/")[0]


@functools.cache  # each planted violation looks at all files again
def imports(source: str, path: str) -> tuple[tuple[int, str], ...]:
    """Line and dotted name of every import at any depth, type-only and `import_module` ones too; relative ones made whole."""
    return tuple(_imports(ast.parse(source), path))


def _imports(tree: ast.Module, path: str) -> Iterator[tuple[int, str]]:
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
    """An arrow that made one would allow any import between its rooms."""
    assert rings(ARROWS) == []


def test_every_arrow_of_the_law_is_used() -> None:
    """An arrow that no import needs allows what nobody has decided."""
    files = source_files()
    home = {folder: room for room in ARROWS for floor in FLOORS.get(room, (room,)) for folder in _named(floor)}
    used = {
        (home[room_of(path)], home[room_of(target)])
        for path, source in files.items()
        for _, name in imports(source, path)
        if (target := file_of(name, files))
    }

    assert [f"{room} → {below}" for room, targets in ARROWS.items() for below in targets if (room, below) not in used] == []


def test_what_is_pure_does_not_import_trio() -> None:
    """The reducer, the checks and the arithmetic of restarts are tested without a loop, and replayed in other processes."""
    pure = {path: source for path, source in source_files().items() if path.startswith(PURE)}

    assert len(pure) > 50
    assert [complaint for path, source in pure.items() for complaint in impure(path, source)] == []


def impure(path: str, source: str) -> list[str]:
    return [
        f"{path}:{line}: a pure file imports trio. Fix: decide here, and act in the file that calls it."
        for line, name in imports(source, path)
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
            "runtime/lm/dspy/unreadable.py",
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
        ("runtime/graphs/reducer/recalling.py", "import trio", "a pure file imports trio"),
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


def test_a_folder_without_a_room_and_a_room_without_a_file_are_found() -> None:
    files = {path: "" for path in source_files() if not path.startswith("runtime/embed/")} | {"runtime/new/cell.py": ""}

    assert problems(files) == [
        "runtime/new/cell.py: no such room. Fix: add 'runtime/new' to LAW or FLOORS.",
        "runtime/embed: an empty room. Fix: remove it from LAW or FLOORS.",
    ]


def test_the_door_of_every_room_tells_where_to_begin() -> None:
    """A docstring that names files of the room, all of which are there."""
    files = source_files()
    named = {room: _files_named(room, files) for room in {room_of(path) for path in files}}

    assert [room for room, names in named.items() if not names] == []
    assert [f"{room}: {name}" for room, names in named.items() for name in names if f"{room}/{name}" not in files] == []


def _files_named(room: str, files: Mapping[str, str]) -> list[str]:
    door = ast.get_docstring(ast.parse(files[f"{room}/__init__.py"])) or ""
    return [name for name in re.findall(r"``([\w/]+\.py)``", door) if not name.startswith(("runtime/", "_"))]


def same_names(files: Mapping[str, str]) -> list[str]:
    """The names that more than one file bears, each with its files.

    Two may: what ``actors`` declares and ``runtime`` carries out, and a command, whose file is named as it is typed.
    """
    bearers: dict[str, list[str]] = {}
    for path, source in files.items():
        name = path.rpartition("/")[2].removesuffix(".py")
        is_command = path.startswith("runtime/cli/") and source.startswith(f'"""``understudy {name}')
        if name not in {"__init__", *PROGRAMS} and not is_command:
            bearers.setdefault(name, []).append(path)
    return [" and ".join(paths) for paths in bearers.values() if len({path.partition("/")[0] for path in paths}) < len(paths)]


def test_no_two_files_bear_one_name() -> None:
    """A traceback and a list of open files show little more than the name of a file."""
    assert same_names(source_files()) == []


def test_a_second_file_of_a_name_is_found() -> None:
    files = source_files() | {"runtime/serve/mailbox.py": "", "runtime/cli/mailbox.py": '"""``understudy mailbox``."""'}

    assert same_names(files) == ["actors/mailbox.py and runtime/core/mailbox.py and runtime/serve/mailbox.py"]


def same_classes(files: Mapping[str, str]) -> list[str]:
    """The names that classes of more than one file bear, each with its files; those that begin with ``_`` stay in one file."""
    bearers: dict[str, list[str]] = {}
    for path, source in files.items():
        for name in re.findall(r"^class ([A-Z]\w*)", source, re.MULTILINE):
            if (name, path) not in NAMESAKES and not (name == "Options" and path.startswith("runtime/cli/")):
                bearers.setdefault(name, []).append(path)
    return [f"{name}: {' and '.join(paths)}" for name, paths in bearers.items() if len(paths) > 1]


def test_no_two_classes_bear_one_name() -> None:
    """A repr, an error and a question on a forum show the name of a class alone."""
    assert same_classes(source_files()) == []


def test_a_second_class_of_a_name_is_found() -> None:
    files = source_files() | {"runtime/serve/new.py": "class Cell:\n    pass\n"}

    assert same_classes(files) == ["Cell: runtime/core/cell.py and runtime/serve/new.py"]


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
