"""The error table: which of our errors a provider's reply is.

Pure functions of the reply; nothing here knows a library. What a provider says on its own is shortened and stripped of anything
that looks like a key before it becomes part of a message.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, cast

from actors.errors import (
    LMAuthFailed,
    LMBadRequest,
    LMContextTooLong,
    LMError,
    LMRateLimited,
    LMRefused,
    LMReplyUnreadable,
    LMTimeout,
    LMUnavailable,
)
from runtime.lm.limits.redaction import MAX_SEARCHED_CHARS, excerpt, redact
from runtime.lm.limits.retry import retry_after_s

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from runtime.lm.http.http_messages import HttpReply

STATUSES: Mapping[int, type[LMError]] = {
    401: LMAuthFailed,
    402: LMAuthFailed,  # no credit left on the account
    403: LMAuthFailed,
    407: LMAuthFailed,  # a proxy on the way wants a name and a password
    408: LMTimeout,
    409: LMUnavailable,  # OpenAI: another request held a lock
    425: LMUnavailable,
    429: LMRateLimited,
    498: LMRateLimited,  # Groq: flex tier out of capacity
    529: LMRateLimited,  # Anthropic: overloaded
}
"""What a status means when its class of a hundred does not say it: see :func:`error_class`."""

NEVER_STATUSES = frozenset({501, 505, 510, 511})
"""Those 5xx that tell what a server cannot do, and not how it is: the same request fails again; another model may do."""

OVERLOAD_CODES = frozenset({"overloaded_error", "server_overloaded", "slow_down", "rate_limit_exceeded", "rate_limit_error"})
CONTEXT_CODES = frozenset({"context_length_exceeded", "model_context_window_exceeded"})
REFUSAL_CODES = frozenset({"content_filter", "content_policy_violation", "content_policy_violation_error", "moderation_blocked"})
QUOTA_CODES = frozenset({"insufficient_quota", "billing_hard_limit_reached"})

_TOO_LONG = (
    "exceed context limit",
    "this model's maximum context length is",
    "string too long. expected a string with maximum length",
    "model's maximum context limit",
    "is longer than the model's context length",
    "input tokens exceed the configured limit",
    "`inputs` tokens + `max_new_tokens` must be",
    "exceeds the available context size",
    "exceeds the maximum number of tokens allowed",
)
_TOO_LONG_TOGETHER = (("current length is", "while limit is"), ("maximum input length is", "tokens"))
_TOO_LONG_FOR_A_NAME = (("string_above_max_length",), ("invalid 'user'", "string too long"))
"""The value of an option that names somebody, which says nothing about the prompt."""

FIXES: Mapping[type[LMError], str] = {
    LMRateLimited: "wait; lower max_connections; or ask the provider for a higher limit.",
    LMUnavailable: "try again later; check the provider's status page and api_base.",
    LMTimeout: "try again later, or ask for less (max_tokens).",
    LMAuthFailed: "check the key, its rights for this model, and the account's credit.",
    LMBadRequest: "fix the messages or options; check the model's name and api_base.",
    LMContextTooLong: "shorten the prompt, ask for fewer max_tokens, or use a model with a larger context.",
    LMRefused: "change the prompt; the same words will be declined again.",
    LMReplyUnreadable: "check that api_base is the address of a model provider.",
}


def error_class(status: int) -> type[LMError]:
    """Our error for an HTTP `status` that is not a success.

    A redirect is a wrong request: it is not followed, because the key would go with it. Any other 4xx is a wrong request,
    any other 5xx a broken provider, anything else no reply that HTTP knows.
    """
    if status in STATUSES:
        return STATUSES[status]
    if 300 <= status < 500:
        return LMBadRequest
    return LMUnavailable if 500 <= status < 600 else LMReplyUnreadable


def error_for(
    reply: HttpReply,
    *,
    place: str,
    model: str,
    secrets: Sequence[str] = (),
) -> LMError:
    """The error that `reply`, a reply without an answer, amounts to. The client fills in the attempt.

    Args:
        reply: what came back.
        place: where from, for the message.
        model: the model as it was asked for.
        secrets: texts that must not appear in the message.
    """
    detail, codes = _provider_words(reply.body)
    status = _embedded_status(reply)
    kind = _refined(error_class(status), status, codes, detail)
    wait_s = retry_after_s(reply.headers)
    words = f": {excerpt(detail, secrets)}" if detail.strip() else ""
    wait = f" (retry after {wait_s:g} s)" if wait_s is not None else ""
    target = excerpt(reply.headers.get("location", "").partition("?")[0], secrets) if 300 <= status < 400 else ""
    where_to = f" to {target}, which is not followed because the key would go with it" if target else ""
    message = f"HTTP {status} from {redact(place, secrets)}{where_to}{words}{wait}.\n  Fix: {FIXES[kind]}"
    error = kind(message, model=model, status=status)
    error.retry_after_s = wait_s
    if codes & QUOTA_CODES:
        error.retryable = False  # waiting brings no credit
    if status in NEVER_STATUSES:
        error.retryable = False
    return error


def is_page(reply: HttpReply) -> bool:
    """Whether `reply` is a page for people, such as the login page of a proxy, and comes from no interface of a model."""
    start = reply.body[:4096].lstrip().lower()
    if b"\x00" in start:
        return False  # something has gone wrong on the way, and may not the next time
    return reply.headers.get("content-type", "").lower().startswith("text/html") or start.startswith(
        (b"<!doctype html", b"<html")
    )


def has_error(body: bytes) -> bool:
    """Whether the body of a successful reply carries an error instead of an answer, as some gateways send it."""
    if len(body) > MAX_SEARCHED_CHARS or b'"error"' not in body:
        return False  # no error is that long: an answer is, and it is parsed once
    fields = _fields(body)
    return bool(fields.get("error")) and not fields.get("choices")


def _refined(
    kind: type[LMError],
    status: int,
    codes: frozenset[str],
    detail: str,
) -> type[LMError]:
    """The class of the status, corrected by the provider's text: several share one status for different faults."""
    if codes & OVERLOAD_CODES:
        return LMRateLimited
    if status in {400, 403, 413, 422} or kind is LMReplyUnreadable:
        if codes & CONTEXT_CODES or is_context_too_long(detail):
            return LMContextTooLong
        if codes & REFUSAL_CODES or "content management policy" in detail.lower():
            return LMRefused
    return kind


def is_context_too_long(text: str) -> bool:
    """Whether `text`, a provider's, reports a prompt that does not fit: by the words that LiteLLM knows of its providers."""
    words = text.lower()
    if any(all(part in words for part in parts) for parts in _TOO_LONG_FOR_A_NAME):
        return False
    return any(part in words for part in _TOO_LONG) or any(all(part in words for part in parts) for parts in _TOO_LONG_TOGETHER)


def _embedded_status(reply: HttpReply) -> int:
    """The status of `reply`; for a success that carries an error, the error's own code if it has one, else 502."""
    if not 200 <= reply.status < 300:
        return reply.status
    error: object = _fields(reply.body).get("error")
    code: object = cast("Mapping[str, object]", error).get("code") if isinstance(error, dict) else None
    return code if isinstance(code, int) and 400 <= code < 600 else 502


def _fields(body: bytes) -> Mapping[str, Any]:
    if len(body) > MAX_SEARCHED_CHARS:
        return {}
    try:
        parsed: object = json.loads(body)
    except (ValueError, RecursionError):  # nested without end
        return {}
    return cast("Mapping[str, Any]", parsed) if isinstance(parsed, dict) else {}


def _provider_words(body: bytes) -> tuple[str, frozenset[str]]:
    """What the provider reports as wrong: its message, and its codes and types in lower case."""
    fields = _fields(body)
    if not fields:
        return body[:MAX_SEARCHED_CHARS].decode("utf-8", "replace"), frozenset()
    inner: Any = fields.get("error")
    source = cast("Mapping[str, Any]", inner) if isinstance(inner, dict) else fields
    codes = frozenset(str(source[name]).lower() for name in ("code", "type", "status") if source.get(name) is not None)
    candidates: list[Any] = [source.get("message"), fields.get("error"), fields.get("detail"), fields.get("message")]
    for candidate in candidates:
        if isinstance(candidate, str) and candidate:
            return candidate, codes
    return json.dumps(fields, ensure_ascii=False), codes
