"""Which options a call may have: OpenAI's, the model's own, and those that providers share. What is misspelt goes nowhere.

LiteLLM is handed in, so this module can be imported without it.
"""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from actors.errors import UsageError
from runtime.lm.providers.known import KEPT_LITELLM_OPTIONS

if TYPE_CHECKING:
    from runtime.lm.providers.model_routes import ModelRoute

_SHARED = frozenset(
    {
        "extra_body",
        "extra_headers",
        "metadata",
        # of samplers, by the names that most servers have for them
        "min_p",
        "min_tokens",
        "repetition_penalty",
        "stop_token_ids",
        "top_a",
        "top_k",
        # of routers: OpenRouter, "Provider routing", "Model routing", "Plugins"
        "include_reasoning",
        "models",
        "plugins",
        "provider",
        "reasoning",
        "route",
        "transforms",
        "usage",
        # of one provider each
        "cache_control",
        "cached_content",
        "documents",
        "format",
        "guardrailConfig",
        "keep_alive",
        "mcp_servers",
        "performanceConfig",
        "safe_prompt",
        "safety_settings",
        "search_parameters",
        "think",
    }
)
_OF_EMBEDDINGS = frozenset(
    {
        "auto_truncate",
        "embedding_types",
        "input_type",
        "keep_alive",
        "options",
        "outputDimensionality",
        "output_dimension",
        "output_dtype",
        "task_type",
        "title",
        "truncate",
        "truncation",
    }
)
_NOT_OURS = frozenset({"self", "args", "kwargs", "model", "messages", "custom_llm_provider"})


def known_options(litellm: Any, route: ModelRoute, operation: str) -> frozenset[str]:
    """The names of the options that calls of the model may have.

    Args:
        litellm: the library.
        route: where the model lives.
        operation: ``"chat"`` or ``"embeddings"``.
    """
    if operation == "embeddings":
        supported: list[str] = (
            litellm.get_supported_openai_params(model=route.model, custom_llm_provider=route.provider, request_type="embeddings")
            or []
        )
        own = _parameters(litellm.utils.get_optional_params_embeddings)
        return own | KEPT_LITELLM_OPTIONS | _OF_EMBEDDINGS | frozenset({"extra_body", "extra_headers", *supported})
    supported = litellm.get_supported_openai_params(model=route.model, custom_llm_provider=route.provider) or []
    own = _parameters(litellm.get_optional_params) | frozenset(litellm.OPENAI_CHAT_COMPLETION_PARAMS)
    config = frozenset[str]() if route.config is None else _parameters(type(route.config).__init__)
    return own | config | KEPT_LITELLM_OPTIONS | _SHARED | frozenset(supported)


def _parameters(function: Any) -> frozenset[str]:
    try:
        return frozenset(inspect.signature(function).parameters) - _NOT_OURS
    except (TypeError, ValueError):  # a constructor that says nothing
        return frozenset()


def check_known(given: Mapping[str, Any], known: frozenset[str], method: str) -> None:
    """Reject what no provider would know: it would go onto the wire as it is, and be ignored there.

    Raises:
        UsageError: an option is not among those `known`, nor allowed by ``allowed_openai_params``.
    """
    also: Iterable[str] = given.get("allowed_openai_params") or ()
    for name in given.keys() - known - set(also):
        near = difflib.get_close_matches(name, sorted(known), n=1)
        meant = f": did you mean {near[0]!r}?" if near else "."
        raise UsageError(
            f"{method}() does not know the option {name!r}{meant}\n"
            f"  Fix: correct its name, or send it to the provider as it is: {method}(..., extra_body={{{name!r}: …}})."
        )
