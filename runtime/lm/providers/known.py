"""What is known of providers without asking LiteLLM: addresses, keys, and the options that a call does not take.

Data and pure checks. LiteLLM's dispatcher holds these facts in code that cannot be called without sending a request.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from actors.errors import DeclarationError

if TYPE_CHECKING:
    from collections.abc import Mapping

HTTP_HANDLER_PROVIDERS = frozenset(
    {"cometapi", "deepseek", "fireworks_ai", "groq", "hosted_vllm", "minimax", "mistral", "openrouter", "together_ai", "xai"}
)
"""OpenAI-compatible providers that LiteLLM serves over its own HTTP handler, with their own way to make URL and headers."""

OWN_PROTOCOL_PROVIDERS = frozenset(
    {"anthropic", "azure", "bedrock", "cohere", "cohere_chat", "gemini", "ollama", "ollama_chat", "vertex_ai"}
)
"""Providers with their own protocol, address or authorisation, whose requests the client sends itself."""

CLOUDS = frozenset({"bedrock", "vertex_ai"})
"""Providers whose settings may be in files, and whose libraries take long to import."""

THREADED_PROVIDERS = frozenset({"a2a", "azure_ai", "edenai", "gigachat", "heroku", "ragflow", "sap", "vercel_ai_gateway"})
"""Providers that LiteLLM counts among the OpenAI-compatible ones, and yet serves by code that signs in or sends on its own.
Like every provider in none of these sets they are left to LiteLLM, in a worker thread."""

UNSERVED_PROVIDERS = frozenset({"chatgpt", "github_copilot"})
"""Providers that LiteLLM signs in to by asking a person at a terminal."""

METADATA_PROVIDERS = frozenset({"anthropic", "azure", "openai", "openrouter"})
"""Providers whose requests take ``metadata``. LiteLLM keeps it for its own logs, and sends it to none of them."""

SERVERS_OF_ONES_OWN = frozenset({"ollama", "ollama_chat"})
"""They need no key and cost nothing that is known. LiteLLM would ask them about the model, over the network, for its price."""

PROVIDER_OPTIONS: Mapping[str, frozenset[str]] = {
    "azure": frozenset({"api_version"}),
    "bedrock": frozenset(
        {
            "aws_access_key_id",
            "aws_bedrock_runtime_endpoint",
            "aws_external_id",
            "aws_profile_name",
            "aws_region_name",
            "aws_role_name",
            "aws_secret_access_key",
            "aws_session_name",
            "aws_session_tags",
            "aws_session_token",
            "aws_sts_endpoint",
            "aws_web_identity_token",
        }
    ),
    "vertex_ai": frozenset({"vertex_credentials", "vertex_location", "vertex_project"}),
}
"""LiteLLM's names for credentials and regions, beside key and address."""

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
    "bedrock": ((), ""),  # it depends on the region
    "ollama": (("OLLAMA_API_BASE",), "http://localhost:11434"),
    "ollama_chat": (("OLLAMA_API_BASE",), "http://localhost:11434"),
    "openai": (("OPENAI_BASE_URL", "OPENAI_API_BASE"), "https://api.openai.com/v1"),
    "openrouter": (("OPENROUTER_API_BASE",), "https://openrouter.ai/api/v1"),
    "vertex_ai": (("VERTEXAI_API_BASE",), ""),  # it depends on project and location
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
    "ollama": ("OLLAMA_API_KEY",),
    "ollama_chat": ("OLLAMA_API_KEY",),
    "openai": ("OPENAI_API_KEY",),
    "openrouter": ("OPENROUTER_API_KEY", "OR_API_KEY"),
}
"""Where the keys are of the providers for which LiteLLM's resolver leaves them out; the first is the one to set."""

PARTS: Mapping[str, tuple[str, ...]] = {
    "cohere": ("llms.cohere.chat.transformation", "llms.cohere.chat.v2_transformation"),
    "cohere_chat": ("llms.cohere.chat.transformation", "llms.cohere.chat.v2_transformation"),
    "gemini": ("llms.vertex_ai.gemini_embeddings.batch_embed_content_transformation",),
}
"""LiteLLM's modules of a provider that would otherwise be imported by the first request."""

REJECTED_OPTIONS: Mapping[str, str] = {
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
ADDRESS_OPTION = re.compile(
    r"^(?:aws|azure|gigachat|litellm|oci|sagemaker|sap|snowflake|vertex|watsonx)_"
    r"|(?:^|_)(?:base|callbacks?|client|endpoint|file|host|logger_fn|path|proxy|uri|url)$"
)
"""Names of options by which LiteLLM would send a call elsewhere, or with other credentials. They may come from a run's input."""
KEPT_LITELLM_OPTIONS = frozenset({"additional_drop_params", "allowed_openai_params", "drop_params", "extra_headers", "metadata"})

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
            "  Fix: pass the address that the provider's documentation names; the key goes into api_key."
        )
