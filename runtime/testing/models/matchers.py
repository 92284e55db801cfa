"""Keys for the scripts of ``ScriptedLM``: which call is meant, by node, by signature, by fields. Pure; DSPy is not imported."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from actors.errors import DeclarationError


def by_node(node: Callable[..., Any]) -> Callable[[str], bool]:
    """Calls of a predict node: those whose prompt holds its instruction, which is its docstring.

    Raises:
        DeclarationError: it has none, so nothing tells its prompts from others.
    """
    instruction = _plain(inspect.getdoc(node) or "")
    if not instruction:
        name = getattr(node, "__name__", repr(node))
        raise DeclarationError(f"node {name!r} has no docstring to know its prompts by.\n  Fix: write one, or use by_fields(…).")
    return _named(f"by_node({getattr(node, '__name__', '?')})", lambda text: instruction in _plain(text))


def by_fields(*outputs: str) -> Callable[[str], bool]:
    """Calls that ask for all of these output fields."""
    return _named(f"by_fields({', '.join(outputs)})", lambda text: all(f"`{name}` (" in _outputs_in(text) for name in outputs))


def by_signature(signature: Any) -> Callable[[str], bool]:
    """Calls of a DSPy signature: a class, or a string such as ``"question -> answer"``."""
    if isinstance(signature, str):
        names = [part.partition(":")[0].strip() for part in signature.partition("->")[2].split(",")]
        return by_fields(*filter(None, names))
    instruction, fields = _plain(signature.instructions), by_fields(*signature.output_fields)
    return _named(f"by_signature({signature.__name__})", lambda text: instruction in _plain(text) and fields(text))


def _outputs_in(text: str) -> str:
    """The part of a DSPy prompt that lists the output fields; they are named like the input fields everywhere else."""
    return text.partition("Your output fields are:")[2].partition("All interactions")[0]


def _named(name: str, matcher: Callable[[str], bool]) -> Callable[[str], bool]:
    matcher.__name__ = matcher.__qualname__ = name
    return matcher


def _plain(text: str) -> str:
    """Adapters indent and wrap instructions; only the words count."""
    return " ".join(text.split())
