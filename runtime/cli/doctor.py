"""``understudy doctor``: what is installed, what is missing, which keys are set, and whether a provider answers."""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Iterator, Mapping, Sequence
from importlib import metadata
from typing import Final, final

import attrs
import trio
from packaging.requirements import Requirement

from actors.errors import UnderstudyError
from runtime.cli.failed_run import describe
from runtime.cli.named_models import check_clients, make_client
from runtime.cli.terminal import one_line, printable
from runtime.lm.providers.known import KEY_VARIABLES

PATIENCE_S: Final = 60.0
"""How long a provider may take to answer one short question."""

_MORE_KEYS: Final = ("DEEPSEEK_API_KEY", "GROQ_API_KEY", "MISTRAL_API_KEY", "TOGETHERAI_API_KEY", "XAI_API_KEY")
"""Keys that LiteLLM's own resolver finds, so no table of ours names them."""

_PROXIES: Final = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY", "SSL_CERT_FILE", "SSL_CERT_DIR")


@final
@attrs.frozen
class Options:
    """What the command line asks for."""

    model: str | None = None
    api_base: str | None = None


@final
@attrs.frozen
class Library:
    """One distribution that understudy asks for, and what is there of it."""

    name: str
    tried: str
    """The versions that have been tried, such as ``>=1.10,<2``."""
    installed: str | None
    extra: str | None
    """The extra that brings it; None for those that every installation has."""

    @property
    def is_tried(self) -> bool:
        """Whether what is installed is one of the versions that have been tried."""
        return self.installed is not None and Requirement(f"x{self.tried}").specifier.contains(self.installed, prereleases=True)


def run(options: Options) -> int:
    """Print the report and return the exit code: 1 if a library is missing or untried, or if the model doesn't answer.

    Raises:
        WrongUsage: the model's name or the address is wrong, or its key is missing.
    """
    found = libraries()
    lines = [*_python(), "", *_libraries(found), "", *_extras(found), "", *_keys(os.environ), *_network(os.environ)]
    print(printable("\n".join(lines), sys.stdout), flush=True)
    ailing = [library for library in found if library.extra is None and not library.is_tried]
    if options.model is None:
        print("\nasked no provider: --model openai/gpt-4o-mini asks one a short question")
        return 1 if ailing else 0
    answers = _asked(options.model, options.api_base)
    return 0 if answers and not ailing else 1


def libraries() -> list[Library]:
    """What the installed understudy asks for, in its own order; nothing when it runs from a folder that isn't installed."""
    try:
        asked = metadata.requires("understudy") or []
    except metadata.PackageNotFoundError:
        return []
    return [_library(Requirement(text)) for text in asked]


def _library(asked: Requirement) -> Library:
    extra = next((str(value).strip('"') for _, _, value in _markers(asked)), None)
    try:
        installed: str | None = metadata.version(asked.name)
    except metadata.PackageNotFoundError:
        installed = None
    return Library(asked.name, str(asked.specifier), installed, extra)


def _markers(asked: Requirement) -> Iterator[tuple[str, str, str]]:
    """The comparisons ``extra == "name"`` of a requirement, as packaging has parsed them."""
    for part in () if asked.marker is None else str(asked.marker).split(" and "):
        name, comparison, value = part.split(" ", 2)
        if name == "extra":
            yield name, comparison, value


def _python() -> Iterator[str]:
    try:
        version = metadata.version("understudy")
    except metadata.PackageNotFoundError:
        version = "not installed: run from a folder. Fix: pip install that folder"
    yield f"understudy  {version}"
    yield f"Python      {platform.python_version()} ({sys.executable})"
    yield f"system      {platform.system()} {platform.release()}, {platform.machine()}"


def _libraries(found: Sequence[Library]) -> Iterator[str]:
    yield "libraries"
    for library in found:
        if library.extra is None:
            yield f"  {library.name:<12}{_state(library)}"


def _state(library: Library) -> str:
    if library.installed is None:
        return f"missing. Fix: pip install '{library.name}{library.tried}'"
    if not library.is_tried:
        return f"{library.installed}, but tried are {library.tried}. Fix: pip install '{library.name}{library.tried}'"
    return library.installed


def _extras(found: Sequence[Library]) -> Iterator[str]:
    yield "extras"
    for extra in dict.fromkeys(library.extra for library in found if library.extra is not None):
        parts = [library for library in found if library.extra == extra]
        if all(library.installed is None for library in parts):
            yield f"  {extra:<12}not installed: pip install 'understudy[{extra}]'"
        else:
            yield f"  {extra:<12}" + "; ".join(f"{library.name} {_state(library)}" for library in parts)


def _keys(environment: Mapping[str, str]) -> Iterator[str]:
    """Which keys are set. Their values, and anything about these, stay out: such reports end up in public."""
    yield "keys of providers"
    names = dict.fromkeys([*(name for names in KEY_VARIABLES.values() for name in names), *_MORE_KEYS])
    there = [name for name in names if name in environment]
    for name in there:
        yield f"  {name:<24}{_key_state(environment[name])}"
    if not there:
        yield "  none is set: export OPENAI_API_KEY=…, or that of your provider. Models on this machine need none"


def _key_state(value: str) -> str:
    if not value.strip():
        return "set, but empty"
    if value != value.strip() or not value.isprintable():
        return "set, with white space or control characters in or around it, which providers reject. Fix: export it again"
    if value[0] in "'\"" and value[-1] == value[0]:
        return "set, with quotation marks around it, which providers reject. Fix: export it without"
    return "set"


def _network(environment: Mapping[str, str]) -> Iterator[str]:
    there = [name for name in (*_PROXIES, *map(str.lower, _PROXIES)) if environment.get(name)]
    if there:
        yield ""
        yield f"calls go through what these variables say: {', '.join(there)}"


def _asked(model: str, api_base: str | None) -> bool:
    """Ask `model` a short question, and say whether it answered."""
    client = make_client(model, api_base)

    async def main() -> str:
        await check_clients([client])
        began_s = trio.current_time()
        with trio.fail_after(PATIENCE_S):
            async with client:
                answer = await client.chat([{"role": "user", "content": "Answer with the word yes."}])
        return f"{model} answered in {trio.current_time() - began_s:.1f} s: {one_line(answer.text or '')[:40]!r}"

    print()
    try:
        line = trio.run(main)
    except trio.TooSlowError:
        print(f"{model} has not answered in {PATIENCE_S:g} s. Fix: look at the network, the proxy and the provider's status page")
        return False
    except UnderstudyError as error:
        print(printable(describe(error), sys.stdout))
        return False
    print(printable(line, sys.stdout))
    return True
