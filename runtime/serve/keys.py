"""API keys: made once, shown once, kept as hashes."""

from __future__ import annotations

import hashlib
import hmac
import os
import re
import secrets
import stat
from collections.abc import Iterable, MutableMapping
from pathlib import Path
from typing import Any, Final, Self, final

import attrs

from actors.errors import DeclarationError
from actors.words import repr_of
from runtime.serve.auth import Caller, bearer_of, checked_scopes

VARIABLE: Final = "UNDERSTUDY_API_KEYS"
"""The environment variable that holds keys' lines, separated by line ends or semicolons."""
_NAME: Final = re.compile(r"[A-Za-z0-9-]{1,32}")
_KEY: Final = re.compile(r"usk_([A-Za-z0-9-]{1,32})_[A-Za-z0-9_-]{43}")
_HASH: Final = re.compile(r"[0-9a-f]{64}")


@final
@attrs.frozen
class KeyLine:
    """What is kept of a key: whose it is, what it may do, and its SHA-256.

    A key is 256 random bits, so there is nothing to guess, and a slow hash would protect nothing.
    """

    name: str
    scopes: frozenset[str]
    digest: str = attrs.field(repr=False)

    def __str__(self) -> str:
        return f"{self.name} {','.join(sorted(self.scopes))} {self.digest}"


def new_key(name: str, scopes: Iterable[str]) -> tuple[str, KeyLine]:
    """A new key, which is not kept anywhere, and its line, which is.

    Raises:
        DeclarationError: the name or a scope is wrong.
    """
    if not _NAME.fullmatch(name):
        raise DeclarationError(f"the key's name {repr_of(name)} is wrong.\n  Fix: up to 32 letters, digits and hyphens.")
    key = f"usk_{name}_{secrets.token_urlsafe(32)}"
    return key, KeyLine(name, checked_scopes(scopes), digest_of(key))


def digest_of(key: str) -> str:
    """The SHA-256 of the whole key."""
    return hashlib.sha256(key.encode()).hexdigest()


@final
class APIKeys:
    """An ``Authenticator``: callers send ``Authorization: Bearer usk_…``."""

    def __init__(self, lines: Iterable[KeyLine]) -> None:
        self._lines: dict[str, list[KeyLine]] = {}
        for line in lines:
            self._lines.setdefault(line.name, []).append(line)

    @classmethod
    def from_environment(cls, variable: str = VARIABLE) -> Self:
        """Those in the environment, one a line: ``NAME SCOPE,SCOPE SHA-256``, as ``understudy keys new`` prints it.

        Raises:
            DeclarationError: there are none, or a line is wrong.
        """
        text = os.environ.get(variable, "")
        if not text.strip():
            raise DeclarationError(f"{variable} isn't set.\n  Fix: understudy keys new NAME prints a key and its line.")
        return cls(_lines_of(text, variable))

    @classmethod
    def from_file(cls, path: str | Path) -> Self:
        """Those in a file that no one else can read, one a line; ``#`` begins a comment.

        Raises:
            DeclarationError: the file cannot be read, others can read it, or a line is wrong.
        """
        file = Path(path)
        try:
            mode = file.stat().st_mode
            text = file.read_text(encoding="utf-8")
        except (OSError, ValueError) as error:
            raise DeclarationError(f"the keys in {str(file)!r} cannot be read: {error}.") from error
        if mode & (stat.S_IRWXG | stat.S_IRWXO):
            raise DeclarationError(f"others may read or write {str(file)!r}, which holds keys.\n  Fix: chmod 600 {file}")
        return cls(_lines_of(text, str(file)))

    async def __call__(self, scope: MutableMapping[str, Any], /) -> Caller | None:
        """See ``Authenticator``."""
        token = bearer_of(scope)
        return None if token is None else self.caller_of(token)

    def caller_of(self, key: str) -> Caller | None:
        """Whose `key` is."""
        found = _KEY.fullmatch(key)
        digest = digest_of(key)
        for line in self._lines.get(found[1], ()) if found is not None else ():
            if hmac.compare_digest(line.digest, digest):
                return Caller(line.name, line.scopes)
        return None


def _lines_of(text: str, where: str) -> list[KeyLine]:
    lines: list[KeyLine] = []
    for number, line in enumerate(re.split(r"[\n;]", text), start=1):
        words = line.partition("#")[0].split()
        if not words:
            continue
        if len(words) != 3 or not _NAME.fullmatch(words[0]) or not _HASH.fullmatch(words[2]):
            raise DeclarationError(  # without the line: it may hold a key
                f"line {number} of {where} isn't NAME SCOPE,SCOPE SHA-256.\n  Fix: understudy keys new NAME prints such a line."
            )
        lines.append(KeyLine(words[0], checked_scopes(words[1].split(",")), words[2]))
    return lines
