"""What can be sent: headers of ASCII, bodies of JSON, and messages that LiteLLM may change."""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping
from typing import Any, cast

from actors.errors import LMBadRequest
from actors.lm import ChatMessage
from runtime.lm.http.http_messages import HttpRequest
from runtime.lm.providers.exchange import ModelExchange as ModelExchange
from runtime.lm.providers.import_litellm import is_warm as is_warm
from runtime.lm.providers.import_litellm import warm_up as warm_up
from runtime.lm.providers.model_routes import ModelRoute


def sendable(headers: Mapping[str, Any]) -> dict[str, str]:
    """The headers as text. Raises ``LMBadRequest`` for characters that HTTP cannot carry."""
    sent = {name: str(value) for name, value in headers.items() if value is not None}
    odd = next((name for name, value in sent.items() if not (name + value).isascii()), None)
    if odd is not None:
        raise LMBadRequest(
            f"the header {odd!r} has characters that HTTP cannot carry.\n  Fix: pass only ASCII in extra_headers.", attempt=0
        )
    return sent


def own(message: ChatMessage) -> dict[str, Any]:
    """A copy of `message` that LiteLLM may change: of its parts too, where it has any."""
    return {name: owned(value) for name, value in message.items()}


def owned(value: Any) -> Any:
    """A copy of `value`, if it can be changed."""
    return copy.deepcopy(cast("Any", value)) if isinstance(value, list | dict) else value


def stand_in(route: ModelRoute, body: Mapping[str, Any]) -> HttpRequest:
    """What stands for a call that LiteLLM makes on its own, in messages, estimates and keys of caches."""
    base = (route.api_base or "").rstrip("/")
    return HttpRequest("POST", base or f"litellm://{route.provider}", {}, json_bytes({"model": route.model, **body}))


def json_bytes(data: Mapping[str, Any]) -> bytes:
    """The body of a request. Raises ``LMBadRequest`` for what JSON cannot carry."""
    try:
        return json.dumps(data, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode()
    except (TypeError, ValueError) as error:
        raise LMBadRequest(
            f"the messages or options hold a value that JSON cannot carry: {error}.\n"
            "  Fix: pass only strings, finite numbers, booleans, None, lists and mappings.",
            attempt=0,
        ) from error
