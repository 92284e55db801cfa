"""Requests and replies as values. What a repr shows of them is neither a key nor what was said."""

from __future__ import annotations

import functools
from collections.abc import AsyncIterator, Mapping
from typing import TYPE_CHECKING, final
from urllib.parse import urlsplit

import attrs

if TYPE_CHECKING:
    import httpx

CONNECT_TIMEOUT_S = 60.0


def shown_url(url: str) -> str:
    """Scheme, host and path of `url`: its query and user part may hold a key."""
    parts = urlsplit(url)
    port = f":{parts.port}" if parts.port else ""
    return f"{parts.scheme}://{parts.hostname}{port}{parts.path}"


@final
@attrs.frozen(repr=False)
class HttpRequest:
    """One request. Its repr shows neither header values, query nor body."""

    method: str
    url: str
    headers: Mapping[str, str] = attrs.field(factory=dict[str, str])
    body: bytes = b""
    connect_s: float = CONNECT_TIMEOUT_S
    """The longest that a new connection may take: name, TCP and TLS."""

    @property
    def host(self) -> str:
        """The host alone."""
        return urlsplit(self.url).hostname or "the provider"

    @property
    def place(self) -> str:
        """Scheme, host and path: what may be shown of the URL."""
        return shown_url(self.url)

    def __repr__(self) -> str:
        return f"HttpRequest({self.method} {self.place}, {len(self.headers)} headers, {len(self.body)} bytes)"


@final
@attrs.frozen(repr=False)
class HttpReply:
    """One whole reply; header names are lower-case. Its repr shows neither header values nor body."""

    status: int
    headers: Mapping[str, str] = attrs.field(factory=dict[str, str])
    body: bytes = b""

    def as_httpx(self) -> httpx.Response:
        """The same reply as an ``httpx.Response``, for libraries that read those."""
        import httpx  # noqa: PLC0415 - 0.1 s, and most imports of the runtime make no call

        hidden = {"content-encoding", "content-length", "transfer-encoding"}  # the body is decoded and whole already
        headers = {name: value for name, value in self.headers.items() if name not in hidden}
        response = httpx.Response(self.status, headers=headers, content=self.body, request=_some_request())
        if "charset" not in headers.get("content-type", ""):
            response.encoding = "utf-8"  # httpx's own default, which it otherwise finds out by way of an e-mail parser
        return response

    def __repr__(self) -> str:
        return f"HttpReply({self.status}, {len(self.headers)} headers, {len(self.body)} bytes)"


@functools.cache
def _some_request() -> httpx.Request:
    """Libraries that read a response ask it for its request, and only for that."""
    import httpx  # noqa: PLC0415 - 0.1 s, and most imports of the runtime make no call

    return httpx.Request("POST", "http://provider")


@final
@attrs.frozen(repr=False, eq=False)
class HttpStream:
    """A reply whose body is still on its way: `chunks` yields it, decoded, as it comes."""

    status: int
    headers: Mapping[str, str]
    chunks: AsyncIterator[bytes]

    def __repr__(self) -> str:
        return f"HttpStream({self.status}, {len(self.headers)} headers)"
