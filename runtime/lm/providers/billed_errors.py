"""The usage in a reply that isn't an answer: a refusal, for example, is billed like an answer."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import cast

from actors.lm import Usage
from runtime.lm.providers.usage import MOST_TOKENS, count

MAX_BYTES = 1024 * 1024
"""Of a reply that is searched for its usage; the work is done on the event loop."""
_PLACES = ("usage", "usageMetadata", "tokens", "billed_units", "meta")
_PROMPT = ("prompt_tokens", "input_tokens", "inputTokens", "promptTokenCount", "prompt_eval_count")
_COMPLETION = ("completion_tokens", "output_tokens", "outputTokens", "candidatesTokenCount", "eval_count")


def told_usage(body: bytes) -> Usage | None:
    """Tokens by `body`, in the words of any provider; without a price. None when it does not say."""
    if len(body) > MAX_BYTES:
        return None
    try:
        fields: object = json.loads(body)
    except (ValueError, RecursionError):
        return None
    for _ in range(3):
        if not isinstance(fields, dict):
            return None
        found = cast("Mapping[str, object]", fields)
        prompt, completion = _count(found, _PROMPT), _count(found, _COMPLETION)
        if prompt or completion:
            return Usage(prompt_tokens=prompt, completion_tokens=completion)
        fields = next((found[place] for place in _PLACES if isinstance(found.get(place), dict)), None)
    return None


def _count(found: Mapping[str, object], names: tuple[str, ...]) -> int:
    return next((tokens for name in names if 0 < (tokens := count(found, name)) <= MOST_TOKENS), 0)
