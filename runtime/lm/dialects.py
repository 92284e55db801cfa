"""What providers with a protocol of their own do differently: address, authorisation, body, and the parser of their chunks.

LiteLLM's dispatcher does these steps in code that cannot be called without sending a request; each function here does one of
them with the same parts. LiteLLM is handed in, so that this module can be imported without it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast, final
from urllib.parse import quote

from runtime.lm.providers import HTTP_HANDLER_PROVIDERS

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from runtime.lm.routes import Route

_AZURE_UNDATED = frozenset({"v1", "latest", "preview"})
_URL_MAKERS = HTTP_HANDLER_PROVIDERS | {"cohere", "cohere_chat", "ollama_chat"}
"""Providers whose configuration makes the whole address."""


_COHERE_REASONS = {"COMPLETE": "stop", "STOP_SEQUENCE": "stop", "MAX_TOKENS": "length", "TOOL_CALL": "tool_calls"}


class SilentLog:
    """What LiteLLM's configurations want to tell their logger is told to nobody."""

    def __init__(self) -> None:
        self.model_call_details: dict[str, Any] = {}
        self.optional_params: dict[str, Any] = {}

    def pre_call(self, *args: object, **kwargs: object) -> None:
        """Called before a request."""

    def post_call(self, *args: object, **kwargs: object) -> None:
        """Called after a reply."""


@final
class CohereParser:
    """Reads the events of Cohere's second interface. LiteLLM's own parser misses their end, their usage and their tool calls.

    Source: Cohere, "Chat with Streaming", API reference v2.
    """

    def __init__(self, make: Callable[..., Any]) -> None:
        self._make = make

    def chunk_parser(self, chunk: Mapping[str, Any]) -> Any:
        """The event `chunk` as LiteLLM's ``ModelResponseStream``."""
        kind, delta = str(chunk.get("type", "")), cast("dict[str, Any]", chunk.get("delta") or {})
        if kind == "message-end":
            return self._end(delta)
        message = cast("dict[str, Any]", delta.get("message") or {})
        piece: dict[str, Any] = {}
        if kind in {"content-start", "content-delta"}:
            content = cast("dict[str, Any]", message.get("content") or {})
            piece = {"content": content.get("text") or None, "reasoning_content": content.get("thinking") or None}
        elif kind in {"tool-call-start", "tool-call-delta"}:
            call = cast("dict[str, Any]", message.get("tool_calls") or {})
            piece = {"tool_calls": [{"type": "function", **call, "index": chunk.get("index", 0)}]}
        return self._make(choices=[{"index": 0, "delta": piece, "finish_reason": None}])

    def _end(self, delta: Mapping[str, Any]) -> Any:
        reason = str(delta.get("finish_reason", ""))
        if reason not in _COHERE_REASONS:
            raise ValueError(f"the answer ended because of {reason!r}")
        usage_told = cast("dict[str, Any]", delta.get("usage") or {})
        tokens = cast("dict[str, Any]", usage_told.get("tokens") or {})
        prompt, completion = int(tokens.get("input_tokens", 0)), int(tokens.get("output_tokens", 0))
        usage = {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}
        return self._make(choices=[{"index": 0, "delta": {}, "finish_reason": _COHERE_REASONS[reason]}], usage=usage)


def url_of(litellm: Any, route: Route, params: dict[str, Any], litellm_params: dict[str, Any], *, stream: bool) -> str:
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
    if route.provider in _URL_MAKERS:
        return cast(
            "str",
            route.config.get_complete_url(
                api_base=base,
                api_key=route.api_key,
                model=route.model,
                optional_params=params,
                litellm_params=litellm_params,
                stream=stream,
            ),
        )
    return base if base.endswith("/chat/completions") else f"{base}/chat/completions"


def _azure_url(base: str, route: Route) -> str:
    if route.api_version in _AZURE_UNDATED:
        return f"{base}/openai/v1/chat/completions"
    place = base if "/openai/deployments" in base else f"{base}/openai/deployments/{quote(route.model, safe='')}"
    return f"{place}/chat/completions?api-version={quote(route.api_version or '', safe='')}"


def headers_of(route: Route, headers: dict[str, str], common: Mapping[str, Any]) -> dict[str, Any]:
    """Authorisation and the provider's own headers, beside `headers`."""
    if route.provider == "azure":
        undated = route.api_version in _AZURE_UNDATED
        made: dict[str, Any] = {"Authorization": f"Bearer {route.api_key}"} if undated else {"api-key": route.api_key}
        made = {**made, **headers}
    elif route.provider == "gemini":
        made = route.config.validate_environment(headers=headers, api_key={"x-goog-api-key": route.api_key}, **common)
    else:
        made = route.config.validate_environment(headers=headers, api_key=route.api_key, api_base=route.api_base, **common)
    names = {name.lower() for name in made}
    return {**made, **{name: "application/json" for name in ("content-type", "accept") if name not in names}}


def body_of(
    litellm: Any, route: Route, headers: dict[str, Any], common: Mapping[str, Any]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Headers and body of the request: one provider's body decides on a header."""
    if route.provider == "gemini":
        # Not by the asynchronous twin, which would open a connection to keep marked messages in the provider's cache.
        wanted = {name: value for name, value in common["optional_params"].items() if name != "stream"}
        data = litellm.llms.vertex_ai.gemini.transformation.transform_request_body(
            **{**common, "optional_params": wanted}, custom_llm_provider=route.provider, cached_content=None
        )
        return headers, dict(data)
    data = route.config.transform_request(headers=headers, **common)
    if route.provider == "anthropic":
        manager = litellm.anthropic_beta_headers_manager
        return cast(
            "tuple[dict[str, Any], dict[str, Any]]",
            manager.update_request_with_filtered_beta(headers=headers, request_data=data, provider="anthropic"),
        )
    return headers, data


def reader_of(litellm: Any, route: Route) -> Any:
    """The configuration that reads the replies: Azure's only write requests, and OpenAI's replies come back."""
    return litellm.OpenAIConfig() if route.provider == "azure" else route.config


def parser_of(litellm: Any, route: Route, *, json_mode: bool) -> Any:
    """The parser of the provider's chunks, for one stream: LiteLLM's, save for Cohere's."""
    if route.provider.startswith("cohere"):
        return CohereParser(litellm.types.utils.ModelResponseStream)
    if route.provider == "gemini":
        make = litellm.llms.vertex_ai.gemini.vertex_and_google_ai_studio_gemini.ModelResponseIterator
        return make(streaming_response=iter(()), sync_stream=True, logging_obj=SilentLog())
    if route.provider == "anthropic":  # whose configuration makes none
        make = litellm.llms.anthropic.chat.handler.ModelResponseIterator
    else:
        make = reader_of(litellm, route).get_model_response_iterator
    return make(streaming_response=iter(()), sync_stream=True, json_mode=json_mode)


def longest_answer_tokens(data: Mapping[str, Any]) -> int | None:
    """The longest answer that the body of a request allows; None where it does not say."""
    for place in (data, data.get("generationConfig"), data.get("options")):
        if isinstance(place, dict):
            fields = cast("Mapping[str, object]", place)
            for name in ("max_completion_tokens", "max_tokens", "max_output_tokens", "num_predict"):
                value = fields.get(name)
                if isinstance(value, int) and value > 0:
                    return value
    return None
