"""The architecture as data: which file may import which, where each foreign library lives, what an import may cost."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("actors", "runtime")

# A file imports only files with a smaller number, so there can be no cycle. Every new file gets a row.
LAYERS: Mapping[str, int] = {
    "runtime/cli/draw/__init__.py": 0,
    "runtime/testing/models/__init__.py": 0,
    "runtime/testing/schedules/__init__.py": 0,
    "runtime/messages/__init__.py": 0,
    "runtime/lm/limits/__init__.py": 0,
    "runtime/graphs/reducer/__init__.py": 0,
    "runtime/core/__init__.py": 0,
    "actors/graphs/__init__.py": 0,
    # actors: what is declared
    "actors/graphs/components.py": 1,
    "actors/errors.py": 1,
    "actors/graphs/finish.py": 1,
    "actors/groups.py": 2,
    "actors/restart.py": 1,
    "actors/words.py": 1,
    "actors/written.py": 1,
    "actors/checks.py": 2,
    "actors/backoff.py": 3,
    "actors/mailbox.py": 3,
    "actors/actor.py": 4,
    "actors/graphs/annotations.py": 4,
    "actors/requests.py": 5,
    "actors/lm.py": 4,
    "actors/graphs/markers.py": 5,
    "actors/supervision.py": 5,
    "actors/graphs/dependencies.py": 6,
    "actors/graphs/folds.py": 7,
    "actors/graphs/options.py": 6,
    "actors/graphs/node.py": 7,
    "actors/graphs/edges.py": 8,
    "actors/graphs/embedding.py": 8,
    "actors/graphs/signature.py": 8,
    "actors/graphs/nesting.py": 9,
    "actors/graphs/plan.py": 10,
    "actors/graphs/check.py": 11,
    "actors/graphs/mermaid.py": 11,
    "actors/graphs/describe.py": 12,
    "actors/graphs/connections.py": 12,
    "actors/graphs/demands.py": 12,
    "actors/graphs/hints.py": 12,
    "actors/graphs/timing.py": 12,
    "actors/graphs/graph.py": 13,
    "actors/__init__.py": 14,
    # runtime: actors at work
    "runtime/core/events.py": 21,
    "runtime/core/failures.py": 21,
    "runtime/core/lifecycle.py": 21,
    "runtime/core/idleness.py": 21,
    "runtime/core/stacks.py": 21,
    "runtime/core/timekeeper.py": 21,
    "runtime/core/envelope.py": 22,
    "runtime/core/payloads.py": 22,
    "runtime/core/dead_letters.py": 23,
    "runtime/core/kernel.py": 24,
    "runtime/core/ledger.py": 24,
    "runtime/core/waits.py": 24,
    "runtime/core/mailbox.py": 24,
    "runtime/core/stash.py": 25,
    "runtime/core/timers.py": 25,
    "runtime/core/cell.py": 25,
    "runtime/core/redeliveries.py": 25,
    "runtime/core/refs.py": 26,
    "runtime/core/watch.py": 26,
    "runtime/core/worker_threads.py": 26,
    "runtime/core/watchdog.py": 26,
    "runtime/core/holding_cell.py": 27,
    "runtime/core/actor_cell.py": 28,
    "runtime/core/roster.py": 27,
    "runtime/core/verdicts.py": 27,
    "runtime/core/restart_group.py": 28,
    "runtime/core/bus.py": 27,
    "runtime/core/routing.py": 29,
    "runtime/core/supervisor_ref.py": 28,
    "runtime/core/tasks.py": 27,
    "runtime/core/supervisor.py": 29,
    "runtime/core/spawning.py": 30,
    "runtime/core/context.py": 31,
    "runtime/core/pool.py": 30,
    "runtime/core/inspection.py": 30,
    "runtime/core/errands.py": 31,
    "runtime/core/session.py": 32,
    # runtime: language models
    "runtime/lm/backends/__init__.py": 26,
    "runtime/lm/dspy/__init__.py": 26,
    "runtime/lm/http/__init__.py": 26,
    "runtime/lm/http/http1.py": 26,
    "runtime/lm/http/http_errors.py": 26,
    "runtime/lm/http/sse.py": 26,
    "runtime/lm/predictors/__init__.py": 26,
    "runtime/lm/providers/__init__.py": 26,
    "runtime/lm/providers/known.py": 26,
    "runtime/lm/providers/library.py": 26,
    "runtime/lm/limits/retry.py": 26,
    "runtime/lm/limits/redaction.py": 25,
    "runtime/lm/http/keepalive.py": 27,
    "runtime/lm/providers/event_stream.py": 27,
    "runtime/lm/http/httpx_clients.py": 28,
    "runtime/lm/http/transport.py": 29,
    "runtime/messages/shapes.py": 29,
    "runtime/lm/limits/adaptive.py": 29,
    "runtime/lm/limits/quota.py": 29,
    "runtime/lm/limits/account.py": 30,
    "runtime/lm/limits/abilities.py": 25,
    "runtime/lm/limits/allowance.py": 30,
    "runtime/lm/limits/budget.py": 30,
    "runtime/lm/limits/cache.py": 30,
    "runtime/lm/dspy/crossing.py": 30,
    "runtime/messages/fields.py": 30,
    "runtime/lm/dspy/library.py": 30,
    "runtime/lm/limits/hedge.py": 30,
    "runtime/lm/providers/failures.py": 30,
    "runtime/lm/providers/lenient.py": 30,
    "runtime/lm/providers/parsers.py": 30,
    "runtime/lm/providers/plain.py": 30,
    "runtime/lm/providers/reasons.py": 30,
    "runtime/lm/providers/sign_in.py": 30,
    "runtime/lm/providers/threaded.py": 30,
    "runtime/lm/providers/usage.py": 30,
    "runtime/lm/providers/told.py": 30,
    "runtime/lm/arguments.py": 31,
    "runtime/lm/dspy/calls.py": 31,
    "runtime/lm/dspy/pieces.py": 31,
    "runtime/lm/dspy/repair.py": 31,
    "runtime/messages/schemas.py": 31,
    "runtime/lm/dspy/embedder.py": 32,
    "runtime/lm/dspy/engine.py": 32,
    "runtime/lm/dspy/tools.py": 31,
    "runtime/lm/providers/bedrock.py": 31,
    "runtime/lm/providers/chunks.py": 31,
    "runtime/lm/providers/exchange.py": 31,
    "runtime/lm/providers/vertex.py": 31,
    "runtime/lm/dspy/plans.py": 32,
    "runtime/lm/dspy/formats.py": 32,
    "runtime/lm/dspy/trained.py": 32,
    "runtime/lm/providers/routes.py": 32,
    "runtime/lm/providers/sending.py": 32,
    "runtime/lm/dspy/reading.py": 33,
    "runtime/lm/predictors/files.py": 33,
    "runtime/lm/providers/dialects.py": 33,
    "runtime/lm/providers/options.py": 33,
    "runtime/lm/providers/prices.py": 33,
    "runtime/lm/dspy/prompts.py": 33,
    "runtime/lm/dspy/careful.py": 34,
    "runtime/lm/dspy/trio_lm.py": 34,
    "runtime/lm/link.py": 34,
    "runtime/lm/providers/embeddings.py": 34,
    "runtime/lm/dspy/bridge.py": 35,
    "runtime/lm/providers/translation.py": 35,
    "runtime/lm/dspy/checking.py": 36,
    "runtime/lm/dspy/choosing.py": 36,
    "runtime/lm/dspy/streaming.py": 36,
    "runtime/lm/predictors/optimising.py": 36,
    "runtime/lm/providers/streaming.py": 36,
    "runtime/lm/backends/typed.py": 37,
    "runtime/lm/kept.py": 37,
    "runtime/lm/predictors/signatures.py": 37,
    "runtime/lm/backends/claude_cli.py": 38,
    "runtime/lm/backends/pydantic_ai.py": 38,
    "runtime/lm/predictors/serving.py": 38,
    "runtime/lm/predictors/training.py": 38,
    "runtime/lm/predictors/transitions.py": 38,
    "runtime/lm/requester.py": 38,
    "runtime/lm/warming.py": 38,
    "runtime/lm/client.py": 39,
    "runtime/lm/predictors/compiling.py": 39,
    "runtime/lm/__init__.py": 40,
    "runtime/lm/models.py": 40,
    # runtime: graphs at work
    "runtime/graphs/reducer/scopes.py": 37,
    "runtime/graphs/carried.py": 41,
    "runtime/graphs/dependencies.py": 41,
    "runtime/graphs/events.py": 41,
    "runtime/graphs/reducer/joins.py": 38,
    "runtime/graphs/reducer/memory.py": 38,
    "runtime/graphs/reducer/wording.py": 41,
    "runtime/graphs/reducer/course.py": 39,
    "runtime/graphs/reducer/tasks.py": 40,
    "runtime/graphs/reducer/values.py": 40,
    "runtime/graphs/reducer/state.py": 42,
    "runtime/graphs/record.py": 40,
    "runtime/graphs/generator.py": 43,
    "runtime/graphs/turns.py": 40,
    "runtime/graphs/run.py": 43,
    "runtime/graphs/handle.py": 44,
    "runtime/graphs/demands.py": 45,
    "runtime/graphs/injected.py": 44,
    "runtime/graphs/prompts.py": 42,
    "runtime/graphs/slowness.py": 44,
    "runtime/graphs/attempt.py": 45,
    "runtime/graphs/node.py": 46,
    "runtime/graphs/engine.py": 47,
    "runtime/graphs/__init__.py": 49,
    # runtime: the front door
    "runtime/core/opening.py": 20,
    "runtime/app.py": 50,
    "runtime/__init__.py": 59,
    # runtime: in programs that are not trio programs
    "runtime/embed/crossing.py": 51,
    "runtime/embed/face.py": 52,
    "runtime/embed/asyncio_host.py": 52,
    "runtime/embed/portal_host.py": 52,
    "runtime/embed/disconnects.py": 52,
    "runtime/embed/asyncio_base.py": 53,
    "runtime/embed/portal_base.py": 53,
    "runtime/embed/asyncio_faces.py": 54,
    "runtime/embed/portal_faces.py": 54,
    "runtime/embed/asyncio_visit.py": 55,
    "runtime/embed/asyncio.py": 56,
    "runtime/embed/portal.py": 55,
    "runtime/embed/asgi.py": 56,
    "runtime/embed/__init__.py": 57,
    # runtime: what tests are made of
    "runtime/testing/models/answers.py": 60,
    "runtime/testing/schedules/chance.py": 59,
    "runtime/testing/schedules/deadlock.py": 60,
    "runtime/testing/models/matchers.py": 60,
    "runtime/testing/patterns.py": 60,
    "runtime/testing/models/recording.py": 60,
    "runtime/testing/schedules/schedule.py": 60,
    "runtime/testing/schedules/shrink.py": 60,
    "runtime/testing/schedules/strategies.py": 60,
    "runtime/testing/schedules/taps.py": 60,
    "runtime/testing/traces.py": 60,
    "runtime/testing/models/wire.py": 60,
    "runtime/testing/assertions.py": 61,
    "runtime/testing/models/dialects.py": 61,
    "runtime/testing/probes.py": 61,
    "runtime/testing/models/script.py": 61,
    "runtime/testing/stepping.py": 61,
    "runtime/testing/schedules/virtual_time.py": 61,
    "runtime/testing/models/delivery.py": 62,
    "runtime/testing/network.py": 63,
    "runtime/testing/models/scripted.py": 62,
    "runtime/testing/schedules/simulation.py": 62,
    "runtime/testing/schedules/failure.py": 63,
    "runtime/testing/faults.py": 63,
    "runtime/testing/schedules/watchdog.py": 63,
    "runtime/testing/models/provider.py": 63,
    "runtime/testing/models/scripts.py": 60,
    "runtime/testing/schedules/search.py": 64,
    "runtime/testing/schedules/explore.py": 65,
    "runtime/testing/schedules/items.py": 65,
    "runtime/testing/models/process.py": 64,
    "runtime/testing/loopback.py": 65,
    "runtime/testing/plugin.py": 66,
    "runtime/testing/__init__.py": 69,
    # runtime: the command line
    "runtime/cli/terminal.py": 70,
    "runtime/cli/draw/layered.py": 70,
    "runtime/cli/draw/rows.py": 70,
    "runtime/cli/board.py": 71,
    "runtime/cli/draw/layout.py": 71,
    "runtime/cli/draw/png.py": 74,
    "runtime/cli/watch.py": 72,
    "runtime/cli/study.py": 70,
    "runtime/cli/demo_graph.py": 70,
    "runtime/cli/failures.py": 71,
    "runtime/cli/ticking.py": 71,
    "runtime/cli/timeline.py": 71,
    "runtime/cli/wrong_usage.py": 71,
    "runtime/cli/demo_dspy.py": 72,
    "runtime/cli/demo_trio.py": 72,
    "runtime/cli/inputs.py": 72,
    "runtime/cli/interrupts.py": 72,
    "runtime/cli/loading.py": 72,
    "runtime/cli/models.py": 72,
    "runtime/cli/draw/svg.py": 73,
    "runtime/cli/verdict.py": 72,
    "runtime/cli/report.py": 73,
    "runtime/cli/demo.py": 74,
    "runtime/cli/graph.py": 75,
    "runtime/cli/prompts.py": 74,
    "runtime/cli/run.py": 75,
    "runtime/cli/compile.py": 76,
    "runtime/cli/main.py": 77,
    "runtime/cli/__init__.py": 79,
}

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
            "runtime/lm/http/transport.py",
            "runtime/testing/network.py",  # is a transport of httpx, for tests
        }
    ),
    "PIL": frozenset({"runtime/cli/draw/png.py"}),
    "litellm": frozenset({"runtime/lm/providers/library.py"}),
    "rich": frozenset({"runtime/cli/watch.py"}),
    "pydantic": frozenset({"runtime/messages/schemas.py"}),
    "pydantic_ai": frozenset({"runtime/lm/backends/pydantic_ai.py"}),
}
# Of these, what is not needed by every installation: the distribution, which is in an extra.
EXTRAS: Mapping[str, str] = {"PIL": "pillow", "pydantic_ai": "pydantic-ai-slim", "rich": "rich"}
# Programs that load a file of ours; no dependency, because the file is only imported where they run.
HOSTS: Mapping[str, frozenset[str]] = {"pytest": frozenset({"runtime/testing/schedules/items.py", "runtime/testing/plugin.py"})}
PARTS: Mapping[str, str] = {"pydantic_core": "pydantic"}  # packages that one distribution cannot do without
EVERYWHERE: Mapping[str, frozenset[str]] = {
    "actors": frozenset({"attrs"}),
    "runtime": frozenset({"attrs", "outcome", "trio"}),
}

# Loaded when something needs them, never by `import actors, runtime`.
LAZY = ("dspy", "litellm", "openai", "opentelemetry", "pydantic", "ray", "starlette")


def source_files(root: Path = ROOT) -> dict[str, str]:
    """Every module of both packages, as path → source."""
    files = sorted(file for package in PACKAGES for file in (root / package).rglob("*.py"))
    return {file.relative_to(root).as_posix(): file.read_text(encoding="utf-8") for file in files}


def problems(files: Mapping[str, str], layers: Mapping[str, int] = LAYERS) -> list[str]:
    """Everything that breaks the rules above, each as one line that says how to mend it."""
    found = [f"{path}: no layer. Mend: add a row for {path!r} to LAYERS." for path in files if path not in layers]
    found += [f"{path}: no such file. Mend: remove its row from LAYERS." for path in layers if path not in files]
    for path, source in files.items():
        for line, name in imports(ast.parse(source, path), path):
            complaint = judge(path, name, files, layers)
            if complaint:
                found.append(f"{path}:{line}: {complaint}")
    return list(dict.fromkeys(found))


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


def judge(path: str, name: str, files: Mapping[str, str], layers: Mapping[str, int]) -> str | None:
    """What is wrong with `path` importing `name`; None when nothing is."""
    package = path.partition("/")[0]
    library = name.partition(".")[0]
    if library not in PACKAGES:
        return judge_foreign(path, package, library)
    target = file_of(name, files)
    if target is None:
        return f"imports {name}, which is no file. Mend: correct the name."
    if target == f"{package}/__init__.py":
        return f"imports its own package root ({name}). Mend: import the module that defines it."
    if package == "actors" and library == "runtime":
        return f"actors imports {target}. Mend: actors never imports runtime; move the code down or pass the object in."
    here, there = layers.get(path), layers.get(target)
    if here is not None and there is not None and there >= here:
        return f"layer {here} imports {target} of layer {there}. Mend: imports only go down; move the shared part below both."
    return None


def judge_foreign(path: str, package: str, library: str) -> str | None:
    if library in sys.stdlib_module_names or library in EVERYWHERE[package]:
        return None
    homes = {**FOREIGN, **HOSTS}.get(PARTS.get(library, library), frozenset())
    if path in homes:
        return None
    home = f"it lives in {', '.join(sorted(homes))}" if homes else "it has no home"
    return f"imports {library}, and {home}. Mend: go through its home, or add a row for {library!r} to FOREIGN."


def file_of(name: str, files: Mapping[str, str]) -> str | None:
    """The file that importing `name` loads: a module, a package, or the one that holds the imported object."""
    parts = name.split(".")
    for end in (len(parts), len(parts) - 1):
        stem = "/".join(parts[:end])
        for candidate in (f"{stem}.py", f"{stem}/__init__.py"):
            if candidate in files:
                return candidate
    return None


def test_every_import_goes_down() -> None:
    found = problems(source_files())

    assert not found, "\n".join(["", *found])


def test_every_foreign_library_is_declared_as_a_dependency() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    declared = {requirement.partition(">=")[0] for requirement in project["dependencies"]}

    optional = {each.partition(">=")[0] for extra in project["optional-dependencies"].values() for each in extra}

    assert declared == (set(FOREIGN) - set(EXTRAS)).union(*EVERYWHERE.values())
    assert {EXTRAS[library] for library in set(FOREIGN) & set(EXTRAS)} <= optional


DOWN = "Mend: imports only go down; move the shared part below both."
NEVER = "Mend: actors never imports runtime; move the code down or pass the object in."
HOME = "Mend: go through its home, or add a row for {!r} to FOREIGN."

TOY_LAYERS = {
    "actors/__init__.py": 3,
    "actors/low.py": 1,
    "actors/high.py": 2,
    "runtime/__init__.py": 9,
    "runtime/cell.py": 5,
}
TOY = {
    "actors/__init__.py": "from actors.high import High as High",
    "actors/low.py": "import enum",
    "actors/high.py": "from actors.low import Low",
    "runtime/__init__.py": "from runtime.cell import Cell as Cell",
    "runtime/cell.py": "import trio\nfrom actors import High",
}


@pytest.mark.parametrize(
    ("path", "source", "complaint"),
    [
        (
            "actors/low.py",
            "def f():\n    from actors.high import High",
            "actors/low.py:2: layer 1 imports actors/high.py of layer 2. " + DOWN,
        ),
        (
            "actors/low.py",
            "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import actors.high",
            "actors/low.py:3: layer 1 imports actors/high.py of layer 2. " + DOWN,
        ),
        (
            "actors/high.py",
            "from .high import High",
            "actors/high.py:1: layer 2 imports actors/high.py of layer 2. " + DOWN,
        ),
        (
            "actors/high.py",
            "from runtime.cell import Cell",
            "actors/high.py:1: actors imports runtime/cell.py. " + NEVER,
        ),
        (
            "runtime/cell.py",
            "import runtime",
            "runtime/cell.py:1: imports its own package root (runtime). Mend: import the module that defines it.",
        ),
        (
            "runtime/cell.py",
            "from runtime import Cell",
            "runtime/cell.py:1: imports its own package root (runtime.Cell). Mend: import the module that defines it.",
        ),
        (
            "runtime/cell.py",
            "from runtime.lm import LMClient",
            "runtime/cell.py:1: imports runtime.lm.LMClient, which is no file. Mend: correct the name.",
        ),
        (
            "runtime/cell.py",
            "import importlib\ndspy = importlib.import_module('dspy')",
            "runtime/cell.py:2: imports dspy, and it lives in runtime/cli/demo_dspy.py, runtime/lm/dspy/library.py. "
            + HOME.format("dspy"),
        ),
        (
            "actors/high.py",
            "import trio",
            "actors/high.py:1: imports trio, and it has no home. " + HOME.format("trio"),
        ),
    ],
)
def test_a_planted_violation_is_found(path: str, source: str, complaint: str) -> None:
    """A check that cannot fail checks nothing."""
    assert problems(TOY, TOY_LAYERS) == []

    assert problems({**TOY, path: source}, TOY_LAYERS) == [complaint]


def test_a_file_without_a_row_and_a_row_without_a_file_are_found() -> None:
    files = {path: source for path, source in TOY.items() if path != "runtime/cell.py"} | {
        "runtime/new.py": "",
        "runtime/__init__.py": "",
    }

    assert problems(files, TOY_LAYERS) == [
        "runtime/new.py: no layer. Mend: add a row for 'runtime/new.py' to LAYERS.",
        "runtime/cell.py: no such file. Mend: remove its row from LAYERS.",
    ]


def loaded_by(statement: str) -> set[str]:
    """Names of the top-level modules that a fresh interpreter has loaded after `statement`."""
    report = "import json, sys; print(json.dumps(sorted({name.partition('.')[0] for name in sys.modules})))"
    run = subprocess.run(
        [sys.executable, "-c", f"{statement}\n{report}"], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
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
