"""Providers whose requests only LiteLLM itself can make: one synchronous call of it, in a worker thread.

Neither LiteLLM nor the library below it tries again, so one call is one attempt of the client's. Its reply and its errors are
given back as an HTTP reply in OpenAI's form: everything behind reads them as it reads any other.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any, final

import attrs
import trio

from runtime.lm.http.http_messages import HttpReply

LONGEST_S = 600.0
"""The timeout for LiteLLM where the caller has no deadline."""
_SHORTEST_S = 0.001
_CODES: Mapping[str, str] = {
    "ContentPolicyViolationError": "content_policy_violation",
    "ContextWindowExceededError": "context_length_exceeded",
}
"""OpenAI's codes for the errors that LiteLLM tells by their class."""


@final
@attrs.frozen(eq=False)
class ThreadedCall:
    """One call, not yet made.

    Cancelling it waits for the thread: Python cannot stop one, and a call that continued unseen would continue costing. LiteLLM
    gets what is left of the caller's deadline as its timeout, so the wait is not much longer than the caller's own.
    """

    litellm: Any
    operation: str
    """``"completion"`` or ``"embedding"``."""
    arguments: Mapping[str, Any] = attrs.field(repr=False)
    """LiteLLM's, the key among them."""

    async def reply(self) -> HttpReply:
        """Make the call. Errors of LiteLLM's come back as the replies that they were made of."""
        left_s = trio.current_effective_deadline() - trio.current_time()
        timeout_s = LONGEST_S if math.isinf(left_s) else max(left_s, _SHORTEST_S)
        limiter = trio.CapacityLimiter(1)  # the client's own limits stand before this, and know how many there may be
        return await trio.to_thread.run_sync(self._made, min(timeout_s, LONGEST_S), limiter=limiter)

    def _made(self, timeout_s: float) -> HttpReply:
        call = getattr(self.litellm, self.operation)
        try:
            answer = call(**self.arguments, timeout=timeout_s, num_retries=0, max_retries=0)
            return _reply(200, {}, json.loads(answer.model_dump_json()))
        except Exception as error:  # noqa: BLE001 - anything that LiteLLM raises is what happened to the call
            return _failure(error)


def _reply(status: int, headers: Mapping[str, str], body: Mapping[str, Any]) -> HttpReply:
    return HttpReply(status, {**headers, "content-type": "application/json"}, json.dumps(body).encode())


def _failure(error: Exception) -> HttpReply:
    """The reply that `error` was made of, as far as it can be told."""
    kind = type(error).__name__
    status = getattr(error, "status_code", None)
    response = getattr(error, "response", None)
    found: Any = getattr(error, "litellm_response_headers", None) or getattr(response, "headers", None) or {}
    headers: dict[str, str] = {str(name).lower(): str(value) for name, value in dict[Any, Any](found).items()}
    wait = {name: value for name, value in headers.items() if name in {"retry-after", "retry-after-ms"}}
    said = {"message": str(getattr(error, "message", "") or error) or kind, "type": kind, "code": _CODES.get(kind)}
    return _reply(status if isinstance(status, int) and 400 <= status < 600 else 502, wait, {"error": said})
