"""The reference has every public name, each says what it is and is in an example, and no text names what does not exist."""

from __future__ import annotations

import ast
import contextlib
import importlib
import inspect
import io
import re
import tokenize
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from runtime.app import Runtime
from tests.test_docs import PAGES, script
from tests.test_layers import PACKAGES

ROOT = Path(__file__).resolve().parent.parent
REFERENCE = sorted((ROOT / "docs/reference").glob("*.md"))
TEXTS = sorted(
    file
    for pattern in ("actors/**/*.py", "runtime/**/*.py", "tests/**/*.py", "docs/**/*.md", "*.md")
    for file in ROOT.glob(pattern)
    if not {"_build", "_generated"}.intersection(file.parts) and file != Path(__file__)
)
DOORS = (
    "actors",
    "runtime",
    "runtime.journal",
    "runtime.lm",
    "runtime.placement",
    "runtime.placement.ray",
    "runtime.traces",
    "runtime.serve",
    "runtime.testing",
    "runtime.tools",
    "runtime.embed.asyncio",
    "runtime.embed.portal",
    "runtime.embed.asgi",
)

# What a page of the reference shows: ``.. automodule:: name`` and its kin, with the options below it.
DIRECTIVE = re.compile(r"^\.\. (?P<kind>auto\w+|py:\w+):: (?P<name>[\w.]+)\n(?P<options>(?:   :.*\n)*)", re.MULTILINE)
NAME = re.compile(r"`~?(?P<name>(?:actors|runtime)(?:\.\w+)+)")
# What is built is not there before it is built.
PATH = re.compile(r"`(?P<path>(?!docs/_build)(?:actors|docs|requirements|runtime|tests)/[\w./-]*\w)`")


def public_names(door: str) -> dict[str, Any]:
    """What `door` shows: what it imports under its own name (``X as X``), and what it defines."""
    module = importlib.import_module(door)
    names: list[str] = []
    for node in ast.parse(inspect.getsource(module)).body:
        match node:
            case ast.ImportFrom(names=aliases):
                names += [alias.name for alias in aliases if alias.asname == alias.name]
            case ast.FunctionDef(name=name) | ast.ClassDef(name=name) | ast.AnnAssign(target=ast.Name(id=name)):
                names.append(name)
            case _:
                pass
    return {name: getattr(module, name) for name in names if not name.startswith("_")}


def shown(pages: str) -> Iterator[str]:
    """The dotted names that `pages` have an entry for."""
    for directive in DIRECTIVE.finditer(pages):
        name, options = directive["name"], dict(re.findall(r"   :([\w-]+): ?(.*)\n", directive["options"]))
        if directive["kind"] != "automodule":
            yield name
            continue
        listed = [member.strip() for member in options.get("members", "").split(",")]
        excluded = [member.strip() for member in options.get("exclude-members", "").split(",")]
        members = listed if listed != [""] else [member for member in public_names(name) if member not in excluded]
        yield from (f"{name}.{member}" for member in members)


def missing(pages: str) -> list[str]:
    """Public names without an entry: under their own door, or under another that shows the same thing."""
    entries = {id(resolved(name)) for name in shown(pages)}
    return [f"{door}.{name}" for door in DOORS for name, found in public_names(door).items() if id(found) not in entries]


def resolved(name: str) -> Any:
    """What the dotted `name` names; None if nothing."""
    parts = name.split(".")
    for end in (*range(len(parts) - 1, 0, -1), len(parts)):  # a function may bear the name of its module
        with contextlib.suppress(ModuleNotFoundError):
            found: Any = importlib.import_module(".".join(parts[:end]))
            for part in parts[end:]:
                annotated = part in getattr(found, "__annotations__", {})
                found = getattr(found, part, found if annotated else None)
            if found is not None:
                return found
    return of_a_runtime(parts[1:]) if parts[0] == "runtime" else None


def of_a_runtime(parts: list[str]) -> Any:
    """What ``runtime.dead_letters.total`` names in a text where ``runtime`` is an open one; None if nothing."""
    found: Any = Runtime
    for part in parts:
        found = typing.get_type_hints(found.fget)["return"] if isinstance(found, property) else found
        found = getattr(found, part, None)
    return found


def test_the_reference_has_every_public_name() -> None:
    pages = "\n".join(page.read_text(encoding="utf-8") for page in REFERENCE)

    assert missing(pages) == []


def test_a_name_that_the_reference_lacks_is_found() -> None:
    pages = "\n".join(page.read_text(encoding="utf-8") for page in REFERENCE)

    assert missing(pages.replace(".. automodule:: runtime.testing\n", ""))[:2] == [
        "runtime.testing.CaseDiverged",
        "runtime.testing.answering",
    ]


def without_example(code: str) -> list[str]:
    """Public names that `code` doesn't use."""
    used = {token.string for token in tokenize.generate_tokens(io.StringIO(code).readline) if token.type == tokenize.NAME}
    return [f"{door}.{name}" for door in DOORS for name in public_names(door) if name not in used]


def examples() -> str:
    """All code of the documentation that is run: the blocks of pages, and the examples."""
    blocks = [script(page.read_text(encoding="utf-8")) for page in PAGES]
    return "\n".join(blocks + [file.read_text(encoding="utf-8") for file in (ROOT / "docs/examples").rglob("*.py")])


def test_every_public_name_is_in_an_example_that_runs() -> None:
    assert without_example(examples()) == []


def test_a_name_without_an_example_is_found() -> None:
    assert without_example(examples().replace("RuntimeStatistics", "_")) == ["runtime.RuntimeStatistics"]


@pytest.mark.parametrize("door", DOORS)
def test_every_public_name_says_what_it_is(door: str) -> None:
    silent = [
        f"{name}.{member}" if member else name
        for name, found in public_names(door).items()
        for member, documented in [("", found), *methods(found)]
        if not documented.__doc__ and typing.get_origin(documented) is not typing.Union  # an alias has no docstring of its own
    ]

    assert silent == []


def methods(found: Any) -> Iterator[tuple[str, Any]]:
    ours = (
        [base for base in inspect.getmro(found) if base.__module__.partition(".")[0] in PACKAGES]
        if inspect.isclass(found)
        else []
    )
    for name, member in {name: member for base in reversed(ours) for name, member in vars(base).items()}.items():
        function = member.fget if isinstance(member, property) else getattr(member, "__func__", member)
        if not name.startswith("_") and inspect.isfunction(function):
            yield name, function


def test_no_text_names_what_does_not_exist() -> None:
    assert [found for file in TEXTS for found in stale(file.read_text(encoding="utf-8"))] == []


def stale(text: str) -> list[str]:
    """Names and paths of ours in backquotes that are not there (any more)."""
    names = [match["name"] for match in NAME.finditer(text) if resolved(match["name"]) is None]
    return names + [match["path"] for match in PATH.finditer(text) if not (ROOT / match["path"]).exists()]


def test_names_and_paths_that_do_not_exist_are_found() -> None:
    text = "`runtime.lm.transport.open_transport`, :class:`~actors.Graph`, ``runtime.run(graph)``, `runtime/lm/sse.py`, `actors/`"

    assert stale(text) == ["runtime.lm.transport.open_transport", "runtime/lm/sse.py"]


CONTRACT = {
    "actors": """
        Actor ActorContext ActorFailed ActorRef ActorStartFailed ActorStopped AskCycle AutoShutdown Backoff ChildAlreadyPresent
        ChildAlreadyStarted ChildCounts ChildInfo ChildNotFound ChildRestarting ChildRunning ChildSpec Completion Dep Directive
        Exhausted Gather Graph LM MailboxFull MailboxSpec NoOutput Overflow Recall Redelivery Reply Request RestartType Run
        RunFailed Strategy Supervision SupervisionError SupervisorRef Terminated supervisor_spec
    """,
    "runtime": "Pool Routing Runtime open_runtime",
    "runtime.lm": "ClaudeCLIBackend LMClient OptimizedLM PydanticAIBackend Retry TrioLM",
    "runtime.testing": "ScriptedLM explore open_loopback replay run_in_virtual_time",
    "runtime.embed.asyncio": "open_runtime_asyncio",
    "runtime.embed.portal": "open_runtime_portal",
}
"""The names that programs were promised from the beginning, by the door through which they are imported."""


def test_the_names_that_programs_were_promised_are_there() -> None:
    """However files move. What is added is in the reference; what stands here may not go without a release that says so."""
    gone = [
        f"{door}.{name}"
        for door, names in CONTRACT.items()
        for name in names.split()
        if not hasattr(importlib.import_module(door), name)
    ]

    assert gone == []
