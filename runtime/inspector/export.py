"""A run's trace as one file of HTML: the inspector's page with the events inside. It needs no server and asks for nothing.

Modules of JavaScript cannot import one another inside one file, so they are joined: each becomes a function that returns what it
exports. That is all of the language's module system that the page's own files use, and a file that uses more is an error.
"""

from __future__ import annotations

import base64
import functools
import hashlib
import json
import posixpath
import re
from collections.abc import Iterable, Mapping
from html import escape
from typing import Any, Final

from actors.errors import InternalError
from runtime.inspector.page import files
from runtime.traces.event_json import dumps

_MAIN: Final = "app.js"
_IMPORT: Final = re.compile(r'^import (?:(?P<default>\w+)|\{(?P<names>[^}]*)\}) from "(?P<path>\./[^"]+)";$', re.MULTILINE)
_EXPORTED: Final = re.compile(r"^export ((?:async )?function|class|const|let) (\w+)", re.MULTILINE)
_EXPORT_LIST: Final = re.compile(r"\bexport ?\{([^}]*)\};?")
_EXPORT_DEFAULT: Final = re.compile(r"\bexport default ?")
_MAP: Final = re.compile(r"^//# sourceMappingURL=.*$", re.MULTILINE)


def export_page(events: Iterable[Mapping[str, Any]], *, graph: Mapping[str, Any] | None = None) -> str:
    """The page that shows the run of these events, as they are written (see ``read_events``).

    Args:
        events: of one run, in their order.
        graph: what a service tells of the graph, with the layout of its picture; without it the page has no picture.
    """
    script, style = _script(), _style()
    policy = "; ".join(
        [
            "default-src 'none'",
            f"script-src {_hash(script)}",
            f"style-src {_hash(style)}",
            "img-src data:",
            "base-uri 'none'",
            "form-action 'none'",
            "require-trusted-types-for 'script'",
            "trusted-types 'none'",
        ]
    )
    data = [("events", "[" + ",\n".join(map(_json, events)) + "]")]
    if graph is not None:
        data.append(("graph", _json(graph)))
    blocks = "\n".join(f'<script type="application/json" id="{name}">{text}</script>' for name, text in data)
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{escape(policy)}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="referrer" content="no-referrer">\n<meta name="color-scheme" content="light dark">\n'
        f'<title>understudy: a run</title>\n<link rel="icon" href="data:,">\n<style>{style}</style>\n</head>\n'
        '<body><div id="app"></div><noscript>This page needs JavaScript.</noscript>\n'
        f'{blocks}\n<script type="module">{script}</script>\n</body>\n</html>\n'
    )


def _json(value: object) -> str:
    """ASCII JSON in which nothing can be taken for markup."""
    return dumps(value).decode("ascii").replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


@functools.cache
def _style() -> str:
    return files()["style.css"].content.decode()


@functools.cache
def _script() -> str:
    """All modules that the page loads, joined; each after those that it imports."""
    done: dict[str, str] = {}
    parts: list[str] = []

    def add(path: str) -> str:
        """The name of what the module exports; joins it if that has not been done."""
        if path not in done:
            done[path] = f"m{len(done)}_{re.sub(r'[^a-z]', '_', path.rpartition('/')[2])}"
            body = _joined(path, files()[path].content.decode(), add)
            parts.append(f"const {done[path]} = (() => {{\n{body}\n}})();")
        return done[path]

    add(_MAIN)
    script = "\n".join(parts)
    if "</script" in script or "<!--" in script:
        raise InternalError("a module of the inspector's page holds markup that would end a script.")
    return script


def _joined(path: str, source: str, add: Any) -> str:
    """The body of a function that does what the module does and returns what it exports."""
    exports: dict[str, str] = {}

    def imported(match: re.Match[str]) -> str:
        module = add(posixpath.normpath(posixpath.join(posixpath.dirname(path), match["path"])))
        if match["default"]:
            return f"const {match['default']} = {module}.default;"
        names = ", ".join(": ".join(re.split(r" as ", name.strip())) for name in match["names"].split(","))
        return f"const {{ {names} }} = {module};"

    def declared(match: re.Match[str]) -> str:
        exports[match[2]] = match[2]
        return f"{match[1]} {match[2]}"

    def listed(match: re.Match[str]) -> str:
        for name in match[1].split(","):
            own, _, outside = name.strip().partition(" as ")
            exports[outside or own] = own
        return ""

    def by_default(_: re.Match[str]) -> str:
        exports["default"] = "exported"
        return "const exported = "

    body = _MAP.sub("", _IMPORT.sub(imported, source))
    for pattern, replace in ((_EXPORTED, declared), (_EXPORT_LIST, listed), (_EXPORT_DEFAULT, by_default)):
        body = pattern.sub(replace, body)
    if re.search(r"^(import|export)\b", body, re.MULTILINE):
        raise InternalError(f"{path} imports or exports in a way that cannot be joined into one file.")
    inner = ", ".join(f"{json.dumps(outside)}: {own}" for outside, own in exports.items())
    return f"{body}\nreturn {{ {inner} }};"
