"""What authorises a request: the keys in its headers and in its address."""

from __future__ import annotations

import re
from collections.abc import Sequence
from urllib.parse import parse_qsl, urlsplit

from runtime.lm.http.http_messages import HttpRequest

OPEN_PARAMETERS = frozenset({"api-version", "alt", "beta"})
"""Parameters of an address that are no secret; the others may be keys and signatures."""
_SCHEME = re.compile(r"^(?:bearer|basic|token)\s+", re.IGNORECASE)
_SECRET_HEADER = re.compile(r"authorization|key|token|secret|cookie|signature|credential", re.IGNORECASE)


def secrets_of(request: HttpRequest, more: Sequence[str] = ()) -> tuple[str, ...]:
    """What authorises `request`: `more`, and what headers and parameters that hold keys say, without the word before the key."""
    parts = urlsplit(request.url)
    found = [_SCHEME.sub("", value).strip() for name, value in request.headers.items() if _SECRET_HEADER.search(name)]
    found += [value for name, value in parse_qsl(parts.query) if name not in OPEN_PARAMETERS]
    found += [word for word in (parts.username, parts.password) if word]
    return tuple(dict.fromkeys(secret for secret in [*found, *more] if secret))
