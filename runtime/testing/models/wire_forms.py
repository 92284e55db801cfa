"""How requests and answers look on the wire, as OpenAI and as Anthropic write them. Pure functions on values.

Source: OpenAI API reference, "Chat completions" and "Streaming"; Anthropic API reference, "Messages" and "Streaming messages".
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, cast, final

import attrs

from actors.lm import ChatMessage, Completion
from runtime.testing.models.answers import ChatRequest

MOST_EVENTS: Final = 10_000
"""A longer answer is streamed in larger pieces."""


class NotAChatRequest(Exception):
    """The body isn't a chat request; the message gives the reason."""


@final
@attrs.frozen
class Dialect:
    """One provider's form of chat."""

    read: Callable[[Mapping[str, Any]], ChatRequest]
    """From a parsed body; raises NotAChatRequest."""
    body: Callable[[Completion, int], dict[str, Any]]
    """The whole answer to request number n."""
    events: Callable[[Completion, int, Mapping[str, Any]], list[bytes]]
    """The same as server-sent events, for the request with that body."""
    error: Callable[[int, str], dict[str, Any]]
    """An error's body, by status and text."""


def to_bytes(value: object) -> bytes:
    """Compact JSON, all of it ASCII, so even a lone surrogate that a client sent can be sent back."""
    return json.dumps(value, separators=(",", ":")).encode("ascii")


def pieces_of(text: str) -> list[str]:
    """`text` cut before each word, so the pieces together are the text."""
    pieces: list[str] = re.findall(r"\s*\S+|\s+$", text)
    step = -(-len(pieces) // MOST_EVENTS) or 1
    return ["".join(pieces[at : at + step]) for at in range(0, len(pieces), step)]


# --- OpenAI -----------------------------------------------------------------------------------------------------------


def _read_openai(body: Mapping[str, Any]) -> ChatRequest:
    return ChatRequest(_model(body), _messages(body.get("messages")), body.get("stream") is True, body)


def _openai_message(completion: Completion) -> dict[str, Any]:
    message: dict[str, Any] = {"role": "assistant", "content": completion.text or None}
    if not completion.tool_calls:
        message["content"] = completion.text
    if completion.reasoning is not None:
        message["reasoning_content"] = completion.reasoning
    if completion.tool_calls:
        message["tool_calls"] = [call.as_openai() for call in completion.tool_calls]
    return message


def _openai_usage(completion: Completion) -> dict[str, int]:
    usage = completion.usage
    counts = {"prompt_tokens": usage.prompt_tokens, "completion_tokens": usage.completion_tokens}
    return {**counts, "total_tokens": usage.total_tokens}


def _openai_body(completion: Completion, number: int) -> dict[str, Any]:
    choice = {"index": 0, "message": _openai_message(completion), "logprobs": None}
    return {
        "id": f"chatcmpl-{number:06d}",
        "object": "chat.completion",
        "created": 0,
        "model": completion.model,
        "choices": [{**choice, "finish_reason": completion.finish_reason}],
        "usage": _openai_usage(completion),
    }


def _openai_events(completion: Completion, number: int, body: Mapping[str, Any]) -> list[bytes]:
    options = body.get("stream_options")
    with_usage = isinstance(options, Mapping) and cast("Mapping[str, Any]", options).get("include_usage") is True
    base = {"id": f"chatcmpl-{number:06d}", "object": "chat.completion.chunk", "created": 0, "model": completion.model}

    def chunk(delta: Mapping[str, Any], finish_reason: str | None = None) -> dict[str, Any]:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish_reason}
        return {**base, "choices": [choice], **({"usage": None} if with_usage else {})}

    chunks = [chunk({"role": "assistant", "content": ""})]
    chunks += [chunk({"reasoning_content": piece}) for piece in pieces_of(completion.reasoning or "")]
    chunks += [chunk({"content": piece}) for piece in pieces_of(completion.text)]
    for index, call in enumerate(completion.tool_calls):
        opening = {"index": index, "id": call.id, "type": "function", "function": {"name": call.name, "arguments": ""}}
        chunks.append(chunk({"tool_calls": [opening]}))
        chunks += [
            chunk({"tool_calls": [{"index": index, "function": {"arguments": piece}}]}) for piece in pieces_of(call.arguments)
        ]
    chunks.append(chunk({}, completion.finish_reason))
    if with_usage:
        chunks.append({**base, "choices": [], "usage": _openai_usage(completion)})
    return [b"data: " + to_bytes(each) + b"\n\n" for each in chunks] + [b"data: [DONE]\n\n"]


def _openai_error(status: int, message: str) -> dict[str, Any]:
    kinds = {401: "authentication_error", 403: "permission_error", 404: "not_found_error", 429: "rate_limit_error"}
    kind = kinds.get(status, "server_error" if status >= 500 else "invalid_request_error")
    code = "rate_limit_exceeded" if status == 429 else None
    return {"error": {"message": message, "type": kind, "param": None, "code": code}}


# --- Anthropic --------------------------------------------------------------------------------------------------------


def _read_anthropic(body: Mapping[str, Any]) -> ChatRequest:
    messages = _messages(body.get("messages"))
    system = body.get("system")
    first: tuple[ChatMessage, ...] = ({"role": "system", "content": system},) if system else ()
    return ChatRequest(_model(body), (*first, *messages), body.get("stream") is True, body)


def _anthropic_stop(completion: Completion) -> str:
    reasons = {"stop": "end_turn", "length": "max_tokens", "tool_calls": "tool_use", "content_filter": "refusal"}
    return reasons.get(completion.finish_reason, completion.finish_reason)


def _anthropic_blocks(completion: Completion) -> list[dict[str, Any]]:
    blocks: list[dict[str, Any]] = []
    if completion.reasoning is not None:
        blocks.append({"type": "thinking", "thinking": completion.reasoning, "signature": ""})
    if completion.text or not completion.tool_calls:
        blocks.append({"type": "text", "text": completion.text})
    calls = completion.tool_calls
    blocks += [{"type": "tool_use", "id": call.id, "name": call.name, "input": call.values()} for call in calls]
    return blocks


def _anthropic_body(completion: Completion, number: int) -> dict[str, Any]:
    usage = {"input_tokens": completion.usage.prompt_tokens, "output_tokens": completion.usage.completion_tokens}
    return {
        "id": f"msg_{number:06d}",
        "type": "message",
        "role": "assistant",
        "model": completion.model,
        "content": _anthropic_blocks(completion),
        "stop_reason": _anthropic_stop(completion),
        "stop_sequence": None,
        "usage": usage,
    }


def _anthropic_events(completion: Completion, number: int, _body: Mapping[str, Any]) -> list[bytes]:
    whole = _anthropic_body(completion, number)
    usage = {**whole["usage"], "output_tokens": 1}
    opening: dict[str, Any] = {**whole, "content": [], "stop_reason": None, "usage": usage}
    events: list[dict[str, Any]] = [{"type": "message_start", "message": opening}]
    for index, block in enumerate(whole["content"]):
        events += _anthropic_block_events(index, block)
    delta = {"stop_reason": whole["stop_reason"], "stop_sequence": None}
    events.append({"type": "message_delta", "delta": delta, "usage": {"output_tokens": completion.usage.completion_tokens}})
    events.append({"type": "message_stop"})
    return [b"event: " + event["type"].encode() + b"\ndata: " + to_bytes(event) + b"\n\n" for event in events]


def _anthropic_block_events(index: int, block: Mapping[str, Any]) -> list[dict[str, Any]]:
    if block["type"] == "text":
        empty, deltas = {"text": ""}, [{"type": "text_delta", "text": piece} for piece in pieces_of(block["text"])]
    elif block["type"] == "thinking":
        pieces = pieces_of(block["thinking"])
        empty, deltas = {"thinking": ""}, [{"type": "thinking_delta", "thinking": piece} for piece in pieces]
    else:
        pieces = pieces_of(json.dumps(block["input"]))
        empty = cast("dict[str, Any]", {"input": {}})
        deltas = [{"type": "input_json_delta", "partial_json": piece} for piece in pieces]
    return [
        {"type": "content_block_start", "index": index, "content_block": {**block, **empty}},
        *({"type": "content_block_delta", "index": index, "delta": delta} for delta in deltas),
        {"type": "content_block_stop", "index": index},
    ]


def _anthropic_error(status: int, message: str) -> dict[str, Any]:
    kinds = {
        401: "authentication_error",
        403: "permission_error",
        404: "not_found_error",
        413: "request_too_large",
        429: "rate_limit_error",
        529: "overloaded_error",
    }
    kind = kinds.get(status, "api_error" if status >= 500 else "invalid_request_error")
    return {"type": "error", "error": {"type": kind, "message": message}}


# --- both -------------------------------------------------------------------------------------------------------------


def _model(body: Mapping[str, Any]) -> str:
    model = body.get("model")
    if not isinstance(model, str) or not model:
        raise NotAChatRequest(f"'model' must be a non-empty string, got {model!r}.")
    return model


def _messages(messages: object) -> tuple[ChatMessage, ...]:
    if not isinstance(messages, list) or not messages:
        raise NotAChatRequest("'messages' must be a non-empty list.")
    items = cast("Sequence[object]", messages)
    if not all(isinstance(item, Mapping) for item in items):
        raise NotAChatRequest("'messages' must hold objects.")
    return tuple(cast("ChatMessage", item) for item in items)


OPENAI: Final = Dialect(_read_openai, _openai_body, _openai_events, _openai_error)
ANTHROPIC: Final = Dialect(_read_anthropic, _anthropic_body, _anthropic_events, _anthropic_error)
