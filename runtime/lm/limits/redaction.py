"""Texts of providers and of other libraries, made fit for messages: without keys, on one line, and short.

Keys are taken out before anything is cut, or a cut in the middle of a key would hide it from the search. What is searched is
bounded, because it is searched on the event loop.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import NoReturn, final
from urllib.parse import quote, quote_plus

MAX_DETAIL_CHARS = 400
MAX_SEARCHED_CHARS = 64 * 1024
MIN_KEY_CHARS = 8
"""Shorter keys are words like any other (``k``, ``EMPTY``), and taking them out would mangle every text."""
MIN_SECRET_CHARS = 6
"""The same for what is certainly secret, of clouds: a password, and not a word for a server that asks for none."""

REDACTED = "[redacted]"
KEYS = re.compile(
    r"(?i:bearer\s+)[\w.~+/*-]{8,}=*"
    r"|\b(?:sk|pk|rk|gsk|xai|r8|hf|pplx|key|tgp|csk|nvapi)[-_][\w*-]{6,}"
    r"|\bAIza[\w-]{10,}"
    r"|\bya29\.[\w.-]{8,}"
    r"|\b(?:AKIA|ASIA)[A-Z0-9]{12,}"
    r"|(?i:\bsignature=)[0-9a-fA-F]{64}\b"
    r"|(?i:\bx-amz-security-token[\"']?\s*[:=]\s*[\"']?)[\w+/=%-]{16,}"
)
"""What looks like a key: of providers, of Google's and Amazon's clouds, and the signature of a request."""

_ESCAPED = re.compile("%[0-9A-F]{2}")
_OF_ADDRESSES = str.maketrans("+/", "-_")


@final
class Foreign(Exception):
    """What another library raised, in its own words without keys. It stands as the cause in place of the original."""


def long_enough(secrets: Iterable[str]) -> tuple[str, ...]:
    """Those of `secrets` that are taken out of texts, the longest first: one may be a part of another."""
    return tuple(sorted({secret for secret in secrets if len(secret) >= MIN_SECRET_CHARS}, key=len, reverse=True))


def redact(text: str, secrets: Sequence[str]) -> str:
    """`text` without `secrets`, as they stand and as JSON, Python and addresses write them, and without what looks like a key."""
    for secret in long_enough(secrets):
        for form in _forms(secret):
            text = text.replace(form, REDACTED)
    return KEYS.sub(REDACTED, text)


def secret_patterns(secrets: Sequence[str]) -> Iterator[re.Pattern[str]]:
    """What :func:`redact` takes out of `secrets`, one after the other, for those who need to know where it stood.

    What only looks like a key is in ``KEYS``.
    """
    for secret in long_enough(secrets):
        yield re.compile("|".join(map(re.escape, _forms(secret))))


def _forms(secret: str) -> list[str]:
    quoted = {quote(secret, safe=""), quote(secret), quote_plus(secret)}
    written = (
        secret,
        json.dumps(secret)[1:-1],
        repr(secret)[1:-1],
        *quoted,
        *(_ESCAPED.sub(lambda found: found[0].lower(), each) for each in quoted),
        *_base64_forms(secret.encode("utf-8", "surrogatepass")),
    )
    return sorted(set(written), key=len, reverse=True)


def _base64_forms(secret: bytes) -> Iterator[str]:
    """What is common to all base64 in which `secret` stands, by how many bytes of three come before it."""
    for before in range(3):
        plain = base64.b64encode(bytes(before) + secret).decode().rstrip("=")
        bits = (before + len(secret)) * 8
        inner = plain[-(-before * 8 // 6) : bits // 6]
        if len(inner) >= MIN_KEY_CHARS:
            yield inner
            yield inner.translate(_OF_ADDRESSES)


def shorten(text: str) -> str:
    """`text` on one line without its final full stop, at most ``MAX_DETAIL_CHARS`` long."""
    line = " ".join(text.split()).rstrip(".")
    return line if len(line) <= MAX_DETAIL_CHARS else f"{line[:MAX_DETAIL_CHARS]}… ({len(line)} characters)"


def excerpt(text: str | bytes, secrets: Sequence[str]) -> str:
    """The beginning of `text` as it may stand in a message: :func:`redact`, then :func:`shorten`."""
    start = text[:MAX_SEARCHED_CHARS]
    words = start if isinstance(start, str) else start.decode("utf-8", "replace")
    return shorten(redact(words, secrets))


def without_keys(error: BaseException, secrets: Sequence[str]) -> Foreign:
    """What may be chained in place of `error`, whose text, or its own causes', may hold a whole body or header."""
    try:
        said = str(error)
    except Exception:  # noqa: BLE001 - another library's, about a stranger's text
        said = ""
    words = excerpt(said, secrets)
    return Foreign(f"{type(error).__name__}: {words}" if words else type(error).__name__).with_traceback(error.__traceback__)


def raise_alone(failure: BaseException, original: BaseException, secrets: Sequence[str]) -> NoReturn:
    """Raise `failure` in place of `original`, which is being handled; it is chained to :func:`without_keys` of that alone."""
    failure.__cause__ = without_keys(original, secrets)
    try:
        raise failure
    finally:
        failure.__context__ = None
