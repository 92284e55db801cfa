"""What one call used, as its provider reports it, taken from whichever object has it."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping
from typing import Any, cast

from actors.lm import Usage

MOST_TOKENS = 100_000_000
"""No call uses more: a provider that reports more is mistaken. Ten times the longest context of any model so far."""

_LOG = logging.getLogger("understudy.lm")


def usage_of(told: Any, price: Callable[[], float | None]) -> Usage:
    """The usage in `told`, OpenAI's object or a mapping of its form.

    Less than nothing is nothing: it would give back what other calls have spent. More than any model can use says nothing
    either: it would stop every later call of a budget. A call without a usage is charged by its length.

    Args:
        told: what the provider reports; None where it reports nothing.
        price: gives what it cost, in US dollars; not called for a usage that isn't one.
    """
    prompt_tokens, completion_tokens = count(told, "prompt_tokens"), count(told, "completion_tokens")
    if max(prompt_tokens, completion_tokens) > MOST_TOKENS:
        _LOG.warning("a reply claims more than %d tokens, which no model takes; it is charged by its length", MOST_TOKENS)
        return Usage()
    cost_usd = price()
    cached = count(_part(told, "prompt_tokens_details"), "cached_tokens") or count(told, "cache_read_input_tokens")
    reasoning = count(_part(told, "completion_tokens_details"), "reasoning_tokens")
    return Usage(
        prompt_tokens=prompt_tokens,
        completion_tokens=completion_tokens,
        cost_usd=None if cost_usd is None or not math.isfinite(cost_usd) else max(0.0, cost_usd),
        cached_tokens=min(cached, prompt_tokens),
        reasoning_tokens=min(reasoning, completion_tokens),
    )


def count(told: Any, name: str) -> int:
    """A number of tokens; 0 for one that is less, or none."""
    found = _part(told, name)
    if isinstance(found, bool) or not isinstance(found, int | float):
        return 0
    if isinstance(found, float) and not math.isfinite(found):
        return 0
    return max(0, int(found))


def _part(told: Any, name: str) -> Any:
    return cast("Mapping[str, Any]", told).get(name) if isinstance(told, Mapping) else getattr(told, name, None)
