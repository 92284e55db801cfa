"""``understudy new``: a package with a graph, a test in virtual time and a service, all of which run immediately."""

from __future__ import annotations

import importlib.util
import keyword
import os
import re
import shlex
import shutil
import sys
import tempfile
from importlib import metadata, resources
from pathlib import Path
from string import Template
from typing import Final, final

import attrs

from runtime.cli.terminal import printable
from runtime.cli.wrong_usage import WrongUsage

FILES: Final = {
    "pyproject.toml": "pyproject.toml.txt",
    "README.md": "README.md.txt",
    ".gitignore": "gitignore.txt",
    "{package}/__init__.py": None,
    "{package}/graph.py": "graph.py.txt",
    "{package}/service.py": "service.py.txt",
    "tests/test_graph.py": "test_graph.py.txt",
}
"""What a new project consists of: each file, and its template in ``runtime/cli/starter``; None makes it empty."""

EXTRAS: Final = {"testing": "pytest_trio", "serve": "hypercorn"}
"""What the project needs besides understudy, each with a module that shows whether it is installed."""
_NAME: Final = re.compile(r"[a-z][a-z0-9_-]{0,63}")
_TAKEN: Final = frozenset({"actors", "runtime", "understudy", "tests", "test"})
"""Names of packages with which the project's own would hide another that it needs."""


@final
@attrs.frozen
class Options:
    """What the command line asks for."""

    name: str
    folder: str | None = None


def run(options: Options) -> int:
    """Make the project and return the exit code. It is there whole, or not at all.

    Raises:
        WrongUsage: a package cannot have the name, or something is in the way.
    """
    package = _package(options.name)
    place = Path(options.folder if options.folder is not None else options.name)
    if place.is_symlink() or place.exists():
        raise WrongUsage(f"{place} is there already: give another NAME, or --folder FOLDER")
    if not place.parent.is_dir():
        raise WrongUsage(f"{place.parent} isn't a folder: make it first, or give another --folder")
    try:
        _write(place, package, options.name)
    except OSError as error:
        raise WrongUsage(f"{place} cannot be made: {error.strerror or error}") from error
    missing = [extra for extra, module in EXTRAS.items() if importlib.util.find_spec(module) is None]
    install = f"pip install 'understudy[{','.join(missing)}]'"
    commands = {
        f"cd {shlex.quote(str(place))}": "",
        **({install: "# what its test and its service need; before a release, the path of the checkout"} if missing else {}),
        "python -m pytest": "# no key, no network",
        f"understudy graph check {package}/graph.py:graph": "# is it in order?",
        f"python -m {package}.service": "# over HTTP; needs a provider's key for its answers",
    }
    width = max(map(len, commands))
    lines = [f"made {place}: {len(FILES)} files", "", *(f"  {each:{width}}  {note}".rstrip() for each, note in commands.items())]
    print(printable("\n".join(lines), sys.stdout))
    return 0


def _package(name: str) -> str:
    """The package's name: `name` with underscores for hyphens.

    Raises:
        WrongUsage: Python cannot import a package of that name, or it would hide one that is needed.
    """
    package = name.replace("-", "_")
    if keyword.iskeyword(package):
        raise WrongUsage(f"NAME becomes a Python package, and {name!r} is a word of Python's own: give another NAME")
    if not _NAME.fullmatch(name):
        better = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")
        fix = f". Fix: understudy new {better}" if _NAME.fullmatch(better) and not keyword.iskeyword(better) else ""
        raise WrongUsage(
            "NAME becomes a Python package: it begins with a lower-case letter, then letters, digits, hyphens and underscores, "
            f"at most 64. Got: {name!r}{fix}"
        )
    if package in _TAKEN or package in sys.stdlib_module_names:
        raise WrongUsage(f"a package named {package!r} would hide the one that Python or understudy has: give another NAME")
    return package


def _write(place: Path, package: str, project: str) -> None:
    templates = resources.files("runtime.cli") / "starter"
    values = {"package": package, "project": project, "version": _version()}
    draft = Path(tempfile.mkdtemp(prefix=f".{package}-", dir=place.parent))
    try:
        for name, template in FILES.items():
            path = draft / name.format(package=package)
            path.parent.mkdir(exist_ok=True)
            text = "" if template is None else (templates / template).read_text(encoding="utf-8")
            path.write_text(Template(text).substitute(values), encoding="utf-8")
        draft.chmod(0o777 & ~_umask())  # mkdtemp makes a folder that no one else may read
        draft.rename(place)
    except BaseException:
        shutil.rmtree(draft, ignore_errors=True)
        raise


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _version() -> str:
    try:
        return metadata.version("understudy")
    except metadata.PackageNotFoundError:
        return "0.1"
