"""What a recording must not hold: keys, wherever they stand, and fields that the user names."""

from __future__ import annotations

import codecs
import itertools
import re
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TypeVar, cast, final
from urllib.parse import parse_qsl, urlencode, urlsplit

from actors.errors import DeclarationError
from actors.words import repr_of
from runtime.lm.http.binary_frames import TEXT, BinaryMessage, messages_of
from runtime.lm.http.request_keys import OPEN_PARAMETERS
from runtime.lm.limits.redaction import KEYS, REDACTED, long_enough, secret_patterns
from runtime.record.scattered import scattered

Text = TypeVar("Text", str, bytes)

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


Found = tuple[int, int]
"""Where something is: from, and up to but without."""
Pass = tuple[re.Pattern[str], Callable[[re.Match[str]], Found]]
"""A pattern, and what of a match must go."""


def _whole(found: re.Match[str]) -> Found:
    return found.span()


def _value(found: re.Match[str]) -> Found:
    """What the field says, without its quotes."""
    return found.end(1) + len(found[2]), found.end() - len(found[2])


def _starred(data: bytes, secrets: Sequence[str]) -> bytes:
    """What isn't text, as long as it was."""
    for secret in long_enough(secrets):
        data = data.replace(secret.encode(), b"*" * len(secret.encode()))
    return data


def _substituted(text: str, cuts: list[int], edits: Iterable[tuple[Found, str]]) -> tuple[str, list[int]]:
    """`text` after `edits`, and where it is cut now: what was cut within one of them is cut before what it puts there."""
    parts: list[str] = []
    moved: list[int] = []
    at = length = 0
    left = iter([*cuts, len(text) + 1])
    cut = next(left)
    for (start, end), stand_in in edits:
        while cut < end:
            moved.append(length + min(cut, start) - at)
            cut = next(left)
        parts += [text[at:start], stand_in]
        length += start - at + len(stand_in)
        at = end
    while cut <= len(text):
        moved.append(length + cut - at)
        cut = next(left)
    return "".join([*parts, text[at:]]), moved


def _cut(whole: Text, cuts: Sequence[int]) -> Iterator[Text]:
    for start, end in itertools.pairwise([0, *cuts]):
        yield whole[start:end]


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
        return self._without(text, [], secrets)[0]

    def data(self, data: bytes, secrets: tuple[str, ...]) -> bytes:
        """The same for bytes; what isn't text loses the `secrets` alone."""
        return self.pieces((data,), secrets)[0]

    def pieces(self, pieces: Sequence[bytes], secrets: tuple[str, ...]) -> tuple[bytes, ...]:
        """The same for a body that came in `pieces`: also what the network has cut is found, and stands in the later piece.

        So does a character, or a message of Amazon's event stream, that was cut: neither can be read before it is whole.
        """
        whole = b"".join(pieces)
        messages, rest = messages_of(whole)
        if messages:
            return self._messages(messages, rest, list(itertools.accumulate(map(len, pieces))), secrets)
        decoder = codecs.getincrementaldecoder("utf-8")()
        try:
            text = whole.decode()
            cuts = list(itertools.accumulate(len(decoder.decode(piece)) for piece in pieces))
        except UnicodeDecodeError:
            return tuple(_cut(_starred(whole, secrets), list(itertools.accumulate(map(len, pieces)))))
        text, cuts = self._without(text, cuts, secrets)
        if len(pieces) > 1 or "\n" in text:
            text, cuts = _substituted(text, cuts, self._scattered(text, secrets))
        return tuple(part.encode() for part in _cut(text, cuts))

    def _without(self, text: str, cuts: list[int], secrets: tuple[str, ...]) -> tuple[str, list[int]]:
        for pattern, span in (*self._keys(secrets), *self._looks()):
            text, cuts = _substituted(text, cuts, ((span(found), REDACTED) for found in pattern.finditer(text)))
        return text, cuts

    def _scattered(self, text: str, secrets: tuple[str, ...]) -> list[tuple[Found, str]]:
        """What stands in several of its texts, a part in each."""
        passes, looks = self._keys(secrets), self._looks()

        def search(joined: str, which: Sequence[Pass]) -> Iterator[Found]:
            return (span(found) for pattern, span in which for found in pattern.finditer(joined))

        return scattered(text, lambda joined: search(joined, passes), lambda joined: search(joined, looks))

    def _messages(
        self, messages: Sequence[BinaryMessage], rest: bytes, cuts: Sequence[int], secrets: tuple[str, ...]
    ) -> tuple[bytes, ...]:
        """Each message in the piece in which it was whole, without what must not be kept and with its checksums."""
        made, end = [b"" for _ in cuts], 0
        for message, payload in zip(messages, self._payloads([message.payload for message in messages], secrets), strict=True):
            end += len(message.to_bytes())
            headers = tuple(
                (name, kind, self._readable(value, secrets) if kind == TEXT else value) for name, kind, value in message.headers
            )
            made[bisect_left(cuts, end)] += BinaryMessage(headers, payload).to_bytes()
        made[-1] += _starred(rest, secrets)
        return tuple(made)

    def _payloads(self, payloads: Sequence[bytes], secrets: tuple[str, ...]) -> Iterator[bytes]:
        """Of all messages, one on a line to find what stands in several of them."""
        texts: list[str | None] = []
        for payload in payloads:
            try:
                texts.append(self.text(payload.decode(), secrets))
            except UnicodeDecodeError:
                texts.append(None)
        lines = [f"{text or ''}\n" for text in texts]
        whole = "".join(lines)
        whole, cuts = _substituted(whole, list(itertools.accumulate(map(len, lines))), self._scattered(whole, secrets))
        for text, line, payload in zip(texts, _cut(whole, cuts), payloads, strict=True):
            yield _starred(payload, secrets) if text is None else line[:-1].encode()

    def _readable(self, data: bytes, secrets: tuple[str, ...]) -> bytes:
        try:
            return self.text(data.decode(), secrets).encode()
        except UnicodeDecodeError:
            return _starred(data, secrets)

    def _keys(self, secrets: tuple[str, ...]) -> list[Pass]:
        return [(pattern, _whole) for pattern in secret_patterns(secrets)]

    def _looks(self) -> list[Pass]:
        named = [(pattern, _value) for pattern in self._fields]
        return [(KEYS, _whole), *named, *((pattern, _whole) for pattern in self._patterns)]

    def address(self, url: str) -> str:
        """`url` without user, fragment and all parameters but those that are known to be open."""
        parts = urlsplit(url)
        port = f":{parts.port}" if parts.port else ""
        query = urlencode([(name, value) for name, value in parse_qsl(parts.query) if name in OPEN_PARAMETERS])
        return f"{parts.scheme}://{parts.hostname}{port}{parts.path}{'?' if query else ''}{query}"


def kept_headers(headers: Mapping[str, str]) -> dict[str, str]:
    """Those headers of a reply that a recording keeps, in the order of their names."""
    return {name: headers[name] for name in sorted(headers) if KEPT_HEADERS.fullmatch(name)}
