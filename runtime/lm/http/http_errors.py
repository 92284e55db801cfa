"""The HTTP client's errors as ours: one table, looked up from the most specific class on.

Classes are told by name and module, so the table can be read without importing the client's library.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

from actors.errors import InternalError, LMBadRequest, LMReplyUnreadable, LMTimeout, LMUnavailable, UnderstudyError
from runtime.lm.limits.redaction import excerpt

FOREIGN_ERRORS: Mapping[str, type[UnderstudyError]] = {
    "ConnectTimeout": LMTimeout,
    "ReadTimeout": LMTimeout,
    "WriteTimeout": LMTimeout,
    "PoolTimeout": LMUnavailable,
    "TimeoutException": LMTimeout,
    "ConnectError": LMUnavailable,
    "ReadError": LMUnavailable,
    "WriteError": LMUnavailable,
    "CloseError": LMUnavailable,
    "NetworkError": LMUnavailable,
    "RemoteProtocolError": LMUnavailable,
    "LocalProtocolError": LMBadRequest,
    "ProtocolError": LMUnavailable,
    "ProxyError": LMUnavailable,
    "UnsupportedProtocol": LMBadRequest,
    "TransportError": LMUnavailable,
    "DecodingError": LMReplyUnreadable,
    "TooManyRedirects": LMBadRequest,
    "RequestError": LMUnavailable,
    "HTTPStatusError": InternalError,
    "HTTPError": LMUnavailable,
    "InvalidURL": LMBadRequest,
    "CookieConflict": InternalError,
    "StreamError": InternalError,
    "StreamConsumed": InternalError,
    "StreamClosed": LMUnavailable,
    "ResponseNotRead": InternalError,
    "RequestNotRead": InternalError,
}
"""What each of httpx's error classes becomes, looked up from the most specific class on."""

QUOTING = frozenset({"LocalProtocolError", "InvalidURL"})
"""Errors whose own words quote what was to be sent."""
_ON_THE_WAY = frozenset({"ConnectError", "ConnectTimeout", "ProxyError"})
"""Where a proxy is used, these are the proxy's: nothing else is connected to."""
_PROXY_FIX = "start the proxy, or correct HTTPS_PROXY, HTTP_PROXY or ALL_PROXY, or name the host in NO_PROXY."

_FIXES: Mapping[type[UnderstudyError], str] = {
    LMUnavailable: "check the provider's status page, the network, the proxy settings and api_base.",
    LMTimeout: "check the network and the proxy settings; a shorter deadline is the caller's own, trio.fail_after(seconds).",
    LMBadRequest: "check api_base and extra_headers.",
    LMReplyUnreadable: "check that api_base is the address of a model provider.",
    InternalError: "please report this with the traceback.",
}
_CAUSE_FIXES: Mapping[str, str] = {
    "gaierror": "the host's name cannot be resolved: check api_base and the network.",
    "SSLCertVerificationError": "the certificate is not trusted: check api_base, or set SSL_CERT_FILE to your own authority.",
    "SSLError": "the TLS handshake failed: check that api_base starts with the right one of http:// and https://.",
    "ConnectionRefusedError": "nothing listens there: check api_base and that the server runs.",
}


def is_a_foreign(error: BaseException, name: str) -> bool:
    """Whether `error` is an instance of httpx's class `name`."""
    return any(cls.__name__ == name and cls.__module__.startswith("httpx") for cls in type(error).__mro__)


def ours_for(error: Exception, place: str, via: str | None = None) -> Exception:
    """Our error for one of httpx's, met on the way to `place` by the proxy `via`; `error` itself when it is not httpx's."""
    for cls in type(error).__mro__:
        ours = FOREIGN_ERRORS.get(cls.__name__) if cls.__module__.startswith("httpx") else None
        if ours is not None:
            # A header's value is part of such an error's text, and may be the key.
            said = "" if cls.__name__ in QUOTING else excerpt(str(error), ())
            detail = f": {said}" if said else ""
            if via is not None and cls.__name__ in _ON_THE_WAY:
                what = f"{type(error).__name__}{detail}"
                return ours(f"no reply from the proxy {via}, on the way to {place}: {what}.\n  Fix: {_PROXY_FIX}")
            fix = next((_CAUSE_FIXES[name] for name in _cause_names(error) if name in _CAUSE_FIXES), _FIXES[ours])
            return ours(f"no reply from {place}: {type(error).__name__}{detail}.\n  Fix: {fix}")
    return error


def _cause_names(error: BaseException) -> list[str]:
    """The class names in the chain of causes of `error`, groups included, outermost first."""
    names: list[str] = []
    pending: list[BaseException] = [error]
    while pending and len(names) < 32:
        current = pending.pop(0)
        names.append(type(current).__name__)
        if isinstance(current, BaseExceptionGroup):
            pending.extend(cast("BaseExceptionGroup[BaseException]", current).exceptions)
        following = current.__context__ if current.__cause__ is None else current.__cause__
        if following is not None:
            pending.append(following)
    return names
