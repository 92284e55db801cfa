"""Where one model lives: provider, configuration, address, key and sign-in, as LiteLLM resolves them.

LiteLLM is handed in, so this module can be imported without it. Nothing here opens a connection.
"""

from __future__ import annotations

import importlib.util
import os
from typing import TYPE_CHECKING, Any

import attrs

from actors.errors import DeclarationError, LMAuthFailed
from runtime.lm.limits.redaction import excerpt, raise_alone
from runtime.lm.providers import bedrock, vertex
from runtime.lm.providers.known import (
    ADDRESS_EXAMPLES,
    DEFAULT_BASES,
    EXAMPLES,
    HTTP_HANDLER_PROVIDERS,
    KEY_VARIABLES,
    OWN_PROTOCOL_PROVIDERS,
    PROVIDER_OPTIONS,
    SERVERS_OF_ONES_OWN,
    THREADED_PROVIDERS,
    UNSERVED_PROVIDERS,
)
from runtime.lm.providers.sign_in import Authority, SignIn

if TYPE_CHECKING:
    from collections.abc import Mapping


@attrs.frozen
class ModelRoute:
    """Where one model lives. Keys are never shown."""

    name: str
    """The model as it was asked for."""
    model: str
    """As the provider calls it."""
    provider: str
    config: Any
    """LiteLLM's configuration; None for a provider that LiteLLM calls on its own."""
    api_base: str | None
    api_key: str | None = attrs.field(repr=False)
    headers: Mapping[str, str] = attrs.field(factory=dict[str, str], repr=False)
    api_version: str | None = None
    """Azure's: the date of its interface."""
    options: Mapping[str, Any] = attrs.field(factory=dict[str, Any], repr=False)
    """LiteLLM's options of the provider; see ``PROVIDER_OPTIONS``."""
    sign_in: SignIn | None = attrs.field(default=None, repr=False)
    """Set for providers whose requests are authorised one by one."""

    @property
    def is_threaded(self) -> bool:
        """Whether LiteLLM makes the calls on its own, in a worker thread."""
        return self.config is None

    @property
    def authority(self) -> Authority | None:
        """What the requests are authorised by, of the providers that sign in."""
        return self.sign_in.authority if self.sign_in is not None else None

    @property
    def litellm_params(self) -> dict[str, Any]:
        """What LiteLLM's configurations ask for beside a call's own options."""
        return {"custom_llm_provider": self.provider, "api_base": self.api_base, "api_key": self.api_key}

    @property
    def account(self) -> str:
        """What tells one account with the provider from another; may be a secret."""
        return self.authority.account if self.authority is not None else self.api_key or ""

    @property
    def secrets(self) -> tuple[str, ...]:
        """Texts that no message may contain, the longest first: one may be a part of another."""
        own = [str(value) for name, value in self.options.items() if _is_secret(name)]
        signed = self.authority.secrets if self.authority is not None else ()
        return tuple(sorted({secret for secret in (self.api_key or "", *own, *signed) if secret}, key=len, reverse=True))


def _is_secret(name: str) -> bool:
    return name.lower().endswith(("key", "token", "secret", "password", "credentials"))


def resolve(litellm: Any, name: str, *, api_key: str | None, api_base: str | None, options: Mapping[str, Any]) -> ModelRoute:
    """The route of the model `name`.

    Raises:
        DeclarationError: LiteLLM does not know the provider, it is not served here, or its `options` are others.
        LMAuthFailed: there is no key.
    """
    _reject_unserved(name, name.partition("/")[0])  # LiteLLM's resolver would begin to sign in
    try:
        model, provider, key, base = litellm.get_llm_provider(model=name, api_base=api_base, api_key=api_key)
    except Exception as error:  # noqa: BLE001 - raised again, without keys
        raise_alone(_unknown(litellm, name, error, api_key), error, [api_key or ""])
    _reject_unserved(name, provider)
    key = api_key or key
    if not _is_native(litellm, model, provider):
        return _threaded(litellm, name, model, provider, key, api_base, options)
    _check_options(name, provider, options)
    config = _config(litellm, name, model, provider, api_base)
    base = _base(name, provider, base)
    if provider == "bedrock":
        return _bedrock(name, model, config, base, key, options)
    if provider == "vertex_ai":
        return _vertex(name, model, config, base, api_key, options)
    if provider.startswith("cohere"):
        model = model.replace("v2/", "")
    version = options.get("api_version") or os.environ.get("AZURE_API_VERSION") or str(litellm.AZURE_DEFAULT_API_VERSION)
    return ModelRoute(
        name,
        model,
        provider,
        config,
        base,
        _key(litellm, name, provider, key),
        _headers(provider, config),
        version if provider == "azure" else None,
    )


def _reject_unserved(name: str, provider: str) -> None:
    if provider in UNSERVED_PROVIDERS:
        raise DeclarationError(
            f"LMClient({name!r}): the provider {provider!r} is not served: LiteLLM signs in to it by asking a person at a "
            f"terminal.\n  Fix: use {EXAMPLES}, or a gateway that speaks OpenAI's protocol."
        )


def _unknown(litellm: Any, name: str, error: Exception, api_key: str | None) -> DeclarationError:
    known = {str(getattr(provider, "value", provider)) for provider in litellm.provider_list}
    if name.partition("/")[0] not in known or not name.partition("/")[2]:
        return DeclarationError(
            f"LMClient({name!r}): LiteLLM knows no provider for this model.\n"
            f"  Fix: name the provider before a slash, for example {EXAMPLES}."
        )
    words = excerpt(str(getattr(error, "message", "") or error), [api_key or ""])
    return DeclarationError(
        f"LMClient({name!r}): LiteLLM cannot tell where this model is: {words}.\n"
        "  Fix: pass api_base, or correct the form of the model's name."
    )


def _is_native(litellm: Any, model: str, provider: str) -> bool:
    """Whether the client sends the requests on its own."""
    if provider == "bedrock":
        return bedrock.is_converse(model)
    if provider == "vertex_ai":
        return vertex.is_gemini(model)
    if provider.startswith("cohere") and "v1/" in model:
        return False
    return speaks(litellm, provider)


def speaks(litellm: Any, provider: str) -> bool:
    """Whether the client can send requests to `provider` on its own: to all of its models, or to some."""
    if provider in THREADED_PROVIDERS | UNSERVED_PROVIDERS:
        return False
    compatible = provider in {"openai", "custom_openai"} or provider in litellm.openai_compatible_providers
    return compatible or provider in OWN_PROTOCOL_PROVIDERS or provider in HTTP_HANDLER_PROVIDERS


def _check_options(name: str, provider: str, options: Mapping[str, Any]) -> None:
    known = PROVIDER_OPTIONS.get(provider, frozenset())
    for option in options:
        if option not in known:
            has = f"{provider!r} has {', '.join(sorted(known)) or 'none'}"
            raise DeclarationError(
                f"LMClient({name!r}, provider_options=…): no option {option!r} is known; {has}.\n"
                "  Fix: correct its name, or pass what belongs to one call to chat()."
            )


def _base(name: str, provider: str, base: str | None) -> str:
    variables, default = DEFAULT_BASES.get(provider, ((), None))
    found = base or next((os.environ[variable] for variable in variables if os.environ.get(variable)), default)
    if found is None:
        example = ADDRESS_EXAMPLES.get(provider, "https://…/v1")
        raise DeclarationError(f"LMClient({name!r}): no address is known.\n  Fix: pass api_base='{example}'.")
    return found


def _bedrock(name: str, model: str, config: Any, base: str, key: str | None, options: Mapping[str, Any]) -> ModelRoute:
    bedrock.check_botocore(name, importlib.util.find_spec)
    plain = bedrock.model_name(model)
    authority = bedrock.AwsAuthority(name, plain, options, _checked_key(name, key) if key else None)
    return ModelRoute(name, plain, "bedrock", config, base, key, options=options, sign_in=SignIn(authority))


def _vertex(name: str, model: str, config: Any, base: str, token: str | None, options: Mapping[str, Any]) -> ModelRoute:
    if token is None:
        vertex.check_google_auth(name, importlib.util.find_spec)
    project = vertex.project_of(name, options)
    token = _checked_key(name, token) if token else None
    authority = vertex.GoogleAuthority(name, vertex.credentials_of(options), project, token)
    return ModelRoute(name, model, "vertex_ai", config, base, token, options=options, sign_in=SignIn(authority))


def _threaded(
    litellm: Any, name: str, model: str, provider: str, key: str | None, base: str | None, options: Mapping[str, Any]
) -> ModelRoute:
    """A provider that LiteLLM calls on its own. It looks its address up too, and its key where no variable of it is known."""
    missing: list[str] = litellm.validate_environment(name, api_key=key, api_base=base)["missing_keys"]
    wanted = [variable for variable in missing if variable.endswith(("_KEY", "_TOKEN"))]
    if key is None and wanted and not any(_is_secret(option) for option in options):
        raise _keyless(name, wanted[0])
    found = _checked_key(name, key) if key is not None else None
    return ModelRoute(name, model, provider, None, base, found, options=options)


def _config(litellm: Any, name: str, model: str, provider: str, api_base: str | None) -> Any:
    if provider == "ollama_chat":
        return litellm.OllamaChatConfig()  # what follows would ask the server about the model
    if provider == "ollama":
        return litellm.OllamaConfig()
    info, _ = litellm.main.responses_api_bridge_check(model=model, custom_llm_provider=provider, api_base=api_base)
    if info.get("mode") == "responses":
        raise DeclarationError(
            f"LMClient({name!r}): the provider serves this model over its Responses API only, not over chat.\n"
            "  Fix: use a chat model."
        )
    try:
        kind = litellm.types.utils.LlmProviders(provider)
    except ValueError:
        return litellm.OpenAIConfig()
    return litellm.utils.ProviderConfigManager.get_provider_chat_config(model=model, provider=kind) or litellm.OpenAIConfig()


def _key(litellm: Any, name: str, provider: str, resolved: str | None) -> str | None:
    names = KEY_VARIABLES.get(provider, ())
    key = resolved or next((os.environ[variable] for variable in names if os.environ.get(variable)), None)
    if key is not None:
        return _checked_key(name, key)
    if provider in SERVERS_OF_ONES_OWN:
        return None
    missing: list[str] = litellm.validate_environment(name)["missing_keys"]
    wanted = [*names, *(variable for variable in missing if variable.endswith(("_KEY", "_TOKEN")) and variable not in names)]
    if wanted:
        raise _keyless(name, wanted[0])
    return None  # the provider asks for none


def _keyless(name: str, variable: str) -> LMAuthFailed:
    return LMAuthFailed(
        f"{name!r} needs a key, and there is none.\n"
        f"  Fix: set the environment variable {variable}, or pass LMClient({name!r}, api_key=…).",
        model=name,
        attempt=0,
    )


def _checked_key(name: str, key: str) -> str:
    if not key.isascii() or not key.isprintable() or key != key.strip():
        raise LMAuthFailed(
            f"the key for {name!r} holds characters that no key has (spaces around it, line ends or non-ASCII).\n"
            "  Fix: copy the key again; mind a line end when it comes from a file.",
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
    return {**config.get_attribution_headers(), **organisation_headers(provider)}


def organisation_headers(provider: str) -> dict[str, str]:
    """OpenAI's headers that name who pays, where the environment does; none for another provider."""
    organisation = os.environ.get("OPENAI_ORGANIZATION") or os.environ.get("OPENAI_ORG_ID")
    project = os.environ.get("OPENAI_PROJECT_ID")
    own = {"OpenAI-Organization": organisation, "OpenAI-Project": project} if provider == "openai" else {}
    return {name: value for name, value in own.items() if value}
