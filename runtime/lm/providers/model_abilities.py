"""What LiteLLM knows of a model's abilities."""

from __future__ import annotations

from typing import Any

from runtime.lm.limits.abilities import Abilities
from runtime.lm.providers.exchange import ModelExchange as ModelExchange
from runtime.lm.providers.import_litellm import is_warm as is_warm
from runtime.lm.providers.import_litellm import quiet
from runtime.lm.providers.import_litellm import warm_up as warm_up
from runtime.lm.providers.known import (
    SERVERS_OF_ONES_OWN,
    UNSERVED_PROVIDERS,
)


def abilities_of(litellm: Any, name: str) -> Abilities:
    """The abilities of the model `name`; none for one that LiteLLM does not know."""
    provider = name.partition("/")[0] if "/" in name else "openai"
    if provider in UNSERVED_PROVIDERS:
        return Abilities()  # LiteLLM would begin to sign in
    try:
        with quiet():
            params = frozenset(litellm.get_supported_openai_params(model=name, custom_llm_provider=provider) or ())
            if provider in SERVERS_OF_ONES_OWN:
                return Abilities(supported_params=params)  # for the rest LiteLLM would ask the server, and wait for it
            return Abilities(
                supports_function_calling=bool(litellm.supports_function_calling(model=name)),
                supports_reasoning=bool(litellm.supports_reasoning(name)),
                supports_response_schema=bool(litellm.supports_response_schema(model=name, custom_llm_provider=provider)),
                supported_params=params,
            )
    except Exception:  # noqa: BLE001 - LiteLLM doesn't know the model, and raises any kind of error; the call itself will name it
        return Abilities()
