"""Who calls, and what that caller may do."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, MutableMapping
from typing import Any, Final, Literal, Protocol, final

import attrs

from actors.errors import DeclarationError
from actors.words import repr_of

Scope = Literal["run", "inspect", "operate"]
"""``run``: start graphs, and see, follow, answer and cancel one's own runs. ``inspect``: read everything. ``operate``: cancel,
answer and restart anything."""
SCOPES: Final[tuple[Scope, ...]] = ("run", "inspect", "operate")


def checked_scopes(scopes: Iterable[str]) -> frozenset[str]:
    """`scopes`, if they are some.

    Raises:
        DeclarationError: one is unknown.
    """
    given = frozenset(scopes)
    unknown = sorted(given.difference(SCOPES))
    if unknown:
        raise DeclarationError(f"scope {repr_of(unknown[0])} is unknown.\n  Fix: use some of: {', '.join(SCOPES)}.")
    return given


@final
@attrs.frozen
class Caller:
    """Who has sent a request."""

    name: str
    """What runs belong to, and logs name."""
    scopes: frozenset[str] = attrs.field(converter=checked_scopes)
    """Of ``run``, ``inspect`` and ``operate``."""

    @property
    def sees_all(self) -> bool:
        """Whether it may read what others have started, and what is inside."""
        return "inspect" in self.scopes

    @property
    def operates(self) -> bool:
        """Whether it may change what others have started."""
        return "operate" in self.scopes


EVERYBODY: Final = Caller("everybody", frozenset({"run", "inspect"}))
"""The caller of a service without an authenticator."""
OPERATING: Final = Caller("everybody", frozenset(SCOPES))
"""The same of one whose inspector may change what goes on."""


class Authenticator(Protocol):
    """Finds out who calls, of an ASGI scope. None: no one who is known, which is a 401."""

    async def __call__(self, scope: MutableMapping[str, Any], /) -> Caller | None:
        """Who calls. Must not raise for anything that a client may send."""
        ...


def bearer_of(scope: Mapping[str, Any]) -> str | None:
    """The token of the header ``Authorization: Bearer …``; None if there is none, or more than one such header."""
    given = [value for name, value in scope["headers"] if name.lower() == b"authorization"]
    if len(given) != 1:
        return None
    kind, _, token = given[0].decode("latin-1").partition(" ")
    token = token.strip()
    return token if kind.lower() == "bearer" and token and token.isascii() else None
