"""Texts to one provider's request for embeddings, and its reply to vectors, by LiteLLM's parts. LiteLLM is handed in."""

from __future__ import annotations

import base64
import struct
from collections.abc import Sequence
from typing import Any, cast

from runtime.lm.http.http_messages import HttpReply
from runtime.lm.providers.dialects import SilentLog, azure_place
from runtime.lm.providers.exchange import ModelExchange
from runtime.lm.providers.import_litellm import fitted, part
from runtime.lm.providers.model_routes import ModelRoute

_OF_OPENAI = frozenset({"fireworks_ai", "mistral", "nebius", "nvidia_nim", "openai", "together_ai"})
"""Providers that LiteLLM asks through OpenAI's client."""
_CONFIGURED = frozenset({"cohere", "cohere_chat", "hosted_vllm", "openrouter"})
"""Providers that it asks by a configuration of theirs."""
NATIVE = _OF_OPENAI | _CONFIGURED | {"azure", "gemini", "ollama"}
"""Providers whose embeddings the client asks for on its own."""
_OLLAMA_FIELDS = frozenset({"dimensions", "keep_alive", "options", "truncate"})


def is_native(route: ModelRoute) -> bool:
    """Whether the client sends the request on its own."""
    return route.provider in NATIVE


def outgoing(
    litellm: Any, route: ModelRoute, texts: Sequence[str], options: dict[str, Any]
) -> tuple[str, dict[str, Any], dict[str, Any]]:
    """Address, headers and body of the request for the embeddings of `texts`."""
    extra_headers: dict[str, str] = options.pop("extra_headers", {})
    params: dict[str, Any] = litellm.utils.get_optional_params_embeddings(
        model=route.model, custom_llm_provider=route.provider, **options
    )
    extra_body: dict[str, Any] = params.pop("extra_body", None) or {}
    headers = {**route.headers, **extra_headers}
    data: dict[str, Any]
    if route.provider in _CONFIGURED:
        url, headers, data = _configured(litellm, route, list(texts), params, headers)
    elif route.provider == "gemini":
        url, headers, data = _gemini(route, list(texts), params, headers)
    elif route.provider == "ollama":
        base = route.api_base or ""
        kept = {name: value for name, value in params.items() if name in _OLLAMA_FIELDS}
        other = {name: value for name, value in params.items() if name not in _OLLAMA_FIELDS}
        data = {"model": route.model, "input": list(texts), **kept}
        if other:
            given: dict[str, Any] = data.get("options", {})
            data["options"] = {**given, **other}
        url = base if base.endswith("/api/embed") else f"{base}/api/embed"
    else:
        url, headers, data = _openai(route, list(texts), params, headers)
    return url, {"content-type": "application/json", **headers}, {**data, **extra_body}


def _openai(
    route: ModelRoute, texts: list[str], params: dict[str, Any], headers: dict[str, str]
) -> tuple[str, dict[str, Any], dict[str, Any]]:
    """As OpenAI's client does it. Left to itself it asks for base64, and LiteLLM leaves it to itself for Azure."""
    data = {"model": route.model, "input": texts, **params}
    bearer = {"authorization": f"Bearer {route.api_key}"}
    base = (route.api_base or "").rstrip("/")
    if route.provider == "azure":
        url, is_dated = azure_place(base, route, "embeddings")
        data = {"encoding_format": "base64", **data}
        return url, {**({"api-key": route.api_key} if is_dated else bearer), **headers}, data
    return f"{base}/embeddings", {**bearer, **headers}, data


def _configured(
    litellm: Any, route: ModelRoute, texts: list[str], params: dict[str, Any], headers: dict[str, str]
) -> tuple[str, dict[str, Any], dict[str, Any]]:
    config = config_of(litellm, route)
    made = fitted(
        config.validate_environment,
        api_key=route.api_key,
        headers=headers,
        model=route.model,
        messages=[],
        optional_params=params,
        litellm_params=route.litellm_params,
    )
    url = fitted(
        config.get_complete_url,
        api_base=route.api_base,
        api_key=route.api_key,
        model=route.model,
        optional_params=params,
        litellm_params=route.litellm_params,
    )
    data = fitted(config.transform_embedding_request, model=route.model, input=texts, optional_params=params, headers=made)
    return cast("str", url), made, dict(data)


def config_of(litellm: Any, route: ModelRoute) -> Any:
    """LiteLLM's configuration for embeddings."""
    kind = litellm.types.utils.LlmProviders(route.provider)
    return litellm.utils.ProviderConfigManager.get_provider_embedding_config(model=route.model, provider=kind)


def _gemini(
    route: ModelRoute, texts: list[str], params: dict[str, Any], headers: dict[str, str]
) -> tuple[str, dict[str, Any], dict[str, Any]]:
    base = part("llms.vertex_ai.vertex_llm_base").VertexBase()
    auth, url = fitted(
        base.get_token_and_url,
        model=route.model,
        auth_header="",
        gemini_api_key=route.api_key,
        vertex_project=None,
        vertex_location=None,
        vertex_credentials=None,
        stream=None,
        custom_llm_provider="gemini",
        api_base=route.api_base or None,
        mode="batch_embedding",
    )
    transformation = part("llms.vertex_ai.gemini_embeddings.batch_embed_content_transformation")
    data = fitted(
        transformation.transform_openai_input_gemini_content,
        input=texts,
        model=route.model,
        optional_params=params,
        resolved_files={},
        drop_params=False,
    )
    return cast("str", url), {"content-type": "application/json; charset=utf-8", **auth, **headers}, dict(data)


def read(litellm: Any, route: ModelRoute, exchange: ModelExchange, reply: HttpReply) -> tuple[tuple[tuple[float, ...], ...], Any]:
    """The vectors in `reply`, in the texts' order, and LiteLLM's object for the reply."""
    parsed = _parsed(litellm, route, exchange, reply)
    rows: list[Any] = [row if isinstance(row, dict) else row.model_dump() for row in parsed.data]
    rows.sort(key=lambda row: int(row.get("index") or 0))
    return tuple(_vector(row["embedding"]) for row in rows), parsed


def _parsed(litellm: Any, route: ModelRoute, exchange: ModelExchange, reply: HttpReply) -> Any:
    blank = litellm.EmbeddingResponse()
    if exchange.threaded is not None or route.provider in _OF_OPENAI or route.provider == "azure":
        return litellm.EmbeddingResponse(**reply.as_httpx().json())
    if route.provider == "gemini":
        transformation = part("llms.vertex_ai.gemini_embeddings.batch_embed_content_transformation")
        predictions = part("types.llms.vertex_ai").VertexAIBatchEmbeddingsResponseObject(**reply.as_httpx().json())
        return fitted(
            transformation.process_response,
            model=route.model,
            model_response=blank,
            _predictions=predictions,
            input=list(exchange.texts or ()),
        )
    if route.provider == "ollama":
        fields: dict[str, Any] = reply.as_httpx().json()
        rows = [{"object": "embedding", "index": index, "embedding": row} for index, row in enumerate(fields["embeddings"])]
        tokens = fields.get("prompt_eval_count") or 0
        usage = litellm.Usage(prompt_tokens=tokens, completion_tokens=0, total_tokens=tokens)
        return litellm.EmbeddingResponse(data=rows, model=f"ollama/{route.model}", usage=usage)
    return fitted(
        config_of(litellm, route).transform_embedding_response,
        model=route.model,
        raw_response=reply.as_httpx(),
        model_response=blank,
        logging_obj=SilentLog({"input": list(exchange.texts or ())}),
        api_key=route.api_key,
        request_data=exchange.data,
        optional_params={},
        litellm_params=route.litellm_params,
    )


def _vector(given: Any) -> tuple[float, ...]:
    """A vector, as numbers or as base64 of 32-bit floats."""
    if isinstance(given, str):
        raw = base64.b64decode(given, validate=True)
        return struct.unpack(f"<{len(raw) // 4}f", raw)
    return tuple(float(number) for number in given)
