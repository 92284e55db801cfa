"""What a recording must not hold: keys, wherever they stand, and fields that the user names."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import cast, final
from urllib.parse import parse_qsl, urlencode, urlsplit

from actors.errors import DeclarationError
from actors.words import repr_of
from runtime.lm.http.http_messages import HttpRequest
from runtime.lm.limits.redaction import REDACTED, redact

FIELDS = (
    "access_token",
    "api_key",
    "api-key",
    "apikey",
    "authorization",
    "client_secret",
    "password",
    "private_key",
    "refresh_token",
    "secret",
    "x-api-key",
)
"""Fields of JSON whose texts are never kept, by their names, in any case. ``redact=`` adds to them."""

KEPT_HEADERS = re.compile(r"content-type|retry-after(-ms)?|x-ratelimit-[\w-]+|anthropic-ratelimit-[\w-]+|x-amzn-errortype")
"""Headers of replies that are kept; all others are dropped, as they may name an account. None of a request is kept."""

_OPEN_PARAMETERS = frozenset({"api-version", "alt", "beta"})
"""Parameters of an address that are kept; the others may be keys and signatures."""
_SCHEME = re.compile(r"^(?:bearer|basic|token)\s+", re.IGNORECASE)
_SECRET_HEADER = re.compile(r"authorization|key|token|secret|cookie|signature|credential", re.IGNORECASE)


@final
class Redaction:
    """Takes keys and named fields out of texts.

    Args:
        more: names of further fields, or compiled patterns, every match of which is taken out.

    Raises:
        DeclarationError: an item is neither.
    """

    def __init__(self, more: Iterable[str | re.Pattern[str]] = ()) -> None:
        names: list[str] = list(FIELDS)
        self._patterns: list[re.Pattern[str]] = []
        wanted: list[object] = [more] if isinstance(more, str | re.Pattern) else list(more)
        for each in wanted:
            if isinstance(each, re.Pattern):
                self._patterns.append(cast("re.Pattern[str]", each))
            elif isinstance(each, str) and each:
                names.append(each)
            else:
                raise DeclarationError(
                    f"redact={repr_of(each)}: expected the name of a field or a compiled pattern.\n"
                    '  Fix: redact=["user", re.compile(r"[A-Z]{2}\\d{20}")], for example.'
                )
        named = "|".join(map(re.escape, names))
        self._fields = (
            re.compile(rf'("(?:{named})"\s*:\s*)"(?:[^"\\]|\\.)*(")', re.IGNORECASE | re.DOTALL),
            # The same in JSON that stands in a text of JSON, as the arguments of a tool do.
            re.compile(rf'(\\"(?:{named})\\"\s*:\s*)\\"(?:\\\\(?:\\.|[^\\])|[^"\\])*(\\")', re.IGNORECASE | re.DOTALL),
        )

    def text(self, text: str, secrets: tuple[str, ...]) -> str:
        """`text`, which may hold JSON, without what must not be kept."""
        text = redact(text, secrets)
        for fields in self._fields:
            text = fields.sub(lambda found: f"{found[1]}{found[2]}{REDACTED}{found[2]}", text)
        for pattern in self._patterns:
            text = pattern.sub(REDACTED, text)
        return text

    def data(self, data: bytes, secrets: tuple[str, ...]) -> bytes:
        """The same for bytes; what isn't text loses the `secrets` alone."""
        try:
            return self.text(data.decode(), secrets).encode()
        except UnicodeDecodeError:
            for secret in secrets:
                data = data.replace(secret.encode(), b"*" * len(secret.encode()))
            return data

    def address(self, url: str) -> str:
        """`url` without user, fragment and all parameters but those that are known to be open."""
        parts = urlsplit(url)
        port = f":{parts.port}" if parts.port else ""
        query = urlencode([(name, value) for name, value in parse_qsl(parts.query) if name in _OPEN_PARAMETERS])
        return f"{parts.scheme}://{parts.hostname}{port}{parts.path}{'?' if query else ''}{query}"


def secrets_of(request: HttpRequest) -> tuple[str, ...]:
    """What authorises `request`: the values of headers and parameters that hold keys, without the word before them."""
    parts = urlsplit(request.url)
    found = [_SCHEME.sub("", value).strip() for name, value in request.headers.items() if _SECRET_HEADER.search(name)]
    found += [value for name, value in parse_qsl(parts.query) if name not in _OPEN_PARAMETERS]
    found += [word for word in (parts.username, parts.password) if word]
    return tuple(dict.fromkeys(secret for secret in found if secret))


def kept_headers(headers: Mapping[str, str]) -> dict[str, str]:
    """Those headers of a reply that a recording keeps, in the order of their names."""
    return {name: headers[name] for name in sorted(headers) if KEPT_HEADERS.fullmatch(name)}
