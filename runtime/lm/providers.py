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

OWN_PROTOCOL_PROVIDERS = frozenset({"anthropic", "azure", "cohere", "cohere_chat", "gemini", "ollama_chat"})
"""Providers with a protocol, an address or an authorisation of their own that is served."""

UNSERVED_PROVIDERS = frozenset(
    {"a2a", "azure_ai", "chatgpt", "edenai", "gigachat", "github_copilot", "heroku", "ragflow", "sap", "vercel_ai_gateway"}
)
"""Providers that LiteLLM counts among the OpenAI-compatible ones, and yet serves by code that signs in or sends by itself."""

UNPRICED_PROVIDERS = frozenset({"ollama_chat"})
"""Servers of one's own. LiteLLM would ask them about the model, over the network, before it says that it costs nothing."""

INSTEAD: Mapping[str, str] = {
    "azure_ai": "use 'azure/DEPLOYMENT', or 'openai/MODEL' with the address of the endpoint as api_base",
    "ollama": "use 'ollama_chat/MODEL', the same server's chat interface",
}
"""What to use in place of a provider that is not served, where there is something close."""

ADDRESS_EXAMPLES: Mapping[str, str] = {"azure": "https://NAME.openai.azure.com"}
"""The form of an address, of the providers that give each customer another."""

DEFAULT_BASES: Mapping[str, tuple[tuple[str, ...], str | None]] = {
    "anthropic": (("ANTHROPIC_API_BASE", "ANTHROPIC_BASE_URL"), "https://api.anthropic.com"),
    "azure": (("AZURE_API_BASE",), None),
    "cohere": (("COHERE_API_BASE",), "https://api.cohere.com/v2/chat"),
    "cohere_chat": (("COHERE_API_BASE",), "https://api.cohere.com/v2/chat"),
    "cometapi": (("COMETAPI_API_BASE",), "https://api.cometapi.com/v1"),
    "gemini": (("GEMINI_API_BASE",), ""),  # the version in the path depends on the model
    "minimax": (("MINIMAX_API_BASE",), "https://api.minimax.io/v1"),
    "ollama_chat": (("OLLAMA_API_BASE",), "http://localhost:11434"),
    "openai": (("OPENAI_BASE_URL", "OPENAI_API_BASE"), "https://api.openai.com/v1"),
    "openrouter": (("OPENROUTER_API_BASE",), "https://openrouter.ai/api/v1"),
}
"""Environment variables and address of the providers for which LiteLLM's resolver leaves both out."""

KEY_VARIABLES: Mapping[str, tuple[str, ...]] = {
    "anthropic": ("ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN"),
    "azure": ("AZURE_OPENAI_API_KEY", "AZURE_API_KEY"),
    "cohere": ("COHERE_API_KEY", "CO_API_KEY"),
    "cohere_chat": ("COHERE_API_KEY", "CO_API_KEY"),
    "cometapi": ("COMETAPI_KEY",),
    "gemini": ("GOOGLE_API_KEY", "GEMINI_API_KEY"),
    "minimax": ("MINIMAX_API_KEY",),
    "ollama_chat": ("OLLAMA_API_KEY",),
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
