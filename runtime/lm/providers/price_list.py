"""LiteLLM's table of models, read from its file without importing LiteLLM, which takes seconds.

Only single rows are looked up, and nothing is kept but them: the whole table takes tens of milliseconds and of megabytes. Once
LiteLLM is imported its own table is asked, because a program may have put its own models into it.
"""

from __future__ import annotations

import functools
import importlib.util
import json
import mmap
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast, final

import attrs

_FILE = "model_prices_and_context_window_backup.json"
_LOCAL = "LITELLM_LOCAL_MODEL_COST_MAP"


_PRICED = frozenset(
    {"input_cost_per_token", "output_cost_per_token", "cache_read_input_token_cost", "search_context_cost_per_query"}
)
_OTHER_TIERS = ("_batches", "_flex", "_priority")
_USUAL_TIERS = frozenset({None, "auto", "default", "standard"})
_TOKENS = frozenset({"prompt_tokens", "completion_tokens", "total_tokens"})


@final
@attrs.frozen
class TokenPrices:
    """What tokens of one model cost, in US dollars each, where nothing but their number decides."""

    prompt_usd: float
    completion_usd: float
    cached_usd: float
    """Of a prompt that the provider has seen before."""

    def of_tokens(self, prompt_tokens: int, completion_tokens: int, cached_tokens: int = 0) -> float:
        """What so many cost; `cached_tokens` are among the prompt's."""
        # In LiteLLM's order, on which the last digit depends.
        prompt_usd = float(prompt_tokens - cached_tokens) * self.prompt_usd + float(cached_tokens) * self.cached_usd
        return prompt_usd + float(completion_tokens) * self.completion_usd

    def of_usage(self, usage: Mapping[str, Any], service_tier: str | None = None) -> float:
        """What `usage` costs; only for one whose :func:`cached_tokens` are known."""
        cached = cached_tokens(usage, service_tier) or 0
        return self.of_tokens(usage["prompt_tokens"], usage["completion_tokens"], cached)


def token_prices(row: Mapping[str, Any]) -> TokenPrices | None:
    """Those in `row`; None when other things decide as well: the length of a prompt, sounds, time."""
    for name in row:
        if ("cost" in name or "pric" in name) and name not in _PRICED and not name.endswith(_OTHER_TIERS):
            return None
    prompt, completion = row.get("input_cost_per_token"), row.get("output_cost_per_token")
    cached = row.get("cache_read_input_token_cost", prompt)
    if not all(isinstance(each, float | int) and each > 0 for each in (prompt, completion, cached)):
        return None
    return TokenPrices(float(prompt or 0), float(completion or 0), float(cached or 0))


def cached_tokens(usage: Mapping[str, Any], service_tier: str | None) -> int | None:
    """How many tokens of the prompt were cached; None for a usage of which more than three numbers decide what it costs."""
    if service_tier not in _USUAL_TIERS:
        return None
    cached = 0
    for place, details in usage.items():
        if place in _TOKENS or details is None:
            continue
        for name, tokens in details.items():
            if name == "cached_tokens" and place == "prompt_tokens_details":
                cached = tokens or 0
            elif tokens:
                return None
    return cached if 0 <= cached <= usage["prompt_tokens"] else None


def is_readable() -> bool:
    """Whether the file is the table that LiteLLM would use: it isn't, where LiteLLM is told to fetch one from the network."""
    return os.environ.get(_LOCAL, "True").lower() == "true" and _path() is not None


def row_of(name: str) -> Mapping[str, Any] | None:
    """The row `name`; None when there is none."""
    litellm = sys.modules.get("litellm")
    live: Any = getattr(litellm, "model_cost", None)
    # While another thread imports it, its table isn't there yet.
    return cast("Mapping[str, Any] | None", live.get(name)) if live else _row_in_file(name)


@functools.lru_cache(maxsize=256)
def _row_in_file(name: str) -> Mapping[str, Any] | None:
    path = _path()
    if path is None:
        return None
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as text:
        # By the form in which LiteLLM's releases write most rows: names are indented by four, and nothing else is by so little.
        quoted = json.dumps(name).encode()
        at = text.rfind(b"\n    %s: {" % quoted)
        if at < 0 or text.rfind(quoted + b":") > at + len(b"\n    "):
            return _whole_table().get(name) if text.rfind(quoted + b":") >= 0 else None
        end = text.find(b"\n    }", at)
        return cast("Mapping[str, Any]", json.loads(text[text.find(b"{", at) : end] + b"}"))


def _whole_table() -> Mapping[str, Any]:
    path = _path()
    return {} if path is None else cast("Mapping[str, Any]", json.loads(path.read_bytes()))


@functools.cache
def _path() -> Path | None:
    """The file, if it is there in the form that :func:`_row_in_file` reads."""
    found = importlib.util.find_spec("litellm")
    for folder in () if found is None else found.submodule_search_locations or ():
        path = Path(folder, _FILE)
        if path.is_file():
            with path.open("rb") as file:
                return path if file.read(8).startswith(b'{\n    "') else None
    return None
