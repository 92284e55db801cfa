"""What providers with their own protocol do differently: address, authorisation, body, and the parser of their chunks.

LiteLLM's dispatcher does these steps in code that cannot be called without sending a request; each function here does one of
them with the same parts. LiteLLM is handed in, so this module can be imported without it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast
from urllib.parse import quote

from runtime.lm.providers import bedrock, vertex
from runtime.lm.providers.import_litellm import fitted
from runtime.lm.providers.known import HTTP_HANDLER_PROVIDERS
from runtime.lm.providers.parsers import CohereParser, GenericParser

if TYPE_CHECKING:
    from collections.abc import Mapping

    from runtime.lm.providers.model_routes import ModelRoute

_AZURE_UNDATED = frozenset({"v1", "latest", "preview"})
_URL_MAKERS = HTTP_HANDLER_PROVIDERS | {"cohere", "cohere_chat", "ollama", "ollama_chat"}
"""Providers whose configuration makes the whole address."""
_GOOGLE = frozenset({"gemini", "vertex_ai"})


class SilentLog:
    """What LiteLLM's configurations want to log is dropped."""

    def __init__(self, details: dict[str, Any] | None = None) -> None:
        self.model_call_details: dict[str, Any] = details or {}
        self.optional_params: dict[str, Any] = {}
        self.litellm_params: dict[str, Any] = {}  # read by Gemini's configuration from LiteLLM 1.109 on

    def pre_call(self, *args: object, **kwargs: object) -> None:
        """Called before a request."""

    def post_call(self, *args: object, **kwargs: object) -> None:
        """Called after a reply."""


def outgoing(
    litellm: Any, route: ModelRoute, headers: dict[str, str], common: dict[str, Any], *, stream: bool
) -> tuple[str, dict[str, Any], dict[str, Any]]:
    """Address, headers and body of the request. `common` is what every configuration is asked with."""
    if isinstance(route.authority, bedrock.AwsAuthority):
        params = {**route.options, **common["optional_params"]}
        there = bedrock.target(route.authority.handler, route.model, params, headers, route.api_base or None)
        asked = {**common, "optional_params": there.optional_params, "litellm_params": there.litellm_params}
        return there.url, dict(there.headers), fitted(route.config.transform_request, headers=dict(there.headers), **asked)
    made = headers_of(route, headers, common)
    url = url_of(litellm, route, common["optional_params"], common["litellm_params"], stream=stream)
    made, data = body_of(litellm, route, made, common)
    return url, made, data


def url_of(litellm: Any, route: ModelRoute, params: dict[str, Any], litellm_params: dict[str, Any], *, stream: bool) -> str:
    """Where the request goes. It never holds the key."""
    base = (route.api_base or "").rstrip("/")
    if route.provider == "anthropic":
        return base if base.endswith("/v1/messages") else f"{base}/v1/messages"
    if route.provider == "azure":
        return _azure_url(base, route)
    if route.provider == "gemini":
        endpoint = "streamGenerateContent?alt=sse" if stream else "generateContent"
        if base:
            return f"{base}/models/{route.model}:{endpoint}"
        url, _ = litellm.llms.vertex_ai.common_utils.get_gemini_url(mode="chat", model=route.model, stream=stream)
        return cast("str", url)
    if isinstance(route.authority, vertex.GoogleAuthority):
        return vertex.url(route.model, route.authority.project, route.options, route.api_base or None, stream=stream)
    if route.provider in _URL_MAKERS:
        return cast(
            "str",
            fitted(
                route.config.get_complete_url,
                api_base=base,
                api_key=route.api_key,
                model=route.model,
                optional_params=params,
                litellm_params=litellm_params,
                stream=stream,
            ),
        )
    return base if base.endswith("/chat/completions") else f"{base}/chat/completions"


def _azure_url(base: str, route: ModelRoute) -> str:
    return azure_place(base, route, "chat/completions")[0]


def azure_place(base: str, route: ModelRoute, operation: str) -> tuple[str, bool]:
    """Where `operation` is at Azure, and whether by an interface that has a date."""
    if route.api_version in _AZURE_UNDATED:
        return f"{base}/openai/v1/{operation}", False
    place = base if "/openai/deployments" in base else f"{base}/openai/deployments/{quote(route.model, safe='')}"
    return f"{place}/{operation}?api-version={quote(route.api_version or '', safe='')}", True


def headers_of(route: ModelRoute, headers: dict[str, str], common: Mapping[str, Any]) -> dict[str, Any]:
    """Authorisation and the provider's own headers, beside `headers`."""
    if route.provider == "azure":
        undated = route.api_version in _AZURE_UNDATED
        made: dict[str, Any] = {"Authorization": f"Bearer {route.api_key}"} if undated else {"api-key": route.api_key}
        made = {**made, **headers}
    elif route.provider in _GOOGLE:  # Vertex AI's token is added when the request goes out
        key = {"x-goog-api-key": route.api_key} if route.provider == "gemini" else None
        made = fitted(route.config.validate_environment, headers=headers, api_key=key, **common)
    else:
        own = {"api_key": route.api_key, "api_base": route.api_base}
        made = fitted(route.config.validate_environment, headers=headers, **own, **common)
    names = {name.lower() for name in made}
    return {**made, **{name: "application/json" for name in ("content-type", "accept") if name not in names}}


def body_of(
    litellm: Any, route: ModelRoute, headers: dict[str, Any], common: Mapping[str, Any]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Headers and body of the request: one provider's body decides on a header."""
    if route.provider in _GOOGLE:
        # Not by the asynchronous twin, which would open a connection to keep marked messages in the provider's cache.
        wanted = {name: value for name, value in common["optional_params"].items() if name != "stream"}
        data = fitted(
            litellm.llms.vertex_ai.gemini.transformation.transform_request_body,
            **{**common, "optional_params": wanted},
            custom_llm_provider=route.provider,
            cached_content=None,
        )
        return headers, dict(data)
    data = fitted(route.config.transform_request, headers=headers, **common)
    if route.provider == "anthropic":
        manager = litellm.anthropic_beta_headers_manager
        return cast(
            "tuple[dict[str, Any], dict[str, Any]]",
            fitted(
                manager.update_request_with_filtered_beta,
                headers=headers,
                request_data=data,
                provider="anthropic",
                api_base=route.api_base,
            ),
        )
    return headers, data


def reader_of(litellm: Any, route: ModelRoute) -> Any:
    """The configuration that reads the replies: Azure's only writes requests, LiteLLM's own calls give back OpenAI's form."""
    return litellm.OpenAIConfig() if route.provider == "azure" or route.is_threaded else route.config


def reads_as_openai(litellm: Any, route: ModelRoute) -> bool:
    """Whether LiteLLM reads the replies as it reads OpenAI's own."""
    read: Any = reader_of(litellm, route).transform_response
    return read.__func__ is litellm.OpenAIGPTConfig.transform_response


def parser_of(litellm: Any, route: ModelRoute, *, json_mode: bool) -> Any:
    """The parser of the provider's chunks, for one stream: LiteLLM's, save for Cohere's."""
    if route.provider.startswith("cohere"):
        return CohereParser(litellm.types.utils.ModelResponseStream)
    if route.provider == "bedrock":
        return bedrock.ConverseParser(route.model, json_mode=json_mode)
    if route.provider in _GOOGLE:
        make = litellm.llms.vertex_ai.gemini.vertex_and_google_ai_studio_gemini.ModelResponseIterator
        return fitted(make, streaming_response=iter(()), sync_stream=True, logging_obj=SilentLog())
    if route.provider == "anthropic":  # whose configuration makes none
        make = litellm.llms.anthropic.chat.handler.ModelResponseIterator
    else:
        make = reader_of(litellm, route).get_model_response_iterator
    parser = fitted(make, streaming_response=iter(()), sync_stream=True, json_mode=json_mode)
    return GenericParser(parser, litellm.types.utils.ModelResponseStream) if route.provider == "ollama" else parser


def longest_answer_tokens(data: Mapping[str, Any]) -> int | None:
    """The longest answer that the body of a request allows; None where it does not say."""
    for place in (data, data.get("generationConfig"), data.get("inferenceConfig"), data.get("options")):
        if isinstance(place, dict):
            fields = cast("Mapping[str, object]", place)
            for name in ("max_completion_tokens", "max_tokens", "maxTokens", "max_output_tokens", "num_predict"):
                value = fields.get(name)
                if isinstance(value, int) and value > 0:
                    return value
    return None
