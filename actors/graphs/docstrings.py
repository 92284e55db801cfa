"""What a docstring says of a function and of each of its parameters, in Google's, NumPy's and Sphinx's forms. Pure."""

from __future__ import annotations

import inspect
import re

_OF_PARAMETERS = frozenset({"args", "arguments", "parameters", "params", "keyword args", "keyword arguments", "other parameters"})
_SECTIONS = _OF_PARAMETERS | {
    *("returns", "return", "yields", "yield", "raises", "except", "exceptions", "warns", "warning", "warnings"),
    *("example", "examples", "note", "notes", "attributes", "references", "see also", "todo"),
}
_HEADING = re.compile(r"^([A-Za-z][A-Za-z ]*):\s*$")
_RULE = re.compile(r"^-{3,}\s*$")
_GOOGLE_ENTRY = re.compile(r"^\*{0,2}(\w+)(?:\s*\(.*?\))?\s*:\s*(.*)$")
_NUMPY_ENTRY = re.compile(r"^\*{0,2}(\w+(?:\s*,\s*\w+)*)\s*(?::.*)?$")
_SPHINX = re.compile(r"^:(?:param|parameter|arg|argument|key|keyword)\s+(?:[^:]*\s)?\*{0,2}(\w+)\s*:\s*(.*)$")
_SPHINX_ANY = re.compile(r"^:[a-z]+(?:\s[^:]*)?:")


def read_docstring(text: str) -> tuple[str, dict[str, str]]:
    r"""What stands before the first section, and what is said of each parameter: one line of text each.

    >>> read_docstring("Search.\n\nArgs:\n    query: what to look for")
    ('Search.', {'query': 'what to look for'})
    """
    lines = inspect.cleandoc(text).splitlines()
    first = next((index for index in range(len(lines)) if _begins(lines, index)), len(lines))
    return "\n".join(lines[:first]).strip(), _parameters(lines[first:])


def _begins(lines: list[str], index: int) -> bool:
    return _section(lines, index) is not None or _SPHINX_ANY.match(lines[index]) is not None


def _section(lines: list[str], index: int) -> tuple[str, bool] | None:
    """The section whose heading is at `index`, in small letters, and whether it is underlined as NumPy's are."""
    line = lines[index]
    if index + 1 < len(lines) and _RULE.match(lines[index + 1]) and line.strip().lower() in _SECTIONS:
        return line.strip().lower(), True
    found = _HEADING.match(line)
    if found is None or found.group(1).strip().lower() not in _SECTIONS:
        return None
    return found.group(1).strip().lower(), False


def _parameters(lines: list[str]) -> dict[str, str]:
    """What the sections say of parameters."""
    found: dict[str, list[str]] = {}
    section, is_numpy, indent, current = "", False, 0, [""]
    for index, line in enumerate(lines):
        heading = _section(lines, index)
        if heading is not None:
            (section, is_numpy), indent, current = heading, 0, [""]
            continue
        sphinx = _SPHINX.match(line)
        if sphinx is not None:
            current = found.setdefault(sphinx.group(1), [])
            current.append(sphinx.group(2))
            section = "sphinx"
            continue
        if not line.strip() or _RULE.match(line):
            continue
        if _SPHINX_ANY.match(line):
            section, current = "", [""]
            continue
        depth = len(line) - len(line.lstrip())
        if section in _OF_PARAMETERS:
            names, said = _entry(line, depth, is_numpy=is_numpy, indent=indent)
            if names:
                indent, current = depth, ([said] if said else [])
                found.update(dict.fromkeys(names, current))
                continue
        current.append(line.strip())
    return {name: " ".join(part for part in said if part) for name, said in found.items() if any(said)}


def _entry(line: str, depth: int, *, is_numpy: bool, indent: int) -> tuple[list[str], str]:
    """The names that a line of a section begins to describe, and what it says of them; no names where it goes on."""
    if is_numpy:
        entry = _NUMPY_ENTRY.match(line) if depth == 0 else None
        return (re.split(r"\s*,\s*", entry.group(1)), "") if entry is not None else ([], "")
    if depth == 0 or (indent and depth > indent):
        return [], ""
    entry = _GOOGLE_ENTRY.match(line.strip())
    return ([entry.group(1)], entry.group(2)) if entry is not None else ([], "")
