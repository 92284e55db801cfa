"""What another process can import: names of functions and classes, and why something has none. Pure.

A host is sent names and JSON, never code. So what it runs must stand at the top level of a module that it can import, and what
travels must be a message.
"""

from __future__ import annotations

import inspect
import sys
from typing import Any

from actors.words import repr_of


def portable_name(thing: Any) -> str:
    """``module:name`` of a function or a class, by which another process imports it."""
    return f"{thing.__module__}:{thing.__qualname__}"


def why_not_named(thing: Any) -> str | None:
    """Why another process could not import `thing` by its name; None: it can."""
    module, name = getattr(thing, "__module__", None), getattr(thing, "__qualname__", None)
    if not isinstance(module, str) or not isinstance(name, str):
        return f"{repr_of(thing)} has no name"
    if name == "<lambda>" or name.endswith(".<lambda>"):
        return "a lambda has no name"
    if "<locals>" in name:
        return f"{name.rpartition('.')[2]} is defined within {name.partition('.<locals>')[0]}()"
    if module in ("__main__", "__mp_main__"):
        return f"{name} stands in the program itself, which other processes don't import"
    found: Any = sys.modules.get(module)
    for part in name.split("."):
        found = getattr(found, part, None)
    plain, own = inspect.unwrap(found) if callable(found) else found, inspect.unwrap(thing)
    if plain is not own:
        return f"the name {name} in {module} is now something else"
    return None
