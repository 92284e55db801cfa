"""Where one model lives: provider, configuration, address and key, as LiteLLM resolves them.

LiteLLM is handed in, so that this module can be imported without it. Nothing here opens a connection.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import attrs

from actors.errors import DeclarationError, LMAuthFailed
from runtime.lm.providers import (
    ADDRESS_EXAMPLES,
    DEFAULT_BASES,
    EXAMPLES,
    HTTP_HANDLER_PROVIDERS,
    INSTEAD,
    KEY_VARIABLES,
    OWN_PROTOCOL_PROVIDERS,
    UNSERVED_PROVIDERS,
)

if TYPE_CHECKING:
    from collections.abc import Mapping


@attrs.frozen
class Route:
    """Where one model lives. Keys are never shown."""

    model: str
    provider: str
    config: Any
    api_base: str | None
    api_key: str | None = attrs.field(repr=False)
    headers: Mapping[str, str] = attrs.field(repr=False)
    api_version: str | None = None
    """Azure's: the date of its interface."""

    @property
    def litellm_params(self) -> dict[str, Any]:
        """What LiteLLM's configurations ask for beside a call's own options."""
        return {"custom_llm_provider": self.provider, "api_base": self.api_base, "api_key": self.api_key}


def resolve(litellm: Any, name: str, *, api_key: str | None, api_base: str | None) -> Route:
    """The route of the model `name`.

    Raises:
        DeclarationError: LiteLLM does not know the provider, or it is not served here.
        LMAuthFailed: there is no key.
    """
    _refuse_unserved(name, name.partition("/")[0])  # for some of them LiteLLM's resolver would begin to log in
    try:
        model, provider, key, base = litellm.get_llm_provider(model=name, api_base=api_base, api_key=api_key)
    except Exception as error:
        raise DeclarationError(
            f"LMClient({name!r}): LiteLLM knows no provider for this model.\n"
            f"  Mend: name the provider before a slash, for example {EXAMPLES}."
        ) from error
    _refuse_unserved(name, provider)
    config = _config(litellm, name, model, provider, api_base)
    variables, default = DEFAULT_BASES.get(provider, ((), None))
    base = base or next((os.environ[variable] for variable in variables if os.environ.get(variable)), default)
    if base is None:
        example = ADDRESS_EXAMPLES.get(provider, "https://…/v1")
        raise DeclarationError(f"LMClient({name!r}): no address is known.\n  Mend: pass api_base='{example}'.")
    if provider.startswith("cohere"):
        model = model.replace("v2/", "")
    version = (os.environ.get("AZURE_API_VERSION") or str(litellm.AZURE_DEFAULT_API_VERSION)) if provider == "azure" else None
    return Route(
        model, provider, config, base, _key(litellm, name, provider, api_key or key), _headers(provider, config), version
    )


def _refuse_unserved(name: str, provider: str) -> None:
    if provider in UNSERVED_PROVIDERS:
        raise _unserved(name, provider)


def _unserved(name: str, provider: str) -> DeclarationError:
    instead = INSTEAD.get(provider, f"use {EXAMPLES}, or a gateway that speaks OpenAI's protocol")
    return DeclarationError(
        f"LMClient({name!r}): the provider {provider!r} is not served: it is neither OpenAI-compatible nor one of "
        f"{', '.join(sorted(OWN_PROTOCOL_PROVIDERS))}.\n  Mend: {instead}."
    )


def _config(litellm: Any, name: str, model: str, provider: str, api_base: str | None) -> Any:
    compatible = provider in {"openai", "custom_openai"} or provider in litellm.openai_compatible_providers
    if not (provider in OWN_PROTOCOL_PROVIDERS or provider in HTTP_HANDLER_PROVIDERS or compatible):
        raise _unserved(name, provider)
    if provider.startswith("cohere") and "v1/" in model:
        raise DeclarationError(
            f"LMClient({name!r}): the first version of Cohere's interface is not served.\n"
            "  Mend: leave 'v1/' out, which asks for the second."
        )
    if provider == "ollama_chat":
        return litellm.OllamaChatConfig()  # what follows would ask the server about the model
    info, _ = litellm.main.responses_api_bridge_check(model=model, custom_llm_provider=provider, api_base=api_base)
    if info.get("mode") == "responses":
        raise DeclarationError(
            f"LMClient({name!r}): the provider serves this model over its Responses API only, not over chat.\n"
            "  Mend: use a chat model."
        )
    try:
        kind = litellm.types.utils.LlmProviders(provider)
    except ValueError:
        return litellm.OpenAIConfig()
    return litellm.utils.ProviderConfigManager.get_provider_chat_config(model=model, provider=kind) or litellm.OpenAIConfig()


def _key(litellm: Any, name: str, provider: str, resolved: str | None) -> str | None:
    names = KEY_VARIABLES.get(provider, ())
    key = resolved or next((os.environ[variable] for variable in names if os.environ.get(variable)), None)
    if key is None:
        if provider == "ollama_chat":
            return None  # a server of one's own
        missing: list[str] = litellm.validate_environment(name)["missing_keys"]
        wanted = [*names, *(variable for variable in missing if variable.endswith(("_KEY", "_TOKEN")) and variable not in names)]
        if not wanted:
            return None  # the provider asks for none
        raise LMAuthFailed(
            f"{name!r} needs a key, and there is none.\n"
            f"  Mend: set the environment variable {wanted[0]}, or pass LMClient({name!r}, api_key=…).",
            model=name,
            attempt=0,
        )
    if not key.isascii() or not key.isprintable() or key != key.strip():
        raise LMAuthFailed(
            f"the key for {name!r} holds characters that no key has (spaces around it, line ends or non-ASCII).\n"
            "  Mend: copy the key again; mind a line end when it comes from a file.",
            model=name,
            attempt=0,
        )
    return key


def _headers(provider: str, config: Any) -> Mapping[str, str]:
    """Headers that LiteLLM's dispatcher adds to the configuration's own."""
    if provider == "openrouter":
        return {
            "HTTP-Referer": os.environ.get("OR_SITE_URL") or "https://litellm.ai",
            "X-Title": os.environ.get("OR_APP_NAME") or "liteLLM",
        }
    if provider in OWN_PROTOCOL_PROVIDERS or provider in HTTP_HANDLER_PROVIDERS:
        return {}
    organisation = os.environ.get("OPENAI_ORGANIZATION") or os.environ.get("OPENAI_ORG_ID")
    project = os.environ.get("OPENAI_PROJECT_ID")
    own = {"OpenAI-Organization": organisation, "OpenAI-Project": project} if provider == "openai" else {}
    return {**config.get_attribution_headers(), **{name: value for name, value in own.items() if value}}
