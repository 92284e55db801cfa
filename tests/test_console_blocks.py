"""Every command that README.md and docs/ show is typed as a reader types it, and what comes is compared with what the page shows.

Ids, times and sums of money may differ, and ``…`` stands for anything; on pages about the reader's own data, so may all other
figures. What cannot be typed here is in ``LEFT_OUT`` with the reason, and is read at least: the shell can parse it, and the
targets, modules, extras and files in it are there.
"""

from __future__ import annotations

import importlib.util
import json
import re
import shlex
import shutil
import subprocess
import textwrap
import threading
import tomllib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import pytest
import trio

from runtime.testing import ChatRequest, ModelScript, open_loopback
from tests.reader import ROOT, Serving, Shell, Typed, blocks, fits, fits_in_any_order, install, shell, typed
from tests.reader_stages import STAGES, WRITTEN, Stage, page_code
from tests.test_docs import saved_blocks

PAGES: Final = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "SECURITY.md", *sorted((ROOT / "docs").rglob("*.md"))]
TYPED: Final = {page: list(typed(page)) for page in PAGES if "_build" not in page.parts and "_generated" not in page.parts}

REGISTRY: Final = "installs from a package registry"
MINUTES: Final = "measures for minutes; tests/benchmarks has it"
MAKE: Final = "sets up an environment from a package registry first"
# Page (``*``: any), the command or how it begins, and why it isn't typed. A test that is named types it, or its like.
LEFT_OUT: Final[tuple[tuple[str, str, str], ...]] = (
    ("*", "pip install…", REGISTRY),
    ("*", "make…", MAKE),
    ("*", "python -m tests.benchmarks…", MINUTES),
    ("docs/how-to/use-other-machines.md", "ray start…", "makes a cluster of several machines"),
    ("docs/installation.md", "understudy demo", "takes fifteen seconds: tests/runtime/cli/test_demo.py"),
    ("docs/tutorial/eight-minutes.md", "python3 -m venv…", "the environment is there: tests/test_packaging.py makes one"),
    ("docs/how-to/demo.md", "understudy demo", "takes fifteen seconds: tests/runtime/cli/test_demo.py"),
    ("docs/how-to/embed-celery.md", "celery…", "forks workers at a broker: tests/runtime/embed/test_hosts.py"),
    ("docs/how-to/embed-django.md", "gunicorn…", "forks workers that share a port: tests/runtime/embed/test_hosts.py"),
    ("docs/how-to/embed-flask.md", "gunicorn…", "forks workers that share a port: tests/runtime/embed/test_hosts.py"),
    ("docs/how-to/run-in-containers.md", "docker compose…", "needs Docker; the files are read by tests/test_docker_example.py"),
    ("docs/how-to/run-in-containers.md", "curl…", "asks what runs in the containers"),
    (
        "docs/how-to/run-a-graph.md",
        "understudy run stories.py:graph --watch…",
        "draws on a terminal: tests/runtime/cli/test_live_view.py",
    ),
    (
        "docs/how-to/run-on-postgresql.md",
        "understudy store migrate…",
        "needs a server: tests/runtime/journal/test_postgres_store.py",
    ),
)


def left_out(each: Typed) -> str | None:
    """Why a command isn't typed."""
    return next((why for page, begin, why in LEFT_OUT if page in ("*", each.page) and begins(each, begin)), None)


def begins(each: Typed, begin: str) -> bool:
    """Whether a command is `begin`, or begins so if that ends with ``…``."""
    return each.command.startswith(begin.removesuffix("…")) if begin.endswith("…") else each.command == begin


def test_what_is_left_out_stands_on_its_page_and_the_test_that_is_named_is_there() -> None:
    commands = [each for page in TYPED.values() for each in page]
    gone = [
        (page, begin)
        for page, begin, _ in LEFT_OUT
        if not any(page in ("*", each.page) and begins(each, begin) for each in commands)
    ]
    assert gone == []
    named = [file for _, _, why in LEFT_OUT for file in re.findall(r"tests/[\w/]+(?:\.py)?", why)]
    assert [file for file in named if not (ROOT / file).exists()] == []


class Provider:
    """The provider of all models, in a thread of this process, so an answer may depend on what was asked."""

    def __init__(self) -> None:
        self.answer: Callable[[ChatRequest], str] = lambda request: ""
        self._portal: Any = None
        self.api_base = ""

    def serve(self, is_ready: threading.Event) -> None:
        async def main() -> None:
            script = ModelScript(lambda request: self.answer(request))
            async with open_loopback({"*": script}, unused="ok", unforeseen="ok") as provider:
                self.api_base = provider.api_base
                self._ended = trio.Event()
                self._token = trio.lowlevel.current_trio_token()
                is_ready.set()
                await self._ended.wait()

        trio.run(main)

    def end(self) -> None:
        self._token.run_sync_soon(self._ended.set)


@pytest.fixture(scope="module")
def provider() -> Iterator[Provider]:
    made, is_ready = Provider(), threading.Event()
    thread = threading.Thread(target=made.serve, args=[is_ready])
    thread.start()
    assert is_ready.wait(60)
    yield made
    made.end()
    thread.join()


@pytest.fixture(scope="module")
def bin_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("reader") / "bin"
    install(folder)
    return folder


# How a command begins that goes on until Ctrl-C, what this reader adds, since other programs here have ports too, and what is
# printed when it is ready.
SERVERS: Final = (
    ("understudy serve", "--port 0 --grace 1", r"usk_local_[\w-]+|openapi.json\n"),
    ("uvicorn", "--port 0", r"Uvicorn running on \S+"),
    ("hypercorn", "--bind 127.0.0.1:0 --workers 0", r"Running on \S+"),
)


class Reader:
    """One who types the commands of a page."""

    def __init__(self, page: Path, shell: Shell, stage: Stage) -> None:
        self._shell = shell
        self._stage = stage
        self._known: dict[str, str] = {"OPENAI_API_KEY=…": "OPENAI_API_KEY=none-at-all", **stage.instead}
        self._serving: Serving | None = None
        for name, text in {**dict(saved_blocks(page.read_text(encoding="utf-8"))), **stage.files}.items():
            (shell.folder / name).write_text(text, encoding="utf-8")

    def type(self, each: Typed) -> None:
        """Type a command, and compare."""
        for begin, before in self._stage.before.items():
            if each.command.startswith(begin):
                self._shell.run(self._here(before))
        command = self._here(each.command)
        where = f"{each.page}:{each.line}: {command}"
        server = next((more for begin, *more in SERVERS if command.startswith(begin)), None)
        if server is not None and "--check" not in command:
            code, printed = 0, self._serve(f"{command} {server[0]}", server[1])
        else:
            code, printed = self._shell.run(command)
        shown = self._here(each.shown)
        if shown:
            self._learn(shown, printed)
            is_so = fits(shown, printed, figures=self._stage.figures)
            is_so = is_so or (not self._stage.is_in_order and fits_in_any_order(shown, printed))
            assert is_so, f"{where}\n--- shown\n{shown}\n--- came\n{printed}"
        assert "urn:understudy:problem" not in printed or "--check" in command, f"{where}\n{printed}"
        assert code == (1 if "--fail-if" in command else 0), f"{where}\n{printed}"

    def _here(self, text: str) -> str:
        for there, here in self._known.items():
            text = text.replace(there, here)
        return text

    def _serve(self, command: str, ready: str) -> str:
        self.leave()
        self._serving = Serving.begin(self._shell, command)
        printed = self._serving.wait_for(ready)
        port = re.search(r"127\.0\.0\.1:(\d+)", printed)
        assert port is not None, printed
        self._known["8321"] = port[1]
        key = re.search(r"usk_local_[\w-]+", printed)
        if key is not None:
            self._known["usk_local_…"] = key[0]
        return printed

    def _learn(self, shown: str, printed: str) -> None:
        """The ids of runs on the page, and what they are here."""
        for there, here in zip(*(re.findall(r'"id":"([\w-]{22})"', text) for text in (shown, printed)), strict=False):
            self._known[there] = here

    def leave(self) -> None:
        """Press Ctrl-C where something is still served."""
        if self._serving is not None:
            code = self._serving.end()
            self._serving = None
            assert code in (0, 130), code


@pytest.mark.slow
@pytest.mark.parametrize(
    "page", [page for page, each in TYPED.items() if any(left_out(one) is None for one in each)], ids=lambda page: page.stem
)
def test_the_commands_of_a_page_do_what_it_shows(page: Path, provider: Provider, bin_folder: Path, tmp_path: Path) -> None:
    stage = STAGES.get(page.relative_to(ROOT).as_posix(), Stage())
    provider.answer = stage.answer
    folder = tmp_path / "reader"
    folder.mkdir()
    plugins = "-p pytest_trio.plugin -p runtime.testing.plugin -p no:cacheprovider -W ignore::pytest.PytestAssertRewriteWarning"
    environ = {
        "OPENAI_BASE_URL": provider.api_base,
        "OPENAI_API_KEY": "none-at-all",
        "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
        "PYTEST_ADDOPTS": plugins,
    }
    reader = Reader(page, shell(folder, bin_folder, environ), stage)
    try:
        for each in TYPED[page]:
            if left_out(each) is None:
                reader.type(each)
    finally:
        reader.leave()


# --- what isn't typed, and other languages -----------------------------------------------------------------------------------


def test_the_shell_can_parse_each_command() -> None:
    every = "\n".join(each.command for page in TYPED.values() for each in page)

    parsed = subprocess.run(["bash", "-n"], input=every, capture_output=True, text=True, check=False)
    assert parsed.stderr == ""


def missing(command: str) -> Iterator[str]:
    """The targets of make, the modules, the extras and the files that a command names, and that are not there."""
    words = shlex.split(command, comments=True)
    match words:
        case ["make", *targets]:
            makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
            yield from (
                each for each in targets if "=" not in each and not re.search(rf"^{re.escape(each)}\b.*:", makefile, re.MULTILINE)
            )
        case ["python", "-m", module, *_] if module.startswith("tests."):
            if importlib.util.find_spec(module) is None:
                yield module
        case ["pip", "install", *packages]:
            project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
            named = [extra for each in packages for extra in re.findall(r"understudy\[([\w,-]+)\]", each)]
            yield from (extra for each in named for extra in each.split(",") if extra not in project)
            yield from (
                each
                for each in packages
                if each.startswith("understudy/") and not (ROOT.parent / ROOT.name / each.partition("/")[2]).exists()
            )
        case ["docker", "compose", "-f", file, *_]:
            if not (ROOT / file).is_file():
                yield file
        case _:
            pass


def test_what_a_command_names_is_there() -> None:
    commands = [each for page in TYPED.values() for each in page]

    assert {f"{each.page}:{each.line}": found for each in commands if (found := list(missing(each.command)))} == {}


@pytest.mark.parametrize(
    ("command", "name"),
    [
        ("make nothing ARGS=1", "nothing"),
        ("python -m tests.benchmarks.nothing", "tests.benchmarks.nothing"),
        ("pip install 'understudy[serve,nothing]'", "nothing"),
        ("pip install -r understudy/requirements/nothing.txt", "understudy/requirements/nothing.txt"),
        ("docker compose -f nothing.yaml up", "nothing.yaml"),
    ],
)
def test_what_is_not_there_is_found(command: str, name: str) -> None:
    assert list(missing(command)) == [name]


def test_each_block_in_a_language_of_data_can_be_read() -> None:
    yaml: Any = importlib.import_module("yaml")
    readers: Mapping[str, Callable[[str], object]] = {"json": json.loads, "yaml": yaml.safe_load, "toml": tomllib.loads}
    for page in TYPED:
        for language, read in readers.items():
            for _, text in blocks(page, language):
                assert read(text)


def statements(text: str) -> Iterator[str]:
    """The directives of an nginx configuration, each with the blocks that it is in."""
    within: list[str] = []
    rest = re.sub(r"#.*", "", text)
    while rest.strip():
        found = re.match(r"\s*([^;{}]*)([;{}])", rest)
        assert found is not None, f"no ; or brace after {rest.strip()!r}"
        words, mark = found[1].strip(), found[2]
        rest = rest[found.end() :]
        if mark == "}":
            assert not words, f"{words!r} has no semicolon"
            within.pop()
        else:
            yield " / ".join([*within, words])
            within += [words] if mark == "{" else []
    assert within == []


def test_the_configuration_of_nginx_can_be_read(tmp_path: Path) -> None:
    """By nginx where there is one."""
    whole, part = (text for _, text in blocks(ROOT / "docs/how-to/behind-nginx.md", "nginx"))

    assert "server / location / / proxy_pass http://graphs" in list(statements(whole))
    assert "location /inspector/ / deny all" in list(statements(part))
    nginx = shutil.which("nginx")
    if nginx is not None:
        inner = whole.replace("listen 443 ssl", "listen 127.0.0.1:18443").replace(
            "    location / {", f"{part}\n    location / {{"
        )
        file = tmp_path / "nginx.conf"
        file.write_text(
            f"pid {tmp_path}/pid;\nerror_log stderr;\nevents {{}}\nhttp {{\naccess_log off;\n{inner}\n}}\n", encoding="utf-8"
        )
        checked = subprocess.run([nginx, "-t", "-p", str(tmp_path), "-c", str(file)], capture_output=True, text=True, check=False)
        assert checked.returncode == 0, checked.stderr


def test_every_language_of_a_block_is_known_here() -> None:
    """Python is run by tests/test_docs.py, text is what a block before it prints, and the rest is above."""
    known = {"python", "text", "console", "json", "yaml", "toml", "nginx"}

    languages = {
        match[1] for page in TYPED for match in re.finditer(r"^ *```(\w+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    }
    assert languages <= known


CLIENT: Final = re.compile(r"^```\{code-block\} python\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@pytest.mark.slow
def test_the_clients_that_pages_show_are_answered(bin_folder: Path, tmp_path: Path) -> None:
    folder = tmp_path / "reader"
    folder.mkdir()
    typing = shell(folder, bin_folder, {})
    for name, code in {"graphs.py": page_code("docs/how-to/mcp-client.md", count=1), "letters.py": WRITTEN}.items():
        (folder / name).write_text(code, encoding="utf-8")
    serving = Serving.begin(typing, "understudy serve graphs.py:graph letters.py:graph --mcp --port 0 --grace 1")
    try:
        printed = serving.wait_for(r"key for this process: \S+\n")
        port, key = re.search(r"127\.0\.0\.1:(\d+)", printed), re.search(r"usk_local_[\w-]+", printed)
        assert port is not None
        assert key is not None
        openai, mcp = (
            "\n".join(CLIENT.findall((ROOT / f"docs/how-to/{each}-client.md").read_text(encoding="utf-8")))
            for each in ("openai", "mcp")
        )
        imports, _, body = mcp.partition("\n\n")
        mcp = f"{imports}\nimport asyncio\n\nasync def main():\n{textwrap.indent(body, '    ')}\n\nasyncio.run(main())\n"
        for name, code in {"by_openai.py": openai, "by_mcp.py": mcp}.items():
            (folder / name).write_text(code.replace("8321", port[1]).replace("usk_…", key[0]), encoding="utf-8")
        asked = typing.run("python by_openai.py")
        called = typing.run("python by_mcp.py")
    finally:
        serving.end()

    assert asked[1].splitlines()[:2] == ["WHERE IS GHENT?", "WHERE IS GHENT?"]
    assert "WHERE IS GHENT?May this letter be sent?" in asked[1]
    assert asked[0] == 0, asked[1]
    assert called == (0, "{'text': 'WHERE IS GHENT?'}\n")
