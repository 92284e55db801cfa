"""What is known of providers without asking LiteLLM: addresses, keys, and the options that a call does not take.

Data and pure checks. LiteLLM's dispatcher holds these facts in code that cannot be called without sending a request.
"""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from actors.errors import DeclarationError

if TYPE_CHECKING:
    from collections.abc import Mapping

HTTP_HANDLER_PROVIDERS = frozenset(
    {"cometapi", "deepseek", "fireworks_ai", "groq", "hosted_vllm", "minimax", "mistral", "openrouter", "together_ai", "xai"}
)
"""OpenAI-compatible providers that LiteLLM serves over its own HTTP handler, with URL and headers of their own making."""

DEFAULT_BASES: Mapping[str, tuple[tuple[str, ...], str]] = {
    "anthropic": (("ANTHROPIC_API_BASE", "ANTHROPIC_BASE_URL"), "https://api.anthropic.com"),
    "cometapi": (("COMETAPI_API_BASE",), "https://api.cometapi.com/v1"),
    "minimax": (("MINIMAX_API_BASE",), "https://api.minimax.io/v1"),
    "openai": (("OPENAI_BASE_URL", "OPENAI_API_BASE"), "https://api.openai.com/v1"),
    "openrouter": (("OPENROUTER_API_BASE",), "https://openrouter.ai/api/v1"),
}
"""Environment variables and address of the providers for which LiteLLM's resolver leaves both out."""

KEY_VARIABLES: Mapping[str, tuple[str, ...]] = {
    "anthropic": ("ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN"),
    "cometapi": ("COMETAPI_KEY",),
    "minimax": ("MINIMAX_API_KEY",),
    "openai": ("OPENAI_API_KEY",),
    "openrouter": ("OPENROUTER_API_KEY", "OR_API_KEY"),
}
"""Where the keys are of the providers for which LiteLLM's resolver leaves them out; the first is the one to set."""

REFUSED_OPTIONS: Mapping[str, str] = {
    "api_base": "pass it to LMClient(...)",
    "api_key": "pass it to LMClient(...)",
    "base_url": "pass api_base to LMClient(...)",
    "max_retries": "set LMClient(..., retry=Retry(max_attempts=…)): nothing else retries",
    "model": "pass it to LMClient(...)",
    "num_retries": "set LMClient(..., retry=Retry(max_attempts=…)): nothing else retries",
    "stream": "leave it out: chat() returns whole answers, stream() their pieces",
    "stream_options": "leave it out: stream() asks for what it needs",
    "timeout": "wrap the call in trio.fail_after(seconds), or set LMClient(..., deadline_s=…)",
}
KEPT_LITELLM_OPTIONS = frozenset({"additional_drop_params", "allowed_openai_params", "drop_params", "extra_headers"})

EXAMPLES = "'openai/gpt-4o-mini', 'anthropic/claude-sonnet-4-5', 'openrouter/…', 'hosted_vllm/…' with api_base"


def check_address(api_base: str | None) -> None:
    """Raise DeclarationError unless `api_base` is None or an http(s) URL without a user part."""
    if api_base is None:
        return
    try:
        parts = urlsplit(api_base)
        fits = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.username is None and parts.port != 0
    except (ValueError, AttributeError, TypeError):
        fits = False
    if not fits:
        raise DeclarationError(
            "LMClient(api_base=…): expected an address such as 'https://host/v1', without a user name or password.\n"
            "  Mend: pass the address that the provider's documentation names; the key goes into api_key."
        )
