"""The names by which data knows classes: those of a program by the name under which others import its file.

A class of the file that a process was started with is one of ``__main__`` there, and of another module wherever the same file is
imported: by a server, by ``understudy runs answer``, by the next version of the program. Data calls it the same in all of them.
"""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType
from typing import Final

_PROGRAMS: Final = ("__main__", "__mp_main__", "__graph_file__", "__function_file__")
"""What a file is called that was not imported by its own name: the program, the program in a process that ``multiprocessing``
spawned, and a file that the command line was given."""


def name_of(kind: type) -> str:
    """``module:Class``."""
    return f"{_imported_as(kind.__module__)}:{kind.__qualname__}"


def _imported_as(module: str) -> str:
    """The name by which others import a module; its own, if it has no file, as in a notebook."""
    if module not in _PROGRAMS:
        return module
    found = sys.modules.get(module)
    spec = getattr(found, "__spec__", None)
    name = getattr(spec, "name", None)  # `python -m package.module` knows it
    if isinstance(name, str) and name not in _PROGRAMS:
        return name
    file = getattr(found, "__file__", None)
    return Path(file).stem if isinstance(file, str) and file.endswith(".py") else module


def modules_called(name: str) -> list[ModuleType]:
    """The loaded modules that data may call `name`."""
    names = [name, *(each for each in _PROGRAMS if each != name and each in sys.modules and _imported_as(each) == name)]
    return [module for module in map(sys.modules.get, names) if module is not None]


def is_of_a_program(name: str) -> bool:
    """Whether data with the name ``module:Class`` was written where no one knew how others import the module."""
    return name.partition(":")[0] in _PROGRAMS
