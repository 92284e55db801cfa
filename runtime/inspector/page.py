"""The inspector's page: its files, which are part of the package, and the rules under which browsers show it."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Final, final

import attrs

STATIC: Final = Path(__file__).parent / "static"
KINDS: Final[Mapping[str, str]] = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".mjs": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
    ".LICENSE": "text/plain; charset=utf-8",
}
"""Media types, by the end of the name."""
POLICY: Final = "; ".join(
    [
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "connect-src 'self'",
        "img-src 'self' data:",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
        "require-trusted-types-for 'script'",
        "trusted-types 'none'",
    ]
)
"""Nothing of another origin, no inline script, and no markup made of text: what models write stays text."""
HEADERS: Final[Mapping[str, str]] = {
    "Content-Security-Policy": POLICY,
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-cache",
}


@final
@attrs.frozen
class File:
    """One file of the page."""

    kind: str
    """Its media type."""
    content: bytes = attrs.field(repr=False)
    tag: str
    """Changes with its content."""


@functools.cache
def files() -> Mapping[str, File]:
    """All files of the page, by their path below it: ``"index.html"``, ``"vendor/preact.mjs"``. Nothing else is ever served."""
    found: dict[str, File] = {}
    for path in sorted(STATIC.rglob("*")):
        if path.is_file() and path.suffix in KINDS:
            content = path.read_bytes()
            tag = hashlib.sha256(content).hexdigest()[:32]
            found[path.relative_to(STATIC).as_posix()] = File(KINDS[path.suffix], content, f'"{tag}"')
    return found
