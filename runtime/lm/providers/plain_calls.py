"""Calls in OpenAI's plain form, as most are, written without LiteLLM: texts to a model without peculiarities, the usual options.

Only what LiteLLM would write to the same bytes is written here. Any other call is left to it: :func:`plain_model` and
:meth:`PlainModel.request` give None then. Importing LiteLLM takes seconds and 130 MB, which a plain call does without.
"""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast, final

import attrs

from actors.lm import ChatMessage
from runtime.lm.http.http_messages import HttpRequest
from runtime.lm.limits.abilities import Abilities
from runtime.lm.providers import price_list
from runtime.lm.providers.exchange import ModelExchange
from runtime.lm.providers.import_litellm import has_env_file
from runtime.lm.providers.known import DEFAULT_BASES, KEY_VARIABLES
from runtime.lm.providers.model_routes import ModelRoute, organisation_headers
from runtime.lm.providers.plain import PlainAnswer
from runtime.lm.providers.price_list import TokenPrices, cached_tokens

_PROVIDERS: Mapping[str, tuple[tuple[str, ...], tuple[str, ...], str | None, frozenset[str]]] = {
    "openai": (*DEFAULT_BASES["openai"][:1], KEY_VARIABLES["openai"], None, frozenset({"reasoning_effort"})),
    "hosted_vllm": (
        ("HOSTED_VLLM_API_BASE",),
        ("HOSTED_VLLM_API_KEY",),
        "fake-api-key",
        frozenset({"reasoning_effort", "thinking"}),
    ),
    "lm_studio": (("LM_STUDIO_API_BASE",), ("LM_STUDIO_API_KEY",), "fake-api-key", frozenset()),
}
"""Variables of the address and of the key, the key that LiteLLM sends where there is none, and options that OpenAI hasn't."""

_PECULIAR = re.compile(
    r"(?:^|[^a-z0-9])o[0-9]|gpt-(?:[5-9]|[1-9][0-9])|gpt-oss|^ft:|audio|codex|realtime|responses/|search|transcribe|tts",
    re.IGNORECASE,
)
"""Models whose options LiteLLM renames, leaves out or rejects, and those that aren't asked over chat."""

_REDIRECTIONS = ("USE_LITELLM_PROXY",)
"""Variables by which LiteLLM sends calls elsewhere."""

_ROLES = frozenset({"system", "user", "assistant"})
_FORM = {"role", "content"}
_PARAMS = frozenset(
    {
        "frequency_penalty",
        "logit_bias",
        "logprobs",
        "top_logprobs",
        "max_tokens",
        "max_completion_tokens",
        "modalities",
        "prediction",
        "n",
        "presence_penalty",
        "seed",
        "stop",
        "stream",
        "stream_options",
        "temperature",
        "top_p",
        "tools",
        "tool_choice",
        "function_call",
        "functions",
        "max_retries",
        "extra_headers",
        "parallel_tool_calls",
        "response_format",
        "audio",
        "web_search_options",
        "service_tier",
        "safety_identifier",
        "prompt_cache_key",
        "prompt_cache_retention",
        "store",
    }
)
"""The options that all of OpenAI's models take, by LiteLLM."""
_STREAM: Mapping[str, Any] = {"stream": True, "stream_options": {"include_usage": True}}
_ORDER = (
    "temperature",
    "top_p",
    "stream",
    "stream_options",
    "stop",
    "max_tokens",
    "presence_penalty",
    "frequency_penalty",
    "seed",
)


def _is_number(value: object) -> bool:
    return type(value) is int or (type(value) is float and math.isfinite(value))


def _is_whole(value: object) -> bool:
    return type(value) is int


def _is_stop(value: object) -> bool:
    return type(value) is str or (type(value) is list and all(type(each) is str for each in cast("list[object]", value)))


_OPTIONS: Mapping[str, Callable[[object], bool]] = {
    "frequency_penalty": _is_number,
    "max_tokens": _is_whole,
    "presence_penalty": _is_number,
    "seed": _is_whole,
    "stop": _is_stop,
    "temperature": _is_number,
    "top_p": _is_number,
}
"""The options that go out as they come."""
SENTINEL = object()
"""In place of LiteLLM's configuration."""


@final
@attrs.frozen
class PlainModel:
    """One model that plain calls reach without LiteLLM."""

    route: ModelRoute
    """Where it lives; its configuration is not LiteLLM's."""
    prices: TokenPrices | None
    """None for a model without a price."""
    row: Mapping[str, Any] = attrs.field(repr=False)
    """The model's in LiteLLM's table; empty for one that is not there."""
    _by_reply: dict[str, TokenPrices | None] = attrs.field(factory=dict[str, "TokenPrices | None"], init=False, repr=False)
    """The prices by the models' names in replies, which are often those of a certain day's."""

    def request(self, messages: Sequence[ChatMessage], options: Mapping[str, Any], *, stream: bool) -> ModelExchange | None:
        """The request that LiteLLM would make of these; None when it should see them."""
        if not all(map(_is_plain, messages)):
            return None
        for name, value in options.items():
            fits = _OPTIONS.get(name)
            if fits is None or not fits(value):
                return None
        # In LiteLLM's order, on which the bytes depend, and with them the keys of caches.
        wanted = {**options, **_STREAM} if stream else options
        params = {name: wanted[name] for name in _ORDER if name in wanted}
        route = self.route
        plain = [dict(message) for message in messages]
        data = {"model": route.model, "messages": plain, **params}
        try:
            body = json.dumps(data, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode()
        except UnicodeEncodeError:  # half a character
            return None
        return ModelExchange(HttpRequest("POST", _url(route), _headers(route), body), data, plain, params, route.litellm_params)

    def knows_cost(self, answer: PlainAnswer) -> bool:
        """Whether :meth:`cost_usd` gives what LiteLLM would."""
        try:
            self._prices_of(answer.model)
        except LookupError:
            return False
        return cached_tokens(answer.usage, answer.service_tier) is not None

    def cost_usd(self, answer: PlainAnswer) -> float | None:
        """What `answer` cost, in US dollars; None for a model without a price. Only for one whose cost is known."""
        prices = self._prices_of(answer.model)
        return None if prices is None else prices.of_usage(answer.usage, answer.service_tier)

    def _prices_of(self, model: str) -> TokenPrices | None:
        """The prices by the reply's name of the model, or else the call's. Raises LookupError where LiteLLM knows better."""
        if model not in self._by_reply:
            self._by_reply[model] = self._looked_up(model)
        return self._by_reply[model]

    def _looked_up(self, model: str) -> TokenPrices | None:
        if model == self.route.model:
            return self.prices
        row = price_list.row_of(model)
        if "/" in model or model.startswith("ft:") or price_list.row_of(f"{self.route.provider}/{model}") is not None:
            raise LookupError(model)
        if row is None:
            return self.prices
        prices = price_list.token_prices(row) if self.route.provider == "openai" and _is_chat_of_openai(row) else None
        if prices is None:
            raise LookupError(model)
        return prices

    @property
    def abilities(self) -> Abilities:
        """What the model can do, by LiteLLM's table."""
        provider, row = self.route.provider, self.row
        return Abilities(
            supports_function_calling=bool(row.get("supports_function_calling")),
            supports_reasoning=bool(row.get("supports_reasoning")),
            supports_response_schema=provider == "lm_studio" or bool(row.get("supports_response_schema")),
            supported_params=_PARAMS | _PROVIDERS[provider][3],
        )


def plain_model(name: str, *, api_key: str | None, api_base: str | None, options: Mapping[str, Any]) -> PlainModel | None:
    """The model `name`, where plain calls can be made without LiteLLM; else None, also where key or address are missing.

    Args:
        name: provider and model.
        api_key: the key, or None for the one in the environment.
        api_base: the address, or None for the one in the environment.
        options: the provider's own, which make it peculiar.
    """
    provider, _, model = name.partition("/")
    if provider not in _PROVIDERS or not model or options or _PECULIAR.search(model) or not price_list.is_readable():
        return None
    if has_env_file() or any(os.environ.get(variable) for variable in _REDIRECTIONS):
        return None
    bases, keys, no_key, _ = _PROVIDERS[provider]
    base = api_base or _first(bases) or DEFAULT_BASES.get(provider, ((), None))[1]
    key = api_key or _first(keys) or no_key
    row = price_list.row_of(model) if provider == "openai" else None
    is_usual = row is None or _is_chat_of_openai(row)
    if base is None or key is None or not is_usual or not _is_clean(key) or price_list.row_of(f"{provider}/{model}") is not None:
        return None
    if provider != "openai" and price_list.row_of(model) is not None:
        return None  # LiteLLM would take the prices of a namesake
    prices = None if row is None else price_list.token_prices(row)
    if row is not None and prices is None:
        return None
    route = ModelRoute(name, model, provider, SENTINEL, base, key, organisation_headers(provider))
    return PlainModel(route, prices, row or {})


def _is_chat_of_openai(row: Mapping[str, Any]) -> bool:
    return row.get("litellm_provider") == "openai" and row.get("mode") == "chat"


def _is_plain(message: ChatMessage) -> bool:
    return set(message) == _FORM and message["role"] in _ROLES and type(message["content"]) is str


def _first(variables: Sequence[str]) -> str | None:
    return next((os.environ[variable] for variable in variables if os.environ.get(variable)), None)


def _is_clean(key: str) -> bool:
    """Whether no error has to be raised about it."""
    return key.isascii() and key.isprintable() and key == key.strip()


def _url(route: ModelRoute) -> str:
    base = (route.api_base or "").rstrip("/")
    is_whole = "chat/completions" in base if route.provider == "hosted_vllm" else base.endswith("/chat/completions")
    return base if is_whole else f"{base}/chat/completions"


def _headers(route: ModelRoute) -> dict[str, str]:
    own = {**route.headers, "Authorization": f"Bearer {route.api_key}", "Content-Type": "application/json"}
    return {**own, "accept": "application/json"}
